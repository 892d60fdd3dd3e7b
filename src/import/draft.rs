//! Draft of a `sync.yaml`: registries, defaults and entries, each with comments. The import fills the draft and
//! converts the draft to text. This module knows only transship's own format.

use std::collections::{BTreeMap, HashMap};

use super::page::{Map, comment_lines};
use crate::config::Endpoint;
use crate::oci::RegistryHost;

/// Maximum length of the name of an entry, in characters.
const LONGEST_NAME: usize = 64;

/// Content of a `sync.yaml`.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Comments at the top of the file.
    pub(super) head: Vec<String>,
    /// Registries, in the order of their first use.
    registries: Vec<(RegistryHost, Registry)>,
    pub(super) defaults: Map,
    entries: Vec<(String, Entry)>,
    /// Names of all entries. The value is the last number that the draft appended to the name (2 for `api-2`), or 1.
    names: HashMap<String, usize>,
    /// Content of each literal tag, by the target and the name of the tag at the target.
    claims: HashMap<(String, String), Claim>,
    /// Positions in `entries` of the entries to which the draft can add tags. The key is the text of the entry without
    /// tags.
    groups: HashMap<String, Vec<usize>>,
}

/// Content of a tag at a target: the source, and the tag or the pinned digest at the source.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    source: String,
    content: Content,
}

/// Tag or pinned digest at a source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Tag(String),
    Digest(String),
}

/// Literal tag of an entry.
struct LiteralTag {
    /// Name at the target.
    target: String,
    content: Content,
}

/// Connection settings of one registry.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) comments: Vec<String>,
    pub(super) credentials: Map,
    pub(super) plain_http: bool,
    pub(super) tls: Map,
    pub(super) limits: Map,
    /// Reason why transship cannot use the registry; `None` for a usable registry.
    pub(super) unsupported: Option<String>,
}

/// One entry, for [`Draft::add`].
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) comments: Vec<String>,
    /// Source in transship's syntax.
    pub(super) source: String,
    pub(super) target: String,
    /// Credentials for the source. Empty if the credentials of the registry apply.
    pub(super) source_credentials: Map,
    /// Credentials for the target. Empty if the credentials of the registry apply.
    pub(super) target_credentials: Map,
    /// Patterns of the repositories below a source that ends in `/**`. If empty, the entry selects all repositories.
    pub(super) repositories: Vec<String>,
    pub(super) excluded_repositories: Vec<String>,
    /// Patterns of tags in transship's syntax, such as `v1`, `v1@sha256:…`, `v*` or `re:v.*`.
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) semver: Option<String>,
    /// Maximum number of tags (key `newest`).
    pub(super) newest: Option<usize>,
    /// Names of literal tags at the target. The key is the tag at the source.
    pub(super) rename: BTreeMap<String, String>,
    /// Keys of the entry that have no field in this struct.
    pub(super) rest: Map,
    /// Reason why the draft writes the entry as comments; `None` for an active entry.
    pub(super) skipped: Option<String>,
}

impl Draft {
    /// Returns the registry at a host. Adds the registry if it is new.
    pub(super) fn registry(&mut self, host: &RegistryHost) -> &mut Registry {
        let at = self.registries.iter().position(|(known, _)| known == host).unwrap_or_else(|| {
            self.registries.push((host.clone(), Registry::default()));
            self.registries.len() - 1
        });
        &mut self.registries[at].1
    }

    /// Returns true if the draft contains the registry.
    pub(super) fn has_registry(&self, host: &RegistryHost) -> bool {
        self.registries.iter().any(|(known, _)| known == host)
    }

    /// Adds an entry under a unique name. If an earlier entry differs only in the tags, adds the tags to the earlier
    /// entry instead. If an earlier entry writes the same tag with different content, skips the new entry. Returns the
    /// reason if the new entry is skipped.
    pub(super) fn add(&mut self, mut entry: Entry) -> Option<String> {
        if let Some(reason) = self.unsupported(&entry) {
            entry.skip(reason);
        }
        if entry.skipped.is_none()
            && let Some(reason) = self.conflict(&entry)
        {
            entry.skip(reason);
        }
        if entry.skipped.is_none() {
            for LiteralTag { target, content } in literal_tags(&entry) {
                let claim = Claim { source: entry.source.clone(), content };
                self.claims.insert((entry.target.clone(), target), claim);
            }
            if self.merge(&entry) {
                return None;
            }
        }
        let name = self.name_for(&entry);
        let reason = entry.skipped.clone();
        self.entries.push((name, entry));
        reason
    }

    /// Adds the tags of `entry` to an earlier entry that differs only in the tags, and returns true. Returns false if
    /// there is no such entry, or if `entry` selects every tag.
    fn merge(&mut self, entry: &Entry) -> bool {
        if entry.include.is_empty() {
            return false;
        }
        let rest = Entry { include: Vec::new(), rename: BTreeMap::new(), ..entry.clone() };
        let group = self.groups.entry(rest.lines("").join("\n")).or_default();
        for at in group.iter() {
            let Some((_, known)) = self.entries.get_mut(*at).filter(|(_, known)| agree_on_names(known, entry)) else {
                continue;
            };
            let is_new = |pattern: &&String| !known.include.contains(pattern);
            let new = entry.include.iter().filter(is_new).cloned().collect::<Vec<_>>();
            known.include.extend(new);
            known.rename.extend(entry.rename.clone());
            return true;
        }
        group.push(self.entries.len());
        false
    }

    /// Returns the reason why transship cannot use the registry of the source or of the target, if there is a reason.
    fn unsupported(&self, entry: &Entry) -> Option<String> {
        let ends = [&entry.source, &entry.target].map(|end| end.parse::<Endpoint>().ok());
        ends.iter().flatten().filter_map(Endpoint::host).find_map(|host| {
            let (_, registry) = self.registries.iter().find(|(known, _)| known == host)?;
            registry.unsupported.clone()
        })
    }

    fn conflict(&self, entry: &Entry) -> Option<String> {
        literal_tags(entry).into_iter().find_map(|LiteralTag { target: tag, content }| {
            let claim = self.claims.get(&(entry.target.clone(), tag.clone()))?;
            let what = match claim {
                Claim { source, .. } if *source != entry.source => "from another source",
                Claim { content: known, .. } if *known == content => return None,
                Claim { content: Content::Tag(_), .. } if matches!(content, Content::Tag(_)) => "from another tag",
                _ => "with another digest",
            };
            Some(format!(
                "another entry writes the tag {tag} of this target {what}: give the entries different targets"
            ))
        })
    }

    /// Returns a unique name for an entry: the shortest unused end of the source's path (`api`, then `y-api`). If every
    /// end is used, the name is an end with a number (`api-2`).
    fn name_for(&mut self, entry: &Entry) -> String {
        let whole = entry.source.split("://").last().unwrap_or_default().trim_end_matches("/**");
        let parts: Vec<&str> = whole.split(['/', ':']).filter(|part| !part.is_empty()).collect();
        let candidates: Vec<String> =
            (1..=parts.len()).map(|last| sanitize_name(&parts[parts.len() - last..].join("-"))).collect();
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

    /// Returns the number of active entries and the number of skipped entries.
    pub(super) fn counts(&self) -> (usize, usize) {
        let skipped = self.entries.iter().filter(|(_, entry)| entry.skipped.is_some()).count();
        (self.entries.len() - skipped, skipped)
    }

    pub(super) fn into_text(self) -> String {
        let (written, _) = self.counts();
        let mut lines: Vec<String> = self.head.iter().flat_map(|comment| comment_lines(comment, 0)).collect();
        lines.extend(["version: 1".to_owned(), String::new()]);
        let mut registries = Vec::new();
        for (host, registry) in self.registries {
            registries.extend(registry.lines(&host));
        }
        push_section("registries:", registries, &mut lines);
        push_section("defaults:", self.defaults.lines(2), &mut lines);
        lines.push(if written == 0 { "sync: []".to_owned() } else { "sync:".to_owned() });
        for (name, entry) in self.entries {
            lines.extend(entry.lines(&name));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// Appends a key and the lines below the key. If all lines below the key are comments, omits the key.
fn push_section(key: &str, below: Vec<String>, lines: &mut Vec<String>) {
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
    /// Marks the entry as skipped. If the entry already has a reason, appends the new reason.
    pub(super) fn skip(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        match &mut self.skipped {
            Some(known) if !known.contains(&reason) => *known += &format!("; {reason}"),
            Some(_) => {}
            None => self.skipped = Some(reason),
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
        let mut credentials = Map::default();
        credentials.map("source", self.source_credentials);
        credentials.map("target", self.target_credentials);
        map.map("credentials", credentials);
        let mut repositories = Map::default();
        if !self.repositories.is_empty() {
            repositories.texts("include", self.repositories);
        }
        if !self.excluded_repositories.is_empty() {
            repositories.texts("exclude", self.excluded_repositories);
        }
        map.map("repositories", repositories);
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
        if let Some(newest) = self.newest {
            tags.verbatim("newest", newest);
        }
        map.map("tags", tags);
        let mut rename = Map::default();
        self.rename.into_iter().for_each(|(from, to)| rename.text(&from, to));
        map.map("rename", rename);
        let mut body = map.lines(4);
        if let Some(first) = body.first_mut() {
            first.replace_range(2..4, "- ");
        }
        body.extend(self.rest.lines(4));
        let Some(reason) = self.skipped else {
            lines.extend(body);
            return lines;
        };
        lines.extend(comment_lines(&format!("skipped: {reason}"), 2));
        lines.extend(body.iter().map(|line| format!("  # {}", line.get(2..).unwrap_or_default())));
        lines
    }
}

/// Returns true if each tag that both entries select has the same name at the target. If an entry renames tags, returns
/// true only if all patterns of both entries are literal tags without a digest.
fn agree_on_names(known: &Entry, new: &Entry) -> bool {
    if known.rename.is_empty() && new.rename.is_empty() {
        return true;
    }
    let is_literal = |pattern: &String| is_literal_tag(pattern) && !pattern.contains('@');
    let agree = |tag: &String| !known.include.contains(tag) || known.rename.get(tag) == new.rename.get(tag);
    known.include.iter().chain(&new.include).all(is_literal) && new.include.iter().all(agree)
}

/// Returns true for a pattern that selects one tag, such as `v1` or `v1@sha256:…`.
fn is_literal_tag(pattern: &str) -> bool {
    !pattern.starts_with("re:") && !pattern.starts_with('@') && !pattern.contains('*')
}

/// Returns the literal tags of an entry, each with its name at the target and its content.
fn literal_tags(entry: &Entry) -> Vec<LiteralTag> {
    if entry.target.parse().is_ok_and(|target: Endpoint| target.is_tree()) {
        return Vec::new();
    }
    let literal = |text: &String| {
        let (tag, content) = match text.split_once('@') {
            Some((tag, digest)) => (tag, Content::Digest(digest.to_owned())),
            None => (text.as_str(), Content::Tag(text.clone())),
        };
        let target = entry.rename.get(tag).cloned().unwrap_or_else(|| tag.to_owned());
        LiteralTag { target, content }
    };
    entry.include.iter().filter(|pattern| is_literal_tag(pattern)).map(literal).collect()
}

/// Removes the characters that the name of an entry cannot contain.
fn sanitize_name(text: &str) -> String {
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
    fn names_end_like_the_source_and_are_unique() {
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
    fn second_source_of_a_tag_is_skipped() {
        let mut draft = Draft::default();
        draft.add(entry("a.example/x", "t.example/x", "v1"));
        draft.add(entry("a.example/x", "t.example/x", "v1"));
        draft.add(entry("b.example/x", "t.example/x", "v1"));
        assert_eq!(draft.counts(), (1, 1));
        let text = draft.into_text();
        assert!(
            text.contains("# skipped: another entry writes the tag v1 of this target from another source"),
            "{text}"
        );
        assert!(text.contains("\n  # - name: b.example-x\n  #   source: b.example/x\n"), "{text}");
    }

    #[test]
    fn entries_that_differ_in_tags_become_one() {
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
    fn second_digest_of_a_tag_is_skipped() {
        let mut draft = Draft::default();
        assert_eq!(draft.add(entry("a.example/x", "t.example/x", "v1")), None);
        let reason = draft.add(entry("a.example/x", "t.example/x", "v1@sha256:1")).unwrap();
        assert!(reason.contains("writes the tag v1 of this target with another digest"), "{reason}");
    }

    #[test]
    fn entry_at_unsupported_registry_is_skipped() {
        let mut draft = Draft::default();
        draft.registry(&"a.example".parse().unwrap()).unsupported = Some("it is elsewhere".into());
        for (source, target) in [("a.example/x", "t.example/x"), ("s.example/**", "a.example/**")] {
            assert_eq!(draft.add(entry(source, target, "v1")).as_deref(), Some("it is elsewhere"));
        }
    }
}
