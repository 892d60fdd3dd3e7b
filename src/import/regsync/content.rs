//! Translation of the keys that select the content of an image: platforms, referrers, external layers and media types.
//! If a key has no equivalent and changes the copied content, the import skips the entry.

use super::super::draft::Entry;
use super::super::reading::{Fields, Reading, quoted};
use super::super::template::Template;
use crate::oci::{Platform, Reference, Repository};

/// Media types of manifests that regsync copies if `mediaTypes` is absent.
const USUAL_MEDIA_TYPES: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
];

/// Keys of an entry and keys of `defaults`.
pub(super) struct Keys<'a, 'n> {
    pub(super) own: &'a Fields<'n>,
    pub(super) defaults: &'a Fields<'n>,
    /// Source of the entry. `None` means that the source has no translation.
    pub(super) source: &'a Option<Template>,
    /// Target of the entry. `None` means that the target has no translation.
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

/// Translates the keys that select content.
pub(super) fn translate_content(entry: &mut Entry, keys: &Keys<'_, '_>, reading: &mut Reading) {
    let by_api = keys.flag("referrers", reading);
    let by_tag = keys.flag("digestTags", reading);
    // `fastCheck` has no effect: transship always compares digests before a copy.
    let _ = keys.flag("fastCheck", reading);
    entry.rest.verbatim("referrers", by_api | by_tag);
    if by_api != by_tag {
        entry.comments.push(
            "`referrers` copies the referrers that the API lists, and the referrers whose tag is made of the digest."
                .into(),
        );
    }
    check_referrers(entry, keys, by_api, reading);
    if keys.flag("includeExternal", reading) {
        entry.skip("`includeExternal` copies external layers, and has no equivalent");
    }
    let types = keys.texts("mediaTypes", reading);
    let lacks = |usual: &&str| !types.iter().any(|one| one == usual);
    if !types.is_empty() && USUAL_MEDIA_TYPES.iter().any(lacks) {
        entry.skip("`mediaTypes` skips some kinds of manifests, and has no equivalent");
    } else if !types.is_empty() {
        entry.comments.push("`mediaTypes` has no equivalent: manifests of every type are copied.".into());
    }
    set_platforms(entry, keys.own, reading);
}

/// Skips the entry if regsync would copy only some referrers, or would use a separate repository for referrers. Without
/// `referrers: true`, regsync ignores these settings, and the import only writes a comment.
fn check_referrers(entry: &mut Entry, keys: &Keys<'_, '_>, by_api: bool, reading: &mut Reading) {
    let filters = keys.own.get("referrerFilters").or_else(|| keys.defaults.get("referrerFilters"));
    let filters = filters.map(|view| reading.items(view, "`referrerFilters`")).unwrap_or_default();
    if !filters.is_empty() {
        skip_or_comment(entry, by_api, "`referrerFilters` copies only some referrers, and has no equivalent");
    }
    for (key, end, word) in [("referrerSource", keys.source, "from"), ("referrerTarget", keys.target, "to")] {
        let Some(written) = keys.text(key, reading) else { continue };
        let elsewhere = Template::parse(&written, keys.source.as_ref());
        let is_same = read_repository(&elsewhere).is_some_and(|place| Some(place) == read_repository(end));
        if !is_same {
            let reason = format!("`{key}` copies referrers {word} {}, and has no equivalent", quoted(&written));
            skip_or_comment(entry, by_api, &reason);
        }
    }
}

fn skip_or_comment(entry: &mut Entry, counts: bool, reason: &str) {
    if counts {
        entry.skip(reason);
    } else {
        entry.comments.push(format!("without `referrers: true` regsync ignores this: {reason}"));
    }
}

fn read_repository(end: &Option<Template>) -> Option<Repository> {
    let (text, varies) = end.as_ref()?.sample();
    let read: Reference = text.parse().ok().filter(|_| !varies)?;
    Some(read.repository)
}

/// Translates `platform` and `platforms`. If the entry has both keys, `platform` applies.
fn set_platforms(entry: &mut Entry, own: &Fields<'_>, reading: &mut Reading) {
    let several = reading.texts_of(own, "platforms");
    let one = reading.text_of(own, "platform");
    if one.is_some() {
        entry.comments.push("regsync's `platform` copies a single image, without an index.".into());
        if !several.is_empty() {
            entry.comments.push("`platforms` has no effect beside `platform`.".into());
        }
    }
    let written = one.map_or(several, |one| vec![one]);
    if written.is_empty() {
        return;
    }
    let parsed: Option<Vec<Platform>> = written.iter().map(|one| one.parse().ok()).collect();
    let Some(parsed) = parsed.filter(|_| !entry.include.iter().any(|one| one.contains('@'))) else {
        let all: Vec<String> = written.iter().map(|one| quoted(one)).collect();
        entry.skip(format!("these platforms have no equivalent: {}", all.join(", ")));
        return;
    };
    // transship refuses a list with the same platform twice.
    let is_first = |at: usize| !parsed[..at].contains(&parsed[at]);
    let platforms = written.into_iter().enumerate().filter(|(at, _)| is_first(*at)).map(|(_, one)| one).collect();
    entry.comments.push(
        "If only some platforms are copied, transship writes a new index with a different \
        digest."
            .into(),
    );
    entry.rest.texts("platforms", platforms);
}
