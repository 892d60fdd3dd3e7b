//! Tests of symbolic links, pipes and devices within a layout: no read or write follows a link, or opens a pipe or a
//! device.

use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;

const LINK: &str = "is a symbolic link, which transship does not follow within a layout: replace it with its target";

/// Returns the error of each call that reads or writes a layout. Each call must return without blocking.
async fn refusals(path: &Path) -> Vec<(&'static str, String)> {
    let layout = Layout::open(path);
    let content = blob(b"new");
    let manifest = image(b"content", json!({"x": "other"}));
    let message = |error: Option<StoreError>| error.map_or_else(String::new, |error| error.to_string());
    let all = async {
        vec![
            ("begin", message(layout.begin_upload(&content, None).await.err())),
            ("push", message(layout.push_manifest(&manifest, Some(&tag("v2"))).await.err())),
            ("delete", message(layout.delete(&tag("v1").into()).await.err())),
            ("list", message(layout.tags().next().await.and_then(Result::err))),
            ("resolve", message(layout.resolve(&tag("v1").into()).await.err())),
            ("manifest", message(layout.manifest(&image(b"content", json!({})).digest().into()).await.err())),
            ("blob", message(layout.blob(&blob(b"content"), 0).await.err())),
        ]
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("no call blocks")
}

/// Moves a part of a layout into another folder, and replaces the part by a symbolic link. Then makes all calls.
/// Returns the refusals, and the files of the other folder before and after the calls.
async fn with_link(part: &str) -> (Vec<(&'static str, String)>, BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<u8>>) {
    let (folder, path) = folder();
    push_image(&Layout::open(&path), b"content", "v1").await;
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::rename(path.join(part), outside.join("part")).unwrap();
    symlink(outside.join("part"), path.join(part)).unwrap();
    let before = files(&outside);
    let refusals = refusals(&path).await;
    assert!(fs::symlink_metadata(path.join(part)).unwrap().is_symlink(), "{part} is unchanged");
    (refusals, before, files(&outside))
}

#[track_caller]
fn assert_refused(refusals: &[(&'static str, String)], refused: &[&str], part: &str) {
    for (call, message) in refusals {
        let expected = refused.contains(call);
        assert_eq!(message.contains(LINK) && message.contains(part), expected, "{part}, {call}: {message}");
    }
}

#[tokio::test]
async fn linked_blob_folders_are_refused_by_name() {
    for part in ["blobs", "blobs/sha256"] {
        let (refusals, before, after) = with_link(part).await;
        assert_refused(&refusals, &["begin", "push", "delete", "list", "resolve", "manifest", "blob"], part);
        assert_eq!(before, after, "{part}: nothing is written outside");
    }
}

#[tokio::test]
async fn linked_files_of_layout_are_refused_by_name() {
    for (part, refused) in [
        ("index.json", &["begin", "push", "delete", "list", "resolve"][..]),
        ("oci-layout", &["begin", "push", "delete", "list", "resolve"][..]),
        (".transship.lock", &["push", "delete"][..]),
    ] {
        let (refusals, before, after) = with_link(part).await;
        assert_refused(&refusals, refused, part);
        assert_eq!(before, after, "{part}: nothing is written outside");
    }
}

#[tokio::test]
async fn lock_linked_out_of_the_layout_creates_nothing() {
    let (folder, path) = folder();
    fs::create_dir(&path).unwrap();
    let outside = folder.path().join("outside");
    symlink(&outside, path.join(".transship.lock")).unwrap();
    let error = Layout::open(&path).begin_upload(&blob(b"x"), None).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.detail.ends_with(&format!(".transship.lock {LINK}")), "{error}");
    assert!(!outside.exists());
}

#[tokio::test]
async fn link_in_place_of_new_file_is_replaced() {
    let (folder, path) = folder();
    let layout = Layout::open(&path);
    push_image(&layout, b"content", "v1").await;
    let outside = folder.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    for name in [".transship.new", "blobs/.transship-1-0"] {
        symlink(&outside, path.join(name)).unwrap();
    }
    let wanted = blob(b"more");
    symlink(&outside, blob_file(&path, &wanted.digest)).unwrap();
    // A second layout acts as another process. Its first write removes the temporary files of killed writers.
    let layout = Layout::open(&path);
    push_image(&layout, b"more", "v2").await;
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
    assert_eq!(read(&layout, &wanted, 0).await.unwrap(), b"more");
    assert_eq!(tag_map(&layout).await.len(), 2);
}

#[tokio::test]
async fn linked_blob_is_never_followed() {
    let (folder, path) = folder();
    let layout = Layout::open(&path);
    push_blob(&layout, b"x").await;
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let wanted = blob(b"secret");
    symlink(&secret, blob_file(&path, &wanted.digest)).unwrap();
    for error in [
        layout.blob(&wanted, 0).await.err().unwrap(),
        layout.has_blob(&wanted).await.unwrap_err(),
        layout.manifest(&wanted.digest.into()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.detail.ends_with(LINK), "{error}");
    }
}

#[tokio::test]
async fn folder_of_the_layout_itself_may_be_a_link() {
    let (folder, path) = folder();
    fs::create_dir(&path).unwrap();
    let named = folder.path().join("named");
    symlink(&path, &named).unwrap();
    let layout = Layout::open(&named);
    push_image(&layout, b"content", "v1").await;
    assert_eq!(tag_map(&Layout::open(&path)).await.len(), 1);
}

#[tokio::test]
async fn pipe_or_folder_in_place_of_file_is_refused_at_once() {
    let digest = blob(b"content").digest;
    let blob_path = format!("blobs/sha256/{}", digest.hex());
    for part in ["index.json", "oci-layout", ".transship.lock", blob_path.as_str()] {
        for kind in ["mkfifo", "mkdir"] {
            let (_folder, path) = folder();
            push_image(&Layout::open(&path), b"content", "v1").await;
            fs::remove_file(path.join(part)).unwrap();
            assert!(std::process::Command::new(kind).arg(path.join(part)).status().unwrap().success());
            let refusals = refusals(&path).await;
            let messages: Vec<&str> = refusals.iter().map(|(_, message)| message.as_str()).collect();
            let expected = format!("{part} is not a regular file: remove it");
            assert!(messages.iter().any(|message| message.ends_with(&expected)), "{kind} {part}: {messages:?}");
        }
    }
}

#[tokio::test]
async fn link_below_a_tree_of_layouts_leads_nowhere() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path().join("tree");
    fs::create_dir(&root).unwrap();
    push_image(&Layout::open(&outside.path().join("app")), b"content", "v1").await;
    symlink(outside.path(), root.join("team")).unwrap();
    let before = files(outside.path());
    let layout = Layout::open_in_tree(&root, &"team/app".parse().unwrap());
    let refusals = [
        layout.resolve(&tag("v1").into()).await.map(drop).unwrap_err(),
        layout.begin_upload(&blob(b"new"), None).await.map(drop).unwrap_err(),
        layout.push_manifest(&image(b"content", json!({})), Some(&tag("v2"))).await.map(drop).unwrap_err(),
        layout.blob(&blob(b"content"), 0).await.map(drop).unwrap_err(),
    ];
    for error in refusals {
        assert!(error.detail.contains(LINK) && error.detail.contains("tree/team "), "{error}");
    }
    let new = Layout::open_in_tree(&root, &"team/new".parse().unwrap());
    assert!(new.begin_upload(&blob(b"new"), None).await.is_err());
    assert_eq!(files(outside.path()), before);
    // The operator chose the path of the tree, so the folder of the tree may be a link.
    symlink(&root, folder.path().join("link")).unwrap();
    let linked = Layout::open_in_tree(&folder.path().join("link"), &"other/app".parse().unwrap());
    push_image(&linked, b"content", "v1").await;
    assert!(root.join("other/app/index.json").is_file());
}
