//! Checks between values: within an entry (its source, its targets and its rules) and between entries.

use std::collections::HashMap;

use super::diagnostics::report::{Diagnostic, Part};
use super::reader::Reader;
use super::sections::entry::{Draft, Placed};
use super::sections::entry_credentials;
use super::yaml::node::Path;
use super::{Endpoint, EntryName};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::plan::Pattern;

/// Adds all problems between the values of `drafts`.
pub(super) fn check(reader: &Reader<'_>, drafts: &[Draft<'_>]) {
    for draft in drafts {
        pins_keep_all_platforms(reader, draft);
        targets_differ(reader, draft);
        if let Some((source, _)) = &draft.source {
            for target in &draft.targets {
                target_fits(reader, source, target);
            }
        }
        entry_credentials::check(reader, draft);
    }
    names_differ(reader, drafts);
    literal_tags_have_one_source(reader, drafts);
}

/// Reports a pin in an entry that selects platforms. A pin fixes a digest, and a subset of the platforms has a
/// different digest.
fn pins_keep_all_platforms(reader: &Reader<'_>, draft: &Draft<'_>) {
    let (Some(Some(_)), Some(tags)) = (&draft.settings.platforms, &draft.settings.tags) else { return };
    for (_, value) in tags.include.iter().filter(|(pattern, _)| pattern.digest().is_some()) {
        let message = "a pinned digest comes with all its platforms, but `platforms` takes some of them";
        reader.wrong_with_hint(value, message, "write `platforms: all`, or pin in an entry of its own");
    }
}

fn targets_differ(reader: &Reader<'_>, draft: &Draft<'_>) {
    for (at, (target, value)) in draft.targets.iter().enumerate() {
        if let Some((_, first)) = draft.targets[..at].iter().find(|(other, _)| other.is_same_place(target)) {
            let message = format!("the target {target} is here twice");
            reader.add(Diagnostic::new(&value.path, Part::Value, message).first(&first.path, Part::Value));
        }
    }
}

fn target_fits(reader: &Reader<'_>, source: &Endpoint, (target, value): &Placed<'_, Endpoint>) {
    use Endpoint::{Layout, Repository, Tree};
    if source.is_same_place(target) {
        reader.wrong(value, format!("the target is the source, {source}"));
        return;
    }
    match (source, target) {
        (Tree { .. }, Layout(_)) => reader
            .wrong(value, format!("a layout holds one repository, but {source} is many: write one entry for each")),
        (Tree { .. }, Repository(name)) => reader.wrong_with_hint(
            value,
            format!("the source {source} is many repositories, the target is one"),
            format!("write {name}/**"),
        ),
        (Repository(_) | Layout(_), Tree { .. }) => reader.wrong(
            value,
            format!("the target {target} is many repositories, the source is one: write the target without `/**`"),
        ),
        (Tree { host: a, prefix: above }, Tree { host: b, prefix: below }) if a == b && is_below(below, above) => {
            reader.wrong(
                value,
                format!("the target {target} lies within the source {source}, and would be copied into itself"),
            );
        }
        _ => {}
    }
}

fn is_below(below: &Option<RepositoryName>, above: &Option<RepositoryName>) -> bool {
    match (below, above) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(below), Some(above)) => {
            below.as_str().strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with('/'))
        }
    }
}

fn names_differ(reader: &Reader<'_>, drafts: &[Draft<'_>]) {
    let mut places: HashMap<&EntryName, &Path> = HashMap::new();
    for (name, value) in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if let Some(first) = places.get(name) {
            let message = format!("two entries have the name {name}");
            reader.add(Diagnostic::new(&value.path, Part::Value, message).first(first, Part::Value));
        } else {
            places.insert(name, &value.path);
        }
    }
}

/// First claim to a tag of a target: the entry and the source that write the tag.
struct Claim<'d> {
    source: Endpoint,
    /// Digest that the tag is pinned to, if it is pinned.
    digest: Option<Digest>,
    draft: &'d Draft<'d>,
}

/// Reports tags that two entries write to one target from different sources or with different digests. The check covers
/// only tags that are written out; the matches of a pattern are known only to the plan.
fn literal_tags_have_one_source(reader: &Reader<'_>, drafts: &[Draft<'_>]) {
    let mut claims: HashMap<(Endpoint, Tag), Claim<'_>> = HashMap::new();
    for draft in drafts {
        let (Some((source, _)), Some(tags)) = (&draft.source, &draft.settings.tags) else { continue };
        let named = tags.include.iter().filter_map(|(pattern, value)| Some((named(pattern)?, value)));
        // `semver` does not count a pinned tag.
        let wanted = |tag: &Tag, digest: Option<Digest>| {
            let in_range = |range: &crate::plan::VersionRange| digest.is_some() || range.contains(tag);
            !tags.selection.exclude.iter().any(|pattern| pattern.matches(tag))
                && tags.selection.semver.as_ref().is_none_or(in_range)
        };
        for ((tag, digest), value) in named.filter(|((tag, digest), _)| wanted(tag, *digest)) {
            for (target, _) in draft.targets.iter().filter(|(target, _)| !matches!(target, Endpoint::Tree { .. })) {
                let key = (target.normal(), tag.clone());
                let claim = claims.entry(key).or_insert_with(|| Claim { source: source.normal(), digest, draft });
                let (entries, hint) =
                    (format!("{} and {}", called(claim.draft), called(draft)), "exclude it in one of them");
                if claim.source != source.normal() {
                    let message =
                        format!("tag {tag} of {target} is written by two entries from different sources: {entries}");
                    reader.wrong_with_hint(value, message, hint);
                } else if claim.digest != digest && !std::ptr::eq(claim.draft, draft) {
                    let message =
                        format!("tag {tag} of {target} is written by two entries with different digests: {entries}");
                    reader.wrong_with_hint(value, message, hint);
                }
            }
        }
    }
}

/// Returns the tag that a pattern writes out, and the digest that the tag is pinned to.
fn named(pattern: &Pattern) -> Option<(&Tag, Option<Digest>)> {
    let pinned = pattern.pin().map(|(tag, digest)| (tag, Some(digest)));
    pinned.or_else(|| Some((pattern.literal()?, None)))
}

fn called(draft: &Draft<'_>) -> String {
    draft.name.as_ref().map_or_else(|| "one without a name".to_owned(), |(name, _)| name.to_string())
}
