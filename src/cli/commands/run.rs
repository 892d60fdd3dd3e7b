//! Command `transship run`: opens the journal and the listening sockets, and starts the daemon.

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
        let (snapshots, status_snapshots) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), Utc::now()));
        let finished = CancellationToken::new();
        let (control, commands) = Control::new();
        let control_task =
            control_server::listen(&config.daemon.control, control.clone(), status_snapshots.clone(), finished.clone())
                .await?;
        let history = Arc::new(Journal::open_existing(&config.daemon.journal)?);
        let (in_force, current_config) = watch::channel(Arc::new(config.clone()));
        let port = Port::new(status_snapshots, metrics.clone(), Arc::new(Utc::now), current_config.clone())
            .with_history(history);
        let status_task = listen(&config.daemon.status.listen, "the status port", "daemon.status")
            .await?
            .map(|listener| tokio::spawn(serve_routes(listener, port.router(), &HEALTH_CHECKS, finished.clone())));
        let push_events_task = match &config.daemon.push_events {
            None => None,
            Some(section) => {
                let port = push_events::Port::new(current_config, metrics.clone(), Arc::new(control));
                let listener = listen(&section.listen, "the port for push events", "daemon.push_events.listen").await?;
                listener.map(|listener| tokio::spawn(serve_events(listener, port.router(), finished.clone())))
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
        let result = daemon::serve(setup).await;
        // The status port responds until the last run has finished. Without a response, a health check could restart
        // the daemon too early.
        finished.cancel();
        for task in [status_task, control_task, push_events_task].into_iter().flatten() {
            let _ = task.await;
        }
        Ok(result.map(|()| Exit::Ok)?)
    }
}

/// Binds a listener. If the configuration disables the listener, returns `None`.
async fn listen(place: &StatusPort, what: &str, key: &str) -> Result<Option<Listener>, Failure> {
    let bound = match place {
        StatusPort::Off => return Ok(None),
        StatusPort::Tcp(address) => Listener::tcp(*address).await,
        StatusPort::Unix(path) => Listener::unix(path).await,
    };
    let listener = bound.with_context(|| format!("{what} {place} cannot be opened ({key})"))?;
    // If the configured port is 0, the operating system selects the port, and only the log shows the selected port.
    match listener.address() {
        Some(address) => tracing::info!(%address, "{what} listens"),
        None => tracing::info!(%place, "{what} listens"),
    }
    Ok(Some(listener))
}

/// Returns a stream that yields a value after each SIGHUP. Several signals can become one value.
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
