//! Main loop of the daemon. The loop:
//! - starts due runs and applies their events;
//! - applies edits of the configuration;
//! - executes commands;
//! - updates the snapshot for the status port;
//! - shuts down cleanly.
//!
//! The caller owns the signals, the listener and the journal. The loop owns all other state.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::loop_state::{Environment, ITERATION, Service};
use super::shutdown::LAST_WAIT;
use crate::config::Config;
use crate::daemon::control::Commands;
use crate::daemon::status::state::DaemonState;
use crate::journal::{Journal, JournalError};
use crate::oci::Digest;
use crate::status::{Metrics, Snapshot};
use crate::sync::{RunObserver, recover_at_start};

/// Arguments of [`serve`].
pub struct Setup {
    /// Path of the configuration file. The loop reads the file again after each change.
    pub path: PathBuf,
    /// Digest of the configuration file and of its included files, computed by [`crate::config::content`] right before
    /// `config` was read. The loop compares the files with this digest to detect edits before the start of the loop.
    pub content: Option<Digest>,
    /// Configuration that was read from the file.
    pub config: Config,
    /// Journal that records the runs.
    pub journal: Journal,
    /// Environment from which `${NAME}` is expanded.
    pub environment: Environment,
    /// Channel that sends snapshots to the status port.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Metrics that the loop updates.
    pub metrics: Arc<Metrics>,
    /// Channel with a value for each request to read the file again (SIGHUP).
    pub reload: mpsc::Receiver<()>,
    /// Commands for the running daemon.
    pub commands: Commands,
    /// Channel that sends the configuration in force to the port for push events.
    pub in_force: watch::Sender<Arc<Config>>,
    /// Token that is cancelled to shut the daemon down.
    pub shutdown: CancellationToken,
}

/// Runs the daemon until `shutdown` is cancelled. Then waits until the runs have finished their current tags, but at
/// most for the configured grace period.
///
/// # Errors
/// Returns an error if the earlier runs cannot be read from the journal. If the journal fails later, the daemon
/// continues, but the runs fail.
pub async fn serve(setup: Setup) -> Result<(), JournalError> {
    let Setup { path, content, config, journal, environment, snapshots, metrics, in_force, shutdown, .. } = setup;
    let (mut reload, mut commands) = (setup.reload, setup.commands);
    let (observer, mut events) = RunObserver::new();
    let (edit, mut edits) = mpsc::channel(1);
    let state = DaemonState::new(&path, &journal, snapshots, metrics).await?;
    let mut service = Service::new(path, config, journal, environment, observer, state, edit);
    service.in_force = in_force;
    service.last_content = service.last_content.with_files(content);
    service.resume_from_journal().await?;
    // The recovery of open intents is a separate task, because a target may take long to respond.
    let recovering = tokio::spawn(recover_at_start(service.engine.clone(), service.entries.clone()));
    let notices = service.notices.clone();
    let delivering = notices.deliver();
    service.systemd.ready(&service.state.status_line());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = %service.path.display(),
        entries = service.entries.len(),
        journal = %service.config.daemon.journal.display(),
        "started"
    );
    loop {
        service.start_due(Utc::now());
        service.update_status().await;
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some((entry, event)) = events.recv() => service.state.apply_event(entry, event),
            Some(ended) = service.runs.join_next() => service.end_run(ended),
            Some(()) = edits.recv() => service.reload_if_changed(false).await,
            Some(()) = reload.recv() => service.reload_if_changed(true).await,
            command = commands.next() => service.handle_command(command).await,
            () = tokio::time::sleep(ITERATION) => {}
        }
    }
    recovering.abort();
    // Senders of later commands get `Refusal::Ending`.
    drop(commands);
    service.drain(events).await;
    notices.close(delivering, LAST_WAIT).await;
    tracing::info!("ended");
    Ok(())
}
