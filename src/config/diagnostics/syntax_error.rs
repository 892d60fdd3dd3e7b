//! Syntax errors of text that is not valid YAML: the parser's error in the operator's terms, with the probable mistake.

use super::line_keys::{excerpt_by_keys, find_joined_key};
use super::problem::{Excerpt, Problem, Problems};
use super::text::split_lines;
use crate::config::keys::schema::Schema;
use crate::config::yaml::document::Format;
use crate::config::yaml::expand::{EXPRESSION, EXPRESSION_HINT};

/// Explanations of the parser's messages. A row has a part of the parser's message, our message and the remedy. The
/// first row whose part occurs in the parser's message applies.
const MEANINGS: [(&str, &str, Option<&str>); 18] = [
    ("scanning an alias", "YAML reads text that begins with `*` as an alias", Some("quote the value")),
    ("unknown anchor", "YAML reads text that begins with `*` as an alias", Some("quote the value")),
    ("cannot start any token", "this character cannot begin unquoted text in YAML", Some("quote the text")),
    // The parser's message would repeat the value, which may be a secret.
    ("invalid value", "a value does not fit its YAML tag", Some("remove the tag")),
    ("tab character", "a tab in the indentation", Some("indent with spaces")),
    ("more than one document", "there is more than one YAML document", Some("remove this line and all lines after it")),
    (
        "mapping values are not allowed",
        "a key in an unexpected place",
        Some("check the indentation, and quote text that contains `: `"),
    ),
    (
        "unknown escape character",
        "an unknown escape in double quotes",
        Some("write the text in single quotes, where a backslash has no special meaning"),
    ),
    ("while scanning a quoted scalar", "a quote is not closed", None),
    (
        "expected ',' or",
        "a list or map in brackets is not closed",
        Some("check brackets and commas, and quote text that contains `{`, `[` or `,`"),
    ),
    ("did not find expected key", "expected a key", Some("check the indentation and the quotes")),
    (
        "expected '-' indicator",
        "expected another item of the list, or a key with less indentation",
        Some("check the indentation"),
    ),
    ("could not find expected ':'", "a key without a colon", Some("write `key: value`")),
    ("recursion limit", "lists and maps are nested too deep", None),
    ("nested too deep", "lists and maps are nested too deep", None),
    ("more values than", "the file has more values than a configuration can have", None),
    ("repetition limit", "aliases expand to too many values", None),
    ("a plain key", "a key is not plain text", Some("quote text that contains `{` or `[`")),
];

/// Creates the single problem of a text that cannot be read as YAML.
pub(crate) fn describe_syntax_error(
    schema: &Schema,
    file: &str,
    text: &str,
    format: Format,
    error: &serde_yaml::Error,
) -> Problems {
    let lines = split_lines(text);
    let whole = error.to_string();
    let (line, column) = find_mistake(schema, &lines, error, &whole);
    let written = lines.get(line - 1).copied().unwrap_or_default();
    let joined = find_joined_key(schema, written).filter(|_| is_about_keys(&whole));
    let excerpt = Excerpt { text: written.to_owned(), start: column - 1, length: 1 };
    let excerpt = excerpt_by_keys(schema, &lines, line, format, excerpt);
    let shown = excerpt.as_ref().is_some_and(|excerpt| excerpt.text == written).then_some(written);
    let (column, message, hint) = match joined {
        Some((key, column)) => {
            (column, format!("no space after the colon of `{key}:`"), Some(format!("write `{key}: …`")))
        }
        None if is_about_keys(&whole) && !written.contains(':') => {
            (column, "a key without a colon".to_owned(), Some("write `key: value`".to_owned()))
        }
        None => explain(shown, column, &whole),
    };
    let length = joined.map_or(1, |(key, _)| key.len() + 1);
    let excerpt = excerpt.map(|excerpt| Excerpt { start: column - 1, length, ..excerpt });
    let excerpt = excerpt.filter(|excerpt| !excerpt.text.trim().is_empty());
    let problem = Problem { file: file.to_owned(), line, column, message, hint, excerpt };
    Problems::from_problem(problem)
}

/// Returns the place to point at: the opening place of an unclosed construct, otherwise the place where the parser
/// stopped.
fn find_mistake(schema: &Schema, lines: &[&str], error: &serde_yaml::Error, whole: &str) -> (usize, usize) {
    if (whole.contains("scanning a quoted scalar") && whole.contains("end of stream"))
        || whole.contains("expected ',' or")
        || whole.contains("could not find expected ':'")
    {
        let (_, opened) = whole.rsplit_once("line ").unwrap_or_default();
        let mut numbers = opened.split(" column ").map(str::parse);
        if let (Some(Ok(line)), Some(Ok(column))) = (numbers.next(), numbers.next()) {
            return (line, column);
        }
    }
    if whole.contains("mapping values are not allowed")
        && let Some(place) = error.location().and_then(|location| find_key_above(schema, lines, location.line()))
    {
        return place;
    }
    if let Some(location) = error.location() {
        return (location.line().max(1), location.column().max(1));
    }
    if whole.contains("more than one document") {
        let content = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
        let first = lines.iter().position(content).unwrap_or(0);
        let next = lines.iter().skip(first + 1).position(|line| line.starts_with("---") || line.starts_with("..."));
        return (next.map_or(1, |next| first + next + 2), 1);
    }
    (1, 1)
}

/// Returns true if the parser's error is about a missing colon or about a key in an unexpected place.
fn is_about_keys(whole: &str) -> bool {
    whole.contains("could not find expected ':'") || whole.contains("mapping values are not allowed")
}

/// Returns the place of a text that was meant as a key with its value: the text is right above the line of the next
/// key, and YAML joins both lines to one text.
fn find_key_above(schema: &Schema, lines: &[&str], line: usize) -> Option<(usize, usize)> {
    let above = lines.get(..line.checked_sub(1)?)?;
    let at = above.iter().rposition(|line| !line.trim().is_empty())?;
    let text = above[at].trim_start();
    let column = above[at].chars().count() - text.chars().count() + 1;
    let is_alone = !text.contains(':') && !text.starts_with(['-', '#', '"', '\'', '[', '{', '%']);
    let joined = find_joined_key(schema, above[at]).map(|(_, column)| (at + 1, column));
    joined.or_else(|| is_alone.then_some((at + 1, column)))
}

/// Returns the column to point at, the message and the remedy. `line` is `None` if the line may contain a secret.
fn explain(line: Option<&str>, column: usize, whole: &str) -> (usize, String, Option<String>) {
    explain_line(line, column, whole).unwrap_or_else(|| match MEANINGS.iter().find(|(part, ..)| whole.contains(part)) {
        Some((_, message, hint)) => (column, (*message).to_owned(), hint.map(str::to_owned)),
        None => (column, format!("this is not valid YAML: {}", without_places(whole)), None),
    })
}

/// Explains the mistake from the line itself.
fn explain_line(line: Option<&str>, column: usize, whole: &str) -> Option<(usize, String, Option<String>)> {
    let line = line?;
    if whole.contains("while scanning an alias") || whole.contains("unknown anchor") {
        return Some(explain_star(line, column));
    }
    let own = |hint: &str| Some(hint.to_owned());
    if line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t') {
        let tab = line.chars().position(|c| c == '\t').unwrap_or(0);
        return Some((tab + 1, "a tab in the indentation".to_owned(), own("indent with spaces")));
    }
    if whole.contains("cannot start any token") {
        let c = line.chars().nth(column - 1).unwrap_or(' ');
        let word = word_at(line, column);
        let hint = if c == '\t' { "write a space".to_owned() } else { format!("quote the value: \"{word}\"") };
        let message = if c == '\t' { "a tab".to_owned() } else { format!("`{c}` cannot begin unquoted text in YAML") };
        return Some((column, message, Some(hint)));
    }
    if let Some((before, _)) = line.split_once("${{") {
        let column = before.chars().count() + 1;
        return Some((column, EXPRESSION.to_owned(), own(EXPRESSION_HINT)));
    }
    if let Some((before, _)) = line.split_once("${").filter(|_| whole.contains("expected")) {
        let column = before.chars().count() + 1;
        return Some((column, "this is not valid YAML".to_owned(), own("quote text that contains `${…}`")));
    }
    None
}

/// Explains a text that begins with `*`, which YAML reads as an alias. Such a text is almost always a cron expression
/// or a glob.
fn explain_star(line: &str, column: usize) -> (usize, String, Option<String>) {
    // The parser points at the first character that an alias cannot have.
    let before: Vec<char> = line.chars().take(column - 1).collect();
    let at = before.iter().rposition(|c| matches!(c, ' ' | '\t' | '[' | '{' | ',')).map_or(1, |at| at + 2);
    let tail: String = line.chars().skip(at - 1).collect();
    let value = tail.split(" #").next().unwrap_or_default().trim_end();
    let is_cron = line.trim_start().trim_start_matches("- ").starts_with("schedule") || value.split(' ').count() == 5;
    let (what, text) = if is_cron {
        ("the cron expression", value.trim_end_matches(['}', ']', ',']).to_owned())
    } else {
        ("the value", word_at(line, at))
    };
    (
        at,
        format!("YAML reads `{text}` as an alias, because it begins with `*`"),
        Some(format!("quote {what}: \"{text}\"")),
    )
}

/// Returns the unquoted word that begins at a column.
fn word_at(line: &str, column: usize) -> String {
    line.chars().skip(column - 1).take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ']' | '}')).collect()
}

/// Returns the parser's message without " at line 1 column 2", because the problem already names the place before the
/// message.
fn without_places(whole: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut rest = whole.split(' ').peekable();
    while let Some(word) = rest.next() {
        if word == "at" && rest.peek() == Some(&"line") {
            let comma = rest.by_ref().take(4).last().is_some_and(|last| last.ends_with(','));
            if let Some(last) = words.last_mut().filter(|_| comma) {
                *last = last.trim_end_matches(',');
                words.push("/");
            }
        } else {
            words.push(word);
        }
    }
    words.join(" ").replace(" /", ",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sections::top_level::SCHEMA;
    use crate::config::yaml::node::read;

    fn problem(file: &str, text: &str, format: Format, error: &serde_yaml::Error) -> Problems {
        describe_syntax_error(&SCHEMA, file, text, format, error)
    }

    /// Returns the message for a text below `defaults`, where lines may be shown.
    fn message(text: &str) -> String {
        let inner: String = text.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!("defaults:\n{inner}");
        let error = read(&text).unwrap_err();
        let problems = problem("f", &text, Format::Configuration, &error);
        let one = &problems.as_slice()[0];
        format!("{}:{} {}; {}", one.line - 1, one.column - 2, one.message, one.hint.as_deref().unwrap_or("-"))
    }

    #[test]
    fn unquoted_star_is_explained_with_its_quoted_form() {
        let cron = "YAML reads `*/15 * * * *` as an alias, because it begins with `*`; quote the cron expression: \
                    \"*/15 * * * *\"";
        assert_eq!(message("schedule: */15 * * * *  # often\n"), format!("1:11 {cron}"));
        assert_eq!(message("- {schedule: */15 * * * *}\n"), format!("1:14 {cron}"));
        let glob = |text: &str| {
            format!("YAML reads `{text}` as an alias, because it begins with `*`; quote the value: \"{text}\"")
        };
        assert_eq!(message("include: [*-rc*, a]\n"), format!("1:11 {}", glob("*-rc*")));
        assert_eq!(message("include:\n  - *slim\n"), format!("2:5 {}", glob("*slim")));
    }

    #[test]
    fn syntax_errors_are_explained_in_plain_words() {
        for (text, expected) in [
            ("tags:\n\tsemver: c\n", "2:1 a tab in the indentation; indent with spaces"),
            ("schedule: @daily\n", "1:11 `@` cannot begin unquoted text in YAML; quote the value: \"@daily\""),
            ("a: b: c\n", "1:5 a key in an unexpected place; check the indentation, and quote text that contains `: `"),
            (
                "a: \"re:v\\d\"\n",
                "1:9 an unknown escape in double quotes; write the text in single quotes, where a backslash has no \
                 special meaning",
            ),
            ("a: 'x\n\n", "1:4 a quote is not closed; -"),
            ("tags: {semver: ${C}/x}\n", "1:16 this is not valid YAML; quote text that contains `${…}`"),
            (
                "a: [b\nc: d\n",
                "1:4 a list or map in brackets is not closed; check brackets and commas, and quote text that contains \
                 `{`, `[` or `,`",
            ),
            ("a: !!int b\n", "1:4 a value does not fit its YAML tag; remove the tag"),
            ("{a: b}: c\n", "1:1 a key is not plain text; quote text that contains `{` or `[`"),
        ] {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn missing_space_after_a_colon_is_reported_in_its_own_line() {
        let first_line = |text: &str| {
            let error = read(text).unwrap_err();
            problem("f", text, Format::Configuration, &error).to_string()
        };
        let entry = "version: 1\nsync:\n  - name: a\n    source: h.example/x\n";
        for (text, place) in [
            ("version:1\nsync: []\n".to_owned(), "f:1:1: no space after the colon of `version:`"),
            (format!("{entry}    target:127.0.0.1:5000/x\n"), "f:5:5: no space after the colon of `target:`"),
            (format!("{entry}    target:h.example/x\n    schedule: never\n"), "f:5:5: no space after the colon of"),
            (format!("{entry}    target:h.example/x\n  - name: b\n"), "f:5:5: no space after the colon of `target:`"),
            ("sync:\n  - name:a\n    source: h/x\n".to_owned(), "f:2:5: no space after the colon of `name:`"),
            ("registries:\n  a.b:\n    password:hunter2\n    x: 1\n".to_owned(), "f:3:5: no space after the colon of"),
            ("version 1\nsync: []\n".to_owned(), "f:1:1: a key without a colon"),
        ] {
            let shown = first_line(&text);
            assert!(shown.starts_with(place) && !shown.contains("hunter2"), "{shown}");
        }
        let shown = first_line(&format!("{entry}    target:h.example/x\n"));
        let excerpt = "5 |     target:h.example/x\n  |     ^^^^^^^ write `target: …`";
        assert!(shown.ends_with(excerpt), "{shown}");
    }

    #[test]
    fn a_second_document_is_refused_at_its_line() {
        let text = "# c\n---\nversion: 1\n---\nversion: 1\n";
        let error = read(text).unwrap_err();
        assert!(
            problem("f", text, Format::Configuration, &error)
                .to_string()
                .starts_with("f:4:1: there is more than one YAML document")
        );
    }

    #[test]
    fn line_with_a_possible_secret_is_in_no_message() {
        let text = "registries:\n  ghcr.io:\n    credentials: {username: me, password: *hunter2}\n";
        let error = read(text).unwrap_err();
        let shown = problem("f", text, Format::Configuration, &error).to_string();
        let expected = "f:3:43: YAML reads text that begins with `*` as an alias\n  |\n3 |     credentials: ***\n  |";
        assert!(shown.starts_with(expected) && shown.ends_with("^ quote the value"), "{shown}");
    }
}
