//! Translation of dregsy's configuration: tasks, each with a source, a target and mappings of repositories.

mod keys;
mod location;
mod tags;

use regex::Regex;

use super::draft::{Draft, Entry};
use super::duration::validated_schedule;
use super::ends::set_ends;
use super::pattern;
use super::reading::{Fields, Reading, View, quoted};
use super::treatment::unsupported_keys;
use crate::config::Node;
use crate::oci::Platform;
use location::{Location, Locations};
use tags::{TagSet, translate_tags};

/// Prefix of a regular expression in `from`, `to` and `tags`.
const REGEX: &str = "regex:";

/// Minimum interval of a task that dregsy accepts, in seconds.
const MIN_INTERVAL: f64 = 30.0;

/// Task whose mappings are translated.
struct Task {
    source: Location,
    target: Location,
    /// Entry with the keys that all mappings of the task share.
    entry: Entry,
    uses_docker: bool,
}

/// Translates the whole file.
pub(super) fn translate(root: &Node, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    let root = reading.fields(&View::root(root), "dregsy's configuration");
    draft.head.extend(unsupported_keys(&root, &[&keys::ROOT], "dregsy's configuration", reading));
    draft.head.push(
        "dregsy without `platform` copies only the image of its own platform; transship copies all platforms: write \
         `platforms` to copy some of them."
            .into(),
    );
    draft.defaults.verbatim("referrers", false);
    let relay = reading.text_of(&root, "relay").unwrap_or_else(|| "docker".to_owned());
    if let Some(view) = root.get("relay").filter(|_| !["docker", "skopeo"].contains(&relay.as_str())) {
        reading.add_error(view, "`relay` must be docker or skopeo");
    }
    let mut locations = Locations::default();
    if let Some(view) = root.get("tasks") {
        for task in reading.items(view, "`tasks`") {
            add_task(&task, relay == "docker", &mut locations, &mut draft, reading);
        }
    }
    draft
}

fn add_task(view: &View<'_>, uses_docker: bool, locations: &mut Locations, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "a task");
    let unknown = reading.unknown;
    let mut entry = Entry::default();
    entry.comments.extend(reading.text_of(&fields, "name").map(|name| format!("Task {} of dregsy.", quoted(&name))));
    entry.comments.extend(unsupported_keys(&fields, &[&keys::TASK], "a task", reading));
    let [source, target] = ["source", "target"].map(|key| {
        let location = fields.get(key).and_then(|view| locations.read(view, draft, reading));
        if location.is_none() {
            reading.add_error(fields.get(key).unwrap_or(view), format!("a task needs `{key}` with a `registry`"));
        }
        location
    });
    let (Some(source), Some(target)) = (source, target) else { return };
    entry.source_credentials = source.own.credentials.clone();
    entry.target_credentials = target.own.credentials.clone();
    for reason in [&source, &target].into_iter().filter_map(|location| location.own.unsupported.clone()) {
        entry.skip(reason);
    }
    set_schedule(&mut entry, &fields, reading);
    if reading.unknown > unknown {
        entry.skip("the task has an unknown key or value, which may change the copied content");
    }
    let task = Task { source, target, entry, uses_docker };
    let mappings = fields.get("mappings").map(|view| reading.items(view, "`mappings`")).unwrap_or_default();
    for mapping in mappings {
        add_mapping(&mapping, &task, draft, reading);
    }
}

/// Translates the interval. dregsy runs each task at its start.
fn set_schedule(entry: &mut Entry, fields: &Fields<'_>, reading: &mut Reading) {
    entry.rest.verbatim("on_start", true);
    match (fields.get("interval"), reading.number_of(fields, "interval")) {
        (Some(_), Some(seconds)) if seconds >= MIN_INTERVAL => {
            match validated_schedule(format!("every {}s", seconds.floor())) {
                Some(schedule) => entry.rest.text("schedule", schedule),
                None => entry.skip(format!("the interval of {seconds} seconds has no equivalent")),
            }
        }
        (Some(view), Some(seconds)) if seconds != 0.0 => {
            reading.add_error(view, "`interval` must be 0 or at least 30 seconds");
        }
        _ => {}
    }
}

fn add_mapping(view: &View<'_>, task: &Task, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "a mapping");
    let unknown = reading.unknown;
    let mut entry = task.entry.clone();
    entry.comments.extend(unsupported_keys(&fields, &[&keys::MAPPING], "a mapping", reading));
    let Some(from) = reading.text_of(&fields, "from") else {
        return reading.add_error(view, "a mapping needs `from`");
    };
    let to = reading.text_of(&fields, "to");
    set_repositories(&mut entry, task, &from, to.as_deref());
    let tags = reading.texts_of(&fields, "tags");
    set_platform(&mut entry, &tags, reading.text_of(&fields, "platform").as_deref());
    if reading.unknown > unknown {
        entry.skip("the mapping has an unknown key, which may change the copied content");
    }
    let sets = match translate_tags(&tags, task.uses_docker) {
        Ok(sets) => sets,
        Err(reason) => {
            entry.skip(reason);
            vec![TagSet::default()]
        }
    };
    for TagSet { include, exclude, semver, newest, comments } in sets {
        let mut entry = Entry { include, exclude, semver, newest, ..entry.clone() };
        entry.comments.extend(comments);
        if let Some(reason) = draft.add(entry) {
            let _ = reading.add_remark(view, format!("skipped an entry: {reason}"));
        }
    }
}

/// Translates `from` and `to`. An expression in `from` selects repositories of the whole registry.
fn set_repositories(entry: &mut Entry, task: &Task, from: &str, to: Option<&str>) {
    let [source, target] = [&task.source, &task.target].map(|location| location.registry.as_str());
    let path = |text: &str| format!("/{}", text.trim_start_matches('/'));
    let Some(expression) = from.strip_prefix(REGEX) else {
        let from = path(from);
        let Some(to) = to.map_or_else(|| Some(from.clone()), |to| rewrite_path(&from, to)) else {
            set_ends(entry, &format!("{source}{from}"), &format!("{target}{from}"));
            return entry
                .skip(format!("the rewriting of a path by {} has no equivalent", quoted(to.unwrap_or_default())));
        };
        return set_ends(entry, &format!("{source}{from}"), &format!("{target}{to}"));
    };
    let below = to.filter(|to| !to.starts_with(REGEX)).map(path).unwrap_or_default();
    set_ends(entry, &format!("{source}/**"), &format!("{target}{}/**", below.trim_end_matches('/')));
    match pattern::translate_repositories(expression) {
        Some(pattern) => entry.repositories.push(pattern),
        None => entry.skip(format!("the expression {} cannot be translated", quoted(expression))),
    }
    if let Some(to) = to.filter(|to| to.starts_with(REGEX)) {
        entry.skip(format!("the rewriting of many paths by {} has no equivalent", quoted(to)));
    }
    if task.source.has_other_lister {
        entry.skip("dregsy lists these repositories elsewhere than in the catalog of the registry");
    }
}

/// Returns the path at the target. An expression in `to` rewrites the path at the source. `None` if it is malformed.
fn rewrite_path(from: &str, to: &str) -> Option<String> {
    let Some(rewriting) = to.strip_prefix(REGEX) else { return Some(format!("/{}", to.trim_start_matches('/'))) };
    let (expression, replacement) = rewriting.split_once(',')?;
    Some(Regex::new(expression).ok()?.replace_all(from, replacement).into_owned())
}

fn set_platform(entry: &mut Entry, tags: &[String], platform: Option<&str>) {
    let Some(platform) = platform.filter(|platform| *platform != "all") else { return };
    let has_digest = tags.iter().any(|tag| tags::find_digest(tag).is_some());
    if platform.parse::<Platform>().is_err() || has_digest {
        return entry.skip(format!("the platform {} has no equivalent", quoted(platform)));
    }
    entry.comments.push(
        "dregsy copies a single image, without an index; transship writes a new index with this platform.".into(),
    );
    entry.rest.texts("platforms", vec![platform.to_owned()]);
}
