//! Table of every key of `sync.yaml`: the decoder accepts only these keys, and the JSON Schema is generated from this
//! table.

use super::sections::cloud_keys::{AWS, GCP};
use super::sections::notify::{NOTIFY, WEBHOOK, notify_key};
use super::sections::push_events::{HOOKS, RECEIVER};
use super::sections::registry_keys::{
    AZURE, BANDWIDTH, CREDENTIAL_WAYS, CREDENTIALS, LIMITS, REGISTRY, TIMEOUTS, TLS, UPLOAD, WINDOW,
};
use super::sections::status::{PLACE, STATUS};
use crate::plan::{ForeignLayers, Overwrite};

/// Keys of one kind of map.
#[derive(Debug)]
pub(super) struct Table {
    /// Place of the keys, in the words of a message: "under `daemon`".
    pub(super) place: &'static str,
    /// Keys, in groups so that maps can share some groups.
    pub(super) groups: &'static [&'static [Key]],
    /// Required keys.
    pub(super) required: &'static [&'static str],
}

/// One key of a map.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Purpose of the key, in one or two sentences.
    pub(super) about: &'static str,
    /// Default value, as JSON.
    pub(super) default: Option<&'static str>,
    /// Example value, as JSON; empty if the keys below have their own examples.
    pub(super) example: &'static str,
}

/// Shape of a value.
#[derive(Debug)]
pub(super) enum Shape {
    /// This number only.
    Exactly(u64),
    /// Text; the regular expression applies to text that is written without `${…}`.
    Text { pattern: &'static str },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Whole number within these bounds.
    Integer { min: u64, max: u64 },
    /// Bytes, as a number or with a unit.
    Size,
    /// `true` or `false`.
    Bool,
    /// One text or a list of texts; `filled` if an empty list is refused.
    Texts { filled: bool },
    /// List of texts, at least one.
    List,
    /// Text, `{env: NAME}` or `{file: PATH}`.
    Secret,
    /// Map with keys that the operator chooses, each with a [`Shape::Secret`].
    Secrets,
    /// Text, a map of known keys, or a list of such maps.
    TextOrMaps { pattern: &'static str, keys: &'static Table },
    /// Text, or a map of known keys.
    TextOr { pattern: &'static str, keys: &'static Table },
    /// Map of known keys.
    Map(&'static Table),
    /// One of these words, or a map of known keys.
    WordOr(&'static [&'static str], &'static Table),
    /// Map of known keys that go together in one of these ways.
    OneOf(&'static Table, &'static [Way]),
    /// Map with keys that the operator chooses.
    MapOf(&'static Table),
    /// List of maps.
    ListOf(&'static Table),
    /// List of maps, which may be empty.
    Maps(&'static Table),
    /// List of these words, at least one, or a single word.
    Words(&'static [&'static str]),
}

/// Keys that go together.
#[derive(Debug)]
pub(super) struct Way {
    /// Required keys; the first of them identifies this way.
    pub(super) required: &'static [&'static str],
    /// Optional keys.
    pub(super) optional: &'static [&'static str],
}

pub(super) const ANY: Shape = Shape::Text { pattern: "^.+$" };
pub(super) const DURATION: Shape = Shape::Text { pattern: "^[0-9]+ *[a-zA-Zµ]+( *[0-9]+ *[a-zA-Zµ]+)*$" };
/// [`DURATION`], or the word for unlimited history.
const HISTORY: &str = "^(forever|[0-9]+ *[a-zA-Zµ]+( *[0-9]+ *[a-zA-Zµ]+)*)$";
/// Bounds of the retention time of history, in seconds: from a day to ten years of humantime.
pub(super) const KEPT: std::ops::RangeInclusive<u64> = 24 * 3600..=10 * 31_557_600;
/// Maximum jitter, in seconds: a day.
pub(super) const MAX_JITTER: u64 = 24 * 3600;
/// Maximum timeout of a run, in seconds: a week.
pub(super) const MAX_TIMEOUT: u64 = 7 * 24 * 3600;
/// Maximum shutdown grace, in seconds: an hour.
pub(super) const MAX_GRACE: u64 = 3600;
/// Maximum wait for a registry, in seconds: an hour.
pub(super) const MAX_WAIT: u64 = 3600;
/// Minimum memory for transfers, in bytes.
pub(super) const MIN_MEMORY: u64 = 16 << 20;
/// Minimum bandwidth, in bytes a second.
pub(super) const MIN_BANDWIDTH: u64 = 1 << 10;
/// Bounds of a chunk, in bytes.
pub(super) const CHUNK: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 20;

/// Bounds of the size of the largest manifest that is read, in bytes.
pub(super) const MAX_MANIFEST: std::ops::RangeInclusive<u64> = 4 << 20..=8 << 20;

/// Maximum number of items of any list.
pub(super) const MAX_ITEMS: u64 = 10_000;

pub(super) const fn key(name: &'static str, shape: Shape, about: &'static str, example: &'static str) -> Key {
    Key { name, shape, about, default: None, example }
}

pub(super) const fn with_default(key: Key, default: &'static str) -> Key {
    Key { default: Some(default), ..key }
}

pub(super) static ROOT: Table = Table {
    place: "at the top level",
    groups: &[&[
        key("version", Shape::Exactly(1), "The version of this format.", "1"),
        key(
            "include",
            Shape::Texts { filled: false },
            "Files with `registries` and `sync` of their own, as paths or globs from this file's folder on.",
            r#""conf.d/*.yaml""#,
        ),
        key("daemon", Shape::Map(&DAEMON), "Settings of the process itself.", ""),
        key("registries", Shape::MapOf(&REGISTRY), "How to speak to registries, by host or host:port.", ""),
        key(
            "defaults",
            Shape::Map(&DEFAULTS),
            "Keys for every entry that does not have them itself. `tags` counts as one key: an entry's own \
             replaces it as a whole.",
            "",
        ),
        key("sync", Shape::ListOf(&ENTRY), "What to keep in step. `[]` is nothing.", ""),
    ]],
    required: &["version", "sync"],
};

pub(super) static DAEMON: Table = Table {
    place: "under `daemon`",
    groups: &[&[
        key(
            "journal",
            ANY,
            "The SQLite file that records runs and evidence. Default: journal.db in $STATE_DIRECTORY, else \
             $XDG_STATE_HOME/transship, else ~/.local/state/transship.",
            r#""/var/lib/transship/journal.db""#,
        ),
        with_default(
            key(
                "keep_history",
                Shape::Text { pattern: HISTORY },
                "How long the journal keeps runs and tags that were seen, 1d to 10y, or forever. Evidence is always \
                 kept.",
                r#""1y""#,
            ),
            r#""90d""#,
        ),
        with_default(
            key(
                "status",
                Shape::TextOr { pattern: PLACE, keys: &STATUS },
                "Where health, status and metrics are answered: a loopback address with its port, unix:PATH, or off; \
                 another \
                 address as a map with its protection.",
                r#""unix:/run/transship/status.sock""#,
            ),
            r#""127.0.0.1:9180""#,
        ),
        key(
            "control",
            ANY,
            "The socket file by which `transship trigger`, `pause` and `resume` reach the daemon, or off. Who may \
             write to the file \
             may ask: its owner and its group. Default: control.sock in $RUNTIME_DIRECTORY, else in \
             $XDG_RUNTIME_DIR/transship, else off.",
            r#""/run/transship/control.sock""#,
        ),
        key(
            "push_events",
            Shape::Map(&HOOKS),
            "Takes push events of registries and runs the entries that read from there, for the pushed tag alone. \
             Default: none.",
            "",
        ),
        with_default(
            key("entries_at_once", Shape::Integer { min: 1, max: 256 }, "How many entries run at once.", "4"),
            "4",
        ),
        with_default(
            key(
                "memory",
                Shape::Size,
                "Ceiling for the buffers of transfers in flight, 16MiB at least.",
                r#""256MiB""#,
            ),
            r#""128MiB""#,
        ),
        key(
            "bandwidth",
            BANDWIDTH,
            "Bytes a second of all registries together, in both directions: a rate, or windows of the day as under \
             `limits`. \
             Default: no limit.",
            r#""200MiB/s""#,
        ),
        with_default(
            key("shutdown_grace", DURATION, "How long transfers may go on after SIGTERM, an hour at most.", r#""1m""#),
            r#""30s""#,
        ),
        notify_key(
            "Who is told of what happens to any entry, and of an edit of this file that is refused. Default: nobody.",
        ),
    ]],
    required: &[],
};

pub(super) static DEFAULTS: Table = Table { place: "under `defaults`", groups: &[SETTINGS], required: &[] };

pub(super) static ENTRY: Table = Table {
    place: "in an entry",
    groups: &[
        &[
            key(
                "name",
                Shape::Text { pattern: "^[a-zA-Z0-9._-]{1,64}$" },
                "The entry's name, unique: up to 64 letters, digits, `.`, `_` and `-`.",
                r#""python-base""#,
            ),
            key(
                "source",
                ANY,
                "Where to read: HOST/REPOSITORY, HOST/PREFIX/** for all below (by catalog), or oci-layout:PATH.",
                r#""docker.io/library/python""#,
            ),
            key(
                "target",
                ANY,
                "Where to write, like source. What ** stood for in the source is carried over.",
                r#""registry.internal:5000/cache/python""#,
            ),
            key(
                "targets",
                Shape::List,
                "Where to write, when it is several places: one read, many writes.",
                r#"["a.example.com/python", "b.example.com/python"]"#,
            ),
            key(
                "credentials",
                Shape::Map(&SIDES),
                "Who to be for this entry alone, where that is not who the registry's own credentials say.",
                "",
            ),
        ],
        SETTINGS,
    ],
    required: &["name", "source"],
};

/// Keys of an entry's `credentials`. `defaults` does not have them: it would send the credentials for one registry to
/// the registries of all entries.
pub(super) static SIDES: Table = Table {
    place: "under an entry's `credentials`",
    groups: &[&[
        key(
            "source",
            Shape::OneOf(&CREDENTIALS, CREDENTIAL_WAYS),
            "Who reads, in the same ways as under a registry.",
            r#"{"username": "reader", "password": {"env": "READER_PASSWORD"}}"#,
        ),
        key(
            "target",
            Shape::OneOf(&CREDENTIALS, CREDENTIAL_WAYS),
            "Who writes; all targets of the entry are at one registry then.",
            r#"{"username": "writer", "password": {"file": "/run/secrets/writer"}}"#,
        ),
    ]],
    required: &[],
};

/// Keys that `defaults` and an entry share.
const SETTINGS: &[Key] = &[
    key("tags", Shape::Map(&TAGS), "Which tags. Default: all.", ""),
    key(
        "platforms",
        Shape::Texts { filled: true },
        "Which platforms; a subset makes a new, derived index. Default, and `all`: all, the index verbatim.",
        r#"["linux/amd64", "linux/arm64"]"#,
    ),
    with_default(
        key(
            "referrers",
            Shape::Bool,
            "Whether signatures, SBOMs and whatever else refers to an image comes along.",
            "true",
        ),
        "true",
    ),
    with_default(
        key(
            "foreign_layers",
            Shape::Word(&ForeignLayers::NAMES),
            "Whether non-distributable layers with addresses of their own (`urls`, as in old Windows images) are \
             copied from \
             the source, for images that are copied from then on. Those without an address are always copied.",
            r#""copy""#,
        ),
        r#""skip""#,
    ),
    with_default(
        key(
            "schedule",
            ANY,
            "When to run: five fields of cron in quotes, @hourly and its like, `every 15m` (a minute to 31 days), or \
             never \
             (manual only).",
            r#""*/10 * * * *""#,
        ),
        r#""never""#,
    ),
    with_default(
        key("on_start", Shape::Bool, "Run at each start of the daemon too, whatever the schedule says.", "true"),
        "false",
    ),
    with_default(key("timezone", ANY, "The time zone of the schedule, by its name.", r#""Europe/Berlin""#), r#""UTC""#),
    with_default(
        key(
            "jitter",
            DURATION,
            "Start up to this much later, so that not all start at once; a day at most.",
            r#""5m""#,
        ),
        r#""0s""#,
    ),
    key("timeout", DURATION, "End a run that takes longer, 1s to 7d. Default: no limit.", r#""2h""#),
    with_default(
        key(
            "overwrite",
            Shape::Word(&Overwrite::NAMES),
            "What happens to a tag that the target has with another digest: move it, refuse, or move it and keep \
             the old one under a name of its own. Signatures that go along with an image (referrers) are not bound by \
             it: their tags move when a signature is added.",
            r#""never""#,
        ),
        r#""always""#,
    ),
    notify_key("Who is told of what happens to the entry, beside those under `daemon`. Default: nobody else."),
];

pub(super) static TAGS: Table = Table {
    place: "under `tags`",
    groups: &[&[
        key(
            "include",
            Shape::Texts { filled: true },
            "Globs; `re:` before a regular expression (of the whole tag); `TAG@sha256:…` for a digest that arrives \
             under this tag, `@sha256:…` for one without a tag. Default: every tag.",
            r#"["3.12-slim*", "re:v[0-9]+"]"#,
        ),
        key(
            "exclude",
            Shape::Texts { filled: false },
            "Globs and regular expressions of tags to leave out.",
            r#"["*-rc*"]"#,
        ),
        key("semver", ANY, "A range of versions; tags that are no version are out.", r#"">=3.12, <4""#),
        key(
            "newest",
            Shape::Integer { min: 1, max: 1_000_000 },
            "Only so many of what is left, by version, else by name.",
            "10",
        ),
        key(
            "at_least",
            Shape::Integer { min: 1, max: 1_000_000 },
            "Fewer tags than this are an error, not an empty success. All repositories of a tree (`/**`) count \
             together.",
            "1",
        ),
    ]],
    required: &[],
};

/// All tables, for the hint "it belongs under …". If two tables have a key, the hint names the first one, unless one
/// table is right below the place of the key.
pub(super) static TABLES: &[&Table] = &[
    &DAEMON,
    &REGISTRY,
    &TLS,
    &TIMEOUTS,
    &CREDENTIALS,
    &AZURE,
    &AWS,
    &GCP,
    &LIMITS,
    &UPLOAD,
    &DEFAULTS,
    &ENTRY,
    &SIDES,
    &TAGS,
    &WINDOW,
    &STATUS,
    &HOOKS,
    &RECEIVER,
    &NOTIFY,
    &WEBHOOK,
    &ROOT,
];

impl Table {
    /// Returns the keys of all groups.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// Returns the tables of the maps right below.
    pub(super) fn below(&self) -> impl Iterator<Item = &'static Self> {
        self.keys().filter_map(|key| match key.shape {
            Shape::TextOrMaps { keys: table, .. }
            | Shape::Map(table)
            | Shape::WordOr(_, table)
            | Shape::OneOf(table, _)
            | Shape::MapOf(table)
            | Shape::ListOf(table)
            | Shape::Maps(table) => Some(table),
            _ => None,
        })
    }

    /// Returns the key with this name.
    pub(super) fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}
