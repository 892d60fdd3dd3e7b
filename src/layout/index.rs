//! `index.json` as text and as a list of entries: pure, without a file.
//!
//! Other tools keep things here that nobody here knows of. So an entry is carried as the bytes it was read as and is only
//! rewritten when its own name changes; unknown keys of the document keep their bytes and their order.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::oci::{Digest, Manifest, MediaType, Tag};

/// The annotation that names an entry (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The document of `index.json`.
#[derive(Debug)]
pub(super) struct Index {
    document: Document,
    entries: Vec<Entry>,
}

/// One descriptor of the list, with what could be understood of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    raw: Box<RawValue>,
    /// The value of the name annotation, whatever its grammar.
    pub(super) name: Option<String>,
    /// What it points at; `None` where that cannot be understood.
    pub(super) target: Option<Pointer>,
}

/// What an entry points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) media_type: MediaType,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Why a text is no `index.json`.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("\"manifests\" is not a list")]
    NotAList,
}

impl Index {
    /// The document of a new layout.
    pub(super) fn empty() -> Self {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
        Self::parse(text.as_bytes()).expect("the text is an index")
    }

    /// Reads a document. A list that is missing or `null` (as Go writes an empty one) is an empty list.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let document: Document = serde_json::from_slice(bytes)?;
        let list = document.0.iter().find(|(key, _)| key == "manifests");
        let raw: Option<Vec<Box<RawValue>>> =
            list.map_or(Ok(None), |(_, list)| serde_json::from_str(list.get())).map_err(|_| IndexError::NotAList)?;
        let entries = raw.unwrap_or_default().into_iter().map(Entry::read).collect();
        Ok(Self { document, entries })
    }

    /// The document with its entries as they are now.
    pub(super) fn render(mut self) -> Result<Vec<u8>, serde_json::Error> {
        let list: Vec<Box<RawValue>> = self.entries.into_iter().map(|entry| entry.raw).collect();
        let list = to_raw_value(&list)?;
        match self.document.0.iter_mut().find(|(key, _)| key == "manifests") {
            Some((_, old)) => *old = list,
            None => self.document.0.push(("manifests".to_owned(), list)),
        }
        serde_json::to_vec(&self.document)
    }

    /// The entries in their order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a tag stands for. Of several entries with one name the first counts, as it does for skopeo.
    pub(super) fn find(&self, tag: &Tag) -> Option<&Pointer> {
        self.entries.iter().filter(|entry| entry.is_named(tag)).find_map(|entry| entry.target.as_ref())
    }

    /// Every name once, in the order of the list, with what [`Index::find`] finds for it.
    pub(super) fn names(&self) -> Vec<(&str, Option<&Pointer>)> {
        let mut names: Vec<(&str, Option<&Pointer>)> = Vec::new();
        let mut places = HashMap::new();
        for entry in &self.entries {
            let Some(name) = entry.name.as_deref() else { continue };
            let place = *places.entry(name).or_insert_with(|| {
                names.push((name, None));
                names.len() - 1
            });
            names[place].1 = names[place].1.or(entry.target.as_ref());
        }
        names
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
        let mut named = self.entries.iter().filter(|entry| entry.is_named(tag));
        if named.next().is_some_and(|entry| entry.target.as_ref() == Some(&wanted)) && named.next().is_none() {
            return false;
        }
        self.remove_tag(tag, stays);
        let nameless = |entry: &&mut Entry| entry.name.is_none() && entry.target.as_ref() == Some(&wanted);
        match self.entries.iter_mut().find(nameless) {
            Some(entry) => entry.rename(Some(tag)),
            None => {
                let mut entry = Entry::new(manifest);
                entry.rename(Some(tag));
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
        self.entries.push(Entry::new(manifest));
        true
    }

    /// Takes a tag away, and says whether it was there. For `stays` see [`Index::set_tag`].
    pub(super) fn remove_tag(&mut self, tag: &Tag, stays: impl Fn(&Digest) -> bool) -> bool {
        let mut found = false;
        self.entries.retain_mut(|entry| {
            if !entry.is_named(tag) {
                return true;
            }
            found = true;
            let keep = entry.target.as_ref().is_some_and(|at| stays(&at.digest));
            if keep {
                entry.rename(None);
            }
            keep
        });
        found
    }

    /// Takes all entries of a digest away, and says whether there were any.
    pub(super) fn remove_digest(&mut self, digest: &Digest) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.target.as_ref().is_none_or(|at| at.digest != *digest));
        self.entries.len() != before
    }
}

impl Pointer {
    /// What points at this manifest.
    pub(super) fn to(manifest: &Manifest) -> Self {
        let size = manifest.bytes().len() as u64;
        Self { media_type: manifest.media_type().clone(), digest: manifest.digest(), size }
    }
}

impl Entry {
    fn read(raw: Box<RawValue>) -> Self {
        let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        let name = value["annotations"][REF_NAME].as_str().map(str::to_owned);
        let target = value["digest"].as_str().and_then(|text| text.parse().ok()).and_then(|digest| {
            let media_type = MediaType::new(value["mediaType"].as_str().unwrap_or_default());
            Some(Pointer { media_type, digest, size: value["size"].as_u64()? })
        });
        Self { raw, name, target }
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
        let raw = to_raw_value(&value).expect("a JSON value is JSON");
        Self { raw, name: None, target: Some(target) }
    }

    fn is_named(&self, tag: &Tag) -> bool {
        self.name.as_deref() == Some(tag.as_str())
    }

    fn rename(&mut self, tag: Option<&Tag>) {
        let mut value: Value = serde_json::from_str(self.raw.get()).unwrap_or_default();
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
        self.raw = to_raw_value(&value).expect("a JSON value is JSON");
        self.name = tag.map(Tag::to_string);
    }
}

/// A JSON object whose keys keep their order and whose values keep their bytes.
#[derive(Debug)]
struct Document(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Document(fields))
    }
}

impl serde::Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
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

    fn text(index: Index) -> String {
        String::from_utf8(index.render().unwrap()).unwrap()
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
                .as_bytes(),
        )
        .unwrap();
        assert!(index.set_tag(&tag("v1"), &image("b"), |_| false));
        let text = text(index);
        assert!(text.starts_with(r#"{"zeta":[1,  2],"schemaVersion":2,"manifests":["#), "{text}");
        assert!(text.ends_with(r#"],"annotations":{}}"#), "{text}");
        for piece in theirs.split(",  7") {
            assert!(text.contains(piece), "{piece} in {text}");
        }
        assert!(text.contains(",7,"), "{text}");
    }

    #[test]
    fn of_two_entries_with_one_name_the_first_counts_and_a_move_leaves_one() {
        let (a, b, c) = (image("a"), image("b"), image("c"));
        let list = format!(r#"{{"manifests":[{},{}]}}"#, named(&a, "v1"), named(&b, "v1"));
        let mut index = Index::parse(list.as_bytes()).unwrap();
        assert_eq!(index.find(&tag("v1")).unwrap().digest, a.digest());
        assert!(index.set_tag(&tag("v1"), &c, |_| false));
        assert_eq!(index.entries().len(), 1);
        assert_eq!(index.find(&tag("v1")).unwrap().digest, c.digest());
        assert!(!index.set_tag(&tag("v1"), &c, |_| false), "nothing to change");
    }

    #[test]
    fn an_entry_that_loses_its_name_stays_only_where_it_is_to_be_found_without() {
        let (a, b) = (image("a"), image("b"));
        let list = format!(r#"{{"manifests":[{},{}]}}"#, named(&a, "v1"), named(&b, "v2"));
        let mut index = Index::parse(list.as_bytes()).unwrap();
        assert!(index.remove_tag(&tag("v1"), |digest| *digest == a.digest()));
        assert!(index.remove_tag(&tag("v2"), |digest| *digest == a.digest()));
        assert!(!index.remove_tag(&tag("v2"), |_| true));
        assert_eq!(index.entries().len(), 1);
        assert_eq!(index.entries()[0].name, None);
        assert!(!text(index).contains("annotations"));
    }

    #[test]
    fn a_nameless_entry_takes_the_name_and_keeps_what_else_it_says() {
        let a = image("a");
        let list = format!(r#"{{"manifests":[{}]}}"#, entry(&a, r#","annotations":{"k":"v"},"x":1"#));
        let mut index = Index::parse(list.as_bytes()).unwrap();
        assert!(index.set_tag(&tag("v1"), &a, |_| false));
        assert!(index.set_tag(&tag("v2"), &a, |_| false));
        assert_eq!(index.entries().len(), 2);
        let text = text(index);
        assert!(text.contains(r#""k":"v""#) && text.contains(r#""x":1"#), "{text}");
    }

    #[test]
    fn a_manifests_own_name_annotation_names_no_entry() {
        let body =
            serde_json::json!({"subject": {}, "artifactType": "a/b", "annotations": {REF_NAME: "evil", "k": "v"}});
        let mut index = Index::empty();
        assert!(index.add(&image(&body.to_string())));
        assert!(!index.add(&image(&body.to_string())));
        let text = text(index);
        assert!(
            !text.contains("evil") && text.contains(r#""k":"v""#) && text.contains(r#""artifactType":"a/b""#),
            "{text}"
        );
    }

    #[test]
    fn a_list_that_go_wrote_as_null_is_empty_and_any_other_shape_is_told() {
        assert!(Index::parse(br#"{"schemaVersion":2,"manifests":null}"#).unwrap().entries().is_empty());
        assert!(Index::parse(br#"{"schemaVersion":2}"#).unwrap().entries().is_empty());
        let told = |text: &str| Index::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(told(r#"{"manifests":{}}"#), "\"manifests\" is not a list");
        assert!(told("[]").contains("expected an object"), "{}", told("[]"));
        assert!(told("{\"manifests\":[").contains("at line 1"), "{}", told("{\"manifests\":["));
    }
}
