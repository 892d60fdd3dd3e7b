//! Tests against skopeo: skopeo reads layouts written by transship, and transship reads and extends layouts written by
//! skopeo.

use std::process::Command;

use super::*;

/// Runs skopeo (a Debian package) and returns its output. Panics if skopeo is not installed or fails.
pub(super) fn skopeo(args: &[&str]) -> Vec<u8> {
    let out = Command::new("skopeo").arg("--insecure-policy").args(args).output().expect("skopeo is installed");
    assert!(out.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn raw(path: &Path, name: &str) -> Vec<u8> {
    skopeo(&["inspect", "--raw", &format!("oci:{}:{name}", path.display())])
}

fn copy(from: &Path, from_name: &str, to: &Path, name: &str) {
    let (from, to) = (format!("oci:{}:{from_name}", from.display()), format!("oci:{}:{name}", to.display()));
    skopeo(&["copy", "--quiet", "--all", "--preserve-digests", &from, &to]);
}

/// Pushes an image that skopeo accepts: a configuration with a platform and one layer of an empty tar.
async fn push_real_image(layout: &Layout, architecture: &str, name: Option<&str>) -> Manifest {
    let layer = push_blob(layout, &[0; 1024]).await;
    let config = json!({"os": "linux", "architecture": architecture, "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]}});
    let config = push_blob(layout, config.to_string().as_bytes()).await;
    let with_type = |blob: &Descriptor, media_type: &str| {
        let mut value = described(blob);
        value["mediaType"] = media_type.into();
        value
    };
    let manifest = image(
        b"",
        json!({
            "config": with_type(&config, "application/vnd.oci.image.config.v1+json"),
            "layers": [with_type(&layer, "application/vnd.oci.image.layer.v1.tar")],
        }),
    );
    layout.push_manifest(&manifest, name.map(tag).as_ref()).await.unwrap();
    manifest
}

async fn push_real_index(layout: &Layout, name: &str) -> Manifest {
    let mut list = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let mut entry = described(&push_real_image(layout, architecture, None).await.descriptor());
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        list.push(entry);
    }
    let body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": list});
    let index = Manifest::new(MediaType::new(MediaType::OCI_INDEX), body.to_string().into());
    layout.push_manifest(&index, Some(&tag(name))).await.unwrap();
    index
}

#[tokio::test]
async fn skopeo_reads_images_that_transship_wrote() {
    let (folder, path) = folder();
    let layout = Layout::open(&path);
    let image = push_real_image(&layout, "amd64", Some("image")).await;
    let index = push_real_index(&layout, "index").await;
    assert_eq!(raw(&path, "image"), *image.bytes());
    assert_eq!(raw(&path, "index"), *index.bytes());
    // skopeo ignores the lock file and the temporary file of a killed writer.
    fs::write(path.join("blobs/.transship-1-0"), "half").unwrap();
    let theirs = folder.path().join("theirs");
    copy(&path, "index", &theirs, "copied");
    assert_eq!(raw(&theirs, "copied"), *index.bytes());
}

#[tokio::test]
async fn layout_written_by_skopeo_can_be_read_and_extended() {
    let (folder, path) = folder();
    let layout = Layout::open(&path);
    let image = push_real_image(&layout, "amd64", Some("v1")).await;
    let index = push_real_index(&layout, "v2").await;
    let theirs = folder.path().join("theirs");
    copy(&path, "v1", &theirs, "one");
    copy(&path, "v2", &theirs, "two");
    let reader = Layout::open(&theirs);
    assert_eq!(
        tag_map(&reader).await,
        [("one".to_owned(), Some(image.digest())), ("two".to_owned(), Some(index.digest()))].into()
    );
    assert_eq!(reader.manifest(&tag("two").into()).await.unwrap(), index);
    for child in index.view().unwrap().manifests() {
        let manifest = reader.manifest(&child.digest.into()).await.unwrap();
        for blob in manifest.view().unwrap().blobs() {
            assert_eq!(Digest::of(&read(&reader, blob, 0).await.unwrap()), blob.digest);
        }
    }
    // skopeo and transship write alternately into one layout, and no tag is lost.
    let own = push_real_image(&reader, "s390x", Some("three")).await;
    copy(&path, "v1", &theirs, "four");
    reader.push_manifest(&own, Some(&tag("one"))).await.unwrap();
    let names: Vec<String> = tag_map(&reader).await.into_keys().collect();
    assert_eq!(names, ["four", "one", "three", "two"]);
    for (name, manifest) in [("four", &image), ("one", &own), ("three", &own), ("two", &index)] {
        assert_eq!(raw(&theirs, name), *manifest.bytes(), "{name}");
        assert_eq!(reader.manifest(&tag(name).into()).await.unwrap(), *manifest, "{name}");
    }
}

#[tokio::test]
async fn tag_moved_by_skopeo_resolves_to_new_image() {
    let (folder, path) = folder();
    let layout = Layout::open(&path);
    let old = push_real_image(&layout, "amd64", Some("old")).await;
    let new = push_real_image(&layout, "arm64", Some("new")).await;
    let theirs = folder.path().join("theirs");
    copy(&path, "old", &theirs, "latest");
    copy(&path, "new", &theirs, "latest");
    let reader = Layout::open(&theirs);
    // skopeo keeps an unnamed entry of the image that had the tag before.
    let left = format!("an image has no name; select it by its digest: @{}", old.digest());
    assert_eq!(tags(&reader).await, [TagEntry::Tag(tag("latest"), Some(new.digest())), TagEntry::Skipped(left)]);
}

#[tokio::test]
async fn image_that_skopeo_left_unnamed_is_listed() {
    let (folder, path) = folder();
    let layout = Layout::open(&path);
    let image = push_real_image(&layout, "amd64", Some("v1")).await;
    let theirs = folder.path().join("theirs");
    let (from, to) = (format!("oci:{}:v1", path.display()), format!("oci:{}", theirs.display()));
    skopeo(&["copy", "--quiet", "--all", "--preserve-digests", &from, &to]);
    let expected = format!("an image has no name; select it by its digest: @{}", image.digest());
    let reader = Layout::open(&theirs);
    assert_eq!(tags(&reader).await, [TagEntry::Skipped(expected)]);
    assert_eq!(reader.manifest(&image.digest().into()).await.unwrap(), image);
}
