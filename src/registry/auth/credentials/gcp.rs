//! Credentials for Google's registries: an access token, from this machine's metadata server or for a service account's
//! key, is the password of `oauth2accesstoken` (Artifact Registry's documentation, "Access token").

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::login::{CloudLogin, Login, usable_time};
use super::service_request::{CloudAnswer, Wire, form, url_below};
use super::{jwt, secret};
use crate::registry::auth::error::AuthError;
use crate::registry::http::nearness;
use crate::registry::http::redirect;
use crate::registry::options::transport::rsa_key;
use crate::registry::{Gcp, Secret};

/// Scope of the token. Artifact Registry accepts no narrower scope for writing; the roles of the service account limit
/// the access.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Lifetime of an assertion, in seconds: no longer than that of the token that it obtains.
const ASSERTED: i64 = 3600;
/// User name for an access token that is used as the password.
const USER: &str = "oauth2accesstoken";

/// A service account's key, as Google issues it. The type has no `Debug`, which would show the key.
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

/// Answer with a token. The type has no `Debug`, which would show tokens.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

/// Returns an access token, and its lifetime.
pub(super) async fn login(gcp: &Gcp, wire: &Wire) -> Result<CloudLogin, AuthError> {
    match &gcp.key {
        Some(path) => login_by_key(path, wire).await,
        None => login_by_metadata(&gcp.metadata, wire).await,
    }
}

/// Requests a token of the metadata server, never through a proxy. The machine determines the token's scopes.
async fn login_by_metadata(metadata: &Url, wire: &Wire) -> Result<CloudLogin, AuthError> {
    let url = url_below(metadata, "computeMetadata/v1/instance/service-accounts/default/token")?;
    let request = wire.metadata_client()?.get(url.clone()).header("Metadata-Flavor", "Google");
    let answered = wire.send(request, &url, &[]).await?.require_success(|_| None)?;
    read_token(&answered, "service account of this machine".to_owned())
}

/// Requests a token with an assertion that the key signs (RFC 7523, section 2.1; Google's "Using OAuth 2.0 for Server
/// to Server Applications").
async fn login_by_key(path: &Path, wire: &Wire) -> Result<CloudLogin, AuthError> {
    let text = secret::read("the key of the service account", &Secret::File(path.to_owned())).await?;
    let wrong = |what: &str| AuthError::denied(format!("{}: {what}", path.display()));
    // The parser's reason is withheld, because it could quote the key.
    let key: Key =
        serde_json::from_str(text.expose_secret()).map_err(|_| wrong("it is not the key of a service account"))?;
    if key.kind != "service_account" {
        return Err(wrong("its type is not service_account, the only supported one"));
    }
    let url: Url = key.token_uri.parse().map_err(|_| wrong("its token_uri is not a URL"))?;
    if url.scheme() != "https" && !nearness::is_loopback(&url) {
        return Err(wrong(&format!("its token_uri, {}, does not use TLS", redirect::shown(&url))));
    }
    let assertion = assertion(&key, &url).ok_or_else(|| wrong("its private_key is not an RSA key"))?;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let pairs = [("grant_type", grant), ("assertion", assertion.expose_secret())];
    let answered = wire.send(form(&wire.authority, &url, &pairs), &url, &[]).await?.require_success(code)?;
    read_token(&answered, key.client_email)
}

fn assertion(key: &Key, audience: &Url) -> Option<SecretString> {
    let now = chrono::Utc::now().timestamp();
    let claims = json!({
        "iss": key.client_email, "scope": SCOPE, "aud": audience.as_str(), "iat": now, "exp": now + ASSERTED,
    });
    let pair = rsa_key(key.private_key.expose_secret().as_bytes())?;
    jwt::signed(jwt::Algorithm::Rs256, ("kid", &key.private_key_id), &claims, &pair)
}

fn read_token(answered: &CloudAnswer, name: String) -> Result<CloudLogin, AuthError> {
    let told: TokenAnswer = answered.json()?;
    if told.access_token.is_empty() {
        return Err(answered.unusable("without a token"));
    }
    // Some tokens are padded with dots, which are part of them.
    let login = Login::Password { username: USER.to_owned(), password: told.access_token.into() };
    Ok(CloudLogin { login, good: usable_time(Duration::from_secs(told.expires_in.min(86_400))), name })
}

fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    Some(serde_json::from_slice::<Refusal>(body).ok()?.error)
}
