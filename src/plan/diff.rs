//! Comparison of the tags of a source with the tags of a target, and the action for each tag.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::oci::{Digest, Tag};

/// Rule for a tag that has one digest at the source and another digest at the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overwrite {
    /// The tag moves to the source's digest.
    #[default]
    Always,
    /// The tag does not move. The run reports that this rule blocked the move.
    Never,
    /// The tag moves, and an additional tag keeps the previous digest reachable.
    KeepPrevious,
    /// The tag does not move, because the user ran `copy` without `--force`. The configuration does not have this rule.
    Unforced,
}

/// Error of parsing an [`Overwrite`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an overwrite rule: expected always, never or keep_previous")]
pub struct OverwriteError(String);

impl Overwrite {
    /// Names of the rules in the configuration.
    pub const NAMES: [&'static str; 3] = ["always", "never", "keep_previous"];
}

impl fmt::Display for Overwrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::KeepPrevious => "keep_previous",
            Self::Unforced => "unforced",
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

/// Planned action for one tag at one target. In JSON, the action has the name of its outcome: `Copy` is `copied`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome")]
pub enum Action {
    /// Copies the manifest with everything that it refers to, and writes the tag. The target does not have the tag.
    #[serde(rename = "copied")]
    Copy,
    /// Does nothing: the target has the tag with this digest.
    #[serde(rename = "unchanged")]
    Unchanged,
    /// Moves the tag, which has another digest at the target.
    #[serde(rename = "replaced")]
    Replace {
        /// The present digest of the tag at the target.
        previous: Digest,
    },
    /// First writes the additional tag `under` with the present digest, and then moves the tag.
    #[serde(rename = "replaced")]
    ReplaceKeeping {
        /// The present digest of the tag at the target.
        previous: Digest,
        /// The additional tag that keeps the previous digest.
        #[serde(rename = "kept_as")]
        under: Tag,
    },
    /// Does not move the tag, because a rule forbids the move.
    #[serde(rename = "blocked")]
    Block {
        /// The reason, as a message for the user.
        reason: String,
    },
}

/// Decides the action for a tag at one target.
///
/// - `source` is the digest that the target should have. This is the digest of the tag at the source, or, if the entry
///   has `platforms`, the digest of the derived index.
/// - `target` is the digest of the tag at the target, or `None` if the target does not have the tag.
#[must_use]
pub fn decide(tag: &Tag, source: Digest, target: Option<Digest>, overwrite: Overwrite) -> Action {
    match (target, overwrite) {
        (None, _) => Action::Copy,
        (Some(present), _) if present == source => Action::Unchanged,
        (Some(previous), Overwrite::Always) => Action::Replace { previous },
        (Some(previous), Overwrite::KeepPrevious) => {
            Action::ReplaceKeeping { previous, under: previous_tag(tag, &previous) }
        }
        (Some(present), Overwrite::Never) => {
            let reason =
                format!("the target has {present}, the source has {source}, and `overwrite: never` forbids the move");
            Action::Block { reason }
        }
        (Some(present), Overwrite::Unforced) => {
            let reason = format!("the target has {present}, the source has {source}: add --force to move the tag");
            Action::Block { reason }
        }
    }
}

/// Returns the action that [`decide`] chooses for each tag of `source`. The result does not contain tags that only the
/// target has.
///
/// ```
/// use std::collections::BTreeMap;
/// use transship::oci::{Digest, NameError, Tag};
/// use transship::plan::{Action, Overwrite, diff};
///
/// let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
/// let map = |tags: &[(&str, Digest)]| -> Result<BTreeMap<Tag, Digest>, NameError> {
///     tags.iter().map(|(tag, digest)| Ok((tag.parse()?, *digest))).collect()
/// };
/// let source = map(&[("1.0", old), ("1.1", new), ("latest", new)])?;
/// let target = map(&[("1.0", old), ("latest", old), ("edge", old)])?;
/// let actions: Vec<Action> = diff(&source, &target, Overwrite::Always).into_values().collect();
/// assert_eq!(actions, [Action::Unchanged, Action::Copy, Action::Replace { previous: old }]);
/// # Ok::<(), NameError>(())
/// ```
#[must_use]
pub fn diff(
    source: &BTreeMap<Tag, Digest>,
    target: &BTreeMap<Tag, Digest>,
    overwrite: Overwrite,
) -> BTreeMap<Tag, Action> {
    let action = |(tag, digest): (&Tag, &Digest)| decide(tag, *digest, target.get(tag).copied(), overwrite);
    source.iter().map(|entry| (entry.0.clone(), action(entry))).collect()
}

/// Returns the tag `TAG.previous-<12 hex digits>`, with the first digits of the previous digest. If the result would be
/// longer than 128 characters, the maximum length of a tag, `TAG` is truncated.
fn previous_tag(tag: &Tag, previous: &Digest) -> Tag {
    let suffix = format!(".previous-{}", previous.short());
    let prefix_length = tag.as_str().len().min(128 - suffix.len());
    let text = format!("{}{suffix}", &tag.as_str()[..prefix_length]);
    text.parse().expect("a prefix of a tag, followed by characters that a tag may contain, is a tag")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn each_overwrite_rule_decides_about_moving_tag() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let moved = |overwrite| decide(&tag("v1"), new, Some(old), overwrite);
        assert_eq!(moved(Overwrite::Always), Action::Replace { previous: old });
        let under = tag(&format!("v1.previous-{}", old.short()));
        assert_eq!(moved(Overwrite::KeepPrevious), Action::ReplaceKeeping { previous: old, under });
        let reason = format!("the target has {old}, the source has {new}, and `overwrite: never` forbids the move");
        assert_eq!(moved(Overwrite::Never), Action::Block { reason });
        for overwrite in [Overwrite::Always, Overwrite::Never, Overwrite::KeepPrevious] {
            assert_eq!(decide(&tag("v1"), new, None, overwrite), Action::Copy);
            assert_eq!(decide(&tag("v1"), new, Some(new), overwrite), Action::Unchanged);
        }
    }

    #[test]
    fn tag_for_previous_digest_is_never_too_long() {
        let previous = Digest::of(b"old");
        let long = previous_tag(&tag(&"a".repeat(128)), &previous);
        assert_eq!(long.as_str(), format!("{}.previous-{}", "a".repeat(106), previous.short()));
    }

    #[test]
    fn overwrite_rules_print_as_they_are_written() {
        for name in Overwrite::NAMES {
            assert_eq!(name.parse::<Overwrite>().unwrap().to_string(), name);
        }
        assert_eq!(
            "sometimes".parse::<Overwrite>().unwrap_err().to_string(),
            r#""sometimes" is not an overwrite rule: expected always, never or keep_previous"#
        );
    }

    fn map() -> impl Strategy<Value = BTreeMap<Tag, Digest>> {
        let pair = (0..12_u8, 0..4_u8).prop_map(|(name, content)| (tag(&format!("t{name}")), Digest::of(&[content])));
        proptest::collection::btree_map(
            pair.clone().prop_map(|(tag, _)| tag),
            pair.prop_map(|(_, digest)| digest),
            0..10,
        )
    }

    fn apply(plan: &BTreeMap<Tag, Action>, source: &BTreeMap<Tag, Digest>, target: &mut BTreeMap<Tag, Digest>) {
        for (tag, action) in plan {
            match action {
                Action::Unchanged | Action::Block { .. } => {}
                Action::Copy | Action::Replace { .. } => {
                    target.insert(tag.clone(), source[tag]);
                }
                Action::ReplaceKeeping { previous, under } => {
                    target.insert(under.clone(), *previous);
                    target.insert(tag.clone(), source[tag]);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: proptest::test_runner::RngSeed::Fixed(7),
            ..ProptestConfig::default()
        })]

        #[test]
        fn applied_plan_makes_target_agree_and_next_plan_empty(
            source in map(), before in map(), keeping in any::<bool>(),
        ) {
            let overwrite = if keeping { Overwrite::KeepPrevious } else { Overwrite::Always };
            let mut after = before.clone();
            apply(&diff(&source, &before, overwrite), &source, &mut after);
            prop_assert!(source.iter().all(|(tag, digest)| after.get(tag) == Some(digest)));
            prop_assert!(diff(&source, &after, overwrite).values().all(|action| *action == Action::Unchanged));
            prop_assert!(before.keys().all(|tag| source.contains_key(tag) || after[tag] == before[tag]));
            if keeping {
                let is_kept = |digest| after.values().any(|kept| kept == digest);
                prop_assert!(before.values().all(is_kept), "each previous digest is still reachable");
            }
        }

        #[test]
        fn equal_maps_yield_only_unchanged_tags(map in map()) {
            for overwrite in [Overwrite::Always, Overwrite::Never, Overwrite::KeepPrevious] {
                prop_assert!(diff(&map, &map, overwrite).values().all(|action| *action == Action::Unchanged));
            }
        }

        #[test]
        fn target_tags_stay_under_overwrite_never(source in map(), before in map()) {
            let mut after = before.clone();
            apply(&diff(&source, &before, Overwrite::Never), &source, &mut after);
            prop_assert!(before.iter().all(|(tag, digest)| after.get(tag) == Some(digest)));
            prop_assert!(source.keys().all(|tag| after.contains_key(tag)));
        }
    }
}
