//! Section `daemon.push_events`: the address for events of registries, their senders, and the secrets that authenticate
//! the senders. The module `push_events` reads the content of the events.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::secret::read_secret;
use super::socket_path::check_socket_path;
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::keys::table::{ANY, Key, SafeForm, Shape, Table, key};
use crate::config::model::entry::EntryName;
use crate::config::model::push_events::{HookKind, PushEvents, Receiver};
use crate::config::model::status::StatusPort;
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::oci::RegistryHost;

pub(crate) const PUSH_EVENTS_KEY: Key = key(
    "push_events",
    Shape::Map(&PUSH_EVENTS),
    "Port for push events of registries. An event runs the entries that read from the repository of the event, and \
     only for the pushed tag. Default: none.",
    "",
)
.secret();

pub(crate) static PUSH_EVENTS: Table = Table {
    place: "under `push_events`",
    groups: &[&[
        key(
            "listen",
            Shape::Text { pattern: r"^(unix:.+|.+:[0-9]+)$" },
            "Address that receives events, as POST /hooks/NAME: an address with its port, or unix:PATH. The port does \
             not speak TLS: put a proxy in front of the port.",
            r#""0.0.0.0:9181""#,
        )
        .safe_as(SafeForm::Host),
        key("receivers", Shape::MapOf(&RECEIVER), "Senders of events, by the NAME in the path.", ""),
    ]],
    required: &["listen", "receivers"],
};

pub(crate) static RECEIVER: Table =
    Table { place: "under a receiver", groups: &[RECEIVER_KEYS], required: &["kind", "secret"] };

const RECEIVER_KEYS: &[Key] = &[
    key("kind", Shape::Word(&HookKind::WORDS), "Kind of the sender.", r#""harbor""#).safe_as(SafeForm::Words),
    key(
        "secret",
        Shape::Secret,
        "Secret of the sender: its bearer token, or the key of GitHub's signature. At least 16 characters.",
        r#"{"file": "/run/secrets/hook"}"#,
    ),
    key(
        "registry",
        ANY,
        "Registry of these events, by the name that entries use. Default: the registry that the event names.",
        r#""registry.internal:5000""#,
    )
    .safe_as(SafeForm::Host),
];

/// Reads the address for events and their senders. Returns `None` if the reader recorded a problem.
pub(crate) fn read_push_events(reader: &Reader<'_>, value: &Value<'_>) -> Option<PushEvents> {
    let fields = reader.fields(value, &PUSH_EVENTS)?;
    let listen = fields.get("listen").and_then(|value| {
        let text = reader.text(value, "an address with its port, or unix:PATH")?;
        reader.accept(value, parse_address(&text))
    });
    let receivers = fields.get("receivers").and_then(|value| read_receivers(reader, value));
    fields.assert_all_read();
    Some(PushEvents { listen: listen?, receivers: receivers? })
}

fn parse_address(text: &str) -> Result<StatusPort, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("the path is missing after \"unix:\": write unix:/run/transship/push-events.sock".to_owned()),
        Some(path) => check_socket_path(path.len()).map(|()| StatusPort::Unix(path.into())),
        None => {
            let address: Result<SocketAddr, _> = text.replacen("localhost:", "127.0.0.1:", 1).parse();
            let expected = "write an IP address with its port like 0.0.0.0:9181, or unix:PATH";
            address.map(StatusPort::Tcp).map_err(|_| format!("{text:?} is not an address to listen on: {expected}"))
        }
    }
}

fn read_receivers(reader: &Reader<'_>, value: &Value<'_>) -> Option<BTreeMap<EntryName, Receiver>> {
    if !matches!(value.node, Node::Map(_)) || value.pairs().next().is_none() {
        reader.refuse(value, "expected a map of at least one receiver, with the names of the receivers as keys");
        return None;
    }
    let mut receivers = BTreeMap::new();
    for (name, value) in value.pairs() {
        let receiver = read_receiver(reader, &value);
        let Ok(name) = name.parse::<EntryName>() else {
            let message = "the name of a receiver must have 1 to 64 letters, digits, `.`, `_` and `-`";
            reader.add_problem(Diagnostic::new(&value.path, Part::Key, message));
            continue;
        };
        match receiver {
            Some(_) if receivers.contains_key(&name) => reader.refuse(&value, format!("duplicate receiver `{name}`")),
            Some(receiver) => drop(receivers.insert(name, receiver)),
            None => {}
        }
    }
    Some(receivers)
}

fn read_receiver(reader: &Reader<'_>, value: &Value<'_>) -> Option<Receiver> {
    let fields = reader.fields(value, &RECEIVER)?;
    let kind = fields.get("kind").and_then(|value| {
        let text = reader.word_text(value, "the kind of a sender")?;
        reader.accept(value, text.parse::<HookKind>())
    });
    let secret = fields.get("secret").and_then(|value| {
        let secret = read_secret(reader, value)?;
        if secret.known_length().is_some_and(|length| length < Receiver::SHORTEST_SECRET) {
            let message = format!(
                "the secret is too short and can be guessed: write at least {} characters",
                Receiver::SHORTEST_SECRET
            );
            reader.refuse_with_hint(value, message, "create one with `openssl rand -hex 32`");
        }
        Some(secret)
    });
    let registry = fields.get("registry").map(|value| reader.parsed::<RegistryHost>(value, "the host of a registry"));
    fields.assert_all_read();
    Some(Receiver { kind: kind?, secret: secret?, registry: registry.map_or(Some(None), |host| host.map(Some))? })
}
