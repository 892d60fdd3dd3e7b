//! HTTP/1.1 server with limits: one request per connection, and a time limit for each connection. No TLS, no HTTP/2, no
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

/// Limits on connections with requests. A large answer stays in memory until the client has read the answer. So the
/// server sends at most 16 answers at a time. A new client has at least 25 ms to send its request.
const BOUNDS: Bounds = Bounds { waiting: 256, answered: Some(16), checked: 64, grace: Duration::from_millis(25) };
/// Limits on connections with push events. Many senders do not repeat an event, so the server should not close a
/// sender's connection early. If no slot is free, a new connection closes the oldest connection only when the oldest
/// connection is two seconds old.
const EVENT_BOUNDS: Bounds = Bounds { waiting: 64, answered: None, checked: 0, grace: Duration::from_secs(2) };
/// Time limits of a client.
const LIMITS: Limits = Limits { head: Duration::from_secs(5), whole: Duration::from_secs(30) };
/// Maximum size of the head of a request in bytes. hyper accepts at most a hundred headers.
const MAX_HEAD: usize = 16 << 10;

/// Time limits of a client.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Time limit to send the head of the request.
    head: Duration,
    /// Time limit of the whole connection, including the body of the request and the answer.
    whole: Duration,
}

/// Answers requests until `shutdown`, then ends within a second. Requests for the paths in `checks` count as health
/// checks, which have separate slots and short answers. If the caller drops the future, all connections close.
pub async fn serve_routes(
    listener: Listener,
    router: Router,
    checks: &'static [&'static str],
    shutdown: CancellationToken,
) {
    serve_within(listener, router, checks, shutdown, BOUNDS, LIMITS).await;
}

/// Serves push events at these routes until `shutdown`, then ends within a second. If no slot is free, new connections
/// wait for a slot. If the caller drops the future, all connections close.
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

/// Serves one request. Aborted connections and protocol violations are not logged.
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

/// Returns a server of one request per connection. `head` is the time limit for the head of the request.
#[must_use]
pub fn http1_server(head: Duration) -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_HEAD).keep_alive(false);
    server
}

#[cfg(test)]
mod tests;
