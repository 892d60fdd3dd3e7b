//! Go templates in regsync's configuration: `{{env "NAME"}}`, `{{file "PATH"}}` and `{{.Sync.Source}}` within a text.
//! All other actions of templates have no equivalent. image-syncer's variables, `$NAME` and `${NAME}`, have the same
//! parts.

use super::page::escape_variables;

/// Template: a text, and the values that are inserted into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Env(String),
    File(String),
}

/// Content of a template that is a single part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Literal text.
    Text,
    /// Value of an environment variable, by its name.
    Env(String),
    /// Content of a file, by its path.
    File(String),
}

impl Template {
    /// Parses a template. `source` is the value of `.Sync.Source`. `None` if the template uses an unknown action.
    pub(super) fn parse(text: &str, source: Option<&Template>) -> Option<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}")?;
            let (trims_before, trims_after) = (action.starts_with("- "), action.ends_with(" -"));
            let action = action.strip_prefix("- ").unwrap_or(action);
            let action = action.strip_suffix(" -").unwrap_or(action);
            let before = if trims_before { before.trim_end() } else { before };
            parts.push(Part::Text(before.to_owned()));
            parts.extend(parse_action(action.trim(), source)?);
            rest = if trims_after { after.trim_start() } else { after };
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Some(Self(parts))
    }

    /// Creates a template without variables.
    pub(super) fn literal(text: &str) -> Self {
        Self(vec![Part::Text(text.to_owned())])
    }

    /// Parses a text with variables of a shell, as Go's `os.ExpandEnv` does. `None` if the text uses another variable
    /// than `$NAME` or `${NAME}`.
    pub(super) fn parse_shell(text: &str) -> Option<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            parts.push(Part::Text(before.to_owned()));
            let (name, after) = match after.strip_prefix('{') {
                Some(inner) => inner.split_once('}').filter(|(name, _)| is_name(name))?,
                None => after.split_at(after.find(|c: char| !is_name_character(c)).unwrap_or(after.len())),
            };
            if name.is_empty() && !after.starts_with(['*', '#', '$', '@', '!', '?', '-']) {
                parts.push(Part::Text("$".to_owned()));
            } else if is_name(name) {
                parts.push(Part::Env(name.to_owned()));
            } else {
                return None;
            }
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Some(Self(parts))
    }

    /// Returns the template in transship's syntax, in which `${NAME}` is a variable. `None` if the template inserts a
    /// file.
    pub(super) fn as_text(&self) -> Option<String> {
        if let [Part::Text(text)] = self.0.as_slice() {
            return Some(escape_variables(text));
        }
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.replace('$', "$$")),
            Part::Env(name) => Some(format!("${{{name}}}")),
            Part::File(_) => None,
        };
        self.0.iter().map(part).collect()
    }

    /// Returns the text with `x` in place of each variable, so that the caller can check the text. The flag is true if
    /// the template has a variable.
    pub(super) fn sample(&self) -> (String, bool) {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Env(_) | Part::File(_) => "x".to_owned(),
        };
        let varies = self.0.iter().any(|part| !matches!(part, Part::Text(_)));
        (self.0.iter().map(part).collect(), varies)
    }

    /// Returns the content of a single part. `None` if the template has several parts.
    pub(super) fn content(&self) -> Option<Content> {
        match self.0.as_slice() {
            [] | [Part::Text(_)] => Some(Content::Text),
            [Part::Env(name)] => Some(Content::Env(name.clone())),
            [Part::File(path)] => Some(Content::File(path.clone())),
            _ => None,
        }
    }
}

fn parse_action(action: &str, source: Option<&Template>) -> Option<Vec<Part>> {
    if action == ".Sync.Source" {
        return source.map(|source| source.0.clone());
    }
    let (function, argument) = action.split_once(char::is_whitespace)?;
    let argument = unquoted(argument.trim())?;
    match function {
        "env" if is_name(&argument) => Some(vec![Part::Env(argument)]),
        "file" if !argument.is_empty() => Some(vec![Part::File(argument)]),
        _ => None,
    }
}

/// Returns the content of one Go string literal without escapes.
fn unquoted(text: &str) -> Option<String> {
    let inner = ['"', '`'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))?;
    (!inner.contains(['"', '`', '\\'])).then(|| inner.to_owned())
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(template: &str) -> Option<String> {
        let source = Template::parse("ghcr.io/a", None);
        Template::parse(template, source.as_ref())?.as_text()
    }

    #[test]
    fn variables_are_translated_and_dollars_are_escaped() {
        assert_eq!(text("a").as_deref(), Some("a"));
        assert_eq!(text("${a").as_deref(), Some("$${a"));
        assert_eq!(text(r#"a${{env "B"}}/c"#).as_deref(), Some("a$$${B}/c"));
        assert_eq!(text("{{ env `B` }}").as_deref(), Some("${B}"));
        assert_eq!(text(r#"a {{- env "B" -}} c"#).as_deref(), Some("a${B}c"));
        assert_eq!(text("h:5000/{{.Sync.Source}}").as_deref(), Some("h:5000/ghcr.io/a"));
        for other in [
            "{{",
            r#"{{env "A"}"#,
            "{{env .X}}",
            r#"{{lower (env "A")}}"#,
            "{{.Ref.Tag}}",
            r#"{{file "/a"}}"#,
            r#"{{env "A-B"}}"#,
        ] {
            assert_eq!(text(other), None, "{other}");
        }
    }

    #[test]
    fn shell_variables_are_translated_as_go_expands_them() {
        let text = |text: &str| Template::parse_shell(text)?.as_text();
        assert_eq!(text("a/${B}/$C/d").as_deref(), Some("a/${B}/${C}/d"));
        assert_eq!(text("$B:v1").as_deref(), Some("${B}:v1"));
        assert_eq!(text("pa$.x").as_deref(), Some("pa$$.x"));
        assert_eq!(Template::parse_shell("$B").and_then(|template| template.content()), Some(Content::Env("B".into())));
        for other in ["a$$b", "a${b", "a$1", "a${}", "a$?"] {
            assert_eq!(text(other), None, "{other}");
        }
    }

    #[test]
    fn secret_is_one_whole_variable_or_file() {
        let content = |text: &str| Template::parse(text, None)?.content();
        assert_eq!(content(r#"{{env "A"}}"#), Some(Content::Env("A".into())));
        assert_eq!(content(r#"{{ file "/a b" }}"#), Some(Content::File("/a b".into())));
        assert_eq!(content("hunter2"), Some(Content::Text));
        assert_eq!(content(r#"x{{env "A"}}"#), None);
    }
}
