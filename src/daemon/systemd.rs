//! What systemd is told (`sd_notify`). Without systemd every call is nothing.
//!
//! A reload is told from its beginning to its end, good or bad: under `Type=notify-reload` systemd waits for both, and a
//! beginning without an end leaves the unit reloading for ever.

use sd_notify::NotifyState;

/// The daemon has taken up its work; `status` is what `systemctl status` shows.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is about to be read again.
pub(super) fn reloading() {
    // Without the time systemd takes no note of the beginning (systemd.service, "notify-reload").
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// Reading it again is over: the daemon works by the new configuration or goes on by the last good one, as `status` says.
pub(super) fn reloaded(status: &str) {
    ready(status);
}

/// The daemon is ending.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The loop turned; `status` is what `systemctl status` is to show, where that is another thing than before.
pub(super) fn alive(status: Option<&str>) {
    match status {
        Some(status) => tell(&[NotifyState::Watchdog, NotifyState::Status(status)]),
        None => tell(&[NotifyState::Watchdog]),
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
