//! Entries of `index.json`. An entry is one descriptor.

use std::ops::Range;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::oci::{Digest, Manifest, MediaType, Tag};

/// Annotation that names an entry (image-spec, "Pre-Defined Annotation Keys").
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Maximum size of an entry that the parser reads, in bytes.
const MAX_ENTRY: usize = 1 << 20;

/// One descriptor of the list, with the values that the parser could read.
#[derive(Debug, Clone)]
pub(in crate::layout) struct Entry {
    raw: EntryText,
    /// Value of the name annotation. The value can be an invalid tag.
    pub(in crate::layout) name: Option<Box<str>>,
    /// Content that the entry points at; `None` if the parser cannot read the entry.
    pub(in crate::layout) target: Option<Pointer>,
}

/// JSON of an entry.
#[derive(Debug, Clone)]
pub(super) enum EntryText {
    /// Unchanged: a part of the document's text.
    Read(Range<u32>),
    /// Created or changed by transship.
    Made(Box<RawValue>),
}

/// Content that an entry points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layout) struct Pointer {
    pub(in crate::layout) media_type: MediaType,
    pub(in crate::layout) digest: Digest,
    /// Size in bytes; `None` if the entry states no size.
    pub(in crate::layout) size: Option<u64>,
}

impl Pointer {
    pub(in crate::layout) fn from_manifest(manifest: &Manifest) -> Self {
        let size = Some(manifest.bytes().len() as u64);
        Self { media_type: manifest.media_type().clone(), digest: manifest.digest(), size }
    }
}

/// Fields of an entry that the parser reads.
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

/// Annotations of an entry that the parser reads.
#[derive(serde::Deserialize)]
struct Annotations<'t> {
    #[serde(borrow, rename = "org.opencontainers.image.ref.name")]
    name: Option<&'t RawValue>,
    /// Full reference of the image, which containerd and Docker write.
    #[serde(borrow, rename = "io.containerd.image.name")]
    image: Option<&'t RawValue>,
}

#[derive(serde::Deserialize)]
struct PlatformFields<'t> {
    #[serde(borrow)]
    os: Option<&'t RawValue>,
    #[serde(borrow)]
    architecture: Option<&'t RawValue>,
}

/// Parses a JSON string; `None` for any other JSON value.
fn parse_string(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

impl Entry {
    /// Parses one entry. `previous` is the media type of the previous entry: entries with the same media type share one
    /// allocation.
    pub(super) fn read(json: &str, raw: EntryText, previous: &mut Option<MediaType>) -> Self {
        let unparsed = |raw| Self { raw, name: None, target: None };
        if json.len() > MAX_ENTRY {
            return unparsed(raw);
        }
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(json) else { return unparsed(raw) };
        let annotations: Option<Annotations<'_>> =
            fields.annotations.and_then(|annotations| serde_json::from_str(annotations.get()).ok());
        let name = annotations.and_then(|annotations| parse_string(annotations.name)).map(String::into_boxed_str);
        let digest = parse_string(fields.digest).and_then(|text| text.parse().ok());
        let target = digest.map(|digest| {
            let media_type = MediaType::new(&parse_string(fields.media_type).unwrap_or_default());
            if previous.as_ref() != Some(&media_type) {
                *previous = Some(media_type.clone());
            }
            let media_type = previous.clone().unwrap_or(media_type);
            let size = fields.size.and_then(|size| serde_json::from_str(size.get()).ok());
            Pointer { media_type, digest, size }
        });
        Self { raw, name, target }
    }

    /// Returns the JSON of the entry; `text` is the document's text.
    pub(super) fn json<'e>(&'e self, text: &'e str) -> &'e str {
        match &self.raw {
            EntryText::Read(range) => &text[range.start as usize..range.end as usize],
            EntryText::Made(raw) => raw.get(),
        }
    }

    /// Returns a text that distinguishes the entry from other entries of the same name: the full reference, or else the
    /// platform. If the entry has no reference and no platform, the text is empty.
    pub(super) fn distinction(&self, text: &str) -> String {
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(self.json(text)) else { return String::new() };
        let annotations: Option<Annotations<'_>> =
            fields.annotations.and_then(|annotations| serde_json::from_str(annotations.get()).ok());
        if let Some(image) = annotations.and_then(|annotations| parse_string(annotations.image)) {
            return image;
        }
        let platform: Option<PlatformFields<'_>> =
            fields.platform.and_then(|platform| serde_json::from_str(platform.get()).ok());
        let words = platform
            .map(|platform| [parse_string(platform.os), parse_string(platform.architecture)])
            .unwrap_or_default();
        words.into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    /// Creates an entry of a manifest, without a name. The entry of a referrer repeats the artifact type and the
    /// annotations of the manifest. So readers of the list can select referrers by type.
    pub(super) fn new(manifest: &Manifest) -> Self {
        let target = Pointer::from_manifest(manifest);
        let mut value = serde_json::json!({
            "mediaType": target.media_type, "digest": target.digest, "size": target.size,
        });
        let body: Value = serde_json::from_slice(manifest.bytes()).unwrap_or_default();
        if body["subject"].is_object() {
            for key in ["artifactType", "annotations"] {
                if let Some(value_of_key) = body.get(key) {
                    value[key] = value_of_key.clone();
                }
            }
        } else if let Some(value_of_key) = body.get("artifactType") {
            value["artifactType"] = value_of_key.clone();
        }
        // If the manifest's own annotations contain a name, this name must not become the name of the entry.
        if let Some(annotations) = value.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(REF_NAME);
        }
        let raw = EntryText::Made(to_raw_value(&value).expect("a JSON value is JSON"));
        Self { raw, name: None, target: Some(target) }
    }

    pub(super) fn is_named(&self, tag: &Tag) -> bool {
        self.name.as_deref() == Some(tag.as_str())
    }

    pub(super) fn rename(&mut self, text: &str, tag: Option<&Tag>) {
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
        self.raw = EntryText::Made(to_raw_value(&value).expect("a JSON value is JSON"));
        self.name = tag.map(|tag| tag.as_str().into());
    }
}
