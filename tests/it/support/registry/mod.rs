//! A registry within the test process: distribution-spec, in memory, on a loopback port, with faults to switch on.
//!
//! It runs on a thread of its own, so that a test may block, and ends when its [`Server`] is dropped. It checks
//! its clients more strictly than most registries do: the newest `Location` of an upload, the `Accept` header,
//! the presence of all that a manifest points at.

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

/// What a server is from its start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whether it answers the referrers API and states `OCI-Subject`.
    pub referrers_api: bool,
    /// Whom it lets in.
    pub auth: Auth,
    /// The most lines of one page of a list.
    pub page: usize,
    /// How many pulls it allows, if it counts them.
    pub pulls: Option<PullLimit>,
    /// How many requests it allows in a minute, if it counts them.
    pub buckets: Option<Buckets>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { referrers_api: true, auth: Auth::None, page: 100, pulls: None, buckets: None }
    }
}

/// What all requests share.
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

/// A running registry. Dropping it ends it, with every connection.
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

    /// Starts a registry of this setup.
    pub fn with(setup: Setup) -> Self {
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("registry".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(setup, &ready, stopped));
            // What is left of connections ends here, with the runtime.
        });
        let shared = started.recv().expect("the registry's thread binds its ports");
        Self { shared, stop, thread: Some(thread.unwrap()) }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.shared.host
    }

    /// `http://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.shared.host)
    }

    /// Its content, to be looked at and changed past the API.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// What it was asked.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Switches a fault on, beside those that are on already.
    pub fn set(&self, fault: Fault) {
        self.shared.faults.set(fault);
    }

    /// Switches all faults off.
    pub fn heal(&self) {
        self.shared.faults.clear();
    }

    /// Whether the request that [`Harm::Held`] or [`Harm::HeldAnswer`] was for has come, and waits.
    pub fn is_holding(&self) -> bool {
        self.shared.faults.has(&Fault::Held(faults::NTH))
    }

    /// Makes every token that was given out invalid, whatever lifetime was stated.
    pub fn expire_tokens(&self) {
        self.shared.tokens.expire();
    }

    /// Moves the clock by which pulls are counted.
    pub fn pass(&self, seconds: u64) {
        self.shared.pulls.pass(seconds);
    }

    /// Others who share the address pull so many.
    pub fn pulled_by_others(&self, pulls: usize) {
        self.shared.pulls.by_others(pulls);
    }

    /// How many pulls were turned away because the limit was reached.
    pub fn pulls_beyond(&self) -> usize {
        self.shared.pulls.beyond()
    }

    /// How many pulls are left in the window; none where they are not counted.
    pub fn pulls_left(&self) -> usize {
        self.shared.setup.pulls.map_or(0, |limit| self.shared.pulls.left(&limit))
    }

    /// How many upload sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.shared.sessions.count()
    }

    /// Number of bytes that the sessions have whose answer to a chunk is held back; `None` where there are none.
    pub fn held_sessions(&self) -> Option<usize> {
        self.shared.sessions.held()
    }

    /// Changes a byte of what each open session has.
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
