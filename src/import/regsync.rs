//! regclient's regsync: `creds`, `defaults` and `sync`. Values may be templates of Go's; see `template`.

use super::draft::{Draft, Entry};
use super::page::plain;
use super::reading::{Fields, Reading, View, told};
use super::template::{Content, Template};
use super::variable::variable;
use super::{pattern, range};
use crate::config::{Endpoint, Node, may_not_be_told};
use crate::oci::{Platform, Reference, RegistryHost};
use crate::schedule::Schedule;

/// The keys of an entry that are read; `defaults` shares those of `SHARED`.
const OWN: [&str; 8] = ["source", "target", "type", "tags", "tagSets", "repos", "platform", "platforms"];
const SHARED: [&str; 6] = ["schedule", "interval", "referrers", "digestTags", "backup", "fastCheck"];
const HOST: [&str; 9] =
    ["registry", "user", "pass", "tls", "reqPerSec", "reqConcurrent", "credHelper", "repoAuth", "token"];

/// Reads the whole file.
pub(super) fn draft(root: &Node, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    let root = reading.fields(&View::root(root), "regsync's configuration");
    if reading.number_of(&root, "version").is_some_and(|version| version > 1.0) {
        let view = root.get("version").cloned();
        view.iter().for_each(|view| reading.wrong(view, "version 1 of regsync's configuration is understood"));
    }
    if let Some(view) = root.get("creds") {
        for item in reading.items(view, "`creds`") {
            registry(&item, &mut draft, reading);
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

fn registry(view: &View<'_>, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "credentials of a registry");
    let name = reading.text_of(&fields, "registry").unwrap_or_default();
    let Ok(host) = name.parse::<RegistryHost>() else {
        let remark = reading.remark(view, "a registry whose name is no plain host: left out");
        draft.head.push(remark);
        return;
    };
    if draft.has_registry(&host) {
        let remark = reading.remark(view, format!("{host} is here twice: left out the second time"));
        draft.head.push(remark);
        return;
    }
    let comments = reading.unknown(&fields, &HOST, "`creds` that has an equal");
    let sheet = draft.registry(&host);
    sheet.comments.extend(comments);
    match reading.text_of(&fields, "tls").as_deref() {
        Some("disabled") => sheet.plain_http = true,
        Some("insecure") => sheet.tls.verbatim("insecure_skip_verify", true),
        _ => {}
    }
    let user = reading.text_of(&fields, "user");
    let user = user.and_then(|user| Template::read(&user, None)?.as_text()).filter(|user| !user.contains(':'));
    let helper = reading.text_of(&fields, "credHelper");
    let helper = helper.as_deref().and_then(|helper| helper.strip_prefix("docker-credential-"));
    let helper = helper.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
    if let Some(helper) = helper.filter(|name| !name.is_empty()) {
        sheet.credentials.text("helper", helper);
    } else if let Some(token) = reading.text_of(&fields, "token") {
        let remark = secret(&mut sheet.credentials, "token", &token, &host);
        sheet.comments.extend(remark.map(|remark| reading.remark(view, remark)));
    } else if let (Some(user), Some(pass)) = (user, reading.text_of(&fields, "pass")) {
        sheet.credentials.text("username", user);
        let remark = secret(&mut sheet.credentials, "password", &pass, &host);
        sheet.comments.extend(remark.map(|remark| reading.remark(view, remark)));
    } else if ["user", "pass", "credHelper"].iter().any(|key| fields.get(key).is_some()) {
        let remark = reading.remark(view, "who to be is not understood here: write `credentials`");
        sheet.comments.push(remark);
    }
    if let Some(rate) = reading.number_of(&fields, "reqPerSec").filter(|rate| (0.02..1e6).contains(rate)) {
        sheet.limits.text("requests", format!("{}/min", (rate * 60.0).floor().max(1.0)));
    }
    if let Some(most) = reading.number_of(&fields, "reqConcurrent").filter(|most| *most >= 1.0) {
        sheet.limits.verbatim("concurrent", most.min(1000.0).floor());
    }
}

/// Never the secret itself; what is to be done where it stood there.
fn secret(map: &mut super::page::Map, key: &str, text: &str, host: &RegistryHost) -> Option<String> {
    match Template::read(text, None).and_then(|template| template.content()) {
        Some(Content::Env(name)) => map.one(key, "env", name),
        Some(Content::File(path)) => map.one(key, "file", plain(&path)),
        Some(Content::Text) | None => {
            let name = variable(host, &key.to_uppercase());
            map.one(key, "env", name.clone());
            return Some(format!("the {key} is not carried over: set the environment variable {name}"));
        }
    }
    None
}

fn entries(view: &View<'_>, defaults: &Fields<'_>, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "an entry");
    let known = [OWN.as_slice(), &SHARED].concat();
    let comments = reading.unknown(&fields, &known, "an entry that has an equal");
    let Some((source, target)) = ends(view, &fields, reading) else { return };
    let kind = reading.text_of(&fields, "type").unwrap_or_default();
    let mut sets: Vec<Fields<'_>> = Vec::new();
    if let Some(list) = fields.get("tagSets") {
        let items = reading.items(list, "`tagSets`");
        sets.extend(items.iter().map(|item| reading.fields(item, "an item of `tagSets`")).collect::<Vec<_>>());
    }
    sets.extend(fields.get("tags").map(|tags| reading.fields(tags, "`tags`")));
    sets.retain(|set| set.iter().next().is_some());
    if sets.is_empty() || kind == "image" {
        sets = vec![Fields::default()];
    }
    for set in &sets {
        for range in ranges(set, reading) {
            let mut entry = Entry { comments: comments.clone(), ..Entry::default() };
            place(&mut entry, &kind, &source, &target);
            tags(&mut entry, set, reading);
            if let Some(range) = range {
                let found = range::regsync(&range);
                if found.is_none() {
                    entry.left_out = Some(format!("the range {} is not understood", told(&range)));
                }
                entry.comments.push("regsync takes pre-releases within the range too; here they are out.".into());
                entry.semver = found.map(|range| range.text);
            }
            if fields.get("repos").is_some() {
                entry.left_out = Some("`repos` has no equal: write an entry for each repository".into());
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
        entry.left_out = Some("its templates are not understood".into());
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
            entry.left_out = Some("the target is the source".into());
        }
        texts = [source.to_string(), target.to_string()];
    } else if ends.iter().any(Option::is_none) {
        texts = texts.map(|text| if may_not_be_told(&text) { "***".to_owned() } else { text });
        entry.left_out.get_or_insert("its source or target is not understood".into());
    }
    let is_tree = |end: &Option<Endpoint>| matches!(end, Some(Endpoint::Tree { .. }));
    if let (true, [Some(source), Some(target)]) = (is_tree(&ends[0]), &ends)
        && source.host() == target.host()
    {
        entry.left_out = Some("source and target are of one registry: write an entry for each repository".into());
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
        entry.left_out = Some("it gives the image another name, which only `transship copy` can".into());
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
                None => entry.left_out = Some(format!("the expression {} is not understood", told(&expression))),
            }
        }
    }
}

fn settings(entry: &mut Entry, own: &Fields<'_>, defaults: &Fields<'_>, reading: &mut Reading) {
    let timed = |fields: &Fields<'_>| ["schedule", "interval"].iter().any(|key| fields.get(key).is_some());
    schedule(entry, if timed(own) { own } else { defaults }, reading);
    let mut flag = |key| reading.bool_of(own, key).or_else(|| reading.bool_of(defaults, key)).unwrap_or(false);
    let referrers = flag("referrers") | flag("digestTags");
    entry.rest.verbatim("referrers", referrers);
    if own.get("backup").or(defaults.get("backup")).is_some() {
        entry.comments.push("`backup` gives another name to what is kept than `keep_previous` does.".into());
        entry.rest.text("overwrite", "keep_previous");
    }
    let mut platforms = reading.texts_of(own, "platforms");
    platforms.extend(reading.text_of(own, "platform"));
    if platforms.is_empty() {
        return;
    }
    if platforms.iter().any(|one| one.parse::<Platform>().is_err())
        || entry.include.iter().any(|one| one.starts_with('@'))
    {
        entry.left_out = Some("its platforms have no equal".into());
        return;
    }
    entry.comments.push("A subset of the platforms is a new index here, with a digest of its own.".into());
    entry.rest.texts("platforms", platforms);
}

fn schedule(entry: &mut Entry, fields: &Fields<'_>, reading: &mut Reading) {
    let cron = reading.text_of(fields, "schedule");
    let interval = reading.text_of(fields, "interval");
    let Some(written) = cron.or_else(|| interval.map(|interval| format!("@every {interval}"))) else { return };
    let text = match written.strip_prefix("@every ") {
        Some(interval) => format!("every {interval}"),
        None => written.clone(),
    };
    if text.parse::<Schedule>().is_ok() {
        entry.rest.text("schedule", text);
    } else {
        entry.comments.push(format!("the schedule {} is not understood: it runs by hand only", told(&written)));
    }
}
