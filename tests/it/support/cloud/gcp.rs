//! Google's cloud: the metadata server and the token service, which knows one service account.

use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};

use super::{Given, Passwords, ServiceRequest, ServiceResponse, Services, json, refused};

/// Email address of the service account.
pub const EMAIL: &str = "mirror@project.iam.gserviceaccount.com";

/// Running services, and the access tokens that they issue.
pub struct Gcp {
    /// Services: the metadata server, and `/token`.
    pub services: Services,
    /// Passwords that the registry accepts.
    pub passwords: Passwords,
    /// All secrets.
    pub given: Given,
    key: String,
}

impl Gcp {
    /// Starts the services. Tokens live for `lifetime`; the first one is revoked when it is used at age `revoke_at`.
    pub fn start(lifetime: Duration, revoke_at: Option<Duration>) -> Self {
        let (given, passwords) = (Given::default(), Passwords::new("oauth2accesstoken", revoke_at));
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let pem = key.serialize_pem();
        // One line of the key is enough to find a leak.
        given.record("the private key", pem.lines().nth(3).unwrap());
        let (issued, accepted, public) = (given.clone(), passwords.clone(), key.subject_public_key_info());
        let answer = move |requested: &ServiceRequest| {
            let good = match (requested.method.as_str(), requested.path.as_str()) {
                ("GET", "/computeMetadata/v1/instance/service-accounts/default/token") => {
                    requested.header("metadata-flavor") == "Google"
                }
                ("POST", "/token") => is_asserted(requested, &public, &issued),
                _ => return refused(404),
            };
            if !good {
                return (400, Vec::new(), r#"{"error":"invalid_grant","error_description":"see: c4nary"}"#.to_owned());
            }
            given_token(&issued, &accepted, lifetime)
        };
        Self { services: Services::start(answer), passwords, given, key: pem }
    }

    /// Returns the key file of the service account.
    pub fn key_file(&self) -> String {
        let key = json!({
            "type": "service_account", "client_email": EMAIL, "private_key_id": "k1",
            "private_key": self.key, "token_uri": self.services.url("/token"),
        });
        key.to_string()
    }
}

fn given_token(given: &Given, passwords: &Passwords, lifetime: Duration) -> ServiceResponse {
    let token = given.new_secret("an access token");
    passwords.add(&token, lifetime);
    json(&json!({"access_token": token, "expires_in": lifetime.as_secs(), "token_type": "Bearer"}))
}

/// Returns true if the assertion of the service account is valid: signed by its key, for this service, for now.
fn is_asserted(requested: &ServiceRequest, public: &[u8], given: &Given) -> bool {
    let form = requested.form();
    let Some(assertion) = form.get("assertion") else { return false };
    given.record("an assertion", assertion);
    let Some((text, signature)) = assertion.rsplit_once('.') else { return false };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let parts: Vec<Value> =
        text.split('.').map(|part| serde_json::from_slice(&decoded(part)).unwrap_or_default()).collect();
    let [header, claims] = &parts[..] else { return false };
    let now = chrono::Utc::now().timestamp();
    let (from, until) = (claims["iat"].as_i64().unwrap_or_default(), claims["exp"].as_i64().unwrap_or_default());
    form.get("grant_type").is_some_and(|grant| grant == "urn:ietf:params:oauth:grant-type:jwt-bearer")
        && (&header["alg"], &header["kid"]) == (&json!("RS256"), &json!("k1"))
        && (&claims["iss"], &claims["scope"])
            == (&json!(EMAIL), &json!("https://www.googleapis.com/auth/cloud-platform"))
        && claims["aud"] == json!(format!("http://{}/token", requested.header("host")))
        && from <= now + 1
        && until > now
        && until - from <= 3600
        && UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(text.as_bytes(), &decoded(signature))
            .is_ok()
}
