//! The difference of two tag maps, and what the overwrite rule makes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::oci::{Digest, Tag};

/// What may happen to a tag that the target has with another digest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overwrite {
    /// It moves to the source's digest.
    #[default]
    Always,
    /// It stays, and that is a refusal.
    Never,
    /// It moves, and what it pointed at stays reachable under a tag of its own.
    KeepPrevious,
}

/// A text that is not an [`Overwrite`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an overwrite rule: expected always, never or keep_previous")]
pub struct OverwriteError(String);

impl Overwrite {
    /// All rules, as they are written.
    pub const NAMES: [&'static str; 3] = ["always", "never", "keep_previous"];
}

impl fmt::Display for Overwrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::KeepPrevious => "keep_previous",
        })
    }
}

impl FromStr for Overwrite {
    type Err = OverwriteError;

    fn from_str(text: &str) -> Result<Self, OverwriteError> {
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            "keep_previous" => Ok(Self::KeepPrevious),
            _ => Err(OverwriteError(text.to_owned())),
        }
    }
}

/// What the plan does with one tag at one target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// The target does not have the tag: the closure is copied and the tag written.
    Copy,
    /// The target has the tag with this digest: nothing to do.
    Keep,
    /// The tag moves away from another digest.
    Replace {
        /// What the target has.
        previous: Digest,
    },
    /// The tag moves, and `under` is written for what it pointed at, before.
    ReplaceKeeping {
        /// What the target has.
        previous: Digest,
        /// The tag that keeps it.
        under: Tag,
    },
    /// A rule forbids the move.
    Refuse {
        /// The reason, for people.
        reason: String,
    },
}

/// What happens to `tag`, which stands for `source` at the source and for `target` at the target.
///
/// `source` is the digest that the target is to have: with `platforms`, the derived index's.
#[must_use]
pub fn decide(tag: &Tag, source: Digest, target: Option<Digest>, overwrite: Overwrite) -> Action {
    match (target, overwrite) {
        (None, _) => Action::Copy,
        (Some(there), _) if there == source => Action::Keep,
        (Some(previous), Overwrite::Always) => Action::Replace { previous },
        (Some(previous), Overwrite::KeepPrevious) => {
            Action::ReplaceKeeping { previous, under: previous_tag(tag, &previous) }
        }
        (Some(there), Overwrite::Never) => {
            let reason =
                format!("the target has {there}, the source {source}, and `overwrite: never` forbids the move");
            Action::Refuse { reason }
        }
    }
}

/// [`decide`] for every tag of `source`. Tags that only the target has are not spoken about.
#[must_use]
pub fn diff(
    source: &BTreeMap<Tag, Digest>,
    target: &BTreeMap<Tag, Digest>,
    overwrite: Overwrite,
) -> BTreeMap<Tag, Action> {
    let action = |(tag, digest): (&Tag, &Digest)| decide(tag, *digest, target.get(tag).copied(), overwrite);
    source.iter().map(|entry| (entry.0.clone(), action(entry))).collect()
}

/// `TAG.previous-<12 hex digits>`, with `TAG` cut so that the whole is within the 128 characters of a tag.
fn previous_tag(tag: &Tag, previous: &Digest) -> Tag {
    let suffix = format!(".previous-{}", previous.short());
    let kept = tag.as_str().len().min(128 - suffix.len());
    let text = format!("{}{suffix}", &tag.as_str()[..kept]);
    text.parse().expect("the beginning of a tag with more of its letters is a tag")
}
