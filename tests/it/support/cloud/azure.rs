//! Azure's: the instance metadata service, Entra, and what a registry there has of its own: the exchange of an Entra token for a
//! refresh token, and access tokens for repositories.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Asked, Given, Said, Services, json, refused};
use crate::support::registry::Gate;

/// The application's id.
pub const CLIENT: &str = "00000000-0000-0000-0000-000000000001";
/// The machine's identity as an object of the directory.
const OBJECT: &str = "00000000-0000-0000-0000-000000000003";
/// Its directory.
pub const TENANT: &str = "00000000-0000-0000-0000-000000000002";

/// The services, and what they let in.
pub struct Azure {
    /// Where they are: `/imds`, `/entra`.
    pub services: Services,
    /// What lets into the registry.
    pub registry: Arc<Acr>,
    /// All that is secret.
    pub given: Given,
    state: Arc<State>,
}

/// The registry's own side.
#[derive(Debug)]
pub struct Acr {
    given: Given,
    /// What Entra gave.
    entra: Arc<Mutex<HashSet<String>>>,
    /// Refresh tokens, with their end.
    refresh: Mutex<HashMap<String, Instant>>,
    /// Access tokens: their scopes, and from when they are good.
    access: Mutex<HashMap<String, (Vec<String>, Instant)>>,
    /// The one that died early.
    revoked: Mutex<Option<String>>,
    lifetimes: Lifetimes,
    exchanged: Mutex<usize>,
    refusals: Mutex<Vec<&'static str>>,
}

/// How long tokens live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// A refresh token, whole seconds.
    pub refresh: u64,
    /// An access token, whole seconds.
    pub access: u64,
    /// The first access token that is used at this age dies then, whatever was said.
    pub revoke_at: Option<Duration>,
}

struct State {
    given: Given,
    entra: Arc<Mutex<HashSet<String>>>,
    secret: String,
    federated: String,
    key: KeyPair,
    certificate: rcgen::Certificate,
    /// What the metadata service answers first.
    renewing: Mutex<Vec<u16>>,
    /// The ids of assertions: each holds once.
    seen: Mutex<HashSet<String>>,
}

impl Azure {
    /// Starts them.
    pub fn start(lifetimes: Lifetimes) -> Self {
        let (given, entra) = (Given::default(), Arc::default());
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        given.note("the private key", key.serialize_pem().lines().nth(3).unwrap());
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
        let of = state.clone();
        let services = Services::start(move |asked| of.answer(asked));
        Self { services, registry: Arc::new(registry), given, state }
    }

    /// The application's secret.
    pub fn secret(&self) -> &str {
        &self.state.secret
    }

    /// The cluster's word for the application.
    pub fn federated(&self) -> &str {
        &self.state.federated
    }

    /// The application's certificate and its key, both in PEM form.
    pub fn certificate(&self) -> String {
        self.state.certificate.pem() + &self.state.key.serialize_pem()
    }

    /// The metadata service answers so first, in this order.
    pub fn renew_metadata(&self, statuses: &[u16]) {
        *self.state.renewing.lock().unwrap() = statuses.iter().rev().copied().collect();
    }
}

impl State {
    fn answer(&self, asked: &Asked) -> Said {
        let entra = format!("/entra/{TENANT}/oauth2/v2.0/token");
        let good = match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/imds/metadata/identity/oauth2/token") => {
                if let Some(status) = self.renewing.lock().unwrap().pop() {
                    return refused(status);
                }
                let said = |name: &str| asked.query.get(name).map_or("", String::as_str);
                asked.header("metadata") == "true"
                    && (said("api-version"), said("resource")) == ("2018-02-01", "https://containerregistry.azure.net")
            }
            ("POST", path) if path == entra => self.is_known(asked),
            _ => return refused(404),
        };
        if !good {
            // It says back what it was sent, as some do.
            let body = json!({"error": "invalid_client", "error_description": format!("you sent {}", asked.body)});
            return (401, Vec::new(), body.to_string());
        }
        // A JSON web token, as Entra's are. None of the three parts but the last is a secret.
        let claims = URL_SAFE_NO_PAD.encode(json!({"appid": CLIENT, "oid": OBJECT}).to_string());
        let token = format!("e30.{claims}.{}", self.given.new_secret("a token of Entra's"));
        self.entra.lock().unwrap().insert(token.clone());
        json(&json!({"access_token": token, "expires_in": 3600}))
    }

    fn is_known(&self, asked: &Asked) -> bool {
        let form = asked.form();
        let said = |name: &str| form.get(name).map_or("", String::as_str);
        let whole = (said("grant_type"), said("client_id"), said("scope"))
            == ("client_credentials", CLIENT, "https://containerregistry.azure.net/.default");
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let assertion = said("client_assertion");
        let proven = if assertion.is_empty() {
            said("client_secret") == self.secret
        } else if assertion == self.federated {
            said("client_assertion_type") == kind
        } else {
            self.given.note("an assertion", assertion);
            said("client_assertion_type") == kind && self.is_signed(asked, assertion)
        };
        whole && proven
    }

    /// Entra's rules for an assertion ("Microsoft identity platform application authentication certificate credentials").
    fn is_signed(&self, asked: &Asked, assertion: &str) -> bool {
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
            && claims["aud"] == json!(format!("http://{}{}", asked.header("host"), asked.path))
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
    /// How many refresh tokens were given.
    pub fn exchanged(&self) -> usize {
        *self.exchanged.lock().unwrap()
    }

    /// How many access tokens were given.
    pub fn access_tokens(&self) -> usize {
        self.access.lock().unwrap().len()
    }

    /// Why tokens were refused: `over` or `revoked`.
    pub fn refusals(&self) -> Vec<&'static str> {
        self.refusals.lock().unwrap().clone()
    }

    fn exchange(&self, said: &dyn Fn(&str) -> String) -> (u16, String) {
        let known = self.entra.lock().unwrap().contains(&said("access_token"));
        if !known || said("grant_type") != "access_token" || said("service").is_empty() {
            return (401, json!({"errors": [{"code": "UNAUTHORIZED", "message": said("access_token")}]}).to_string());
        }
        let lifetime = Duration::from_secs(self.lifetimes.refresh);
        let claims = json!({"exp": (chrono::Utc::now() + lifetime).timestamp(), "jti": self.given.new_secret("a jti")});
        let token = format!("{0}.{1}.{0}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims.to_string()));
        self.given.note("a refresh token", &token);
        self.refresh.lock().unwrap().insert(token.clone(), Instant::now() + lifetime);
        *self.exchanged.lock().unwrap() += 1;
        (200, json!({"refresh_token": token}).to_string())
    }

    fn token(&self, said: &dyn Fn(&str) -> String) -> (u16, String) {
        let refresh = said("refresh_token");
        let good = self.refresh.lock().unwrap().get(&refresh).is_some_and(|end| Instant::now() < *end);
        if !good || said("grant_type") != "refresh_token" {
            self.refusals.lock().unwrap().push("over");
            return (401, json!({"errors": [{"code": "UNAUTHORIZED", "message": refresh}]}).to_string());
        }
        let token = self.given.new_secret("an access token");
        let scopes = said("scope").split(' ').map(str::to_owned).collect();
        self.access.lock().unwrap().insert(token.clone(), (scopes, Instant::now()));
        (200, json!({"access_token": token, "expires_in": self.lifetimes.access}).to_string())
    }

    /// Whether this token grants these scopes now.
    fn lets_in(&self, token: &str, scopes: &[String]) -> bool {
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
        let good = authorization.strip_prefix("Bearer ").is_some_and(|token| self.lets_in(token, scopes));
        let scope = scopes.join(" ");
        (!good).then(|| format!("Bearer realm=\"http://{host}/oauth2/token\",service=\"{host}\",scope=\"{scope}\""))
    }

    fn answer(&self, path: &str, form: &[(String, String)]) -> (u16, String) {
        let said =
            |name: &str| form.iter().find(|(key, _)| key == name).map_or(String::new(), |(_, value)| value.clone());
        match path {
            "/oauth2/exchange" => self.exchange(&said),
            "/oauth2/token" => self.token(&said),
            _ => (404, "{}".to_owned()),
        }
    }
}
