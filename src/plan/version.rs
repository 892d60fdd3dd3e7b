//! Versions as tags carry them, and ranges over them. Tags are no semantic versions, so the rule is written here.

use std::fmt;
use std::str::FromStr;

use semver::{Prerelease, Version, VersionReq};

use crate::oci::Tag;

/// A range of versions, as `semver` takes it: `>=3.12, <4`, `^1.2`, `~1.2.3`, `=1.2.3`, `1.*`. Several
/// comparators are joined by commas and must all hold; a bare `1.2` means `^1.2`.
///
/// How a tag is read as a version:
///
/// - after an optional `v` or `V` come one to three numbers between dots; missing ones count as 0, so `3.12` is
///   3.12.0. Leading zeros are fine (`2024.01`). Four numbers or none at all are no version;
/// - a suffix behind `-` is a **pre-release** when its first word is `alpha`, `beta`, `rc`, `pre`, `preview`,
///   `prerelease`, `dev`, `snapshot`, `nightly` or `canary`, or `a`, `b` or `m` with a number (`-rc1`, `-beta.2`,
///   `-M3`), in any case of letters. Behind two or three numbers the `-` may be missing (`3.14.0rc2`);
/// - any other suffix is a **variant** (`3.12-slim`, `1.2.3-4`) and compares as its release; so does a build behind
///   `_` (`1.2.3_build5`) and what follows a pre-release (`3.14-rc1-slim`);
/// - a pre-release is outside of every range that does not itself name a pre-release of that same version:
///   `>=1.2.0-rc.1` holds for 1.2.0-rc.2, not for 1.3.0-rc.1.
#[derive(Debug, Clone)]
pub struct VersionRange {
    text: String,
    requirement: VersionReq,
}

/// Why a text is not a [`VersionRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a range of versions: {reason}")]
pub struct VersionRangeError {
    text: String,
    reason: String,
}

impl VersionRange {
    /// Whether the tag has a version within this range.
    #[must_use]
    pub fn contains(&self, tag: &Tag) -> bool {
        version_of(tag).is_some_and(|version| self.holds(&version))
    }

    pub(super) fn holds(&self, version: &Version) -> bool {
        self.requirement.matches(version)
    }
}

impl FromStr for VersionRange {
    type Err = VersionRangeError;

    fn from_str(text: &str) -> Result<Self, VersionRangeError> {
        let refused = |reason: String| VersionRangeError { text: text.to_owned(), reason };
        if text.trim().is_empty() {
            return Err(refused("it is empty; write \"*\" for every version".into()));
        }
        if text.contains("||") {
            return Err(refused("`||` is not supported; write one range".into()));
        }
        let mut requirement: VersionReq = text.parse().map_err(|error: semver::Error| refused(error.to_string()))?;
        for comparator in &mut requirement.comparators {
            comparator.pre = prerelease(comparator.pre.as_str());
        }
        Ok(Self { text: text.to_owned(), requirement })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl PartialEq for VersionRange {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for VersionRange {}

/// The version of a tag by the rule at [`VersionRange`]; a variant is dropped.
pub(super) fn version_of(tag: &Tag) -> Option<Version> {
    let text = tag.as_str().strip_prefix(['v', 'V']).unwrap_or(tag.as_str());
    let text = text.split('_').next().unwrap_or_default();
    let (numbers, suffix) = split_numbers(text)?;
    let [major, minor, patch] = [0, 1, 2].map(|at| numbers.get(at).copied().unwrap_or(0));
    let mut version = Version::new(major, minor, patch);
    version.pre = match suffix.strip_prefix('-') {
        Some(suffix) if is_prerelease(suffix) => prerelease(prerelease_part(suffix)),
        Some(_) => Prerelease::EMPTY,
        None if suffix.is_empty() => Prerelease::EMPTY,
        // Glued to the numbers. A lone number with letters behind it is rather a commit's hash.
        None if numbers.len() > 1 && is_prerelease(suffix) => prerelease(prerelease_part(suffix)),
        None => return None,
    };
    Some(version)
}

/// One to three numbers between dots, and what comes behind the last.
fn split_numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        numbers.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
        match rest.strip_prefix('.') {
            Some(more) if numbers.len() < 3 => rest = more,
            Some(_) => return None,
            None => return Some((numbers, rest)),
        }
    }
}

const WORDS: [&str; 11] =
    ["alpha", "beta", "rc", "pre", "preview", "prerelease", "dev", "snapshot", "nightly", "canary", "milestone"];

fn is_prerelease(suffix: &str) -> bool {
    let lower = suffix.to_ascii_lowercase();
    let letters = lower.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(lower.len());
    let (word, behind) = lower.split_at(letters);
    let number = behind.split(['-', '.']).next().unwrap_or_default();
    match word {
        "a" | "b" | "m" => !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        _ => WORDS.contains(&word),
    }
}

/// Up to the variant: `rc1-slim` is `rc1`, but `rc-1` is whole.
fn prerelease_part(suffix: &str) -> &str {
    let mut end = suffix.find('-').unwrap_or(suffix.len());
    let behind = suffix[end..].trim_start_matches('-');
    let number = behind.find('-').map_or(behind, |at| &behind[..at]);
    if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && suffix[..end].bytes().all(is_letter) {
        end = suffix.len() - behind.len() + number.len();
    }
    &suffix[..end]
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic()
}

/// Puts a dot between letters and digits, so that `rc10` comes after `rc9`, as `rc.10` does after `rc.9`.
fn prerelease(text: &str) -> Prerelease {
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
