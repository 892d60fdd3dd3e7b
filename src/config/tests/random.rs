//! Tests of the parser with random texts, and with random mistakes in a file with secrets.

use proptest::prelude::*;

use super::support::read;

/// Generates random sequences of YAML syntax and transship's keys. The parser would refuse most other random texts at
/// the first line.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "version: 1\n",
        "sync:\n",
        "  - ",
        "name: a\n",
        "    source: ",
        "target: b.example/c\n",
        "tags: {",
        "include: [",
        "]",
        "}",
        "\"",
        "'",
        "*",
        "&a ",
        "*a",
        "!t ",
        "|\n",
        ">-\n",
        "? ",
        ": ",
        ", ",
        "\t",
        "\n",
        "---\n",
        "#",
        "${",
        "$",
        "~",
        "registries:\n",
        "credentials:",
        "password: ",
        "<<: ",
        "é",
        "\u{2028}",
        "\u{feff}",
        "\r",
        "1.0",
        "[[[[",
        "%YAML 1.1\n",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// Texts that a user can insert by mistake. The empty text means the removal of a character.
const INSERTED: [&str; 14] = ["", "x", " ", "\n", "\"", "'", "{", "}", "[", ":", "- ", "\t", "*", ","];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parser_never_panics_on_any_text(text in prop_oneof![any::<String>(), "\\PC*", soup()]) {
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.as_slice().is_empty() && !problems.to_string().is_empty());
        }
    }

    /// Applies a few edits at random places of a valid file, and asserts that no output contains a secret.
    #[test]
    fn no_mistake_makes_a_secret_visible(
        edits in prop::collection::vec((0..SECRETS.len(), prop::sample::select(INSERTED.to_vec())), 1..5)
    ) {
        let mut text: Vec<char> = SECRETS.chars().collect();
        for (at, insert) in edits {
            let at = at % text.len();
            let near = text[at.saturating_sub(7)..(at + 7).min(text.len())].iter().collect::<String>();
            // An edit within a secret would change the secret, so the test skips such edits.
            if near.contains("hunter") || near.contains("unter2") {
                continue;
            }
            if insert.is_empty() { text.remove(at); } else { text.splice(at..at, insert.chars()); }
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = read(&text) {
            let shown = problems.to_string();
            prop_assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

const SECRETS: &str = r#"version: 1
daemon: {status: off}
registries:
  docker.io:
    credentials: {username: me, password: hunter2}
    plain_http: false
  ghcr.io:
    credentials:
      username: me
      password: "hunter2"
    limits: {concurrent: 3}
  quay.io: {plain_http: true, credentials: {password: 'hunter2', username: me}, limits: {requests: 1/s}}
  a.example:
    credentials:
      username: me
      password: >-
        hunter2
        hunter2
sync:
  - {name: a, source: ghcr.io/x/y, target: quay.io/x/y}
"#;
