//! Who may read: who shows the token, else who is on this machine. Health and readiness are everybody's, for they say no more than
//! whether the daemon works.
//!
//! On a loopback address without a token, the name by which the port is asked for counts: a page from elsewhere whose name was made to
//! lead here (DNS rebinding) asks by its own name.

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
use crate::listen::Seldom;

/// The paths of health checks: what a load balancer or an orchestrator asks, who knows no token.
pub const HEALTH_CHECKS: [&str; 2] = ["/healthz", "/readyz"];
/// The first is for programs, the second makes a browser ask a person.
const CHALLENGES: [&str; 2] = ["Bearer realm=\"transship\"", "Basic realm=\"transship\", charset=\"UTF-8\""];

/// Decides about requests, by the configuration in force.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    config: watch::Receiver<Arc<Config>>,
    /// What the port was opened with.
    opened: Arc<Status>,
    complained: Arc<Seldom>,
}

impl Admission {
    pub(super) fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        let opened = Arc::new(config.borrow().daemon.status.clone());
        Self { config, opened, complained: Arc::default() }
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// An edit that moves the port moves it at the next start, and what protects the new place may not protect this one. A token does
    /// anywhere.
    fn readers(&self) -> Readers {
        let config = self.config.borrow();
        let status = &config.daemon.status;
        let counts = status.listen == self.opened.listen || matches!(status.readers, Readers::Token(_));
        if counts { status.readers.clone() } else { self.opened.readers.clone() }
    }

    /// `Err` is the refusal.
    async fn judge(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Response> {
        let token = match self.readers() {
            Readers::Anyone => return Ok(()),
            Readers::Local if matches!(self.opened.listen, StatusPort::Tcp(_)) => {
                return misdirected(uri, headers).map_or(Ok(()), Err);
            }
            Readers::Local => return Ok(()),
            Readers::Token(token) => token,
        };
        let token = token.read().await.map_err(|error| error.to_string());
        let token = token.and_then(usable).map_err(|problem| {
            if self.complained.now() {
                tracing::error!(problem, "the token of the status port cannot be used; it is said once a minute");
            }
            let said = "the token of the status port cannot be used: the daemon's log says why\n";
            (StatusCode::INTERNAL_SERVER_ERROR, said).into_response()
        })?;
        if shown(headers).is_some_and(|shown| verify_slices_are_equal(&shown, token.expose_secret().as_bytes()).is_ok())
        {
            return Ok(());
        }
        if headers.contains_key(header::AUTHORIZATION) && self.complained.now() {
            tracing::warn!("a wrong token was refused at the status port; more within a minute are not told");
        }
        Err(unauthorized())
    }
}

/// One in a file may have become shorter than the configuration would take.
fn usable(token: SecretString) -> Result<SecretString, String> {
    if token.expose_secret().len() < Receiver::SHORTEST_SECRET {
        return Err(format!("fewer than {} characters can be guessed", Receiver::SHORTEST_SECRET));
    }
    Ok(token)
}

/// Lets a request pass, or refuses it.
pub(super) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    if !HEALTH_CHECKS.contains(&request.uri().path())
        && let Err(refusal) = admission.judge(request.uri(), request.headers()).await
    {
        return refusal;
    }
    next.run(request).await
}

/// What stands as a bearer token (RFC 6750), or as the password of Basic (RFC 7617), whoever the user is.
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, shown) = text.split_once(' ')?;
    let shown = shown.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(shown.as_bytes().to_vec());
    }
    let pair = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(shown).ok())??;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

fn unauthorized() -> Response {
    let said = "this needs the token of daemon.status: as a bearer token, or as the password of any user\n";
    let mut response = (StatusCode::UNAUTHORIZED, said).into_response();
    for challenge in CHALLENGES {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// The refusal of a request by a name that is not this machine's own. The port does not count: it may be forwarded.
fn misdirected(uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some((StatusCode::BAD_REQUEST, "a request names the host that it is for, once\n").into_response());
    };
    // In the absolute form of a request the authority counts, and not the header (RFC 9112, section 3.2.2): here both have to be good.
    let names = [uri.authority().map(|authority| authority.as_str()), Some(host.to_str().unwrap_or_default())];
    let other = names.into_iter().flatten().find(|name| !is_local(name))?;
    let said = format!(
        "{other:?} is no name of this machine's own: ask for localhost or 127.0.0.1, or write under daemon.status in sync.yaml what \
         protects the port\n"
    );
    Some((StatusCode::MISDIRECTED_REQUEST, said).into_response())
}

/// Whether `HOST` or `HOST:PORT` is this machine as itself.
fn is_local(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
