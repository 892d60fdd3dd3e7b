//! Google's registries: an access token, by the metadata server of this machine or for a service account's key, is the
//! password of `oauth2accesstoken` (Artifact Registry's documentation, "Access token").

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::wire::{Answered, Wire, below, form};
use super::{Cloud, Login, jwt, secret, spared};
use crate::registry::auth::AuthError;
use crate::registry::{Gcp, Secret, locate, realm};

/// Artifact Registry takes no narrower scope for writing; what may be done is for the roles of the service account to say.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long our own word for who we are holds: no longer than the token that is given for it.
const ASSERTED: i64 = 3600;
/// Who has an access token for a password.
const USER: &str = "oauth2accesstoken";

/// A service account's key, as Google gives it. No `Debug`: it would show it.
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

/// No `Debug`: it would show tokens.
#[derive(Deserialize)]
struct Told {
    access_token: String,
    expires_in: u64,
}

/// An access token, and for how long it is good.
pub(super) async fn login(gcp: &Gcp, wire: &Wire) -> Result<Cloud, AuthError> {
    match &gcp.key {
        Some(path) => by_key(path, wire).await,
        None => by_metadata(&gcp.metadata, wire).await,
    }
}

/// By the metadata server, which is asked through no proxy. The machine's scopes are its own.
async fn by_metadata(metadata: &Url, wire: &Wire) -> Result<Cloud, AuthError> {
    let url = below(metadata, "computeMetadata/v1/instance/service-accounts/default/token")?;
    let request = wire.near()?.get(url.clone()).header("Metadata-Flavor", "Google");
    let answered = wire.ask(request, &url, &[]).await?.good(|_| None)?;
    read(&answered, "service account of this machine".to_owned())
}

/// By a signed word of our own for who we are (RFC 7523, section 2.1; Google's "Using OAuth 2.0 for Server to Server
/// Applications").
async fn by_key(path: &Path, wire: &Wire) -> Result<Cloud, AuthError> {
    let text = secret::read("the key of the service account", &Secret::File(path.to_owned())).await?;
    let wrong = |what: &str| AuthError::denied(format!("{}: {what}", path.display()));
    // What is wrong is not told: it could quote the key.
    let key: Key =
        serde_json::from_str(text.expose_secret()).map_err(|_| wrong("it is not the key of a service account"))?;
    if key.kind != "service_account" {
        return Err(wrong("it is of another kind than service_account, which alone is known here"));
    }
    let url: Url = key.token_uri.parse().map_err(|_| wrong("its token_uri is no address"))?;
    if url.scheme() != "https" && !realm::is_loopback(&url) {
        return Err(wrong(&format!("its token_uri, {}, is without TLS", locate::shown(&url))));
    }
    let assertion = assertion(&key, &url).ok_or_else(|| wrong("its private_key is no RSA key"))?;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let pairs = [("grant_type", grant), ("assertion", assertion.expose_secret())];
    let answered = wire.ask(form(&wire.authority, &url, &pairs), &url, &[]).await?.good(code)?;
    read(&answered, key.client_email)
}

fn assertion(key: &Key, audience: &Url) -> Option<SecretString> {
    let now = chrono::Utc::now().timestamp();
    let claims = json!({
        "iss": key.client_email, "scope": SCOPE, "aud": audience.as_str(), "iat": now, "exp": now + ASSERTED,
    });
    let pair = jwt::rsa_key(key.private_key.expose_secret().as_bytes())?;
    jwt::signed(jwt::Algorithm::Rs256, ("kid", &key.private_key_id), &claims, &pair)
}

fn read(answered: &Answered, name: String) -> Result<Cloud, AuthError> {
    let told: Told = answered.json()?;
    if told.access_token.is_empty() {
        return Err(answered.unusable("without a token"));
    }
    // Some tokens are filled up with dots, which are a part of them.
    let login = Login::Password { username: USER.to_owned(), password: told.access_token.into() };
    Ok(Cloud { login, good: spared(Duration::from_secs(told.expires_in.min(86_400))), name })
}

fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    Some(serde_json::from_slice::<Refusal>(body).ok()?.error)
}
