//! Entries of systemd's journal by its native protocol (systemd, "Native Journal Protocol"): a datagram with fields, each with
//! its length before it, so that no value can become another field. Not lines on standard error: those are [`super::form`]'s.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::form::{on_one_line, priority, text};
use super::line::{BLOCK, Line};
use crate::cli::output::printable;

/// Where the journal takes entries.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest name of a field (journald, `valid_field`).
const LONGEST_NAME: usize = 64;

/// The way to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// To the journal that listens there, now or later.
    ///
    /// # Errors
    /// Where the system gives no socket.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A journal that hangs is not waited for.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Sends a line as one entry. By path each time, so that a journal that was started anew is found.
    ///
    /// # Errors
    /// Where nobody listens, where too much waits, or where the entry is too long for a datagram.
    pub(super) fn send(&self, line: &Line) -> io::Result<()> {
        self.socket.send_to(&entry(line), &self.path).map(drop)
    }
}

fn entry(line: &Line) -> Vec<u8> {
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &text(line));
    put(&mut entry, "PRIORITY", &priority(line.level).to_string());
    put(&mut entry, "SYSLOG_IDENTIFIER", "transship");
    put(&mut entry, "TRANSSHIP_MODULE", &line.module);
    for (name, value) in line.fields.told() {
        let value = match value {
            Value::String(text) if name == BLOCK => printable(text),
            Value::String(text) => on_one_line(text),
            other => other.to_string(),
        };
        put(&mut entry, &field_name(name), &value);
    }
    entry
}

/// `TRANSSHIP_` and the name in the letters that the journal allows.
fn field_name(name: &str) -> String {
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("TRANSSHIP_{}", letters.collect::<String>()).chars().take(LONGEST_NAME).collect()
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}
