//! Listens to what a daemon tells systemd (`sd_notify`).

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Instant;

use super::programs::{DEADLINE, Running};
use super::site::Site;

/// Listens as systemd does.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// With its socket in the folder of a site.
    pub fn new(site: &Site) -> Self {
        let path = site.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path }
    }

    /// The daemon of a site, which tells what it does.
    pub fn start(&self, site: &Site) -> Running {
        Running::start(site.command(&["run"]).env("NOTIFY_SOCKET", &self.path))
    }

    /// The next message in which some line is `wanted`, in lines.
    #[track_caller]
    pub fn heard(&self, wanted: &str) -> Vec<String> {
        self.heard_where(wanted, |lines| lines.iter().any(|line| line == wanted))
    }

    /// The next status that is told of which `wanted` holds.
    #[track_caller]
    pub fn status_where(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let status = |lines: &[String]| lines.iter().find_map(|line| Some(line.strip_prefix("STATUS=")?.to_owned()));
        let lines = self.heard_where(what, |lines| status(lines).is_some_and(|status| wanted(&status)));
        status(&lines).expect("a status")
    }

    #[track_caller]
    fn heard_where(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut buffer = [0; 4096];
        // The loop's turns are told every second, so the socket alone would never be silent.
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
            let lines: Vec<String> = String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect();
            if wanted(&lines) {
                return lines;
            }
        }
        panic!("waiting for {what}: time is up")
    }

    /// The times of a reload's beginning and the status at its end, which must follow each other.
    #[track_caller]
    pub fn reload(&self) -> (u64, String) {
        let beginning = self.heard("RELOADING=1");
        let time = beginning.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse().ok());
        let end = self.heard("READY=1");
        let status = end.iter().find_map(|line| line.strip_prefix("STATUS=")).expect("a status");
        (time.expect("the time, in the same message"), status.to_owned())
    }
}
