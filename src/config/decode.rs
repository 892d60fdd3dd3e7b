//! From nodes to the types of [`super::model`]: the top level, `daemon` and `registries`. Entries are in
//! [`super::entry`], what only shows between them in [`super::across`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::expand::{expand, is_name};
use super::keys::{CREDENTIALS, DAEMON, DEFAULTS, LIMITS, MAX_GRACE, MIN_BANDWIDTH, MIN_MEMORY, REGISTRY, ROOT};
use super::node::Node;
use super::reader::{Reader, Value};
use super::report::{Found, Part};
use super::secrecy::may_show;
use super::{Config, Daemon, Environment, StatusPort, across, entry, scalar, transport};
use crate::oci::RegistryHost;
use crate::registry::{Credentials, Kind, Limits, Options, Secret};

const DEFAULT_STATUS: StatusPort = StatusPort::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180));
/// What the kernel takes as the path of a socket.
const MAX_SOCKET_PATH: usize = 107;

/// The whole file, or all that is wrong with it.
pub(super) fn config(root: &Node, environment: Environment<'_>) -> Result<Config, Vec<Found>> {
    let reader = Reader::new(environment);
    let config = read(&reader, root);
    let found = reader.finish();
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(found),
    }
}

fn read(reader: &Reader<'_>, root: &Node) -> Option<Config> {
    let root = Value { node: root, path: Vec::new() };
    if *root.node == Node::Null {
        reader.wrong_with_hint(&root, "the file says nothing", "begin with `version: 1`");
        return None;
    }
    // Of another version nothing else can be judged.
    if let Some((_, value)) = root.pairs().find(|(key, _)| *key == "version")
        && *value.node != Node::Number("1".to_owned())
    {
        reader.wrong_with_hint(&value, "this version of the format is not known", "write `version: 1`");
        return None;
    }
    let fields = reader.fields(&root, &ROOT)?;
    fields.get("version");
    let daemon = daemon(reader, fields.get("daemon"), &root);
    let registries = fields.get("registries").map(|value| registries(reader, value)).unwrap_or_default();
    let defaults = fields.get("defaults").and_then(|value| reader.fields(value, &DEFAULTS));
    let defaults = defaults.map(|fields| {
        let settings = entry::settings(reader, &fields);
        fields.done();
        settings
    });
    let entries = fields.get("sync").and_then(|value| reader.items(value, "a list of entries (`[]` for none)"));
    let drafts: Vec<entry::Draft<'_>> = entries
        .unwrap_or_default()
        .iter()
        .filter_map(|value| entry::draft(reader, value, &defaults.clone().unwrap_or_default()))
        .collect();
    across::check(reader, &drafts);
    fields.done();
    let entries = drafts.into_iter().map(entry::Draft::entry).collect::<Option<_>>()?;
    Some(Config { daemon: daemon?, registries, entries })
}

fn daemon(reader: &Reader<'_>, value: Option<&Value<'_>>, root: &Value<'_>) -> Option<Daemon> {
    let nothing = Value { node: &Node::Null, path: root.path.clone() };
    let fields = reader.fields(value.unwrap_or(&nothing), &DAEMON)?;
    let journal = match fields.get("journal") {
        Some(value) => path(reader, value, "the path of a file"),
        None => {
            let found = default_journal(reader.environment);
            if found.is_none() {
                let message = "there is no place for the journal: STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set";
                reader.wrong_with_hint(value.unwrap_or(root), message, "write daemon.journal");
            }
            found
        }
    };
    let status = match fields.get("status") {
        Some(value) => status(reader, value),
        None => Some(DEFAULT_STATUS),
    };
    let at_once = fields.integer(reader, "entries_at_once").unwrap_or(4);
    let memory = fields.get("memory").map_or(Some(128 << 20), |value| reader.size(value, MIN_MEMORY));
    let grace = fields.get("shutdown_grace");
    let grace = grace.map_or(Some(Duration::from_secs(30)), |value| reader.duration(value, 0..=MAX_GRACE));
    fields.done();
    Some(Daemon {
        journal: journal?,
        status: status?,
        entries_at_once: at_once,
        memory: memory?,
        shutdown_grace: grace?,
    })
}

/// Where systemd says, else where the XDG base directory specification says; relative paths do not count there.
fn default_journal(environment: Environment<'_>) -> Option<PathBuf> {
    let folder = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several state directories by colons.
    let state = environment("STATE_DIRECTORY").and_then(|all| all.split(':').next().map(PathBuf::from));
    let state = state.filter(|path| !path.as_os_str().is_empty());
    let home = || folder("HOME").map(|home| home.join(".local/state"));
    let folder = state.or_else(|| Some(folder("XDG_STATE_HOME").or_else(home)?.join("transship")))?;
    Some(folder.join("journal.db"))
}

pub(super) fn path(reader: &Reader<'_>, value: &Value<'_>, expected: &str) -> Option<PathBuf> {
    let text = reader.text(value, expected)?;
    if text.is_empty() {
        reader.wrong(value, format!("expected {expected}, found nothing in it"));
        return None;
    }
    Some(text.into())
}

fn status(reader: &Reader<'_>, value: &Value<'_>) -> Option<StatusPort> {
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
    let address: SocketAddr = numeric
        .parse()
        .map_err(|_| format!("{text:?} is no address of the status port: write 127.0.0.1:9180, unix:PATH or off"))?;
    if !address.ip().is_loopback() {
        let port = address.port();
        return Err(format!(
            "{text:?} can be reached from other machines, without any protection: write 127.0.0.1:{port}"
        ));
    }
    Ok(StatusPort::Tcp(address))
}

fn registries(reader: &Reader<'_>, value: &Value<'_>) -> BTreeMap<RegistryHost, Options> {
    if !matches!(value.node, Node::Map(_) | Node::Null) {
        reader.wrong_type(value, "a map with the hosts of registries as its keys");
    }
    let mut registries = BTreeMap::new();
    let mut places: BTreeMap<RegistryHost, Vec<usize>> = BTreeMap::new();
    for (name, value) in value.pairs() {
        let options = options(reader, &value);
        let host: RegistryHost = match name.parse() {
            Ok(host) => host,
            Err(error) => {
                let message = if may_show(name, false) { error.to_string() } else { "not a registry host".to_owned() };
                reader.add(Found::new(&value.path, Part::Key, message));
                continue;
            }
        };
        if let Some(first) = places.get(&host) {
            let also = if host.as_str() == name { String::new() } else { format!(", which is {host},") };
            let message = format!("`{name}`{also} is here twice");
            reader.add(Found::new(&value.path, Part::Key, message).first(first, Part::Key));
        } else {
            places.insert(host.clone(), value.path.clone());
            registries.insert(host, options.unwrap_or_default());
        }
    }
    registries
}

fn options(reader: &Reader<'_>, value: &Value<'_>) -> Option<Options> {
    let fields = reader.fields(value, &REGISTRY)?;
    let credentials = fields.get("credentials").and_then(|value| credentials(reader, value));
    let plain_http = fields.get("plain_http").and_then(|value| reader.bool(value)).unwrap_or_default();
    let kind = fields.get("kind").and_then(|value| kind(reader, value));
    let limits = fields.get("limits").and_then(|value| limits(reader, value)).unwrap_or_default();
    let transport = transport::transport(reader, &fields, plain_http);
    fields.done();
    Some(Options { credentials, plain_http, kind, limits, transport })
}

fn kind(reader: &Reader<'_>, value: &Value<'_>) -> Option<Kind> {
    let text = reader.text(value, "acr, ecr, google or plain")?;
    reader.keep(value, text.parse())
}

fn limits(reader: &Reader<'_>, value: &Value<'_>) -> Option<Limits> {
    let fields = reader.fields(value, &LIMITS)?;
    let requests = fields.get("requests").and_then(|value| {
        let text = match value.node {
            Node::Number(text) => text.clone(),
            _ => reader.text(value, "a rate like 600/min")?,
        };
        reader.keep(value, scalar::requests(&text))
    });
    let bandwidth = fields.get("bandwidth").and_then(|value| reader.bandwidth(value, MIN_BANDWIDTH));
    let concurrent = fields.integer(reader, "concurrent");
    fields.done();
    Some(Limits { requests, bandwidth, concurrent })
}

fn credentials(reader: &Reader<'_>, value: &Value<'_>) -> Option<Credentials> {
    if !matches!(value.node, Node::Map(_)) {
        // Not repeated in the message: it may be a secret.
        reader.wrong(value, "expected a map of the keys username and password");
        return None;
    }
    let fields = reader.fields(value, &CREDENTIALS)?;
    let username = fields.get("username").and_then(|value| {
        let text = reader.text(value, "a user name")?;
        if text.is_empty() || text.contains(':') {
            reader.wrong(value, "a user name cannot be empty, nor have a colon in it");
            return None;
        }
        Some(text)
    });
    let password = fields.get("password").and_then(|value| secret(reader, value));
    fields.done();
    Some(Credentials { username: username?, password: password? })
}

/// No message here repeats what was written: it may be the secret.
fn secret(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    let pairs: Vec<(&str, Value<'_>)> = value.pairs().collect();
    match (value.node, pairs.as_slice()) {
        (Node::Text(text), _) => {
            let text = reader.keep(value, expand(text, reader.environment))?;
            known(reader, value, text, "the secret")
        }
        (_, [("env", name)]) => {
            let name_text = reader.text(name, "the name of an environment variable")?;
            if !is_name(&name_text) {
                reader.wrong(name, "this is not the name of an environment variable: letters, digits and `_`");
                return None;
            }
            match (reader.environment)(&name_text) {
                Some(text) => known(reader, name, text, &format!("the environment variable {name_text}")),
                None => {
                    reader.wrong(name, format!("the environment variable {name_text} is not set"));
                    None
                }
            }
        }
        (_, [("file", file)]) => {
            let path = path(reader, file, "the path of a file")?;
            reader.keep(file, readable(&path))?;
            Some(Secret::File(path))
        }
        (Node::Number(_) | Node::Bool(_), _) => {
            reader.wrong_with_hint(value, "a secret is text", "quote it");
            None
        }
        _ => {
            reader.wrong(value, "a secret is text, {env: NAME} or {file: PATH}");
            None
        }
    }
}

fn known(reader: &Reader<'_>, value: &Value<'_>, text: String, what: &str) -> Option<Secret> {
    if text.is_empty() {
        reader.wrong(value, format!("{what} is empty"));
        return None;
    }
    Some(Secret::Value(SecretString::from(text)))
}

fn readable(path: &Path) -> Result<(), String> {
    let cannot = |reason: &dyn std::fmt::Display| format!("the file {} cannot be read: {reason}", path.display());
    let kind = std::fs::metadata(path).map_err(|error| cannot(&error))?;
    if kind.is_dir() {
        return Err(cannot(&"it is a directory"));
    }
    // A pipe would wait for its writer; it is opened when the secret is needed.
    if kind.is_file() {
        std::fs::File::open(path).map_err(|error| cannot(&error))?;
    }
    Ok(())
}
