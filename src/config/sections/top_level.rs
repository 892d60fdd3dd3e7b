//! Top level of a file, and the schema that all sections together form.

use std::sync::LazyLock;

use super::aws::AWS;
use super::azure::AZURE;
use super::bandwidth::WINDOW;
use super::credentials::CREDENTIALS;
use super::daemon::DAEMON;
use super::entry::ENTRY;
use super::entry_credentials::SIDES;
use super::gcp::GCP;
use super::limits::LIMITS;
use super::notify::{NOTIFY, WEBHOOK};
use super::push_events::{PUSH_EVENTS, RECEIVER};
use super::registry::REGISTRY;
use super::repositories::REPOSITORIES;
use super::settings::DEFAULTS;
use super::status::STATUS;
use super::synonyms::{
    CREDENTIALS_SYNONYMS, DAEMON_SYNONYMS, ENTRY_SYNONYMS, LIMITS_SYNONYMS, REGISTRY_SYNONYMS, ROOT_SYNONYMS,
    TAGS_SYNONYMS, TLS_SYNONYMS,
};
use super::tags::TAGS;
use super::timeouts::TIMEOUTS;
use super::tls::TLS;
use super::upload::UPLOAD;
use crate::config::keys::schema::Schema;
use crate::config::keys::synonym::Synonym;
use crate::config::keys::table::{Shape, Table, key};

/// Schema of a file, which the reader, the JSON Schema, the hints and the masks use.
pub(crate) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::new(&ROOT, TABLES, SYNONYMS));

static ROOT: Table = Table {
    place: "at the top level",
    groups: &[&[
        key("version", Shape::Exactly(1), "Version of this format.", "1"),
        key(
            "include",
            Shape::Texts { filled: false },
            "Files with further `registries` and `sync`, as paths or globs relative to the folder of this file.",
            r#""conf.d/*.yaml""#,
        ),
        key("daemon", Shape::Map(&DAEMON), "Settings of the daemon and of the process.", ""),
        key("registries", Shape::MapOf(&REGISTRY), "Settings of registries, by host or host:port.", ""),
        key(
            "defaults",
            Shape::Map(&DEFAULTS),
            "Keys for every entry that does not set them. `tags` counts as one key: an entry's own `tags` replaces \
             it completely.",
            "",
        ),
        key(
            "sync",
            Shape::ListOf(&ENTRY),
            "Entries: the sources and targets that transship keeps in step. `[]` means no entries.",
            "",
        ),
    ]],
    required: &["version", "sync"],
};

/// Tables of all sections. The hint "the key belongs under …" first searches the tables directly below the map of the
/// key, then all tables in this order.
static TABLES: &[&Table] = &[
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
    &REPOSITORIES,
    &WINDOW,
    &STATUS,
    &PUSH_EVENTS,
    &RECEIVER,
    &NOTIFY,
    &WEBHOOK,
    &ROOT,
];

/// Synonyms of the keys of each table.
static SYNONYMS: &[(&Table, &[Synonym])] = &[
    (&ROOT, ROOT_SYNONYMS),
    (&DAEMON, DAEMON_SYNONYMS),
    (&REGISTRY, REGISTRY_SYNONYMS),
    (&TLS, TLS_SYNONYMS),
    (&CREDENTIALS, CREDENTIALS_SYNONYMS),
    (&LIMITS, LIMITS_SYNONYMS),
    (&ENTRY, ENTRY_SYNONYMS),
    (&TAGS, TAGS_SYNONYMS),
];
