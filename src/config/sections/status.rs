//! Section `daemon.status`: the address of the status port, and the clients that may read it. An address that other
//! machines can reach must be written together with its protection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::credentials::secret;
use crate::config::Receiver;
use crate::config::decode::MAX_SOCKET_PATH;
use crate::config::keys::{Key, Shape, Table, key, with_default};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::config::{Readers, Status, StatusPort};

const DEFAULT: StatusPort = StatusPort::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180));

/// Default address of the status port: `127.0.0.1:9180`.
impl Default for StatusPort {
    fn default() -> Self {
        DEFAULT
    }
}

/// Pattern of the address alone, for a value that is not a map.
pub(crate) const PLACE: &str = r"^(off|unix:.+|.+:[0-9]+)$";

pub(crate) static STATUS: Table = Table { place: "under `status`", groups: &[KEYS], required: &["listen"] };

const KEYS: &[Key] = &[
    key(
        "listen",
        Shape::Text { pattern: r"^(unix:.+|.+:[0-9]+)$" },
        "Where it is answered: an address with its port, or unix:PATH. There is no TLS.",
        r#""0.0.0.0:9180""#,
    ),
    key(
        "token",
        Shape::Secret,
        "What readers prove themselves by: a bearer token, or in a browser the password of any user; 16 characters \
         at least. \
         /healthz and /readyz are answered without it.",
        r#"{"file": "/run/secrets/status-token"}"#,
    ),
    with_default(
        key(
            "insecure",
            Shape::Bool,
            "Whoever reaches it may read, and by any name: for an address that something else protects.",
            "true",
        ),
        "false",
    ),
];

/// Reads the status port. Returns `None` if the reader kept a problem.
pub(crate) fn status(reader: &Reader<'_>, value: Option<&Value<'_>>) -> Option<Status> {
    let Some(value) = value else { return Some(Status { listen: DEFAULT, readers: Readers::Local }) };
    if matches!(value.node, Node::Map(_)) {
        return guarded(reader, value);
    }
    let listen = place(reader, value)?;
    if let Some(address) = reachable_from_elsewhere(&listen) {
        let hint = format!("write {{listen: \"{address}\", token: {{file: PATH}}}}, or 127.0.0.1:{}", address.port());
        reader.wrong_with_hint(value, unprotected(address), hint);
        return None;
    }
    Some(Status { listen, readers: Readers::Local })
}

/// Reads a map: the address and its protection.
fn guarded(reader: &Reader<'_>, value: &Value<'_>) -> Option<Status> {
    let fields = reader.fields(value, &STATUS)?;
    let written = fields.get("listen");
    let listen = written.and_then(|value| place(reader, value));
    let token = fields.get("token").map(|value| token(reader, value));
    let insecure = fields.get("insecure").and_then(|value| reader.bool(value)).unwrap_or_default();
    fields.done();
    if token.is_some() && insecure {
        reader.wrong(value, "`token` and `insecure` do not go together: one of them is enough");
        return None;
    }
    let (written, listen) = (written?, listen?);
    let readers = match token {
        Some(token) => Readers::Token(token?),
        None if insecure => Readers::Anyone,
        None => Readers::Local,
    };
    if listen == StatusPort::Off {
        reader.wrong_with_hint(
            written,
            "where nothing is answered there is nothing more to say",
            "write `status: off`",
        );
        return None;
    }
    if let (Readers::Local, Some(address)) = (&readers, reachable_from_elsewhere(&listen)) {
        let hint = "write `token: {file: PATH}` beside it, or `insecure: true` where all who reach it may read";
        reader.wrong_with_hint(written, unprotected(address), hint);
        return None;
    }
    Some(Status { listen, readers })
}

fn token(reader: &Reader<'_>, value: &Value<'_>) -> Option<crate::registry::Secret> {
    let token = secret(reader, value)?;
    if token.known_length().is_some_and(|length| length < Receiver::SHORTEST_SECRET) {
        let message = format!("the token can be guessed: {} characters at least", Receiver::SHORTEST_SECRET);
        reader.wrong_with_hint(value, message, "make one with `openssl rand -hex 32`");
    }
    Some(token)
}

/// Returns the address if other machines can reach it.
fn reachable_from_elsewhere(listen: &StatusPort) -> Option<&SocketAddr> {
    match listen {
        StatusPort::Tcp(address) if !address.ip().is_loopback() => Some(address),
        _ => None,
    }
}

fn unprotected(address: &SocketAddr) -> String {
    format!("\"{address}\" can be reached from other machines, without any protection")
}

fn place(reader: &Reader<'_>, value: &Value<'_>) -> Option<StatusPort> {
    match value.node {
        Node::Number(port) => {
            let message = format!("expected an address with its port, found the number {port}");
            reader.wrong_with_hint(value, message, format!("write 127.0.0.1:{port}"));
            None
        }
        Node::Bool(false) => {
            reader.wrong_with_hint(value, "expected an address with its port, found the boolean false", "write off");
            None
        }
        _ => {
            let text = reader.text(value, "127.0.0.1:9180, unix:PATH or off")?;
            reader.keep(value, status_port(&text))
        }
    }
}

fn status_port(text: &str) -> Result<StatusPort, String> {
    if text == "off" {
        return Ok(StatusPort::Off);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.len() {
            0 => Err("the path is missing after \"unix:\": write unix:/run/transship/status.sock".to_owned()),
            length if length > MAX_SOCKET_PATH => {
                Err(format!("the path of the socket has {length} bytes: {MAX_SOCKET_PATH} at most"))
            }
            _ => Ok(StatusPort::Unix(path.into())),
        };
    }
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    let no_address = |_| format!("{text:?} is no address of the status port: write 127.0.0.1:9180, unix:PATH or off");
    numeric.parse().map(StatusPort::Tcp).map_err(no_address)
}
