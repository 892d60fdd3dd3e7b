//! Translation of a configuration file of regsync, a program of regclient: the keys `creds`, `defaults` and `sync`.
//! Values can contain Go templates, which `template` parses.

mod content;
mod creds;
mod keys;
mod schedule;

use super::draft::{Draft, Entry};
use super::duration::is_zero_interval;
use super::reading::{Fields, Reading, View, quoted};
use super::template::Template;
use super::treatment::unsupported_keys;
use super::{pattern, range};
use crate::config::{Endpoint, Node, may_be_secret};
use crate::oci::{Digest, Reference, names_host};
use content::{Keys, translate_content};

/// Translates the whole file.
pub(super) fn translate(root: &Node, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    let root = reading.fields(&View::root(root), "regsync's configuration");
    // Keys that begin with x- contain only YAML anchors.
    let comments = unsupported_keys(
        &root.without(|key| key.starts_with("x-")),
        &[&keys::ROOT],
        "regsync's configuration",
        reading,
    );
    draft.head.extend(comments);
    if reading.number_of(&root, "version").is_some_and(|version| version > 1.0) {
        let view = root.get("version").cloned();
        view.iter().for_each(|view| reading.add_error(view, "only version 1 of regsync's configuration is supported"));
    }
    if let Some(view) = root.get("creds") {
        for item in reading.items(view, "`creds`") {
            creds::add_registry(&item, &mut draft, reading);
        }
    }
    let defaults = root.get("defaults").map(|view| reading.fields(view, "`defaults`")).unwrap_or_default();
    draft.head.extend(unsupported_keys(&defaults, &[&keys::SHARED, &keys::DEFAULTS], "`defaults`", reading));
    draft.head.push(
        "When regsync starts, it copies the images that a target lacks: write `on_start: true` under `defaults` to do \
         the same."
            .into(),
    );
    draft.head.push(
        "regsync's schedules use the local time of its machine: set `timezone` under `defaults` if that is not UTC."
            .into(),
    );
    if let Some(view) = root.get("sync") {
        for item in reading.items(view, "`sync`") {
            add_entries(&item, &defaults, &mut draft, reading);
        }
    }
    draft
}

fn add_entries(view: &View<'_>, defaults: &Fields<'_>, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "an entry");
    let unknown = reading.unknown;
    let mut comments = unsupported_keys(&fields, &[&keys::OWN, &keys::SHARED], "an entry", reading);
    let Some((source, target)) = read_ends(view, &fields, reading) else { return };
    let kind = reading.text_of(&fields, "type").unwrap_or_default();
    let sets = read_tag_sets(&kind, &fields, &mut comments, reading);
    let has_unknown = reading.unknown > unknown;
    for set in &sets {
        for range in read_ranges(set, reading) {
            let mut entry = Entry { comments: comments.clone(), ..Entry::default() };
            set_ends(&mut entry, &kind, &source, &target);
            set_tags(&mut entry, set, reading);
            if let Some(range) = &range {
                set_versions(&mut entry, range);
            }
            if has_unknown {
                entry.skip("the entry has an unknown key, which may change the copied content");
            }
            set_repositories(&mut entry, &kind, &fields, reading);
            set_options(&mut entry, &Keys { own: &fields, defaults, source: &source, target: &target }, reading);
            if let Some(reason) = draft.add(entry) {
                let _ = reading.add_remark(view, format!("skipped an entry: {reason}"));
            }
        }
    }
    if !["image", "repository", "registry"].contains(&kind.as_str()) {
        reading.add_error(view, "`type` must be image, repository or registry");
    }
}

/// Translates `repos`, which selects the repositories that an entry of type `registry` copies. An entry of another type
/// has only one repository.
fn set_repositories(entry: &mut Entry, kind: &str, fields: &Fields<'_>, reading: &mut Reading) {
    let Some(view) = fields.get("repos") else { return };
    let rules = reading.fields(view, "`repos`");
    if kind != "registry" {
        entry.comments.push("`repos` has no effect unless `type` is registry.".into());
        return;
    }
    let unknown = reading.unknown;
    entry.comments.extend(unsupported_keys(&rules, &[&keys::REPOS], "`repos`", reading));
    if reading.unknown > unknown {
        entry.skip("`repos` has an unknown key, which may change the copied content");
    }
    for (key, is_included) in [("allow", true), ("deny", false)] {
        for expression in reading.texts_of(&rules, key) {
            match pattern::translate_repositories(&expression) {
                Some(pattern) if is_included => entry.repositories.push(pattern),
                Some(pattern) => entry.excluded_repositories.push(pattern),
                None => entry.skip(format!("the expression {} cannot be translated", quoted(&expression))),
            }
        }
    }
}

/// Returns the tag sets of an entry, at least one. Each tag set becomes a separate entry. An empty set selects every
/// tag.
fn read_tag_sets<'n>(
    kind: &str,
    fields: &Fields<'n>,
    comments: &mut Vec<String>,
    reading: &mut Reading,
) -> Vec<Fields<'n>> {
    let (mut views, mut tags) = (Vec::new(), None);
    for key in ["tagSets", "tags"] {
        let Some(view) = fields.get(key) else { continue };
        match (kind, key) {
            ("image", _) => {
                comments.push(reading.add_remark(view, format!("`{key}` is skipped: an image is one tag")));
            }
            (_, "tagSets") => views.extend(reading.items(view, "`tagSets`")),
            _ => tags = Some(view.clone()),
        }
    }
    let mut sets: Vec<Fields<'n>> = Vec::new();
    for view in views.iter().chain(&tags) {
        let set = reading.fields(view, "a set of tags");
        comments.extend(unsupported_keys(&set, &[&keys::TAGS], "a set of tags", reading));
        sets.push(set);
    }
    // An item of `tagSets` without rules selects every tag. If `tags` has no rules, regsync ignores `tags`.
    let chooses = |set: &Fields<'n>, reading: &mut Reading| {
        keys::TAGS.iter().any(|(key, _)| !reading.texts_of(set, key).is_empty())
    };
    if tags.is_some() && sets.last().is_some_and(|set| !chooses(set, reading)) {
        sets.pop();
    }
    if sets.is_empty() {
        sets.push(Fields::default());
    }
    sets
}

fn set_versions(entry: &mut Entry, range: &str) {
    let found = range::translate_regsync(range);
    if found.is_none() {
        entry.skip(format!("the range {} cannot be translated", quoted(range)));
    }
    entry.comments.push("regsync includes pre-releases within the range; transship does not.".into());
    entry.semver = found.map(|range| range.text);
}

fn read_ends(
    view: &View<'_>,
    fields: &Fields<'_>,
    reading: &mut Reading,
) -> Option<(Option<Template>, Option<Template>)> {
    let (source, target) = (reading.text_of(fields, "source"), reading.text_of(fields, "target"));
    let (Some(source), Some(target)) = (source, target) else {
        reading.add_error(view, "an entry needs `source` and `target`");
        return None;
    };
    let source = Template::parse(&source, None);
    let target = Template::parse(&target, source.as_ref());
    Some((source, target))
}

/// Returns the version ranges of a tag set, at least one. Each range becomes a separate entry. `None` means every
/// version.
fn read_ranges(set: &Fields<'_>, reading: &mut Reading) -> Vec<Option<String>> {
    let ranges: Vec<Option<String>> =
        reading.texts_of(set, "semverRange").into_iter().filter(|range| !range.is_empty()).map(Some).collect();
    if ranges.is_empty() { vec![None] } else { ranges }
}

fn set_ends(entry: &mut Entry, kind: &str, source: &Option<Template>, target: &Option<Template>) {
    let mut texts =
        [source, target].map(|end| end.as_ref().and_then(Template::as_text).unwrap_or_else(|| "***".into()));
    let samples = [source, target].map(|end| end.as_ref().map(Template::sample));
    let varies = samples.iter().any(|sample| sample.as_ref().is_none_or(|(_, varies)| *varies));
    if varies && kind != "repository" {
        entry.skip("the templates cannot be translated");
    } else if kind == "registry" {
        // regsync lists the repositories of this host, and then parses `HOST/REPOSITORY` as a reference. If
        // `names_host` is false for the host, the reference is at Docker Hub.
        if !texts[0].split('/').next().is_some_and(names_host) {
            entry.skip("regsync lists repositories of this registry, but reads them at Docker Hub");
        }
        texts = texts.map(|text| format!("{}/**", text.trim_end_matches('/')));
    } else if kind == "image" {
        set_image(entry, &mut texts);
    }
    let sampled =
        if varies { samples.map(|sample| sample.map_or_else(String::new, |(text, _)| text)) } else { texts.clone() };
    let ends = sampled.each_ref().map(|text| text.parse::<Endpoint>().ok());
    if let ([Some(source), Some(target)], false) = (&ends, varies) {
        if source.is_same_place(target) {
            entry.skip("the target is the source");
        }
        texts = [source.to_string(), target.to_string()];
    } else if ends.iter().any(Option::is_none) {
        texts = texts.map(|text| if may_be_secret(&text) { "***".to_owned() } else { text });
        if entry.skipped.is_none() {
            entry.skip("the source or the target cannot be translated");
        }
    }
    let is_tree = |end: &Option<Endpoint>| end.as_ref().is_some_and(Endpoint::is_tree);
    if let (true, [Some(source), Some(target)]) = (is_tree(&ends[0]), &ends)
        && source.host() == target.host()
    {
        entry.skip("source and target are in one registry: write an entry for each repository");
    }
    [entry.source, entry.target] = texts;
}

/// Translates an entry of type `image`, which copies one tag.
///
/// - If the source has a digest, the new entry pins the tag to this digest.
/// - If the source has no digest, and the target has another tag than the source, the new entry renames the tag.
fn set_image(entry: &mut Entry, texts: &mut [String; 2]) {
    let read = texts.each_ref().map(|text| text.parse::<Reference>().ok());
    let [Some(source), Some(target)] = read else { return };
    let tag = |one: &Reference| one.tag.as_ref().map_or_else(|| "latest".to_owned(), ToString::to_string);
    let pin = |digest: &Digest| format!("@{digest}");
    let chosen = match (&source.digest, &target.digest) {
        // regsync copies the digest to the target's tag, and ignores a tag of the source.
        (Some(digest), None) => format!("{}{}", tag(&target), pin(digest)),
        (Some(digest), Some(other)) if digest == other => pin(digest),
        (None, None) => {
            if tag(&source) != tag(&target) {
                entry.rename.insert(tag(&source), tag(&target));
            }
            tag(&source)
        }
        _ => {
            entry.skip("the target names a digest that the source does not name");
            return;
        }
    };
    entry.include.push(chosen);
    *texts = [source.repository.to_string(), target.repository.to_string()];
}

fn set_tags(entry: &mut Entry, set: &Fields<'_>, reading: &mut Reading) {
    for key in ["allow", "deny"] {
        for expression in reading.texts_of(set, key) {
            match pattern::translate_anchored(&expression) {
                Some(pattern) if key == "allow" => entry.include.push(pattern),
                Some(pattern) => entry.exclude.push(pattern),
                None => entry.skip(format!("the expression {} cannot be translated", quoted(&expression))),
            }
        }
    }
}

fn set_options(entry: &mut Entry, keys: &Keys<'_, '_>, reading: &mut Reading) {
    set_schedule(entry, keys, reading);
    if let Some(backup) = reading.text_of(keys.own, "backup").or_else(|| reading.text_of(keys.defaults, "backup")) {
        let given = quoted(&backup);
        if is_reference(&backup) {
            entry.skip(format!("`backup` copies the previous image to another repository, {given}"));
        }
        let comment =
            format!("`backup` gives the previous image the tag {given}; `keep_previous` chooses the tag itself.");
        entry.comments.push(comment);
        entry.rest.text("overwrite", "keep_previous");
    }
    translate_content(entry, keys, reading);
}

/// Returns true if a template of `backup` produces a reference and not a tag. A reference contains `:` or `/` outside
/// of `{{…}}`, or contains `.Ref.CommonName`.
fn is_reference(template: &str) -> bool {
    let outside = template.split("{{").enumerate().map(|(at, part)| match part.split_once("}}") {
        Some((_, behind)) if at > 0 => behind,
        _ => part,
    });
    template.contains(".Ref.CommonName") || outside.into_iter().any(|text| text.contains([':', '/']))
}

/// Translates the `schedule` or `interval` of an entry. If the entry has neither key, uses the keys of `defaults`. If
/// the schedule has no equivalent in transship, skips the entry.
fn set_schedule(entry: &mut Entry, keys: &Keys<'_, '_>, reading: &mut Reading) {
    let mut read = |fields: &Fields<'_>| {
        let cron = reading.text_of(fields, "schedule");
        let interval = reading.text_of(fields, "interval").filter(|interval| !is_zero_interval(interval));
        (cron, interval)
    };
    let found = match read(keys.own) {
        (None, None) => read(keys.defaults),
        own => own,
    };
    let (written, timing) = match &found {
        (Some(cron), interval) => {
            if let Some(interval) = interval {
                entry.comments.push(format!("`schedule` takes precedence over `interval`, {}.", quoted(interval)));
            }
            (cron, schedule::translate_cron(cron))
        }
        (None, Some(interval)) => (interval, schedule::translate_interval(interval)),
        (None, None) => return,
    };
    match timing {
        Some(timing) => {
            entry.rest.text("schedule", timing.schedule);
            timing.timezone.into_iter().for_each(|zone| entry.rest.text("timezone", zone));
        }
        None => entry.skip(format!("the schedule {} has no equivalent", quoted(written))),
    }
}
