//! Section `tags`: the selection of tags, in an entry and under `defaults`.

use crate::config::keys::table::{ANY, Shape, Table, key};
use crate::config::reader::{Placed, Reader, Value};
use crate::config::yaml::node::Node;
use crate::oci::Tag;
use crate::plan::{Pattern, Selection};

pub(crate) static TAGS: Table = Table {
    place: "under `tags`",
    groups: &[&[
        key(
            "include",
            Shape::Texts { filled: true },
            "Tags to select: globs; `re:` and a regular expression that matches the whole tag; `TAG@sha256:…` for a \
             digest that is copied under this tag; `@sha256:…` for a digest that is copied without a tag. Default: \
             every tag.",
            r#"["3.12-slim*", "re:v[0-9]+"]"#,
        ),
        key(
            "exclude",
            Shape::Texts { filled: false },
            "Globs and regular expressions of tags to skip.",
            r#"["*-rc*"]"#,
        ),
        key("semver", ANY, "Range of versions. Tags that are not versions are not selected.", r#"">=3.12, <4""#),
        key(
            "newest",
            Shape::Integer { min: 1, max: 1_000_000 },
            "Maximum number of the selected tags to copy: first the highest versions, then the alphabetically last \
             names of other tags.",
            "10",
        ),
        key(
            "at_least",
            Shape::Integer { min: 1, max: 1_000_000 },
            "Minimum number of selected tags. A run that selects fewer tags fails, so that an empty list never counts \
             as success. All repositories of a tree (`/**`) count together.",
            "1",
        ),
    ]],
    required: &[],
};

/// Selection of tags, and the places of its patterns.
#[derive(Clone, Default)]
pub(crate) struct Tags<'n> {
    pub(crate) selection: Selection,
    pub(crate) include: Vec<Placed<'n, Pattern>>,
}

/// Reads the selection. Returns `None` if the value is no map.
pub(crate) fn read_tags<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Option<Tags<'n>> {
    if matches!(value.node, Node::List(_) | Node::Text(_)) {
        reader.refuse_with_hint(value, "expected a map of keys like include, exclude", "write `tags: {include: […]}`");
        return None;
    }
    let fields = reader.fields(value, &TAGS)?;
    let include = fields.get("include").map(|value| read_patterns(reader, value, "include")).unwrap_or_default();
    let exclude = fields.get("exclude").map(|value| read_patterns(reader, value, "exclude")).unwrap_or_default();
    for (_, value) in exclude.iter().filter(|(pattern, _)| pattern.digest().is_some()) {
        reader.refuse(value, "a digest cannot be excluded: write the tags to exclude");
    }
    check_pins_agree(reader, &include);
    let selection = Selection {
        include: include.iter().map(|(pattern, _)| pattern.clone()).collect(),
        exclude: exclude.into_iter().map(|(pattern, _)| pattern).collect(),
        semver: fields
            .get("semver")
            .and_then(|value| reader.parsed_with_hints(value, "a range of versions like \">=1.2\"", suggest_selection)),
        newest: fields.integer(reader, "newest"),
        at_least: fields.integer(reader, "at_least"),
    };
    let pins = include.iter().filter(|(pattern, _)| pattern.digest().is_some()).count();
    if let (Some(newest), Some(at_least), Some(value)) = (selection.newest, selection.at_least, fields.get("at_least"))
        && at_least > newest + pins
    {
        reader.refuse(value, format!("`at_least: {at_least}` can never be reached with `newest: {newest}`"));
    }
    fields.assert_all_read();
    Some(Tags { selection, include })
}

/// Returns the keys that select the tag that is written as a range of versions.
fn suggest_selection(text: &str) -> Option<String> {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.parse::<Tag>().is_ok();
    let hint = || format!("for this tag write `include: [{text}]`, and for the highest version write `newest: 1`");
    is_word.then(hint)
}

/// Reports contradictory pins. A tag has one content at the target. So a tag has at most one pin, and no other item
/// names a pinned tag.
fn check_pins_agree(reader: &Reader<'_>, include: &[Placed<'_, Pattern>]) {
    for (index, (pattern, value)) in include.iter().enumerate() {
        let Some((tag, digest)) = pattern.pin() else { continue };
        let others = include.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, (pattern, _))| pattern);
        if others.clone().any(|other| other.literal() == Some(tag)) {
            let message = format!("the tag {tag} is written with a digest and without one");
            reader.refuse_with_hint(value, message, "write the tag once");
        }
        if others.filter_map(Pattern::pin).any(|(other, pinned)| other == tag && pinned != digest) {
            reader.refuse_with_hint(
                value,
                format!("the tag {tag} is pinned to two digests"),
                "write only one of the digests",
            );
        }
    }
}

fn read_patterns<'n>(reader: &Reader<'_>, value: &Value<'n>, key: &str) -> Vec<Placed<'n, Pattern>> {
    let items = reader.texts(value, "a list of tag patterns").unwrap_or_default();
    if key == "include" && items.is_empty() && matches!(value.node, Node::List(_)) {
        reader.refuse_with_hint(
            value,
            "`include` is empty, so no tag would be selected",
            "remove `include` to select every tag",
        );
    }
    items.iter().filter_map(|item| reader.placed(item, "a tag pattern")).collect()
}
