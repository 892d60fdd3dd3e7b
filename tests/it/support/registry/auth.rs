//! Authentication and authorisation: none, Basic, or Bearer with tokens of the registry's own endpoint `/token`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, header};
use axum::response::Response;
use base64::Engine as _;

use super::faults::Fault;
use super::route::{Object, ReceivedRequest};
use super::{Shared, answer};

/// Authentication that a server requires.
#[derive(Debug, Clone)]
pub enum Auth {
    /// None: every client has every right.
    None,
    /// Basic, with one user by name and password.
    Basic(String, String),
    /// Bearer: the token must grant the requested access.
    Bearer {
        /// Name and password of the user who gets tokens for everything.
        user: (String, String),
        /// Gives other clients tokens to pull.
        anonymous_pull: bool,
        /// Actual and stated lifetime of a token, in whole seconds.
        lifetime: Duration,
    },
    /// Several users, each with their own rights.
    Users {
        /// Users and their rights.
        users: Vec<User>,
        /// Kind of credentials that the users send.
        by: By,
    },
    /// Authentication by a cloud.
    Cloud(Arc<dyn Gate>),
}

/// Cloud in front of its registry: it authenticates requests and answers its own paths.
pub trait Gate: std::fmt::Debug + Send + Sync {
    /// Returns the challenge (`WWW-Authenticate`) to a request with this `Authorization` that needs these scopes;
    /// `None` if it is authorised. `host` is the registry's.
    fn challenge(&self, authorization: &str, host: &str, scopes: &[String]) -> Option<String>;

    /// Returns the status and the JSON of the response to a form that was posted to a path of the cloud.
    fn answer(&self, path: &str, form: &[(String, String)]) -> (u16, String);
}

/// One of several users.
#[derive(Debug, Clone)]
pub struct User {
    /// Name.
    pub name: &'static str,
    /// Password.
    pub password: &'static str,
    /// Rights: prefix of the names and action, such as `("build", "pull")` or `("catalog", "*")`.
    pub may: Vec<(&'static str, &'static str)>,
}

/// Kind of credentials that users send to a registry with several users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Password of the user.
    Passwords,
    /// Tokens that grant the requested rights that the user has.
    Tokens,
    /// Tokens, but none if the user lacks one of the requested rights (as GitLab's token service).
    WholeTokens,
}

impl User {
    fn is(&self, given: &(String, String)) -> bool {
        *self.name == given.0 && *self.password == given.1
    }

    fn may(&self, (name, action): &Grant) -> bool {
        let covers =
            |above: &str| name.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.may.iter().any(|(above, allowed)| covers(above) && action == allowed)
    }
}

/// One right: a repository (or `catalog`) and an action.
type Grant = (String, String);

/// Tokens that were issued.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, (BTreeSet<Grant>, Instant)>>);

impl Tokens {
    pub(super) fn expire(&self) {
        self.0.lock().unwrap().clear();
    }

    fn give(&self, grants: BTreeSet<Grant>, lifetime: Duration, beginning: &str) -> String {
        let mut tokens = self.0.lock().unwrap();
        // As long as a real token, and unique, also after `expire`.
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

/// Returns the refusal of an unauthorised request; `None` if the request is authorised.
pub(super) fn refuse(shared: &Shared, object: &Object, request: &ReceivedRequest) -> Option<Response> {
    match &shared.setup.auth {
        Auth::None => None,
        Auth::Basic(user, password) => {
            let known = basic(request) == Some((user.clone(), password.clone()));
            (!known).then(|| unauthorized("Basic realm=\"registry\""))
        }
        Auth::Users { users, by: By::Passwords } => {
            let given = basic(request);
            let Some(user) = users.iter().find(|user| given.as_ref().is_some_and(|given| user.is(given))) else {
                return Some(unauthorized("Basic realm=\"registry\""));
            };
            let enough = needed(object, request).iter().all(|grant| user.may(grant));
            (!enough).then(|| answer::error(403, "DENIED", "requested access to the resource is denied"))
        }
        Auth::Bearer { .. } | Auth::Users { .. } => {
            let needed = needed(object, request);
            let token = answer::text(&request.headers, header::AUTHORIZATION).strip_prefix("Bearer ");
            let grants = token.and_then(|token| shared.tokens.grants(token));
            let enough = grants.as_ref().is_some_and(|grants| grants.is_superset(&needed));
            (!enough).then(|| unauthorized(&challenge(shared, &needed, grants.is_some())))
        }
        Auth::Cloud(gate) => {
            let authorization = answer::text(&request.headers, header::AUTHORIZATION);
            let scopes = scopes(&needed(object, request));
            gate.challenge(authorization, &shared.host, &scopes).map(|challenge| unauthorized(&challenge))
        }
    }
}

fn unauthorized(challenge: &str) -> Response {
    let mut response = answer::error(401, "UNAUTHORIZED", "authentication required");
    answer::add(response.headers_mut(), &[("www-authenticate", challenge.to_owned())]);
    response
}

/// Returns the scopes of grants, as a client requests them: `repository:NAME:pull,push`.
fn scopes(needed: &BTreeSet<Grant>) -> Vec<String> {
    let names: BTreeSet<&String> = needed.iter().map(|(name, _)| name).collect();
    let scope = |name: &String| {
        let actions = needed.iter().filter(|(of, _)| of == name).map(|(_, action)| action.as_str());
        let kind = if name == "catalog" { "registry" } else { "repository" };
        format!("{kind}:{name}:{}", actions.collect::<Vec<_>>().join(","))
    };
    names.into_iter().map(scope).collect()
}

fn challenge(shared: &Shared, needed: &BTreeSet<Grant>, insufficient: bool) -> String {
    let scopes = scopes(needed);
    let mut challenge = format!("Bearer realm=\"http://{}/token\",service=\"test-registry\"", shared.host);
    if !scopes.is_empty() {
        challenge += &format!(",scope=\"{}\"", scopes.join(" "));
    }
    if insufficient {
        challenge += ",error=\"insufficient_scope\"";
    }
    challenge
}

/// Returns the grants that a token must have for this request.
fn needed(object: &Object, request: &ReceivedRequest) -> BTreeSet<Grant> {
    if *object == Object::Catalog {
        return BTreeSet::from([("catalog".to_owned(), "*".to_owned())]);
    }
    let Some(repository) = object.repository() else { return BTreeSet::new() };
    let reads = matches!(request.method, Method::GET | Method::HEAD) && !matches!(object, Object::Upload(..));
    let deletes = request.method == Method::DELETE && !matches!(object, Object::Upload(..));
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
    if let (Object::Upload(..), Some(from)) = (object, request.parameter("from")) {
        needed.insert((from.to_owned(), "pull".to_owned()));
    }
    needed
}

/// Answers the token endpoint (distribution, "Token Authentication Specification"), and its POST form for an identity
/// token ("OAuth2 Token Authentication"), which is the user's password here.
pub(super) async fn token(shared: &Shared, request: &ReceivedRequest, body: Body) -> Response {
    let lifetime = match &shared.setup.auth {
        Auth::Bearer { lifetime, .. } => *lifetime,
        Auth::Users { by: By::Tokens | By::WholeTokens, .. } => Duration::from_secs(300),
        _ => return answer::error(404, "UNSUPPORTED", "this registry gives no tokens"),
    };
    let form = axum::body::to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
    let parameters = match request.method {
        Method::GET => &request.query,
        Method::POST => &form,
        _ => return answer::not_allowed(),
    };
    let parameter = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if parameter("service") != Some("test-registry") {
        return answer::error(400, "DENIED", "the service is unknown");
    }
    let known = match (&shared.setup.auth, basic(request), parameter("refresh_token")) {
        (Auth::Bearer { user, .. }, Some(given), _) if given == *user => Some(None),
        (Auth::Bearer { user, .. }, _, Some(token))
            if token == user.1 && parameter("grant_type") == Some("refresh_token") =>
        {
            Some(None)
        }
        (Auth::Users { users, .. }, Some(given), _) if users.iter().any(|user| user.is(&given)) => {
            Some(users.iter().find(|user| user.is(&given)))
        }
        (_, None, None) => None,
        // Some services repeat the credentials that they received.
        (_, _, token) => {
            let message = format!("wrong user name, password or token: {}", token.unwrap_or_default());
            return answer::error(401, "UNAUTHORIZED", &message);
        }
    };
    let mut grants = BTreeSet::new();
    // Several scopes are several parameters or one with spaces.
    let scopes = parameters.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
    let scopes: Vec<&str> = scopes.filter(|scope| !scope.is_empty()).collect();
    let limit = shared.faults.find(|fault| if let Fault::ScopeLimit(limit) = fault { Some(*limit) } else { None });
    if limit.is_some_and(|limit| scopes.len() > limit) {
        return answer::with(431, &[("content-type", "text/html".into())], "<html>Request Header Too Large</html>");
    }
    for scope in scopes {
        let Some((name, actions)) = scope.split_once(':').and_then(|(_, rest)| rest.rsplit_once(':')) else {
            return answer::error(400, "DENIED", "a scope is malformed");
        };
        for action in actions.split(',') {
            let grant = (name.to_owned(), action.to_owned());
            let granted = match (&shared.setup.auth, &known) {
                (_, Some(None)) => true,
                (_, Some(Some(user))) => user.may(&grant),
                (Auth::Bearer { anonymous_pull, .. }, None) => *anonymous_pull && action == "pull",
                (_, None) => false,
            };
            if granted {
                grants.insert(grant);
            } else if matches!(shared.setup.auth, Auth::Users { by: By::WholeTokens, .. }) {
                return answer::error(403, "DENIED", "access forbidden");
            }
        }
    }
    let begin = shared.faults.find(|fault| if let Fault::TokensBegin(text) = fault { Some(*text) } else { None });
    let token = shared.tokens.give(grants, lifetime, begin.unwrap_or_default());
    answer::json(&serde_json::json!({"token": token, "expires_in": lifetime.as_secs()}))
}

/// Answers a path that belongs to the cloud.
pub(super) async fn answer_cloud_path(shared: &Shared, path: &str, body: Body) -> Response {
    let Auth::Cloud(gate) = &shared.setup.auth else {
        return answer::error(404, "UNSUPPORTED", "this registry is in no cloud");
    };
    let form = axum::body::to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
    let (status, json) = gate.answer(path, &form);
    answer::with(status, &[("content-type", "application/json".into())], json)
}

fn basic(request: &ReceivedRequest) -> Option<(String, String)> {
    let encoded = answer::text(&request.headers, header::AUTHORIZATION).strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
