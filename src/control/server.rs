//! Server of the control socket. A slow or hostile client cannot block the daemon or other clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::message::Request;
use super::routes::{self, Caller, EntryNames, Handler, RequestError, Response};
use super::socket::Socket;
use crate::listen::{self, Bounds, Slot};

/// Maximum number of entries in one command that waits for the end of the runs. The command has an open connection for
/// each entry.
pub const ENTRIES_AT_MOST: usize = 256;
/// Limits on connections: slots for the largest command and for 64 other clients. If all slots are in use, the server
/// refuses new clients. The server does not disconnect a connected client, because the client can still wait for the
/// end of a run.
const BOUNDS: Bounds =
    Bounds { waiting: 64, answered: Some(ENTRIES_AT_MOST + 64), checked: 0, grace: Duration::from_millis(25) };
/// Time limit for each step of a client: to send the head of a request, to send the body, and to read a part of the
/// response.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves requests until `shutdown`, then ends within a second. `handle` executes a request, and `entry_names` returns
/// the names of all entries. When a client disconnects, the server drops the future of `handle`. If the caller drops
/// the future of this function, all connections close.
pub async fn serve<H, F>(
    socket: Socket,
    handle: H,
    entry_names: impl Fn() -> Vec<String> + Send + Sync + 'static,
    shutdown: CancellationToken,
) where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let handler: Handler = Arc::new(move |request| handle(request).boxed());
    serve_within(socket, handler, Arc::new(entry_names), shutdown, CLIENT_TIMEOUT).await;
}

async fn serve_within(
    socket: Socket,
    handler: Handler,
    entry_names: EntryNames,
    shutdown: CancellationToken,
    within: Duration,
) {
    let router = routes::router(handler, entry_names, within);
    listen::serve(socket, BOUNDS, shutdown, |stream, slot| serve_client(stream, slot, router.clone(), within)).await;
}

impl listen::Accept for Socket {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves one request of one client.
async fn serve_client(stream: UnixStream, slot: Slot, router: Router, within: Duration) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let caller = Caller { uid: credentials.uid(), pid: credentials.pid(), slot: Arc::new(slot) };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(within));
    let routes = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        routes.call(request)
    });
    let served = listen::http1_server(within).serve_connection(TokioIo::new(Box::pin(stream)), service).await;
    // If the error is not a parse error, the client disconnected or was too slow.
    if let Err(error) = served
        && error.is_parse()
    {
        caller.log_refusal(&RequestError::Head(error));
    }
}

#[cfg(test)]
mod tests;
