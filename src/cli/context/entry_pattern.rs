//! Patterns of entry names in the arguments of commands, and their selection from the existing names.

use std::fmt;
use std::str::FromStr;

use crate::cli::exit::Failure;
use crate::config::UnknownEntry;
use crate::plan::{Pattern, PatternError};

/// Pattern of entry names: a name, or a glob or regular expression with the syntax of `tags`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryPattern {
    /// Name of one entry. It may be unknown.
    Name(String),
    /// Glob such as `app-*`, or regular expression such as `re:app-\d+`.
    Pattern(Pattern),
}

/// Error of parsing an [`EntryPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryPatternError {
    /// An empty text.
    #[error("the name of an entry is empty: write \"*\" for every entry")]
    Empty,
    /// A glob with a character that no name can contain.
    #[error("{pattern:?} matches no entry: the name of an entry cannot contain {character:?}")]
    Character {
        /// The pattern as written.
        pattern: String,
        /// The first character that no name can contain.
        character: char,
    },
    /// Another mistake in the pattern.
    #[error(transparent)]
    Pattern(PatternError),
}

impl EntryPattern {
    /// Returns true if the pattern matches the whole name.
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Pattern(pattern) => pattern.matches_name(name),
        }
    }
}

impl FromStr for EntryPattern {
    type Err = EntryPatternError;

    fn from_str(text: &str) -> Result<Self, EntryPatternError> {
        if text.is_empty() {
            return Err(EntryPatternError::Empty);
        }
        if !text.contains(['*', '?', '[', '{']) && !text.starts_with("re:") {
            return Ok(Self::Name(text.to_owned()));
        }
        text.parse().map(Self::Pattern).map_err(|error| match error {
            PatternError::Character { pattern, character } => EntryPatternError::Character { pattern, character },
            other => EntryPatternError::Pattern(other),
        })
    }
}

impl fmt::Display for EntryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// Error: a glob or a regular expression matches no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no entry matches {pattern:?}{remedy}")]
struct Unmatched {
    pattern: String,
    remedy: String,
}

/// Returns the names that at least one pattern matches, in the order of `names`; all names if there is no pattern.
///
/// # Errors
/// A usage error for the first pattern that matches no name. The error suggests a similar name.
pub(crate) fn select_names<'a>(patterns: &[EntryPattern], names: &[&'a str]) -> Result<Vec<&'a str>, Failure> {
    if let Some(pattern) = patterns.iter().find(|pattern| !names.iter().any(|name| pattern.matches(name))) {
        return Err(unmatched(pattern, names));
    }
    let is_selected = |name: &&str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name));
    Ok(names.iter().copied().filter(is_selected).collect())
}

/// Returns the error of a pattern that matches none of these names.
pub(crate) fn unmatched(pattern: &EntryPattern, names: &[&str]) -> Failure {
    match pattern {
        EntryPattern::Name(name) if is_file_name(name) => Failure::usage(anyhow::anyhow!(
            "{}; to read a configuration file, write `--config {name}`",
            UnknownEntry::new(name, names)
        )),
        EntryPattern::Name(name) => Failure::usage(UnknownEntry::new(name, names)),
        EntryPattern::Pattern(pattern) => {
            let listed = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
            let remedy = match names.len() {
                0 => ": there are no entries".to_owned(),
                count if count > LISTED => format!("; the entries are {listed} and {} more", count - LISTED),
                _ => format!("; the entries are {listed}"),
            };
            Failure::usage(Unmatched { pattern: pattern.to_string(), remedy })
        }
    }
}

/// Maximum number of names in an error.
const LISTED: usize = 20;

/// Returns true for a text that probably names a configuration file.
pub(crate) fn is_file_name(text: &str) -> bool {
    [".yaml", ".yml"].iter().any(|extension| text.ends_with(extension))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Parses patterns that are valid.
    pub(crate) fn patterns(texts: &[&str]) -> Vec<EntryPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const NAMES: [&str; 4] = ["app-one", "base", "app-two", "(copy)"];

    fn selected(texts: &[&str]) -> Result<Vec<&'static str>, String> {
        select_names(&patterns(texts), &NAMES).map_err(|failure| failure.to_string())
    }

    #[test]
    fn names_and_globs_select_in_the_given_order() {
        assert_eq!(selected(&[]).unwrap(), NAMES);
        assert_eq!(selected(&["base", "app-*"]).unwrap(), ["app-one", "base", "app-two"]);
        assert_eq!(selected(&["re:app-.*o", "{base,x}"]).unwrap(), ["base", "app-two"]);
        assert_eq!(selected(&["(copy)"]).unwrap(), ["(copy)"]);
    }

    #[test]
    fn pattern_without_a_match_is_refused_with_similar_names() {
        assert_eq!(selected(&["bse"]).unwrap_err(), r#"error: there is no entry "bse": did you mean "base"?"#);
        let expected = r#"error: no entry matches "web-*"; the entries are app-one, base, app-two, (copy)"#;
        assert_eq!(selected(&["base", "web-*"]).unwrap_err(), expected);
        let none = select_names(&patterns(&["*"]), &[]).unwrap_err().to_string();
        assert_eq!(none, r#"error: no entry matches "*": there are no entries"#);
    }

    #[test]
    fn configuration_file_as_an_entry_is_refused_with_a_tip() {
        let refused = selected(&["other.yaml"]).unwrap_err();
        assert!(refused.ends_with("; to read a configuration file, write `--config other.yaml`"), "{refused}");
    }

    #[test]
    fn invalid_pattern_of_entries_is_refused_with_its_mistake() {
        let refused = |text: &str| text.parse::<EntryPattern>().unwrap_err().to_string();
        assert_eq!(refused(""), "the name of an entry is empty: write \"*\" for every entry");
        assert_eq!(refused("a/*"), r#""a/*" matches no entry: the name of an entry cannot contain '/'"#);
        assert!(refused("re:(").starts_with(r#""re:(" is not a regular expression: "#));
    }
}
