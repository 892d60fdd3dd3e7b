//! Go's templates as regsync's configuration has them: `{{env "NAME"}}`, `{{file "PATH"}}` and `{{.Sync.Source}}` within a text.
//! All else that templates can do has no equal.

use super::page::plain;

/// A text and what is put into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Env(String),
    File(String),
}

/// What a template is, where it stands for a secret or a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// What stands there.
    Text,
    /// An environment variable, by its name.
    Env(String),
    /// A file's content, by its path.
    File(String),
}

impl Template {
    /// `source` is what `.Sync.Source` stands for. `None` where the template does more than is understood here.
    pub(super) fn read(text: &str, source: Option<&Template>) -> Option<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}")?;
            let (trims_before, trims_after) = (action.starts_with("- "), action.ends_with(" -"));
            let action = action.strip_prefix("- ").unwrap_or(action);
            let action = action.strip_suffix(" -").unwrap_or(action);
            let before = if trims_before { before.trim_end() } else { before };
            parts.push(Part::Text(before.to_owned()));
            parts.extend(read_action(action.trim(), source)?);
            rest = if trims_after { after.trim_start() } else { after };
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Some(Self(parts))
    }

    /// As a text of ours, in which `${NAME}` is a variable. `None` where a file is in it.
    pub(super) fn as_text(&self) -> Option<String> {
        if let [Part::Text(text)] = self.0.as_slice() {
            return Some(plain(text));
        }
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.replace('$', "$$")),
            Part::Env(name) => Some(format!("${{{name}}}")),
            Part::File(_) => None,
        };
        self.0.iter().map(part).collect()
    }

    /// With a word in the place of each variable, to look at the rest; and whether there is one.
    pub(super) fn sample(&self) -> (String, bool) {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Env(_) | Part::File(_) => "x".to_owned(),
        };
        let varies = self.0.iter().any(|part| !matches!(part, Part::Text(_)));
        (self.0.iter().map(part).collect(), varies)
    }

    /// What it is as a whole. `None` where it is put together.
    pub(super) fn content(&self) -> Option<Content> {
        match self.0.as_slice() {
            [] | [Part::Text(_)] => Some(Content::Text),
            [Part::Env(name)] => Some(Content::Env(name.clone())),
            [Part::File(path)] => Some(Content::File(path.clone())),
            _ => None,
        }
    }
}

fn read_action(action: &str, source: Option<&Template>) -> Option<Vec<Part>> {
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

/// One string literal of Go's without escapes.
fn unquoted(text: &str) -> Option<String> {
    let inner = ['"', '`'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))?;
    (!inner.contains(['"', '`', '\\'])).then(|| inner.to_owned())
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
        let source = Template::read("ghcr.io/a", None);
        Template::read(template, source.as_ref())?.as_text()
    }

    #[test]
    fn variables_become_ours_and_dollars_stay_dollars() {
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
    fn a_secret_is_a_variable_or_a_file_as_a_whole() {
        let content = |text: &str| Template::read(text, None)?.content();
        assert_eq!(content(r#"{{env "A"}}"#), Some(Content::Env("A".into())));
        assert_eq!(content(r#"{{ file "/a b" }}"#), Some(Content::File("/a b".into())));
        assert_eq!(content("hunter2"), Some(Content::Text));
        assert_eq!(content(r#"x{{env "A"}}"#), None);
    }
}
