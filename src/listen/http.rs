//! Serves routes over HTTP/1.1 within bounds: one request a connection, and a time limit for each. There is no TLS, no HTTP/2
//! and no keep-alive.

use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use super::connections::{Bounds, Place, serve};
use super::listener::{Connection, Listener};

/// Answers may be large, and each is whole in memory until it is read: so there are fewer of them. Whoever has just connected has 25 ms
/// to ask, though a crowd of slow clients comes back as fast as it is ended; ten thousand of these are accepted in a second then.
const BOUNDS: Bounds = Bounds { asking: 256, answered: Some(16), checked: 64, sure: Duration::from_millis(25) };
/// Whoever asks can ask again; an event may be told once. So those wait for a moment instead of ending each other.
const OF_EVENTS: Bounds = Bounds { asking: 64, answered: None, checked: 0, sure: Duration::from_secs(2) };
/// How long a client may take.
const LIMITS: Limits = Limits { head: Duration::from_secs(5), whole: Duration::from_secs(30) };
/// The largest request head, in bytes. Of headers hyper takes a hundred.
const HEAD_AT_MOST: usize = 16 << 10;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// For its request's head.
    head: Duration,
    /// In all, the sending of a body and the reading of the answer included.
    whole: Duration,
}

/// Answers requests until `shutdown`, then ends within a second. The paths of health checks have slots of their own, and their answers
/// are short. Dropping the future closes every connection.
pub async fn serve_routes(
    listener: Listener,
    router: Router,
    checks: &'static [&'static str],
    shutdown: CancellationToken,
) {
    serve_within(listener, router, checks, shutdown, BOUNDS, LIMITS).await;
}

/// Takes events by these routes in the same way, but a storm of them one after the other.
pub async fn serve_events(listener: Listener, router: Router, shutdown: CancellationToken) {
    serve_within(listener, router, &[], shutdown, OF_EVENTS, LIMITS).await;
}

async fn serve_within(
    listener: Listener,
    router: Router,
    checks: &'static [&'static str],
    shutdown: CancellationToken,
    bounds: Bounds,
    limits: Limits,
) {
    serve(listener, bounds, shutdown, |connection, place| answer(connection, place, router.clone(), checks, limits))
        .await;
}

/// One request and its answer. A client that breaks off or breaks the protocol is of no interest to anybody.
async fn answer(connection: Connection, place: Place, router: Router, checks: &'static [&'static str], limits: Limits) {
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        if checks.contains(&request.uri().path()) {
            place.be_checked()
        } else {
            place.be_answered()
        }
        routes.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_AT_MOST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), service);
    let _ = tokio::time::timeout(limits.whole, serving).await;
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
