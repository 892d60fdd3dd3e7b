//! Keys `tag` and `rename` of an entry: the names of its tags at the target.

use std::collections::BTreeMap;

use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::keys::table::{ANY, Key, Shape, key};
use crate::config::reader::{Fields, Reader, Value};
use crate::config::yaml::expand::expand;
use crate::config::yaml::node::Node;
use crate::oci::{SignatureTag, Tag};
use crate::plan::TagNames;

/// Keys of an entry.
pub(crate) const TAG_NAMES: &[Key] = &[
    key(
        "tag",
        ANY,
        "Name of each tag at the target, with `{tag}` for the tag at the source. Tags of signatures and of lists of \
         referrers keep their names. Default: the same name.",
        r#""mirror-{tag}""#,
    ),
    key(
        "rename",
        Shape::TextsByName,
        "Names at the target of single tags, by the tag at the source. They take precedence over `tag`, and select no \
         tags: see `tags`.",
        r#"{"1.2.0": "stable"}"#,
    ),
];

/// Names of an entry's tags, with the place of the name of each single tag.
#[derive(Default)]
pub(crate) struct Names<'n> {
    pub(crate) names: TagNames,
    /// Values of the key `rename`, by the tag at the source.
    pub(crate) places: BTreeMap<Tag, Value<'n>>,
}

/// Reads the keys `tag` and `rename`.
pub(crate) fn read_tag_names<'n>(reader: &Reader<'_>, fields: &Fields<'n>) -> Names<'n> {
    let template = fields.get("tag").and_then(|value| {
        reader.parsed(value, "a template like \"mirror-{tag}\" (to select tags, write `tags: {include: […]}`)")
    });
    let mut names = Names { names: TagNames { template, renamed: BTreeMap::new() }, places: BTreeMap::new() };
    let Some(value) = fields.get("rename") else { return names };
    if !matches!(value.node, Node::Map(_)) {
        reader.refuse_with_hint(
            value,
            "expected a map of tags and their names at the target",
            "write `rename: {\"1.2.0\": stable}`",
        );
        return names;
    }
    for (from, value) in value.pairs() {
        let written = reader.accept(&value, expand(from, reader.environment));
        let from = written.and_then(|from| match from.parse::<Tag>() {
            Ok(from) => Some(from),
            Err(error) => {
                reader.add_problem(Diagnostic::new(&value.path, Part::Key, error));
                None
            }
        });
        let to = reader.parsed::<Tag>(&value, "a tag");
        let (Some(from), Some(to)) = (from, to) else { continue };
        if let Some(reserved) = [&from, &to].into_iter().find(|tag| SignatureTag::read(tag).is_some()) {
            let message = format!("the tag {reserved} is made of a digest, and has the same name everywhere");
            reader.refuse_with_hint(&value, message, "write other tags");
        } else if names.names.renamed.contains_key(&from) {
            reader.add_problem(Diagnostic::new(&value.path, Part::Key, format!("duplicate tag {from}")));
        } else if let Some((other, _)) = names.names.renamed.iter().find(|(_, name)| **name == to) {
            let message = format!("the tags {other} and {from} get the same name {to}");
            reader.refuse_with_hint(&value, message, "give each tag a name of its own");
        } else {
            names.places.insert(from.clone(), value);
            names.names.renamed.insert(from, to);
        }
    }
    names
}
