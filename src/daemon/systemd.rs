//! What systemd is told (`sd_notify`). Without systemd every call is nothing.

use sd_notify::NotifyState;

/// The daemon has taken up its work.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What `systemctl status` shows.
pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The daemon is ending.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The loop turned.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
