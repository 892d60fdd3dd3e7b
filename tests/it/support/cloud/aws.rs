//! Amazon's cloud: the registry service, the security token service, a container's agent and the instance metadata
//! service. All issue keys, and accept only keys that were issued.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde_json::json;

use super::{Given, Passwords, ServiceRequest, ServiceResponse, Services, json, refused, sigv4};

/// Region that requests must be signed for.
pub const REGION: &str = "eu-west-1";
/// Role of the instance, which is also the role that can be assumed.
pub const ROLE: &str = "arn:aws:iam::1234:role/mirror";

/// Running services, and the passwords that they issue.
pub struct Aws {
    /// Services at `/ecr/`, `/sts/` and `/agent`, and the metadata service.
    pub services: Services,
    /// Passwords that the registry accepts.
    pub passwords: Passwords,
    /// All secrets.
    pub given: Given,
    state: Arc<State>,
}

struct State {
    given: Given,
    passwords: Passwords,
    /// Lifetime of a password.
    lifetime: Duration,
    /// Secret and session token, by access key.
    keys: Mutex<HashMap<String, (String, Option<String>)>>,
    session: String,
    web_identity: String,
    agent: String,
    /// Number of requests to the registry service that return 500 first.
    fails: Mutex<usize>,
    /// Access keys of the requests for passwords.
    who: Mutex<Vec<String>>,
}

impl Aws {
    /// Starts the services. Passwords live for `lifetime`; the first one is revoked when it is used at age `revoke_at`.
    pub fn start(lifetime: Duration, revoke_at: Option<Duration>) -> Self {
        let (given, passwords) = (Given::default(), Passwords::new("AWS", revoke_at));
        let state = Arc::new(State {
            session: given.new_secret("the metadata service's session"),
            web_identity: given.new_secret("the web identity token"),
            agent: given.new_secret("the token for the container's agent"),
            given: given.clone(),
            passwords: passwords.clone(),
            lifetime,
            keys: Mutex::default(),
            fails: Mutex::default(),
            who: Mutex::default(),
        });
        let handler = state.clone();
        Self { services: Services::start(move |requested| handler.answer(requested)), passwords, given, state }
    }

    /// Creates permanent keys. Returns id and secret.
    pub fn user(&self) -> (String, String) {
        let (id, secret, _) = self.state.new_keys("AKIA", false);
        (id, secret)
    }

    /// Creates temporary keys. Returns id, secret and session token.
    pub fn session(&self) -> (String, String, String) {
        let (id, secret, token) = self.state.new_keys("ASIA", true);
        (id, secret, token.unwrap_or_default())
    }

    /// Returns the web identity token of a cluster.
    pub fn web_identity(&self) -> &str {
        &self.state.web_identity
    }

    /// Returns the token that a container's agent requires.
    pub fn agent(&self) -> &str {
        &self.state.agent
    }

    /// Makes the next requests to the registry service return 500.
    pub fn fail(&self, times: usize) {
        *self.state.fails.lock().unwrap() = times;
    }

    /// Returns the number of requests for passwords.
    pub fn password_requests(&self) -> usize {
        self.state.who.lock().unwrap().len()
    }
}

impl State {
    fn new_keys(&self, prefix: &str, for_a_time: bool) -> (String, String, Option<String>) {
        let mut keys = self.keys.lock().unwrap();
        let id = format!("{prefix}{:016}", keys.len());
        let secret = self.given.new_secret("a secret access key");
        let token = for_a_time.then(|| self.given.new_secret("a session token"));
        keys.insert(id.clone(), (secret.clone(), token.clone()));
        (id, secret, token)
    }

    fn answer(&self, requested: &ServiceRequest) -> ServiceResponse {
        let folder = "/latest/meta-data/iam/security-credentials/";
        let known = requested.header("x-aws-ec2-metadata-token") == self.session;
        match (requested.method.as_str(), requested.path.as_str()) {
            ("PUT", "/latest/api/token") if !requested.header("x-aws-ec2-metadata-token-ttl-seconds").is_empty() => {
                (200, Vec::new(), self.session.clone())
            }
            ("GET", path) if path == folder && known => (200, Vec::new(), "mirror-role\n".to_owned()),
            ("GET", path) if known && path.strip_prefix(folder) == Some("mirror-role") => self.keys_as_json(),
            ("GET", path) if path.starts_with(folder) => refused(401),
            ("GET", "/agent") if requested.header("authorization") == self.agent => self.keys_as_json(),
            ("GET", "/agent") => refused(403),
            ("POST", "/sts/") => self.sts(requested),
            ("POST", "/ecr/") => self.ecr(requested),
            _ => refused(404),
        }
    }

    fn keys_as_json(&self) -> ServiceResponse {
        let (id, secret, token) = self.new_keys("ASIA", true);
        json(&json!({"Code": "Success", "AccessKeyId": id, "SecretAccessKey": secret, "Token": token}))
    }

    fn sts(&self, requested: &ServiceRequest) -> ServiceResponse {
        let form = requested.form();
        let printed = |name: &str| form.get(name).map_or("", String::as_str);
        let good = match printed("Action") {
            "AssumeRoleWithWebIdentity" => printed("WebIdentityToken") == self.web_identity,
            "AssumeRole" => printed("ExternalId") == "outside" && self.is_signed_for("sts", requested).is_some(),
            _ => false,
        };
        if !good || printed("RoleArn") != ROLE || printed("RoleSessionName").is_empty() {
            let xml = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
            return (403, Vec::new(), xml.to_owned());
        }
        let (id, secret, token) = self.new_keys("ASIA", true);
        let xml = format!(
            "<{0}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{0}Result><Credentials>\n  \
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{1}</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>\
             </Credentials></{0}Result></{0}Response>",
            printed("Action"),
            token.unwrap_or_default()
        );
        (200, vec![("content-type", "text/xml".into())], xml)
    }

    fn ecr(&self, requested: &ServiceRequest) -> ServiceResponse {
        let failing = {
            let mut fails = self.fails.lock().unwrap();
            let failing = *fails > 0;
            *fails = fails.saturating_sub(1);
            failing
        };
        if failing {
            return refused(500);
        }
        let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
        let good = requested.header("x-amz-target") == target
            && requested.header("content-type") == "application/x-amz-json-1.1"
            && requested.body == "{}";
        let Some(id) = self.is_signed_for("ecr", requested).filter(|_| good) else {
            let headers = vec![("content-type", "application/x-amz-json-1.1".into())];
            return (400, headers, r#"{"__type":"com.amazon.coral#InvalidSignatureException"}"#.to_owned());
        };
        self.who.lock().unwrap().push(id);
        let password = self.given.new_secret("a password of the registry");
        self.passwords.add(&password, self.lifetime);
        let token = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{password}"));
        let ends = (chrono::Utc::now() + self.lifetime).timestamp_millis() as f64 / 1000.0;
        let data = json!({"authorizationToken": token, "expiresAt": ends, "proxyEndpoint": "https://registry.example"});
        json(&json!({"authorizationData": [data]}))
    }

    /// Returns the access key of a request, if its signature is right.
    fn is_signed_for(&self, service: &str, requested: &ServiceRequest) -> Option<String> {
        let signed = sigv4::read(requested)?;
        let (secret, token) = self.keys.lock().unwrap().get(&signed.id).cloned()?;
        let placed = signed.region == REGION && signed.service == service;
        let session = requested.header("x-amz-security-token") == token.unwrap_or_default();
        // A signature gives no access, but nothing should show it either.
        self.given.record("a signature", requested.header("authorization").rsplit('=').next().unwrap_or_default());
        (placed && session && sigv4::is_valid_signature(requested, &signed, &secret)).then_some(signed.id)
    }
}
