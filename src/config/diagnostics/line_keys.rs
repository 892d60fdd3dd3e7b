//! Search for keys in the lines of a text that is not valid YAML. The parser returns no tree for this text. A message
//! therefore shows a line only if all keys of the line are known and have no secret values.

use std::ops::Range;

use super::problem::{COVER, Excerpt};
use crate::config::keys::schema::{Schema, Secrecy};
use crate::config::keys::table::Shape;
use crate::config::yaml::document::Format;

/// Part of a line. Commas and opening brackets separate the parts.
enum Piece<'l> {
    /// Brackets and spaces only.
    Empty,
    /// Text without a key, such as `b` in `[a, b]`.
    Text,
    /// Key without a space after the colon, such as `key:value`.
    Joined(&'l str),
    /// Key with its colon. The flag is true for `key: value`, and false for `key:` without a value on the same line.
    Pair(&'l str, bool),
    /// More than one key. In valid YAML, one part has at most one key.
    Several,
}

/// Kinds of values that a key can have in maps without secrets.
#[derive(Clone, Copy)]
struct AcceptedValues {
    scalar: bool,
    list: bool,
}

/// Returns the excerpt of a line from invalid YAML. If the section has no secrets, and each key of the line is known
/// and has no secret value, the excerpt contains the whole line. If not, the excerpt contains at most the first key.
pub(crate) fn excerpt_by_keys(
    schema: &Schema,
    lines: &[&str],
    line: usize,
    format: Format,
    excerpt: Excerpt,
) -> Option<Excerpt> {
    if !may_be_configuration(schema, lines) {
        return None;
    }
    let above = lines.get(..line).unwrap_or_default();
    let own_keys = find_keys(&excerpt.text).any(|key| schema.leads_to_secrets(key));
    let suspect = |word: &str| schema.hides_secret(word.trim_matches(['"', '\'']));
    let words = excerpt.text.split([' ', ',', '{', '}', '[', ']']).any(suspect);
    if is_among_settings(schema, above, format) && !own_keys && !words && !excerpt.text.contains("://") {
        return Some(excerpt);
    }
    let shown = match first_key(&excerpt.text) {
        Some(key) if schema.may_show(key, Secrecy::Credentials) || schema.is_known(key) => {
            excerpt.text.split_inclusive(':').next().unwrap_or_default().to_owned() + " "
        }
        _ => String::new(),
    };
    Some(Excerpt { text: shown + COVER, ..excerpt })
}

/// Returns true if a message can show the last of `lines`. The top-level section of this line must have no key with a
/// secret value. In a `sync.yaml`, all keys of the section up to this line must also be known.
fn is_among_settings(schema: &Schema, lines: &[&str], format: Format) -> bool {
    let outermost = |line: &&str| line.starts_with(|c: char| !c.is_whitespace() && c != '#' && c != '-');
    let Some(at) = lines.iter().rposition(outermost) else { return false };
    let section = &lines[at..];
    let takes_no_secret = matches!(first_key(section[0]), Some("version" | "daemon" | "defaults" | "sync"))
        && !section.iter().any(|line| find_keys(line).any(|key| schema.leads_to_secrets(key)));
    // The schema contains no keys of other programs.
    takes_no_secret
        && (format == Format::Foreign
            || !section.iter().any(|line| has_unknown_key(schema, line))
                && lines.split_last().is_some_and(|(line, above)| shows_values(schema, line, above)))
}

/// Returns true if a line without indentation begins with a top-level key, or with a similar key.
fn may_be_configuration(schema: &Schema, lines: &[&str]) -> bool {
    let outermost = |line: &&&str| !line.starts_with([' ', '\t', '-', '#']);
    lines.iter().filter(outermost).filter_map(|line| first_key(line)).any(|key| schema.is_top_level(key))
}

/// Returns all texts in a line that look like a key. In YAML, some of these texts are not keys.
pub(crate) fn find_keys(line: &str) -> impl Iterator<Item = &str> {
    line.split([',', '{', '[']).filter_map(first_key)
}

/// Returns the text before the first colon of a line, if the text looks like a key.
fn first_key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    let key = key.trim_start_matches([' ', '\t', '-', '{']).trim_matches(['"', '\'', ' ']);
    let plain = key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
    (plain && !key.is_empty() && key.len() <= 64).then_some(key)
}

/// Returns true if each value of a line belongs to a known key that has no secret value. `above` contains the lines
/// before this line.
fn shows_values(schema: &Schema, line: &str, above: &[&str]) -> bool {
    let mut last = line.trim_start().starts_with('-').then(|| values_of_key_above(schema, above)).flatten();
    for piece in split_pieces(line) {
        match piece {
            Piece::Empty => {}
            Piece::Text if last.is_some_and(|takes| takes.list) => {}
            Piece::Pair(key, has_value) => match values_of_setting(schema, key) {
                // In `key: [a, b]`, the list contains the values of the key.
                Some(takes) if !has_value => last = Some(AcceptedValues { list: takes.list || takes.scalar, ..takes }),
                Some(takes) if takes.scalar => last = Some(takes),
                _ => return false,
            },
            Piece::Joined(_) if last.is_some_and(|takes| takes.list) => {}
            Piece::Joined(key) if values_of_setting(schema, key).is_some_and(|takes| takes.scalar) => {}
            Piece::Text | Piece::Joined(_) | Piece::Several => return false,
        }
    }
    true
}

/// Returns true if a key of the line is unknown in every map without secrets.
pub(crate) fn has_unknown_key(schema: &Schema, line: &str) -> bool {
    let written = line.split_once(" #").map_or(line, |(written, _)| written);
    !written.trim_start().starts_with('#')
        && split_pieces(written).any(|piece| match piece {
            Piece::Empty | Piece::Text | Piece::Joined(_) => false,
            Piece::Pair(key, _) => values_of_setting(schema, key).is_none(),
            Piece::Several => true,
        })
}

/// Finds the last key in the lines `above`, and returns the kinds of values that this key can have.
fn values_of_key_above(schema: &Schema, above: &[&str]) -> Option<AcceptedValues> {
    above.iter().rev().find_map(|line| last_key(line)).flatten().and_then(|key| values_of_setting(schema, key))
}

/// Returns the last key of a line. If the line has no key, returns `None`. If the key is ambiguous, returns
/// `Some(None)`.
#[expect(clippy::option_option, reason = "the outer `None` means that the line has no key")]
fn last_key(line: &str) -> Option<Option<&str>> {
    if line.trim_start().starts_with('#') {
        return None;
    }
    let key = |piece| match piece {
        Piece::Pair(key, _) => Some(Some(key)),
        Piece::Several => Some(None),
        Piece::Empty | Piece::Text | Piece::Joined(_) => None,
    };
    split_pieces(line).filter_map(key).last()
}

/// Returns the kinds of values that a key can have in maps without secrets. If no map without secrets has the key,
/// returns `None`.
fn values_of_setting(schema: &Schema, name: &str) -> Option<AcceptedValues> {
    let keys = schema.tables_of_settings().filter_map(|table| table.find(name));
    let keys = keys.filter(|key| !schema.leads_to_secrets(key.name));
    keys.map(|key| accepted_values(&key.shape))
        .reduce(|all, one| AcceptedValues { scalar: all.scalar || one.scalar, list: all.list || one.list })
}

fn accepted_values(shape: &Shape) -> AcceptedValues {
    let is_map = matches!(
        shape,
        Shape::Map(_)
            | Shape::OneOf(..)
            | Shape::MapOf(_)
            | Shape::ListOf(_)
            | Shape::Maps(_)
            | Shape::Secret
            | Shape::Secrets
            | Shape::TextsByName
    );
    AcceptedValues { scalar: !is_map, list: matches!(shape, Shape::Texts { .. } | Shape::List | Shape::Words(_)) }
}

/// Returns the ranges to mask on a line of another program's file, in characters. The ranges contain the values on the
/// line, with two exceptions: the value at `column`, and the values of keys that are known in a map without secrets. If
/// the line has only one key, the result is empty.
pub(super) fn find_values_of_neighbors(schema: &Schema, line: &str, column: usize) -> Vec<Range<usize>> {
    let pieces: Vec<(Range<usize>, Piece<'_>)> =
        split_ranges(line).map(|bytes| (bytes.clone(), parse_piece(&line[bytes]))).collect();
    let has_key = |piece: &Piece<'_>| !matches!(piece, Piece::Empty | Piece::Text);
    if pieces.iter().filter(|(_, piece)| has_key(piece)).count() < 2 {
        return Vec::new();
    }
    let count = |end: usize| line[..end].chars().count();
    let mut covers = false;
    let mut ranges = Vec::new();
    for (bytes, piece) in pieces {
        let text = &line[bytes.clone()];
        let is_neighbor = !(count(bytes.start)..=count(bytes.end)).contains(&column);
        let value = match piece {
            Piece::Empty => continue,
            // The text can be an item of a list, or a value can continue after a comma.
            Piece::Text => 0,
            Piece::Pair(key, _) => {
                covers = is_neighbor && values_of_setting(schema, key).is_none();
                // The colon can be without a space, as in the JSON text `"key":"value"`.
                text.char_indices().find(|(at, c)| *c == ':' && ends_key(text, *at)).map_or(0, |(colon, _)| colon + 1)
            }
            Piece::Joined(_) | Piece::Several => {
                covers = is_neighbor;
                0
            }
        };
        let lead = text[value..].len() - text[value..].trim_start().len();
        let value = value + lead..text.trim_end_matches([' ', '\t', '}', ']']).len();
        if covers && value.start < value.end {
            ranges.push(count(bytes.start + value.start)..count(bytes.start + value.end));
        }
    }
    ranges
}

fn split_pieces(line: &str) -> impl Iterator<Item = Piece<'_>> {
    split_ranges(line).map(|bytes| parse_piece(&line[bytes]))
}

/// Returns the ranges, in bytes, of the pieces of a line.
fn split_ranges(line: &str) -> impl Iterator<Item = Range<usize>> {
    let mut before = ' ';
    let mut ends = line.match_indices(move |c: char| {
        // In `${NAME}`, the bracket does not begin a map.
        let ends = matches!(c, ',' | '[') || c == '{' && before != '$';
        before = c;
        ends
    });
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let begin = start?;
        let end = ends.next().map(|(at, _)| at);
        start = end.map(|end| end + 1);
        Some(begin..end.unwrap_or(line.len()))
    })
}

fn parse_piece(text: &str) -> Piece<'_> {
    let text = text.trim_start_matches([' ', '\t', '-']).trim_end_matches([' ', '\t', '}', ']']);
    if text.is_empty() {
        return Piece::Empty;
    }
    let mut ends = text.char_indices().filter(|(at, c)| *c == ':' && ends_key(text, *at));
    match (ends.next(), ends.next()) {
        (None, _) => split_joined(text).map_or(Piece::Text, Piece::Joined),
        (Some((at, _)), None) => {
            let key = text[..at].trim_matches(['"', '\'', ' ', '\t']);
            Piece::Pair(key, !text[at + 1..].trim().is_empty())
        }
        (Some(_), Some(_)) => Piece::Several,
    }
}

/// If the line begins with a known key without a space after the colon, such as `source:ghcr.io/x`, returns the key and
/// its column, counted from 1.
pub(crate) fn find_joined_key<'l>(schema: &Schema, line: &'l str) -> Option<(&'l str, usize)> {
    let text = line.trim_start_matches([' ', '-']);
    let has_pair = text.char_indices().any(|(at, c)| c == ':' && ends_key(text, at));
    let key = split_joined(text).filter(|key| schema.is_known(key) && !has_pair)?;
    Some((key, line.chars().count() - text.chars().count() + 1))
}

/// Returns the key of a text such as `source:ghcr.io/x`. If a space or a slash follows the colon, returns `None`.
fn split_joined(text: &str) -> Option<&str> {
    let (key, value) = text.split_once(':')?;
    let is_word = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    (is_word && !value.is_empty() && !value.starts_with([' ', '/'])).then_some(key)
}

/// Returns true if the colon at byte `at` ends a key. A colon ends a key if a space or the end of the text follows, or
/// if a quote precedes the colon.
fn ends_key(text: &str, at: usize) -> bool {
    let next = text[at + 1..].chars().next();
    next.is_none_or(char::is_whitespace) || text[..at].ends_with(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostics::text::split_lines;
    use crate::config::sections::top_level::SCHEMA;

    #[test]
    fn line_shows_its_values_where_every_key_takes_plain_ones() {
        for line in [
            "  schedule: */15 * * * *",
            "  - {name: a, source: ghcr.io/x/y, schedule: @daily}",
            "    include: [\"3.*\", *slim, re:v[0-9]+",
            "    source:ghcr.io/x/y",
            "  memory: \"1GiB",
            "  status: [x",
            "  - {name: a, target: ${HOST}/y}",
            "tags:",
        ] {
            assert!(shows_values(&SCHEMA, line, &[]), "{line}");
        }
        for line in [
            "  api_key: hunter2",
            "  api_key:hunter2",
            "  \"api_key\":\"hunter2\"",
            "  re:hunter2",
            "  password:hunter2",
            "  my key: hunter2",
            "  {name: a, api_key: \"hunter2}",
            "  {name: a, api_key:hunter2",
            "  name: a: hunter2",
            "  name: a # api_key: hunter2",
            "  daemon: hunter2",
            "  registries: [hunter2",
            "  proxy: hunter2",
            "  hunter2",
            "  - hunter2",
        ] {
            assert!(!shows_values(&SCHEMA, line, &[]), "{line}");
        }
    }

    #[test]
    fn list_item_shows_its_value_where_the_key_above_takes_texts() {
        assert!(shows_values(&SCHEMA, "    - *slim", &["tags:", "  include:", "    - a", "", "    # b"]));
        assert!(!shows_values(&SCHEMA, "    - *slim", &["sync:"]));
        assert!(!shows_values(&SCHEMA, "    - *slim", &["tags:", "  keys:"]));
        assert!(!shows_values(&SCHEMA, "    - *slim", &[]));
    }

    #[test]
    fn neighbors_of_pair_are_covered_unless_their_keys_are_settings() {
        for (line, column, expected) in [
            ("- {typo: 5m, key: hunter2, source: a/b}", 3, "- {typo: 5m, key: ***, source: a/b}"),
            ("- {key: hunter2, typo: [5m, x]}", 17, "- {key: ***, typo: [5m, x]}"),
            ("- {key: hun, ter2, typo: 5m, 'k': \"hunter3\"}", 19, "- {key: ***, ***, typo: 5m, 'k': ***}"),
            ("  key: [hunter2, {x: hunter3}], typo: 5m}", 32, "  key: [***, {x: ***}], typo: 5m}"),
            ("- {é: ééé, typo: 5m, key:hunter2}", 11, "- {é: ***, typo: 5m, ***}"),
            (r#"{"key":"hunter2","typo":"5m"}"#, 17, r#"{"key":***,"typo":"5m"}"#),
            ("- {key:\thunter2, typo: 5m}", 17, "- {key:\t***, typo: 5m}"),
            ("  typo: a, b", 2, "  typo: a, b"),
        ] {
            let ranges = find_values_of_neighbors(&SCHEMA, line, column);
            let mut text: Vec<char> = line.chars().collect();
            for range in ranges.into_iter().rev() {
                text.splice(range, "***".chars());
            }
            assert_eq!(text.into_iter().collect::<String>(), expected);
        }
    }

    #[test]
    fn keys_decide_the_excerpt_of_invalid_yaml() {
        let text = "daemon:\n  status: [x\nregistries:\n  a:\n    hunter2\n    password: \"hunter2\nsync:\n- *x\n";
        let lines = split_lines(text);
        let shown = |line: usize| {
            let excerpt = Excerpt { text: lines[line - 1].to_owned(), start: 0, length: 1 };
            excerpt_by_keys(&SCHEMA, &lines, line, Format::Configuration, excerpt).unwrap().text
        };
        let all: Vec<String> = (1..=8).map(shown).collect();
        assert_eq!(
            all,
            ["daemon:", "  status: [x", "registries: ***", "***", "***", "    password: ***", "sync:", "***"]
        );
    }
}
