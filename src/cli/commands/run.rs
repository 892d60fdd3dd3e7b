//! Command `transship run`: starts the daemon. This file binds ports, opens the journal and listens. The work is in
//! `daemon::serve`.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::Utc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cli::context::invocation::Context;
use crate::cli::context::{configuration, control_server};
use crate::cli::exit::{Exit, Failure};
use crate::config::{self, StatusPort};
use crate::daemon::{self, Control, Setup};
use crate::journal::Journal;
use crate::listen::{Listener, serve_events, serve_routes};
use crate::push_events;
use crate::status::{HEALTH_CHECKS, Metrics, Port, Snapshot};

/// Arguments of `transship run`: none.
#[derive(Debug, clap::Args)]
pub struct Run {}

impl Run {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let path = configuration::find(&context.global)?;
        let content = config::content(&path, &configuration::environment).map(|(digest, _)| digest);
        let config = configuration::read(&path).map_err(Failure::usage)?;
        configuration::warn(&config);
        let journal = Journal::open(&config.daemon.journal)?;
        let (snapshots, looked_at) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), Utc::now()));
        let answered = CancellationToken::new();
        let (asking, commands) = Control::new();
        let listening =
            control_server::listen(&config.daemon.control, asking.clone(), looked_at.clone(), answered.clone()).await?;
        let history = Arc::new(Journal::open_existing(&config.daemon.journal)?);
        let (in_force, looked_up) = watch::channel(Arc::new(config.clone()));
        let port = Port::new(looked_at, metrics.clone(), Arc::new(Utc::now), looked_up.clone()).with_history(history);
        let answering = listen(&config.daemon.status.listen, "the status port", "daemon.status")
            .await?
            .map(|listener| tokio::spawn(serve_routes(listener, port.router(), &HEALTH_CHECKS, answered.clone())));
        let taking = match &config.daemon.push_events {
            None => None,
            Some(section) => {
                let port = push_events::Port::new(looked_up, metrics.clone(), Arc::new(asking));
                let listener = listen(&section.listen, "the port for push events", "daemon.push_events.listen").await?;
                listener.map(|listener| tokio::spawn(serve_events(listener, port.router(), answered.clone())))
            }
        };
        let setup = Setup {
            path,
            content,
            config,
            journal,
            environment: Box::new(configuration::environment),
            snapshots,
            metrics,
            reload: sighup_stream()?,
            commands,
            in_force,
            shutdown: context.interrupted.clone(),
        };
        let served = daemon::serve(setup).await;
        // The port answers while the runs finish, because a health check must not restart a daemon that is ending.
        answered.cancel();
        for task in [answering, listening, taking].into_iter().flatten() {
            let _ = task.await;
        }
        Ok(served.map(|()| Exit::Ok)?)
    }
}

/// Binds a port, unless the configuration turns it off.
async fn listen(place: &StatusPort, what: &str, key: &str) -> Result<Option<Listener>, Failure> {
    let bound = match place {
        StatusPort::Off => return Ok(None),
        StatusPort::Tcp(address) => Listener::tcp(*address).await,
        StatusPort::Unix(path) => Listener::unix(path).await,
    };
    let listener = bound.with_context(|| format!("{what} {place} cannot be opened ({key})"))?;
    // Port 0 takes a free port. The log line tells the operator which one.
    match listener.address() {
        Some(address) => tracing::info!(%address, "{what} answers"),
        None => tracing::info!(%place, "{what} answers"),
    }
    Ok(Some(listener))
}

/// Returns a stream with a value for each SIGHUP. Several signals at once count as one.
fn sighup_stream() -> std::io::Result<mpsc::Receiver<()>> {
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
