//! Writer of YAML text with comments, with maps in insertion order. A YAML parser reads every written value back
//! unchanged. The module is not a YAML library: it writes only the forms that an import needs.

use std::fmt::Write as _;

/// Maximum width of a comment, in characters.
const WIDTH: usize = 110;

/// Map with comments between its pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map(Vec<Line>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Comment(String),
    Pair(String, Value),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    /// Value that is written without quotes: a number, `true`, `[]`.
    Verbatim(String),
    Text(String),
    Texts(Vec<String>),
    /// Map of one pair, written on one line.
    InlineMap(&'static str, String),
    Map(Map),
}

impl Map {
    /// Returns true if the map has no pairs; comments do not count.
    pub(super) fn is_empty(&self) -> bool {
        !self.0.iter().any(|line| matches!(line, Line::Pair(..)))
    }

    pub(super) fn comments(&mut self, comments: impl IntoIterator<Item = String>) {
        self.0.extend(comments.into_iter().map(Line::Comment));
    }

    /// Adds a text in transship's syntax, in which `${NAME}` is a variable; see [`escape_variables`].
    pub(super) fn text(&mut self, key: &str, text: impl Into<String>) {
        self.pair(key, Value::Text(text.into()));
    }

    pub(super) fn verbatim(&mut self, key: &str, value: impl ToString) {
        self.pair(key, Value::Verbatim(value.to_string()));
    }

    pub(super) fn texts(&mut self, key: &str, texts: Vec<String>) {
        self.pair(key, Value::Texts(texts));
    }

    pub(super) fn inline_map(&mut self, key: &str, inner: &'static str, text: impl Into<String>) {
        self.pair(key, Value::InlineMap(inner, text.into()));
    }

    /// Adds a nested map. If the map is empty, adds only its comments.
    pub(super) fn map(&mut self, key: &str, map: Map) {
        if map.is_empty() {
            self.0.extend(map.0);
        } else {
            self.pair(key, Value::Map(map));
        }
    }

    fn pair(&mut self, key: &str, value: Value) {
        self.0.push(Line::Pair(key.to_owned(), value));
    }

    /// Returns the lines, indented by `indent` spaces.
    pub(super) fn lines(&self, indent: usize) -> Vec<String> {
        let (mut lines, margin) = (Vec::new(), " ".repeat(indent));
        for line in &self.0 {
            match line {
                Line::Comment(comment) => lines.extend(comment_lines(comment, indent)),
                Line::Pair(key, Value::Map(map)) => {
                    lines.push(format!("{margin}{}:", to_scalar(key)));
                    lines.extend(map.lines(indent + 2));
                }
                Line::Pair(key, Value::Texts(texts)) if is_long(texts) => {
                    lines.push(format!("{margin}{}:", to_scalar(key)));
                    lines.extend(texts.iter().map(|text| format!("{margin}  - {}", to_scalar(text))));
                }
                Line::Pair(key, value) => lines.push(format!("{margin}{}: {}", to_scalar(key), inline(value))),
            }
        }
        lines
    }
}

/// Returns true if a list is written on several lines, one for each item.
fn is_long(texts: &[String]) -> bool {
    texts.len() > 1 && texts.iter().map(|text| text.chars().count() + 4).sum::<usize>() > WIDTH
}

fn inline(value: &Value) -> String {
    match value {
        Value::Verbatim(text) => text.clone(),
        Value::Text(text) => to_scalar(text),
        Value::Texts(texts) => {
            format!("[{}]", texts.iter().map(|text| to_scalar(text)).collect::<Vec<_>>().join(", "))
        }
        Value::InlineMap(key, text) => format!("{{{key}: {}}}", to_scalar(text)),
        Value::Map(_) => "{}".to_owned(),
    }
}

/// Returns a comment, wrapped between words. No character of the text can end the comment.
pub(super) fn comment_lines(comment: &str, indent: usize) -> Vec<String> {
    let margin = " ".repeat(indent);
    let clean: String = comment.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in clean.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && line.chars().count() + word.chars().count() >= WIDTH {
            lines.push(format!("{margin}# {line}"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(format!("{margin}# {line}"));
    lines
}

/// Escapes each `$` of a text that has no variables, for transship's syntax.
pub(super) fn escape_variables(text: &str) -> String {
    if text.contains("$$") || text.contains("${") { text.replace('$', "$$") } else { text.to_owned() }
}

/// Returns a text as one scalar of YAML 1.2. Readers of YAML 1.1 read the same text.
fn to_scalar(text: &str) -> String {
    if is_bare(text) {
        return text.to_owned();
    }
    if text.contains(['\\', '"']) && !text.contains('\'') && text.chars().all(is_printable) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_printable(c) => quoted.push(c),
            // Writing to a string does not fail.
            c => drop(write!(quoted, "\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Words that some YAML readers do not read as text.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

fn is_bare(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./:@-".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// Returns true if a character needs no escape, in YAML and on a terminal.
fn is_printable(c: char) -> bool {
    let is_special = matches!(
        c,
        '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{200b}'..='\u{200f}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}'
    );
    !c.is_control() && !is_special
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_reads_back_unchanged(text in any::<String>()) {
            // The text is a key too, so it must differ from the other keys of the test.
            prop_assume!(!["a", "b", "c"].contains(&text.as_str()));
            let mut map = Map::default();
            map.comments([text.clone()]);
            map.text("a", text.clone());
            map.texts("b", vec![text.clone(), text.clone()]);
            map.inline_map("c", "env", text.clone());
            map.text(&text, "d");
            let written = map.lines(0).join("\n");
            let read: serde_yaml::Mapping = serde_yaml::from_str(&written).unwrap();
            let expected = [
                ("a".into(), serde_yaml::Value::from(text.clone())),
                ("b".into(), vec![text.clone(), text.clone()].into()),
                ("c".into(), serde_yaml::Mapping::from_iter([("env".into(), text.clone().into())]).into()),
                (text.clone().into(), "d".into()),
            ];
            prop_assert_eq!(read, serde_yaml::Mapping::from_iter(expected));
        }
    }

    #[test]
    fn text_is_quoted_only_if_necessary() {
        for (text, written) in [
            ("docker.io/library/a", "docker.io/library/a"),
            ("3.10", "\"3.10\""),
            ("no", "\"no\""),
            ("re:3\\.1", "'re:3\\.1'"),
            ("it's \\", "\"it's \\\\\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("${A}/b", "\"${A}/b\""),
            ("a\nb", "\"a\\U0000000Ab\""),
        ] {
            assert_eq!(to_scalar(text), written);
        }
    }

    #[test]
    fn comment_with_line_break_stays_a_comment() {
        let lines = comment_lines(&format!("{}\nsync: []", "word ".repeat(30)), 2);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.starts_with("  # ")), "{lines:?}");
    }
}
