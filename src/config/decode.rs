//! Decoder from nodes to the types of [`super::model`]: the top level, `daemon` and `registries`. Entries are in
//! [`super::sections::entry`]; checks between values are in [`super::cross_checks`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::place::{is_configuration, is_host_like};
use super::diagnostics::report::{Diagnostic, Part};
use super::diagnostics::sensitivity::{Among, may_show};
use super::diagnostics::warning;
use super::keys::{CHUNK, DAEMON, DEFAULTS, KEPT, MAX_GRACE, MAX_MANIFEST, MIN_MEMORY, ROOT};
use super::reader::{Doubt, Reader, Value};
use super::sections::control::control;
use super::sections::credentials::credentials;
use super::sections::entry::Placed;
use super::sections::limits::{bandwidth, limits};
use super::sections::notify::{self, notify};
use super::sections::push_events::push_events;
use super::sections::registry_keys::{REGISTRY, UPLOAD};
use super::sections::status::status;
use super::sections::{entry, transport};
use super::yaml::node::Node;
use super::yaml::scalar;
use super::{Config, Daemon, Environment, cross_checks};
use crate::notify::Notify;
use crate::oci::RegistryHost;
use crate::registry::{Flavor, Options, UploadMode, Uploads};

const DEFAULT_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Maximum length of a socket path that the kernel accepts.
pub(super) const MAX_SOCKET_PATH: usize = 107;

/// Decodes the whole file. Returns the configuration with its doubts, or all problems.
pub(super) fn config(root: &Node, environment: Environment<'_>) -> Result<(Config, Vec<Doubt>), Vec<Diagnostic>> {
    let reader = Reader::new(environment);
    let config = read(&reader, root);
    let (found, doubts) = reader.finish();
    match config {
        Some(config) if found.is_empty() => Ok((config, doubts)),
        _ => Err(found),
    }
}

fn read(reader: &Reader<'_>, root: &Node) -> Option<Config> {
    let root = Value { node: root, path: Vec::new() };
    if *root.node == Node::Null {
        reader.wrong_with_hint(&root, "the file says nothing", "begin with `version: 1`");
        return None;
    }
    // No other part of a file can be judged if its version is another one.
    if let Some((_, value)) = root.pairs().find(|(key, _)| *key == "version")
        && *value.node != Node::Number("1".to_owned())
    {
        reader.wrong_with_hint(&value, "this version of the format is not known", "write `version: 1`");
        return None;
    }
    if matches!(root.node, Node::Map(_)) && !is_configuration(root.node) {
        reader.wrong_with_hint(&root, "this is no configuration: none of its keys is known", "begin with `version: 1`");
        return None;
    }
    let fields = reader.fields(&root, &ROOT)?;
    fields.get("version");
    for file in fields.get("include").and_then(|value| reader.texts(value, "a list of files")).unwrap_or_default() {
        reader.text(&file, "the path of a file");
    }
    let (daemon, told) = daemon(reader, fields.get("daemon"), &root).unzip();
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
    cross_checks::check(reader, &drafts);
    warning::check(reader, fields.get("registries"), &registries, &drafts);
    let told_of_entries = drafts.iter().filter_map(|draft| draft.settings.notify.as_ref());
    notify::check(reader, told.iter().chain(told_of_entries).flatten());
    fields.done();
    let entries = drafts.into_iter().map(entry::Draft::entry).collect::<Option<_>>()?;
    Some(Config { daemon: daemon?, registries, entries, warnings: Vec::new() })
}

/// Reads the daemon's settings, and its notification receivers with their places.
fn daemon<'n>(
    reader: &Reader<'_>,
    value: Option<&Value<'n>>,
    root: &Value<'n>,
) -> Option<(Daemon, Vec<Placed<'n, Notify>>)> {
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
    let kept = fields.get("keep_history");
    let kept = kept.map_or(Some(Some(DEFAULT_KEPT)), |value| history(reader, value));
    let status = status(reader, fields.get("status"));
    let control = control(reader, fields.get("control"));
    let push_events = fields.get("push_events").map(|value| push_events(reader, value));
    let at_once = fields.integer(reader, "entries_at_once").unwrap_or(4);
    let memory = fields.get("memory").map_or(Some(128 << 20), |value| reader.size(value, MIN_MEMORY));
    let bandwidth = fields.get("bandwidth").and_then(|value| bandwidth(reader, value));
    let grace = fields.get("shutdown_grace");
    let grace = grace.map_or(Some(Duration::from_secs(30)), |value| reader.duration(value, 0..=MAX_GRACE));
    let told = fields.get("notify").map(|value| notify(reader, value)).unwrap_or_default();
    fields.done();
    let daemon = Daemon {
        journal: journal?,
        keep_history: kept?,
        status: status?,
        control: control?,
        push_events: push_events.map_or(Some(None), |port| port.map(Some))?,
        entries_at_once: at_once,
        memory: memory?,
        bandwidth,
        shutdown_grace: grace?,
        notify: told.iter().map(|(notify, _)| notify.clone()).collect(),
    };
    Some((daemon, told))
}

/// Reads the retention time of the history. An inner `None` means forever; an outer `None` means that the reader kept a
/// problem.
#[expect(clippy::option_option, reason = "the outer one says that a problem was kept")]
fn history(reader: &Reader<'_>, value: &Value<'_>) -> Option<Option<Duration>> {
    if matches!(value.node, Node::Text(_)) && reader.text(value, "a duration like 90d, or forever")? == "forever" {
        return Some(None);
    }
    reader.duration(value, KEPT).map(Some)
}

/// Returns the journal's default file, for a configuration that names none: in systemd's state directory, otherwise in
/// the directory of the XDG base directory specification. Relative paths do not count in the XDG variables. Returns
/// `None` if the environment has none of `STATE_DIRECTORY`, `XDG_STATE_HOME` and `HOME`.
#[must_use]
pub fn default_journal(environment: Environment<'_>) -> Option<PathBuf> {
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
    if is_url(&text) {
        // The message does not repeat the text: the text may contain a password.
        let hint = "write the path alone, like /var/lib/transship/journal.db";
        reader.wrong_with_hint(
            value,
            format!("expected {expected}, found a URL: only local files are read and written"),
            hint,
        );
        return None;
    }
    Some(text.into())
}

/// Returns true if a text is meant as a URL: it begins with a scheme and `:/`, or with a scheme that needs no slash.
pub(super) fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let bare = ["file", "sqlite", "sqlite3", "postgres", "postgresql", "mysql", "mariadb", "jdbc", "data", "unix"];
    is_scheme && (rest.starts_with('/') || bare.contains(&scheme.to_ascii_lowercase().as_str()))
}

fn registries(reader: &Reader<'_>, value: &Value<'_>) -> BTreeMap<RegistryHost, Options> {
    if !matches!(value.node, Node::Map(_) | Node::Null) {
        reader.wrong_type(value, "a map with the hosts of registries as its keys");
    }
    let mut registries = BTreeMap::new();
    let mut places: BTreeMap<RegistryHost, Vec<usize>> = BTreeMap::new();
    for (name, value) in value.pairs() {
        let host: Result<RegistryHost, _> = name.parse();
        let options = options(reader, &value, host.as_ref().ok());
        let host = match host {
            Ok(host) => host,
            Err(error) => {
                let is_shown = may_show(name, Among::Settings) && is_host_like(name);
                let message = if is_shown { error.to_string() } else { "not a registry host".to_owned() };
                reader.add(Diagnostic::new(&value.path, Part::Key, message));
                continue;
            }
        };
        if let Some(first) = places.get(&host) {
            let also = if host.as_str() == name { String::new() } else { format!(", which is {host},") };
            let message = format!("`{name}`{also} is here twice");
            reader.add(Diagnostic::new(&value.path, Part::Key, message).first(first, Part::Key));
        } else {
            places.insert(host.clone(), value.path.clone());
            registries.insert(host, options.unwrap_or_default());
        }
    }
    registries
}

/// Reads the options of the registry at `host`. `host` is `None` if the key is not a valid host.
fn options(reader: &Reader<'_>, value: &Value<'_>, host: Option<&RegistryHost>) -> Option<Options> {
    let fields = reader.fields(value, &REGISTRY)?;
    let credentials = match fields.get("credentials") {
        Some(value) => credentials(reader, value),
        None => Options::unlisted(reader.environment).credentials,
    };
    let plain_http = fields.get("plain_http").and_then(|value| reader.bool(value)).unwrap_or_default();
    let flavor = fields.get("kind").and_then(|value| kind(reader, value));
    let limits = fields.get("limits").and_then(|value| limits(reader, value)).unwrap_or_default();
    let upload = fields.get("upload").and_then(|value| uploads(reader, value)).unwrap_or_default();
    let max_manifest = fields.get("max_manifest").and_then(|value| max_manifest(reader, value));
    let transport = transport::transport(reader, &fields, plain_http, host);
    fields.done();
    Some(Options { credentials, plain_http, flavor, limits, upload, max_manifest, transport })
}

fn uploads(reader: &Reader<'_>, value: &Value<'_>) -> Option<Uploads> {
    let fields = reader.fields(value, &UPLOAD)?;
    let mode = fields.get("mode").and_then(|value| {
        let text = reader.text(value, "auto, monolithic or chunked")?;
        reader.keep(value, text.parse::<UploadMode>())
    });
    let mode = mode.unwrap_or_default();
    let chunk = fields.get("chunk").and_then(|value| {
        let size = reader.size(value, *CHUNK.start())?;
        if size > *CHUNK.end() {
            let most = scalar::shown_size(*CHUNK.end());
            reader.wrong(value, format!("{} is too much: {most} at most", scalar::shown_size(size)));
        } else if mode == UploadMode::Monolithic {
            reader.wrong(value, "there are no chunks with `mode: monolithic`");
        }
        Some(size)
    });
    fields.done();
    Some(Uploads { mode, chunk })
}

fn max_manifest(reader: &Reader<'_>, value: &Value<'_>) -> Option<u64> {
    let size = reader.size(value, *MAX_MANIFEST.start())?;
    if size > *MAX_MANIFEST.end() {
        let most = scalar::shown_size(*MAX_MANIFEST.end());
        reader.wrong(value, format!("{} is too much: {most} at most", scalar::shown_size(size)));
    }
    // The minimum is the default.
    Some(size).filter(|size| size > MAX_MANIFEST.start())
}

fn kind(reader: &Reader<'_>, value: &Value<'_>) -> Option<&'static Flavor> {
    let text = reader.text(value, &Flavor::kinds_text())?;
    reader.keep(value, text.parse())
}
