//! Warnings that depend on several values of a configuration. The checks send no requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::diagnostics::diagnostic::{Diagnostic, Part};
use super::model::endpoint::Endpoint;
use super::reader::{Reader, Value};
use super::sections::entry::Draft;
use crate::oci::{RegistryHost, Tag};
use crate::plan::{Pattern, Selection};
use crate::registry::Options;

/// Adds the warnings about the whole configuration. `value` is the value of the key `registries`.
pub(super) fn warn_about_settings(
    reader: &Reader<'_>,
    value: Option<&Value<'_>>,
    registries: &BTreeMap<RegistryHost, Options>,
    drafts: &[Draft<'_>],
) {
    drafts.iter().for_each(|draft| warn_of_untagged_pins(reader, draft));
    drafts.iter().for_each(|draft| warn_of_unselected_names(reader, draft));
    warn_of_rival_sources(reader, drafts);
    if let Some(value) = value {
        warn_of_unused_registries(reader, value, registries, drafts);
    }
}

/// Adds a warning about each item under `tags.include` that is only a digest, without a tag. Many registries delete a
/// manifest that has no tag.
fn warn_of_untagged_pins(reader: &Reader<'_>, draft: &Draft<'_>) {
    let Some(tags) = &draft.settings.tags else { return };
    for (pattern, value) in &tags.include {
        if let (Some(digest), None) = (pattern.digest(), pattern.pin()) {
            let message = format!(
                "{pattern} is copied without a tag, and many registries garbage-collect manifests without a tag"
            );
            let hint = format!("write TAG@{digest} to copy the digest under a tag");
            reader.add_warning(entry_name(draft), Diagnostic::new(&value.path, Part::Value, message).with_hint(hint));
        }
    }
}

/// Adds a warning about each tag under `rename` that `tags` does not select.
fn warn_of_unselected_names(reader: &Reader<'_>, draft: &Draft<'_>) {
    let Some(tags) = &draft.settings.tags else { return };
    let pins = tags.selection.pins();
    for (tag, value) in &draft.names.places {
        if !tags.selection.takes(tag) && !pins.contains_key(tag) {
            let message = format!("`rename` names the tag {tag}, but `tags` never selects it");
            let found = Diagnostic::new(&value.path, Part::Value, message);
            let hint = "add the tag under `tags.include`, or remove the tag from `rename`";
            reader.add_warning(entry_name(draft), found.with_hint(hint));
        }
    }
}

/// Adds a warning if two entries with different sources can write the same tag to the same target. At run time, the tag
/// is a conflict, and neither entry writes the tag. If both entries list the tag literally, [`super::cross_checks`]
/// reports a problem, and this function adds no warning.
fn warn_of_rival_sources(reader: &Reader<'_>, drafts: &[Draft<'_>]) {
    let every = Selection::default();
    let mut writers: HashMap<Endpoint, Vec<(&Draft<'_>, &Value<'_>)>> = HashMap::new();
    for draft in drafts {
        for (target, value) in &draft.targets {
            writers.entry(target.normalized()).or_default().push((draft, value));
        }
    }
    for draft in drafts {
        for (target, value) in &draft.targets {
            let before = writers.get(&target.normalized()).into_iter().flatten();
            let rival = before.take_while(|(other, _)| !std::ptr::eq(*other, draft)).find(|(other, _)| {
                let sources = (other.source.as_ref(), draft.source.as_ref());
                let differ = matches!(sources, (Some((one, _)), Some((two, _))) if !one.is_same_place(two));
                differ && may_write_one_tag(other, draft, &every)
            });
            if let Some((other, first)) = rival {
                let names =
                    [other, draft].map(|one| entry_name(one).unwrap_or_else(|| "an entry without a name".to_owned()));
                let message = format!(
                    "the entries {} and {} write to {target} from different sources; if both entries select a tag, \
                     neither entry writes this tag",
                    names[0], names[1]
                );
                let found = Diagnostic::new(&value.path, Part::Value, message).with_first(&first.path, Part::Value);
                reader.add_warning(
                    entry_name(draft),
                    found.with_hint("give the entries different targets, or patterns that never select the same tag"),
                );
            }
        }
    }
}

fn selection<'a>(draft: &'a Draft<'_>, every: &'a Selection) -> &'a Selection {
    draft.settings.tags.as_ref().map_or(every, |tags| &tags.selection)
}

/// Returns true if both entries can write the same tag. The function ignores tags that both entries list literally,
/// because [`super::cross_checks`] compares these tags.
fn may_write_one_tag(one: &Draft<'_>, other: &Draft<'_>, every: &Selection) -> bool {
    let (names, other_names) = (&one.names.names, &other.names.names);
    let (selected, other_selected) = (selection(one, every), selection(other, every));
    if names == other_names {
        return may_meet(selected, other_selected);
    }
    let are_literal = selected.literals().is_some() && other_selected.literals().is_some();
    !are_literal && names.may_meet(other_names)
}

/// Returns true if both selections can select the same tag. The function ignores tags that both selections list
/// literally.
fn may_meet(one: &Selection, other: &Selection) -> bool {
    let excluded = |pattern: &Pattern, selection: &Selection| {
        literal_tag(pattern).is_some_and(|tag| selection.exclude.iter().any(|out| out.matches(tag)))
    };
    // An item that is only a digest writes no tag.
    let writes_a_tag = |pattern: &&Pattern| pattern.digest().is_none() || pattern.pin().is_some();
    let meet = |a: &Pattern, b: &Pattern| {
        let compared = literal_tag(a).is_some() && literal_tag(b).is_some();
        !compared && !excluded(a, other) && !excluded(b, one) && a.may_meet(b)
    };
    match (one.include.as_slice(), other.include.as_slice()) {
        ([], []) => true,
        ([], some) => some.iter().filter(writes_a_tag).any(|pattern| !excluded(pattern, one)),
        (some, []) => some.iter().filter(writes_a_tag).any(|pattern| !excluded(pattern, other)),
        (some, others) => some.iter().any(|a| others.iter().any(|b| meet(a, b))),
    }
}

/// Returns the tag of a pattern that is a literal tag or a pinned tag.
fn literal_tag(pattern: &Pattern) -> Option<&Tag> {
    pattern.literal().or(pattern.pin().map(|(tag, _)| tag))
}

/// Adds a warning about each registry under `registries` that no entry uses, because the key may be misspelt. If the
/// configuration has no entries, adds no warning: such a configuration serves commands such as `copy`, which can use
/// any registry.
fn warn_of_unused_registries(
    reader: &Reader<'_>,
    value: &Value<'_>,
    registries: &BTreeMap<RegistryHost, Options>,
    drafts: &[Draft<'_>],
) {
    if drafts.is_empty() {
        return;
    }
    let ends = drafts.iter().flat_map(|draft| draft.source.iter().chain(&draft.targets));
    let named: BTreeSet<&RegistryHost> = ends.filter_map(|(end, _)| end.host()).collect();
    let options = named.iter().filter_map(|host| registries.get(*host));
    let mirrors: BTreeSet<&RegistryHost> =
        options.flat_map(|options| &options.transport.mirrors).map(|mirror| &mirror.host).collect();
    for (name, value) in value.pairs() {
        let Ok(host) = name.parse::<RegistryHost>() else { continue };
        if named.contains(&host) || mirrors.contains(&host) {
            continue;
        }
        let hint = named.iter().find(|other| other.name() == host.name()).map_or_else(
            || "remove the registry, or correct its name".to_owned(),
            |other| format!("did you mean `{other}`? The port is part of the name"),
        );
        let found = Diagnostic::new(&value.path, Part::Key, format!("no entry uses the registry {host}"));
        reader.add_warning(None, found.with_hint(hint));
    }
}

fn entry_name(draft: &Draft<'_>) -> Option<String> {
    draft.name.as_ref().map(|(name, _)| name.to_string())
}

#[cfg(test)]
mod tests {
    use crate::config::Warning;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn warnings(text: &str) -> Vec<Warning> {
        let text = format!("version: 1\n{text}");
        crate::config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap().warnings
    }

    fn shown(text: &str) -> Vec<String> {
        warnings(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unused_registry_causes_a_warning() {
        let entry = "sync: [{name: a, source: s.example/a, target: \"t.example:5000/a\"}]";
        let text = format!(
            "registries:\n  t.example: {{}}\n  other.example: {{}}\n  s.example: {{mirrors: [m.example]}}\n  \
             m.example: {{}}\n{entry}"
        );
        assert_eq!(
            shown(&text),
            [
                "sync.yaml:3:3: no entry uses the registry t.example: did you mean `t.example:5000`? The port is part \
                 of the name",
                "sync.yaml:4:3: no entry uses the registry other.example: remove the registry, or correct its name",
            ]
        );
        assert_eq!(shown("registries: {t.example: {}}\nsync: []"), Vec::<String>::new());
    }

    #[test]
    fn digest_without_a_tag_causes_a_warning_about_its_entry() {
        let text = |pin: &str| {
            format!(
                "sync: [{{name: a, source: s.example/a, target: t.example/a, tags: {{include: [\"{pin}{DIGEST}\"]}}}}]"
            )
        };
        let found = warnings(&text("@"));
        assert_eq!(found[0].entry.as_deref(), Some("a"));
        assert!(found[0].text.contains("is copied without a tag"), "{}", found[0]);
        assert_eq!(
            found[0].remedy.as_deref(),
            Some(format!("write TAG@{DIGEST} to copy the digest under a tag").as_str())
        );
        assert_eq!(shown(&text("v1@")), Vec::<String>::new());
    }

    #[test]
    fn two_sources_of_one_target_cause_a_warning_if_tags_overlap() {
        let warnings_of = |one: &str, other: &str| {
            let entry = |name: &str, tags: &str| {
                format!("  - {{name: {name}, source: s.example/{name}, target: t.example/x{tags}}}\n")
            };
            shown(&["sync:\n".to_owned(), entry("a", one), entry("b", other)].concat())
        };
        let found = warnings_of("", "");
        assert!(
            found[0].starts_with("sync.yaml:4:44: the entries a and b write to t.example/x from different sources"),
            "{found:?}"
        );
        let pinned = |pin: &str| format!(", tags: {{include: [\"{pin}{DIGEST}\"]}}");
        for (one, other, count) in [
            (", tags: {include: [v1]}", ", tags: {include: [v2]}", 0),
            (", tags: {include: [\"a-*\"]}", ", tags: {include: [\"b-*\"]}", 0),
            (", tags: {include: [\"a-*\"]}", ", tags: {include: [\"a-b*\"]}", 1),
            (", tags: {include: [v1]}", ", tags: {include: [\"v*\"]}", 1),
            (", tags: {include: [v1]}", ", tags: {include: [\"v*\"], exclude: [v1]}", 0),
            (", tags: {include: [v1]}", "", 1),
            (&pinned("v1@"), "", 1),
            (&pinned("v1@"), ", tags: {include: [\"v*\"]}", 1),
            (&pinned("@"), "", 0),
        ] {
            let found = warnings_of(one, other);
            let rivals = found.iter().filter(|warning| warning.contains("from different sources"));
            assert_eq!(rivals.count(), count, "{one} {other}");
        }
    }
}
