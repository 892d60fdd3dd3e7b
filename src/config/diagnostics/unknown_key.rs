//! Problem of an unknown key, with the key that was probably meant, or the place where the key belongs.

use super::diagnostic::{Diagnostic, Part};
use super::schema_place::is_name;
use crate::config::keys::nearest::find_nearest;
use crate::config::keys::schema::Schema;
use crate::config::keys::table::Table;
use crate::config::yaml::node::Node;
use crate::config::yaml::scalar::has_curly_quotes;

/// Creates the problem of an unknown key of a map with the keys of `table`. The hint is the key that the written name
/// means in other programs, otherwise the nearest known key, otherwise the place where the key belongs, otherwise a
/// list of the known keys.
pub(crate) fn unknown_key(
    schema: &'static Schema,
    table: &'static Table,
    name: &str,
    node: &Node,
    path: &[usize],
) -> Diagnostic {
    let key = if schema.may_show(name, schema.secrecy_of(table)) && is_name(schema, name, node, table) {
        format!("key `{name}`")
    } else {
        "key".to_owned()
    };
    let found = Diagnostic::new(path, Part::Key, format!("unknown {key} {}", table.place));
    if name == "<<" {
        return found.with_hint("YAML merge keys are not supported: write all keys, or use `defaults`");
    }
    let names: Vec<&str> = table.keys().map(|key| key.name).collect();
    if let Some((before, _)) = name.split_once(':').filter(|(before, _)| table.find(before).is_some()) {
        return found.with_hint(format!("write a space after the colon of `{before}:`"));
    }
    if has_curly_quotes(name) {
        return found.with_hint("YAML reads curly quotes as a part of the key: write the key without quotes");
    }
    if let Some(synonym) = schema.find_synonym(table, name) {
        return found.with_hint(synonym.remedy());
    }
    if let Some(near) = find_nearest(name, names.iter().copied()) {
        return found.with_hint(format!("did you mean `{near}`?"));
    }
    if let Some([one, other]) =
        keys_to_the_same_map(table).filter(|(_, below)| below.find(name).is_some()).map(|(keys, _)| keys)
    {
        return found.with_hint(format!("write `{one}: {{{name}: …}}`, `{other}: {{{name}: …}}` or both"));
    }
    if let Some(other) = table.below().chain(schema.tables()).find(|other| other.find(name).is_some()) {
        return found.with_hint(format!("the key belongs {}", other.place));
    }
    found.with_hint(format!("known keys: {}", names.join(", ")))
}

/// Returns both keys of a table with exactly two keys that take the same map, and the table of that map.
fn keys_to_the_same_map(table: &Table) -> Option<([&'static str; 2], &'static Table)> {
    let keys: Vec<_> = table.keys().map(|key| (key.name, key.shape.table())).collect();
    match keys.as_slice() {
        [(one, Some(below)), (other, Some(same))] if std::ptr::eq(*below, *same) => Some(([one, other], below)),
        _ => None,
    }
}
