//! Short descriptions of an entry's rules, without secrets. For the receivers of notifications, the page shows only
//! their number, because an address can be secret.

use maud::{Markup, html};

use super::registries::list_limits;
use super::words::format_count;
use crate::config::{Config, Endpoint, Entry};
use crate::plan::{ForeignLayers, Overwrite, RepositorySelection, Selection, TagNames};
use crate::status::Snapshot;

/// Maximum number of items in a list, for example of patterns or platforms.
const NAMED: usize = 12;

/// Renders the rules as items of a `dl`.
pub(super) fn rules(entry: &Entry, config: &Config, snapshot: &Snapshot) -> Markup {
    html! {
        @if !entry.repositories.takes_every_repository() {
            dt { "Repositories" } dd { (describe_repositories(&entry.repositories)) }
        }
        dt { "Tags" } dd { (describe_tags(&entry.selection)) }
        @if !entry.names.keeps_every_name() {
            dt { "Names at the target" } dd { (describe_names(&entry.names)) }
        }
        dt { "Platforms" } dd { (describe_platforms(entry)) }
        dt { "If digests differ" } dd { (describe_overwrite(entry.overwrite)) }
        @if !entry.referrers { dt { "Signatures and SBOMs" } dd { "not copied" } }
        @if entry.foreign_layers == ForeignLayers::Copy { dt { "Foreign layers" } dd { "copied" } }
        @if !describe_timing(entry).is_empty() { dt { "Runs" } dd { (describe_timing(entry)) } }
        @for (host, words) in limits_of(entry, snapshot) { dt { "Limits of " (host) } dd { (words) } }
        @let receivers = entry.notify.len() + config.daemon.notify.len();
        @if receivers > 0 {
            dt { "Webhook notifications" } dd { (format_count(receivers, "receiver", "receivers")) }
        }
        dt { "History" } dd {
            @match config.daemon.keep_history {
                Some(kept) => { "runs are kept for " (kept.as_secs() / 86_400) " days" }
                None => { "runs are kept for ever" }
            }
            ", evidence is kept for ever"
        }
    }
}

fn describe_repositories(selection: &RepositorySelection) -> String {
    let RepositorySelection { include, exclude } = selection;
    let included = if include.is_empty() { "all".to_owned() } else { join_items(include) };
    if exclude.is_empty() { included } else { format!("{included}; but not {}", join_items(exclude)) }
}

fn describe_tags(selection: &Selection) -> String {
    let Selection { include, exclude, semver, newest, at_least } = selection;
    let mut words = vec![if include.is_empty() { "all".to_owned() } else { join_items(include) }];
    if !exclude.is_empty() {
        words.push(format!("but not {}", join_items(exclude)));
    }
    words.extend(semver.as_ref().map(|range| format!("versions {range}")));
    words.extend(newest.map(|count| format!("the newest {count} of these")));
    words.extend(at_least.map(|count| format!("fewer than {count} are an error")));
    words.join("; ")
}

fn describe_names(names: &TagNames) -> String {
    let TagNames { template, renamed } = names;
    let single: Vec<String> = renamed.iter().map(|(from, to)| format!("{from} as {to}")).collect();
    let template = template.as_ref().map(|template| template.to_string());
    let words = (!single.is_empty()).then(|| join_items(&single)).into_iter();
    words.chain(template).collect::<Vec<_>>().join("; other tags as ")
}

fn join_items<T: ToString>(items: &[T]) -> String {
    let mut words: Vec<String> = items.iter().take(NAMED).map(ToString::to_string).collect();
    if items.len() > NAMED {
        words.push(format!("and {} more", items.len() - NAMED));
    }
    words.join(", ")
}

fn describe_platforms(entry: &Entry) -> String {
    entry.platforms.as_deref().map_or_else(|| "all, byte for byte".to_owned(), join_items)
}

fn describe_overwrite(rule: Overwrite) -> &'static str {
    match rule {
        Overwrite::Always => "tags are overwritten",
        Overwrite::Never | Overwrite::Unforced => "tags are not overwritten, and count as blocked",
        Overwrite::KeepPrevious => "tags are overwritten, and the old content gets another tag",
    }
}

fn describe_timing(entry: &Entry) -> String {
    let mut words = Vec::new();
    if entry.on_start {
        words.push("also at each start of the daemon".to_owned());
    }
    if !entry.jitter.is_zero() {
        words.push(format!("up to {} after the scheduled time", humantime::format_duration(entry.jitter)));
    }
    if let Some(timeout) = entry.timeout {
        words.push(format!("stopped after {}", humantime::format_duration(timeout)));
    }
    words.join("; ")
}

/// Returns the limits of the entry's registries. Omits a registry to which the daemon has not sent a request yet.
fn limits_of<'s>(entry: &Entry, snapshot: &'s Snapshot) -> Vec<(&'s str, String)> {
    let ends = || std::iter::once(&entry.source).chain(&entry.targets).filter_map(Endpoint::host);
    let is_used = |registry: &&crate::status::RegistryState| ends().any(|host| host.as_str() == registry.registry);
    let used = snapshot.registries.iter().filter(is_used);
    used.map(|state| (state.registry.as_str(), list_limits(&state.limits).join(", ")))
        .filter(|(_, words)| !words.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::{second, working};

    /// Returns the rules of an entry with this configuration, as text without markup.
    fn rendered_rules(daemon: &str, entry: &str, snapshot: &Snapshot) -> String {
        let text = format!(
            "version: 1\ndaemon: {{{daemon}}}\n\
             sync: [{{name: a, source: docker.io/library/python, target: b.example/c{entry}}}]\n"
        );
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let config = crate::config::parse("sync.yaml", &text, &environment).unwrap();
        let shown = rules(&config.entries[0], &config, snapshot).into_string();
        shown.replace("<dt>", "").replace("</dt><dd>", ": ").replace("</dd>", "\n")
    }

    #[test]
    fn default_rules_are_described_briefly() {
        let rendered = rendered_rules("", "", &Snapshot::starting(second(0)));
        assert_eq!(
            rendered,
            "Tags: all\nPlatforms: all, byte for byte\nIf digests differ: tags are overwritten\n\
             History: runs are kept for 90 days, evidence is kept for ever\n"
        );
    }

    #[test]
    fn each_rule_is_described_without_secrets() {
        let entry = ", tags: {include: ['3.12-slim*', 're:3|4'], exclude: ['*-rc*'], semver: '>=3.12, <4', \
             newest: 10, at_least: 1}, \
             platforms: [linux/amd64, linux/arm64], referrers: false, foreign_layers: copy, overwrite: never, \
             on_start: true, jitter: 5m, timeout: 2h, \
             credentials: {source: {username: me, password: hunter2}}, \
             notify: [{webhook: {url: 'https://chat.example/hunter2', secret: hunter2hunter2}, on: failure}]";
        let mut snapshot = working();
        snapshot.registries[0].registry = "docker.io".into();
        let rendered = rendered_rules("keep_history: forever", entry, &snapshot);
        let expected = "Tags: 3.12-slim*, re:3|4; but not *-rc*; versions &gt;=3.12, &lt;4; the newest 10 of these; \
             fewer than 1 are an error\n\
             Platforms: linux/amd64, linux/arm64\n\
             If digests differ: tags are not overwritten, and count as blocked\n\
             Signatures and SBOMs: not copied\n\
             Foreign layers: copied\n\
             Runs: also at each start of the daemon; up to 5m after the scheduled time; stopped after 2h\n";
        assert!(rendered.starts_with(expected), "{rendered}");
        assert!(
            rendered
                .contains("Limits of docker.io: up to 16 at once, temporarily reduced, 600 reads/min, 1.00 MiB/s\n"),
            "{rendered}"
        );
        assert!(
            rendered.ends_with(
                "Webhook notifications: 1 receiver\nHistory: runs are kept for ever, evidence is kept for ever\n"
            ),
            "{rendered}"
        );
        assert!(!rendered.contains("hunter2"), "{rendered}");
    }
}
