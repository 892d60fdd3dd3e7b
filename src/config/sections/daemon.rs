//! Section `daemon`: settings of the daemon.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::bandwidth::{BANDWIDTH, read_bandwidth};
use super::control::{CONTROL_KEY, read_control};
use super::notify::{notify_key, read_notify};
use super::push_events::{PUSH_EVENTS_KEY, read_push_events};
use super::status::{STATUS_KEY, read_status};
use crate::config::keys::table::{ANY, DURATION, Shape, Table, key};
use crate::config::model::daemon::Daemon;
use crate::config::reader::{Placed, Reader, Value};
use crate::config::yaml::expand::Environment;
use crate::config::yaml::node::Node;
use crate::notify::Notify;

/// Pattern of `keep_history`: [`DURATION`] or `forever`.
const HISTORY: &str = "^(forever|[0-9]+ *[a-zA-Zµ]+( *[0-9]+ *[a-zA-Zµ]+)*)$";

/// Bounds of `keep_history`, in seconds: one day to ten years (humantime counts 365.25 days for a year).
pub(crate) const HISTORY_BOUNDS: RangeInclusive<u64> = 24 * 3600..=10 * 31_557_600;

/// Default of `keep_history`.
const DEFAULT_HISTORY: Duration = Duration::from_secs(90 * 24 * 3600);

/// Maximum of `shutdown_grace`, in seconds: one hour.
pub(crate) const MAX_GRACE: u64 = 3600;

/// Minimum of `memory`, in bytes.
pub(crate) const MIN_MEMORY: u64 = 16 << 20;

pub(crate) static DAEMON: Table = Table {
    place: "under `daemon`",
    groups: &[&[
        key(
            "journal",
            ANY,
            "SQLite file that records runs and evidence. Default: journal.db in $STATE_DIRECTORY, else \
             $XDG_STATE_HOME/transship, else ~/.local/state/transship.",
            r#""/var/lib/transship/journal.db""#,
        ),
        key(
            "keep_history",
            Shape::Text { pattern: HISTORY },
            "Time for which the journal keeps runs and observed tags, 1d to 10y, or `forever`. The journal always \
             keeps evidence.",
            r#""1y""#,
        )
        .with_default(r#""90d""#),
        STATUS_KEY,
        CONTROL_KEY,
        PUSH_EVENTS_KEY,
        key("entries_at_once", Shape::Integer { min: 1, max: 256 }, "Number of entries that run at once.", "4")
            .with_default("4"),
        key(
            "memory",
            Shape::Size,
            "Memory limit for the buffers of all transfers in flight, at least 16MiB.",
            r#""256MiB""#,
        )
        .with_default(r#""128MiB""#),
        key(
            "bandwidth",
            BANDWIDTH,
            "Bandwidth of all registries together, both directions added: a rate, or windows of the day as under \
             `limits`. Default: no limit.",
            r#""200MiB/s""#,
        ),
        key(
            "shutdown_grace",
            DURATION,
            "Time that running transfers have to finish after SIGTERM, at most an hour.",
            r#""1m""#,
        )
        .with_default(r#""30s""#),
        notify_key(
            "Receivers of notifications about every entry, and about a refused edit of this file. Default: none.",
        ),
    ]],
    required: &[],
};

/// Reads the section, and the receivers of notifications with their nodes.
pub(crate) fn read_daemon<'n>(
    reader: &Reader<'_>,
    value: Option<&Value<'n>>,
    root: &Value<'n>,
) -> Option<(Daemon, Vec<Placed<'n, Notify>>)> {
    let absent = Value { node: &Node::Null, path: root.path.clone() };
    let fields = reader.fields(value.unwrap_or(&absent), &DAEMON)?;
    let journal = match fields.get("journal") {
        Some(value) => reader.path(value, "the path of a file"),
        None => {
            let found = default_journal(reader.environment);
            if found.is_none() {
                let message = "the journal has no default path: STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set";
                reader.refuse_with_hint(value.unwrap_or(root), message, "write `daemon.journal`");
            }
            found
        }
    };
    let history = fields.get("keep_history");
    let history = history.map_or(Some(Some(DEFAULT_HISTORY)), |value| read_history(reader, value));
    let status = read_status(reader, fields.get("status"));
    let control = read_control(reader, fields.get("control"));
    let push_events = fields.get("push_events").map(|value| read_push_events(reader, value));
    let at_once = fields.integer(reader, "entries_at_once").unwrap_or(4);
    let memory = fields.get("memory").map_or(Some(128 << 20), |value| reader.size(value, MIN_MEMORY));
    let bandwidth = fields.get("bandwidth").and_then(|value| read_bandwidth(reader, value));
    let grace = fields.get("shutdown_grace");
    let grace = grace.map_or(Some(Duration::from_secs(30)), |value| reader.duration(value, 0..=MAX_GRACE));
    let notify = fields.get("notify").map(|value| read_notify(reader, value)).unwrap_or_default();
    fields.assert_all_read();
    let daemon = Daemon {
        journal: journal?,
        keep_history: history?,
        status: status?,
        control: control?,
        push_events: push_events.map_or(Some(None), |port| port.map(Some))?,
        entries_at_once: at_once,
        memory: memory?,
        bandwidth,
        shutdown_grace: grace?,
        notify: notify.iter().map(|(notify, _)| notify.clone()).collect(),
    };
    Some((daemon, notify))
}

/// Reads `keep_history`. `Some(None)` means forever. If the reader recorded a problem, returns `None`.
#[expect(clippy::option_option, reason = "the outer `None` means that a problem was recorded")]
fn read_history(reader: &Reader<'_>, value: &Value<'_>) -> Option<Option<Duration>> {
    if matches!(value.node, Node::Text(_)) && reader.text(value, "a duration like 90d, or forever")? == "forever" {
        return Some(None);
    }
    reader.duration(value, HISTORY_BOUNDS).map(Some)
}

/// Returns the default path of the journal. The folder is `STATE_DIRECTORY` (systemd), or a folder in `XDG_STATE_HOME`
/// or in `HOME` (XDG base directory specification). Relative paths in `XDG_STATE_HOME` and `HOME` are ignored. If there
/// is no folder, returns `None`.
#[must_use]
pub fn default_journal(environment: Environment<'_>) -> Option<PathBuf> {
    let folder = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several directories by colons.
    let state = environment("STATE_DIRECTORY").and_then(|all| all.split(':').next().map(PathBuf::from));
    let state = state.filter(|path| !path.as_os_str().is_empty());
    let home = || folder("HOME").map(|home| home.join(".local/state"));
    let folder = state.or_else(|| Some(folder("XDG_STATE_HOME").or_else(home)?.join("transship")))?;
    Some(folder.join("journal.db"))
}
