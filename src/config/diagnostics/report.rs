//! Conversion of diagnostics into [`Problem`]s with line, column and excerpt. Secrets are masked.

use super::diagnostic::{Diagnostic, Part};
use super::problem::{Excerpt, Problem, Problems};
use super::redact::Masks;
use super::text::{measure_token, split_lines};
use crate::config::yaml::document::Document;
use crate::config::yaml::node::{Node, Path, affordable, locate};

/// Maximum number of problems for which the program searches the line and column.
const MOST_LOCATED: usize = 100;

/// Converts the diagnostics of one file. If `found` is empty, returns `None`. `find_origin` returns the file and the
/// path in that file for a path in the combined tree.
pub(crate) fn locate_problems<'d>(
    document: &Document,
    found: Vec<Diagnostic>,
    find_origin: impl Fn(&[usize]) -> Option<(&'d Document, Path)>,
) -> Option<Problems> {
    if found.is_empty() {
        return None;
    }
    let Document { name, text, root, .. } = document;
    let lines = split_lines(text);
    let masks = Masks::new(document, &lines);
    let most = affordable(text, MOST_LOCATED);
    let more = found.len().saturating_sub(most);
    let problems = found.into_iter().take(most).map(|found| {
        let (line, column) = locate(text, &found.path, found.part == Part::Key).unwrap_or((1, 1));
        let mut message = masks.message(&found.message);
        if let Some((path, part)) = found.first
            && let Some((origin, path)) = find_origin(&path)
            && let Some((line, _)) = locate(&origin.text, &path, part == Part::Key)
        {
            let of_file = if origin.name == *name { String::new() } else { format!(" of {}", origin.name) };
            message += &format!(" (first occurrence in line {line}{of_file})");
        }
        let written = lines.get(line - 1).copied().unwrap_or_default();
        let length = measure_width(root, &found.path, found.part, written, column);
        let excerpt = masks.excerpt(line, Excerpt { text: written.to_owned(), start: column - 1, length });
        let hint = found.hint.map(|hint| masks.message(&hint));
        Problem { file: name.clone(), line, column, message, hint, excerpt }
    });
    Problems::new(problems.collect(), more)
}

/// Returns the length of the key or value in its line, in characters.
fn measure_width(root: &Node, path: &[usize], part: Part, line: &str, column: usize) -> usize {
    let tail: String = line.chars().skip(column - 1).collect();
    let Some((key, node)) = find_node(root, path) else { return 1 };
    let text = match (part, node) {
        (Part::Key, _) => key.to_owned(),
        (Part::Value, Node::Text(text) | Node::Number(text)) => text.clone(),
        (Part::Value, Node::Bool(value)) => value.to_string(),
        _ => return 1,
    };
    measure_token(&tail, &text)
}

/// Returns the node at a path, and the key of the node.
fn find_node<'n>(root: &'n Node, path: &[usize]) -> Option<(&'n str, &'n Node)> {
    path.iter().try_fold(("", root), |(_, node), at| match node {
        Node::List(items) => items.get(*at).map(|item| ("", item)),
        Node::Map(pairs) => pairs.get(*at).map(|(key, value)| (key.as_str(), value)),
        _ => None,
    })
}
