//! Section `repositories` of an entry: the selection of repositories below a source that ends in `/**`.

use crate::config::keys::table::{Shape, Table, key};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::plan::{RepositoryPattern, RepositorySelection};

pub(crate) static REPOSITORIES: Table = Table {
    place: "under `repositories`",
    groups: &[&[
        key(
            "include",
            Shape::Texts { filled: true },
            "Repositories to copy, by the part of the name that `**` stands for: globs, in which `*` also matches `/`, \
             and `re:` with a regular expression that matches the whole part. Default: every repository.",
            r#"["team/*", "base"]"#,
        ),
        key(
            "exclude",
            Shape::Texts { filled: false },
            "Globs and regular expressions of repositories to skip.",
            r#"["*-test"]"#,
        ),
    ]],
    required: &[],
};

/// Reads the selection. Returns `None` if the value is no map.
pub(crate) fn read_repositories(reader: &Reader<'_>, value: &Value<'_>) -> Option<RepositorySelection> {
    if matches!(value.node, Node::List(_) | Node::Text(_)) {
        reader.refuse_with_hint(
            value,
            "expected a map of keys like include, exclude",
            "write `repositories: {include: […]}`",
        );
        return None;
    }
    let fields = reader.fields(value, &REPOSITORIES)?;
    let read = |key| fields.get(key).map(|value| read_patterns(reader, value, key)).unwrap_or_default();
    let selection = RepositorySelection { include: read("include"), exclude: read("exclude") };
    fields.assert_all_read();
    Some(selection)
}

fn read_patterns(reader: &Reader<'_>, value: &Value<'_>, key: &str) -> Vec<RepositoryPattern> {
    let items = reader.texts(value, "a list of repository patterns").unwrap_or_default();
    if key == "include" && items.is_empty() && matches!(value.node, Node::List(_)) {
        reader.refuse_with_hint(
            value,
            "`include` is empty, so no repository would be selected",
            "remove `include` to select every repository",
        );
    }
    items.iter().filter_map(|item| reader.parsed(item, "a repository pattern")).collect()
}
