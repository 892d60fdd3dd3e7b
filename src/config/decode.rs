//! Decoder of a whole file: reads the sections, and checks their values against each other.

use super::cross_checks::check_entries;
use super::cross_warnings::warn_about_settings;
use super::diagnostics::diagnostic::Diagnostic;
use super::diagnostics::schema_place::is_configuration;
use super::diagnostics::warning::WarningDraft;
use super::model::config::Config;
use super::reader::{Reader, Value};
use super::sections::daemon::read_daemon;
use super::sections::entry::{Draft, read_entry};
use super::sections::notify::check_receivers;
use super::sections::registry::read_registries;
use super::sections::settings::read_defaults;
use super::sections::top_level::SCHEMA;
use super::yaml::expand::Environment;
use super::yaml::node::Node;

/// Decodes the whole file. Returns the configuration with its warnings, or all problems.
pub(super) fn read_config(
    root: &Node,
    environment: Environment<'_>,
) -> Result<(Config, Vec<WarningDraft>), Vec<Diagnostic>> {
    let reader = Reader::new(environment, &SCHEMA);
    let config = read_top_level(&reader, root);
    let (problems, warnings) = reader.finish();
    match config {
        Some(config) if problems.is_empty() => Ok((config, warnings)),
        _ => Err(problems),
    }
}

fn read_top_level(reader: &Reader<'_>, root: &Node) -> Option<Config> {
    let root = Value { node: root, path: Vec::new() };
    if *root.node == Node::Null {
        reader.refuse_with_hint(&root, "the file is empty or has only comments", "begin with `version: 1`");
        return None;
    }
    // If the version is not 1, other keys may have another meaning, so this is the only problem that is reported.
    if let Some((_, value)) = root.pairs().find(|(key, _)| *key == "version")
        && *value.node != Node::Number("1".to_owned())
    {
        reader.refuse_with_hint(&value, "this version of the format is not supported", "write `version: 1`");
        return None;
    }
    if matches!(root.node, Node::Map(_)) && !is_configuration(reader.schema(), root.node) {
        reader.refuse_with_hint(
            &root,
            "this file is not a configuration of transship: it has no known key",
            "begin with `version: 1`",
        );
        return None;
    }
    let fields = reader.fields(&root, reader.schema().root())?;
    fields.get("version");
    for file in fields.get("include").and_then(|value| reader.texts(value, "a list of files")).unwrap_or_default() {
        reader.text(&file, "the path of a file");
    }
    let (daemon, notify) = read_daemon(reader, fields.get("daemon"), &root).unzip();
    let registries = fields.get("registries").map(|value| read_registries(reader, value)).unwrap_or_default();
    let defaults = fields.get("defaults").and_then(|value| read_defaults(reader, value)).unwrap_or_default();
    let entries = fields.get("sync").and_then(|value| read_entries(reader, value));
    let drafts: Vec<Draft<'_>> =
        entries.unwrap_or_default().iter().filter_map(|value| read_entry(reader, value, &defaults)).collect();
    check_entries(reader, &drafts);
    warn_about_settings(reader, fields.get("registries"), &registries, &drafts);
    let of_entries = drafts.iter().filter_map(|draft| draft.settings.notify.as_ref());
    check_receivers(reader, notify.iter().chain(of_entries).flatten());
    fields.assert_all_read();
    let entries = drafts.into_iter().map(Draft::into_entry).collect::<Option<_>>()?;
    Some(Config { daemon: daemon?, registries, entries, warnings: Vec::new() })
}

/// Returns the items of `sync`.
fn read_entries<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Option<Vec<Value<'n>>> {
    let expected = "a list of entries (`[]` for none)";
    if matches!(value.node, Node::Map(_)) {
        reader.refuse_type_with_hint(value, expected, "begin each entry with `- `, as in `- name: app`");
        return None;
    }
    reader.items(value, expected)
}
