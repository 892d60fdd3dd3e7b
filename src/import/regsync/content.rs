//! The part of regsync's entry that says which content of an image is copied: platforms, referrers, layers that are
//! kept elsewhere, and media types. What has no equal here leaves its entry out.

use super::super::draft::Entry;
use super::super::reading::{Fields, Reading, told};
use super::super::template::Template;
use crate::oci::{Platform, Reference, Repository};

/// The manifests that regsync copies where `mediaTypes` says nothing.
const USUAL_MEDIA_TYPES: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
];

/// The places where an entry and what it inherits are written.
pub(super) struct Keys<'a, 'n> {
    pub(super) own: &'a Fields<'n>,
    pub(super) defaults: &'a Fields<'n>,
    /// The two ends of the entry, where they are understood.
    pub(super) source: &'a Option<Template>,
    pub(super) target: &'a Option<Template>,
}

impl Keys<'_, '_> {
    fn flag(&self, key: &str, reading: &mut Reading) -> bool {
        reading.bool_of(self.own, key).or_else(|| reading.bool_of(self.defaults, key)).unwrap_or(false)
    }

    fn text(&self, key: &str, reading: &mut Reading) -> Option<String> {
        reading.text_of(self.own, key).or_else(|| reading.text_of(self.defaults, key))
    }

    fn texts(&self, key: &str, reading: &mut Reading) -> Vec<String> {
        let own = reading.texts_of(self.own, key);
        if own.is_empty() { reading.texts_of(self.defaults, key) } else { own }
    }
}

/// Reads all of it into the entry.
pub(super) fn content(entry: &mut Entry, keys: &Keys<'_, '_>, reading: &mut Reading) {
    let by_api = keys.flag("referrers", reading);
    let by_tag = keys.flag("digestTags", reading);
    // Digests are compared first here in any case.
    let _ = keys.flag("fastCheck", reading);
    entry.rest.verbatim("referrers", by_api | by_tag);
    if by_api != by_tag {
        entry.comments.push(
            "`referrers` here brings both what the referrers API lists and what has a tag made of the digest.".into(),
        );
    }
    referrers(entry, keys, by_api, reading);
    if keys.flag("includeExternal", reading) {
        entry.leave_out("`includeExternal` copies layers that are kept elsewhere, and has no equal");
    }
    let types = keys.texts("mediaTypes", reading);
    let lacks = |usual: &&str| !types.iter().any(|one| one == usual);
    if !types.is_empty() && USUAL_MEDIA_TYPES.iter().any(lacks) {
        entry.leave_out("`mediaTypes` skips some kinds of manifests, and has no equal");
    } else if !types.is_empty() {
        entry.comments.push("`mediaTypes` has no equal: manifests of every type are copied.".into());
    }
    platforms(entry, keys.own, reading);
}

/// regsync takes the filters and other repositories for referrers into account only with `referrers: true`.
fn referrers(entry: &mut Entry, keys: &Keys<'_, '_>, by_api: bool, reading: &mut Reading) {
    let filters = keys.own.get("referrerFilters").or_else(|| keys.defaults.get("referrerFilters"));
    let filters = filters.map(|view| reading.items(view, "`referrerFilters`")).unwrap_or_default();
    if !filters.is_empty() {
        unequal(entry, by_api, "`referrerFilters` copies some referrers only, and has no equal");
    }
    for (key, end, word) in [("referrerSource", keys.source, "from"), ("referrerTarget", keys.target, "to")] {
        let Some(written) = keys.text(key, reading) else { continue };
        let elsewhere = Template::read(&written, keys.source.as_ref());
        let is_same = repository(&elsewhere).is_some_and(|place| Some(place) == repository(end));
        if !is_same {
            unequal(entry, by_api, &format!("`{key}` copies referrers {word} {}, and has no equal", told(&written)));
        }
    }
}

fn unequal(entry: &mut Entry, counts: bool, reason: &str) {
    if counts {
        entry.leave_out(reason);
    } else {
        entry.comments.push(format!("without `referrers: true` regsync ignores this: {reason}"));
    }
}

fn repository(end: &Option<Template>) -> Option<Repository> {
    let (text, varies) = end.as_ref()?.sample();
    let read: Reference = text.parse().ok().filter(|_| !varies)?;
    Some(read.repository)
}

/// `platform` decides over `platforms`: it makes one image of an index, and an image has no platforms to choose from.
fn platforms(entry: &mut Entry, own: &Fields<'_>, reading: &mut Reading) {
    let several = reading.texts_of(own, "platforms");
    let one = reading.text_of(own, "platform");
    if one.is_some() {
        entry.comments.push("regsync's `platform` copies the one image, without an index around it.".into());
        if !several.is_empty() {
            entry.comments.push("`platforms` counts for nothing beside `platform`.".into());
        }
    }
    let written = one.map_or(several, |one| vec![one]);
    if written.is_empty() {
        return;
    }
    let parsed: Option<Vec<Platform>> = written.iter().map(|one| one.parse().ok()).collect();
    let Some(parsed) = parsed.filter(|_| !entry.include.iter().any(|one| one.contains('@'))) else {
        let all: Vec<String> = written.iter().map(|one| told(one)).collect();
        entry.leave_out(format!("its platforms have no equal: {}", all.join(", ")));
        return;
    };
    // One that is named twice is copied once.
    let is_first = |at: usize| !parsed[..at].contains(&parsed[at]);
    let platforms = written.into_iter().enumerate().filter(|(at, _)| is_first(*at)).map(|(_, one)| one).collect();
    entry.comments.push("A subset of the platforms is a new index here, with a digest of its own.".into());
    entry.rest.texts("platforms", platforms);
}
