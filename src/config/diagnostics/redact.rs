//! Redaction of secrets in the lines that problems show. A typo is often right beside a password, so the module covers
//! every text that may be a secret.

use std::collections::HashSet;
use std::ops::Range;

use super::diagnostic::Part;
use super::line_keys::{find_keys, find_values_of_neighbors, has_unknown_key};
use super::problem::{COVER, Excerpt};
use super::secrets::{PossibleSecret, Suspicion, find_secrets};
use super::text::measure_token;
use crate::config::keys::schema::Schema;
use crate::config::yaml::document::{Document, Format};
use crate::config::yaml::node::{affordable, locate};

/// Maximum number of secrets in a file. No line of a file with more secrets is shown.
const MOST: usize = 600;

/// Minimum length in bytes of a part of a secret that counts as a secret itself.
const SHORTEST_PART: usize = 4;

/// Separators between the parts of a text.
const SEPARATORS: [char; 16] = ['/', '@', '?', '&', '=', ':', '#', ' ', ',', '"', '\'', '{', '}', '[', ']', '\n'];

/// Masks of one file: the parts of its lines to cover, and the texts that no message may contain.
pub(crate) struct Masks {
    /// Ranges to cover, each with its line, in characters.
    covered: Vec<(usize, Range<usize>)>,
    /// Lines on which only the comment is covered.
    remarks: HashSet<usize>,
    /// True if no line of the file can be shown.
    hides_lines: bool,
    schema: &'static Schema,
    /// True if the file has the keys of the schema.
    has_table: bool,
    /// Texts that no message may contain.
    texts: Vec<String>,
}

impl Masks {
    /// Creates the masks of a file. A file of unknown format shows no lines.
    pub(crate) fn new(document: &Document, lines: &[&str]) -> Self {
        let Document { text, format, schema, .. } = document;
        let mut secrets = find_secrets(document);
        // A key of letters only is more likely a key of another program than a secret. So a message may repeat such a
        // key.
        let is_name = |secret: &&PossibleSecret<'_>| {
            secret.part == Part::Key && secret.text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
        };
        let is_secret = |secret: &&PossibleSecret<'_>| secret.suspicion == Suspicion::Secret;
        let repeated = secrets.iter().filter(|secret| is_secret(secret) && !is_name(secret));
        let texts: HashSet<String> = repeated.map(|secret| secret.text.to_owned()).collect();
        let hides_lines = *format == Format::Unknown || secrets.len() > affordable(text, MOST);
        if hides_lines {
            secrets.clear();
        }
        let (mut covered, mut remarks) = (Vec::new(), HashSet::new());
        for PossibleSecret { path, part, text: written, suspicion } in secrets {
            if let Some((line, column)) = locate(text, &path, part == Part::Key) {
                let is_nothing = written.is_empty() && part == Part::Value && !is_quoted(lines, line, column);
                if suspicion == Suspicion::Remark || is_nothing {
                    remarks.insert(line);
                } else {
                    cover(lines, line, column, written, &mut covered);
                }
            }
        }
        let mut texts: Vec<String> = texts.into_iter().filter(|text| !text.trim().is_empty()).collect();
        // Longest first, because a shorter text may be a part of a longer one.
        texts.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        Self { covered, remarks, hides_lines, schema, has_table: *format != Format::Foreign, texts }
    }

    /// Returns a message with `***` instead of each secret. The message still describes the problem.
    pub(crate) fn message(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for text in &self.texts {
            for written in [text.clone(), text.escape_debug().to_string()] {
                message = if is_word(&written) {
                    // An ordinary word in a message does not reveal the secret, so only quoted text is covered.
                    let quoted = |message: String, quote| {
                        message.replace(&format!("{quote}{written}{quote}"), &format!("{quote}{COVER}{quote}"))
                    };
                    ['"', '`', '\''].into_iter().fold(message, quoted)
                } else if written.chars().count() > 2 {
                    message.replace(&written, COVER)
                } else {
                    message
                };
            }
            for part in split_secret(text) {
                message = message.replace(part, COVER);
            }
        }
        message
    }

    /// Returns the excerpt of a line without its secrets, or `None` if the line cannot be shown or is empty.
    pub(crate) fn excerpt(&self, line: usize, excerpt: Excerpt) -> Option<Excerpt> {
        if self.hides_lines || excerpt.text.trim().is_empty() {
            return None;
        }
        let mut ranges: Vec<Range<usize>> =
            self.covered.iter().filter(|(at, _)| *at == line).map(|(_, range)| range.clone()).collect();
        if !self.has_table {
            ranges.extend(find_values_of_neighbors(self.schema, &excerpt.text, excerpt.start));
        }
        ranges.sort_by_key(|range| range.start);
        if !ranges.is_empty() || self.remarks.contains(&line) {
            ranges.extend(find_properties(&excerpt.text));
        }
        // A comment beside a secret may contain the old secret, and a secret may be commented out.
        if let Some(comment) = find_comment(&excerpt.text, ranges.last().map_or(0, |last| last.end)) {
            let comment_text: String = excerpt.text.chars().skip(comment.start).collect();
            let suspect = find_keys(&comment_text).any(|key| self.schema.leads_to_secrets(key))
                || comment_text.split_whitespace().any(|word| self.schema.hides_secret(word))
                || self.has_table && has_unknown_key(self.schema, &comment_text);
            let covers = suspect || !ranges.is_empty() || self.remarks.contains(&line);
            ranges.extend(covers.then_some(comment));
        }
        ranges.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Some(merged.into_iter().rev().fold(excerpt, cover_range))
    }
}

/// Returns the excerpt with one range covered and its caret moved accordingly.
fn cover_range(excerpt: Excerpt, range: Range<usize>) -> Excerpt {
    let Excerpt { text, start, length } = excerpt;
    let characters: Vec<char> = text.chars().collect();
    let end = range.end.min(characters.len());
    let begin = range.start.min(end);
    let text: String =
        characters[..begin].iter().chain(&COVER.chars().collect::<Vec<_>>()).chain(&characters[end..]).collect();
    let (start, length) = if start >= end {
        (start - (end - begin) + COVER.len(), length)
    } else if start >= begin {
        (begin, COVER.len())
    } else {
        (start, length.min(begin - start))
    };
    Excerpt { text, start, length }
}

/// Returns true if a text is one word of lower-case letters, as in a sentence.
fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Returns the parts of a secret that a message may repeat alone: the parts of a login or of a query, and every part
/// that is not a plain word.
fn split_secret(text: &str) -> impl Iterator<Item = &str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let login = rest.rsplit_once('@').map_or("", |(login, _)| login);
    let query = text.split_once('?').map_or("", |(_, query)| query);
    let all = text.split(SEPARATORS).filter(|part| {
        let is_name = part.bytes().all(|b| b.is_ascii_lowercase() || b".-_*".contains(&b));
        part.len() >= SHORTEST_PART && !is_name
    });
    let of_login = login.split(SEPARATORS).filter(|part| part.len() >= SHORTEST_PART);
    let of_query = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
    all.chain(of_login).chain(of_query.filter(|part| part.len() >= SHORTEST_PART))
}

/// Returns the anchors, aliases and tags of a line. YAML reads a password that begins with `&` as an anchor, with `*`
/// as an alias, and with `!` as a tag.
fn find_properties(line: &str) -> Vec<Range<usize>> {
    let characters: Vec<char> = line.chars().collect();
    let begins = |at: usize| {
        let before = if at == 0 { ' ' } else { characters[at - 1] };
        matches!(characters[at], '&' | '*' | '!') && matches!(before, ' ' | '[' | '{' | ',')
    };
    let end =
        |at: usize| (at..characters.len()).find(|end| characters[*end].is_whitespace()).unwrap_or(characters.len());
    (0..characters.len()).filter(|at| begins(*at)).map(|at| at..end(at)).collect()
}

/// Returns the comment of a line after a column.
fn find_comment(line: &str, column: usize) -> Option<Range<usize>> {
    let characters: Vec<char> = line.chars().collect();
    let at =
        (column.max(1)..characters.len()).find(|at| characters[*at] == '#' && characters[at - 1].is_whitespace())?;
    Some(at + 1..usize::MAX)
}

/// Covers one scalar, which begins at `line` and `column`. The cover ends with the scalar if the scalar ends in that
/// line, otherwise with the line. The cover of a scalar on several lines also includes the next lines, up to a comma or
/// a bracket.
fn cover(lines: &[&str], line: usize, column: usize, text: &str, covered: &mut Vec<(usize, Range<usize>)>) {
    let written = lines.get(line - 1).copied().unwrap_or_default();
    let tail: String = written.chars().skip(column - 1).collect();
    let length = measure_token(&tail, text);
    let start = column - 1;
    if tail.starts_with(['&', '!', '*']) {
        // The text is an anchor, a tag or an alias, which the tree does not contain.
        covered.push((line, start..usize::MAX));
        return;
    }
    if length > 1 || text.chars().count() == 1 {
        covered.push((line, start..start + length));
        return;
    }
    covered.push((line, start..usize::MAX));
    if let Some(quote) = tail.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        cover_to_quote(lines, line, quote, covered);
        return;
    }
    for (at, next) in lines.iter().enumerate().skip(line) {
        let end = next.find([',', '}', ']', '#', ':']);
        covered.push((at + 1, 0..end.map_or(usize::MAX, |end| next[..end].chars().count())));
        if end.is_some() || next.trim().is_empty() {
            break;
        }
    }
}

/// Returns true if quoted text begins at a place.
fn is_quoted(lines: &[&str], line: usize, column: usize) -> bool {
    let written = lines.get(line - 1).copied().unwrap_or_default();
    written.chars().nth(column - 1).is_some_and(|c| matches!(c, '"' | '\''))
}

/// Covers the rest of quoted text that spans several lines.
fn cover_to_quote(lines: &[&str], line: usize, quote: char, covered: &mut Vec<(usize, Range<usize>)>) {
    for (at, next) in lines.iter().enumerate().skip(line) {
        let mut escaped = false;
        let end = next.chars().position(|c| {
            let closes = c == quote && !escaped;
            escaped = c == '\\' && quote == '"' && !escaped;
            closes
        });
        covered.push((at + 1, 0..end.map_or(usize::MAX, |end| end + 1)));
        if end.is_some() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::split_lines;
    use super::*;
    use crate::config::sections::top_level::SCHEMA;

    fn document(text: &str, format: Format) -> Document {
        let root = crate::config::yaml::node::read(text).unwrap();
        Document { name: "f".into(), text: text.into(), root, format, schema: &SCHEMA }
    }

    fn shown(text: &str, format: Format, line: usize, start: usize) -> Option<String> {
        let lines = split_lines(text);
        let excerpt = Excerpt { text: lines[line - 1].to_owned(), start, length: 1 };
        let masked = Masks::new(&document(text, format), &lines).excerpt(line, excerpt)?;
        let under: String = masked.text.chars().skip(masked.start).take(masked.length).collect();
        Some(format!("{} <{under}>", masked.text))
    }

    #[test]
    fn possible_secret_is_covered_and_caret_moves_along() {
        for (text, line, start, expected) in [
            ("a: {password: hunter2, usrname: x}", 1, 23, "a: {password: ***, usrname: x} <u>"),
            ("a: {pasword: 'hunter2', usrname: x}", 1, 4, "a: {pasword: ***, usrname: ***} <p>"),
            (r#"creds: {password: "hun\"ter2", passwd: [hunter2]}"#, 1, 0, "creds: {password: ***, passwd: [***]} <c>"),
            ("password: {env: NAME, fil: hunter2}", 1, 22, "password: {env: NAME, fil: ***} <f>"),
            ("token: 12345678", 1, 9, "token: *** <***>"),
            ("source: https://me:hunter2@ghcr.io/x", 1, 8, "source: *** <***>"),
            ("{password: hunter2\n hunter3, usrname: x}", 1, 1, "{password: *** <p>"),
            ("{password: hunter2\n hunter3, usrname: x}", 2, 10, "***, usrname: x} <u>"),
            ("a: {password:'hunter2', usrname: x}", 1, 4, "a: {***, usrname: x} <***>"),
            ("a: {credentials: {hunter2, usrname: x}}", 1, 27, "a: {credentials: {***, usrname: ***}} <u>"),
            ("credentials: hunter2 # c", 1, 0, "credentials: *** #*** <c>"),
        ] {
            assert_eq!(shown(text, Format::Foreign, line, start).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn value_under_a_key_that_its_map_lacks_is_covered() {
        for (text, expected) in [
            ("api_key: hunter2", "api_key: *** <a>"),
            ("env: {FOO: hunter2, foo: [1, {x: true}]}", "env: {***: ***, foo: [***, {x: ***}]} <e>"),
            (
                "registries: {h.example: {plain_http: true, key: hunter2}}",
                "registries: {h.example: {plain_http: true, key: ***}} <r>",
            ),
            ("registries: {h.example: hunter2}", "registries: {h.example: ***} <r>"),
            (
                "registries: {\"h.example:5000\": {kind: acr}, h:hunter2}",
                "registries: {\"h.example:5000\": {kind: acr}, ***} <r>",
            ),
            (
                "registries: {h.example: {tls: {ca: ca.pem, file: ca.pem}}}",
                "registries: {h.example: {tls: {ca: ca.pem, file: ***}}} <r>",
            ),
            (
                "sync: [{name: a, verify: {key: hunter2}, jitter: {x: 5m}}]",
                "sync: [{name: a, verify: {key: ***}, jitter: {x: ***}}] <s>",
            ),
            (
                "sync: [{name: a, tags: [b, {include: c, key: d}]}, e]",
                "sync: [{name: a, tags: [b, {include: c, key: ***}]}, ***] <s>",
            ),
            ("daemon: {status: x, memory:1, api_key:2} # api_key: 3", "daemon: {status: x, memory:1, ***} #*** <d>"),
            ("defaults: {timeout: 1h} # api_key: 3", "defaults: {timeout: 1h} #*** <d>"),
            ("defaults: {timeout: 1h} # as long as it takes", "defaults: {timeout: 1h} # as long as it takes <d>"),
        ] {
            assert_eq!(shown(text, Format::Configuration, 1, 0).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn value_that_nothing_reads_changes_no_message() {
        let text = "version: 1\nlimit: 1000\nwhere: [daemon, token]\ntoken: Hunter2\n";
        let masks = Masks::new(&document(text, Format::Configuration), &split_lines(text));
        let message = "expected a number from 1 to 1000 under `daemon`, found Hunter2";
        assert_eq!(masks.message(message), "expected a number from 1 to 1000 under `daemon`, found ***");
    }

    #[test]
    fn a_file_of_more_secrets_than_can_be_found_shows_no_lines() {
        let text = format!("token: [{}]\na: 1\n", vec!["x"; MOST + 1].join(","));
        assert_eq!(shown(&text, Format::Foreign, 2, 0), None);
    }
}
