//! Access check of the status port. `daemon.status` decides which clients may read: clients with the token, clients on
//! this machine, or all clients. All clients may read `/healthz` and `/readyz`, which only show whether the daemon
//! works.
//!
//! On a loopback address without a token, the host name in a request must be a name of this machine. This rule prevents
//! DNS rebinding. In this attack, the host name of a web page resolves to this machine, and the page sends requests to
//! the port. These requests contain the host name of the page, so the port refuses the requests.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;

use crate::config::{Config, Readers, Receiver, Status, StatusPort};
use crate::listen::OncePerMinute;

/// Paths of health checks, which load balancers and orchestrators request without a token.
pub const HEALTH_CHECKS: [&str; 2] = ["/healthz", "/readyz"];
/// Authentication challenges. The first challenge is for programs. With the second challenge, a browser prompts for a
/// user and a password.
const CHALLENGES: [&str; 2] = ["Bearer realm=\"transship\"", "Basic realm=\"transship\", charset=\"UTF-8\""];

/// Access check for requests, by the configuration in force.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    config: watch::Receiver<Arc<Config>>,
    /// The configuration with which the port was opened.
    opened: Arc<Status>,
    log_limit: Arc<OncePerMinute>,
}

impl Admission {
    pub(super) fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        let opened = Arc::new(config.borrow().daemon.status.clone());
        Self { config, opened, log_limit: Arc::default() }
    }

    /// Returns the configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Returns the clients that may read now. If an edit changes the address, the port keeps the old address until the
    /// next start. Until then, the access rule of the old address stays in force, because the new rule may be too weak
    /// for the old address. Only a new token takes effect at once, because a token protects every address.
    fn readers(&self) -> Readers {
        let config = self.config.borrow();
        let status = &config.daemon.status;
        let applies = status.listen == self.opened.listen || matches!(status.readers, Readers::Token(_));
        if applies { status.readers.clone() } else { self.opened.readers.clone() }
    }

    /// If the client may not read, returns the refusal as an error.
    async fn check_access(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Response> {
        let token = match self.readers() {
            Readers::Anyone => return Ok(()),
            Readers::Local if matches!(self.opened.listen, StatusPort::Tcp(_)) => {
                return refuse_foreign_host(uri, headers).map_or(Ok(()), Err);
            }
            Readers::Local => return Ok(()),
            Readers::Token(token) => token,
        };
        let token = token.read().await.map_err(|error| error.to_string());
        let token = token.and_then(check_length).map_err(|problem| {
            if self.log_limit.is_due() {
                tracing::error!(problem, "the token of the status port cannot be used (logged at most once a minute)");
            }
            let message = "the token of the status port cannot be used: see the daemon's log\n";
            (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
        })?;
        if presented_token(headers)
            .is_some_and(|presented| verify_slices_are_equal(&presented, token.expose_secret().as_bytes()).is_ok())
        {
            return Ok(());
        }
        if headers.contains_key(header::AUTHORIZATION) && self.log_limit.is_due() {
            tracing::warn!("wrong token rejected at the status port (logged at most once a minute)");
        }
        Err(unauthorized())
    }
}

/// Refuses a short token. The configuration parser refuses short tokens too, but the file of a token may change later.
fn check_length(token: SecretString) -> Result<SecretString, String> {
    if token.expose_secret().len() < Receiver::SHORTEST_SECRET {
        return Err(format!("the token must have at least {} characters", Receiver::SHORTEST_SECRET));
    }
    Ok(token)
}

/// Passes allowed requests to the routes, and refuses other requests.
pub(super) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    if !HEALTH_CHECKS.contains(&request.uri().path())
        && let Err(refusal) = admission.check_access(request.uri(), request.headers()).await
    {
        return refusal;
    }
    next.run(request).await
}

/// Returns the token in a request: its bearer token (RFC 6750), or its password in Basic authentication (RFC 7617) with
/// any user name.
fn presented_token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = text.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.as_bytes().to_vec());
    }
    let pair = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials).ok())??;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

fn unauthorized() -> Response {
    let message = "this request needs the token of daemon.status: send the token as a bearer token, or as the \
        password of Basic authentication with any user name\n";
    let mut response = (StatusCode::UNAUTHORIZED, message).into_response();
    for challenge in CHALLENGES {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// Returns the refusal of a request, or `None` if its host name is a name of this machine. The port number in the
/// request is not checked, because the port may be forwarded.
fn refuse_foreign_host(uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some((StatusCode::BAD_REQUEST, "a request must have exactly one Host header\n").into_response());
    };
    // For a request in absolute form, the authority in the URI replaces the header (RFC 9112, section 3.2.2). This
    // check requires a local name in the URI and in the header.
    let names = [uri.authority().map(|authority| authority.as_str()), Some(host.to_str().unwrap_or_default())];
    let foreign = names.into_iter().flatten().find(|name| !is_local(name))?;
    let message = format!(
        "{foreign:?} is not a name of this machine: use localhost or 127.0.0.1, or configure under daemon.status in \
         sync.yaml how the port is protected\n"
    );
    Some((StatusCode::MISDIRECTED_REQUEST, message).into_response())
}

/// Returns true if `authority`, which is `HOST` or `HOST:PORT`, contains a loopback name or address.
fn is_local(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
