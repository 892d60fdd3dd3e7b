//! A `sync.yaml` in the making: registries, defaults and entries with the comments before each, and its text. It knows our format
//! and none of the others.

use std::collections::{BTreeSet, HashMap};

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
    /// Which source each tag that is written out comes from, by target and tag.
    claims: HashMap<(String, String), String>,
}

/// How one registry is spoken to.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) comments: Vec<String>,
    pub(super) credentials: Map,
    pub(super) plain_http: bool,
    pub(super) tls: Map,
    pub(super) limits: Map,
}

/// One entry, as an [`Draft::add`] takes it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) comments: Vec<String>,
    /// In our spelling.
    pub(super) source: String,
    pub(super) target: String,
    /// Patterns of tags in our spelling; those without `re:`, `*` and `@` are tags.
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

    /// Adds an entry under a name of its own. Two sources of one tag are more than we take: the later one is left out.
    /// Returns why it was left out, if it was.
    pub(super) fn add(&mut self, mut entry: Entry) -> Option<String> {
        if entry.left_out.is_none()
            && let Some(reason) = self.conflict(&entry)
        {
            entry.leave_out(reason);
        }
        if entry.left_out.is_none() {
            for tag in literals(&entry) {
                self.claims.insert((entry.target.clone(), tag), entry.source.clone());
            }
        }
        let name = self.name_for(&entry);
        let reason = entry.left_out.clone();
        self.entries.push((name, entry));
        reason
    }

    fn conflict(&self, entry: &Entry) -> Option<String> {
        let clash = |tag: &String| {
            let claim = self.claims.get(&(entry.target.clone(), tag.clone()));
            claim.is_some_and(|source| *source != entry.source)
        };
        let tag = literals(entry).into_iter().find(clash)?;
        Some(format!(
            "another entry writes the tag {tag} of this target from another source; give them different targets"
        ))
    }

    /// From the end of the source's name, so much of it that it is unique, else with a number.
    fn name_for(&self, entry: &Entry) -> String {
        let taken: BTreeSet<&str> = self.entries.iter().map(|(name, _)| name.as_str()).collect();
        let whole = entry.source.split("://").last().unwrap_or_default().trim_end_matches("/**");
        let parts: Vec<&str> = whole.split(['/', ':']).filter(|part| !part.is_empty()).collect();
        let candidates = (1..=parts.len()).map(|last| word(&parts[parts.len() - last..].join("-")));
        let free = |name: &String| !name.is_empty() && !taken.contains(name.as_str());
        if let Some(name) = candidates.clone().find(free) {
            return name;
        }
        let stem = candidates.clone().find(|name| !name.is_empty()).unwrap_or_else(|| "entry".to_owned());
        let stem: String = stem.chars().take(LONGEST_NAME - 6).collect();
        (2..=taken.len() + 2).map(|number| format!("{stem}-{number}")).find(free).unwrap_or(stem)
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

fn literals(entry: &Entry) -> Vec<String> {
    let is_tag = |text: &&String| !text.starts_with("re:") && !text.contains(['*', '@']);
    let one = !matches!(entry.target.parse(), Ok(Endpoint::Tree { .. }));
    entry.include.iter().filter(is_tag).filter(|_| one).cloned().collect()
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
        for source in
            ["a.example/x/api", "a.example/y/api", "a.example/y/api", "oci-layout:/srv/api", "${X}", "${X}", "h:5/**"]
        {
            draft.add(entry(source, "t.example/z", "v1"));
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
        assert_eq!(draft.counts(), (2, 1));
        let text = draft.into_text();
        assert!(
            text.contains("# left out: another entry writes the tag v1 of this target from another source"),
            "{text}"
        );
        assert!(text.contains("\n  # - name: b.example-x\n  #   source: b.example/x\n"), "{text}");
    }
}
