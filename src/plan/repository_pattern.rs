//! Patterns of repository names, as in `repositories`: a literal name, a glob or a regular expression. The pattern
//! language is the one of tags, without pinned digests.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

use super::pattern::compile_anchored;
use crate::oci::{NameError, RepositoryName};

/// Pattern of the names of repositories below the prefix of a source that ends in `/**`, in one of these forms:
///
/// - Regular expression after `re:`.
/// - Glob with `*`, `?`, `[a-c]`, `[!a-c]` or `{a,b}`. A `*` also matches `/`, so that `team/*` matches `team/a/b`.
/// - Literal name: any text without these characters.
///
/// Each form matches the whole name, never a part of the name. A pattern is printed as it was written. Two patterns are
/// equal if their texts are equal.
#[derive(Clone)]
pub struct RepositoryPattern {
    text: String,
    kind: PatternKind,
}

#[derive(Clone)]
enum PatternKind {
    Literal,
    Glob(GlobMatcher),
    Regex(Regex),
}

/// Error of parsing a [`RepositoryPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryPatternError {
    /// An empty text.
    #[error("an empty pattern matches no repository: write \"*\" for every repository")]
    Empty,
    /// A glob with a character that no name of a repository can contain.
    #[error("{pattern:?} matches no repository: a name cannot contain {character:?}{}", hint(*.character))]
    Character {
        /// The pattern as written.
        pattern: String,
        /// The first character that no name can contain.
        character: char,
    },
    /// A malformed glob.
    #[error("{pattern:?} is not a glob: {reason}")]
    Glob {
        /// The pattern as written.
        pattern: String,
        /// The mistake.
        reason: String,
    },
    /// A malformed regular expression.
    #[error("{pattern:?} is not a regular expression: {reason}")]
    Regex {
        /// The pattern as written.
        pattern: String,
        /// The mistake.
        reason: String,
    },
    /// A slash at the start or at the end.
    #[error("{0:?} matches no repository: a name has no `/` at its start or end")]
    Slash(String),
    /// An invalid literal name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Returns the remedy for a character that no name can contain; empty if there is no specific remedy.
fn hint(character: char) -> &'static str {
    match character {
        '^' | '$' | '(' | ')' | '|' | '+' | '\\' => "; for a regular expression write `re:` before it",
        ':' | '@' => "; write tags and digests under `tags`, and the host under `source`",
        'A'..='Z' => "; names have lower-case letters",
        _ => "",
    }
}

impl RepositoryPattern {
    /// Returns true if the pattern matches the whole name below the prefix.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.kind {
            PatternKind::Literal => self.text == name,
            PatternKind::Glob(glob) => glob.is_match(name),
            PatternKind::Regex(regex) => regex.is_match(name),
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = RepositoryPatternError;

    fn from_str(text: &str) -> Result<Self, RepositoryPatternError> {
        let kind = if text.is_empty() {
            return Err(RepositoryPatternError::Empty);
        } else if let Some(expression) = text.strip_prefix("re:") {
            let invalid = |reason| RepositoryPatternError::Regex { pattern: text.to_owned(), reason };
            PatternKind::Regex(compile_anchored(expression).map_err(invalid)?)
        } else {
            parse_glob(text)?
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

/// Parses a glob, or a literal name if the text has no wildcards.
fn parse_glob(text: &str) -> Result<PatternKind, RepositoryPatternError> {
    let is_name_character =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-' | '/');
    let mut in_class = false;
    for character in text.chars() {
        match character {
            '[' => in_class = true,
            ']' => in_class = false,
            '!' | '^' if in_class => {}
            '*' | '?' | '{' | '}' | ',' => {}
            _ if is_name_character(character) => {}
            _ => return Err(RepositoryPatternError::Character { pattern: text.to_owned(), character }),
        }
    }
    if text.starts_with('/') || text.ends_with('/') {
        return Err(RepositoryPatternError::Slash(text.to_owned()));
    }
    if text.chars().all(is_name_character) {
        text.parse::<RepositoryName>()?;
        return Ok(PatternKind::Literal);
    }
    let glob = GlobBuilder::new(text).build();
    let glob = glob
        .map_err(|error| RepositoryPatternError::Glob { pattern: text.to_owned(), reason: error.kind().to_string() })?;
    Ok(PatternKind::Glob(glob.compile_matcher()))
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for RepositoryPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RepositoryPattern {}

/// Selection of repositories below the prefix of a source. The default selects every repository.
///
/// A repository is selected if an `include` matches its name, or there is no `include`, and no `exclude` matches it.
/// Both compare the part of the name that the `**` of the source stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositorySelection {
    /// Patterns, at least one of which must match. If there are none, every name matches.
    pub include: Vec<RepositoryPattern>,
    /// Patterns, none of which may match.
    pub exclude: Vec<RepositoryPattern>,
}

impl RepositorySelection {
    /// Returns true if the repository with this name below the prefix is selected.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let matches = |pattern: &RepositoryPattern| pattern.matches(name);
        (self.include.is_empty() || self.include.iter().any(matches)) && !self.exclude.iter().any(matches)
    }

    /// Returns true if every repository is selected, whatever its name.
    #[must_use]
    pub fn takes_every_repository(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<RepositoryPattern>().unwrap().matches(name)
    }

    #[test]
    fn repository_pattern_matches_only_the_whole_name() {
        assert!(matches("team/app", "team/app") && !matches("app", "team/app") && !matches("team", "team/app"));
        assert!(matches("team/*", "team/a/b") && matches("*-test", "team/a-test") && !matches("team/*", "team"));
        assert!(matches("re:team/[ab]", "team/a") && !matches("re:team/a", "team/ab"));
        assert!(matches("{a,b}/?pp", "b/app") && matches("*", "any/name"));
    }

    #[test]
    fn selection_needs_an_include_and_no_exclude() {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let selection = RepositorySelection { include: patterns(&["team/*", "base"]), exclude: patterns(&["*-test"]) };
        assert!(selection.takes("team/app") && selection.takes("base"));
        assert!(!selection.takes("team/app-test") && !selection.takes("other"));
        assert!(RepositorySelection::default().takes("other"));
    }

    #[test]
    fn unmatchable_repository_pattern_error_states_the_remedy() {
        let message = |text: &str| text.parse::<RepositoryPattern>().unwrap_err().to_string();
        assert_eq!(message(""), "an empty pattern matches no repository: write \"*\" for every repository");
        assert_eq!(
            message("^team/.*$"),
            "\"^team/.*$\" matches no repository: a name cannot contain '^'; for a regular expression write `re:` \
             before it"
        );
        assert_eq!(
            message("app:v1"),
            "\"app:v1\" matches no repository: a name cannot contain ':'; write tags and digests under `tags`, and \
             the host under `source`"
        );
        assert_eq!(message("team/"), "\"team/\" matches no repository: a name has no `/` at its start or end");
        assert_eq!(message("re:("), "\"re:(\" is not a regular expression: unclosed group, at `(`");
        assert!(message("Team").contains("lower-case"));
    }
}
