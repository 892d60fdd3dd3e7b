//! Parser of a list of referrers. The list comes from the referrers API or from the fallback tag. The parser reads only
//! the descriptors, and ignores all annotations.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};

use crate::oci::{Descriptor, MediaType};

/// Maximum number of referrers of one manifest.
pub(crate) const MAX_REFERRERS: usize = 10_000;

/// Parsed list of referrers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReferrerList {
    pub(crate) manifests: Vec<Descriptor>,
    /// Number of entries without a readable digest.
    pub(crate) unreadable: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema_version: Option<IgnoredAny>,
    manifests: Option<ReferrerList>,
    /// This field and the next three fields are in images and artifacts, but not in a list.
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    blobs: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl ReferrerList {
    /// Parses a list. If `manifests` is missing or `null`, and the content is an index, the list is empty. Programs in
    /// Go write an empty list as `null`.
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(json).map_err(|error| format!("the list cannot be read: {error}"))?;
        match body {
            Body { manifests: Some(list), .. } => Ok(list),
            Body { schema_version: Some(_), config: None, layers: None, blobs: None, fs_layers: None, .. } => {
                Ok(Self::default())
            }
            _ => Err("the content is not a list of referrers".to_owned()),
        }
    }

    /// Returns the reason why the list may be incomplete; `None` if the list is complete.
    pub(crate) fn doubt(&self) -> Option<String> {
        (self.unreadable > 0).then(|| format!("{} entries of the list have no readable digest", self.unreadable))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    media_type: Option<String>,
    /// Size that the list states. If the number is not a valid size, the descriptor has the size 0.
    #[serde(default)]
    size: Option<serde_json::Number>,
    #[serde(default)]
    artifact_type: Option<String>,
}

impl Entry {
    fn into_descriptor(self) -> Option<Descriptor> {
        let digest = self.digest?.parse().ok()?;
        let media_type = self.media_type.filter(|text| !text.is_empty());
        let media_type = MediaType::new(media_type.as_deref().unwrap_or(MediaType::OCI_MANIFEST));
        let size = self.size.and_then(|size| size.as_u64()).unwrap_or_default();
        Some(Descriptor {
            artifact_type: self.artifact_type,
            annotations: BTreeMap::new(),
            ..Descriptor::new(media_type, digest, size)
        })
    }
}

impl<'de> Deserialize<'de> for ReferrerList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = ReferrerList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<ReferrerList, A::Error> {
                let mut list = ReferrerList::default();
                while let Some(entry) = entries.next_element::<Entry>()? {
                    match entry.into_descriptor() {
                        Some(descriptor) => list.manifests.push(descriptor),
                        None => list.unreadable += 1,
                    }
                    if list.manifests.len() + list.unreadable > MAX_REFERRERS {
                        return Err(A::Error::custom(format!("more than {MAX_REFERRERS} referrers")));
                    }
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn read(json: &str) -> Result<ReferrerList, String> {
        ReferrerList::read(json.as_bytes())
    }

    #[test]
    fn empty_list_may_be_null_or_missing() {
        for json in [r#"{"schemaVersion":2,"manifests":null}"#, r#"{"manifests":[]}"#, r#"{"schemaVersion":2}"#] {
            assert_eq!(read(json).unwrap(), ReferrerList::default(), "{json}");
        }
    }

    #[test]
    fn content_that_is_no_list_is_never_an_empty_list() {
        for json in [
            "",
            "{}",
            "[]",
            "<html>",
            r#"{"errors":[]}"#,
            r#"{"schemaVersion":2,"manifests":[{"#,
            "null",
            r#"{"schemaVersion":2,"layers":[]}"#,
            r#"{"schemaVersion":2,"config":{"size":1}}"#,
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn entry_without_a_digest_makes_the_list_doubtful() {
        let digest = Digest::of(b"x");
        let list = read(&format!(
            r#"{{"manifests":[{{"digest":"{digest}","size":-1,"annotations":{{"n":1}}}},
                {{"size":3}},{{"digest":"md5:1"}}]}}"#
        ));
        let list = list.unwrap();
        assert_eq!((list.manifests.len(), list.manifests[0].digest), (1, digest));
        assert_eq!(list.manifests[0].media_type.as_str(), MediaType::OCI_MANIFEST);
        assert_eq!(list.doubt().unwrap(), "2 entries of the list have no readable digest");
    }

    #[test]
    fn ten_thousand_referrers_are_read_and_one_more_is_refused() {
        let list = |count: usize| {
            let entry = format!(r#"{{"digest":"{}"}}"#, Digest::of(b"x"));
            read(&format!(r#"{{"manifests":[{}]}}"#, vec![entry; count].join(",")))
        };
        assert_eq!(list(MAX_REFERRERS).unwrap().manifests.len(), 10_000);
        let error = list(MAX_REFERRERS + 1).unwrap_err();
        assert!(error.starts_with("the list cannot be read: more than 10000 referrers"), "{error}");
    }
}
