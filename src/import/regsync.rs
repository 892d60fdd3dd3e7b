//! regclient's regsync: `creds`, `defaults` and `sync`. Values may be templates of Go's; see `template`.

mod creds;

use super::draft::{Draft, Entry};
use super::reading::{Fields, Reading, View, told};
use super::template::Template;
use super::{pattern, range};
use crate::config::{Endpoint, Node, may_not_be_told};
use crate::oci::{Platform, Reference};
use crate::schedule::Schedule;

/// The keys of an entry that are read; `defaults` shares those of `SHARED`.
const OWN: [&str; 8] = ["source", "target", "type", "tags", "tagSets", "repos", "platform", "platforms"];
const SHARED: [&str; 6] = ["schedule", "interval", "referrers", "digestTags", "backup", "fastCheck"];
const ROOT: [&str; 4] = ["version", "creds", "defaults", "sync"];
const TAGS: [&str; 3] = ["allow", "deny", "semverRange"];

/// Reads the whole file.
pub(super) fn draft(root: &Node, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    let root = reading.fields(&View::root(root), "regsync's configuration");
    // What begins with x- is for YAML's own references.
    let comments = reading.unknown(&root.without(|key| key.starts_with("x-")), &ROOT, "regsync's");
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
    let comments = reading.unknown(&defaults, &SHARED, "`defaults` that has an equal");
    draft.head.extend(comments);
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

fn entries(view: &View<'_>, defaults: &Fields<'_>, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "an entry");
    let known = [OWN.as_slice(), &SHARED].concat();
    let mut comments = reading.unknown(&fields, &known, "an entry that has an equal");
    let Some((source, target)) = ends(view, &fields, reading) else { return };
    let kind = reading.text_of(&fields, "type").unwrap_or_default();
    let sets = sets(&kind, &fields, &mut comments, reading);
    for set in &sets {
        for range in ranges(set, reading) {
            let mut entry = Entry { comments: comments.clone(), ..Entry::default() };
            place(&mut entry, &kind, &source, &target);
            tags(&mut entry, set, reading);
            if let Some(range) = &range {
                versions(&mut entry, range);
            }
            if fields.get("repos").is_some() {
                entry.leave_out("`repos` has no equal: write an entry for each repository");
            }
            settings(&mut entry, &fields, defaults, reading);
            if let Some(reason) = draft.add(entry) {
                let _ = reading.remark(view, format!("an entry is left out: {reason}"));
            }
        }
    }
    if !["image", "repository", "registry"].contains(&kind.as_str()) {
        reading.wrong(view, "expected `type`: image, repository or registry");
    }
}

/// The sets of tags, one at least; an entry is written for each.
fn sets<'n>(kind: &str, fields: &Fields<'n>, comments: &mut Vec<String>, reading: &mut Reading) -> Vec<Fields<'n>> {
    let mut views = Vec::new();
    for key in ["tagSets", "tags"] {
        let Some(view) = fields.get(key) else { continue };
        match (kind, key) {
            ("image", _) => {
                comments.push(reading.remark(view, format!("`{key}` of an image, which is one tag: left out")));
            }
            (_, "tagSets") => views.extend(reading.items(view, "`tagSets`")),
            _ => views.push(view.clone()),
        }
    }
    let mut sets: Vec<Fields<'n>> = Vec::new();
    for view in &views {
        let set = reading.fields(view, "a set of tags");
        comments.extend(reading.unknown(&set, &TAGS, "a set of tags"));
        sets.push(set);
    }
    sets.retain(|set| set.iter().next().is_some());
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

/// One image to the same name: a tag of its repository. Another name has no equal.
fn image(entry: &mut Entry, texts: &mut [String; 2]) {
    let read = texts.each_ref().map(|text| text.parse::<Reference>().ok());
    let [Some(source), Some(target)] = read else { return };
    let name = |one: &Reference| match (&one.digest, &one.tag) {
        (Some(digest), _) => format!("@{digest}"),
        (None, Some(tag)) => tag.to_string(),
        (None, None) => "latest".to_owned(),
    };
    if name(&source) != name(&target) {
        entry.leave_out("it gives the image another name, which only `transship copy` can");
        return;
    }
    entry.include.push(name(&source));
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

fn settings(entry: &mut Entry, own: &Fields<'_>, defaults: &Fields<'_>, reading: &mut Reading) {
    let timed = |fields: &Fields<'_>| ["schedule", "interval"].iter().any(|key| fields.get(key).is_some());
    schedule(entry, if timed(own) { own } else { defaults }, reading);
    let mut flag = |key| reading.bool_of(own, key).or_else(|| reading.bool_of(defaults, key)).unwrap_or(false);
    let referrers = flag("referrers") | flag("digestTags");
    // Whether it is looked at digests first, as is done here always.
    let _ = flag("fastCheck");
    entry.rest.verbatim("referrers", referrers);
    if let Some(backup) = reading.text_of(own, "backup").or_else(|| reading.text_of(defaults, "backup")) {
        let given = told(&backup);
        entry
            .comments
            .push(format!("`backup` calls what is kept {given}, which `keep_previous` gives a name of its own."));
        entry.rest.text("overwrite", "keep_previous");
    }
    platforms(entry, own, reading);
}

fn platforms(entry: &mut Entry, own: &Fields<'_>, reading: &mut Reading) {
    let mut written = reading.texts_of(own, "platforms");
    let one = reading.text_of(own, "platform");
    if one.is_some() {
        entry.comments.push("regsync's `platform` copies the one image, without an index around it.".into());
    }
    written.extend(one);
    if written.is_empty() {
        return;
    }
    let parsed: Option<Vec<Platform>> = written.iter().map(|one| one.parse().ok()).collect();
    let Some(parsed) = parsed.filter(|_| !entry.include.iter().any(|one| one.starts_with('@'))) else {
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

fn schedule(entry: &mut Entry, fields: &Fields<'_>, reading: &mut Reading) {
    let cron = reading.text_of(fields, "schedule");
    let interval = reading.text_of(fields, "interval");
    if let (Some(_), Some(interval)) = (&cron, &interval) {
        entry.comments.push(format!("`schedule` counts, and not `interval`, which is {}.", told(interval)));
    }
    let Some(written) = cron.or_else(|| interval.map(|interval| format!("@every {interval}"))) else { return };
    let (timezone, expression) = zoned(&written);
    let text = match expression.strip_prefix("@every ") {
        Some(interval) => format!("every {interval}"),
        None => expression.to_owned(),
    };
    let known = timezone.is_none_or(|zone| zone.parse::<chrono_tz::Tz>().is_ok());
    if known && text.parse::<Schedule>().is_ok() {
        entry.rest.text("schedule", text);
        timezone.into_iter().for_each(|zone| entry.rest.text("timezone", zone));
    } else {
        entry.comments.push(format!("the schedule {} is not understood: it runs by hand only", told(&written)));
    }
}

/// regsync's library of cron takes a time zone before the expression: `TZ=Europe/Berlin 0 3 * * *`.
fn zoned(written: &str) -> (Option<&str>, &str) {
    let zoned = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| written.strip_prefix(prefix)?.split_once(' '));
    zoned.map_or((None, written), |(zone, expression)| (Some(zone), expression.trim_start()))
}
