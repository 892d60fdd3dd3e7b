//! Tests of the layout as a source and a target, on real folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::oci::{MediaType, referrers_tag};
use crate::store::{Listed, Verified};

mod archive;
mod crash;
mod examples;
mod foreign;
mod links;
mod skopeo;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    (folder, path)
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::new("application/octet-stream"), Digest::of(content), content.len() as u64)
}

fn described(descriptor: &Descriptor) -> Value {
    json!({"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size})
}

/// Returns a manifest whose configuration and only layer are both `content`.
fn image(content: &[u8], more: Value) -> Manifest {
    let at = described(&blob(content));
    let mut body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": at, "layers": [at]});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), body.to_string().into())
}

fn index_of(manifests: &[&Manifest]) -> Manifest {
    let list: Vec<Value> = manifests.iter().map(|manifest| described(&manifest.descriptor())).collect();
    let body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": list});
    Manifest::new(MediaType::new(MediaType::OCI_INDEX), body.to_string().into())
}

fn verified(pieces: Vec<&'static [u8]>, blob: &Descriptor) -> Verified {
    Verified::new(stream::iter(pieces.into_iter().map(|piece| Ok(piece.into()))).boxed(), blob.clone(), "h/r")
}

async fn begin(layout: &Layout, blob: &Descriptor) -> Box<dyn crate::store::Upload> {
    match layout.begin_upload(blob, None).await.unwrap() {
        UploadStart::Session(session) => session,
        UploadStart::Mounted => panic!("nothing can be mounted"),
    }
}

async fn push_blob(layout: &Layout, content: &[u8]) -> Descriptor {
    let blob = blob(content);
    let bytes = bytes::Bytes::copy_from_slice(content);
    let bytes = Verified::new(stream::iter([Ok(bytes)]).boxed(), blob.clone(), "h/r");
    begin(layout, &blob).await.send(bytes).await.unwrap();
    blob
}

async fn push_image(layout: &Layout, content: &[u8], name: &str) -> Manifest {
    push_blob(layout, content).await;
    let manifest = image(content, json!({}));
    layout.push_manifest(&manifest, Some(&tag(name))).await.unwrap();
    manifest
}

async fn tags(layout: &Layout) -> Vec<TagEntry> {
    layout.tags().map(Result::unwrap).collect().await
}

async fn tag_map(layout: &Layout) -> BTreeMap<String, Option<Digest>> {
    let entry = |entry| match entry {
        TagEntry::Tag(tag, digest) => (tag.to_string(), digest),
        other => panic!("{other:?}"),
    };
    tags(layout).await.into_iter().map(entry).collect()
}

async fn read(layout: &Layout, blob: &Descriptor, offset: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let mut stream = layout.blob(blob, offset).await?;
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// Returns every file below a folder with its content.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn edit_index(path: &Path, edit: impl FnOnce(&mut Value)) {
    let file = path.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut index);
    fs::write(file, index.to_string()).unwrap();
}

fn blob_file(path: &Path, digest: &Digest) -> PathBuf {
    path.join("blobs").join(digest.algorithm()).join(digest.hex())
}

#[tokio::test]
async fn pushed_image_is_read_by_another_layout() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let manifest = push_image(&layout, b"content", "v1").await;
    let again = Layout::open(&path);
    assert_eq!(tags(&again).await, [TagEntry::Tag(tag("v1"), Some(manifest.digest()))]);
    for reference in [ManifestRef::Tag(tag("v1")), ManifestRef::Digest(manifest.digest())] {
        assert_eq!(again.resolve(&reference).await.unwrap(), Some(manifest.descriptor()));
        assert_eq!(again.manifest(&reference).await.unwrap(), manifest);
    }
    assert_eq!(read(&again, &blob(b"content"), 0).await.unwrap(), b"content");
    assert_eq!(fs::read(path.join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let names: Vec<String> = files(&path).into_keys().filter(|name| !name.starts_with("blobs/sha256/")).collect();
    assert_eq!(names, [".transship.lock", "index.json", "oci-layout"]);
}

#[tokio::test]
async fn missing_layout_is_empty_until_first_write_creates_it() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let error = layout.tags().next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let shown = path.display();
    assert_eq!(
        error.to_string(),
        format!("oci-layout:{shown}: listing tags: no image layout at {shown}: it has no index.json")
    );
    let digest = Digest::of(b"x");
    assert_eq!(layout.resolve(&tag("v1").into()).await.unwrap(), None);
    assert_eq!(layout.resolve(&digest.into()).await.unwrap(), None);
    assert_eq!(layout.manifest(&tag("v1").into()).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(layout.manifest(&digest.into()).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(layout.blob(&blob(b"x"), 0).await.err().unwrap().kind, ErrorKind::NotFound);
    assert_eq!(layout.referrers(&digest, Listed::Possible).await.unwrap(), Referrers::default());
    assert!(!layout.has_blob(&blob(b"x")).await.unwrap());
    layout.delete(&tag("v1").into()).await.unwrap();
    layout.delete(&digest.into()).await.unwrap();
    assert!(!path.exists(), "reading and deleting create nothing");
    push_blob(&layout, b"x").await;
    assert!(layout.has_blob(&blob(b"x")).await.unwrap());
    assert_eq!(tags(&layout).await, []);
}

#[tokio::test]
async fn folder_of_other_files_is_not_made_a_layout() {
    let (_folder, path) = folder();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("index.json"), r#"{"dear":"thesis"}"#).unwrap();
    let error = Layout::open(&path).begin_upload(&blob(b"x"), None).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(
        error
            .detail
            .ends_with("contains other files and is no image layout: name an empty folder or one that does not exist")
    );
    assert_eq!(files(&path).len(), 1);
}

#[tokio::test]
async fn layout_of_another_version_is_refused() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    push_image(&layout, b"content", "v1").await;
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    let error = layout.tags().next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.detail.ends_with(r#"has image layout version "2.0.0", and only "1.0.0" is supported"#), "{error}");
    let error = layout.push_manifest(&image(b"content", json!({})), Some(&tag("v2"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn place_scope_and_identity_name_the_folder() {
    let layout = Layout::open(Path::new("some/./folder/../layout"));
    assert_eq!(layout.place(), "oci-layout:some/./folder/../layout");
    let here = std::env::current_dir().unwrap();
    assert_eq!(layout.scope().as_str(), format!("oci-layout:{}/some/layout", here.display()));
    assert_eq!(layout.scope(), Layout::open(Path::new("some/layout/")).scope());
    assert_eq!(layout.identity(), "file");
    assert_eq!(layout.repository(), None);
}

#[tokio::test]
async fn blob_streams_from_offset_in_bounded_slices() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    let blob = push_blob(&layout, &content).await;
    for offset in [0, 1, 524_288, 2_999_999, 3_000_001] {
        assert!(read(&layout, &blob, offset).await.unwrap() == content[usize::try_from(offset).unwrap()..], "{offset}");
    }
    let slices: Vec<usize> = layout.blob(&blob, 0).await.unwrap().map(|slice| slice.unwrap().len()).collect().await;
    assert!(slices.iter().all(|length| *length <= 524_288), "{slices:?}");
    let error = layout.blob(&blob, 3_000_002).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(error.detail, "offset 3000002 is beyond the end of 3000001 bytes");
}

#[tokio::test]
async fn wrong_bytes_are_never_committed_and_leave_no_file() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let wanted = blob(b"right");
    for pieces in [vec![&b"wro"[..], b"ng"], vec![b"rig"], vec![b"righter"]] {
        let error = begin(&layout, &wanted).await.send(verified(pieces, &wanted)).await.unwrap_err();
        assert_eq!((error.kind, error.place.as_str()), (ErrorKind::Corrupt, "h/r"));
    }
    // An upload for one digest also refuses correct bytes of another blob.
    let other = blob(b"other");
    let error = begin(&layout, &wanted).await.send(verified(vec![b"other"], &other)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(!layout.has_blob(&wanted).await.unwrap());
    assert!(!files(&path).keys().any(|name| name.starts_with("blobs/")), "{:?}", files(&path).keys());
}

#[tokio::test]
async fn cancelled_or_dropped_session_leaves_no_file() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let blob = blob(b"content");
    let temporary = || files(&path).keys().filter(|name| name.starts_with("blobs/.transship")).count();
    let (first, second) = (begin(&layout, &blob).await, begin(&layout, &blob).await);
    assert_eq!(temporary(), 2);
    first.cancel().await;
    assert_eq!(temporary(), 1);
    let endless = Verified::new(stream::pending().boxed(), blob, "h/r");
    let mut sending = second.send(endless);
    assert!(futures_util::poll!(&mut sending).is_pending());
    drop(sending);
    assert_eq!(temporary(), 0);
}

#[tokio::test]
async fn manifest_with_wrong_length_of_intact_content_is_accepted() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    push_blob(&layout, b"content").await;
    for (stated, is_intact) in [(0, true), (6, true), (8, true), (6, false)] {
        let wrong = Descriptor { size: stated, ..blob(b"content") };
        assert!(matches!(layout.find_or_begin(&wrong).await.unwrap(), BlobLookup::OtherLength(7)));
        if !is_intact {
            fs::write(blob_file(&path, &wrong.digest), "CONTENT").unwrap();
        }
        let body = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x/y","digest":"{}","size":{stated}}},"layers":[]}}"#,
            wrong.digest
        );
        let manifest = Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), body.into());
        let pushed = layout.push_manifest(&manifest, Some(&tag("v1"))).await;
        assert_eq!(pushed.err().map(|error| error.kind), (!is_intact).then_some(ErrorKind::MissingContent), "{stated}");
    }
}

#[tokio::test]
async fn file_of_wrong_length_is_repaired_by_next_upload() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let manifest = push_image(&layout, b"content", "v1").await;
    let wanted = blob(b"content");
    fs::write(blob_file(&path, &wanted.digest), "cont").unwrap();
    assert!(!layout.has_blob(&wanted).await.unwrap());
    let error = layout.blob(&wanted, 0).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.detail.ends_with("is 4 bytes instead of 7"), "{error}");
    let error = layout.push_manifest(&manifest, Some(&tag("v1"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::MissingContent);
    push_blob(&layout, b"content").await;
    assert_eq!(read(&layout, &wanted, 0).await.unwrap(), b"content");

    fs::write(blob_file(&path, &manifest.digest()), "{").unwrap();
    assert_eq!(tags(&layout).await, [TagEntry::Tag(tag("v1"), None)]);
    assert_eq!(layout.resolve(&tag("v1").into()).await.unwrap(), None);
    let error = layout.manifest(&tag("v1").into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.detail.ends_with(&format!("hash to {}", Digest::of(b"{"))), "{error}");
    layout.push_manifest(&manifest, Some(&tag("v1"))).await.unwrap();
    assert_eq!(layout.manifest(&tag("v1").into()).await.unwrap(), manifest);
}

#[tokio::test]
async fn manifest_with_missing_child_is_refused() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let manifest = image(b"content", json!({}));
    let error = layout.push_manifest(&manifest, Some(&tag("v1"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::MissingContent);
    let (digest, file) = (Digest::of(b"content"), blob_file(&path, &Digest::of(b"content")));
    assert_eq!(error.detail, format!("the manifest points at {digest}, but {} does not exist", file.display()));
    assert_eq!(tags(&layout).await, []);
    assert_eq!(layout.resolve(&manifest.digest().into()).await.unwrap(), None);
    let index = index_of(&[&manifest]);
    assert_eq!(layout.push_manifest(&index, None).await.unwrap_err().kind, ErrorKind::MissingContent);
    push_blob(&layout, b"content").await;
    layout.push_manifest(&manifest, None).await.unwrap();
    layout.push_manifest(&index, Some(&tag("v1"))).await.unwrap();
}

#[tokio::test]
async fn foreign_layer_may_be_missing() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    push_blob(&layout, b"content").await;
    let mut foreign = described(&blob(b"elsewhere"));
    foreign["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    foreign["urls"] = json!(["https://example.invalid/layer"]);
    let manifest = image(b"content", json!({"layers": [foreign]}));
    layout.push_manifest(&manifest, Some(&tag("v1"))).await.unwrap();
}

#[tokio::test]
async fn manifest_without_tag_and_subject_gets_no_entry() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    push_blob(&layout, b"content").await;
    let manifest = image(b"content", json!({}));
    layout.push_manifest(&manifest, None).await.unwrap();
    assert_eq!(layout.manifest(&manifest.digest().into()).await.unwrap(), manifest);
    let index: Value = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"], json!([]));
}

#[tokio::test]
async fn unchanged_tag_writes_nothing() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let manifest = push_image(&layout, b"content", "v1").await;
    let before = fs::metadata(path.join("index.json")).unwrap();
    layout.push_manifest(&manifest, Some(&tag("v1"))).await.unwrap();
    let after = fs::metadata(path.join("index.json")).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(before.ino(), after.ino(), "the file was replaced");
}

#[tokio::test]
async fn foreign_names_are_reported_with_digest_and_kept() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    push_image(&layout, b"content", "v1").await;
    let full = "docker.io/library/x:tag";
    edit_index(&path, |index| {
        let mut entry = index["manifests"][0].clone();
        entry["annotations"]["org.opencontainers.image.ref.name"] = full.into();
        let unreadable = json!({"digest": "md5:00", "annotations": {"org.opencontainers.image.ref.name": "v0"}});
        index["manifests"].as_array_mut().unwrap().extend([entry, unreadable]);
    });
    let manifest = push_image(&layout, b"more", "v2").await;
    let list = tags(&layout).await;
    let digest = image(b"content", json!({})).digest();
    assert_eq!(list[1], TagEntry::Tag(tag("v0"), None));
    assert_eq!(list[2], TagEntry::Tag(tag("v2"), Some(manifest.digest())));
    let expected = format!("the name {full:?} is not a tag; select the image by its digest: @{digest}");
    assert_eq!(list[3], TagEntry::Skipped(expected));
    let error = layout.resolve(&tag("v0").into()).await.unwrap_err();
    let expected = "has no valid digest, so it cannot be copied";
    assert!(error.kind == ErrorKind::Invalid && error.detail.ends_with(expected), "{error}");
    assert!(fs::read_to_string(path.join("index.json")).unwrap().contains(full));
}

#[tokio::test]
async fn broken_index_is_located_and_not_overwritten() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    push_image(&layout, b"content", "v1").await;
    let file = path.join("index.json");
    fs::write(&file, "{\"schemaVersion\": 2,\n  \"manifests\": [,]}").unwrap();
    let error = layout.tags().next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(error.detail, format!("{}:2:17: expected value", file.display()));
    let error = layout.push_manifest(&image(b"content", json!({"x": 1})), Some(&tag("v2"))).await.unwrap_err();
    assert_eq!((error.kind, error.step), (ErrorKind::Invalid, Step::WriteManifest));
    assert!(fs::read_to_string(&file).unwrap().ends_with("[,]}"));
}

#[tokio::test]
async fn referrers_are_found_by_subject_and_fallback_list() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let subject = push_image(&layout, b"content", "v1").await;
    let about = json!({"subject": described(&subject.descriptor()), "artifactType": "application/spdx+json"});
    let sbom = image(b"content", about);
    assert_eq!(layout.push_manifest(&sbom, None).await.unwrap(), ReferrerLink::Listed);
    let found = layout.referrers(&subject.digest(), Listed::Possible).await.unwrap();
    assert_eq!(found.manifests.len(), 1);
    assert_eq!(found.manifests[0].digest, sbom.digest());
    assert_eq!(found.manifests[0].artifact_type.as_deref(), Some("application/spdx+json"));
    assert_eq!(found.fallback, None);
    assert_eq!(tag_map(&layout).await.len(), 1, "a referrer has no tag");
    assert_eq!(layout.referrers(&sbom.digest(), Listed::Possible).await.unwrap(), Referrers::default());

    // Another tool stored a fallback list. A listed manifest is a referrer only if the manifest names the subject.
    let signature = image(b"content", json!({"subject": described(&subject.descriptor())}));
    let digest = signature.digest();
    layout
        .on_disk({
            let signature = signature.clone();
            move |disk| disk.write_manifest(&signature)
        })
        .await
        .unwrap();
    let list = index_of(&[&signature, &subject]);
    let fallback = referrers_tag(&subject.digest());
    layout.push_manifest(&list, Some(&fallback)).await.unwrap();
    let found = layout.referrers(&subject.digest(), Listed::Possible).await.unwrap();
    assert_eq!(found.manifests.iter().map(|one| one.digest).collect::<Vec<_>>(), [sbom.digest(), digest]);
    assert_eq!(found.fallback, None, "the list differs from the referrers found");
    let list = index_of(&[&signature, &sbom]);
    layout.push_manifest(&list, Some(&fallback)).await.unwrap();
    assert_eq!(layout.referrers(&subject.digest(), Listed::Possible).await.unwrap().fallback, Some(list));
}

#[tokio::test]
async fn untagged_referrer_is_found_and_deleted_one_is_not() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let subject = push_image(&layout, b"content", "v1").await;
    let referrer = image(b"content", json!({"subject": described(&subject.descriptor())}));
    layout.push_manifest(&referrer, Some(&tag("signature"))).await.unwrap();
    push_image(&layout, b"other", "signature").await;
    assert_eq!(layout.referrers(&subject.digest(), Listed::Possible).await.unwrap().manifests.len(), 1);
    layout.delete(&referrer.digest().into()).await.unwrap();
    assert_eq!(layout.referrers(&subject.digest(), Listed::Possible).await.unwrap().manifests, []);
    assert_eq!(layout.resolve(&referrer.digest().into()).await.unwrap(), None);
}

#[tokio::test]
async fn corrupt_referrer_is_an_error_and_never_absent() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let subject = push_image(&layout, b"content", "v1").await;
    let referrer = image(b"content", json!({"subject": described(&subject.descriptor())}));
    layout.push_manifest(&referrer, None).await.unwrap();
    fs::write(blob_file(&path, &referrer.digest()), "{}").unwrap();
    let error = Layout::open(&path).referrers(&subject.digest(), Listed::Possible).await.unwrap_err();
    assert_eq!((error.kind, error.step), (ErrorKind::Corrupt, Step::ListReferrers));
}

#[tokio::test]
async fn deleting_tag_keeps_manifest_and_deleting_digest_keeps_blobs() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let manifest = push_image(&layout, b"content", "v1").await;
    layout.push_manifest(&manifest, Some(&tag("v2"))).await.unwrap();
    layout.delete(&tag("v1").into()).await.unwrap();
    layout.delete(&tag("v1").into()).await.unwrap();
    assert_eq!(tag_map(&layout).await.into_keys().collect::<Vec<_>>(), ["v2"]);
    layout.delete(&manifest.digest().into()).await.unwrap();
    layout.delete(&manifest.digest().into()).await.unwrap();
    assert_eq!(tag_map(&layout).await.len(), 0);
    assert_eq!(layout.resolve(&manifest.digest().into()).await.unwrap(), None);
    // Deleting the digest of a blob deletes nothing.
    layout.delete(&Digest::of(b"content").into()).await.unwrap();
    assert!(layout.has_blob(&blob(b"content")).await.unwrap());
}

#[tokio::test]
async fn read_only_layout_is_read_without_any_write() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, path) = folder();
    let manifest = push_image(&Layout::open(&path), b"content", "v1").await;
    fs::remove_file(path.join(".transship.lock")).unwrap();
    let folders = [path.clone(), path.join("blobs"), path.join("blobs/sha256")];
    let mode = |mode| {
        for folder in &folders {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    mode(0o555);
    let before = files(&path);
    let layout = Layout::open(&path);
    assert_eq!(tag_map(&layout).await.len(), 1);
    assert!(layout.resolve(&tag("v1").into()).await.unwrap().is_some());
    assert_eq!(layout.manifest(&tag("v1").into()).await.unwrap(), manifest);
    assert_eq!(read(&layout, &blob(b"content"), 3).await.unwrap(), b"tent");
    layout.referrers(&manifest.digest(), Listed::Possible).await.unwrap();
    assert!(layout.has_blob(&blob(b"content")).await.unwrap());
    // The superuser can write to read-only files, so the mode proves nothing. The unchanged files are the proof.
    assert_eq!(files(&path), before);
    mode(0o755);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_moving_tags_concurrently_lose_none() {
    let (_folder, path) = folder();
    let shared = Layout::open(&path);
    push_blob(&shared, b"content").await;
    let push = |n: usize| {
        // Half of the tasks share one `Layout`. Each of the other tasks has its own `Layout`, like each entry of a
        // process.
        let layout = if n.is_multiple_of(2) { Arc::clone(&shared) } else { Layout::open(&path) };
        tokio::spawn(async move {
            let manifest = image(b"content", json!({"annotations": {"n": n.to_string()}}));
            layout.push_manifest(&manifest, Some(&tag(&format!("v{n}")))).await.unwrap();
            layout.push_manifest(&manifest, Some(&tag("latest"))).await.unwrap();
        })
    };
    let tasks: Vec<_> = (0..24).map(push).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let map = tag_map(&shared).await;
    assert_eq!(map.len(), 25);
    assert!(map.values().all(Option::is_some));
}

#[test]
fn layout_being_created_is_not_taken_for_other_files() {
    for _ in 0..50 {
        let (_folder, path) = folder();
        let disk = Disk::new(&path);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                disk.create_root().unwrap();
                disk.create_content().unwrap();
            });
            while !disk.is_complete().unwrap() {
                disk.create_root().unwrap();
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn writer_gives_up_on_lock_after_the_limit() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    push_image(&layout, b"content", "v1").await;
    let _held = Disk::new(&path).try_lock().unwrap().unwrap();
    let error = layout.delete(&tag("v1").into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy(None));
    let expected = format!(
        "another process has held the lock {} for more than 60 s: wait for it or stop it",
        path.join(".transship.lock").display()
    );
    assert_eq!(error.detail, expected);
    assert_eq!(tag_map(&layout).await.len(), 1, "reading takes no lock");
}

#[tokio::test]
async fn queued_changes_share_a_rewrite_unless_dropped() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let manifest = push_image(&layout, b"content", "v0").await;
    let changes = Changes::default();
    let enqueue = |name: &str| changes.enqueue(manifest.clone(), Some(tag(name)));
    let (first, given_up, last) = (enqueue("v1"), enqueue("v2"), enqueue("v3"));
    drop(given_up);
    changes.apply_all(&layout.disk, &layout.facts);
    assert!(first.await.unwrap().is_ok() && last.await.unwrap().is_ok());
    assert_eq!(tag_map(&layout).await.into_keys().collect::<Vec<_>>(), ["v0", "v1", "v3"]);
    let refused = enqueue("v4");
    changes.fail_all(Fault::NoManifest);
    assert_eq!(refused.await.unwrap().unwrap_err().to_string(), "there is no such manifest");
    fs::write(path.join("index.json"), "{").unwrap();
    let both = [enqueue("v5"), enqueue("v6")];
    changes.apply_all(&layout.disk, &layout.facts);
    for outcome in both {
        assert_eq!(into_result(outcome.await).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn root_written_by_digest_is_listed_once_without_name() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path());
    let manifest = Manifest::new(MediaType::new(MediaType::OCI_INDEX), r#"{"schemaVersion":2,"manifests":[]}"#.into());
    let listed = || {
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("index.json")).unwrap()).unwrap();
        index["manifests"].as_array().unwrap().len()
    };
    layout.push_manifest(&manifest, None).await.unwrap();
    assert_eq!(listed(), 0, "an untagged child is not listed");
    layout.keep_root(&manifest).await.unwrap();
    layout.keep_root(&manifest).await.unwrap();
    assert_eq!(listed(), 1);
}
