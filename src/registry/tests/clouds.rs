//! Tests of cloud services with a scripted server: the number of requests, and the files that the client reads again.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};

use super::scripted::{Received, Server, answer, plain};
use crate::oci::ManifestRef;
use crate::registry::{Azure, AzureIdentity, Credentials, DockerConfig, Options};
use crate::store::{ErrorKind, Source as _, StoreError};

async fn resolve_all(server: &Server, options: Options, repositories: &[&str]) -> Result<(), StoreError> {
    let registry = server.registry_as(options);
    for repository in repositories {
        let tag = ManifestRef::Tag("latest".parse().unwrap());
        registry.repository(repository.parse().unwrap()).resolve(&tag).await?;
    }
    Ok(())
}

fn azure(server: &Server, identity: AzureIdentity) -> Options {
    let own: url::Url = format!("http://{}", server.host).parse().unwrap();
    let azure = Azure { identity, imds: own.clone(), authority: own };
    Options { credentials: Some(Credentials::Azure(azure)), ..plain() }
}

/// Answers like Azure with expired refresh tokens. `first` has the status, the number and the headers of the first
/// responses of the metadata service.
fn with_azure(request: &Received, first: (u16, usize, &[(&str, &str)])) -> axum::response::Response {
    let (status, times, headers) = first;
    let expired = format!("x.{}.y", URL_SAFE_NO_PAD.encode(r#"{"exp": 1}"#));
    match request.path.split('?').next().unwrap_or_default() {
        "/metadata/identity/oauth2/token" if request.nth <= times => answer(status, headers, ""),
        "/metadata/identity/oauth2/token" | "/t/oauth2/v2.0/token" => answer(200, &[], r#"{"access_token":"entra"}"#),
        "/oauth2/exchange" => answer(200, &[], format!(r#"{{"refresh_token":"{expired}"}}"#)),
        "/oauth2/token" => answer(200, &[], r#"{"access_token":"good"}"#),
        _ if request.header("authorization") == Some("Bearer good") => answer(404, &[], ""),
        _ => {
            let challenge = format!(r#"Bearer realm="{}/oauth2/token",service="s""#, request.own);
            answer(401, &[("www-authenticate", &challenge)], "")
        }
    }
}

#[tokio::test]
async fn metadata_service_request_follows_the_retry_policy() {
    for (status, headers, attempts, kind) in [
        (503, &[][..], 5, Some(ErrorKind::Unavailable)),
        (410, &[], 10, Some(ErrorKind::Denied)),
        (404, &[], 10, Some(ErrorKind::Denied)),
        // The pause is too long for a retry.
        (429, &[("retry-after", "600")], 1, Some(ErrorKind::Unavailable)),
        (400, &[], 1, Some(ErrorKind::Denied)),
        (403, &[], 1, Some(ErrorKind::Denied)),
    ] {
        let server = Server::start(move |request| with_azure(request, (status, usize::MAX, headers))).await;
        let found = resolve_all(&server, azure(&server, AzureIdentity::Managed { client_id: None }), &["a/b"]).await;
        assert_eq!(server.count("GET /metadata"), attempts, "{status}");
        assert_eq!(found.err().map(|error| error.kind), kind, "{status}");
    }
    let server = Server::start(|request| with_azure(request, (410, 4, &[]))).await;
    let identity = AzureIdentity::Managed { client_id: None };
    resolve_all(&server, azure(&server, identity), &["a/b"]).await.unwrap();
    assert_eq!(server.count("GET /metadata"), 5);
}

/// Writes a new certificate and its key into one file. Returns the thumbprint that an assertion must have.
fn certify(path: &Path) -> String {
    use sha2::Digest as _;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::new(vec!["me".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(path, certificate.pem() + &key.serialize_pem()).unwrap();
    URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(certificate.der()))
}

#[tokio::test]
async fn renewed_application_certificate_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me.pem");
    let server = Server::start(|request| with_azure(request, (200, 0, &[]))).await;
    let (client_id, tenant_id) = ("app".to_owned(), "t".to_owned());
    let (certificate, key) = (path.clone(), path.clone());
    let first = certify(&path);
    let options = azure(&server, AzureIdentity::Certified { client_id, tenant_id, certificate, key });
    let registry = server.registry_as(options);
    let resolve = async |repository: &str| {
        let tag = ManifestRef::Tag("latest".parse().unwrap());
        registry.repository(repository.parse().unwrap()).resolve(&tag).await
    };
    resolve("a/b").await.unwrap();
    let second = certify(&path);
    resolve("c/d").await.unwrap();
    let shown: Vec<String> = server.requests().iter().filter_map(thumbprint).collect();
    assert_eq!(shown, [first, second]);
    std::fs::write(&path, "hunter2").unwrap();
    let error = resolve("e/f").await.unwrap_err();
    let expected = format!(
        "the file {} has no certificate: PEM is expected, with a line -----BEGIN CERTIFICATE-----",
        path.display()
    );
    assert_eq!(error.detail, expected);
}

/// Returns the thumbprint of the certificate that signed an assertion.
fn thumbprint(request: &Received) -> Option<String> {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
    let (_, assertion) = form.into_iter().find(|(name, _)| name == "client_assertion")?;
    let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next()?).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    Some(header["x5t#S256"].as_str()?.to_owned())
}

#[tokio::test]
async fn docker_config_access_token_goes_to_registry_itself() {
    let server = Server::start(|request| with_azure(request, (200, 0, &[]))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let config = |token: &str| format!(r#"{{"auths": {{"{}": {{"registrytoken": "{token}"}}}}}}"#, server.host);
    let options = || {
        let config = DockerConfig { files: vec![file.clone()], required: true, namespace: None };
        Options { credentials: Some(Credentials::DockerConfig(config)), ..plain() }
    };
    std::fs::write(&file, config("good")).unwrap();
    resolve_all(&server, options(), &["a/b"]).await.unwrap();
    assert_eq!(server.lines(), ["HEAD /v2/a/b/manifests/latest"; 2]);
    std::fs::write(&file, config("bad")).unwrap();
    let error = resolve_all(&server, options(), &["a/b"]).await.unwrap_err();
    assert_eq!((error.kind, server.count("HEAD"), server.count("POST")), (ErrorKind::Denied, 4, 0));
}
