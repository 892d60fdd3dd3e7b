//! Client of systemd's journal in its native protocol (systemd, "Native Journal Protocol"). Each log line is one
//! datagram of fields. The protocol sends the length of each value before the value, so a value cannot add a field.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::form::{on_one_line, priority, text};
use super::line::{BLOCK, LogLine};
use crate::cli::output::escape::printable;

pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Maximum length of a field name, in characters (journald, `valid_field`).
const LONGEST_NAME: usize = 64;

pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Creates a client of the journal at this path. The socket does not need to exist yet.
    ///
    /// # Errors
    /// Fails if the operating system cannot create a socket.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // If journald is too slow, a send fails and does not block the program.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Sends a log line as one journal entry. Each call opens the path again, because journald may have restarted.
    ///
    /// # Errors
    /// Fails if no process listens, if journald's queue is full, or if the datagram is too long.
    pub(super) fn send(&self, line: &LogLine) -> io::Result<()> {
        self.socket.send_to(&entry(line), &self.path).map(drop)
    }
}

fn entry(line: &LogLine) -> Vec<u8> {
    let mut entry = Vec::new();
    push_field(&mut entry, "MESSAGE", &text(line));
    push_field(&mut entry, "PRIORITY", &priority(line.level).to_string());
    push_field(&mut entry, "SYSLOG_IDENTIFIER", "transship");
    push_field(&mut entry, "TRANSSHIP_MODULE", &line.module);
    for (name, value) in line.fields.ordered() {
        let value = match value {
            Value::String(text) if name == BLOCK => printable(text),
            Value::String(text) => on_one_line(text),
            other => other.to_string(),
        };
        push_field(&mut entry, &field_name(name), &value);
    }
    entry
}

/// Returns the journal name of a field: `TRANSSHIP_` and the name. The journal permits only upper-case letters, digits
/// and `_`, so each other character becomes `_`.
fn field_name(name: &str) -> String {
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("TRANSSHIP_{}", letters.collect::<String>()).chars().take(LONGEST_NAME).collect()
}

fn push_field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}
