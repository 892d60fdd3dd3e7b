//! Text and entries of `index.json`: a pure parser and editor without file access.
//!
//! Other tools store data here that transship does not know. So an entry keeps the bytes it was read as until its own
//! name changes, and the rest of the document keeps its bytes always.
//!
//! The file is untrusted and may have any shape. The parser streams over one text that entries point into, and keeps
//! only the few values of an entry that are needed: memory is a small multiple of the file's length.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::oci::{Digest, Manifest, MediaType, Tag};

/// Annotation that names an entry (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Largest number of entries that is read. A file of the allowed length has fewer, unless its entries are almost empty.
const MAX_ENTRIES: usize = 400_000;
/// Largest entry in bytes that is parsed.
const MAX_ENTRY: usize = 1 << 20;

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

/// One descriptor of the list, with the values that could be parsed.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    raw: Raw,
    /// Value of the name annotation, whether or not it is a valid tag.
    pub(super) name: Option<Box<str>>,
    /// Content that the entry points at; `None` if it cannot be parsed.
    pub(super) target: Option<Pointer>,
}

/// JSON of an entry.
#[derive(Debug, Clone)]
enum Raw {
    /// Unchanged: a part of the document's text.
    Read(Range<u32>),
    /// Created or changed by transship.
    Made(Box<RawValue>),
}

/// Content that an entry points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) media_type: MediaType,
    pub(super) digest: Digest,
    /// Size in bytes; `None` if the entry does not state it.
    pub(super) size: Option<u64>,
}

/// Result of looking up the entries of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named<'i> {
    /// No entry has the name.
    Nothing,
    /// All entries of the name point at this content.
    One(&'i Pointer),
    /// The entries point at several digests, each with a text that distinguishes it; the name is ambiguous.
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
    #[error("it lists {0} manifests, more than the maximum of {MAX_ENTRIES}")]
    TooMany(usize),
    #[error("it is not UTF-8 text")]
    NotText,
}

impl Index {
    /// Returns the document of a new layout.
    pub(super) fn empty() -> Self {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
        Self::parse(text.into_bytes()).expect("the text is an index")
    }

    /// Parses a document of less than 4 GiB. A list that is missing or `null` (as Go writes an empty one) is empty.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, IndexError> {
        let text = String::from_utf8(bytes).map_err(|_| IndexError::NotText)?;
        let Outline { keys, lists, first } = serde_json::from_str(&text)?;
        if lists > 1 {
            return Err(IndexError::Twice);
        }
        let list = first.filter(|list| list.get() != "null");
        let entries = list.map_or(Ok(Vec::new()), |list| read_list(&text, list))?;
        let list = first.map(|list| place_in(&text, list));
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

    /// Returns what a tag points at.
    pub(super) fn find(&self, tag: &Tag) -> Named<'_> {
        let name_at = |at: u32| self.entries[at as usize].name.as_deref();
        let by_name = self.by_name.get_or_init(|| {
            let named = (0..).zip(&self.entries).filter(|(_, entry)| entry.name.is_some());
            let mut places: Vec<u32> = named.map(|(at, _)| at).collect();
            places.sort_by_key(|at| name_at(*at));
            places
        });
        let first = by_name.partition_point(|at| name_at(*at) < Some(tag.as_str()));
        let same = by_name[first..].iter().take_while(|at| name_at(**at) == Some(tag.as_str()));
        self.resolve_entries(same.map(|at| &self.entries[*at as usize]))
    }

    /// Returns every name once, in document order, with what it points at.
    pub(super) fn names(&self) -> Vec<(&str, Named<'_>)> {
        let mut names: Vec<(&str, Vec<&Entry>)> = Vec::new();
        let mut places = HashMap::new();
        for entry in &self.entries {
            let Some(name) = entry.name.as_deref() else { continue };
            let place = *places.entry(name).or_insert_with(|| {
                names.push((name, Vec::with_capacity(1)));
                names.len() - 1
            });
            names[place].1.push(entry);
        }
        names.into_iter().map(|(name, entries)| (name, self.resolve_entries(entries.into_iter()))).collect()
    }

    /// Resolves the entries of one name. Docker gives the images of `a:latest` and `b:latest` the same name.
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
            .find(|at| at.digest == *digest)
            .map(|at| &at.media_type)
    }

    /// Points `tag` at `manifest`, and returns true if anything changed. An entry that loses the name is removed,
    /// unless `stays` returns true for its digest: such content must remain listed without a name.
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

    /// Lists a manifest without a name, unless it is listed already. Returns true if anything changed.
    pub(super) fn add(&mut self, manifest: &Manifest) -> bool {
        if self.media_type_of(&manifest.digest()).is_some() {
            return false;
        }
        // Appending an entry without a name keeps the positions in `by_name` valid.
        self.entries.push(Entry::new(manifest));
        true
    }

    /// Removes a tag, and returns true if it existed. For `stays` see [`Index::set_tag`].
    pub(super) fn remove_tag(&mut self, tag: &Tag, stays: impl Fn(&Digest) -> bool) -> bool {
        let mut found = false;
        self.by_name.take();
        let text = &self.text;
        self.entries.retain_mut(|entry| {
            if !entry.is_named(tag) {
                return true;
            }
            found = true;
            let keep = entry.target.as_ref().is_some_and(|at| stays(&at.digest));
            if keep {
                entry.rename(text, None);
            }
            keep
        });
        found
    }

    /// Removes all entries of a digest, and returns true if there were any.
    pub(super) fn remove_digest(&mut self, digest: &Digest) -> bool {
        let before = self.entries.len();
        self.by_name.take();
        self.entries.retain(|entry| entry.target.as_ref().is_none_or(|at| at.digest != *digest));
        self.entries.len() != before
    }
}

impl Pointer {
    /// Returns a pointer at this manifest.
    pub(super) fn from_manifest(manifest: &Manifest) -> Self {
        let size = Some(manifest.bytes().len() as u64);
        Self { media_type: manifest.media_type().clone(), digest: manifest.digest(), size }
    }
}

/// Fields of an entry that are parsed.
#[derive(serde::Deserialize)]
struct Fields<'t> {
    #[serde(borrow, rename = "mediaType")]
    media_type: Option<&'t RawValue>,
    #[serde(borrow)]
    digest: Option<&'t RawValue>,
    #[serde(borrow)]
    size: Option<&'t RawValue>,
    #[serde(borrow)]
    annotations: Option<&'t RawValue>,
    #[serde(borrow)]
    platform: Option<&'t RawValue>,
}

/// Annotations of an entry that are parsed.
#[derive(serde::Deserialize)]
struct Annotations<'t> {
    #[serde(borrow, rename = "org.opencontainers.image.ref.name")]
    name: Option<&'t RawValue>,
    /// Full reference of the image, as containerd and Docker write it.
    #[serde(borrow, rename = "io.containerd.image.name")]
    image: Option<&'t RawValue>,
}

/// Platform of an entry.
#[derive(serde::Deserialize)]
struct PlatformFields<'t> {
    #[serde(borrow)]
    os: Option<&'t RawValue>,
    #[serde(borrow)]
    architecture: Option<&'t RawValue>,
}

/// Returns a value that is a string; `None` for any other.
fn text_of(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

impl Entry {
    /// Parses one entry. `before` is the media type of the previous entry: most entries share one allocation of it.
    fn read(json: &str, raw: Raw, before: &mut Option<MediaType>) -> Self {
        let nothing = |raw| Self { raw, name: None, target: None };
        if json.len() > MAX_ENTRY {
            return nothing(raw);
        }
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(json) else { return nothing(raw) };
        let annotations: Option<Annotations<'_>> =
            fields.annotations.and_then(|annotations| serde_json::from_str(annotations.get()).ok());
        let name = annotations.and_then(|annotations| text_of(annotations.name)).map(String::into_boxed_str);
        let digest = text_of(fields.digest).and_then(|text| text.parse().ok());
        let target = digest.map(|digest| {
            let media_type = MediaType::new(&text_of(fields.media_type).unwrap_or_default());
            if before.as_ref() != Some(&media_type) {
                *before = Some(media_type.clone());
            }
            let media_type = before.clone().unwrap_or(media_type);
            let size = fields.size.and_then(|size| serde_json::from_str(size.get()).ok());
            Pointer { media_type, digest, size }
        });
        Self { raw, name, target }
    }

    /// Returns the JSON of the entry; `text` is the document's text.
    fn json<'e>(&'e self, text: &'e str) -> &'e str {
        match &self.raw {
            Raw::Read(place) => &text[place.start as usize..place.end as usize],
            Raw::Made(raw) => raw.get(),
        }
    }

    /// Returns a text that distinguishes the entry from others of its name: its full reference, else its platform, else
    /// nothing.
    fn distinction(&self, text: &str) -> String {
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(self.json(text)) else { return String::new() };
        let annotations: Option<Annotations<'_>> =
            fields.annotations.and_then(|annotations| serde_json::from_str(annotations.get()).ok());
        if let Some(image) = annotations.and_then(|annotations| text_of(annotations.image)) {
            return image;
        }
        let platform: Option<PlatformFields<'_>> =
            fields.platform.and_then(|platform| serde_json::from_str(platform.get()).ok());
        let words = platform.map(|of| [text_of(of.os), text_of(of.architecture)]).unwrap_or_default();
        words.into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    /// Creates a nameless entry of a manifest. A referrer's entry repeats its artifact type and annotations, so that
    /// readers can select it by kind without reading the manifest.
    fn new(manifest: &Manifest) -> Self {
        let target = Pointer::from_manifest(manifest);
        let mut value = serde_json::json!({
            "mediaType": target.media_type, "digest": target.digest, "size": target.size,
        });
        let body: Value = serde_json::from_slice(manifest.bytes()).unwrap_or_default();
        if body["subject"].is_object() {
            for key in ["artifactType", "annotations"] {
                if let Some(said) = body.get(key) {
                    value[key] = said.clone();
                }
            }
        } else if let Some(said) = body.get("artifactType") {
            value["artifactType"] = said.clone();
        }
        // A manifest's own annotations may contain a name, but only a tag may name an entry.
        if let Some(annotations) = value.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(REF_NAME);
        }
        let raw = Raw::Made(to_raw_value(&value).expect("a JSON value is JSON"));
        Self { raw, name: None, target: Some(target) }
    }

    fn is_named(&self, tag: &Tag) -> bool {
        self.name.as_deref() == Some(tag.as_str())
    }

    fn rename(&mut self, text: &str, tag: Option<&Tag>) {
        let mut value: Value = serde_json::from_str(self.json(text)).unwrap_or_default();
        match tag {
            Some(tag) => {
                if !value["annotations"].is_object() {
                    value["annotations"] = Value::Object(serde_json::Map::new());
                }
                value["annotations"][REF_NAME] = Value::String(tag.to_string());
            }
            None => {
                if let Some(annotations) = value["annotations"].as_object_mut() {
                    annotations.remove(REF_NAME);
                }
            }
        }
        if value["annotations"].as_object().is_none_or(serde_json::Map::is_empty)
            && let Some(entry) = value.as_object_mut()
        {
            entry.remove("annotations");
        }
        self.raw = Raw::Made(to_raw_value(&value).expect("a JSON value is JSON"));
        self.name = tag.map(|tag| tag.as_str().into());
    }
}

/// Returns the position of a part within its text.
fn place_in(text: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + part.get().len()
}

/// Returns the entries of a list within a text.
fn read_list(text: &str, list: &RawValue) -> Result<Vec<Entry>, IndexError> {
    if !list.get().starts_with('[') {
        return Err(IndexError::NotAList);
    }
    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    deserializer.deserialize_seq(EntriesVisitor { text })?.map_err(IndexError::TooMany)
}

/// Visitor that reads the entries of a list one by one, or counts them if there are too many.
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
            let place = place_in(self.text, raw);
            // `parse` takes less than 4 GiB, so the conversion does not fail.
            let place = u32::try_from(place.start).unwrap_or_default()..u32::try_from(place.end).unwrap_or_default();
            entries.push(Entry::read(raw.get(), Raw::Read(place), &mut before));
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
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn image(content: &str) -> Manifest {
        Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), content.to_owned().into())
    }

    fn text(index: &Index) -> String {
        String::from_utf8(index.render()).unwrap()
    }

    fn entry(manifest: &Manifest, rest: &str) -> String {
        let size = manifest.bytes().len();
        format!(r#"{{ "size":{size}, "digest":"{}","mediaType":"{}"{rest}}}"#, manifest.digest(), manifest.media_type())
    }

    fn named(manifest: &Manifest, name: &str) -> String {
        entry(manifest, &format!(r#","annotations":{{"{REF_NAME}":"{name}"}}"#))
    }

    #[test]
    fn foreign_entries_keep_their_bytes_when_tag_is_added() {
        let theirs = format!(
            "{},{{\"mediaType\":\"x\", \"digest\":\"md5:00\",\"big\":123456789012345678901234567890}},  7",
            entry(&image("a"), r#", "x-unknown": {"b":1, "a":2}"#)
        );
        let mut index = Index::parse(
            format!("{{\"zeta\": [1,  2],\n\"schemaVersion\":2,\"manifests\":[{theirs}], \"annotations\":{{}}}}")
                .into_bytes(),
        )
        .unwrap();
        assert!(index.set_tag(&tag("v1"), &image("b"), |_| false));
        let text = text(&index);
        assert!(text.starts_with("{\"zeta\": [1,  2],\n\"schemaVersion\":2,\"manifests\":["), "{text}");
        assert!(text.ends_with(r#"], "annotations":{}}"#), "{text}");
        for piece in theirs.split(",  7") {
            assert!(text.contains(piece), "{piece} in {text}");
        }
        assert!(text.contains(",7,"), "{text}");
    }

    #[test]
    fn name_with_two_digests_is_ambiguous_until_moved() {
        let (a, b, c) = (image("a"), image("b"), image("c"));
        let of_docker = |image: &Manifest, whole: &str| {
            entry(image, &format!(r#","annotations":{{"{REF_NAME}":"v1","io.containerd.image.name":"{whole}"}}"#))
        };
        let list =
            format!(r#"{{"manifests":[{},{}]}}"#, of_docker(&a, "docker.io/x/a:v1"), of_docker(&b, "docker.io/x/b:v1"));
        let mut index = Index::parse(list.into_bytes()).unwrap();
        let both = vec![(a.digest(), "docker.io/x/a:v1".to_owned()), (b.digest(), "docker.io/x/b:v1".to_owned())];
        assert_eq!(index.find(&tag("v1")), Named::Several(both.clone()));
        assert_eq!(index.names(), [("v1", Named::Several(both))]);
        assert!(index.set_tag(&tag("v1"), &c, |_| false));
        assert_eq!(index.entries().len(), 1);
        assert_eq!(index.find(&tag("v1")), Named::One(&Pointer::from_manifest(&c)));
        assert!(!index.set_tag(&tag("v1"), &c, |_| false), "nothing to change");
        assert_eq!(index.find(&tag("v2")), Named::Nothing);
    }

    #[test]
    fn duplicate_entries_of_one_digest_resolve_to_it() {
        let a = image("a");
        let list = format!(r#"{{"manifests":[{},{}]}}"#, named(&a, "v1"), named(&a, "v1"));
        let index = Index::parse(list.into_bytes()).unwrap();
        assert_eq!(index.find(&tag("v1")), Named::One(&Pointer::from_manifest(&a)));
    }

    #[test]
    fn platforms_under_one_name_are_distinguished_by_platform() {
        let with_platform = |image: &Manifest, architecture: &str| {
            let platform = format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#);
            entry(image, &format!(r#"{platform},"annotations":{{"{REF_NAME}":"v1"}}"#))
        };
        let list = format!(
            r#"{{"manifests":[{},{}]}}"#,
            with_platform(&image("a"), "amd64"),
            with_platform(&image("b"), "arm64")
        );
        let index = Index::parse(list.into_bytes()).unwrap();
        let Named::Several(several) = index.find(&tag("v1")) else { panic!() };
        assert_eq!(
            several.iter().map(|(_, platform)| platform.as_str()).collect::<Vec<_>>(),
            ["linux/amd64", "linux/arm64"]
        );
    }

    #[test]
    fn entry_without_size_resolves_and_one_without_digest_fails() {
        let digest = image("a").digest();
        let list = format!(
            r#"{{"manifests":[{{"digest":"{digest}","annotations":{{"{REF_NAME}":"v1"}}}},
               {{"digest":7,"annotations":{{"{REF_NAME}":"v2"}}}},{{"annotations":null}},[],null]}}"#
        );
        let index = Index::parse(list.into_bytes()).unwrap();
        let Named::One(at) = index.find(&tag("v1")) else { panic!() };
        assert_eq!((at.digest, at.size, at.media_type.as_str()), (digest, None, ""));
        assert_eq!(index.find(&tag("v2")), Named::Unknown);
        assert_eq!(index.entries().iter().filter(|entry| entry.target.is_none()).count(), 4);
    }

    #[test]
    fn document_without_list_gets_one_at_its_end() {
        for (text, expected) in [("{} ", "{\"manifests\":["), ("{\"a\":1}\n", "{\"a\":1,\"manifests\":[")] {
            let mut index = Index::parse(text.as_bytes().to_vec()).unwrap();
            assert!(index.add(&image("a")));
            let written = index.render();
            assert!(String::from_utf8_lossy(&written).starts_with(expected), "{}", String::from_utf8_lossy(&written));
            assert_eq!(Index::parse(written).unwrap().entries().len(), 1);
        }
    }

    #[test]
    fn unnamed_entry_stays_only_where_caller_needs_it() {
        let (a, b) = (image("a"), image("b"));
        let list = format!(r#"{{"manifests":[{},{}]}}"#, named(&a, "v1"), named(&b, "v2"));
        let mut index = Index::parse(list.into_bytes()).unwrap();
        assert!(index.remove_tag(&tag("v1"), |digest| *digest == a.digest()));
        assert!(index.remove_tag(&tag("v2"), |digest| *digest == a.digest()));
        assert!(!index.remove_tag(&tag("v2"), |_| true));
        assert_eq!(index.entries().len(), 1);
        assert_eq!(index.entries()[0].name, None);
        assert!(!text(&index).contains("annotations"));
    }

    #[test]
    fn nameless_entry_takes_name_and_keeps_other_fields() {
        let a = image("a");
        let list = format!(r#"{{"manifests":[{}]}}"#, entry(&a, r#","annotations":{"k":"v"},"x":1"#));
        let mut index = Index::parse(list.into_bytes()).unwrap();
        assert!(index.set_tag(&tag("v1"), &a, |_| false));
        assert!(index.set_tag(&tag("v2"), &a, |_| false));
        assert_eq!(index.entries().len(), 2);
        let text = text(&index);
        assert!(text.contains(r#""k":"v""#) && text.contains(r#""x":1"#), "{text}");
    }

    #[test]
    fn manifest_name_annotation_does_not_name_its_entry() {
        let body =
            serde_json::json!({"subject": {}, "artifactType": "a/b", "annotations": {REF_NAME: "evil", "k": "v"}});
        let mut index = Index::empty();
        assert!(index.add(&image(&body.to_string())));
        assert!(!index.add(&image(&body.to_string())));
        let text = text(&index);
        assert!(
            !text.contains("evil") && text.contains(r#""k":"v""#) && text.contains(r#""artifactType":"a/b""#),
            "{text}"
        );
    }

    #[test]
    fn null_list_is_empty_and_other_shapes_fail() {
        assert!(Index::parse(br#"{"schemaVersion":2,"manifests":null}"#.to_vec()).unwrap().entries().is_empty());
        assert!(Index::parse(br#"{"schemaVersion":2}"#.to_vec()).unwrap().entries().is_empty());
        let error = |text: &str| Index::parse(text.as_bytes().to_vec()).unwrap_err().to_string();
        assert_eq!(error(r#"{"manifests":[],"manifests":[]}"#), "\"manifests\" occurs twice");
        let many = format!("{{\"manifests\":[{}0]}}", "0,".repeat(MAX_ENTRIES + 1));
        assert_eq!(error(&many), "it lists 400002 manifests, more than the maximum of 400000");
        assert_eq!(error(r#"{"manifests":{}}"#), "\"manifests\" is not a list");
        assert!(error("[]").contains("expected an object"), "{}", error("[]"));
        assert!(error("{\"manifests\":[").contains("at line 1"), "{}", error("{\"manifests\":["));
    }
}
