//! In-process registry for tests: distribution-spec, in memory, on a loopback port, with faults that can be set.
//!
//! The registry runs on its own thread, so that a test may block, and ends when its [`Server`] is dropped. It checks
//! clients more strictly than most registries do. A client must use the newest `Location` of an upload and send an
//! `Accept` header. It must push everything that a manifest refers to before the manifest.

mod answer;
mod auth;
mod blobs;
mod buckets;
mod faults;
mod lists;
mod log;
mod manifests;
mod pulls;
mod quirks;
mod route;
mod store;
mod transmit;
mod uploads;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use axum::Router;
use tokio_util::sync::CancellationToken;

pub use auth::{Auth, By, Gate, User};
pub use buckets::Buckets;
pub use faults::{Fault, Harm};
pub use log::{Log, Request};
pub use pulls::PullLimit;
pub use store::Store;

/// Settings of a server, fixed at its start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Serves the referrers API and states `OCI-Subject`.
    pub referrers_api: bool,
    /// Authentication that the registry requires.
    pub auth: Auth,
    /// Largest number of items on one page of a list.
    pub page: usize,
    /// Limit of pulls; `None` means no limit.
    pub pulls: Option<PullLimit>,
    /// Limit of requests per minute; `None` means no limit.
    pub buckets: Option<Buckets>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { referrers_api: true, auth: Auth::None, page: 100, pulls: None, buckets: None }
    }
}

/// State that all requests share.
#[derive(Debug)]
struct Shared {
    setup: Setup,
    host: String,
    storage_host: String,
    store: Store,
    sessions: uploads::Sessions,
    tokens: auth::Tokens,
    faults: faults::Faults,
    pulls: pulls::Pulls,
    room: buckets::Room,
    log: Log,
}

/// Running registry. Dropping the value ends the registry and every connection.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts an open registry with the referrers API.
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// Starts a registry with these settings.
    pub fn with(setup: Setup) -> Self {
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("registry".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(setup, &ready, stopped));
            // Dropping the runtime ends the remaining connections.
        });
        let shared = started.recv().expect("the registry's thread binds its ports");
        Self { shared, stop, thread: Some(thread.unwrap()) }
    }

    /// Returns the address as `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.shared.host
    }

    /// Returns `http://127.0.0.1:PORT` with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.shared.host)
    }

    /// Returns the content of the registry, which tests read and change without the API.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Returns the log of the registry's requests.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Sets a fault, in addition to those that are set.
    pub fn set(&self, fault: Fault) {
        self.shared.faults.set(fault);
    }

    /// Clears all faults.
    pub fn heal(&self) {
        self.shared.faults.clear();
    }

    /// Returns true if the request with [`Harm::Held`] or [`Harm::HeldAnswer`] has arrived and is held.
    pub fn is_holding(&self) -> bool {
        self.shared.faults.has(&Fault::Held(faults::NTH))
    }

    /// Invalidates every issued token, whatever its stated lifetime.
    pub fn expire_tokens(&self) {
        self.shared.tokens.expire();
    }

    /// Advances the clock of the pull limit.
    pub fn advance_pull_clock(&self, seconds: u64) {
        self.shared.pulls.advance_clock(seconds);
    }

    /// Counts pulls of other clients that share the address.
    pub fn add_foreign_pulls(&self, pulls: usize) {
        self.shared.pulls.add_foreign(pulls);
    }

    /// Returns the number of pulls that were refused because of the limit.
    pub fn refused_pulls(&self) -> usize {
        self.shared.pulls.refused()
    }

    /// Returns the number of remaining pulls in the window; 0 without a limit.
    pub fn pulls_left(&self) -> usize {
        self.shared.setup.pulls.map_or(0, |limit| self.shared.pulls.left(&limit))
    }

    /// Returns the number of open upload sessions.
    pub fn open_sessions(&self) -> usize {
        self.shared.sessions.count()
    }

    /// Returns the total bytes of the sessions whose response to a chunk is held; `None` if there are none.
    pub fn held_sessions(&self) -> Option<usize> {
        self.shared.sessions.held()
    }

    /// Corrupts a byte of each open session.
    pub fn spoil_sessions(&self) {
        self.shared.sessions.spoil();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(setup: Setup, ready: &mpsc::SyncSender<Arc<Shared>>, stop: CancellationToken) {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let (api, storage) = (wire::Wires::bind(loopback).await, wire::Wires::bind(loopback).await);
    let shared = Arc::new(Shared {
        setup,
        host: api.address().to_string(),
        storage_host: storage.address().to_string(),
        store: Store::default(),
        sessions: uploads::Sessions::default(),
        tokens: auth::Tokens::default(),
        faults: faults::Faults::default(),
        pulls: pulls::Pulls::default(),
        room: buckets::Room::default(),
        log: Log::default(),
    });
    let api_routes = Router::new().fallback(route::handle).with_state(shared.clone());
    let storage_routes = Router::new().fallback(blobs::storage).with_state(shared.clone());
    ready.send(shared).expect("the test waits for its registry");
    let api = axum::serve(api, api_routes.into_make_service_with_connect_info::<wire::Wire>());
    let storage = axum::serve(storage, storage_routes.into_make_service_with_connect_info::<wire::Wire>());
    tokio::select! {
        () = stop.cancelled() => {}
        _ = async { api.await } => {}
        _ = async { storage.await } => {}
    }
}
