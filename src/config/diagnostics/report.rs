//! Report of diagnostics: converts what was found at nodes into [`Problem`]s at lines and columns, and keeps secrets
//! out of the lines shown.

use std::fmt::Display;

use super::problem::{Excerpt, Problem, Problems};
use super::redact::Masks;
use crate::config::yaml::files::Document;
use crate::config::yaml::node::{Node, Path, affordable, locate};

/// Maximum number of problems that are located; nobody reads more.
const MOST_LOCATED: usize = 100;

/// Problem at a node.
#[derive(Debug, Clone)]
pub(crate) struct Diagnostic {
    path: Path,
    part: Part,
    message: String,
    hint: Option<String>,
    /// Place of the first occurrence, if the diagnostic is about a repetition.
    first: Option<(Path, Part)>,
}

/// Part of a key-value pair that the diagnostic refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

impl Diagnostic {
    pub(crate) fn new(path: &[usize], part: Part, message: impl Display) -> Self {
        Self { path: path.to_vec(), part, message: message.to_string(), hint: None, first: None }
    }

    pub(crate) fn hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    /// Returns the place of the diagnostic.
    pub(crate) fn path(&self) -> &[usize] {
        &self.path
    }

    /// Returns the same diagnostic at another place.
    pub(crate) fn at(self, path: Path) -> Self {
        Self { path, ..self }
    }

    /// Adds the place of the first occurrence of something repeated. The message names the line of that place.
    pub(crate) fn first(self, path: &[usize], part: Part) -> Self {
        Self { first: Some((path.to_vec(), part)), ..self }
    }
}

/// Finds the lines and columns of all diagnostics of one file. Returns `None` if there are none. `origin` returns the
/// file and the place of a first occurrence, which may be in another file.
pub(crate) fn problems<'d>(
    document: &Document,
    found: Vec<Diagnostic>,
    origin: impl Fn(&[usize]) -> Option<(&'d Document, Path)>,
) -> Option<Problems> {
    if found.is_empty() {
        return None;
    }
    let Document { name, text, root, format } = document;
    let lines = lines(text);
    let masks = Masks::new(text, &lines, root, *format);
    let most = affordable(text, MOST_LOCATED);
    let more = found.len().saturating_sub(most);
    let problems = found.into_iter().take(most).map(|found| {
        let (line, column) = locate(text, &found.path, found.part == Part::Key).unwrap_or((1, 1));
        let mut message = masks.message(&found.message);
        if let Some((path, part)) = found.first
            && let Some((there, path)) = origin(&path)
            && let Some((line, _)) = locate(&there.text, &path, part == Part::Key)
        {
            message += &format!(", first in line {line}");
            if there.name != *name {
                message += &format!(" of {}", there.name);
            }
        }
        let written = lines.get(line - 1).copied().unwrap_or_default();
        let length = width(root, &found.path, found.part, written, column);
        let excerpt = masks.excerpt(line, Excerpt { text: written.to_owned(), start: column - 1, length });
        let hint = found.hint.map(|hint| masks.message(&hint));
        Problem { file: name.clone(), line, column, message, hint, excerpt }
    });
    Problems::new(problems.collect(), more)
}

/// Splits the text into lines as the YAML parser counts them.
pub(crate) fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        let (line, end) = rest.split_at(at);
        lines.push(line);
        let length = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(1, char::len_utf8) };
        rest = &end[length..];
    }
    lines.push(rest);
    lines
}

/// Returns the number of characters of the line that the key or value takes.
fn width(root: &Node, path: &[usize], part: Part, line: &str, column: usize) -> usize {
    let tail: String = line.chars().skip(column - 1).collect();
    let Some((key, node)) = at(root, path) else { return 1 };
    let text = match (part, node) {
        (Part::Key, _) => key.to_owned(),
        (Part::Value, Node::Text(text) | Node::Number(text)) => text.clone(),
        (Part::Value, Node::Bool(value)) => value.to_string(),
        _ => return 1,
    };
    token(&tail, &text)
}

/// Returns the number of characters at the beginning of `tail` that spell `text`, quoted or not. Returns 1 if that
/// number cannot be determined.
pub(crate) fn token(tail: &str, text: &str) -> usize {
    if !text.is_empty() && tail.starts_with(text) {
        return text.chars().count();
    }
    let Some(quote) = tail.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return 1 };
    let mut escaped = false;
    for (at, c) in tail.chars().enumerate().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && quote == '"' && !escaped;
    }
    1
}

/// Returns the key and the node at a path.
fn at<'n>(root: &'n Node, path: &[usize]) -> Option<(&'n str, &'n Node)> {
    path.iter().try_fold(("", root), |(_, node), at| match node {
        Node::List(items) => items.get(*at).map(|item| ("", item)),
        Node::Map(pairs) => pairs.get(*at).map(|(key, value)| (key.as_str(), value)),
        _ => None,
    })
}
