//! HTTP GET of the status port, as a health check sends it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Returns the status and the body of `GET path` at `address`; `None` if there is no answer.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Returns the JSON of `GET /status`.
pub fn status(address: &str) -> Option<Value> {
    let (_, body) = get(address, "/status").filter(|(status, _)| *status == 200)?;
    serde_json::from_str(&body).ok()
}
