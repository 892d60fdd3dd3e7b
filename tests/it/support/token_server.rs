//! Token server for Debian's registry: distribution's "Token Authentication Specification" and its "OAuth2 Token
//! Authentication", with access by user and repository. It signs JSON web tokens (ES256) with a certificate of the
//! test's authority, which is in their header (`x5c`), and runs behind TLS on a thread of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::front::{Authority, Front};

/// Audience of the tokens.
pub const SERVICE: &str = "test-registry";
/// Issuer of the tokens.
pub const ISSUER: &str = "test-tokens";

/// Seconds for which the registry accepts a token after its end, because clocks differ.
const LEEWAY: u64 = 60;

/// User who gets tokens.
#[derive(Debug, Clone)]
pub struct User {
    /// Name.
    pub name: &'static str,
    /// Password.
    pub password: &'static str,
    /// Prefixes of repository names, with the allowed actions.
    pub may: &'static [(&'static str, &'static [&'static str])],
}

/// Rules of the server.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Known users.
    pub users: Vec<User>,
    /// Gives anonymous clients tokens to pull.
    pub anonymous_pull: bool,
    /// Actual lifetime of tokens.
    pub lifetime: Duration,
    /// Stated lifetime of tokens, in seconds.
    pub stated: u64,
}

/// One request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Method: `GET` or `POST`.
    pub method: String,
    /// User; empty for an anonymous request.
    pub user: String,
    /// Requested scopes, sorted: `repository:a/b:pull`.
    pub scopes: Vec<String>,
    /// True if the response contained a token.
    pub granted: bool,
}

struct Shared {
    rules: Rules,
    certificate: Vec<u8>,
    key: KeyPair,
    requests: Mutex<Vec<TokenRequest>>,
}

/// Running server. Dropping the value ends the server.
pub struct TokenServer {
    shared: Arc<Shared>,
    plain: SocketAddr,
    front: Front,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl TokenServer {
    /// Starts the server. `authority` signs the certificates of its TLS and of its tokens.
    pub fn start(authority: &Authority, rules: Rules) -> Self {
        let (certificate, key) = authority.signer();
        let shared = Arc::new(Shared { rules, certificate, key, requests: Mutex::default() });
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::sync_channel(1);
        let (state, stopped) = (shared.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("tokens".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let routes = Router::new().fallback(answer).with_state(state);
                stopped.run_until_cancelled(async { axum::serve(listener, routes).await }).await;
            });
        });
        let plain = started.recv().expect("the thread binds its port");
        let front = Front::tls(&plain.to_string(), &authority.certify("127.0.0.1", 4000), None, &["http/1.1"]);
        Self { shared, plain, front, stop, thread: Some(thread.unwrap()) }
    }

    /// Returns the URL of its tokens.
    pub fn realm(&self) -> String {
        format!("https://{}/token", self.front.host())
    }

    /// Returns the server's address without TLS, for a proxy in front of the server.
    pub fn plain(&self) -> String {
        self.plain.to_string()
    }

    /// Returns its requests so far.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Returns the refresh token of a user of the [`Rules`].
    pub fn refresh_token(user: &str) -> String {
        format!("r3fresh-{user}")
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let text =
        if parts.method == Method::POST { body.as_ref() } else { parts.uri.query().unwrap_or_default().as_bytes() };
    let parameters: Vec<(String, String)> = url::form_urlencoded::parse(text).into_owned().collect();
    let of = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let basic = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let user = shared.rules.user(&parts.method, basic, &of);
    // Several scopes are several parameters or one with spaces.
    let scopes = parameters.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
    let mut scopes: Vec<String> = scopes.filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    scopes.sort();
    let granted = user.is_ok() && of("service") == Some(SERVICE);
    let name = user.as_ref().ok().and_then(Option::as_ref).map(|user| user.name.to_owned()).unwrap_or_default();
    let record = TokenRequest { method: parts.method.to_string(), user: name, scopes: scopes.clone(), granted };
    shared.requests.lock().unwrap().push(record);
    let Ok(user) = user else { return refusal("wrong user name, password or token") };
    if !granted {
        return refusal("the service is unknown");
    }
    let token = shared.token(user.as_ref(), &scopes);
    let mut answer = json!({"expires_in": shared.rules.stated});
    answer[if parts.method == Method::POST { "access_token" } else { "token" }] = token.into();
    if let Some(user) = user.filter(|_| of("offline_token") == Some("true") || of("access_type") == Some("offline")) {
        answer["refresh_token"] = TokenServer::refresh_token(user.name).into();
    }
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

fn refusal(message: &str) -> Response {
    let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": message}]});
    (StatusCode::UNAUTHORIZED, body.to_string()).into_response()
}

impl Rules {
    /// Authenticates a request: returns the user, `None` for an anonymous request, and an error for wrong credentials.
    fn user<'p>(
        &self,
        method: &Method,
        basic: Option<&str>,
        parameter: &dyn Fn(&str) -> Option<&'p str>,
    ) -> Result<Option<User>, ()> {
        let known = |is: &dyn Fn(&User) -> bool| self.users.iter().find(|user| is(user)).cloned().map(Some).ok_or(());
        if method == Method::POST {
            return match (parameter("grant_type"), parameter("refresh_token"), parameter("client_id")) {
                (Some("refresh_token"), Some(token), Some(_)) => {
                    known(&|user| TokenServer::refresh_token(user.name) == token)
                }
                _ => Err(()),
            };
        }
        let Some(basic) = basic else { return Ok(None) };
        let encoded = basic.strip_prefix("Basic ").ok_or(())?;
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(())?;
        known(&|user| format!("{}:{}", user.name, user.password) == decoded)
    }

    fn may(&self, user: Option<&User>, name: &str, action: &str) -> bool {
        let listed = user.is_some_and(|user| {
            user.may.iter().any(|(beginning, actions)| name.starts_with(beginning) && actions.contains(&action))
        });
        listed || self.anonymous_pull && action == "pull"
    }
}

impl Shared {
    /// Returns a token for those scopes that the user may have.
    fn token(&self, user: Option<&User>, scopes: &[String]) -> String {
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                let granted: Vec<&str> =
                    actions.split(',').filter(|action| self.rules.may(user, name, action)).collect();
                (!granted.is_empty()).then(|| json!({"type": kind, "name": name, "actions": granted}))
            })
            .collect();
        // Debian's registry checks tokens against the machine's clock.
        let now = clock::machine_time().timestamp().unsigned_abs();
        let claims = json!({
            "iss": ISSUER, "sub": user.map(|user| user.name).unwrap_or_default(), "aud": SERVICE,
            "exp": now + self.rules.lifetime.as_secs() - LEEWAY, "nbf": now - LEEWAY, "iat": now,
            "jti": format!("{now}"), "access": access,
        });
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)]});
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signature = self.key.sign(format!("{header}.{claims}").as_bytes()).expect("the key can sign");
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(plain_signature(&signature)))
    }
}

/// Converts an ECDSA signature from its ASN.1 sequence to the concatenation of its two numbers (RFC 7518, section 3.4).
fn plain_signature(sequence: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = &sequence[2..];
    while let [2, length, after @ ..] = rest {
        let (number, next) = after.split_at(usize::from(*length));
        // Drop the zero that keeps the number positive, and pad it to the length of the curve's numbers.
        let digits = number.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<_>>();
        plain.extend(vec![0; 32 - digits.len()]);
        plain.extend(digits);
        rest = next;
    }
    plain
}
