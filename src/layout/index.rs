//! Parser and editor of the text of `index.json`, without file access.
//!
//! Other tools can store unknown data in the document. So transship changes the bytes of an entry only if the name of
//! the entry changes. All other bytes of the document remain unchanged.
//!
//! The file is untrusted, so its parsed form must not use much more memory than the file. The parser copies only a few
//! values of each entry. For the other bytes of the entry, the parser stores only their position in the text.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::oci::{Digest, Manifest, MediaType, Tag};

mod entry;

use entry::EntryText;
pub(super) use entry::{Entry, Pointer};

/// Maximum number of entries.
const MAX_ENTRIES: usize = 400_000;

/// Document of `index.json`.
#[derive(Debug)]
pub(super) struct Index {
    text: String,
    /// Position of the value of `manifests` in the text.
    list: Option<Range<usize>>,
    /// Number of keys in the document.
    keys: usize,
    entries: Vec<Entry>,
    /// Positions of all named entries, sorted by name; computed at the first look-up of a name.
    by_name: OnceLock<Vec<u32>>,
}

/// Result of looking up the entries of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named<'i> {
    /// No entry has the name.
    Nothing,
    /// All entries of the name point at this content.
    One(&'i Pointer),
    /// The name is ambiguous, because its entries point at several digests. The text beside each digest tells people
    /// the difference between the digests, such as `linux/arm64`.
    Several(Vec<(Digest, String)>),
    /// None of the entries has a readable digest.
    Unknown,
}

/// Reason why a text is not an `index.json`.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("\"manifests\" is not a list")]
    NotAList,
    #[error("\"manifests\" occurs twice")]
    Twice,
    #[error("\"manifests\" lists {0} manifests, more than the maximum of {MAX_ENTRIES}")]
    TooMany(usize),
    #[error("the file is not UTF-8 text")]
    NotText,
}

impl Index {
    /// Returns the document of a new layout.
    pub(super) fn empty() -> Self {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
        Self::parse(text.into_bytes()).expect("the text is an index")
    }

    /// Parses a document of less than 4 GiB. If `manifests` is absent or `null`, the list is empty. Go writes an empty
    /// list as `null`.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, IndexError> {
        let text = String::from_utf8(bytes).map_err(|_| IndexError::NotText)?;
        let Outline { keys, lists, first } = serde_json::from_str(&text)?;
        if lists > 1 {
            return Err(IndexError::Twice);
        }
        let list = first.filter(|list| list.get() != "null");
        let entries = list.map_or(Ok(Vec::new()), |list| read_list(&text, list))?;
        let list = first.map(|list| position_in(&text, list));
        Ok(Self { list, keys, entries, text, by_name: OnceLock::new() })
    }

    /// Returns the text of the document with its current entries.
    pub(super) fn render(&self) -> Vec<u8> {
        let end = || self.text.rfind('}').unwrap_or_default();
        let list = self.list.clone().unwrap_or_else(|| end()..end());
        let mut out = Vec::with_capacity(self.text.len() + 512);
        out.extend_from_slice(&self.text.as_bytes()[..list.start]);
        if self.list.is_none() {
            out.extend_from_slice(if self.keys > 0 { b",\"manifests\":" } else { b"\"manifests\":" });
        }
        out.push(b'[');
        for (at, entry) in self.entries.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(entry.json(&self.text).as_bytes());
        }
        out.push(b']');
        out.extend_from_slice(&self.text.as_bytes()[list.end..]);
        out
    }

    /// Returns the entries in document order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the content that a tag points at.
    pub(super) fn find(&self, tag: &Tag) -> Named<'_> {
        let name_at = |at: u32| self.entries[at as usize].name.as_deref();
        let by_name = self.by_name.get_or_init(|| {
            let named = (0..).zip(&self.entries).filter(|(_, entry)| entry.name.is_some());
            let mut positions: Vec<u32> = named.map(|(at, _)| at).collect();
            positions.sort_by_key(|at| name_at(*at));
            positions
        });
        let first = by_name.partition_point(|at| name_at(*at) < Some(tag.as_str()));
        let same = by_name[first..].iter().take_while(|at| name_at(**at) == Some(tag.as_str()));
        self.resolve_entries(same.map(|at| &self.entries[*at as usize]))
    }

    /// Returns every name once, in document order, with the content that the name points at.
    pub(super) fn names(&self) -> Vec<(&str, Named<'_>)> {
        let mut names: Vec<(&str, Vec<&Entry>)> = Vec::new();
        let mut positions = HashMap::new();
        for entry in &self.entries {
            let Some(name) = entry.name.as_deref() else { continue };
            let position = *positions.entry(name).or_insert_with(|| {
                names.push((name, Vec::with_capacity(1)));
                names.len() - 1
            });
            names[position].1.push(entry);
        }
        names.into_iter().map(|(name, entries)| (name, self.resolve_entries(entries.into_iter()))).collect()
    }

    /// Resolves the entries of one name. Several images can have the same name: Docker writes `a:latest` and `b:latest`
    /// under the name `latest`.
    fn resolve_entries<'i>(&'i self, entries: impl Iterator<Item = &'i Entry> + Clone) -> Named<'i> {
        let mut targets = entries.clone().filter_map(|entry| entry.target.as_ref());
        let Some(first) = targets.next() else {
            return if entries.clone().next().is_none() { Named::Nothing } else { Named::Unknown };
        };
        if targets.all(|other| other.digest == first.digest) {
            return Named::One(first);
        }
        let mut seen = HashSet::new();
        let several = entries.filter_map(|entry| Some((entry.target.as_ref()?.digest, entry)));
        let several = several.filter(|(digest, _)| seen.insert(*digest));
        Named::Several(several.map(|(digest, entry)| (digest, entry.distinction(&self.text))).collect())
    }

    /// Returns the media type that an entry states for a digest.
    pub(super) fn media_type_of(&self, digest: &Digest) -> Option<&MediaType> {
        self.entries
            .iter()
            .filter_map(|entry| entry.target.as_ref())
            .find(|pointer| pointer.digest == *digest)
            .map(|pointer| &pointer.media_type)
    }

    /// Points `tag` at `manifest`, and returns true if the document changed. The method calls `stays` with the digest
    /// of each earlier entry of the tag. If `stays` returns true, the earlier entry remains, but without a name.
    /// Otherwise the method removes the earlier entry.
    pub(super) fn set_tag(&mut self, tag: &Tag, manifest: &Manifest, stays: impl Fn(&Digest) -> bool) -> bool {
        let wanted = Pointer::from_manifest(manifest);
        self.by_name.take();
        let mut named = self.entries.iter().filter(|entry| entry.is_named(tag));
        if named.next().is_some_and(|entry| entry.target.as_ref() == Some(&wanted)) && named.next().is_none() {
            return false;
        }
        self.remove_tag(tag, stays);
        let nameless = |entry: &&mut Entry| entry.name.is_none() && entry.target.as_ref() == Some(&wanted);
        match self.entries.iter_mut().find(nameless) {
            Some(entry) => entry.rename(&self.text, Some(tag)),
            None => {
                let mut entry = Entry::new(manifest);
                entry.rename(&self.text, Some(tag));
                self.entries.push(entry);
            }
        }
        true
    }

    /// If a manifest is not listed yet, adds an entry without a name. Returns true if the document changed.
    pub(super) fn add(&mut self, manifest: &Manifest) -> bool {
        if self.media_type_of(&manifest.digest()).is_some() {
            return false;
        }
        // Appending an entry without a name keeps the positions in `by_name` valid.
        self.entries.push(Entry::new(manifest));
        true
    }

    /// Removes a tag, and returns true if the tag existed. For `stays`, see [`Index::set_tag`].
    pub(super) fn remove_tag(&mut self, tag: &Tag, stays: impl Fn(&Digest) -> bool) -> bool {
        let mut found = false;
        self.by_name.take();
        let text = &self.text;
        self.entries.retain_mut(|entry| {
            if !entry.is_named(tag) {
                return true;
            }
            found = true;
            let keep = entry.target.as_ref().is_some_and(|pointer| stays(&pointer.digest));
            if keep {
                entry.rename(text, None);
            }
            keep
        });
        found
    }

    /// Removes all entries of a digest. Returns true if the digest had entries.
    pub(super) fn remove_digest(&mut self, digest: &Digest) -> bool {
        let before = self.entries.len();
        self.by_name.take();
        self.entries.retain(|entry| entry.target.as_ref().is_none_or(|pointer| pointer.digest != *digest));
        self.entries.len() != before
    }
}

/// Returns the byte range of `part` within `text`.
fn position_in(text: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + part.get().len()
}

/// Parses the entries of `list`, which is a part of `text`.
fn read_list(text: &str, list: &RawValue) -> Result<Vec<Entry>, IndexError> {
    if !list.get().starts_with('[') {
        return Err(IndexError::NotAList);
    }
    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    deserializer.deserialize_seq(EntriesVisitor { text })?.map_err(IndexError::TooMany)
}

/// Visitor that reads the entries of a list one by one. If there are too many entries, the visitor returns the number
/// of entries.
struct EntriesVisitor<'t> {
    text: &'t str,
}

impl<'t> Visitor<'t> for EntriesVisitor<'t> {
    type Value = Result<Vec<Entry>, usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut entries, mut before) = (Vec::new(), None);
        while let Some(raw) = list.next_element::<&'t RawValue>()? {
            if entries.len() == MAX_ENTRIES {
                let mut count = MAX_ENTRIES + 1;
                drop(entries);
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                return Ok(Err(count));
            }
            let position = position_in(self.text, raw);
            // `parse` accepts less than 4 GiB, so the conversion does not fail.
            let position =
                u32::try_from(position.start).unwrap_or_default()..u32::try_from(position.end).unwrap_or_default();
            entries.push(Entry::read(raw.get(), EntryText::Read(position), &mut before));
        }
        Ok(Ok(entries))
    }
}

/// Number of keys of the document, number of `manifests` keys, and the first value of `manifests`.
struct Outline<'t> {
    keys: usize,
    lists: usize,
    first: Option<&'t RawValue>,
}

impl<'de> serde::Deserialize<'de> for Outline<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OutlineVisitor)
    }
}

struct OutlineVisitor;

impl<'de> Visitor<'de> for OutlineVisitor {
    type Value = Outline<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline<'de>, A::Error> {
        let mut outline = Outline { keys: 0, lists: 0, first: None };
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            outline.keys += 1;
            if key == "manifests" {
                outline.lists += 1;
                let value = map.next_value()?;
                outline.first.get_or_insert(value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(outline)
    }
}

#[cfg(test)]
mod tests;
