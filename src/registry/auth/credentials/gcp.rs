//! Credentials for Google's registries: the user name `oauth2accesstoken`, and an access token as the password
//! (Artifact Registry's documentation, "Access token"). If the operator configured the key of a service account,
//! Google's token service issues the access token. Otherwise, the machine's metadata server issues the access token.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::login::{CloudLogin, Login, usable_time};
use super::service_request::{CloudAnswer, ServiceClients, form, url_below};
use super::{jwt, secret};
use crate::registry::auth::error::AuthError;
use crate::registry::http::nearness;
use crate::registry::http::redirect;
use crate::registry::options::transport::rsa_key;
use crate::registry::{Gcp, Secret};

/// Scope of the access token. Artifact Registry accepts no narrower scope for writes. The roles of the service account
/// still limit the access.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Lifetime of a signed assertion, in seconds.
const ASSERTION_LIFETIME: i64 = 3600;
/// User name that Google's registries expect if the password is an access token.
const USER: &str = "oauth2accesstoken";

/// Key file of a service account, in Google's format. The type does not implement `Debug`, because `Debug` output would
/// show the key.
#[derive(Deserialize)]
struct Key {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    private_key: SecretString,
    #[serde(default)]
    token_uri: String,
}

/// Answer with an access token. The type does not implement `Debug`, because `Debug` output would show the token.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

/// Returns a login with an access token.
pub(super) async fn login(gcp: &Gcp, clients: &ServiceClients) -> Result<CloudLogin, AuthError> {
    match &gcp.key {
        Some(path) => login_by_key(path, clients).await,
        None => login_by_metadata(&gcp.metadata, clients).await,
    }
}

/// Requests an access token from the metadata server, never through a proxy. The settings of the machine determine the
/// scopes of the token.
async fn login_by_metadata(metadata: &Url, clients: &ServiceClients) -> Result<CloudLogin, AuthError> {
    let url = url_below(metadata, "computeMetadata/v1/instance/service-accounts/default/token")?;
    let request = clients.metadata_client()?.get(url.clone()).header("Metadata-Flavor", "Google");
    let answer = clients.send(request, &url, &[]).await?.require_success(|_| None)?;
    read_token(&answer, "service account of this machine".to_owned())
}

/// Requests an access token with a signed assertion (RFC 7523, section 2.1; Google's "Using OAuth 2.0 for Server to
/// Server Applications").
async fn login_by_key(path: &Path, clients: &ServiceClients) -> Result<CloudLogin, AuthError> {
    let text = secret::read("the key of the service account", &Secret::File(path.to_owned())).await?;
    let wrong = |what: &str| AuthError::denied(format!("{}: {what}", path.display()));
    // The error omits the parser's reason, because the reason could quote the key.
    let key: Key = serde_json::from_str(text.expose_secret())
        .map_err(|_| wrong("the file is not the key of a service account"))?;
    if key.kind != "service_account" {
        return Err(wrong("`type` is not service_account, the only supported type"));
    }
    let url: Url = key.token_uri.parse().map_err(|_| wrong("`token_uri` is not a URL"))?;
    if url.scheme() != "https" && !nearness::is_loopback(&url) {
        return Err(wrong(&format!("`token_uri`, {}, does not use TLS", redirect::shown(&url))));
    }
    let assertion = assertion(&key, &url).ok_or_else(|| wrong("`private_key` is not an RSA key"))?;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let pairs = [("grant_type", grant), ("assertion", assertion.expose_secret())];
    let answer = clients.send(form(&clients.authority, &url, &pairs), &url, &[]).await?.require_success(code)?;
    read_token(&answer, key.client_email)
}

fn assertion(key: &Key, audience: &Url) -> Option<SecretString> {
    let now = chrono::Utc::now().timestamp();
    let claims = json!({
        "iss": key.client_email, "scope": SCOPE, "aud": audience.as_str(), "iat": now, "exp": now + ASSERTION_LIFETIME,
    });
    let pair = rsa_key(key.private_key.expose_secret().as_bytes())?;
    jwt::signed(jwt::Algorithm::Rs256, ("kid", &key.private_key_id), &claims, &pair)
}

fn read_token(answer: &CloudAnswer, name: String) -> Result<CloudLogin, AuthError> {
    let TokenAnswer { access_token, expires_in } = answer.json()?;
    if access_token.is_empty() {
        return Err(answer.unusable("without a token"));
    }
    // Some tokens end with dots. The dots are part of the token.
    let login = Login::Password { username: USER.to_owned(), password: access_token.into() };
    Ok(CloudLogin { login, usable_for: usable_time(Duration::from_secs(expires_in.min(86_400))), name })
}

fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    Some(serde_json::from_slice::<Refusal>(body).ok()?.error)
}
