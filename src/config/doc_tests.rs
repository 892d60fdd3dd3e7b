//! Generator and test of the reference of `sync.yaml`, `docs/reference/sync.yaml.md`, from the table of keys.

use std::fmt::Write as _;

use super::keys::table::{Alternative, Key, Shape, Table};
use super::sections::top_level::SCHEMA;
use crate::status::doc_tests::{assert_part_is_current, code, header, row};

/// Section of the page: a table of keys at its first place.
struct Section {
    /// Place of the keys, such as `registries.<HOST>.limits`; empty at the top level.
    path: String,
    table: &'static Table,
    /// Alternative sets of keys; empty if all keys are independent.
    alternatives: &'static [Alternative],
}

impl Section {
    fn title(&self) -> String {
        if self.path.is_empty() { "Top level".to_owned() } else { code(&self.path) }
    }

    /// Returns the link to the section.
    fn link(&self) -> String {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let title = self.title().to_lowercase().replace(' ', "-");
        format!("[{}](#{})", self.title(), title.chars().filter(kept).collect::<String>())
    }
}

/// Returns the table of a map, the alternative sets of its keys, and the suffix of its path: nothing, `.<NAME>` or
/// `[]`.
fn below(shape: &Shape) -> Option<(&'static Table, &'static [Alternative], &'static str)> {
    Some(match *shape {
        Shape::Map(table) | Shape::WordOr(_, table) | Shape::TextOr { keys: table, .. } => (table, &[], ""),
        Shape::OneOf(table, alternatives) => (table, alternatives, ""),
        Shape::MapOf(table) => (table, &[], ".<NAME>"),
        Shape::ListOf(table) | Shape::Maps(table) | Shape::TextOrMaps { keys: table, .. } => (table, &[], "[]"),
        _ => return None,
    })
}

/// Collects the sections, in the order of the keys. A table that occurs at several places is one section.
fn collect(section: Section, sections: &mut Vec<Section>) {
    if sections.iter().any(|known| std::ptr::eq(known.table, section.table)) {
        return;
    }
    let (table, path) = (section.table, section.path.clone());
    sections.push(section);
    for key in table.keys() {
        if let Some((table, alternatives, suffix)) = below(&key.shape) {
            let dot = if path.is_empty() { "" } else { "." };
            collect(Section { path: format!("{path}{dot}{}{suffix}", key.name), table, alternatives }, sections);
        }
    }
}

fn words(words: &[&str]) -> String {
    words.iter().map(|word| code(word)).collect::<Vec<_>>().join(", ")
}

/// Forms of texts, by the beginning or the end of their patterns.
const FORMS: [(&str, &str); 8] = [
    ("^.+$", "text"),
    ("^(forever|", "duration (`90d`, `1y`), or `forever`"),
    ("^[0-9]+ *[a-zA-Zµ]", "duration (`90s`, `1h 30m`)"),
    ("/ *(s|min|h))$", "rate (`10/s`, `600/min`, `5000/h`), or `none`"),
    ("? */s$", "bytes per second (`50MiB/s`)"),
    ("^[0-9]{1,2}:", "period of the day (`08:00-18:00`)"),
    ("^(unix:.+|", "address with its port, or `unix:PATH`"),
    ("^(off|unix:.+|", "address with its port, `unix:PATH`, or `off`"),
];

/// Returns the form of a text with this pattern: its name, or the pattern if it has no name.
fn form(pattern: &str) -> String {
    let is_known = |known: &&(&str, &str)| pattern.starts_with(known.0) || pattern.ends_with(known.0);
    FORMS.iter().find(is_known).map_or_else(|| format!("text ({})", code(pattern)), |(_, form)| (*form).to_owned())
}

/// Returns the type of a value, with its bounds.
fn kind(shape: &Shape, sections: &[Section]) -> String {
    let link = |table: &Table| {
        let section =
            sections.iter().find(|section| std::ptr::eq(section.table, table)).expect("every table was collected");
        section.link()
    };
    match shape {
        Shape::Exactly(number) => format!("the number {number}"),
        Shape::Text { pattern } => form(pattern),
        Shape::Word(names) => format!("one of {}", words(names)),
        Shape::Integer { min, max } => format!("integer, {min} to {max}"),
        Shape::Size => "size: bytes, or with a unit (`64MiB`, `100MB`)".to_owned(),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Texts { filled: true } => "text, or list of texts, at least one".to_owned(),
        Shape::Texts { filled: false } => "text, or list of texts".to_owned(),
        Shape::List => "list of texts, at least one".to_owned(),
        Shape::Secret => "secret: text, `{env: NAME}` or `{file: PATH}`".to_owned(),
        Shape::Secrets => "map of secrets, by names that you choose".to_owned(),
        Shape::TextsByName => "map of texts, by names that you choose".to_owned(),
        Shape::TextOrMaps { pattern, keys } => {
            format!("{}, a map, or a list of maps: {}", form(pattern), link(keys))
        }
        Shape::TextOr { pattern, keys } => format!("{}, or a map: {}", form(pattern), link(keys)),
        Shape::Map(keys) => format!("map: {}", link(keys)),
        Shape::WordOr(names, keys) => format!("one of {}, or a map: {}", words(names), link(keys)),
        Shape::OneOf(keys, _) => format!("map: {}", link(keys)),
        Shape::MapOf(keys) => format!("map by names that you choose: {}", link(keys)),
        Shape::ListOf(keys) | Shape::Maps(keys) => format!("list of maps: {}", link(keys)),
        Shape::Words(names) => format!("list of {}", words(names)),
    }
}

fn key_row(key: &Key, required: bool, sections: &[Section]) -> String {
    let default = match (required, key.default) {
        (true, _) => "required".to_owned(),
        (false, default) => default.map(code).unwrap_or_default(),
    };
    let mut meaning = key.about.to_owned();
    if !key.example.is_empty() {
        write!(meaning, " Example: {}.", code(key.example)).unwrap();
    }
    row(&[&code(key.name), &kind(&key.shape, sections), &default, &meaning])
}

/// Returns the text of a section. If an earlier section lists a group of keys, the text refers to that section.
fn text(section: &Section, earlier: &[Section], sections: &[Section]) -> String {
    let mut text = format!("## {}\n\n", section.title());
    let shows = |group: &[Key], other: &Section| {
        let names = |keys: &[Key]| keys.iter().map(|key| key.name).collect::<Vec<_>>();
        other.table.groups.iter().any(|known| names(known) == names(group))
    };
    for group in section.table.groups {
        if let Some(other) = earlier.iter().find(|other| shows(group, other)) {
            write!(text, "Also every key of {}.\n\n", other.link()).unwrap();
        }
    }
    if let [first, rest @ ..] = section.alternatives {
        let line = |alternative: &Alternative| {
            let optional = if alternative.optional.is_empty() {
                String::new()
            } else {
                format!(" ({})", words(alternative.optional))
            };
            format!("- {}{optional}\n", words(alternative.required))
        };
        let alternatives: String = std::iter::once(first).chain(rest).map(line).collect();
        write!(text, "Exactly one of these sets of keys; keys in parentheses are optional:\n\n{alternatives}\n")
            .unwrap();
    }
    text += &header(&["key", "type", "default", "meaning"]);
    for group in section.table.groups {
        if !earlier.iter().any(|other| shows(group, other)) {
            let is_required = |key: &Key| section.table.required.contains(&key.name);
            text.extend(group.iter().map(|key| key_row(key, is_required(key), sections)));
        }
    }
    text
}

#[test]
fn page_of_sync_yaml_is_current() {
    let mut sections = Vec::new();
    collect(Section { path: String::new(), table: SCHEMA.root(), alternatives: &[] }, &mut sections);
    assert!(sections.len() > 15);
    let keys: usize = sections.iter().map(|section| section.table.keys().count()).sum();
    assert!(keys > 100, "{keys} keys");
    let texts: Vec<String> =
        sections.iter().enumerate().map(|(at, section)| text(section, &sections[..at], &sections)).collect();
    assert_part_is_current("sync.yaml.md", &texts.join("\n"));
}
