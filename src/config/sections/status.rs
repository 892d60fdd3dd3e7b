//! Section `daemon.status`: the address of the status port, and the clients that may read the status. If other machines
//! can reach the address, the section must have `token` or `insecure`.

use std::net::SocketAddr;

use super::secret::read_secret;
use super::socket_path::check_socket_path;
use crate::config::keys::table::{Key, Shape, Table, key};
use crate::config::model::push_events::Receiver;
use crate::config::model::status::{Readers, Status, StatusPort};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::registry::Secret;

/// Pattern of an address. The pattern applies if the value is a text.
const ADDRESS: &str = r"^(off|unix:.+|.+:[0-9]+)$";

pub(crate) const STATUS_KEY: Key = key(
    "status",
    Shape::TextOr { pattern: ADDRESS, keys: &STATUS },
    "Address of health, status and metrics: a loopback address with its port, unix:PATH, or `off`. Any other address \
     needs a map that also sets `token` or `insecure`.",
    r#""unix:/run/transship/status.sock""#,
)
.with_default(r#""127.0.0.1:9180""#);

pub(crate) static STATUS: Table = Table { place: "under `status`", groups: &[KEYS], required: &["listen"] };

const KEYS: &[Key] = &[
    key(
        "listen",
        Shape::Text { pattern: r"^(unix:.+|.+:[0-9]+)$" },
        "Address with its port, or unix:PATH. The port does not speak TLS.",
        r#""0.0.0.0:9180""#,
    ),
    key(
        "token",
        Shape::Secret,
        "Token that readers must send, at least 16 characters: as a bearer token, or in a browser as the password \
         of any user. /healthz and /readyz need no token.",
        r#"{"file": "/run/secrets/status-token"}"#,
    )
    .secret(),
    key(
        "insecure",
        Shape::Bool,
        "`true` permits every client that can reach the address to read, by any host name. Use this key only for an \
         address that is protected by other means.",
        "true",
    )
    .with_default("false"),
];

/// Reads the section. If the reader recorded a problem, returns `None`.
pub(crate) fn read_status(reader: &Reader<'_>, value: Option<&Value<'_>>) -> Option<Status> {
    let Some(value) = value else { return Some(Status { listen: StatusPort::default(), readers: Readers::Local }) };
    if matches!(value.node, Node::Map(_)) {
        return read_guarded(reader, value);
    }
    let listen = read_address(reader, value)?;
    if let Some(address) = reachable_from_elsewhere(&listen) {
        let hint = format!("write {{listen: \"{address}\", token: {{file: PATH}}}}, or 127.0.0.1:{}", address.port());
        reader.refuse_with_hint(value, unprotected(address), hint);
        return None;
    }
    Some(Status { listen, readers: Readers::Local })
}

fn read_guarded(reader: &Reader<'_>, value: &Value<'_>) -> Option<Status> {
    let fields = reader.fields(value, &STATUS)?;
    let written = fields.get("listen");
    let listen = written.and_then(|value| read_address(reader, value));
    let token = fields.get("token").map(|value| read_token(reader, value));
    let insecure = fields.get("insecure").and_then(|value| reader.bool(value)).unwrap_or_default();
    fields.assert_all_read();
    if token.is_some() && insecure {
        reader.refuse(value, "`token` and `insecure` cannot be used together: remove one of them");
        return None;
    }
    let (written, listen) = (written?, listen?);
    let readers = match token {
        Some(token) => Readers::Token(token?),
        None if insecure => Readers::Anyone,
        None => Readers::Local,
    };
    if listen == StatusPort::Off {
        reader.refuse_with_hint(written, "a status port that is off takes no other keys", "write `status: off`");
        return None;
    }
    if let (Readers::Local, Some(address)) = (&readers, reachable_from_elsewhere(&listen)) {
        let hint = "also write `token: {file: PATH}`, or `insecure: true` if every client that reaches the address may \
                    read";
        reader.refuse_with_hint(written, unprotected(address), hint);
        return None;
    }
    Some(Status { listen, readers })
}

fn read_token(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    let token = read_secret(reader, value)?;
    if token.known_length().is_some_and(|length| length < Receiver::SHORTEST_SECRET) {
        let message = format!(
            "the token is too short and can be guessed: write at least {} characters",
            Receiver::SHORTEST_SECRET
        );
        reader.refuse_with_hint(value, message, "create one with `openssl rand -hex 32`");
    }
    Some(token)
}

/// Returns the address if other machines can reach the address. If not, returns `None`.
fn reachable_from_elsewhere(listen: &StatusPort) -> Option<&SocketAddr> {
    match listen {
        StatusPort::Tcp(address) if !address.ip().is_loopback() => Some(address),
        _ => None,
    }
}

fn unprotected(address: &SocketAddr) -> String {
    format!("\"{address}\" is reachable from other machines and has no protection")
}

fn read_address(reader: &Reader<'_>, value: &Value<'_>) -> Option<StatusPort> {
    match value.node {
        Node::Number(port) => {
            let message = format!("expected an address with its port, found the number {port}");
            reader.refuse_with_hint(value, message, format!("write 127.0.0.1:{port}"));
            None
        }
        Node::Bool(false) => {
            reader.refuse_with_hint(value, "expected an address with its port, found the boolean false", "write `off`");
            None
        }
        _ => {
            let text = reader.text(value, "127.0.0.1:9180, unix:PATH or off")?;
            reader.accept(value, parse_address(&text))
        }
    }
}

fn parse_address(text: &str) -> Result<StatusPort, String> {
    if text == "off" {
        return Ok(StatusPort::Off);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("the path is missing after \"unix:\": write unix:/run/transship/status.sock".to_owned());
        }
        check_socket_path(path.len())?;
        return Ok(StatusPort::Unix(path.into()));
    }
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    let no_address =
        |_| format!("{text:?} is not an address of the status port: write 127.0.0.1:9180, unix:PATH or off");
    numeric.parse().map(StatusPort::Tcp).map_err(no_address)
}
