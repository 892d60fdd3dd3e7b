//! Tag patterns: a glob, a regular expression or a pinned digest, as in `include` and `exclude`.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

use crate::oci::{Digest, DigestError, NameError, Tag};

/// Pattern of `include` or `exclude`. It always matches the whole tag, never a part of it.
///
/// - `re:` before a regular expression: `re:v\d+` matches `v1`, not `v1-evil`;
/// - `@` before a digest pins content, whatever tag it has: `@sha256:…`. With a tag before the `@`, the content gets
///   that tag at the target, whatever digest the source's tag has: `2.4.1@sha256:…`;
/// - any other text is a glob: `*`, `?`, `[a-c]`, `[!a-c]`, `{a,b}`. Without any of these it is one literal tag.
///
/// Prints as it was written; two patterns are equal if their texts are equal.
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
    #[error("{pattern:?} can match no tag: {character:?} is not in the grammar of tags{}", hint(*.character))]
    Character {
        /// The pattern as written.
        pattern: String,
        /// The first such character.
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
    #[error("{pattern:?} pins no digest: {source}")]
    Digest {
        /// The pattern as written.
        pattern: String,
        /// The error of the digest.
        source: DigestError,
    },
    /// A literal that is not a tag.
    #[error(transparent)]
    Tag(#[from] NameError),
}

fn hint(character: char) -> &'static str {
    match character {
        '^' | '$' | '(' | ')' | '|' | '+' | '\\' => "; for a regular expression write `re:` before it",
        ':' | '@' => "; for a digest write \"@sha256:…\"",
        '/' => "; a pattern matches only the tag, not the repository",
        _ => "",
    }
}

impl Pattern {
    /// Returns true if the pattern matches the whole tag. A pinned digest matches no tag, not even its own: it selects
    /// content.
    #[must_use]
    pub fn matches(&self, tag: &Tag) -> bool {
        match &self.kind {
            PatternKind::Literal(literal) => literal == tag,
            PatternKind::Glob(glob) => glob.is_match(tag.as_str()),
            PatternKind::Regex(regex) => regex.is_match(tag.as_str()),
            PatternKind::Digest(_) | PatternKind::Pin(..) => false,
        }
    }

    /// Returns the only tag that this pattern can match, if it is a literal tag.
    #[must_use]
    pub fn literal(&self) -> Option<&Tag> {
        match &self.kind {
            PatternKind::Literal(tag) => Some(tag),
            _ => None,
        }
    }

    /// Returns the digest that this pattern pins, with or without a tag.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self.kind {
            PatternKind::Digest(digest) | PatternKind::Pin(_, digest) => Some(digest),
            _ => None,
        }
    }

    /// Returns the tag that a pinned digest gets, and that digest. `None` for a digest without a tag.
    #[must_use]
    pub fn pin(&self) -> Option<(&Tag, Digest)> {
        match &self.kind {
            PatternKind::Pin(tag, digest) => Some((tag, *digest)),
            _ => None,
        }
    }

    /// Returns false if no tag can match both patterns.
    #[must_use]
    pub fn may_meet(&self, other: &Self) -> bool {
        let tag = |pattern: &Self| pattern.literal().or(pattern.pin().map(|(tag, _)| tag)).cloned();
        match (tag(self), tag(other)) {
            (Some(one), Some(other)) => one == other,
            (Some(tag), None) => other.matches(&tag),
            (None, Some(tag)) => self.matches(&tag),
            (None, None) if self.digest().is_some() || other.digest().is_some() => false,
            (None, None) => {
                let (one, other) = (self.literal_prefix(), other.literal_prefix());
                one.starts_with(other) || other.starts_with(one)
            }
        }
    }

    /// Returns the text with which every tag of this pattern begins.
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
            PatternKind::Regex(compile_anchored(text, expression)?)
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

/// Compiles an anchored expression. The expression alone must be well formed first: `v1)|(?:.*` would otherwise escape
/// from the group.
fn compile_anchored(pattern: &str, expression: &str) -> Result<Regex, PatternError> {
    let refused = |error: regex::Error| PatternError::Regex { pattern: pattern.to_owned(), reason: reason(&error) };
    Regex::new(expression).map_err(refused)?;
    Regex::new(&format!("^(?:{expression})$")).map_err(refused)
}

/// Returns the last line of the crate's multi-line error, which is the reason.
fn reason(error: &regex::Error) -> String {
    let whole = error.to_string();
    let last = whole.lines().last().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}

fn parse_glob(text: &str) -> Result<PatternKind, PatternError> {
    let of_tags = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut in_class = false;
    for character in text.chars() {
        match character {
            '[' => in_class = true,
            ']' => in_class = false,
            '!' | '^' if in_class => {}
            '*' | '?' | '{' | '}' | ',' => {}
            _ if of_tags(character) => {}
            _ => return Err(PatternError::Character { pattern: text.to_owned(), character }),
        }
    }
    if text.chars().all(of_tags) {
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
        assert!(!matches("v1.2", "v1x2"), "a dot is a dot");
    }

    #[test]
    fn regular_expression_is_anchored_as_a_whole() {
        assert!(matches("re:v1|v2", "v1") && matches("re:v1|v2", "v2"));
        assert!(!matches("re:v1|v2", "v1-evil") && !matches("re:v1|v2", "evil-v2"));
        assert!(matches("re:v1|v1-good", "v1-good"), "the longer branch counts too");
        assert!(!matches("re:(?m)v1", "xv1"));
        assert!("re:v1)|(?:.*".parse::<Pattern>().is_err(), "a pattern cannot leave its group");
        assert!("re:(?x)v1 # all".parse::<Pattern>().is_err(), "a comment cannot swallow the anchor");
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
        let meet = |one: &str, other: &str| {
            let (one, other): (Pattern, Pattern) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.may_meet(&other), other.may_meet(&one));
            one.may_meet(&other)
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
            "\"^v1\" can match no tag: '^' is not in the grammar of tags; \
             for a regular expression write `re:` before it"
        );
        assert_eq!(
            message("sha256:00"),
            r#""sha256:00" can match no tag: ':' is not in the grammar of tags; for a digest write "@sha256:…""#
        );
        assert_eq!(
            message("library/*"),
            "\"library/*\" can match no tag: '/' is not in the grammar of tags; \
             a pattern matches only the tag, not the repository"
        );
        assert_eq!(message("v 1"), r#""v 1" can match no tag: ' ' is not in the grammar of tags"#);
        assert_eq!(
            message("@sha256:00"),
            r#""@sha256:00" pins no digest: "sha256:00" is not a digest: sha256 takes 64 lower-case hex digits"#
        );
        assert_eq!(message("v[1"), r#""v[1" is not a glob: unclosed character class; missing ']'"#);
        assert_eq!(message("re:v("), r#""re:v(" is not a regular expression: unclosed group"#);
        assert_eq!(
            message(".v1"),
            r#"".v1" is not a tag: up to 128 letters, digits, `_`, `.` and `-`, and not `.` or `-` first"#
        );
    }
}
