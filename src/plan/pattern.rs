//! Tag patterns: a glob, a regular expression or a pinned digest, as in `include` and `exclude`.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

use crate::oci::{Digest, DigestError, NameError, Tag};

/// Pattern of `include` or `exclude`, in one of these forms:
///
/// - Regular expression after `re:`. `re:v\d+` matches `v1`, but not `v1-evil`.
/// - Digest after `@`, such as `@sha256:…`. The pattern pins content by its digest, even if the content has no tag.
/// - Tag and digest, such as `2.4.1@sha256:…`. The pattern pins content by its digest, and the target gets the content
///   under this tag. The digest of that tag at the source does not matter.
/// - Glob with `*`, `?`, `[a-c]`, `[!a-c]` or `{a,b}`.
/// - Literal tag: any text without these characters.
///
/// A regular expression, a glob and a literal tag match the whole tag, never a part of the tag.
///
/// A pattern is printed as it was written. Two patterns are equal if their texts are equal.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    kind: PatternKind,
}

#[derive(Clone)]
enum PatternKind {
    Literal(Tag),
    Glob(GlobMatcher),
    Regex(Regex),
    Digest(Digest),
    Pin(Tag, Digest),
}

/// Error of parsing a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An empty text.
    #[error("an empty pattern matches no tag: write \"*\" for every tag")]
    Empty,
    /// A glob with a character that no tag can contain.
    #[error("{pattern:?} matches no tag: a tag cannot contain {character:?}{}", hint(.pattern, *.character))]
    Character {
        /// The pattern as written.
        pattern: String,
        /// The first character that no tag can contain.
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
    /// An invalid digest after `@`.
    #[error("{pattern:?} has no valid digest after `@`: {source}")]
    Digest {
        /// The pattern as written.
        pattern: String,
        /// The error of the digest.
        source: DigestError,
    },
    /// An invalid literal tag, or an invalid tag before `@`.
    #[error(transparent)]
    Tag(#[from] NameError),
}

/// Returns the remedy for a pattern with a character that no tag can contain; empty if there is no specific remedy.
fn hint(pattern: &str, character: char) -> &'static str {
    match character {
        '/' if pattern.len() > 1 && pattern.ends_with('/') => {
            "; for a regular expression write `re:` before it, without the slashes"
        }
        '^' | '$' | '(' | ')' | '|' | '+' | '\\' => "; for a regular expression write `re:` before it",
        ':' | '@' => "; for a digest write \"@sha256:…\"",
        '/' => "; a pattern matches only the tag, not the repository",
        _ => "",
    }
}

impl Pattern {
    /// Returns true if the pattern matches the whole tag. A pattern that pins a digest, with or without a tag, matches
    /// no tag: such a pattern selects content.
    #[must_use]
    pub fn matches(&self, tag: &Tag) -> bool {
        self.matches_name(tag.as_str())
    }

    /// Returns true if the pattern matches the whole name, as [`Pattern::matches`] does for a tag. The command line
    /// selects entries by their names with this function.
    #[must_use]
    pub fn matches_name(&self, name: &str) -> bool {
        match &self.kind {
            PatternKind::Literal(literal) => literal.as_str() == name,
            PatternKind::Glob(glob) => glob.is_match(name),
            PatternKind::Regex(regex) => regex.is_match(name),
            PatternKind::Digest(_) | PatternKind::Pin(..) => false,
        }
    }

    /// Returns the tag if this pattern is a literal tag.
    #[must_use]
    pub fn literal(&self) -> Option<&Tag> {
        match &self.kind {
            PatternKind::Literal(tag) => Some(tag),
            _ => None,
        }
    }

    /// Returns the digest if this pattern pins one, with or without a tag.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self.kind {
            PatternKind::Digest(digest) | PatternKind::Pin(_, digest) => Some(digest),
            _ => None,
        }
    }

    /// Returns the tag and the digest if this pattern pins a digest with a tag, otherwise `None`.
    #[must_use]
    pub fn pin(&self) -> Option<(&Tag, Digest)> {
        match &self.kind {
            PatternKind::Pin(tag, digest) => Some((tag, *digest)),
            _ => None,
        }
    }

    /// Returns false only if certainly no tag matches both patterns. A pin is compared by its tag.
    #[must_use]
    pub fn may_meet(&self, other: &Self) -> bool {
        let tag = |pattern: &Self| pattern.literal().or(pattern.pin().map(|(tag, _)| tag)).cloned();
        match (tag(self), tag(other)) {
            (Some(own), Some(other)) => own == other,
            (Some(tag), None) => other.matches(&tag),
            (None, Some(tag)) => self.matches(&tag),
            (None, None) if self.digest().is_some() || other.digest().is_some() => false,
            (None, None) => {
                let (own, other) = (self.literal_prefix(), other.literal_prefix());
                own.starts_with(other) || other.starts_with(own)
            }
        }
    }

    /// Returns a prefix of all tags that this pattern matches. The prefix is empty if the pattern is not a glob.
    fn literal_prefix(&self) -> &str {
        let special = |c: char| matches!(c, '*' | '?' | '[' | '{');
        match &self.kind {
            PatternKind::Glob(_) => self.text.split(special).next().unwrap_or_default(),
            _ => "",
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let kind = if text.is_empty() {
            return Err(PatternError::Empty);
        } else if let Some(expression) = text.strip_prefix("re:") {
            let invalid = |reason| PatternError::Regex { pattern: text.to_owned(), reason };
            PatternKind::Regex(compile_anchored(expression).map_err(invalid)?)
        } else if let Some(digest) = text.strip_prefix('@') {
            let digest = digest.parse();
            PatternKind::Digest(digest.map_err(|source| PatternError::Digest { pattern: text.to_owned(), source })?)
        } else if let Some((tag, digest)) = text.split_once('@') {
            let digest = digest.parse();
            let digest = digest.map_err(|source| PatternError::Digest { pattern: text.to_owned(), source })?;
            PatternKind::Pin(tag.parse()?, digest)
        } else {
            parse_glob(text)?
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

/// Compiles a regular expression that matches only whole texts. The expression is first compiled alone, and then in a
/// group between anchors. Without the first step, `v1)|(?:.*` would close that group and match without the anchors. The
/// error is the reason.
pub(super) fn compile_anchored(expression: &str) -> Result<Regex, String> {
    Regex::new(expression).map_err(|error| reason(expression, &error))?;
    Regex::new(&format!("^(?:{expression})$")).map_err(|error| reason(expression, &error))
}

/// Returns the reason why an expression does not compile: the last line of the `regex` crate's error, and the part of
/// the expression that the error points at.
fn reason(expression: &str, error: &regex::Error) -> String {
    let whole = error.to_string();
    let last = whole.lines().last().unwrap_or_default();
    let reason = last.trim().trim_start_matches("error: ").to_owned();
    match find_mistake(expression, &whole) {
        Some(mistake) => format!("{reason}, at `{mistake}`"),
        None => reason,
    }
}

/// Returns the end of an expression from the first place that the `regex` crate's error points at. The error has the
/// expression in one line, and carets in the next line.
fn find_mistake<'e>(expression: &'e str, error: &str) -> Option<&'e str> {
    let mut lines = error.lines();
    let indent = lines.find_map(|line| line.strip_suffix(expression).filter(|rest| rest.trim().is_empty()))?;
    let carets = lines.next().filter(|line| line.trim_matches([' ', '^']).is_empty())?;
    let column = carets.find('^')?.checked_sub(indent.len())?;
    let (start, _) = expression.char_indices().nth(column)?;
    expression.get(start..)
}

/// Parses a glob, or a literal tag if the text has no wildcards.
fn parse_glob(text: &str) -> Result<PatternKind, PatternError> {
    let is_tag_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut in_class = false;
    for character in text.chars() {
        match character {
            '[' => in_class = true,
            ']' => in_class = false,
            '!' | '^' if in_class => {}
            '*' | '?' | '{' | '}' | ',' => {}
            _ if is_tag_character(character) => {}
            _ => return Err(PatternError::Character { pattern: text.to_owned(), character }),
        }
    }
    if text.chars().all(is_tag_character) {
        return Ok(PatternKind::Literal(text.parse()?));
    }
    let glob = GlobBuilder::new(text).build();
    let glob =
        glob.map_err(|error| PatternError::Glob { pattern: text.to_owned(), reason: error.kind().to_string() })?;
    Ok(PatternKind::Glob(glob.compile_matcher()))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, tag: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(&tag.parse().unwrap())
    }

    #[test]
    fn glob_matches_only_the_whole_tag() {
        assert!(matches("3.12-slim*", "3.12-slim-bookworm"));
        assert!(!matches("slim", "3.12-slim"));
        assert!(!matches("3.1?", "3.123"));
        assert!(matches("v[0-9]", "v1") && !matches("v[!0-9]", "v1"));
        assert!(matches("{stable,edge}-*", "edge-1") && !matches("{stable,edge}-*", "nightly-1"));
        assert!(!matches("v1.2", "v1x2"), "a dot in a glob matches only a dot");
    }

    #[test]
    fn regular_expression_is_anchored_as_a_whole() {
        assert!(matches("re:v1|v2", "v1") && matches("re:v1|v2", "v2"));
        assert!(!matches("re:v1|v2", "v1-evil") && !matches("re:v1|v2", "evil-v2"));
        assert!(matches("re:v1|v1-good", "v1-good"), "the longer alternative matches too");
        assert!(!matches("re:(?m)v1", "xv1"));
        assert!("re:v1)|(?:.*".parse::<Pattern>().is_err(), "an expression cannot close the group around it");
        assert!("re:(?x)v1 # all".parse::<Pattern>().is_err(), "a comment cannot hide the end anchor");
    }

    #[test]
    fn pattern_without_wildcards_is_one_literal_tag() {
        assert_eq!("v1.2".parse::<Pattern>().unwrap().literal().map(Tag::as_str), Some("v1.2"));
        assert_eq!("v1.*".parse::<Pattern>().unwrap().literal(), None);
        assert_eq!("re:v1".parse::<Pattern>().unwrap().literal(), None);
    }

    #[test]
    fn pinned_digest_prints_as_written_and_matches_no_tag() {
        let digest = Digest::of(b"x");
        let pattern: Pattern = format!("@{digest}").parse().unwrap();
        assert_eq!((pattern.digest(), pattern.to_string()), (Some(digest), format!("@{digest}")));
        assert!(!pattern.matches(&"x".parse().unwrap()));
    }

    #[test]
    fn pin_names_its_tag_and_digest() {
        let digest = Digest::of(b"x");
        let pattern: Pattern = format!("2.4.1@{digest}").parse().unwrap();
        let tag: Tag = "2.4.1".parse().unwrap();
        assert_eq!((pattern.pin(), pattern.digest()), (Some((&tag, digest)), Some(digest)));
        assert!(!pattern.matches(&tag) && pattern.literal().is_none());
        for bad in
            [format!("2.*@{digest}"), "v1@sha256:00".to_owned(), format!("v1@{digest}@{digest}"), "v1@".to_owned()]
        {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_meet_unless_no_tag_matches_both() {
        let meet = |first: &str, second: &str| {
            let (first, second): (Pattern, Pattern) = (first.parse().unwrap(), second.parse().unwrap());
            assert_eq!(first.may_meet(&second), second.may_meet(&first));
            first.may_meet(&second)
        };
        let digest = Digest::of(b"x");
        assert!(meet("a-*", "a-b*") && meet("*", "re:x") && meet("v1", "v*") && meet(&format!("v1@{digest}"), "v1"));
        assert!(!meet("a-*", "b-*") && !meet("v1", "v2") && !meet("v1", "re:w.*") && !meet(&format!("@{digest}"), "*"));
    }

    #[test]
    fn unmatchable_pattern_error_states_the_remedy() {
        let message = |text: &str| text.parse::<Pattern>().unwrap_err().to_string();
        assert_eq!(message(""), r#"an empty pattern matches no tag: write "*" for every tag"#);
        assert_eq!(
            message("^v1"),
            "\"^v1\" matches no tag: a tag cannot contain '^'; \
             for a regular expression write `re:` before it"
        );
        assert_eq!(
            message("sha256:00"),
            r#""sha256:00" matches no tag: a tag cannot contain ':'; for a digest write "@sha256:…""#
        );
        assert_eq!(
            message("library/*"),
            "\"library/*\" matches no tag: a tag cannot contain '/'; \
             a pattern matches only the tag, not the repository"
        );
        assert!(message("/^v1/").ends_with("for a regular expression write `re:` before it, without the slashes"));
        assert_eq!(message("v 1"), r#""v 1" matches no tag: a tag cannot contain ' '"#);
        assert_eq!(
            message("@sha256:00"),
            "\"@sha256:00\" has no valid digest after `@`: \
             \"sha256:00\" is not a digest: sha256 takes 64 lower-case hex digits"
        );
        assert_eq!(message("v[1"), r#""v[1" is not a glob: unclosed character class; missing ']'"#);
        assert_eq!(message("re:v("), r#""re:v(" is not a regular expression: unclosed group, at `(`"#);
        assert_eq!(
            message(".v1"),
            r#"".v1" is not a tag: up to 128 letters, digits, `_`, `.` and `-`, and not `.` or `-` first"#
        );
    }
}
