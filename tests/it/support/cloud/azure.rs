//! Azure's cloud: the instance metadata service, Entra, and the extensions of its registries: the exchange of an Entra
//! token for a refresh token, and access tokens for repositories.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Given, ServiceRequest, ServiceResponse, Services, json, refused};
use crate::support::registry::Gate;

/// Id of the application.
pub const CLIENT: &str = "00000000-0000-0000-0000-000000000001";
/// Id of the machine's identity as an object of the directory.
const OBJECT: &str = "00000000-0000-0000-0000-000000000003";
/// Id of the directory.
pub const TENANT: &str = "00000000-0000-0000-0000-000000000002";

/// Running services, and the registry's side.
pub struct Azure {
    /// Services at `/imds` and `/entra`.
    pub services: Services,
    /// Authentication of the registry.
    pub registry: Arc<Acr>,
    /// All secrets.
    pub given: Given,
    state: Arc<State>,
}

/// Authentication of the registry itself.
#[derive(Debug)]
pub struct Acr {
    given: Given,
    /// Tokens that Entra issued.
    entra: Arc<Mutex<HashSet<String>>>,
    /// Refresh tokens, with their ends.
    refresh: Mutex<HashMap<String, Instant>>,
    /// Access tokens, with their scopes and the times of issue.
    access: Mutex<HashMap<String, (Vec<String>, Instant)>>,
    /// Access token that was revoked early.
    revoked: Mutex<Option<String>>,
    lifetimes: Lifetimes,
    exchanged: Mutex<usize>,
    refusals: Mutex<Vec<&'static str>>,
}

/// Lifetimes of tokens.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Lifetime of a refresh token, in whole seconds.
    pub refresh: u64,
    /// Lifetime of an access token, in whole seconds.
    pub access: u64,
    /// Age at which the first access token that is used is revoked, whatever lifetime was stated.
    pub revoke_at: Option<Duration>,
}

struct State {
    given: Given,
    entra: Arc<Mutex<HashSet<String>>>,
    secret: String,
    federated: String,
    key: KeyPair,
    certificate: rcgen::Certificate,
    /// First responses of the metadata service, in reverse order.
    renewing: Mutex<Vec<u16>>,
    /// Ids of assertions: each is valid once.
    seen: Mutex<HashSet<String>>,
}

impl Azure {
    /// Starts the services.
    pub fn start(lifetimes: Lifetimes) -> Self {
        let (given, entra) = (Given::default(), Arc::default());
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        given.record("the private key", key.serialize_pem().lines().nth(3).unwrap());
        let certificate = CertificateParams::new(vec!["mirror".to_owned()]).unwrap().self_signed(&key).unwrap();
        let state = Arc::new(State {
            secret: given.new_secret("the client secret"),
            federated: given.new_secret("the federated token"),
            given: given.clone(),
            entra: Arc::clone(&entra),
            key,
            certificate,
            renewing: Mutex::default(),
            seen: Mutex::default(),
        });
        let registry = Acr {
            given: given.clone(),
            entra,
            refresh: Mutex::default(),
            access: Mutex::default(),
            revoked: Mutex::default(),
            lifetimes,
            exchanged: Mutex::default(),
            refusals: Mutex::default(),
        };
        let handler = state.clone();
        let services = Services::start(move |requested| handler.answer(requested));
        Self { services, registry: Arc::new(registry), given, state }
    }

    /// Returns the application's secret.
    pub fn secret(&self) -> &str {
        &self.state.secret
    }

    /// Returns the cluster's federated token for the application.
    pub fn federated(&self) -> &str {
        &self.state.federated
    }

    /// Returns the application's certificate and its key, both in PEM form.
    pub fn certificate(&self) -> String {
        self.state.certificate.pem() + &self.state.key.serialize_pem()
    }

    /// Sets the first responses of the metadata service, in this order.
    pub fn renew_metadata(&self, statuses: &[u16]) {
        *self.state.renewing.lock().unwrap() = statuses.iter().rev().copied().collect();
    }
}

impl State {
    fn answer(&self, requested: &ServiceRequest) -> ServiceResponse {
        let entra = format!("/entra/{TENANT}/oauth2/v2.0/token");
        let good = match (requested.method.as_str(), requested.path.as_str()) {
            ("GET", "/imds/metadata/identity/oauth2/token") => {
                if let Some(status) = self.renewing.lock().unwrap().pop() {
                    return refused(status);
                }
                let printed = |name: &str| requested.query.get(name).map_or("", String::as_str);
                requested.header("metadata") == "true"
                    && (printed("api-version"), printed("resource"))
                        == ("2018-02-01", "https://containerregistry.azure.net")
            }
            ("POST", path) if path == entra => self.is_known(requested),
            _ => return refused(404),
        };
        if !good {
            // The response repeats the request, as some services do.
            let body = json!({"error": "invalid_client", "error_description": format!("you sent {}", requested.body)});
            return (401, Vec::new(), body.to_string());
        }
        // A JSON web token, as Entra issues them. Only the last of its three parts is a secret.
        let claims = URL_SAFE_NO_PAD.encode(json!({"appid": CLIENT, "oid": OBJECT}).to_string());
        let token = format!("e30.{claims}.{}", self.given.new_secret("a token of Entra's"));
        self.entra.lock().unwrap().insert(token.clone());
        json(&json!({"access_token": token, "expires_in": 3600}))
    }

    fn is_known(&self, requested: &ServiceRequest) -> bool {
        let form = requested.form();
        let printed = |name: &str| form.get(name).map_or("", String::as_str);
        let whole = (printed("grant_type"), printed("client_id"), printed("scope"))
            == ("client_credentials", CLIENT, "https://containerregistry.azure.net/.default");
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let assertion = printed("client_assertion");
        let proven = if assertion.is_empty() {
            printed("client_secret") == self.secret
        } else if assertion == self.federated {
            printed("client_assertion_type") == kind
        } else {
            self.given.record("an assertion", assertion);
            printed("client_assertion_type") == kind && self.is_signed(requested, assertion)
        };
        whole && proven
    }

    /// Checks Entra's rules for an assertion ("Microsoft identity platform application authentication certificate
    /// credentials").
    fn is_signed(&self, requested: &ServiceRequest, assertion: &str) -> bool {
        let Some((text, signature)) = assertion.rsplit_once('.') else { return false };
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        let parts: Vec<Value> =
            text.split('.').map(|part| serde_json::from_slice(&decoded(part)).unwrap_or_default()).collect();
        let [header, claims] = &parts[..] else { return false };
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(self.certificate.der()));
        let now = chrono::Utc::now().timestamp();
        let (from, until) = (claims["nbf"].as_i64().unwrap_or_default(), claims["exp"].as_i64().unwrap_or_default());
        let once = self.seen.lock().unwrap().insert(claims["jti"].to_string());
        let public = self.key.subject_public_key_info();
        *header == json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint})
            && claims["aud"] == json!(format!("http://{}{}", requested.header("host"), requested.path))
            && (&claims["iss"], &claims["sub"]) == (&json!(CLIENT), &json!(CLIENT))
            && claims["jti"].as_str().is_some_and(|id| id.len() >= 16)
            && once
            && from <= now
            && until > now
            && until - from <= 600
            && UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &public)
                .verify(text.as_bytes(), &decoded(signature))
                .is_ok()
    }
}

impl Acr {
    /// Returns the number of refresh tokens issued.
    pub fn exchanged(&self) -> usize {
        *self.exchanged.lock().unwrap()
    }

    /// Returns the number of access tokens issued.
    pub fn access_tokens(&self) -> usize {
        self.access.lock().unwrap().len()
    }

    /// Returns the reasons why tokens were refused: `over` (expired) or `revoked`.
    pub fn refusals(&self) -> Vec<&'static str> {
        self.refusals.lock().unwrap().clone()
    }

    fn exchange(&self, printed: &dyn Fn(&str) -> String) -> (u16, String) {
        let known = self.entra.lock().unwrap().contains(&printed("access_token"));
        if !known || printed("grant_type") != "access_token" || printed("service").is_empty() {
            return (
                401,
                json!({"errors": [{"code": "UNAUTHORIZED", "message": printed("access_token")}]}).to_string(),
            );
        }
        let lifetime = Duration::from_secs(self.lifetimes.refresh);
        let claims = json!({"exp": (chrono::Utc::now() + lifetime).timestamp(), "jti": self.given.new_secret("a jti")});
        let token = format!("{0}.{1}.{0}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims.to_string()));
        self.given.record("a refresh token", &token);
        self.refresh.lock().unwrap().insert(token.clone(), Instant::now() + lifetime);
        *self.exchanged.lock().unwrap() += 1;
        (200, json!({"refresh_token": token}).to_string())
    }

    fn token(&self, printed: &dyn Fn(&str) -> String) -> (u16, String) {
        let refresh = printed("refresh_token");
        let good = self.refresh.lock().unwrap().get(&refresh).is_some_and(|end| Instant::now() < *end);
        if !good || printed("grant_type") != "refresh_token" {
            self.refusals.lock().unwrap().push("over");
            return (401, json!({"errors": [{"code": "UNAUTHORIZED", "message": refresh}]}).to_string());
        }
        let token = self.given.new_secret("an access token");
        let scopes = printed("scope").split(' ').map(str::to_owned).collect();
        self.access.lock().unwrap().insert(token.clone(), (scopes, Instant::now()));
        (200, json!({"access_token": token, "expires_in": self.lifetimes.access}).to_string())
    }

    /// Returns true if this token grants these scopes now.
    fn grants(&self, token: &str, scopes: &[String]) -> bool {
        let access = self.access.lock().unwrap();
        let Some((granted, from)) = access.get(token) else { return false };
        let age = from.elapsed();
        let mut revoked = self.revoked.lock().unwrap();
        if revoked.is_none() && self.lifetimes.revoke_at.is_some_and(|end| age >= end) {
            *revoked = Some(token.to_owned());
        }
        let refusal = if age >= Duration::from_secs(self.lifetimes.access) {
            Some("over")
        } else if revoked.as_deref() == Some(token) {
            Some("revoked")
        } else {
            None
        };
        self.refusals.lock().unwrap().extend(refusal);
        let covered = |scope: &String| {
            let Some((name, actions)) = scope.rsplit_once(':') else { return false };
            let mine = granted.iter().filter_map(|granted| granted.rsplit_once(':')).filter(|(of, _)| *of == name);
            let mine: Vec<&str> = mine.flat_map(|(_, actions)| actions.split(',')).collect();
            actions.split(',').all(|action| mine.contains(&action))
        };
        refusal.is_none() && scopes.iter().all(covered)
    }
}

impl Gate for Acr {
    fn challenge(&self, authorization: &str, host: &str, scopes: &[String]) -> Option<String> {
        let good = authorization.strip_prefix("Bearer ").is_some_and(|token| self.grants(token, scopes));
        let scope = scopes.join(" ");
        (!good).then(|| format!("Bearer realm=\"http://{host}/oauth2/token\",service=\"{host}\",scope=\"{scope}\""))
    }

    fn answer(&self, path: &str, form: &[(String, String)]) -> (u16, String) {
        let printed =
            |name: &str| form.iter().find(|(key, _)| key == name).map_or(String::new(), |(_, value)| value.clone());
        match path {
            "/oauth2/exchange" => self.exchange(&printed),
            "/oauth2/token" => self.token(&printed),
            _ => (404, "{}".to_owned()),
        }
    }
}
