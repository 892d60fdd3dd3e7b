//! Derivation of an index that lists only the wanted platforms. The derived index is new content with its own digest.

use serde_json::Value;

use super::{Children, Manifest, ManifestError, Platform};

/// Annotation of a BuildKit attestation. Its value is the digest of the image that the attestation describes.
const ATTESTATION_OF: &str = "vnd.docker.reference.digest";

/// Annotation of a SOCI index (soci-snapshotter, "SOCI Index Manifest v2"). Its value is the digest of the indexed
/// image.
const SOCI_INDEX_OF: &str = "com.amazon.soci.image-manifest-digest";

/// Result of [`derive_index`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivedIndex {
    /// No child was removed: the manifest keeps its bytes and its digest.
    Unchanged,
    /// Some children were removed. The value is the new index. The same input always gives the same bytes.
    Derived(Manifest),
    /// No child runs on a wanted platform.
    NoneWanted {
        /// The platforms of the children, each once, in the order of the index.
        available: Vec<Platform>,
    },
}

/// Removes the children of an index that run on none of `platforms`. The order of the children and all other properties
/// do not change.
///
/// - A child without a platform stays.
/// - A BuildKit attestation and a SOCI index stay if their image stays.
///
/// An image manifest and an index without children are [`DerivedIndex::Unchanged`].
///
/// # Errors
/// [`ManifestError`] if [`Manifest::view`] fails, or if the list of manifests is malformed.
pub fn derive_index(manifest: &Manifest, platforms: &[Platform]) -> Result<DerivedIndex, ManifestError> {
    if !manifest.media_type().is_index() {
        return Ok(DerivedIndex::Unchanged);
    }
    let view = manifest.view()?;
    let malformed = |reason: String| ManifestError::Malformed { media_type: manifest.media_type().clone(), reason };
    let Children::Manifests(children) = &view.children else { return Ok(DerivedIndex::Unchanged) };
    let mut json: Value = serde_json::from_slice(manifest.json()).map_err(|error| malformed(error.to_string()))?;
    let entries = json["manifests"].as_array().cloned().unwrap_or_default();
    // `Manifest::view` also skips null entries. So `entries` and `children` have the same order.
    let entries: Vec<Value> = entries.into_iter().filter(|entry| !entry.is_null()).collect();
    if entries.is_empty() {
        return Ok(DerivedIndex::Unchanged);
    }
    if entries.len() != children.len() {
        return Err(malformed("the list of manifests is ambiguous".to_owned()));
    }

    let runs_on_wanted = |at: usize| match &children[at].platform {
        _ if accompanied_image(&entries[at]).is_some() => false,
        Some(platform) => platforms.iter().any(|wanted| platform.is_wanted_by(wanted)),
        None => true,
    };
    let images: Vec<bool> = (0..entries.len()).map(runs_on_wanted).collect();
    let kept_image = |digest: &str| (0..entries.len()).any(|at| images[at] && entries[at]["digest"] == digest);
    let stays = |at: usize| images[at] || accompanied_image(&entries[at]).is_some_and(kept_image);

    let kept: Vec<Value> = (0..entries.len()).filter(|at| stays(*at)).map(|at| entries[at].clone()).collect();
    if !images.contains(&true) {
        let images = (0..entries.len()).filter(|at| accompanied_image(&entries[*at]).is_none());
        let mut available: Vec<Platform> = Vec::new();
        for platform in images.filter_map(|at| children[at].platform.as_ref()) {
            if !available.contains(platform) {
                available.push(platform.clone());
            }
        }
        return Ok(DerivedIndex::NoneWanted { available });
    }
    if kept.len() == entries.len() {
        return Ok(DerivedIndex::Unchanged);
    }
    json["manifests"] = Value::Array(kept);
    Ok(DerivedIndex::Derived(Manifest::new(manifest.media_type().clone(), json.to_string().into())))
}

/// If the entry is an attestation or a SOCI index, returns the digest of its image. Otherwise returns `None`.
fn accompanied_image(entry: &Value) -> Option<&str> {
    let annotations = &entry["annotations"];
    annotations[ATTESTATION_OF].as_str().or_else(|| annotations[SOCI_INDEX_OF].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};

    fn child(os: &str, architecture: &str, content: &str) -> Value {
        serde_json::json!({
            "mediaType": MediaType::OCI_MANIFEST, "digest": Digest::of(content.as_bytes()).to_string(), "size": 1,
            "platform": {"os": os, "architecture": architecture}, "x-unknown": 1,
        })
    }

    fn index(children: &[Value]) -> Manifest {
        let json = serde_json::json!({"schemaVersion": 2, "manifests": children, "annotations": {"a": "b"}});
        Manifest::new(MediaType::new(MediaType::OCI_INDEX), json.to_string().into())
    }

    fn wanted(text: &str) -> Vec<Platform> {
        vec![text.parse().unwrap()]
    }

    #[test]
    fn derived_index_keeps_properties_and_is_deterministic() {
        let whole = index(&[child("linux", "amd64", "a"), child("linux", "arm64", "b")]);
        let DerivedIndex::Derived(derived) = derive_index(&whole, &wanted("linux/arm64")).unwrap() else { panic!() };
        let json: Value = serde_json::from_slice(derived.bytes()).unwrap();
        assert_eq!(json["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(json["manifests"][0]["x-unknown"], 1);
        assert_eq!(json["annotations"]["a"], "b");
        assert_ne!(derived.digest(), whole.digest());
        assert_eq!(derive_index(&whole, &wanted("linux/arm64")).unwrap(), DerivedIndex::Derived(derived));
    }

    #[test]
    fn index_of_only_wanted_platforms_stays_verbatim() {
        let whole = index(&[child("linux", "amd64", "a")]);
        assert_eq!(derive_index(&whole, &wanted("linux/amd64")).unwrap(), DerivedIndex::Unchanged);
        let none = DerivedIndex::NoneWanted { available: wanted("linux/amd64") };
        assert_eq!(derive_index(&whole, &wanted("linux/s390x")).unwrap(), none);
    }

    #[test]
    fn attestation_stays_or_goes_with_its_image() {
        let attestation = |of: &str| {
            let mut entry = child("unknown", "unknown", &format!("attestation of {of}"));
            entry["annotations"][ATTESTATION_OF] = Digest::of(of.as_bytes()).to_string().into();
            entry
        };
        let whole =
            index(&[child("linux", "amd64", "a"), child("linux", "arm64", "b"), attestation("a"), attestation("b")]);
        let DerivedIndex::Derived(derived) = derive_index(&whole, &wanted("linux/amd64")).unwrap() else { panic!() };
        let digests: Vec<Digest> = derived.view().unwrap().manifests().iter().map(|d| d.digest).collect();
        assert_eq!(digests, [Digest::of(b"a"), Digest::of(b"attestation of a")]);
    }

    #[test]
    fn soci_index_stays_or_goes_with_its_image() {
        let soci = |of: &str, platform: Option<(&str, &str)>| {
            let (os, architecture) = platform.unwrap_or(("linux", "amd64"));
            let mut entry = child(os, architecture, &format!("soci of {of}"));
            entry["artifactType"] = "application/vnd.amazon.soci.index.v2+json".into();
            entry["annotations"][SOCI_INDEX_OF] = Digest::of(of.as_bytes()).to_string().into();
            if platform.is_none() {
                entry.as_object_mut().unwrap().remove("platform");
            }
            entry
        };
        for platforms in [[None, None], [Some(("linux", "amd64")), Some(("linux", "arm64"))]] {
            let whole = index(&[
                child("linux", "amd64", "a"),
                child("linux", "arm64", "b"),
                soci("a", platforms[0]),
                soci("b", platforms[1]),
            ]);
            let DerivedIndex::Derived(derived) = derive_index(&whole, &wanted("linux/arm64")).unwrap() else {
                panic!()
            };
            let digests: Vec<Digest> = derived.view().unwrap().manifests().iter().map(|d| d.digest).collect();
            assert_eq!(digests, [Digest::of(b"b"), Digest::of(b"soci of b")]);
        }
    }

    #[test]
    fn index_of_null_and_platformless_entries_stays_verbatim() {
        let mut bare = child("linux", "amd64", "a");
        bare["platform"] = serde_json::json!({});
        let whole = index(&[Value::Null, bare]);
        assert_eq!(derive_index(&whole, &wanted("linux/arm64")).unwrap(), DerivedIndex::Unchanged);
        assert_eq!(derive_index(&index(&[]), &wanted("linux/arm64")).unwrap(), DerivedIndex::Unchanged);
    }
}
