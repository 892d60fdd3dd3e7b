//! Synonyms of the keys: the names in configurations of regsync, skopeo, docker and CI systems, and plain English.

use crate::config::keys::synonym::Synonym;

const ENTRIES: &str = "write a list of entries under `sync`, each with `name`, `source` and `target`";
const SCHEDULE: &str = "write `schedule: every 15m`, or five cron fields in quotes: `schedule: \"*/15 * * * *\"`";
const LOGIN: &str = "write `credentials: {username: …, password: …}`";
const UNVERIFIED: &str = "write `plain_http: true` for HTTP, or `tls: {insecure_skip_verify: true}` for HTTPS with a \
                          certificate that transship does not verify";
const SKIP_VERIFY: &str = "write `insecure_skip_verify: true`, or the authority's file as `ca`";

/// Synonyms of the keys of the top level.
pub(super) static ROOT_SYNONYMS: &[Synonym] = &[
    Synonym::new("images", "sync").with_hint(ENTRIES),
    Synonym::new("entries", "sync").with_hint(ENTRIES),
    Synonym::new("jobs", "sync").with_hint(ENTRIES),
    Synonym::new("tasks", "sync").with_hint(ENTRIES),
    Synonym::new("hosts", "registries"),
];

/// Synonyms of the keys of an entry.
pub(super) static ENTRY_SYNONYMS: &[Synonym] = &[
    Synonym::new("on", "schedule").with_hint(SCHEDULE),
    Synonym::new("cron", "schedule").with_hint(SCHEDULE),
    Synonym::new("interval", "schedule").with_hint(SCHEDULE),
    Synonym::new("from", "source"),
    Synonym::new("src", "source"),
    Synonym::new("image", "source"),
    Synonym::new("to", "target"),
    Synonym::new("dst", "target"),
    Synonym::new("dest", "target"),
    Synonym::new("destination", "target"),
];

/// Synonyms of the keys of `tags`.
pub(super) static TAGS_SYNONYMS: &[Synonym] = &[
    Synonym::new("allow", "include"),
    Synonym::new("only", "include"),
    Synonym::new("deny", "exclude"),
    Synonym::new("latest", "newest"),
    Synonym::new("limit", "newest"),
];

/// Synonyms of the keys of a registry.
pub(super) static REGISTRY_SYNONYMS: &[Synonym] = &[
    Synonym::new("insecure", "plain_http").with_hint(UNVERIFIED),
    Synonym::new("http", "plain_http"),
    Synonym::new("tls_verify", "tls").with_hint(UNVERIFIED),
    Synonym::new("user", "credentials").with_hint(LOGIN),
    Synonym::new("username", "credentials").with_hint(LOGIN),
    Synonym::new("pass", "credentials").with_hint(LOGIN),
    Synonym::new("password", "credentials").with_hint(LOGIN),
];

/// Synonyms of the keys of `credentials`.
pub(super) static CREDENTIALS_SYNONYMS: &[Synonym] = &[
    Synonym::new("user", "username"),
    Synonym::new("login", "username"),
    Synonym::new("pass", "password"),
    Synonym::new("passwd", "password"),
    Synonym::new("pwd", "password"),
    Synonym::new("identity_token", "token"),
];

/// Synonyms of the keys of `limits`.
pub(super) static LIMITS_SYNONYMS: &[Synonym] =
    &[Synonym::new("rate", "requests"), Synonym::new("parallel", "concurrent")];

/// Synonyms of the keys of `tls`.
pub(super) static TLS_SYNONYMS: &[Synonym] = &[
    Synonym::new("insecure", "insecure_skip_verify").with_hint(SKIP_VERIFY),
    Synonym::new("verify", "insecure_skip_verify").with_hint(SKIP_VERIFY),
    Synonym::new("cert", "certificate"),
];

/// Synonyms of the keys of `daemon`.
pub(super) static DAEMON_SYNONYMS: &[Synonym] = &[
    Synonym::new("port", "status").with_hint("write `status: 127.0.0.1:9180`"),
    Synonym::new("listen", "status").with_hint("write `status: 127.0.0.1:9180`"),
];
