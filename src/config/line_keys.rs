//! Keys of a single line of a text that is no YAML, and whether they let its values be shown. There is no tree to go by, so a
//! value is shown only where every key of the line is a known one that takes no secret.

use super::keys::{Shape, TABLES, Table};
use super::sensitivity::{Among, leads_to_secrets};

/// A part of a line between commas and opening brackets.
enum Piece<'l> {
    /// Nothing but brackets and spaces.
    Empty,
    /// Text without a key: an item of a list, or what is left of a text with a comma in it.
    Text,
    /// A key and whether text follows.
    Pair(&'l str, bool),
    /// More keys than one, which no YAML has in one place.
    Several,
}

/// What the settings of a name take, of all maps without secrets that have the name.
#[derive(Clone, Copy)]
struct Takes {
    scalar: bool,
    list: bool,
}

/// Whether all values of a line are those of known keys that take no secret. `above` is the text before it.
pub(super) fn shows_values(line: &str, above: &[&str]) -> bool {
    let mut last = line.trim_start().starts_with('-').then(|| owner(above)).flatten();
    for piece in pieces(line) {
        match piece {
            Piece::Empty => {}
            Piece::Text if last.is_some_and(|takes| takes.list) => {}
            Piece::Pair(key, has_value) => match setting(key) {
                // What stands in a bracket right behind a key is meant as its value.
                Some(takes) if !has_value => last = Some(Takes { list: takes.list || takes.scalar, ..takes }),
                Some(takes) if takes.scalar => last = Some(takes),
                _ => return false,
            },
            Piece::Text | Piece::Several => return false,
        }
    }
    true
}

/// Whether a line has a key that no map without secrets has.
pub(super) fn has_unknown_key(line: &str) -> bool {
    let written = line.split_once(" #").map_or(line, |(written, _)| written);
    !written.trim_start().starts_with('#')
        && pieces(written).any(|piece| match piece {
            Piece::Empty | Piece::Text => false,
            Piece::Pair(key, _) => setting(key).is_none(),
            Piece::Several => true,
        })
}

/// What the key takes that an item of a list, in a line of its own, is under.
fn owner(above: &[&str]) -> Option<Takes> {
    above.iter().rev().find_map(|line| last_key(line)).flatten().and_then(setting)
}

/// The last key of a line: `None` where it has no key, and an inner `None` where it cannot be told.
#[expect(clippy::option_option, reason = "the outer one says that there is a key")]
fn last_key(line: &str) -> Option<Option<&str>> {
    if line.trim_start().starts_with('#') {
        return None;
    }
    let key = |piece| match piece {
        Piece::Pair(key, _) => Some(Some(key)),
        Piece::Several => Some(None),
        Piece::Empty | Piece::Text => None,
    };
    pieces(line).filter_map(key).last()
}

/// What a name takes in the maps without secrets; `None` where none of them has it.
fn setting(name: &str) -> Option<Takes> {
    let plain = TABLES.iter().filter(|table| Among::table(table) == Among::Settings).copied();
    let keys = plain.filter_map(|table: &'static Table| table.find(name)).filter(|key| !leads_to_secrets(key.name));
    keys.map(|key| takes(&key.shape))
        .reduce(|all, one| Takes { scalar: all.scalar || one.scalar, list: all.list || one.list })
}

fn takes(shape: &Shape) -> Takes {
    let is_map = matches!(
        shape,
        Shape::Map(_)
            | Shape::OneOf(..)
            | Shape::MapOf(_)
            | Shape::ListOf(_)
            | Shape::Maps(_)
            | Shape::Secret
            | Shape::Secrets
    );
    Takes { scalar: !is_map, list: matches!(shape, Shape::Texts { .. } | Shape::List | Shape::Words(_)) }
}

fn pieces(line: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut before = ' ';
    let mut ends = line.match_indices(move |c: char| {
        // `${` begins a variable, and no map.
        let ends = matches!(c, ',' | '[') || c == '{' && before != '$';
        before = c;
        ends
    });
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let begin = start?;
        let end = ends.next().map(|(at, _)| at);
        start = end.map(|end| end + 1);
        Some(piece(&line[begin..end.unwrap_or(line.len())]))
    })
}

fn piece(text: &str) -> Piece<'_> {
    let text = text.trim_start_matches([' ', '\t', '-']).trim_end_matches([' ', '\t', '}', ']']);
    if text.is_empty() {
        return Piece::Empty;
    }
    let mut ends = text.char_indices().filter(|(at, c)| *c == ':' && ends_key(text, *at));
    match (ends.next(), ends.next()) {
        (None, _) => Piece::Text,
        (Some((at, _)), None) => {
            let key = text[..at].trim_matches(['"', '\'', ' ', '\t']);
            Piece::Pair(key, !text[at + 1..].trim().is_empty())
        }
        (Some(_), Some(_)) => Piece::Several,
    }
}

/// Whether the colon at a byte ends a key: a space follows or nothing, or the key was in quotes.
fn ends_key(text: &str, at: usize) -> bool {
    let next = text[at + 1..].chars().next();
    next.is_none_or(char::is_whitespace) || text[..at].ends_with(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_its_values_where_every_key_takes_plain_ones() {
        for line in [
            "  schedule: */15 * * * *",
            "  - {name: a, source: ghcr.io/x/y, schedule: @daily}",
            "    include: [\"3.*\", *slim, re:v[0-9]+",
            "  memory: \"1GiB",
            "  status: [x",
            "  - {name: a, target: ${HOST}/y}",
            "tags:",
        ] {
            assert!(shows_values(line, &[]), "{line}");
        }
        for line in [
            "  api_key: hunter2",
            "  api_key:hunter2",
            "  \"api_key\":\"hunter2\"",
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
            assert!(!shows_values(line, &[]), "{line}");
        }
    }

    #[test]
    fn list_item_shows_its_value_where_the_key_above_takes_texts() {
        assert!(shows_values("    - *slim", &["tags:", "  include:", "    - a", "", "    # b"]));
        assert!(!shows_values("    - *slim", &["sync:"]));
        assert!(!shows_values("    - *slim", &["tags:", "  keys:"]));
        assert!(!shows_values("    - *slim", &[]));
    }
}
