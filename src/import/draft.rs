//! A `sync.yaml` in the making: registries, defaults and entries with the comments before each, and its text. It knows our format
//! and none of the others.

use std::collections::HashMap;

use super::page::{Map, comment_lines};
use crate::config::Endpoint;
use crate::oci::RegistryHost;

/// The most characters of an entry's name.
const LONGEST_NAME: usize = 64;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// What is said before everything.
    pub(super) head: Vec<String>,
    /// In the order in which they were first named.
    registries: Vec<(RegistryHost, Registry)>,
    pub(super) defaults: Map,
    entries: Vec<(String, Entry)>,
    /// The names of all entries, each with the last number that was put behind it.
    names: HashMap<String, usize>,
    /// The content of each tag that is written out, by target and tag.
    claims: HashMap<(String, String), Claim>,
    /// Entries that others may join, by all that they say beside `include`.
    groups: HashMap<String, usize>,
}

/// The content of a tag: its source, and the digest where it is pinned.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    source: String,
    digest: Option<String>,
}

/// How one registry is spoken to.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) comments: Vec<String>,
    pub(super) credentials: Map,
    pub(super) plain_http: bool,
    pub(super) tls: Map,
    pub(super) limits: Map,
    /// The reason why no entry may read or write there, where there is one.
    pub(super) no_equal: Option<String>,
}

/// One entry, as an [`Draft::add`] takes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) comments: Vec<String>,
    /// In our spelling.
    pub(super) source: String,
    pub(super) target: String,
    /// Patterns of tags in our spelling; those without `re:` and `*` are tags, with `@DIGEST` behind pinned ones.
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) semver: Option<String>,
    /// All other keys.
    pub(super) rest: Map,
    /// Why it is written as comments, where it is.
    pub(super) left_out: Option<String>,
}

impl Draft {
    /// The registry at a host, a new one where it was not named before.
    pub(super) fn registry(&mut self, host: &RegistryHost) -> &mut Registry {
        let at = self.registries.iter().position(|(known, _)| known == host).unwrap_or_else(|| {
            self.registries.push((host.clone(), Registry::default()));
            self.registries.len() - 1
        });
        &mut self.registries[at].1
    }

    /// Whether a registry was named.
    pub(super) fn has_registry(&self, host: &RegistryHost) -> bool {
        self.registries.iter().any(|(known, _)| known == host)
    }

    /// Adds an entry under a name of its own, or its patterns to an entry that says the same but for them. Two contents
    /// of one tag are more than we take: the later one is left out. Returns why it was left out, if it was.
    pub(super) fn add(&mut self, mut entry: Entry) -> Option<String> {
        if let Some(reason) = self.no_equal(&entry) {
            entry.leave_out(reason);
        }
        if entry.left_out.is_none()
            && let Some(reason) = self.conflict(&entry)
        {
            entry.leave_out(reason);
        }
        if entry.left_out.is_none() {
            for (tag, digest) in literals(&entry) {
                let claim = Claim { source: entry.source.clone(), digest };
                self.claims.insert((entry.target.clone(), tag), claim);
            }
            if self.join(&entry) {
                return None;
            }
        }
        let name = self.name_for(&entry);
        let reason = entry.left_out.clone();
        self.entries.push((name, entry));
        reason
    }

    /// Adds the patterns of an entry to another one that says the same beside them, if there is one. An entry without
    /// patterns is about every tag and joins none.
    fn join(&mut self, entry: &Entry) -> bool {
        if entry.include.is_empty() {
            return false;
        }
        let rest = Entry { include: Vec::new(), ..entry.clone() };
        let at = *self.groups.entry(rest.lines("").join("\n")).or_insert(self.entries.len());
        let Some((_, group)) = self.entries.get_mut(at) else { return false };
        let new = entry.include.iter().filter(|pattern| !group.include.contains(pattern)).cloned().collect::<Vec<_>>();
        group.include.extend(new);
        true
    }

    /// The reason why no entry may read or write where this one does.
    fn no_equal(&self, entry: &Entry) -> Option<String> {
        let ends = [&entry.source, &entry.target].map(|end| end.parse::<Endpoint>().ok());
        ends.iter().flatten().filter_map(Endpoint::host).find_map(|host| {
            let (_, registry) = self.registries.iter().find(|(known, _)| known == host)?;
            registry.no_equal.clone()
        })
    }

    fn conflict(&self, entry: &Entry) -> Option<String> {
        literals(entry).into_iter().find_map(|(tag, digest)| {
            let claim = self.claims.get(&(entry.target.clone(), tag.clone()))?;
            let what = match claim {
                Claim { source, .. } if *source != entry.source => "from another source",
                claim if claim.digest != digest => "with another digest",
                _ => return None,
            };
            Some(format!("another entry writes the tag {tag} of this target {what}; give them different targets"))
        })
    }

    /// From the end of the source's name, so much of it that it is unique, else with a number.
    fn name_for(&mut self, entry: &Entry) -> String {
        let whole = entry.source.split("://").last().unwrap_or_default().trim_end_matches("/**");
        let parts: Vec<&str> = whole.split(['/', ':']).filter(|part| !part.is_empty()).collect();
        let candidates: Vec<String> =
            (1..=parts.len()).map(|last| word(&parts[parts.len() - last..].join("-"))).collect();
        let free = |name: &&String| !name.is_empty() && !self.names.contains_key(*name);
        let name = candidates.iter().find(free).cloned().unwrap_or_else(|| {
            let stem = candidates.iter().find(|name| !name.is_empty()).map_or("entry", String::as_str);
            let stem: String = stem.chars().take(LONGEST_NAME - 6).collect();
            let first = self.names.get(&stem).copied().unwrap_or(1) + 1;
            let number = (first..).find(|number| !self.names.contains_key(&format!("{stem}-{number}")));
            let number = number.unwrap_or(first);
            self.names.insert(stem.clone(), number);
            format!("{stem}-{number}")
        });
        self.names.insert(name.clone(), 1);
        name
    }

    /// How many entries there are, and how many are left out.
    pub(super) fn counts(&self) -> (usize, usize) {
        let left_out = self.entries.iter().filter(|(_, entry)| entry.left_out.is_some()).count();
        (self.entries.len() - left_out, left_out)
    }

    pub(super) fn into_text(self) -> String {
        let (written, _) = self.counts();
        let mut lines: Vec<String> = self.head.iter().flat_map(|comment| comment_lines(comment, 0)).collect();
        lines.extend(["version: 1".to_owned(), String::new()]);
        let mut registries = Vec::new();
        for (host, registry) in self.registries {
            registries.extend(registry.lines(&host));
        }
        section("registries:", registries, &mut lines);
        section("defaults:", self.defaults.lines(2), &mut lines);
        lines.push(if written == 0 { "sync: []".to_owned() } else { "sync:".to_owned() });
        for (name, entry) in self.entries {
            lines.extend(entry.lines(&name));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// A key and what is below it; only comments below it stand alone.
fn section(key: &str, below: Vec<String>, lines: &mut Vec<String>) {
    if below.is_empty() {
        return;
    }
    if !below.iter().all(|line| line.trim_start().starts_with('#')) {
        lines.push(key.to_owned());
    }
    lines.extend(below);
    lines.push(String::new());
}

impl Entry {
    /// It is written as comments, for this reason beside those that are known.
    pub(super) fn leave_out(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        match &mut self.left_out {
            Some(known) if !known.contains(&reason) => *known += &format!("; {reason}"),
            Some(_) => {}
            None => self.left_out = Some(reason),
        }
    }
}

impl Registry {
    fn lines(self, host: &RegistryHost) -> Vec<String> {
        let mut map = Map::default();
        map.map("credentials", self.credentials);
        if self.plain_http {
            map.verbatim("plain_http", true);
        }
        map.map("tls", self.tls);
        map.map("limits", self.limits);
        let mut registry = Map::default();
        registry.comments(self.comments);
        registry.map(host.as_str(), map);
        registry.lines(2)
    }
}

impl Entry {
    fn lines(self, name: &str) -> Vec<String> {
        let mut lines: Vec<String> = self.comments.iter().flat_map(|comment| comment_lines(comment, 2)).collect();
        let mut map = Map::default();
        map.text("name", name);
        map.text("source", self.source);
        map.text("target", self.target);
        let mut tags = Map::default();
        if !self.include.is_empty() {
            tags.texts("include", self.include);
        }
        if !self.exclude.is_empty() {
            tags.texts("exclude", self.exclude);
        }
        if let Some(range) = self.semver {
            tags.text("semver", range);
        }
        map.map("tags", tags);
        let mut body = map.lines(4);
        if let Some(first) = body.first_mut() {
            first.replace_range(2..4, "- ");
        }
        body.extend(self.rest.lines(4));
        let Some(reason) = self.left_out else {
            lines.extend(body);
            return lines;
        };
        lines.extend(comment_lines(&format!("left out: {reason}"), 2));
        lines.extend(body.iter().map(|line| format!("  # {}", line.get(2..).unwrap_or_default())));
        lines
    }
}

/// The tags that are written out, each with the digest that it is pinned to.
fn literals(entry: &Entry) -> Vec<(String, Option<String>)> {
    if matches!(entry.target.parse(), Ok(Endpoint::Tree { .. })) {
        return Vec::new();
    }
    let is_tag = |text: &&String| !text.starts_with("re:") && !text.starts_with('@') && !text.contains('*');
    let parts = |text: &String| match text.split_once('@') {
        Some((tag, digest)) => (tag.to_owned(), Some(digest.to_owned())),
        None => (text.clone(), None),
    };
    entry.include.iter().filter(is_tag).map(parts).collect()
}

/// The letters of a name that an entry can have.
fn word(text: &str) -> String {
    let word: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).collect();
    word.trim_start_matches(['.', '-']).chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: &str, target: &str, tag: &str) -> Entry {
        Entry { source: source.into(), target: target.into(), include: vec![tag.into()], ..Entry::default() }
    }

    #[test]
    fn names_are_taken_from_the_end_of_the_source_and_are_unique() {
        let mut draft = Draft::default();
        let sources =
            ["a.example/x/api", "a.example/y/api", "a.example/y/api", "oci-layout:/srv/api", "${X}", "${X}", "h:5/**"];
        for (at, source) in sources.into_iter().enumerate() {
            draft.add(entry(source, &format!("t.example/z{at}"), "v1"));
        }
        let names: Vec<&str> = draft.entries.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["api", "y-api", "a.example-y-api", "srv-api", "X", "X-2", "5"]);
    }

    #[test]
    fn a_tag_of_two_sources_is_left_out_the_second_time() {
        let mut draft = Draft::default();
        draft.add(entry("a.example/x", "t.example/x", "v1"));
        draft.add(entry("a.example/x", "t.example/x", "v1"));
        draft.add(entry("b.example/x", "t.example/x", "v1"));
        assert_eq!(draft.counts(), (1, 1));
        let text = draft.into_text();
        assert!(
            text.contains("# left out: another entry writes the tag v1 of this target from another source"),
            "{text}"
        );
        assert!(text.contains("\n  # - name: b.example-x\n  #   source: b.example/x\n"), "{text}");
    }

    #[test]
    fn entries_that_differ_in_their_tags_become_one() {
        let mut draft = Draft::default();
        for tag in ["v1", "v2", "v1", "v3@sha256:1", "re:x.*"] {
            assert_eq!(draft.add(entry("a.example/x", "t.example/x", tag)), None);
        }
        draft.add(Entry { exclude: vec!["v9".into()], ..entry("a.example/x", "t.example/x", "v4") });
        draft.add(Entry { include: vec![], ..entry("a.example/x", "t.example/x", "") });
        assert_eq!(draft.counts(), (3, 0));
        let text = draft.into_text();
        assert!(text.contains("include: [v1, v2, v3@sha256:1, \"re:x.*\"]\n"), "{text}");
    }

    #[test]
    fn a_tag_with_two_digests_is_left_out_the_second_time() {
        let mut draft = Draft::default();
        assert_eq!(draft.add(entry("a.example/x", "t.example/x", "v1")), None);
        let reason = draft.add(entry("a.example/x", "t.example/x", "v1@sha256:1")).unwrap();
        assert!(reason.contains("writes the tag v1 of this target with another digest"), "{reason}");
    }

    #[test]
    fn an_entry_at_a_registry_without_an_equal_is_left_out() {
        let mut draft = Draft::default();
        draft.registry(&"a.example".parse().unwrap()).no_equal = Some("it is elsewhere".into());
        for (source, target) in [("a.example/x", "t.example/x"), ("s.example/**", "a.example/**")] {
            assert_eq!(draft.add(entry(source, target, "v1")).as_deref(), Some("it is elsewhere"));
        }
    }
}
