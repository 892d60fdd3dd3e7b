//! Keeps secrets out of the lines that problems show. A typo is often right beside a password, so whatever could be
//! one is covered, by where it stands rather than by what it looks like.

use std::ops::Range;

use super::cloud_keys::{AWS, GCP};
use super::endpoint::has_user_info;
use super::keys::{SIDES, Table};
use super::node::{Node, Path, affordable, locate};
use super::notify::WEBHOOK;
use super::problem::Excerpt;
use super::reader::nearest;
use super::registry_keys::{AZURE, CREDENTIALS};
use super::report::{Part, token};

/// A file with more secrets than this shows no lines at all.
const MOST: usize = 200;
const COVER: &str = "***";
/// What says who to be or where a secret is, and is none.
const NAMES_ONLY: [&str; 6] = ["username", "env", "file", "anonymous", "docker_config", "helper"];

/// Something that may be a secret, and where it is.
struct Secret<'n> {
    path: Path,
    part: Part,
    /// As it was read.
    text: &'n str,
}

/// What to cover, by line, in characters.
pub(super) struct Masks {
    covered: Vec<(usize, Range<usize>)>,
    everything: bool,
}

impl Masks {
    pub(super) fn new(text: &str, lines: &[&str], root: &Node) -> Self {
        let mut secrets = Vec::new();
        collect(root, &mut Vec::new(), false, &mut secrets);
        let everything = secrets.len() > affordable(text, MOST);
        if everything {
            secrets.clear();
        }
        let mut covered = Vec::new();
        for Secret { path, part, text: written } in secrets {
            if let Some((line, column)) = locate(text, &path, part == Part::Key) {
                cover(lines, line, column, written, &mut covered);
            }
        }
        Self { covered, everything }
    }

    /// The excerpt of a line without what is secret in it; `None` where it cannot be shown or has nothing to show.
    pub(super) fn excerpt(&self, line: usize, excerpt: Excerpt) -> Option<Excerpt> {
        if self.everything || excerpt.text.trim().is_empty() {
            return None;
        }
        let mut ranges: Vec<Range<usize>> =
            self.covered.iter().filter(|(at, _)| *at == line).map(|(_, range)| range.clone()).collect();
        ranges.sort_by_key(|range| range.start);
        Some(ranges.into_iter().rev().fold(excerpt, covered))
    }
}

/// The excerpt with one range covered, its caret moved along.
fn covered(excerpt: Excerpt, range: Range<usize>) -> Excerpt {
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

/// The values that may be secrets: everything below a key that sounds like one, but for what names a secret without
/// being it, and texts with a user name before the host.
///
/// A key may have swallowed its value, `password:hunter2`, so one that is not known is a secret there too.
fn collect<'n>(node: &'n Node, path: &mut Path, secret: bool, secrets: &mut Vec<Secret<'n>>) {
    let found = |path: &Path, part, text: &'n str| Secret { path: path.clone(), part, text };
    match node {
        Node::Map(pairs) => {
            for (at, (key, value)) in pairs.iter().enumerate() {
                path.push(at);
                if !may_show(key, secret) {
                    secrets.push(found(path, Part::Key, key));
                }
                let names = NAMES_ONLY.contains(&key.as_str());
                let names_only = names && !matches!(value, Node::Map(_));
                // An address that should have stood deeper.
                let hook = key == "notify" && !matches!(value, Node::List(_) | Node::Map(_));
                collect(value, path, !names_only && (secret || hook || sounds_secret(key)), secrets);
                path.pop();
            }
        }
        Node::List(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at);
                collect(item, path, secret, secrets);
                path.pop();
            }
        }
        Node::Text(text) if secret || hides_secret(text) => secrets.push(found(path, Part::Value, text)),
        Node::Number(text) if secret => secrets.push(found(path, Part::Value, text)),
        Node::Bool(_) | Node::Tagged(_) if secret => secrets.push(found(path, Part::Value, "")),
        _ => {}
    }
}

/// Whether an unknown key can be shown: among credentials when it is nearly a known one, elsewhere when it is a word.
pub(super) fn may_show(key: &str, among_credentials: bool) -> bool {
    if among_credentials {
        let tables = [&CREDENTIALS, &AZURE, &AWS, &GCP, &SIDES, &WEBHOOK];
        let known = tables.into_iter().flat_map(Table::keys).map(|key| key.name).chain(["env", "file"]);
        return nearest(key, known).is_some();
    }
    !sounds_secret(key) || key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// Whether a text looks as if a secret were in it, wherever it stands.
pub(super) fn hides_secret(text: &str) -> bool {
    may_have_user_info(text) || swallows_secret(text) || text.contains("PRIVATE KEY-----")
}

/// Whether a text is an address with a user name before its host, or one that was meant to be so: a password may have a
/// slash in it that ends the host's part.
fn may_have_user_info(text: &str) -> bool {
    has_user_info(text) || text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether a text is so long by a forgotten quote that keys with secrets may be in it.
pub(super) fn swallows_secret(text: &str) -> bool {
    text.contains(':') && text.contains([' ', '"', '\'', '\n']) && sounds_secret(text)
}

/// Whether a key could be meant as `credentials`, `password` or the like.
pub(super) fn sounds_secret(key: &str) -> bool {
    let lower = key.to_lowercase();
    // The address of a webhook often is one.
    lower == "url"
        || ["pass", "pwd", "secret", "token", "cred", "auth", "webhook"].iter().any(|part| lower.contains(part))
        // `insecure` is no misspelt secret.
        || !lower.starts_with("insecure")
            && ["password", "credentials", "webhook", "secret"].iter().any(|word| strsim::jaro_winkler(&lower, word) > 0.8)
}

/// Covers one scalar from its place on: to its end where that is in sight, else to the end of the line; of one that
/// goes over several lines, the lines up to the next comma or bracket too.
fn cover(lines: &[&str], line: usize, column: usize, text: &str, covered: &mut Vec<(usize, Range<usize>)>) {
    let written = lines.get(line - 1).copied().unwrap_or_default();
    let tail: String = written.chars().skip(column - 1).collect();
    let length = token(&tail, text);
    let start = column - 1;
    if length > 1 || text.chars().count() == 1 {
        covered.push((line, start..start + length));
        return;
    }
    covered.push((line, start..usize::MAX));
    for (at, next) in lines.iter().enumerate().skip(line) {
        let end = next.find([',', '}', ']', '#', ':']);
        covered.push((at + 1, 0..end.map_or(usize::MAX, |end| next[..end].chars().count())));
        if end.is_some() || next.trim().is_empty() {
            break;
        }
    }
}

/// The excerpt of a line of a text that is no YAML, so that nothing but the keys around tells what is secret: only what
/// lies in a section that takes no secrets is shown as it is, of any other line its first key.
pub(super) fn excerpt_by_keys(lines: &[&str], line: usize, excerpt: Excerpt) -> Excerpt {
    let above = lines.get(..line).unwrap_or_default();
    let section = above.iter().rposition(|line| line.starts_with(|c: char| !c.is_whitespace() && c != '#' && c != '-'));
    let harmless = section.is_some_and(|at| {
        let known = matches!(first_key(above[at]), Some("version" | "daemon" | "defaults" | "sync"));
        let inside = &above[at..];
        known && !inside.iter().any(|line| first_key(line).is_some_and(sounds_secret))
    });
    let own_keys = excerpt.text.split([',', '{', '[']).filter_map(first_key).any(sounds_secret);
    if harmless && !own_keys && !excerpt.text.contains("://") {
        return excerpt;
    }
    let shown = match first_key(&excerpt.text) {
        Some(_) => excerpt.text.split_inclusive(':').next().unwrap_or_default().to_owned() + " ",
        None => String::new(),
    };
    Excerpt { text: shown + COVER, ..excerpt }
}

/// The key before the first colon of a line, where it looks like one.
fn first_key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    let key = key.trim_start_matches([' ', '\t', '-', '{']).trim_matches(['"', '\'', ' ']);
    let plain = key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
    (plain && !key.is_empty() && key.len() <= 64).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, start: usize) -> Option<String> {
        let root = super::super::node::read(text).unwrap();
        let lines = super::super::report::lines(text);
        let excerpt = Excerpt { text: lines[line - 1].to_owned(), start, length: 1 };
        let masked = Masks::new(text, &lines, &root).excerpt(line, excerpt)?;
        let under: String = masked.text.chars().skip(masked.start).take(masked.length).collect();
        Some(format!("{} <{under}>", masked.text))
    }

    #[test]
    fn what_may_be_a_secret_is_covered_and_the_caret_moves_along() {
        for (text, line, start, expected) in [
            ("a: {password: hunter2, usrname: x}", 1, 23, "a: {password: ***, usrname: x} <u>"),
            ("a: {pasword: 'hunter2', usrname: x}", 1, 4, "a: {pasword: ***, usrname: x} <p>"),
            (r#"creds: {password: "hun\"ter2", passwd: [hunter2]}"#, 1, 0, "creds: {password: ***, passwd: [***]} <c>"),
            ("password: {env: NAME, fil: hunter2}", 1, 22, "password: {env: NAME, fil: ***} <f>"),
            ("token: 12345678", 1, 9, "token: *** <***>"),
            ("source: https://me:hunter2@ghcr.io/x", 1, 8, "source: *** <***>"),
            ("{password: hunter2\n hunter3, usrname: x}", 1, 1, "{password: *** <p>"),
            ("{password: hunter2\n hunter3, usrname: x}", 2, 10, "***, usrname: x} <u>"),
            ("a: {password:'hunter2', usrname: x}", 1, 4, "a: {***, usrname: x} <***>"),
            ("a: {credentials: {hunter2, usrname: x}}", 1, 27, "a: {credentials: {***, usrname: ***}} <u>"),
            ("credentials: hunter2 # c", 1, 0, "credentials: *** # c <c>"),
        ] {
            assert_eq!(shown(text, line, start).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_file_of_more_secrets_than_can_be_found_shows_no_lines() {
        let text = format!("token: [{}]\na: 1\n", vec!["x"; MOST + 1].join(","));
        assert_eq!(shown(&text, 2, 0), None);
    }

    #[test]
    fn where_the_text_is_no_yaml_the_keys_decide() {
        let text = "daemon:\n  status: [x\nregistries:\n  a:\n    hunter2\n    password: \"hunter2\nsync:\n- *x\n";
        let lines = super::super::report::lines(text);
        let shown = |line: usize| {
            excerpt_by_keys(&lines, line, Excerpt { text: lines[line - 1].to_owned(), start: 0, length: 1 }).text
        };
        let all: Vec<String> = (1..=8).map(shown).collect();
        assert_eq!(
            all,
            ["daemon:", "  status: [x", "registries: ***", "  a: ***", "***", "    password: ***", "sync:", "- *x"]
        );
    }
}
