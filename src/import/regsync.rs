//! regclient's regsync: `creds`, `defaults` and `sync`. Values may be templates of Go's; see `template`.

mod content;
mod creds;
mod keys;
mod schedule;

use super::draft::{Draft, Entry};
use super::reading::{Fields, Reading, View, told};
use super::template::Template;
use super::{pattern, range};
use crate::config::{Endpoint, Node, may_not_be_told};
use crate::oci::{Digest, Reference, names_host};
use content::{Keys, content};
use keys::{Known, Treatment};

/// Reads the whole file.
pub(super) fn draft(root: &Node, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    let root = reading.fields(&View::root(root), "regsync's configuration");
    // What begins with x- is for YAML's own references.
    let comments = comments(&root.without(|key| key.starts_with("x-")), &[&keys::ROOT], "regsync's", reading);
    draft.head.extend(comments);
    if reading.number_of(&root, "version").is_some_and(|version| version > 1.0) {
        let view = root.get("version").cloned();
        view.iter().for_each(|view| reading.wrong(view, "version 1 of regsync's configuration is understood"));
    }
    if let Some(view) = root.get("creds") {
        for item in reading.items(view, "`creds`") {
            creds::registry(&item, &mut draft, reading);
        }
    }
    let defaults = root.get("defaults").map(|view| reading.fields(view, "`defaults`")).unwrap_or_default();
    draft.head.extend(self::comments(&defaults, &[&keys::SHARED, &keys::DEFAULTS], "`defaults`", reading));
    draft.head.push(
        "regsync copies what a target lacks when it starts: write `on_start: true` under `defaults` for a run then."
            .into(),
    );
    draft.head.push(
        "regsync runs schedules by the clock of its machine: set `timezone` under `defaults` where that is not UTC."
            .into(),
    );
    if let Some(view) = root.get("sync") {
        for item in reading.items(view, "`sync`") {
            entries(&item, &defaults, &mut draft, reading);
        }
    }
    draft
}

/// The comments about keys that have no equal, and about those that nobody knows.
fn comments(fields: &Fields<'_>, tables: &[&[Known]], whose: &str, reading: &mut Reading) -> Vec<String> {
    let mut comments = Vec::new();
    for (key, view) in fields.iter() {
        match tables.iter().copied().flatten().find(|(name, _)| name == key) {
            Some((_, Treatment::Read)) => {}
            Some((_, Treatment::NoEffect(instead))) => {
                comments.push(reading.remark(view, format!("`{key}` has no equal: {instead}")));
            }
            None => comments.push(reading.unknown_key(key, view, whose)),
        }
    }
    comments
}

fn entries(view: &View<'_>, defaults: &Fields<'_>, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "an entry");
    let unknown = reading.unknown;
    let mut comments = comments(&fields, &[&keys::OWN, &keys::SHARED], "an entry", reading);
    let Some((source, target)) = ends(view, &fields, reading) else { return };
    let kind = reading.text_of(&fields, "type").unwrap_or_default();
    let sets = sets(&kind, &fields, &mut comments, reading);
    let has_unknown = reading.unknown > unknown;
    for set in &sets {
        for range in ranges(set, reading) {
            let mut entry = Entry { comments: comments.clone(), ..Entry::default() };
            place(&mut entry, &kind, &source, &target);
            tags(&mut entry, set, reading);
            if let Some(range) = &range {
                versions(&mut entry, range);
            }
            if has_unknown {
                entry.leave_out("it has a key that is not known here, which may change what it copies");
            }
            repositories(&mut entry, &kind, &fields, reading);
            settings(&mut entry, &Keys { own: &fields, defaults, source: &source, target: &target }, reading);
            if let Some(reason) = draft.add(entry) {
                let _ = reading.remark(view, format!("an entry is left out: {reason}"));
            }
        }
    }
    if !["image", "repository", "registry"].contains(&kind.as_str()) {
        reading.wrong(view, "expected `type`: image, repository or registry");
    }
}

/// `repos` chooses among the repositories of a registry; other entries have one.
fn repositories(entry: &mut Entry, kind: &str, fields: &Fields<'_>, reading: &mut Reading) {
    let Some(view) = fields.get("repos") else { return };
    let rules = reading.fields(view, "`repos`");
    let is_empty = ["allow", "deny"].iter().all(|key| reading.texts_of(&rules, key).is_empty());
    if kind != "registry" {
        entry.comments.push("`repos` counts for nothing where `type` is not registry.".into());
    } else if !is_empty || rules.iter().any(|(key, _)| !["allow", "deny"].contains(key)) {
        entry.leave_out("`repos` has no equal: write an entry for each repository");
    }
}

/// The sets of tags, one at least; an entry is written for each.
fn sets<'n>(kind: &str, fields: &Fields<'n>, comments: &mut Vec<String>, reading: &mut Reading) -> Vec<Fields<'n>> {
    let (mut views, mut tags) = (Vec::new(), None);
    for key in ["tagSets", "tags"] {
        let Some(view) = fields.get(key) else { continue };
        match (kind, key) {
            ("image", _) => {
                comments.push(reading.remark(view, format!("`{key}` of an image, which is one tag: left out")));
            }
            (_, "tagSets") => views.extend(reading.items(view, "`tagSets`")),
            // Beside `tagSets` an empty set adds nothing, and does not stand for every tag.
            _ => tags = Some(view.clone()),
        }
    }
    let mut sets: Vec<Fields<'n>> = Vec::new();
    for view in views.iter().chain(&tags) {
        let set = reading.fields(view, "a set of tags");
        comments.extend(self::comments(&set, &[&keys::TAGS], "a set of tags", reading));
        sets.push(set);
    }
    // A set of `tagSets` without rules is every tag; `tags` without rules is no set.
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

fn versions(entry: &mut Entry, range: &str) {
    let found = range::regsync(range);
    if found.is_none() {
        entry.leave_out(format!("the range {} is not understood", told(range)));
    }
    entry.comments.push("regsync takes pre-releases within the range too; here they are out.".into());
    entry.semver = found.map(|range| range.text);
}

fn ends(view: &View<'_>, fields: &Fields<'_>, reading: &mut Reading) -> Option<(Option<Template>, Option<Template>)> {
    let (source, target) = (reading.text_of(fields, "source"), reading.text_of(fields, "target"));
    let (Some(source), Some(target)) = (source, target) else {
        reading.wrong(view, "an entry has `source` and `target`");
        return None;
    };
    let source = Template::read(&source, None);
    let target = Template::read(&target, source.as_ref());
    Some((source, target))
}

/// One range for each entry to be written; `None` is every version.
fn ranges(set: &Fields<'_>, reading: &mut Reading) -> Vec<Option<String>> {
    let ranges: Vec<Option<String>> =
        reading.texts_of(set, "semverRange").into_iter().filter(|range| !range.is_empty()).map(Some).collect();
    if ranges.is_empty() { vec![None] } else { ranges }
}

fn place(entry: &mut Entry, kind: &str, source: &Option<Template>, target: &Option<Template>) {
    let mut texts =
        [source, target].map(|end| end.as_ref().and_then(Template::as_text).unwrap_or_else(|| "***".into()));
    let samples = [source, target].map(|end| end.as_ref().map(Template::sample));
    let varies = samples.iter().any(|sample| sample.as_ref().is_none_or(|(_, varies)| *varies));
    if varies && kind != "repository" {
        entry.leave_out("its templates are not understood");
    } else if kind == "registry" {
        // regsync takes the source for a host and asks it for its repositories, which it then reads as references.
        if !texts[0].split('/').next().is_some_and(names_host) {
            entry.leave_out("regsync reads its repositories at Docker Hub, and lists those of another registry");
        }
        texts = texts.map(|text| format!("{}/**", text.trim_end_matches('/')));
    } else if kind == "image" {
        image(entry, &mut texts);
    }
    let sampled =
        if varies { samples.map(|sample| sample.map_or_else(String::new, |(text, _)| text)) } else { texts.clone() };
    let ends = sampled.each_ref().map(|text| text.parse::<Endpoint>().ok());
    if let ([Some(source), Some(target)], false) = (&ends, varies) {
        if source.is_same_place(target) {
            entry.leave_out("the target is the source");
        }
        texts = [source.to_string(), target.to_string()];
    } else if ends.iter().any(Option::is_none) {
        texts = texts.map(|text| if may_not_be_told(&text) { "***".to_owned() } else { text });
        if entry.left_out.is_none() {
            entry.leave_out("its source or target is not understood");
        }
    }
    let is_tree = |end: &Option<Endpoint>| matches!(end, Some(Endpoint::Tree { .. }));
    if let (true, [Some(source), Some(target)]) = (is_tree(&ends[0]), &ends)
        && source.host() == target.host()
    {
        entry.leave_out("source and target are of one registry: write an entry for each repository");
    }
    [entry.source, entry.target] = texts;
}

/// One image to the same name: a tag of its repository, of a pinned digest where the source has one.
/// Another name has no equal.
fn image(entry: &mut Entry, texts: &mut [String; 2]) {
    let read = texts.each_ref().map(|text| text.parse::<Reference>().ok());
    let [Some(source), Some(target)] = read else { return };
    let tag = |one: &Reference| one.tag.as_ref().map_or_else(|| "latest".to_owned(), ToString::to_string);
    let pin = |digest: &Digest| format!("@{digest}");
    let chosen = match (&source.digest, &target.digest) {
        // The target's tag becomes this content, whatever tag the source names beside it.
        (Some(digest), None) => format!("{}{}", tag(&target), pin(digest)),
        (Some(digest), Some(other)) if digest == other => pin(digest),
        (None, None) if tag(&source) == tag(&target) => tag(&source),
        _ => {
            entry.leave_out("it gives the image another name, which only `transship copy` can");
            return;
        }
    };
    entry.include.push(chosen);
    *texts = [source.repository.to_string(), target.repository.to_string()];
}

fn tags(entry: &mut Entry, set: &Fields<'_>, reading: &mut Reading) {
    for key in ["allow", "deny"] {
        for expression in reading.texts_of(set, key) {
            match pattern::between_anchors(&expression) {
                Some(pattern) if key == "allow" => entry.include.push(pattern),
                Some(pattern) => entry.exclude.push(pattern),
                None => entry.leave_out(format!("the expression {} is not understood", told(&expression))),
            }
        }
    }
}

fn settings(entry: &mut Entry, keys: &Keys<'_, '_>, reading: &mut Reading) {
    timing(entry, keys, reading);
    if let Some(backup) = reading.text_of(keys.own, "backup").or_else(|| reading.text_of(keys.defaults, "backup")) {
        let given = told(&backup);
        if names_a_place(&backup) {
            entry.leave_out(format!("`backup` keeps the previous image in another repository, {given}"));
        }
        entry
            .comments
            .push(format!("`backup` calls what is kept {given}, which `keep_previous` gives a name of its own."));
        entry.rest.text("overwrite", "keep_previous");
    }
    content(entry, keys, reading);
}

/// `true` for a template that is a reference and no tag, as far as that shows outside of its actions.
fn names_a_place(template: &str) -> bool {
    let outside = template.split("{{").enumerate().map(|(at, part)| match part.split_once("}}") {
        Some((_, behind)) if at > 0 => behind,
        _ => part,
    });
    template.contains(".Ref.CommonName") || outside.into_iter().any(|text| text.contains([':', '/']))
}

/// An entry's own `schedule` or `interval`, else those of `defaults`. A schedule that has no equal leaves the entry
/// out.
fn timing(entry: &mut Entry, keys: &Keys<'_, '_>, reading: &mut Reading) {
    let mut of = |fields: &Fields<'_>| {
        let cron = reading.text_of(fields, "schedule");
        let interval = reading.text_of(fields, "interval").filter(|interval| !schedule::is_no_interval(interval));
        (cron, interval)
    };
    let found = match of(keys.own) {
        (None, None) => of(keys.defaults),
        own => own,
    };
    let (written, timing) = match &found {
        (Some(cron), interval) => {
            if let Some(interval) = interval {
                entry.comments.push(format!("`schedule` counts, and not `interval`, which is {}.", told(interval)));
            }
            (cron, schedule::cron(cron))
        }
        (None, Some(interval)) => (interval, schedule::interval(interval)),
        (None, None) => return,
    };
    match timing {
        Some(timing) => {
            entry.rest.text("schedule", timing.schedule);
            timing.timezone.into_iter().for_each(|zone| entry.rest.text("timezone", zone));
        }
        None => entry.leave_out(format!("the schedule {} has no equal", told(written))),
    }
}
