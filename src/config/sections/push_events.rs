//! Section `daemon.push_events`: the address for events of registries, their senders, and the secrets that
//! authenticate them.
//! The module `push_events` reads the content of the events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};

use super::credentials::secret;
use crate::config::decode::MAX_SOCKET_PATH;
use crate::config::diagnostics::report::{Diagnostic, Part};
use crate::config::keys::{ANY, Key, Shape, Table, key};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::config::{Config, EntryName, StatusPort};
use crate::oci::RegistryHost;
use crate::registry::Secret;

/// Address for events, and their senders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushEvents {
    /// Any address or a socket file; never off.
    pub listen: StatusPort,
    /// Senders, each by the last part of its path; at least one.
    pub receivers: BTreeMap<EntryName, Receiver>,
}

/// Properties of the events of one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Kind of sender.
    pub kind: HookKind,
    /// Bearer token, or key of the signature.
    pub secret: Secret,
    /// Registry as entries name it; `None` means the registry that the events name.
    pub registry: Option<RegistryHost>,
}

impl Config {
    /// Returns the configured senders of events, by name.
    pub fn receivers(&self) -> impl Iterator<Item = (&EntryName, &Receiver)> {
        self.daemon.push_events.iter().flat_map(|port| &port.receivers)
    }
}

impl Receiver {
    /// Minimum length of a secret in bytes; a shorter secret can be guessed.
    pub const SHORTEST_SECRET: usize = 16;

    /// Returns the current secret: a secret in a file may have been replaced.
    ///
    /// # Errors
    /// Returns the reason why the secret is unusable, with the file's path: it cannot be read, or it has become one
    /// that can be guessed.
    pub async fn secret_now(&self) -> Result<SecretString, String> {
        let place = match &self.secret {
            Secret::File(path) => format!("{}: ", path.display()),
            Secret::Value(_) => String::new(),
        };
        let secret = self.secret.read().await.map_err(|error| format!("{place}{error}"))?;
        if secret.expose_secret().len() < Self::SHORTEST_SECRET {
            return Err(format!("{place}fewer than {} characters can be guessed", Self::SHORTEST_SECRET));
        }
        Ok(secret)
    }
}

/// Sender of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// CNCF Distribution (docker-registry).
    Distribution,
    /// Azure Container Registry.
    Acr,
    /// Harbor.
    Harbor,
    /// Docker Hub.
    DockerHub,
    /// GitHub, for its container registry.
    Ghcr,
}

impl HookKind {
    const ALL: [Self; 5] = [Self::Distribution, Self::Acr, Self::Harbor, Self::DockerHub, Self::Ghcr];
    const WORDS: [&'static str; 5] = ["distribution", "acr", "harbor", "docker_hub", "ghcr"];

    /// Returns the word for the sender in `sync.yaml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().zip(Self::WORDS).find(|(kind, _)| **kind == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for HookKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| format!("{text:?} is no kind of sender: expected one of {}", Self::WORDS.join(", ")))
    }
}

pub(crate) static HOOKS: Table = Table {
    place: "under `push_events`",
    groups: &[&[
        key(
            "listen",
            Shape::Text { pattern: r"^(unix:.+|.+:[0-9]+)$" },
            "Where events are taken, as POST /hooks/NAME: an address with its port, or unix:PATH. There is no TLS: \
             put a proxy \
             before it.",
            r#""0.0.0.0:9181""#,
        ),
        key("receivers", Shape::MapOf(&RECEIVER), "Who may send events, by the NAME in the path.", ""),
    ]],
    required: &["listen", "receivers"],
};

pub(crate) static RECEIVER: Table =
    Table { place: "under a receiver", groups: &[RECEIVER_KEYS], required: &["kind", "secret"] };

const RECEIVER_KEYS: &[Key] = &[
    key("kind", Shape::Word(&HookKind::WORDS), "Who sends.", r#""harbor""#),
    key(
        "secret",
        Shape::Secret,
        "What the sender proves itself by: the bearer token, or the key of GitHub's signature; 16 characters at least.",
        r#"{"file": "/run/secrets/hook"}"#,
    ),
    key(
        "registry",
        ANY,
        "The registry of these events as entries name it. Default: the one that the event names.",
        r#""registry.internal:5000""#,
    ),
];

/// Reads the address for events and their senders. Returns `None` if the reader kept a problem.
pub(crate) fn push_events(reader: &Reader<'_>, value: &Value<'_>) -> Option<PushEvents> {
    let fields = reader.fields(value, &HOOKS)?;
    let listen = fields.get("listen").and_then(|value| {
        let text = reader.text(value, "an address with its port, or unix:PATH")?;
        reader.keep(value, place(&text))
    });
    let receivers = fields.get("receivers").and_then(|value| receivers(reader, value));
    fields.done();
    Some(PushEvents { listen: listen?, receivers: receivers? })
}

fn place(text: &str) -> Result<StatusPort, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("the path is missing after \"unix:\": write unix:/run/transship/push-events.sock".to_owned()),
        Some(path) if path.len() > MAX_SOCKET_PATH => {
            Err(format!("the path of the socket has {} bytes: {MAX_SOCKET_PATH} at most", path.len()))
        }
        Some(path) => Ok(StatusPort::Unix(path.into())),
        None => {
            let address: Result<SocketAddr, _> = text.replacen("localhost:", "127.0.0.1:", 1).parse();
            let expected = "write an IP address with its port like 0.0.0.0:9181, or unix:PATH";
            address.map(StatusPort::Tcp).map_err(|_| format!("{text:?} is no address to listen at: {expected}"))
        }
    }
}

fn receivers(reader: &Reader<'_>, value: &Value<'_>) -> Option<BTreeMap<EntryName, Receiver>> {
    if !matches!(value.node, Node::Map(_)) || value.pairs().next().is_none() {
        reader.wrong(value, "expected a map with the names of receivers as its keys, one at least");
        return None;
    }
    let mut receivers = BTreeMap::new();
    for (name, value) in value.pairs() {
        let receiver = receiver(reader, &value);
        let Ok(name) = name.parse::<EntryName>() else {
            let message = "the name of a receiver has 1 to 64 letters, digits, `.`, `_` and `-`";
            reader.add(Diagnostic::new(&value.path, Part::Key, message));
            continue;
        };
        match receiver {
            Some(_) if receivers.contains_key(&name) => reader.wrong(&value, format!("`{name}` is here twice")),
            Some(receiver) => drop(receivers.insert(name, receiver)),
            None => {}
        }
    }
    Some(receivers)
}

fn receiver(reader: &Reader<'_>, value: &Value<'_>) -> Option<Receiver> {
    let fields = reader.fields(value, &RECEIVER)?;
    let kind = fields.get("kind").and_then(|value| {
        let text = reader.text(value, "the kind of a sender")?;
        reader.keep(value, text.parse::<HookKind>())
    });
    let secret = fields.get("secret").and_then(|value| {
        let secret = secret(reader, value)?;
        if secret.known_length().is_some_and(|length| length < Receiver::SHORTEST_SECRET) {
            let message = format!("the secret can be guessed: {} characters at least", Receiver::SHORTEST_SECRET);
            reader.wrong_with_hint(value, message, "make one with `openssl rand -hex 32`");
        }
        Some(secret)
    });
    let registry = fields.get("registry").map(|value| reader.parsed::<RegistryHost>(value, "the host of a registry"));
    fields.done();
    Some(Receiver { kind: kind?, secret: secret?, registry: registry.map_or(Some(None), |host| host.map(Some))? })
}
