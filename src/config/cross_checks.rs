//! Checks that compare several values of a configuration: values of one entry, or values of several entries.

use std::collections::{BTreeSet, HashMap};

use super::diagnostics::diagnostic::{Diagnostic, Part};
use super::model::endpoint::Endpoint;
use super::model::entry::EntryName;
use super::reader::{Placed, Reader};
use super::sections::entry::Draft;
use super::sections::entry_credentials::check_sides;
use super::sections::tag_names::Names;
use super::yaml::node::Path;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::plan::{Pattern, VersionRange};

/// Reports each contradiction between values of one entry or of several entries.
pub(super) fn check_entries(reader: &Reader<'_>, drafts: &[Draft<'_>]) {
    for draft in drafts {
        check_pins_keep_platforms(reader, draft);
        check_names_of_tags(reader, draft);
        check_targets_differ(reader, draft);
        if let Some((source, _)) = &draft.source {
            check_repositories_fit(reader, draft, source);
            for target in &draft.targets {
                check_target_fits(reader, source, target);
            }
        }
        let source = draft.source.as_ref().map(|(source, _)| source);
        check_sides(reader, &draft.credentials, source, &draft.targets);
    }
    check_names_differ(reader, drafts);
    check_literal_tags(reader, drafts);
}

/// Reports a name that the entry gives to several tags at the target. Also reports a literal tag whose name at the
/// target is not valid. The check covers only literal tags, because only a run knows the tags that a pattern matches.
fn check_names_of_tags(reader: &Reader<'_>, draft: &Draft<'_>) {
    let Names { names, places } = &draft.names;
    let selected = draft.settings.tags.as_ref();
    let is_selected =
        |tag: &Tag| selected.is_none_or(|tags| tags.selection.takes(tag) || tags.selection.pins().contains_key(tag));
    let include = || selected.into_iter().flat_map(|tags| &tags.include);
    let literal = include().filter_map(|(pattern, _)| literal_tag(pattern)).map(|(tag, _)| tag);
    let known: BTreeSet<&Tag> = literal.chain(names.renamed.keys()).filter(|tag| is_selected(tag)).collect();
    for (name, tags) in names.shared_names(known) {
        let Some(value) = tags.iter().find_map(|tag| places.get(tag)) else { continue };
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        let message = format!("the tags {} get the same name {name}", tags.join(" and "));
        reader.refuse_with_hint(value, message, "give each tag a name of its own, or exclude one of the tags");
    }
    for (pattern, value) in include() {
        if let Some(Err(error)) = literal_tag(pattern).map(|(tag, _)| names.target_tag(tag)) {
            reader.refuse(value, error);
        }
    }
}

/// Reports the key `repositories` in an entry whose source is one repository.
fn check_repositories_fit(reader: &Reader<'_>, draft: &Draft<'_>, source: &Endpoint) {
    let Some((_, value)) = &draft.repositories else { return };
    if !source.is_tree() {
        reader.refuse_with_hint(
            value,
            format!(
                "`repositories` selects repositories below a source that ends in `/**`, but the source is {source}"
            ),
            "remove `repositories`, or write the source as HOST/PREFIX/** or oci-layout:PATH/**",
        );
    }
}

/// Reports a pinned digest in an entry that selects platforms. The index of the selected platforms would have a
/// different digest.
fn check_pins_keep_platforms(reader: &Reader<'_>, draft: &Draft<'_>) {
    let (Some(Some(_)), Some(tags)) = (&draft.settings.platforms, &draft.settings.tags) else { return };
    for (_, value) in tags.include.iter().filter(|(pattern, _)| pattern.digest().is_some()) {
        let message = "a pinned digest is copied with all its platforms, but `platforms` selects only some of them";
        reader.refuse_with_hint(value, message, "write `platforms: all`, or move the pin to a separate entry");
    }
}

fn check_targets_differ(reader: &Reader<'_>, draft: &Draft<'_>) {
    for (index, (target, value)) in draft.targets.iter().enumerate() {
        if let Some((_, first)) = draft.targets[..index].iter().find(|(other, _)| other.is_same_place(target)) {
            let message = format!("duplicate target {target}");
            reader.add_problem(Diagnostic::new(&value.path, Part::Value, message).with_first(&first.path, Part::Value));
        }
    }
}

fn check_target_fits(reader: &Reader<'_>, source: &Endpoint, (target, value): &Placed<'_, Endpoint>) {
    use Endpoint::{Archive, Layout, LayoutTree, Repository, Tree};
    if source.is_same_place(target) {
        reader.refuse(value, format!("the source {source} is also the target: write another target"));
        return;
    }
    match (source, target) {
        (Tree { .. } | LayoutTree(_), Layout(_)) => reader.refuse_with_hint(
            value,
            format!("a layout contains one repository, but the source {source} names several"),
            format!("write {target}/** for one layout for each repository"),
        ),
        (Tree { .. } | LayoutTree(_), Archive(_)) => reader.refuse_with_hint(
            value,
            format!("an archive contains one repository, but the source {source} names several"),
            "write oci-layout:PATH/** for one layout for each repository",
        ),
        (Tree { .. } | LayoutTree(_), Repository(name)) => reader.refuse_with_hint(
            value,
            format!("the source {source} names several repositories, but the target names one"),
            format!("write {name}/**"),
        ),
        (Repository(_) | Layout(_) | Archive(_), Tree { .. } | LayoutTree(_)) => reader.refuse(
            value,
            format!(
                "the target {target} names several repositories, but the source names one: write the target without \
                 `/**`"
            ),
        ),
        (Tree { host: a, prefix: outer }, Tree { host: b, prefix: inner }) if a == b && is_below(inner, outer) => {
            reader.refuse(
                value,
                format!(
                    "the target {target} is inside the source {source}, so the entry would copy its own copies: write \
                     a target outside the source"
                ),
            );
        }
        (LayoutTree(outer), LayoutTree(inner)) if inner.starts_with(outer) => reader.refuse(
            value,
            format!(
                "the target {target} is inside the source {source}, so the entry would copy its own copies: write a \
                 target outside the source"
            ),
        ),
        _ => {}
    }
}

fn is_below(inner: &Option<RepositoryName>, outer: &Option<RepositoryName>) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => {
            inner.as_str().strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with('/'))
        }
    }
}

fn check_names_differ(reader: &Reader<'_>, drafts: &[Draft<'_>]) {
    let mut first_paths: HashMap<&EntryName, &Path> = HashMap::new();
    for (name, value) in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if let Some(first) = first_paths.get(name) {
            let message = format!("duplicate entry name {name}");
            reader.add_problem(Diagnostic::new(&value.path, Part::Value, message).with_first(first, Part::Value));
        } else {
            first_paths.insert(name, &value.path);
        }
    }
}

/// First entry that writes a tag of a target, and the content that the entry writes.
struct Claim<'d> {
    source: Endpoint,
    /// Tag at the source.
    tag: Tag,
    /// Pinned digest of the tag, if the entry pins the tag.
    digest: Option<Digest>,
    draft: &'d Draft<'d>,
}

/// Reports a tag of a target that two entries write from different sources, from different tags or with different
/// digests. The check covers only literal tags, because only a run knows the tags that a pattern matches.
fn check_literal_tags(reader: &Reader<'_>, drafts: &[Draft<'_>]) {
    let mut claims: HashMap<(Endpoint, Tag), Claim<'_>> = HashMap::new();
    for draft in drafts {
        let (Some((source, _)), Some(tags)) = (&draft.source, &draft.settings.tags) else { continue };
        let named = tags.include.iter().filter_map(|(pattern, value)| Some((literal_tag(pattern)?, value)));
        // `semver` does not apply to a pinned tag.
        let wanted = |tag: &Tag, digest: Option<Digest>| {
            let in_range = |range: &VersionRange| digest.is_some() || range.contains(tag);
            !tags.selection.exclude.iter().any(|pattern| pattern.matches(tag))
                && tags.selection.semver.as_ref().is_none_or(in_range)
        };
        for ((tag, digest), value) in named.filter(|((tag, digest), _)| wanted(tag, *digest)) {
            let Ok(name) = draft.names.names.target_tag(tag) else { continue };
            for (target, _) in draft.targets.iter().filter(|(target, _)| !target.is_tree()) {
                let key = (target.normalized(), name.clone().into_owned());
                let first = || Claim { source: source.normalized(), tag: tag.clone(), digest, draft };
                let claim = claims.entry(key).or_insert_with(first);
                let (entries, hint) = (
                    format!("{} and {}", entry_label(claim.draft), entry_label(draft)),
                    "exclude the tag in one of the entries",
                );
                if claim.source != source.normalized() {
                    let message =
                        format!("two entries write the tag {name} of {target} from different sources: {entries}");
                    reader.refuse_with_hint(value, message, hint);
                } else if std::ptr::eq(claim.draft, draft) {
                    // `check_names_of_tags` compares the tags of one entry.
                } else if claim.digest != digest {
                    let message =
                        format!("two entries write the tag {name} of {target} with different digests: {entries}");
                    reader.refuse_with_hint(value, message, hint);
                } else if digest.is_none() && claim.tag != *tag {
                    let message =
                        format!("two entries write the tag {name} of {target} from different tags: {entries}");
                    reader.refuse_with_hint(value, message, hint);
                }
            }
        }
    }
}

/// Returns the tag and the pinned digest of a pattern such as `v1` or `v1@sha256:…`. Returns `None` for any other
/// pattern.
fn literal_tag(pattern: &Pattern) -> Option<(&Tag, Option<Digest>)> {
    let pinned = pattern.pin().map(|(tag, digest)| (tag, Some(digest)));
    pinned.or_else(|| Some((pattern.literal()?, None)))
}

fn entry_label(draft: &Draft<'_>) -> String {
    draft.name.as_ref().map_or_else(|| "an entry without a name".to_owned(), |(name, _)| name.to_string())
}
