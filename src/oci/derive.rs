//! Derived indexes: an index cut down to some platforms, which is new content with a digest of its own.

use serde_json::Value;

use super::{Children, Manifest, ManifestError, Platform};

/// BuildKit marks an attestation with the digest of the image that it is about.
const ATTESTATION_OF: &str = "vnd.docker.reference.digest";

/// A SOCI index of version 2 is marked with the digest of the image that it indexes (soci-snapshotter, "SOCI Index Manifest v2").
const SOCI_INDEX_OF: &str = "com.amazon.soci.image-manifest-digest";

/// What [`derive_index`] made of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivedIndex {
    /// Nothing had to go: the manifest stays as it is, with its digest.
    Unchanged,
    /// Some children went: new bytes, the same for the same input.
    Derived(Manifest),
    /// No child runs on a wanted platform.
    NoneWanted,
}

/// Cuts an index down to the children that run on one of `platforms`, in their order, with all else that the
/// index and its entries say. A child without a platform stays; a BuildKit attestation and a SOCI index stay with their image.
/// A manifest that is no index is [`DerivedIndex::Unchanged`], and so is an index without children.
///
/// # Errors
/// [`ManifestError`] as [`Manifest::view`].
pub fn derive_index(manifest: &Manifest, platforms: &[Platform]) -> Result<DerivedIndex, ManifestError> {
    if !manifest.media_type().is_index() {
        return Ok(DerivedIndex::Unchanged);
    }
    let view = manifest.view()?;
    let malformed = |reason: String| ManifestError::Malformed { media_type: manifest.media_type().clone(), reason };
    let Children::Manifests(children) = &view.children else { return Ok(DerivedIndex::Unchanged) };
    let mut json: Value = serde_json::from_slice(manifest.json()).map_err(|error| malformed(error.to_string()))?;
    let entries = json["manifests"].as_array().cloned().unwrap_or_default();
    // As the view reads them: an entry that is null is no child.
    let entries: Vec<Value> = entries.into_iter().filter(|entry| !entry.is_null()).collect();
    if entries.is_empty() {
        return Ok(DerivedIndex::Unchanged);
    }
    if entries.len() != children.len() {
        return Err(malformed("its list of manifests can be read in two ways".to_owned()));
    }

    let runs_on_wanted = |at: usize| match &children[at].platform {
        _ if companion_of(&entries[at]).is_some() => false,
        Some(platform) => platforms.iter().any(|wanted| platform.is_wanted_by(wanted)),
        None => true,
    };
    let images: Vec<bool> = (0..entries.len()).map(runs_on_wanted).collect();
    let kept_image = |digest: &str| (0..entries.len()).any(|at| images[at] && entries[at]["digest"] == digest);
    let stays = |at: usize| images[at] || companion_of(&entries[at]).is_some_and(kept_image);

    let kept: Vec<Value> = (0..entries.len()).filter(|at| stays(*at)).map(|at| entries[at].clone()).collect();
    if !images.contains(&true) {
        return Ok(DerivedIndex::NoneWanted);
    }
    if kept.len() == entries.len() {
        return Ok(DerivedIndex::Unchanged);
    }
    json["manifests"] = Value::Array(kept);
    Ok(DerivedIndex::Derived(Manifest::new(manifest.media_type().clone(), json.to_string().into())))
}

/// The digest of the image with which this entry stays or goes, where it is a companion of one.
fn companion_of(entry: &Value) -> Option<&str> {
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
    fn a_subset_keeps_what_the_index_says_and_is_the_same_each_time() {
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
    fn an_index_of_wanted_platforms_alone_stays_verbatim() {
        let whole = index(&[child("linux", "amd64", "a")]);
        assert_eq!(derive_index(&whole, &wanted("linux/amd64")).unwrap(), DerivedIndex::Unchanged);
        assert_eq!(derive_index(&whole, &wanted("linux/s390x")).unwrap(), DerivedIndex::NoneWanted);
    }

    #[test]
    fn an_attestation_goes_and_stays_with_its_image() {
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
    fn a_soci_index_goes_and_stays_with_the_image_it_indexes() {
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
    fn entries_without_a_platform_or_without_anything_are_kept_whole() {
        let mut bare = child("linux", "amd64", "a");
        bare["platform"] = serde_json::json!({});
        let whole = index(&[Value::Null, bare]);
        assert_eq!(derive_index(&whole, &wanted("linux/arm64")).unwrap(), DerivedIndex::Unchanged);
        assert_eq!(derive_index(&index(&[]), &wanted("linux/arm64")).unwrap(), DerivedIndex::Unchanged);
    }
}
