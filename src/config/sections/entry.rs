//! Section `sync`: keys and reader of one entry. A [`Draft`] contains each value with its position, for the checks that
//! compare several values.

use chrono_tz::Tz;

use super::entry_credentials::{SIDES, Sides, read_sides};
use super::repositories::{REPOSITORIES, read_repositories};
use super::settings::{SETTINGS, Settings, read_settings};
use super::tag_names::{Names, TAG_NAMES, read_tag_names};
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::keys::table::{ANY, Shape, Table, key};
use crate::config::model::endpoint::{Endpoint, TargetEndpoint};
use crate::config::model::entry::{Entry, EntryName};
use crate::config::reader::{Fields, Placed, Reader, Value};
use crate::config::yaml::node::Node;
use crate::plan::RepositorySelection;
use crate::schedule::Schedule;

pub(crate) static ENTRY: Table = Table {
    place: "in an entry",
    groups: &[
        &[
            key(
                "name",
                Shape::Text { pattern: "^[a-zA-Z0-9._-]{1,64}$" },
                "Unique name of the entry: up to 64 letters, digits, `.`, `_` and `-`.",
                r#""python-base""#,
            ),
            key(
                "source",
                ANY,
                "Source: HOST/REPOSITORY, HOST/PREFIX/** for all repositories below the prefix (from the catalog of \
                 the registry), oci-layout:PATH, oci-layout:PATH/** for all layouts below a folder, or \
                 oci-archive:PATH.",
                r#""docker.io/library/python""#,
            ),
            key(
                "target",
                ANY,
                "Target, written like `source`, with its registry. In a target, `**` means the same path as in the \
                 source.",
                r#""registry.internal:5000/cache/python""#,
            ),
            key(
                "targets",
                Shape::List,
                "Several targets: transship reads once and writes to each.",
                r#"["a.example.com/python", "b.example.com/python"]"#,
            ),
            key(
                "credentials",
                Shape::Map(&SIDES),
                "Credentials for this entry only, instead of the credentials of the registries.",
                "",
            )
            .secret(),
        ],
        SETTINGS,
        TAG_NAMES,
        // This table must follow `tags`: the hint for a misplaced key `include` then names `tags`.
        &[key(
            "repositories",
            Shape::Map(&REPOSITORIES),
            "Repositories to copy from a source that ends in `/**`. Default: all.",
            "",
        )],
    ],
    required: &["name", "source"],
};

/// Values of one entry, without the values that the reader could not read.
pub(crate) struct Draft<'n> {
    pub(crate) name: Option<Placed<'n, EntryName>>,
    pub(crate) source: Option<Placed<'n, Endpoint>>,
    pub(crate) targets: Vec<Placed<'n, Endpoint>>,
    pub(crate) credentials: Sides<'n>,
    pub(crate) repositories: Option<Placed<'n, RepositorySelection>>,
    pub(crate) names: Names<'n>,
    pub(crate) settings: Settings<'n>,
}

/// Reads an entry. If a key is absent, uses the value in `defaults`.
pub(crate) fn read_entry<'n>(reader: &Reader<'_>, value: &Value<'n>, defaults: &Settings<'n>) -> Option<Draft<'n>> {
    let fields = reader.fields_with_hints(value, &ENTRY, |key| suggest_key(value, key))?;
    let name = fields.get("name").and_then(|value| reader.placed(value, "a name"));
    let source = fields.get("source").and_then(|value| reader.placed(value, "a repository"));
    let targets = read_targets(reader, value, &fields);
    let credentials = fields.get("credentials").map(|value| read_sides(reader, value)).unwrap_or_default();
    let repositories = fields.get("repositories");
    let repositories = repositories.and_then(|value| Some((read_repositories(reader, value)?, value.clone())));
    let names = read_tag_names(reader, &fields);
    let settings = read_settings(reader, &fields).over(defaults);
    warn_about_unused_timing(reader, &fields, &settings);
    fields.assert_all_read();
    Some(Draft { name, source, targets, credentials, repositories, names, settings })
}

/// Returns the hint for a missing key of an entry. For `name`, the hint contains a name derived from the source. For
/// `source`, the hint contains the syntax.
fn suggest_key(entry: &Value<'_>, key: &str) -> Option<String> {
    if key != "name" {
        return (key == "source").then(|| "write `source: HOST/REPOSITORY`".to_owned());
    }
    let source = entry.pairs().find_map(|(key, value)| match value.node {
        Node::Text(text) if key == "source" => Some(text.trim_end_matches("/**")),
        _ => None,
    });
    let last = source.unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let name = last.split([':', '@']).next().unwrap_or_default().parse::<EntryName>();
    Some(name.map_or_else(|_| "write `name: NAME`".to_owned(), |name| format!("write `name: {name}`")))
}

/// Warns about `jitter` and `timezone` in an entry without a schedule.
fn warn_about_unused_timing(reader: &Reader<'_>, fields: &Fields<'_>, settings: &Settings<'_>) {
    if settings.has_firings() {
        return;
    }
    for key in ["jitter", "timezone"] {
        if let Some(value) = fields.get(key) {
            let found = Diagnostic::new(&value.path, Part::Value, format!("`{key}` has no effect without `schedule`"));
            let hint = format!("write a `schedule`, or remove `{key}`");
            let name = fields.get("name").and_then(|value| match value.node {
                Node::Text(text) => Some(text.clone()),
                _ => None,
            });
            reader.add_warning(name, found.with_hint(hint));
        }
    }
}

fn read_targets<'n>(reader: &Reader<'_>, entry: &Value<'n>, fields: &Fields<'n>) -> Vec<Placed<'n, Endpoint>> {
    match (fields.get("target"), fields.get("targets")) {
        (None, None) if fields.has("target") || fields.has("targets") => Vec::new(),
        (None, None) => {
            reader.refuse(entry, "`target` or `targets` is missing in an entry");
            Vec::new()
        }
        (Some(_), Some(both)) => {
            reader.refuse_with_hint(
                both,
                "an entry has `target` or `targets`, not both",
                "move all targets into `targets`",
            );
            Vec::new()
        }
        (Some(one), None) => {
            if matches!(one.node, Node::List(_)) {
                reader.refuse_with_hint(
                    one,
                    "expected a repository, found a list",
                    "write several targets under `targets`",
                );
                return Vec::new();
            }
            read_target(reader, one).into_iter().collect()
        }
        (None, Some(several)) => {
            let items = reader.listed_texts(several, "a list of repositories").unwrap_or_default();
            if items.is_empty() && matches!(several.node, Node::List(_)) {
                reader.refuse(several, "`targets` is empty: an entry needs at least one target");
            }
            items.iter().filter_map(|item| read_target(reader, item)).collect()
        }
    }
}

fn read_target<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Option<Placed<'n, Endpoint>> {
    let (TargetEndpoint(endpoint), value) = reader.placed(value, "a repository")?;
    Some((endpoint, value))
}

impl Draft<'_> {
    /// Returns the entry. Returns `None` if the name or the source could not be read.
    pub(crate) fn into_entry(self) -> Option<Entry> {
        let Settings {
            tags,
            platforms,
            referrers,
            foreign_layers,
            schedule,
            on_start,
            timezone,
            jitter,
            timeout,
            overwrite,
            notify,
        } = self.settings;
        Some(Entry {
            name: self.name?.0,
            source: self.source?.0,
            targets: self.targets.into_iter().map(|(target, _)| target).collect(),
            credentials: self.credentials.into(),
            repositories: self.repositories.map(|(repositories, _)| repositories).unwrap_or_default(),
            selection: tags.unwrap_or_default().selection,
            names: self.names.names,
            platforms: platforms.flatten(),
            referrers: referrers.unwrap_or(true),
            foreign_layers: foreign_layers.unwrap_or_default(),
            schedule: schedule.unwrap_or(Schedule::Never),
            on_start: on_start.unwrap_or_default(),
            timezone: timezone.unwrap_or(Tz::UTC),
            jitter: jitter.unwrap_or_default(),
            timeout,
            overwrite: overwrite.unwrap_or_default(),
            notify: notify.into_iter().flatten().map(|(notify, _)| notify).collect(),
        })
    }
}
