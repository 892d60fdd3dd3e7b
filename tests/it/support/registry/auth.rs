//! Who may do what: nobody asked, Basic, or Bearer with tokens of the registry's own endpoint `/token`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, header};
use axum::response::Response;
use base64::Engine as _;

use super::faults::Fault;
use super::route::{Asked, Object};
use super::{Shared, answer};

/// Whom a server lets in.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Everybody.
    None,
    /// One user, by name and password.
    Basic(String, String),
    /// Whoever has a token for what it asks.
    Bearer {
        /// Who gets tokens for everything, by name and password.
        user: (String, String),
        /// Whether others get tokens to pull.
        anonymous_pull: bool,
        /// How long a token lives, and is said to live. Whole seconds.
        lifetime: Duration,
    },
}

/// One thing that may be done: a repository (or `catalog`) and an action.
type Grant = (String, String);

/// The tokens that were given out.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, (BTreeSet<Grant>, Instant)>>);

impl Tokens {
    pub(super) fn expire(&self) {
        self.0.lock().unwrap().clear();
    }

    fn give(&self, grants: BTreeSet<Grant>, lifetime: Duration, beginning: &str) -> String {
        let mut tokens = self.0.lock().unwrap();
        // As long as a real one, and never the same one twice, also after `expire`.
        let number = tokens.len();
        let token = format!("{beginning}{}", hex::encode(format!("{number}-{:?}-{grants:?}", Instant::now())));
        tokens.insert(token.clone(), (grants, Instant::now() + lifetime));
        token
    }

    fn grants(&self, token: &str) -> Option<BTreeSet<Grant>> {
        let tokens = self.0.lock().unwrap();
        tokens.get(token).filter(|(_, end)| Instant::now() < *end).map(|(grants, _)| grants.clone())
    }
}

/// The refusal of a request that may not be done, `None` where it may.
pub(super) fn refuse(shared: &Shared, object: &Object, asked: &Asked) -> Option<Response> {
    match &shared.setup.auth {
        Auth::None => None,
        Auth::Basic(user, password) => {
            let known = basic(asked) == Some((user.clone(), password.clone()));
            (!known).then(|| unauthorized("Basic realm=\"registry\""))
        }
        Auth::Bearer { .. } => {
            let needed = needed(object, asked);
            let token = answer::text(&asked.headers, header::AUTHORIZATION).strip_prefix("Bearer ");
            let grants = token.and_then(|token| shared.tokens.grants(token));
            let enough = grants.as_ref().is_some_and(|grants| grants.is_superset(&needed));
            (!enough).then(|| unauthorized(&challenge(shared, &needed, grants.is_some())))
        }
    }
}

fn unauthorized(challenge: &str) -> Response {
    let mut response = answer::error(401, "UNAUTHORIZED", "authentication required");
    answer::add(response.headers_mut(), &[("www-authenticate", challenge.to_owned())]);
    response
}

fn challenge(shared: &Shared, needed: &BTreeSet<Grant>, insufficient: bool) -> String {
    let mut scopes: Vec<String> = Vec::new();
    let names: BTreeSet<&String> = needed.iter().map(|(name, _)| name).collect();
    for name in names {
        let actions = needed.iter().filter(|(of, _)| of == name).map(|(_, action)| action.as_str());
        let kind = if name == "catalog" { "registry" } else { "repository" };
        scopes.push(format!("{kind}:{name}:{}", actions.collect::<Vec<_>>().join(",")));
    }
    let mut challenge = format!("Bearer realm=\"http://{}/token\",service=\"test-registry\"", shared.host);
    if !scopes.is_empty() {
        challenge += &format!(",scope=\"{}\"", scopes.join(" "));
    }
    if insufficient {
        challenge += ",error=\"insufficient_scope\"";
    }
    challenge
}

/// What a token must grant for this request.
fn needed(object: &Object, asked: &Asked) -> BTreeSet<Grant> {
    if *object == Object::Catalog {
        return BTreeSet::from([("catalog".to_owned(), "*".to_owned())]);
    }
    let Some(repository) = object.repository() else { return BTreeSet::new() };
    let reads = matches!(asked.method, Method::GET | Method::HEAD) && !matches!(object, Object::Upload(..));
    let deletes = asked.method == Method::DELETE && !matches!(object, Object::Upload(..));
    let actions: &[&str] = if matches!(object, Object::AcrTags(_)) {
        &["metadata_read"]
    } else if reads {
        &["pull"]
    } else if deletes {
        &["delete"]
    } else {
        &["pull", "push"]
    };
    let mut needed: BTreeSet<Grant> =
        actions.iter().map(|action| (repository.to_owned(), (*action).to_owned())).collect();
    if let (Object::Upload(..), Some(from)) = (object, asked.parameter("from")) {
        needed.insert((from.to_owned(), "pull".to_owned()));
    }
    needed
}

/// The token endpoint (distribution, "Token Authentication Specification"), and its POST form for an identity token
/// ("OAuth2 Token Authentication"), which is the user's password here.
pub(super) async fn token(shared: &Shared, asked: &Asked, body: Body) -> Response {
    let Auth::Bearer { user, anonymous_pull, lifetime } = &shared.setup.auth else {
        return answer::error(404, "UNSUPPORTED", "this registry gives no tokens");
    };
    let form = axum::body::to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
    let parameters = match asked.method {
        Method::GET => &asked.query,
        Method::POST => &form,
        _ => return answer::not_allowed(),
    };
    let parameter = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if parameter("service") != Some("test-registry") {
        return answer::error(400, "DENIED", "the service is unknown");
    }
    let known = match (basic(asked), parameter("refresh_token")) {
        (Some(given), _) if given == *user => true,
        (_, Some(token)) if token == user.1 && parameter("grant_type") == Some("refresh_token") => true,
        (None, None) => false,
        // Some services send back what they were sent.
        (_, token) => {
            let message = format!("wrong user name, password or token: {}", token.unwrap_or_default());
            return answer::error(401, "UNAUTHORIZED", &message);
        }
    };
    let mut grants = BTreeSet::new();
    // Several scopes come as several parameters or as one with spaces.
    let scopes = parameters.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
    let scopes: Vec<&str> = scopes.filter(|scope| !scope.is_empty()).collect();
    let limit = shared.faults.find(|fault| if let Fault::ScopeLimit(limit) = fault { Some(*limit) } else { None });
    if limit.is_some_and(|limit| scopes.len() > limit) {
        return answer::with(431, &[("content-type", "text/html".into())], "<html>Request Header Too Large</html>");
    }
    for scope in scopes {
        let Some((name, actions)) = scope.split_once(':').and_then(|(_, rest)| rest.rsplit_once(':')) else {
            return answer::error(400, "DENIED", "a scope that is none");
        };
        for action in actions.split(',') {
            if known || (*anonymous_pull && action == "pull") {
                grants.insert((name.to_owned(), action.to_owned()));
            }
        }
    }
    let begin = shared.faults.find(|fault| if let Fault::TokensBegin(text) = fault { Some(*text) } else { None });
    let token = shared.tokens.give(grants, *lifetime, begin.unwrap_or_default());
    answer::json(&serde_json::json!({"token": token, "expires_in": lifetime.as_secs()}))
}

fn basic(asked: &Asked) -> Option<(String, String)> {
    let encoded = answer::text(&asked.headers, header::AUTHORIZATION).strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
