//! Versions in tags, and ranges of versions. [`VersionRange`] documents the rules for parsing a tag as a version.

use std::fmt;
use std::str::FromStr;

use semver::{Prerelease, Version, VersionReq};

use crate::oci::Tag;

/// Range of versions, as in the key `semver`: `>=3.12, <4`, `^1.2`, `~1.2.3`, `=1.2.3`, `1.*`. Commas separate the
/// comparators of a range. A version must match every comparator. A bare `1.2` means `^1.2`.
///
/// Rules for parsing a tag as a version:
///
/// - The tag has an optional `v` or `V` and then one to three numbers, separated by dots. Missing numbers count as 0,
///   so `3.12` is 3.12.0. Leading zeros are allowed (`2024.01`). A tag without a number or with four numbers has no
///   version.
/// - A suffix after `-` is a **pre-release** if its first word is in this list, in upper or lower case: `alpha`,
///   `beta`, `rc`, `pre`, `preview`, `prerelease`, `dev`, `snapshot`, `nightly`, `canary`, `milestone`. Examples are
///   `-rc1` and `-beta.2`. The words `a`, `b` and `m` count only if a number follows (`-M3`). After two or three
///   numbers the `-` may be omitted (`3.14.0rc2`).
/// - Any other suffix after `-` is a **variant** (`3.12-slim`, `1.2.3-4`). Comparisons ignore the variant.
/// - Comparisons also ignore a build after `_` (`1.2.3_build5`) and the text after a pre-release (`3.14-rc1-slim`).
///
/// A range contains a pre-release only if a comparator of the range names a pre-release of the same version:
/// `>=1.2.0-rc.1` contains 1.2.0-rc.2, but not 1.3.0-rc.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    text: String,
    requirement: VersionReq,
}

/// Error of parsing a [`VersionRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a range of versions: {reason}")]
pub struct VersionRangeError {
    text: String,
    reason: String,
}

impl VersionRange {
    /// Returns true if the tag has a version within this range.
    #[must_use]
    pub fn contains(&self, tag: &Tag) -> bool {
        version_of(tag).is_some_and(|version| self.matches(&version))
    }

    pub(super) fn matches(&self, version: &Version) -> bool {
        self.requirement.matches(version)
    }
}

impl FromStr for VersionRange {
    type Err = VersionRangeError;

    fn from_str(text: &str) -> Result<Self, VersionRangeError> {
        let invalid = |reason: String| VersionRangeError { text: text.to_owned(), reason };
        if text.trim().is_empty() {
            return Err(invalid("the range is empty; write \"*\" for every version".into()));
        }
        if text.contains("||") {
            return Err(invalid("`||` is not supported; write one range".into()));
        }
        let mut requirement: VersionReq = text.parse().map_err(|error: semver::Error| invalid(error.to_string()))?;
        for comparator in &mut requirement.comparators {
            comparator.pre = normalize_prerelease(comparator.pre.as_str());
        }
        Ok(Self { text: text.to_owned(), requirement })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Parses a tag as a version, by the rules of [`VersionRange`] and without the variant. Returns `None` if the tag has
/// no version.
pub(super) fn version_of(tag: &Tag) -> Option<Version> {
    let text = tag.as_str().strip_prefix(['v', 'V']).unwrap_or(tag.as_str());
    let text = text.split('_').next().unwrap_or_default();
    let (numbers, suffix) = split_numbers(text)?;
    let [major, minor, patch] = [0, 1, 2].map(|index| numbers.get(index).copied().unwrap_or(0));
    let mut version = Version::new(major, minor, patch);
    version.pre = match suffix.strip_prefix('-') {
        Some(suffix) if is_prerelease(suffix) => normalize_prerelease(prerelease_part(suffix)),
        Some(_) => Prerelease::EMPTY,
        None if suffix.is_empty() => Prerelease::EMPTY,
        // A pre-release directly after the numbers, as in `3.14.0rc2`. A tag with one number before letters, as in
        // `1b2c3d4`, is more likely the hash of a commit.
        None if numbers.len() > 1 && is_prerelease(suffix) => normalize_prerelease(prerelease_part(suffix)),
        None => return None,
    };
    Some(version)
}

/// Splits a text into its first one to three numbers, separated by dots, and the rest after the last number. Returns
/// `None` if the text has no number at its start or more than three numbers.
fn split_numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        numbers.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
        match rest.strip_prefix('.') {
            Some(following) if numbers.len() < 3 => rest = following,
            Some(_) => return None,
            None => return Some((numbers, rest)),
        }
    }
}

/// Words that mark a suffix as a pre-release. A suffix is a pre-release if its first word, such as `rc` in `rc1`, is in
/// this list.
const PRERELEASE_WORDS: [&str; 11] =
    ["alpha", "beta", "rc", "pre", "preview", "prerelease", "dev", "snapshot", "nightly", "canary", "milestone"];

fn is_prerelease(suffix: &str) -> bool {
    let lower = suffix.to_ascii_lowercase();
    let letters = lower.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(lower.len());
    let (word, rest) = lower.split_at(letters);
    let number = rest.split(['-', '.']).next().unwrap_or_default();
    match word {
        "a" | "b" | "m" => !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        _ => PRERELEASE_WORDS.contains(&word),
    }
}

/// Returns the pre-release at the start of a suffix, without the variant: `rc1` for `rc1-slim`, and `rc-1` for `rc-1`.
fn prerelease_part(suffix: &str) -> &str {
    let mut end = suffix.find('-').unwrap_or(suffix.len());
    let rest = suffix[end..].trim_start_matches('-');
    let number = rest.find('-').map_or(rest, |end| &rest[..end]);
    if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && suffix[..end].bytes().all(is_letter) {
        end = suffix.len() - rest.len() + number.len();
    }
    &suffix[..end]
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic()
}

/// Normalizes a pre-release: separates letters and digits with a dot, and removes leading zeros. So `rc10` becomes
/// `rc.10`, which is greater than `rc.9`.
fn normalize_prerelease(text: &str) -> Prerelease {
    let mut parts: Vec<String> = Vec::new();
    for identifier in text.split(['.', '-']).filter(|identifier| !identifier.is_empty()) {
        let letters = identifier.find(|c: char| c.is_ascii_digit()).unwrap_or(identifier.len());
        let (word, number) = identifier.split_at(letters);
        if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
            parts.extend((!word.is_empty()).then(|| word.to_ascii_lowercase()));
            let number = number.trim_start_matches('0');
            parts.push(if number.is_empty() { "0".into() } else { number.into() });
        } else {
            parts.push(identifier.to_ascii_lowercase());
        }
    }
    Prerelease::new(&parts.join(".")).unwrap_or(Prerelease::EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: &str) -> Option<String> {
        version_of(&tag.parse().unwrap()).map(|version| version.to_string())
    }

    fn holds(range: &str, tag: &str) -> bool {
        range.parse::<VersionRange>().unwrap().contains(&tag.parse().unwrap())
    }

    #[test]
    fn tags_parse_as_versions() {
        for (tag, version) in [
            ("v1.2.3", "1.2.3"),
            ("V1.2", "1.2.0"),
            ("3", "3.0.0"),
            ("3.12-slim", "3.12.0"),
            ("2024.01.09", "2024.1.9"),
            ("1.2.3-4", "1.2.3"),
            ("1.2.3_build5", "1.2.3"),
            ("3.12-alpine3.20", "3.12.0"),
            ("1.30.0-k3s1", "1.30.0"),
            ("1.2-rclone", "1.2.0"),
            ("1.2.3-rc.1", "1.2.3-rc.1"),
            ("1.2.3-RC10", "1.2.3-rc.10"),
            ("1.2.3-rc-1", "1.2.3-rc.1"),
            ("1.2.3-rc.01", "1.2.3-rc.1"),
            ("3.14-rc1-slim", "3.14.0-rc.1"),
            ("3.14.0rc2", "3.14.0-rc.2"),
            ("3.14.0a1-slim", "3.14.0-a.1"),
            ("4.0.0-M3", "4.0.0-m.3"),
            ("2.0-SNAPSHOT", "2.0.0-snapshot"),
            ("1.2.3-beta", "1.2.3-beta"),
            ("1.2.3-nightly-20240101", "1.2.3-nightly.20240101"),
        ] {
            assert_eq!(read(tag).as_deref(), Some(version), "{tag}");
        }
        for tag in
            ["latest", "1.2.3.4", "1b2c3d4", "9a12345", "slim-3.12", "v", "1.", "1.2.x", "99999999999999999999", "1..2"]
        {
            assert_eq!(read(tag), None, "{tag}");
        }
    }

    #[test]
    fn variant_is_in_range_as_its_release() {
        assert!(holds(">=3.12, <4", "3.12-slim") && holds(">=3.12, <4", "v3.13.1"));
        assert!(!holds(">=3.12, <4", "4.0-slim") && !holds(">=3.12, <4", "3.11.9") && !holds(">=3.12, <4", "latest"));
        assert!(holds("1.2", "1.9") && !holds("=1.2.3", "1.2.4") && holds("1.*", "1.7.7"));
    }

    #[test]
    fn prerelease_is_outside_range_not_naming_its_version() {
        assert!(!holds(">=1.0", "1.2.0-rc1") && !holds("*", "1.2.0-rc1") && !holds(">=3.12", "3.14.0rc2"));
        assert!(holds(">=1.2.0-rc9", "1.2.0-rc10") && holds(">=1.2.0-rc.9", "1.2.0-rc10"));
        assert!(!holds(">=1.2.0-rc.9", "1.2.0-rc8") && !holds(">=1.2.0-rc.9", "1.3.0-rc10"));
        assert!(holds(">=1.2.0-rc.9", "1.3.0"));
    }

    #[test]
    fn malformed_range_error_states_the_reason() {
        let message = |text: &str| text.parse::<VersionRange>().unwrap_err().to_string();
        assert_eq!(message(""), r#""" is not a range of versions: the range is empty; write "*" for every version"#);
        assert_eq!(message("1 || 2"), r#""1 || 2" is not a range of versions: `||` is not supported; write one range"#);
        assert_eq!(
            message(">=3.12 <4"),
            r#"">=3.12 <4" is not a range of versions: expected comma after minor version number, found '<'"#
        );
        assert_eq!(">=3.12, <4".parse::<VersionRange>().unwrap().to_string(), ">=3.12, <4");
    }
}
