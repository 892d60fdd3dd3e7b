//! Tolerant JSON reader for manifests. The reader reads only the properties that a copy needs, and skips all other
//! properties. The rules are:
//!
//! - An absent or null list reads as empty.
//! - If a key occurs twice, its last value counts, as in Go.
//! - If a list, a descriptor or a digest has a wrong JSON type, the reader returns an error.
//! - If any other property has an unexpected JSON type, the property reads as absent or invalid.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Digest, Platform};

/// Properties of a manifest of any type.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) schema_version: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<RawDescriptor>,
    pub(super) layers: Option<Vec<RawDescriptor>>,
    /// Blobs of an artifact manifest.
    pub(super) blobs: Option<Vec<RawDescriptor>>,
    pub(super) manifests: Option<Vec<RawDescriptor>>,
    pub(super) subject: Option<RawDescriptor>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Properties of a descriptor.
#[derive(Debug)]
pub(super) struct RawDescriptor {
    pub(super) media_type: Option<String>,
    pub(super) digest: Digest,
    pub(super) size: RawSize,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// `None` if the descriptor has no platform, or a platform without the operating system or the architecture.
    pub(super) platform: Option<Platform>,
    pub(super) has_urls: bool,
}

/// Size that a descriptor states.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum RawSize {
    #[default]
    Absent,
    Bytes(u64),
    /// A value that is not a size, as text.
    Wrong(String),
}

impl Document {
    /// Parses the JSON of a manifest. Skips a leading byte order mark.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<Object<Self>>(without_mark(bytes)).map(|object| object.0)
    }

    /// Returns the manifest's `mediaType` property. `None` if the property is absent or empty.
    pub(super) fn stated_type(&self) -> Option<&str> {
        self.media_type.as_deref().filter(|text| !text.is_empty())
    }
}

/// Returns the bytes without a leading UTF-8 byte order mark, which some tools write.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// JSON object that is read key by key.
trait Fields: Sized {
    /// Values that were read so far.
    type Draft: Default;

    /// Reads the value of `key` into the draft. Skips an unknown key.
    fn read<'de, A: MapAccess<'de>>(draft: &mut Self::Draft, key: &str, map: &mut A) -> Result<(), A::Error>;

    /// Checks that the draft is complete and returns the object.
    fn finish<E: Error>(draft: Self::Draft) -> Result<Self, E>;
}

struct Object<T>(T);

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut draft = T::Draft::default();
        while let Some(key) = map.next_key::<String>()? {
            T::read(&mut draft, &key, &mut map)?;
        }
        T::finish(draft).map(Object)
    }
}

impl<'de, T: Fields> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl Fields for Document {
    type Draft = Self;

    fn read<'de, A: MapAccess<'de>>(draft: &mut Self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "schemaVersion" => draft.schema_version = map.next_value::<Loose<RawSize>>()?.0.bytes(),
            "mediaType" => draft.media_type = map.next_value::<Loose<Option<String>>>()?.0,
            "artifactType" => draft.artifact_type = map.next_value::<Loose<Option<String>>>()?.0,
            "config" => draft.config = map.next_value::<Option<Object<RawDescriptor>>>()?.map(|object| object.0),
            "layers" => draft.layers = map.next_value::<Option<Descriptors>>()?.map(|list| list.0),
            "blobs" => draft.blobs = map.next_value::<Option<Descriptors>>()?.map(|list| list.0),
            "manifests" => draft.manifests = map.next_value::<Option<Descriptors>>()?.map(|list| list.0),
            "subject" => draft.subject = map.next_value::<Option<Object<RawDescriptor>>>()?.map(|object| object.0),
            "annotations" => draft.annotations = map.next_value::<Loose<BTreeMap<String, String>>>()?.0,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }

    fn finish<E: Error>(draft: Self) -> Result<Self, E> {
        Ok(draft)
    }
}

#[derive(Default)]
struct DescriptorDraft {
    media_type: Option<String>,
    digest: Option<Digest>,
    size: RawSize,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
    has_urls: bool,
}

impl Fields for RawDescriptor {
    type Draft = DescriptorDraft;

    fn read<'de, A: MapAccess<'de>>(draft: &mut DescriptorDraft, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "mediaType" => draft.media_type = map.next_value::<Loose<Option<String>>>()?.0,
            "digest" => {
                let text: Option<String> = map.next_value()?;
                draft.digest = text.map(|text| text.parse()).transpose().map_err(A::Error::custom)?;
            }
            "size" => draft.size = map.next_value::<Loose<RawSize>>()?.0,
            "artifactType" => draft.artifact_type = map.next_value::<Loose<Option<String>>>()?.0,
            "annotations" => draft.annotations = map.next_value::<Loose<BTreeMap<String, String>>>()?.0,
            "platform" => draft.platform = map.next_value::<Loose<RawPlatform>>()?.0.platform(),
            "urls" => draft.has_urls = map.next_value::<Loose<RawUrls>>()?.0.0,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }

    fn finish<E: Error>(draft: DescriptorDraft) -> Result<Self, E> {
        let DescriptorDraft { media_type, digest, size, artifact_type, annotations, platform, has_urls } = draft;
        let digest = digest.ok_or_else(|| E::custom("a descriptor without a digest"))?;
        Ok(Self { media_type, digest, size, artifact_type, annotations, platform, has_urls })
    }
}

/// List of descriptors. The reader skips null items.
struct Descriptors(Vec<RawDescriptor>);

impl<'de> Deserialize<'de> for Descriptors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Descriptors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Descriptors, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Option<Object<RawDescriptor>>>()? {
                    list.extend(item.map(|object| object.0));
                }
                Ok(Descriptors(list))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// Value that can have any JSON type. A value of an unexpected type reads as absent.
struct Loose<T>(T);

/// JSON types that a [`Loose`] value accepts.
trait Forms: Default {
    fn text(_: &str) -> Self {
        Self::default()
    }

    fn integer(_: i128) -> Self {
        Self::default()
    }

    fn float(_: f64) -> Self {
        Self::default()
    }

    fn item<'de, A: SeqAccess<'de>>(&mut self, items: &mut A) -> Result<Option<()>, A::Error> {
        Ok(items.next_element::<IgnoredAny>()?.map(|_| ()))
    }

    fn property<'de, A: MapAccess<'de>>(&mut self, _key: String, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(|_| ())
    }
}

struct LooseVisitor<T>(PhantomData<T>);

impl<'de, T: Forms> Visitor<'de> for LooseVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Ok(T::integer(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Ok(T::integer(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Ok(T::float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while value.item(&mut items)?.is_some() {}
        Ok(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(key) = map.next_key::<String>()? {
            value.property(key, &mut map)?;
        }
        Ok(value)
    }
}

impl<'de, T: Forms> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData)).map(Self)
    }
}

impl Forms for Option<String> {
    fn text(text: &str) -> Self {
        Some(text.to_owned())
    }
}

impl Forms for BTreeMap<String, String> {
    fn property<'de, A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        if let Some(text) = map.next_value::<Loose<Option<String>>>()?.0 {
            self.insert(key, text);
        }
        Ok(())
    }
}

impl RawSize {
    fn bytes(self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Absent | Self::Wrong(_) => None,
        }
    }
}

impl Forms for RawSize {
    fn text(text: &str) -> Self {
        Self::Wrong(format!("{text:?}"))
    }

    fn integer(number: i128) -> Self {
        u64::try_from(number).map_or_else(|_| Self::Wrong(number.to_string()), Self::Bytes)
    }

    /// Accepts whole numbers with a decimal point: some languages write the number 2 as `2.0`.
    fn float(number: f64) -> Self {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && (0.0..EXACT).contains(&number) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the number is whole and in range"
            )]
            return Self::Bytes(number as u64);
        }
        Self::Wrong(number.to_string())
    }
}

/// Presence of at least one non-empty URL.
#[derive(Default)]
struct RawUrls(bool);

impl Forms for RawUrls {
    fn item<'de, A: SeqAccess<'de>>(&mut self, items: &mut A) -> Result<Option<()>, A::Error> {
        let Some(item) = items.next_element::<Loose<Option<String>>>()? else { return Ok(None) };
        self.0 |= item.0.is_some_and(|text| !text.is_empty());
        Ok(Some(()))
    }
}

#[derive(Default)]
struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    os_version: Option<String>,
}

impl Forms for RawPlatform {
    fn property<'de, A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let text = map.next_value::<Loose<Option<String>>>()?.0.filter(|text| !text.is_empty());
        match key.as_str() {
            "os" => self.os = text,
            "architecture" => self.architecture = text,
            "variant" => self.variant = text,
            "os.version" => self.os_version = text,
            _ => {}
        }
        Ok(())
    }
}

impl RawPlatform {
    fn platform(self) -> Option<Platform> {
        let Self { os, architecture, variant, os_version } = self;
        Some(Platform { os: os?, architecture: architecture?, variant, os_version })
    }
}
