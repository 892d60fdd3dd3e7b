//! HTTP/1.1 server with limits: one request per connection, and a time limit for each. No TLS, no HTTP/2, no
//! keep-alive.

use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use super::connections::{Bounds, Slot, serve};
use super::listener::{Connection, Listener};

/// Limits for requests. Answers may be large, and each is whole in memory until it is read, so only 16 are allowed. A
/// new client has 25 ms to send its request, although a crowd of slow clients reconnects as fast as it is closed; ten
/// thousand of them are then accepted in a second.
const BOUNDS: Bounds = Bounds { waiting: 256, answered: Some(16), checked: 64, grace: Duration::from_millis(25) };
/// Limits for events. A client can repeat a request, but may send an event only once. So connections with events wait
/// for a moment instead of closing each other.
const EVENT_BOUNDS: Bounds = Bounds { waiting: 64, answered: None, checked: 0, grace: Duration::from_secs(2) };
/// Time limits of a client.
const LIMITS: Limits = Limits { head: Duration::from_secs(5), whole: Duration::from_secs(30) };
/// Maximum size of the request head in bytes. hyper accepts a hundred headers.
const MAX_HEAD: usize = 16 << 10;

/// Time limits of a client.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// For the head of its request.
    head: Duration,
    /// For the whole connection, including sending a body and reading the answer.
    whole: Duration,
}

/// Answers requests until `shutdown`, then ends within a second. Requests for the paths in `checks` have slots of
/// their own; their answers are short. Dropping the future closes every connection.
pub async fn serve_routes(
    listener: Listener,
    router: Router,
    checks: &'static [&'static str],
    shutdown: CancellationToken,
) {
    serve_within(listener, router, checks, shutdown, BOUNDS, LIMITS).await;
}

/// Accepts events at these routes in the same way, but a burst of them one after the other.
pub async fn serve_events(listener: Listener, router: Router, shutdown: CancellationToken) {
    serve_within(listener, router, &[], shutdown, EVENT_BOUNDS, LIMITS).await;
}

async fn serve_within(
    listener: Listener,
    router: Router,
    checks: &'static [&'static str],
    shutdown: CancellationToken,
    bounds: Bounds,
    limits: Limits,
) {
    serve(listener, bounds, shutdown, |connection, slot| answer(connection, slot, router.clone(), checks, limits))
        .await;
}

/// Serves one request. An aborted connection or a protocol violation is not reported.
async fn answer(connection: Connection, slot: Slot, router: Router, checks: &'static [&'static str], limits: Limits) {
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        if checks.contains(&request.uri().path()) {
            slot.start_check()
        } else {
            slot.start_answer()
        }
        routes.call(request)
    });
    let serving = http1_server(limits.head).serve_connection(TokioIo::new(connection), service);
    let _ = tokio::time::timeout(limits.whole, serving).await;
}

/// Returns a server of one request per connection, with a time limit for the head of the request and a limit of its
/// size.
#[must_use]
pub fn http1_server(head: Duration) -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_HEAD).keep_alive(false);
    server
}

#[cfg(test)]
mod tests;
