//! Tests of layouts that other tools write: unnamed images, duplicate names, missing content.

use super::*;

const NAME: &str = "org.opencontainers.image.ref.name";
const WHOLE_NAME: &str = "io.containerd.image.name";

/// Creates a layout of these images, each with the given fields in its entry.
async fn layout_of(path: &Path, entries: &[(&Manifest, Value)]) -> Arc<Layout> {
    let layout = Layout::open(path);
    for (manifest, _) in entries {
        for blob in manifest.view().unwrap().blobs() {
            for content in [&b"a"[..], b"b", b"content"] {
                if Digest::of(content) == blob.digest {
                    push_blob(&layout, content).await;
                }
            }
        }
        layout.push_manifest(manifest, None).await.unwrap();
    }
    edit_index(path, |index| {
        let entry = |(manifest, more): &(&Manifest, Value)| {
            let mut entry = described(&manifest.descriptor());
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        index["manifests"] = entries.iter().map(entry).collect();
    });
    layout
}

fn skipped(list: &[TagEntry]) -> Vec<&str> {
    let skipped = list.iter().filter_map(|entry| match entry {
        TagEntry::Skipped(what) => Some(what.as_str()),
        _ => None,
    });
    skipped.collect()
}

fn unnamed(manifest: &Manifest) -> String {
    format!("an image has no name; select it by its digest: @{}", manifest.digest())
}

#[tokio::test]
async fn images_without_name_are_listed_with_their_digest() {
    let (_folder, path) = folder();
    let (a, b) = (image(b"a", json!({})), image(b"b", json!({})));
    let layout = layout_of(&path, &[(&a, json!({})), (&b, json!({"annotations": {"x": "y"}})), (&a, json!({}))]).await;
    let list = tags(&layout).await;
    assert_eq!(skipped(&list), [unnamed(&a), unnamed(&b)]);
    assert_eq!(list.len(), 2);
}

#[tokio::test]
async fn children_and_referrers_of_named_image_are_not_reported() {
    let (_folder, path) = folder();
    let (a, b) = (image(b"a", json!({})), image(b"b", json!({})));
    let signature = image(b"content", json!({"subject": described(&a.descriptor())}));
    let stray = image(b"content", json!({"subject": described(&blob(b"nobody"))}));
    let index = index_of(&[&a]);
    let named = json!({"annotations": {NAME: "v1"}});
    let layout = layout_of(
        &path,
        &[(&a, json!({})), (&b, named.clone()), (&b, json!({})), (&signature, json!({})), (&stray, json!({}))],
    )
    .await;
    assert_eq!(skipped(&tags(&layout).await).len(), 2, "a itself, and the referrer of a missing subject");
    let layout =
        layout_of(&path, &[(&a, json!({})), (&index, named), (&signature, json!({})), (&stray, json!({}))]).await;
    let list = tags(&layout).await;
    let expected = format!("{} refers to {}, which the layout does not have", stray.digest(), blob(b"nobody").digest);
    assert_eq!(skipped(&list), [expected], "the index contains a");
}

#[tokio::test]
async fn name_of_two_images_is_refused_with_both_digests() {
    let (_folder, path) = folder();
    let (a, b) = (image(b"a", json!({})), image(b"b", json!({})));
    let entry = |whole: &str| json!({"annotations": {NAME: "latest", WHOLE_NAME: whole}});
    let layout = layout_of(&path, &[(&a, entry("docker.io/x/a:latest")), (&b, entry("docker.io/x/b:latest"))]).await;
    assert_eq!(tags(&layout).await, [TagEntry::Tag(tag("latest"), None)]);
    let file = path.join("index.json");
    let expected = format!(
        "{} lists {} (docker.io/x/a:latest) and {} (docker.io/x/b:latest) under the name \"latest\": \
         select one of them by its digest (@{})",
        file.display(),
        a.digest(),
        b.digest(),
        a.digest()
    );
    for error in [
        layout.resolve(&tag("latest").into()).await.unwrap_err(),
        layout.manifest(&tag("latest").into()).await.unwrap_err(),
    ] {
        assert_eq!((error.kind, error.detail), (ErrorKind::Refused, expected.clone()));
    }
    assert_eq!(layout.manifest(&b.digest().into()).await.unwrap(), b);
}

#[tokio::test]
async fn entries_with_missing_or_corrupt_content_are_reported() {
    let (_folder, path) = folder();
    let (a, b) = (image(b"a", json!({})), image(b"b", json!({})));
    let layout = layout_of(&path, &[(&a, json!({})), (&b, json!({}))]).await;
    fs::remove_file(blob_file(&path, &a.digest())).unwrap();
    fs::write(blob_file(&path, &b.digest()), "{}").unwrap();
    edit_index(&path, |index| index["manifests"].as_array_mut().unwrap().push(json!({"size": 1})));
    let list = tags(&layout).await;
    let lines = skipped(&list);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("has no name in index.json, and the layout has no file"), "{}", lines[0]);
    assert!(lines[1].contains("has no name in index.json, and cannot be read: the bytes of"), "{}", lines[1]);
    assert_eq!(lines[2], "entry 3 of index.json has no valid digest");
}

#[tokio::test]
async fn error_of_missing_child_names_its_file() {
    let (_folder, path) = folder();
    let a = image(b"a", json!({}));
    let layout = layout_of(&path, &[(&a, json!({"annotations": {NAME: "v1"}}))]).await;
    fs::remove_file(blob_file(&path, &a.digest())).unwrap();
    let error = layout.manifest(&a.digest().into()).await.unwrap_err();
    let expected = format!("the layout has no file {}", blob_file(&path, &a.digest()).display());
    assert_eq!((error.kind, error.detail), (ErrorKind::NotFound, expected));
}

#[tokio::test]
async fn entry_without_size_is_read_by_its_digest() {
    let (_folder, path) = folder();
    let a = image(b"a", json!({}));
    let layout = layout_of(&path, &[(&a, json!({"annotations": {NAME: "v1"}, "size": null}))]).await;
    assert_eq!(layout.resolve(&tag("v1").into()).await.unwrap(), Some(a.descriptor()));
    assert_eq!(tags(&layout).await, [TagEntry::Tag(tag("v1"), Some(a.digest()))]);
}

#[tokio::test]
async fn two_fallback_lists_of_one_subject_are_both_read() {
    let (_folder, path) = folder();
    let a = image(b"a", json!({}));
    let about = |kind: &str| image(b"b", json!({"subject": described(&a.descriptor()), "artifactType": kind}));
    let (one, two) = (about("x/one"), about("x/two"));
    let (first, second) = (index_of(&[&one]), index_of(&[&two]));
    let list = json!({"annotations": {NAME: referrers_tag(&a.digest()).as_str()}});
    let all = [(&one, json!({})), (&two, json!({})), (&first, list.clone()), (&second, list), (&a, json!({}))];
    let layout = layout_of(&path, &all).await;
    edit_index(&path, |index| drop(index["manifests"].as_array_mut().unwrap().drain(..2)));
    let referrers = Layout::open(&path).referrers(&a.digest(), Listed::Possible).await.unwrap();
    assert_eq!((referrers.manifests.len(), referrers.fallback), (2, None));
    drop(layout);
}

#[tokio::test]
async fn index_changed_with_same_time_and_length_is_reread() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "two"].map(|name| image(b"a", json!({"annotations": {"n": name}})));
    let layout = layout_of(folder.path(), &[(&one, json!({"annotations": {NAME: "v1"}}))]).await;
    layout.push_manifest(&other, None).await.unwrap();
    let path = folder.path().join("index.json");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let set_back = || std::fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let v1 = ManifestRef::Tag("v1".parse().unwrap());
    set_back();
    for _ in 0..2 {
        assert_eq!(layout.resolve(&v1).await.unwrap().unwrap().digest, one.digest());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&one.digest().to_string(), &other.digest().to_string())).unwrap();
    set_back();
    assert_eq!(layout.resolve(&v1).await.unwrap().unwrap().digest, other.digest());
}
