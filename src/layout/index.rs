//! `index.json` as text and as a list of entries: pure, without a file.
//!
//! Other tools keep things here that nobody here knows of. So an entry is carried as the bytes it was read as and is only
//! rewritten when its own name changes; all else of the document keeps its bytes.
//!
//! The file is foreign and may be of any shape. It is read as a stream, in one text that entries point into, and of an entry only
//! the few values that are needed are kept: the memory is a small multiple of the file's length.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::oci::{Digest, Manifest, MediaType, Tag};

/// The annotation that names an entry (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The most entries that are read: more than a file of the allowed length has, unless they say next to nothing.
const MAX_ENTRIES: usize = 400_000;
/// The most bytes of one entry that are looked into.
const MAX_ENTRY: usize = 1 << 20;

/// The document of `index.json`.
#[derive(Debug)]
pub(super) struct Index {
    text: String,
    /// Where the value of `manifests` is in the text.
    list: Option<Range<usize>>,
    /// How many keys the document has.
    keys: usize,
    entries: Vec<Entry>,
    /// The places of all entries with a name, by name; made when a name is looked for.
    by_name: OnceLock<Vec<u32>>,
}

/// One descriptor of the list, with what could be understood of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    raw: Raw,
    /// The value of the name annotation, whatever its grammar.
    pub(super) name: Option<Box<str>>,
    /// What it points at; `None` where that cannot be understood.
    pub(super) target: Option<Pointer>,
}

/// The JSON of an entry.
#[derive(Debug, Clone)]
enum Raw {
    /// As it was read: a part of the document's text.
    Read(Range<u32>),
    /// As it was made or changed here.
    Made(Box<RawValue>),
}

/// What an entry points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) media_type: MediaType,
    pub(super) digest: Digest,
    /// In bytes; `None` where the entry does not say.
    pub(super) size: Option<u64>,
}

/// What the entries of one name point at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named<'i> {
    /// No entry has the name.
    Nothing,
    /// All entries of the name point at this.
    One(&'i Pointer),
    /// They point at several digests, each with what tells it apart; none of them is the one that is meant.
    Several(Vec<(Digest, String)>),
    /// None of them says what it points at.
    Unknown,
}

/// Why a text is no `index.json`.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("\"manifests\" is not a list")]
    NotAList,
    #[error("\"manifests\" is there twice")]
    Twice,
    #[error("it lists {0} manifests, and at most {MAX_ENTRIES} are read")]
    TooMany(usize),
    #[error("it is not UTF-8 text")]
    NotText,
}

impl Index {
    /// The document of a new layout.
    pub(super) fn empty() -> Self {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
        Self::parse(text.into_bytes()).expect("the text is an index")
    }

    /// Reads a document of less than 4 GiB. A list that is missing or `null` (as Go writes an empty one) is an empty list.
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

    /// The document with its entries as they are now.
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

    /// The entries in their order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a tag stands for.
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
        self.judge(same.map(|at| &self.entries[*at as usize]))
    }

    /// Every name once, in the order of the list, with what it stands for.
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
        names.into_iter().map(|(name, entries)| (name, self.judge(entries.into_iter()))).collect()
    }

    /// What entries of one name stand for together. Docker names the images of `a:latest` and `b:latest` alike.
    fn judge<'i>(&'i self, entries: impl Iterator<Item = &'i Entry> + Clone) -> Named<'i> {
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

    /// The media type that an entry states for a digest.
    pub(super) fn media_type_of(&self, digest: &Digest) -> Option<&MediaType> {
        self.entries
            .iter()
            .filter_map(|entry| entry.target.as_ref())
            .find(|at| at.digest == *digest)
            .map(|at| &at.media_type)
    }

    /// Lets `tag` stand for `manifest`, and says whether anything changed. An entry that loses the name goes, unless
    /// `stays` says that its content is to be found without one.
    pub(super) fn set_tag(&mut self, tag: &Tag, manifest: &Manifest, stays: impl Fn(&Digest) -> bool) -> bool {
        let wanted = Pointer::to(manifest);
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

    /// Lists a manifest without a name, unless it is listed already, and says whether anything changed.
    pub(super) fn add(&mut self, manifest: &Manifest) -> bool {
        if self.media_type_of(&manifest.digest()).is_some() {
            return false;
        }
        // An entry without a name, at the end: the places of the others stay.
        self.entries.push(Entry::new(manifest));
        true
    }

    /// Takes a tag away, and says whether it was there. For `stays` see [`Index::set_tag`].
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

    /// Takes all entries of a digest away, and says whether there were any.
    pub(super) fn remove_digest(&mut self, digest: &Digest) -> bool {
        let before = self.entries.len();
        self.by_name.take();
        self.entries.retain(|entry| entry.target.as_ref().is_none_or(|at| at.digest != *digest));
        self.entries.len() != before
    }
}

impl Pointer {
    /// What points at this manifest.
    pub(super) fn to(manifest: &Manifest) -> Self {
        let size = Some(manifest.bytes().len() as u64);
        Self { media_type: manifest.media_type().clone(), digest: manifest.digest(), size }
    }
}

/// The values of an entry that are read.
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

/// The annotations of an entry that are read.
#[derive(serde::Deserialize)]
struct Annotations<'t> {
    #[serde(borrow, rename = "org.opencontainers.image.ref.name")]
    name: Option<&'t RawValue>,
    /// containerd's and docker's whole reference of the image.
    #[serde(borrow, rename = "io.containerd.image.name")]
    image: Option<&'t RawValue>,
}

/// The platform of an entry.
#[derive(serde::Deserialize)]
struct OfPlatform<'t> {
    #[serde(borrow)]
    os: Option<&'t RawValue>,
    #[serde(borrow)]
    architecture: Option<&'t RawValue>,
}

/// A value that is text; `None` for any other.
fn text_of(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

impl Entry {
    /// Reads one entry; `before` is the media type of the one before, which most share.
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

    /// The JSON, of a document of this text.
    fn json<'e>(&'e self, text: &'e str) -> &'e str {
        match &self.raw {
            Raw::Read(place) => &text[place.start as usize..place.end as usize],
            Raw::Made(raw) => raw.get(),
        }
    }

    /// What tells it apart from others of its name: its whole reference, else its platform; else nothing.
    fn distinction(&self, text: &str) -> String {
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(self.json(text)) else { return String::new() };
        let annotations: Option<Annotations<'_>> =
            fields.annotations.and_then(|annotations| serde_json::from_str(annotations.get()).ok());
        if let Some(image) = annotations.and_then(|annotations| text_of(annotations.image)) {
            return image;
        }
        let platform: Option<OfPlatform<'_>> =
            fields.platform.and_then(|platform| serde_json::from_str(platform.get()).ok());
        let words = platform.map(|of| [text_of(of.os), text_of(of.architecture)]).unwrap_or_default();
        words.into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    /// A nameless entry of a manifest, with what the manifest says of itself where it is a referrer, so that
    /// it can be picked by kind without being read.
    fn new(manifest: &Manifest) -> Self {
        let target = Pointer::to(manifest);
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
        // A manifest's own annotations may hold a name; only a tag names an entry.
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

/// Where a part of a text is in it.
fn place_in(text: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + part.get().len()
}

/// The entries of a list within a text.
fn read_list(text: &str, list: &RawValue) -> Result<Vec<Entry>, IndexError> {
    if !list.get().starts_with('[') {
        return Err(IndexError::NotAList);
    }
    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    deserializer.deserialize_seq(Entries { text })?.map_err(IndexError::TooMany)
}

/// Reads the entries of a text one by one; their number where there are too many.
struct Entries<'t> {
    text: &'t str,
}

impl<'t> Visitor<'t> for Entries<'t> {
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
            // A text of 4 GiB is not read.
            let place = u32::try_from(place.start).unwrap_or_default()..u32::try_from(place.end).unwrap_or_default();
            entries.push(Entry::read(raw.get(), Raw::Read(place), &mut before));
        }
        Ok(Ok(entries))
    }
}

/// The keys of the document counted, and the first value of `manifests`.
struct Outline<'t> {
    keys: usize,
    lists: usize,
    first: Option<&'t RawValue>,
}

impl<'de> serde::Deserialize<'de> for Outline<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfOutline)
    }
}

struct OfOutline;

impl<'de> Visitor<'de> for OfOutline {
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
    fn what_others_wrote_keeps_its_bytes_when_a_tag_is_added() {
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
    fn a_name_of_two_digests_stands_for_neither_until_it_moves() {
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
        assert_eq!(index.find(&tag("v1")), Named::One(&Pointer::to(&c)));
        assert!(!index.set_tag(&tag("v1"), &c, |_| false), "nothing to change");
        assert_eq!(index.find(&tag("v2")), Named::Nothing);
    }

    #[test]
    fn entries_of_one_name_and_one_digest_are_one() {
        let a = image("a");
        let list = format!(r#"{{"manifests":[{},{}]}}"#, named(&a, "v1"), named(&a, "v1"));
        let index = Index::parse(list.into_bytes()).unwrap();
        assert_eq!(index.find(&tag("v1")), Named::One(&Pointer::to(&a)));
    }

    #[test]
    fn platforms_under_one_name_are_told_apart_by_their_platform() {
        let of = |image: &Manifest, architecture: &str| {
            let platform = format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#);
            entry(image, &format!(r#"{platform},"annotations":{{"{REF_NAME}":"v1"}}"#))
        };
        let list = format!(r#"{{"manifests":[{},{}]}}"#, of(&image("a"), "amd64"), of(&image("b"), "arm64"));
        let index = Index::parse(list.into_bytes()).unwrap();
        let Named::Several(several) = index.find(&tag("v1")) else { panic!() };
        assert_eq!(
            several.iter().map(|(_, platform)| platform.as_str()).collect::<Vec<_>>(),
            ["linux/amd64", "linux/arm64"]
        );
    }

    #[test]
    fn an_entry_without_size_is_understood_and_one_without_digest_is_not() {
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
    fn a_document_without_a_list_gets_one_where_it_ends() {
        for (text, expected) in [("{} ", "{\"manifests\":["), ("{\"a\":1}\n", "{\"a\":1,\"manifests\":[")] {
            let mut index = Index::parse(text.as_bytes().to_vec()).unwrap();
            assert!(index.add(&image("a")));
            let written = index.render();
            assert!(String::from_utf8_lossy(&written).starts_with(expected), "{}", String::from_utf8_lossy(&written));
            assert_eq!(Index::parse(written).unwrap().entries().len(), 1);
        }
    }

    #[test]
    fn an_entry_that_loses_its_name_stays_only_where_it_is_to_be_found_without() {
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
    fn a_nameless_entry_takes_the_name_and_keeps_what_else_it_says() {
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
    fn a_manifests_own_name_annotation_names_no_entry() {
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
    fn a_list_that_go_wrote_as_null_is_empty_and_any_other_shape_is_told() {
        assert!(Index::parse(br#"{"schemaVersion":2,"manifests":null}"#.to_vec()).unwrap().entries().is_empty());
        assert!(Index::parse(br#"{"schemaVersion":2}"#.to_vec()).unwrap().entries().is_empty());
        let told = |text: &str| Index::parse(text.as_bytes().to_vec()).unwrap_err().to_string();
        assert_eq!(told(r#"{"manifests":[],"manifests":[]}"#), "\"manifests\" is there twice");
        let many = format!("{{\"manifests\":[{}0]}}", "0,".repeat(MAX_ENTRIES + 1));
        assert_eq!(told(&many), "it lists 400002 manifests, and at most 400000 are read");
        assert_eq!(told(r#"{"manifests":{}}"#), "\"manifests\" is not a list");
        assert!(told("[]").contains("expected an object"), "{}", told("[]"));
        assert!(told("{\"manifests\":[").contains("at line 1"), "{}", told("{\"manifests\":["));
    }
}
