//! Socket in place of systemd's, which receives the messages of a daemon (`sd_notify`).

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Instant;

use super::programs::{DEADLINE, Running};
use super::site::Site;

/// Receiver of a daemon's messages, in place of systemd.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Creates its socket in the folder of a site.
    pub fn new(site: &Site) -> Self {
        let path = site.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path }
    }

    /// Starts the daemon of a site, which sends its messages to this socket.
    pub fn start(&self, site: &Site) -> Running {
        Running::start(site.command(&["run"]).env("NOTIFY_SOCKET", &self.path))
    }

    /// Returns the lines of the next message that contains the line `wanted`.
    #[track_caller]
    pub fn wait_for_message(&self, wanted: &str) -> Vec<String> {
        self.wait_for(wanted, |lines| lines.iter().any(|line| line == wanted))
    }

    /// Returns the next status for which `wanted` returns true.
    #[track_caller]
    pub fn wait_for_status(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let status = |lines: &[String]| lines.iter().find_map(|line| Some(line.strip_prefix("STATUS=")?.to_owned()));
        let lines = self.wait_for(what, |lines| status(lines).is_some_and(|status| wanted(&status)));
        status(&lines).expect("a status")
    }

    #[track_caller]
    fn wait_for(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut buffer = [0; 4096];
        // The daemon reports each iteration of its loop every second, so the socket's own timeout never applies.
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
            let lines: Vec<String> = String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect();
            if wanted(&lines) {
                return lines;
            }
        }
        panic!("waiting for {what}: the deadline is over")
    }

    /// Returns the time at which a reload starts and the status at its end. The two messages must follow each other.
    #[track_caller]
    pub fn reload(&self) -> (u64, String) {
        let beginning = self.wait_for_message("RELOADING=1");
        let time = beginning.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse().ok());
        let end = self.wait_for_message("READY=1");
        let status = end.iter().find_map(|line| line.strip_prefix("STATUS=")).expect("a status");
        (time.expect("the time, in the same message"), status.to_owned())
    }
}
