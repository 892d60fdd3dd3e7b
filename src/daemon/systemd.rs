//! Notifications to systemd (`sd_notify`). Without systemd, no call has an effect.
//!
//! The daemon reports the beginning and the end of every reload, including failed reloads. Under `Type=notify-reload`,
//! the unit stays in the state "reloading" until systemd receives the report of the end.
//!
//! No function in this file blocks. If the send buffer of the socket is full, the message is queued. Queued messages
//! are sent in order when the buffer has space again.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// Maximum number of queued messages. If the queue is full, the oldest message is dropped, because later messages
/// contain the current state.
const MAX_UNSENT: usize = 32;

/// Connection to systemd.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    socket: Option<UnixDatagram>,
    /// Messages that wait until the send buffer of the socket has space, the oldest first.
    unsent: VecDeque<String>,
}

impl Systemd {
    /// Connects to the socket that the environment names (`NOTIFY_SOCKET`).
    pub(super) fn from_environment() -> Self {
        env::var_os("NOTIFY_SOCKET").map(|address| Self::connect(&address)).unwrap_or_default()
    }

    fn connect(address: &OsStr) -> Self {
        let socket = connect_socket(address).inspect_err(|error| tracing::warn!(%error, "sd_notify is unavailable"));
        Self { socket: socket.ok(), unsent: VecDeque::new() }
    }

    /// Reports that the daemon is ready. `systemctl status` shows the text `status`.
    pub(super) fn ready(&mut self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reports that the daemon is about to read the configuration again.
    pub(super) fn reloading(&mut self) {
        // Without the monotonic time, systemd ignores the report of a reload's beginning (systemd.service,
        // "notify-reload").
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
        }
    }

    /// Reports the end of a reload. If the new configuration was refused, `status` contains the problem.
    pub(super) fn reloaded(&mut self, status: &str) {
        self.ready(status);
    }

    /// Reports that the daemon is shutting down.
    pub(super) fn stopping(&mut self) {
        self.notify(&[NotifyState::Stopping]);
    }

    /// Reports to systemd's watchdog that the loop is alive. `status` is the new text for `systemctl status`, or `None`
    /// if the text is unchanged.
    pub(super) fn alive(&mut self, status: Option<&str>) {
        match status {
            Some(status) => self.notify(&[NotifyState::Watchdog, NotifyState::Status(status)]),
            // This report is not queued, because the next iteration sends the same report.
            None if !self.unsent.is_empty() => self.flush(),
            None => self.notify(&[NotifyState::Watchdog]),
        }
    }

    fn notify(&mut self, states: &[NotifyState<'_>]) {
        if self.socket.is_none() {
            return;
        }
        let mut message = String::new();
        for state in states {
            // Writing to a string does not fail.
            let _ = writeln!(message, "{state}");
        }
        if self.unsent.len() == MAX_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
        self.flush();
    }

    /// Sends queued messages until the queue is empty or the send buffer is full.
    fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        while let Some(message) = self.unsent.front() {
            match socket.send(message.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => tracing::debug!(%error, "sd_notify failed"),
                Ok(_) => {}
            }
            self.unsent.pop_front();
        }
    }
}

/// Connects a non-blocking socket to `address`, which is a path or `@` and an abstract name (sd_notify(3)).
fn connect_socket(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the received messages except the watchdog messages. Commas replace the line breaks within a message.
    fn receive(socket: &UnixDatagram) -> Vec<String> {
        let message = || {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).trim().replace('\n', ","))
        };
        std::iter::from_fn(message).filter(|message| message != "WATCHDOG=1").collect()
    }

    #[test]
    fn unread_socket_blocks_nothing_and_keeps_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut systemd = Systemd::connect(path.as_os_str());
        for _ in 0..10_000 {
            systemd.alive(None);
        }
        assert_eq!(systemd.unsent.len(), 1, "watchdog messages do not accumulate");
        systemd.unsent.clear();
        systemd.reloading();
        systemd.reloaded("new");
        systemd.alive(Some("working"));
        assert_eq!(receive(&socket), Vec::<String>::new());
        systemd.alive(None);
        let messages = receive(&socket);
        assert!(messages[0].starts_with("RELOADING=1,MONOTONIC_USEC="), "{messages:?}");
        assert_eq!(messages[1..], ["READY=1,STATUS=new", "WATCHDOG=1,STATUS=working"]);
        for _ in 0..10_000 {
            systemd.ready("again");
        }
        assert_eq!(systemd.unsent.len(), MAX_UNSENT);
    }

    #[test]
    fn abstract_socket_name_is_notified() {
        let name = format!("@transship-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Systemd::connect(OsStr::new(&name)).stopping();
        assert_eq!(receive(&socket), ["STOPPING=1"]);
        let mut unconnected = Systemd::default();
        unconnected.ready("well");
        assert!(unconnected.unsent.is_empty());
        assert!(Systemd::connect(OsStr::new("/nowhere/at/all")).socket.is_none());
    }
}
