//! Tests that no message contains a secret. The tests write a fake secret (a canary) into configurations, in the form
//! of typical mistakes. The canary is at these places:
//! - at every key of each section with secrets
//! - under an unknown key beside or below every other key

use std::fmt::Write as _;

use crate::config::keys::schema::Secrecy;
use crate::config::keys::table::{Shape, Table};
use crate::config::parse;
use crate::config::sections::top_level::SCHEMA;

/// Canaries: a token, a word, a number, and a text with punctuation.
const CANARIES: [&str; 4] = ["Zq7kCanary9xW", "hunter2", "7461982350", "Y7m+9w/Qz%k2"];

/// Placeholder that the tests replace by a canary.
const MARK: &str = "CANARY";

/// Share of the mistakes that the test of unknown keys writes at each key: every third mistake.
const SHARE: usize = 3;

/// Keys from the top level to a key. An empty key is an item of a list.
type KeyPath = Vec<&'static str>;

/// Keys that are unknown in every map without secrets. Some keys are from other programs or other maps, and some keys
/// are misspelt.
const UNKNOWN: [&str; 6] = ["api_key", "bearer", "key", "FOO", "pasword", "min_age"];

struct Case {
    path: KeyPath,
    secrecy: Secrecy,
    /// Valid value of the key, as JSON.
    example: &'static str,
}

impl Case {
    fn has_secrets(&self) -> bool {
        self.secrecy != Secrecy::Settings || SCHEMA.leads_to_secrets(self.key())
    }

    /// Returns true if a key of the same map can have a secret value.
    fn is_beside_secrets(&self) -> bool {
        !matches!(self.secrecy, Secrecy::Settings | Secrecy::Names)
    }

    fn key(&self) -> &'static str {
        self.path.last().unwrap()
    }
}

fn cases() -> Vec<Case> {
    let mut found = Vec::new();
    walk(SCHEMA.root(), &mut Vec::new(), Secrecy::Settings, &mut found);
    found
}

fn walk(table: &'static Table, path: &mut KeyPath, secrecy: Secrecy, found: &mut Vec<Case>) {
    for key in table.keys() {
        path.push(key.name);
        let example = if key.example.is_empty() { "{}" } else { key.example };
        found.push(Case { path: path.clone(), secrecy, example });
        let (step, below) = match key.shape {
            Shape::MapOf(below) => (Some("name.example"), Some(below)),
            Shape::ListOf(below) | Shape::Maps(below) | Shape::TextOrMaps { keys: below, .. } => {
                (Some(""), Some(below))
            }
            Shape::Map(below)
            | Shape::WordOr(_, below)
            | Shape::OneOf(below, _)
            | Shape::TextOr { keys: below, .. } => (None, Some(below)),
            _ => (None, None),
        };
        if let Some(below) = below {
            path.extend(step);
            let of_names = step.is_some_and(|step| !step.is_empty());
            let inner = SCHEMA.secrecy_below(secrecy, key.name);
            walk(below, path, if of_names { SCHEMA.secrecy_below(inner, "name.example") } else { inner }, found);
            path.truncate(path.len() - usize::from(step.is_some()));
        }
        path.pop();
    }
}

/// Returns a configuration with `lines` in place of the last key of `path`. The function indents the lines.
fn text(path: &[&str], lines: &str) -> String {
    let mut text = String::from("version: 1\n");
    let mut indent = 0;
    let mut item = false;
    for step in &path[..path.len() - 1] {
        if step.is_empty() {
            item = true;
            continue;
        }
        let dash = if item { "- " } else { "" };
        writeln!(text, "{}{dash}{step}:", " ".repeat(indent)).unwrap();
        indent += if item { 4 } else { 2 };
        item = false;
    }
    for (at, line) in lines.lines().enumerate() {
        let dash = match (item, at) {
            (true, 0) => "- ",
            (true, _) => "  ",
            (false, _) => "",
        };
        writeln!(text, "{}{dash}{line}", " ".repeat(indent)).unwrap();
    }
    if path[0] != "sync" {
        text += "sync: []\n";
    }
    text
}

/// Returns texts that contain the key and the canary. Each text has a different mistake.
fn mistakes(key: &str, canary: &str) -> Vec<String> {
    vec![
        format!("{key}: {canary}"),
        format!("{key}: \"{canary}\""),
        format!("{key}: '{canary}'"),
        format!("{key}: [{canary}]"),
        format!("{key}: [[{canary}], x]"),
        format!("{key}:\n  - {canary}"),
        format!("{key}: {{{canary}}}"),
        format!("{key}: {{{canary}: x}}"),
        format!("{key}: {{x: {canary}}}"),
        format!("{key}: {{env: {canary}}}"),
        format!("{key}: {{file: {canary}}}"),
        format!("{key}: {{file: {canary}, env: {canary}}}"),
        format!("{key}: {{env: [{canary}]}}"),
        format!("{key}: \"x${{{canary}}}\""),
        format!("{key}: \"${{{canary}\""),
        format!("{key}: https://h.example/x?sig={canary}"),
        format!("{key}: https://me:{canary}@h.example/x"),
        format!("{key}:{canary}"),
        format!("{key}: \"{canary}"),
        format!("{key}: '{canary}"),
        format!("{key}: [{canary}"),
        format!("{key}: {{{canary}"),
        format!("{key}: {{x: \"{canary}}}"),
        format!("{key}: {canary}: x"),
        format!("{key}: x: {canary}"),
        format!("{key}: !{canary} x"),
        format!("{key}: !{canary}"),
        format!("{key}: !!int {canary}"),
        format!("{key}: &{canary} x"),
        format!("{key}: &a {canary}\nother: *a"),
        format!("{key}: *{canary}"),
        format!("{key}: @{canary}"),
        format!("{key}: `{canary}`"),
        format!("{key}: %{canary}"),
        format!("{key}: \"\\q{canary}\""),
        format!("{key}:\n\t{canary}"),
        format!("{key}:\n\t- {canary}"),
        format!("{key}: |\n  {canary}\n {canary}"),
        format!("{key}: >-\n  {canary},\n  x: {canary}"),
        format!("{key}: \"{canary}\n  {canary}, x\""),
        format!("{key}: {canary}\n{key}: {canary}"),
        format!("{key}: {canary}\n  {key}: {canary}"),
        format!("{key}: {canary}\n - {canary}"),
        format!("{key}: {canary} # {canary}"),
        format!("{key}: # {canary}"),
        format!("{key}: x\n# {canary}\n- x"),
        format!("{key}: {{password: {canary}, x: y}}"),
        format!("{key}: x\n---\n{canary}"),
        format!("{key} {canary}"),
        format!("{key}= {canary}"),
        format!("{key}: {canary},"),
        format!("{key}: {canary}]"),
        format!("{key}: \"{canary}\" x"),
        format!("{key}: {canary}\u{85}x: ["),
    ]
}

/// Returns texts that contain the canary in place of a key. Each text has a different mistake.
fn mistakes_beside(canary: &str) -> Vec<String> {
    vec![
        format!("{canary}: x"),
        canary.to_owned(),
        format!("? {canary}\n: x"),
        format!("? [{canary}]\n: x"),
        format!("<<: {canary}"),
        format!("- {canary}"),
        format!("--- {canary}"),
    ]
}

/// Returns the messages about a configuration: all problems in each format, or all warnings.
fn printed(text: &str) -> String {
    match parse("sync.yaml", text, &|name| (name == "HOME").then(|| "/home/me".to_owned())) {
        Ok(config) => format!("{:?}", config.warnings),
        Err(problems) => {
            let json = serde_json::to_string(problems.as_slice()).unwrap();
            format!("{problems}\n{}\n{json}", problems.headline())
        }
    }
}

/// Returns texts that contain the canary under the unknown key `other`. Each text has a different mistake. `other` is
/// beside or below `key`. `example` is a valid value of `key`.
fn mistakes_of_unknown_key(key: &str, example: &str, other: &str, canary: &str) -> Vec<String> {
    let mistakes = mistakes(other, canary);
    let beside = mistakes.iter().map(|mistake| format!("{key}: {example}\n{mistake}"));
    let before = mistakes.iter().map(|mistake| format!("{mistake}\n{key}: {example}"));
    // If no space follows the colon, YAML does not read `other` as a key.
    let is_pair = |mistake: &&String| [": ", ":\n"].iter().any(|end| mistake[other.len()..].starts_with(end));
    let pairs = mistakes.iter().filter(is_pair);
    let below = pairs.clone().map(|mistake| format!("{key}:\n  {}", mistake.replace('\n', "\n  ")));
    let in_item = pairs.map(|mistake| format!("{key}:\n  - {}", mistake.replace('\n', "\n    ")));
    let in_line = [
        format!("{{{key}: {example}, {other}: {canary}}}"),
        format!("{{{other}: {canary}, {key}: {example}}}"),
        format!("{{{key}: {example}, {other}: {canary}"),
        format!("{{{key}: {example}, {other}:{canary}}}"),
        format!("{{{key}: {example}, \"{other}\":\"{canary}\"}}"),
        format!("{{\"{key}\":{example},\"{other}\":\"{canary}}}"),
        format!("{key}: {{{other}: {canary}, x: [{canary}, {{y: {canary}}}]}}"),
        format!("{key}: [{{{other}: {canary}}}]"),
        format!("{key}: [{{{other}: {canary}]"),
        format!("{key}: {example} # {other}: {canary}\nx: y"),
        format!("{key}: {example}\n<<: {canary}"),
        format!("{key}: {example}\n<<: {{{other}: {canary}}}"),
        format!("{key}: \"x\n  {other}: {canary}\n  x: y\""),
    ];
    beside.chain(before).chain(below).chain(in_item).chain(in_line).collect()
}

/// Asserts that no message contains a canary. Returns the number of texts. Each text contains only one of the canaries,
/// because a test of all canaries in all texts would take minutes.
fn try_all<'c>(texts: impl Iterator<Item = (&'c Case, String)>) -> usize {
    let (mut tried, mut leaks) = (0, Vec::new());
    for (turn, (case, lines)) in texts.enumerate() {
        let canary = CANARIES[turn % CANARIES.len()];
        let text = text(&case.path, &lines.replace(MARK, canary));
        let shown = printed(&text);
        tried += 1;
        if shown.contains(canary) {
            leaks.push(format!("{}\n{text}\n{shown}", case.path.join(".")));
        }
    }
    assert!(
        leaks.is_empty(),
        "{} of {tried} leak\n{}",
        leaks.len(),
        leaks.iter().step_by(1 + leaks.len() / 25).cloned().collect::<Vec<_>>().join("\n====\n")
    );
    tried
}

#[test]
fn no_mistake_at_a_key_with_secrets_shows_its_value() {
    let cases: Vec<Case> = cases().into_iter().filter(Case::has_secrets).collect();
    assert!(cases.len() > 60, "{} keys", cases.len());
    for wanted in ["password", "token", "url", "secret", "proxy", "ca", "kind", "listen", "client_secret"] {
        assert!(cases.iter().any(|case| case.key() == wanted), "{wanted} is reached");
    }
    let texts = cases.iter().flat_map(|case| {
        let beside = if case.is_beside_secrets() { mistakes_beside(MARK) } else { Vec::new() };
        mistakes(case.key(), MARK).into_iter().chain(beside).map(move |lines| (case, lines))
    });
    let tried = try_all(texts);
    assert!(tried > 3_000, "{tried}");
}

#[test]
fn no_mistake_at_an_unknown_key_shows_its_value() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| !case.has_secrets()).collect();
    assert!(cases.len() > 60, "{} keys", cases.len());
    for wanted in ["version", "sync", "name", "plain_http", "memory", "include", "rate", "connect", "chunk"] {
        assert!(cases.iter().any(|case| case.key() == wanted), "{wanted} is reached");
    }
    // A test of all mistakes at all keys would take minutes.
    let texts = cases.iter().enumerate().flat_map(|(at, case)| {
        let other = UNKNOWN[at % UNKNOWN.len()];
        let mistakes = mistakes_of_unknown_key(case.key(), case.example, other, MARK);
        mistakes.into_iter().skip(at % SHARE).step_by(SHARE).map(move |lines| (case, lines))
    });
    let tried = try_all(texts);
    assert!(tried > 3_000, "{tried}");
}

/// Valid configuration with a canary at each place for a secret.
const GOOD: &str = r#"version: 1
daemon:
  push_events: {listen: "127.0.0.1:1", receivers: {a: {kind: acr, secret: CANARY-CANARY-CANARY}}}
registries:
  a.example:
    credentials: {username: me, password: CANARY}
    proxy: http://me:CANARY@p.example:1
  b.example: {credentials: {token: "CANARY"}}
sync:
  - name: a
    source: a.example/a
    target: b.example/a
    notify: [{webhook: {url: "https://h.example/CANARY?k=CANARY", secret: CANARY-CANARY}}]
"#;

/// Configuration with canaries under unknown keys.
const UNKNOWN_KEYS: &str = r#"version: 1
api_key: CANARY
daemon:
  memory: 1GiB
  bearer: "CANARY"
registries:
  a.example: {plain_http: true, key: CANARY, limits: {concurrent: 3, "api_key": "CANARY"}}
  b.example:
    FOO: {BAR: [CANARY]}
defaults: {timeout: 1h, env: {FOO: CANARY}}
sync:
  - name: a
    env:
      FOO: CANARY
    source: a.example/a
    target: b.example/a
    tags: {include: [a, "b*"], min_age: CANARY}
    verify: {key: CANARY}
"#;

fn try_a_piece_everywhere(good: &str) {
    let pieces = ["\"", "'", "{", "}", "[", "]", ": ", "\t", "- ", "*", "&", "!", "#", "|", "@", "\n", "\n  ", ","];
    let ends = good.match_indices(['\n', ' ', ':', '"', '{', '}']).map(|(at, _)| at).filter(|at| *at > 0);
    let (mut tried, mut leaks) = (0, Vec::new());
    for at in ends {
        for piece in pieces {
            tried += 1;
            let canary = CANARIES[tried % CANARIES.len()];
            let text = [&good[..at], piece, &good[at..]].concat().replace("CANARY", canary);
            let shown = printed(&text);
            if shown.contains(canary) {
                leaks.push(format!("{piece:?} at {at}\n{text}\n{shown}"));
            }
        }
    }
    assert!(tried > 1000, "{tried}");
    assert!(leaks.is_empty(), "{} of {tried} leak\n{}", leaks.len(), leaks.join("\n====\n"));
}

#[test]
fn a_mistake_elsewhere_shows_no_secret_beside_it() {
    try_a_piece_everywhere(GOOD);
}

#[test]
fn mistake_beside_an_unknown_key_shows_no_value_under_it() {
    try_a_piece_everywhere(UNKNOWN_KEYS);
}
