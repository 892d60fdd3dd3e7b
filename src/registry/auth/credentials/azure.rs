//! Credentials for Azure's registries. The client obtains the credentials in these steps:
//!
//! 1. Entra issues a token for this machine or for an application.
//! 2. The registry exchanges Entra's token for a refresh token.
//! 3. The registry's token service exchanges the refresh token for access tokens.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::login::{Login, REUSED_FOR, usable_time};
use super::service_request::{CloudAnswer, ServiceClients, form, url_below};
use super::{jwt, secret};
use crate::registry::auth::error::AuthError;
use crate::registry::options::transport::rsa_key;
use crate::registry::{Azure, AzureIdentity, Pem};

/// Audience of the Entra tokens that the client requests. The value is the same in all of Azure's clouds. By default, a
/// registry also accepts tokens for Azure's management API ("Configure registry acceptance of Microsoft Entra
/// authentication scopes"). The client never sends a token for the management API, because the registry could use the
/// token at the management API.
const AUDIENCE: &str = "https://containerregistry.azure.net";
/// Maximum time for which the client uses a refresh token.
const LONGEST: Duration = Duration::from_secs(3 * 3600);
/// Lifetime of a signed assertion, in seconds. Entra's documentation of certificate credentials recommends 5 to 10
/// minutes.
const ASSERTION_LIFETIME: i64 = 300;
/// Maximum time by which the clock of this machine may be ahead of Entra's clock, in seconds.
const SKEW: i64 = 60;
/// Statuses that the metadata service returns during an update of the service. After these statuses, the client repeats
/// the request ("How to use managed identities on a VM", "Error handling").
const UPDATING: [StatusCode; 2] = [StatusCode::NOT_FOUND, StatusCode::GONE];

/// Answer of Entra or of the registry. The type does not implement `Debug`, because `Debug` output would show tokens.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenAnswer {
    access_token: String,
    refresh_token: String,
    /// Error code of a refusal, such as `invalid_client`.
    error: String,
}

type Form<'a> = Vec<(&'a str, &'a str)>;

/// Returns a refresh token of the registry, and the time for which the client uses the refresh token. If Entra's token
/// states a managed identity, also returns the name of the managed identity.
pub(super) async fn login(
    azure: &Azure,
    service: &str,
    clients: &ServiceClients,
) -> Result<(Login, Duration, Option<String>), AuthError> {
    let (token, tenant) = match &azure.identity {
        AzureIdentity::Managed { client_id } => {
            (request_managed_token(&azure.imds, client_id.as_deref(), clients).await?, None)
        }
        AzureIdentity::Workload { client_id, tenant_id, token } => {
            let assertion = secret::read("the federated token", token).await?;
            (
                request_entra_token(azure, tenant_id, client_id, assertion_fields(&assertion), clients).await?,
                Some(tenant_id),
            )
        }
        AzureIdentity::Application { client_id, tenant_id, client_secret } => {
            let secret = secret::read("the client secret", client_secret).await?;
            let proof = vec![("client_secret", secret.expose_secret())];
            (request_entra_token(azure, tenant_id, client_id, proof, clients).await?, Some(tenant_id))
        }
        AzureIdentity::Certified { client_id, tenant_id, certificate, key } => {
            let audience = token_endpoint(azure, tenant_id)?;
            let assertion = assertion(client_id, &audience, certificate, key).await?;
            (
                request_entra_token(azure, tenant_id, client_id, assertion_fields(&assertion), clients).await?,
                Some(tenant_id),
            )
        }
    };
    let name = matches!(azure.identity, AzureIdentity::Managed { .. })
        .then(|| identity_in_token(token.expose_secret()))
        .flatten();
    let mut pairs = vec![("grant_type", "access_token"), ("service", service), ("access_token", token.expose_secret())];
    pairs.extend(tenant.map(|tenant| ("tenant", tenant.as_str())));
    let url = url_below(&clients.registry, "oauth2/exchange")?;
    let answer = clients.send(form(&clients.http, &url, &pairs), &url, &[]).await?.require_success(code)?;
    let token = require_token(answer.json::<TokenAnswer>()?.refresh_token, &answer)?;
    let usable_for = token_lifetime(token.expose_secret(), chrono::Utc::now().timestamp());
    Ok((Login::Token(token), usable_for, name))
}

/// Requests an Entra token from the instance metadata service, never through a proxy.
async fn request_managed_token(
    imds: &Url,
    client_id: Option<&str>,
    clients: &ServiceClients,
) -> Result<SecretString, AuthError> {
    let mut url = url_below(imds, "metadata/identity/oauth2/token")?;
    url.query_pairs_mut()
        .extend_pairs([("api-version", "2018-02-01"), ("resource", AUDIENCE)])
        .extend_pairs(client_id.map(|id| ("client_id", id)));
    let request = clients.metadata_client()?.get(url.clone()).header("Metadata", "true");
    let answer = clients.send(request, &url, &UPDATING).await?.require_success(code)?;
    require_token(answer.json::<TokenAnswer>()?.access_token, &answer)
}

async fn request_entra_token(
    azure: &Azure,
    tenant: &str,
    client_id: &str,
    proof: Form<'_>,
    clients: &ServiceClients,
) -> Result<SecretString, AuthError> {
    let url = token_endpoint(azure, tenant)?;
    let scope = format!("{AUDIENCE}/.default");
    let mut pairs = vec![("grant_type", "client_credentials"), ("client_id", client_id), ("scope", &scope)];
    pairs.extend(proof);
    let answer = clients.send(form(&clients.authority, &url, &pairs), &url, &[]).await?.require_success(code)?;
    require_token(answer.json::<TokenAnswer>()?.access_token, &answer)
}

fn token_endpoint(azure: &Azure, tenant: &str) -> Result<Url, AuthError> {
    url_below(&azure.authority, &format!("{tenant}/oauth2/v2.0/token"))
}

/// Returns the form fields that prove an identity by a signed assertion (RFC 7523, section 2.2).
fn assertion_fields(assertion: &SecretString) -> Form<'_> {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    vec![("client_assertion_type", kind), ("client_assertion", assertion.expose_secret())]
}

/// Returns an assertion of the application's identity, signed with the certificate's key ("Microsoft identity platform
/// application authentication certificate credentials"). Reads the files at each call, because the operator may have
/// replaced the files.
async fn assertion(client_id: &str, audience: &Url, certificate: &Path, key: &Path) -> Result<SecretString, AuthError> {
    let (certificate, key) = (certificate.to_owned(), key.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let certificate = Pem::certificates(&certificate)?;
        let key = Pem::key(&key, &certificate)?;
        Ok::<_, crate::registry::PemError>((certificate, key))
    });
    let unusable = || AuthError::denied("the certificate of the application cannot be used: an RSA key is required");
    let (certificate, key) =
        read.await.map_err(|_| unusable())?.map_err(|error| AuthError::denied(error.to_string()))?;
    let der = CertificateDer::from_pem_slice(certificate.bytes()).map_err(|_| unusable())?;
    let key = rsa_key(key.bytes()).ok_or_else(unusable)?;
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&der));
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| unusable())?;
    let now = chrono::Utc::now().timestamp();
    let claims = json!({
        "aud": audience.as_str(), "iss": client_id, "sub": client_id, "jti": hex::encode(id),
        "iat": now, "nbf": now - SKEW, "exp": now + ASSERTION_LIFETIME,
    });
    jwt::signed(jwt::Algorithm::Ps256, ("x5t#S256", &thumbprint), &claims, &key).ok_or_else(unusable)
}

fn require_token(token: String, answer: &CloudAnswer) -> Result<SecretString, AuthError> {
    if token.is_empty() { Err(answer.unusable("without a token")) } else { Ok(token.into()) }
}

fn code(body: &[u8]) -> Option<String> {
    Some(serde_json::from_slice::<TokenAnswer>(body).ok()?.error)
}

/// Returns the managed identity that an Entra token states ("Access token claims reference"). The identity is the
/// client id (`appid`, or `azp` in version 2 of the tokens). If the token has no client id, the identity is the object
/// id. The function does not verify the token, because the metadata service sent the token.
fn identity_in_token(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        appid: Option<String>,
        azp: Option<String>,
        oid: Option<String>,
    }
    let Claims { appid, azp, oid } = claims(token)?;
    // The ids are UUIDs. The filter drops an id with other characters.
    let id = |id: Option<String>| {
        id.filter(|id| !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let by_client = id(appid).or(id(azp)).map(|id| format!("managed identity {id}"));
    by_client.or_else(|| id(oid).map(|id| format!("managed identity with object id {id}")))
}

/// Returns the claims of a JSON web token. Does not verify the token.
fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Returns the time for which the client uses a refresh token. If the token states no expiry (`exp`), returns
/// [`REUSED_FOR`].
fn token_lifetime(token: &str, now: i64) -> Duration {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let claims = claims::<Claims>(token);
    let remaining =
        claims.map(|claims| Duration::from_secs(u64::try_from(claims.exp.saturating_sub(now)).unwrap_or_default()));
    remaining.map_or(REUSED_FOR, |remaining| usable_time(remaining).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_identity_is_named_by_client_or_object_id() {
        let name = |claims: &str| identity_in_token(&format!("x.{}.y", URL_SAFE_NO_PAD.encode(claims)));
        let client = Some("managed identity 1b4e28ba-2fa1".to_owned());
        assert_eq!(name(r#"{"appid": "1b4e28ba-2fa1", "oid": "9f"}"#), client);
        assert_eq!(name(r#"{"azp": "1b4e28ba-2fa1"}"#), client);
        assert_eq!(name(r#"{"oid": "9f-0"}"#).as_deref(), Some("managed identity with object id 9f-0"));
        for unreadable in [r#"{"appid": "a b"}"#, r#"{"appid": ""}"#, "{}", "no json"] {
            assert_eq!(name(unreadable), None, "{unreadable}");
        }
        assert_eq!(identity_in_token("opaque"), None);
    }

    #[test]
    fn refresh_token_is_used_until_shortly_before_expiry() {
        let token = |json: &str| format!("x.{}.y", URL_SAFE_NO_PAD.encode(json));
        assert_eq!(token_lifetime(&token(r#"{"exp": 4600}"#), 1000), Duration::from_secs(3540));
        assert_eq!(token_lifetime(&token(r#"{"exp": 1010}"#), 1000), Duration::from_secs(5));
        assert_eq!(token_lifetime(&token(r#"{"exp": 10}"#), 1000), Duration::ZERO);
        assert_eq!(token_lifetime(&token(r#"{"exp": 99999999}"#), 1000), LONGEST);
        assert_eq!(token_lifetime(&token(&format!(r#"{{"exp": {}}}"#, i64::MIN)), 1000), Duration::ZERO);
        assert_eq!(token_lifetime(&token(&format!(r#"{{"exp": {}}}"#, i64::MAX)), -1000), LONGEST);
        assert_eq!(token_lifetime("opaque", 1000), REUSED_FOR);
    }
}
