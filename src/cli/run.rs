//! `transship run`: the daemon. Binds, opens and listens here; the work is `daemon::serve`.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::Utc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::configuration;
use super::exit::{Exit, Failure};
use super::start::Context;
use crate::config::StatusPort;
use crate::daemon::{self, Setup};
use crate::journal::Journal;
use crate::status::{self, Listener, Metrics, Port, Snapshot};

/// The arguments of `transship run`: none.
#[derive(Debug, clap::Args)]
pub struct Run {}

impl Run {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let path = configuration::find(&context.global)?;
        let config = configuration::read(&path).map_err(Failure::usage)?;
        let journal = Journal::open(&config.daemon.journal)?;
        let (snapshots, looked_at) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), Utc::now()));
        let answered = CancellationToken::new();
        let history = Arc::new(Journal::open_existing(&config.daemon.journal)?);
        let port = Port::new(looked_at, metrics.clone(), Arc::new(Utc::now)).with_history(history);
        let answering = listen(&config.daemon.status)
            .await?
            .map(|listener| tokio::spawn(status::serve(listener, port, answered.clone())));
        let setup = Setup {
            path,
            config,
            journal,
            environment: Box::new(|name| std::env::var(name).ok()),
            snapshots,
            metrics,
            reload: hang_ups()?,
            shutdown: context.interrupted.clone(),
        };
        let served = daemon::serve(setup).await;
        // The port answers while runs are drained: a health check must not restart what is about to end.
        answered.cancel();
        if let Some(answering) = answering {
            let _ = answering.await;
        }
        Ok(served.map(|()| Exit::Ok)?)
    }
}

/// Binds the status port, if there is to be one.
async fn listen(place: &StatusPort) -> Result<Option<Listener>, Failure> {
    let bound = match place {
        StatusPort::Off => return Ok(None),
        StatusPort::Tcp(address) => Listener::tcp(*address).await,
        StatusPort::Unix(path) => Listener::unix(path).await,
    };
    let listener = bound.with_context(|| format!("the status port {place} cannot be opened (daemon.status)"))?;
    // Port 0 takes a free one: whoever asked for it finds it here.
    match listener.address() {
        Some(address) => tracing::info!(%address, "the status port answers"),
        None => tracing::info!(%place, "the status port answers"),
    }
    Ok(Some(listener))
}

/// A value for each SIGHUP. Several at once are one.
fn hang_ups() -> std::io::Result<mpsc::Receiver<()>> {
    let mut signals = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                break;
            }
        }
    });
    Ok(receiver)
}
