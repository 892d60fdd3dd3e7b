//! Tests of killed writers: states on disk after a crash, and a real process that receives SIGKILL.

use std::process::{Child, Command, Stdio};

use super::*;

/// Folder that a child process writes to; unset in the process of the tests.
const CHILD_FOLDER: &str = "TRANSSHIP_TEST_LAYOUT";
/// Prefix of the tags that the child writes.
const CHILD_NAME: &str = "TRANSSHIP_TEST_NAME";

/// Body of a child process, which writes 20 images with tags, or writes images until the process is killed.
#[tokio::test]
async fn child_writes_images() {
    let Some(path) = std::env::var_os(CHILD_FOLDER) else { return };
    let name = std::env::var(CHILD_NAME).unwrap();
    let count = if name.starts_with("endless") { usize::MAX } else { 20 };
    let layout = Layout::open(Path::new(&path));
    for n in 0..count {
        let content = format!("{name} {n}").repeat(1000);
        push_image(&layout, content.as_bytes(), &format!("{name}-{n}")).await;
        push_image(&layout, content.as_bytes(), "latest").await;
    }
}

fn child(path: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "layout::tests::crash::child_writes_images"])
        .env(CHILD_FOLDER, path)
        .env(CHILD_NAME, name)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Asserts that every tag points at a manifest whose blobs all exist and match their digests. Returns the number of
/// tags.
async fn assert_whole(path: &Path) -> usize {
    let layout = Layout::open(path);
    let map = tag_map(&layout).await;
    for (name, digest) in &map {
        let manifest = layout.manifest(&tag(name).into()).await.unwrap();
        assert_eq!(Some(manifest.digest()), *digest);
        for blob in manifest.view().unwrap().blobs() {
            assert_eq!(Digest::of(&read(&layout, blob, 0).await.unwrap()), blob.digest);
        }
    }
    map.len()
}

#[tokio::test]
async fn two_processes_moving_tags_concurrently_lose_none() {
    let (_folder, path) = folder();
    let children = [child(&path, "a"), child(&path, "b")];
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(assert_whole(&path).await, 41);
}

#[tokio::test]
async fn killed_process_leaves_readable_and_writable_layout() {
    let (_folder, path) = folder();
    for round in 0..8 {
        let mut child = child(&path, &format!("endless{round}"));
        // In round N, kill the child after tag N.
        let reached = format!("endless{round}-{round}\"");
        while !fs::read_to_string(path.join("index.json")).is_ok_and(|index| index.contains(&reached)) {
            assert!(child.try_wait().unwrap().is_none(), "the child ended without a signal");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(assert_whole(&path).await > round);
        push_image(&Layout::open(&path), b"after", "after").await;
        let left: Vec<String> = files(&path).into_keys().filter(|name| name.contains("/.transship")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn temporary_files_of_dead_writers_alone_are_removed() {
    let (_folder, path) = folder();
    let living = Layout::open(&path);
    let session = begin(&living, &blob(b"content")).await;
    fs::write(path.join("blobs/.transship-1-0"), "half a blo").unwrap();
    fs::write(path.join("blobs/else"), "not ours").unwrap();
    push_blob(&Layout::open(&path), b"other").await;
    assert!(!path.join("blobs/.transship-1-0").exists());
    assert!(path.join("blobs/else").exists());
    session.send(verified(vec![b"content"], &blob(b"content"))).await.unwrap();
    assert!(living.has_blob(&blob(b"content")).await.unwrap());
}

#[tokio::test]
async fn interrupted_creation_is_completed_from_every_state() {
    let states: [&[&str]; 5] = [
        &[],
        &[".transship.lock"],
        &[".transship.lock", "blobs/sha256/"],
        &[".transship.lock", "blobs/sha256/", ".transship.new"],
        &[".transship.lock", "blobs/sha256/", "oci-layout", ".transship.new"],
    ];
    for state in states {
        let (_folder, path) = folder();
        fs::create_dir(&path).unwrap();
        for name in state {
            match *name {
                "oci-layout" => fs::write(path.join(name), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap(),
                name if name.ends_with('/') => fs::create_dir_all(path.join(name)).unwrap(),
                name => fs::write(path.join(name), "{\"image").unwrap(),
            }
        }
        let layout = Layout::open(&path);
        assert_eq!(layout.tags().next().await.unwrap().unwrap_err().kind, ErrorKind::NotFound, "{state:?}");
        push_image(&layout, b"content", "v1").await;
        assert_eq!(assert_whole(&path).await, 1, "{state:?}");
        assert!(!path.join(".transship.new").exists(), "{state:?}");
    }
}

#[tokio::test]
async fn interrupted_tag_move_reads_old_and_is_completed() {
    let (_folder, path) = folder();
    let layout = Layout::open(&path);
    let old = push_image(&layout, b"old", "v1").await;
    // The blobs and the manifest exist. The new index is half written, and not yet renamed to `index.json`.
    push_blob(&layout, b"new").await;
    let new = image(b"new", json!({}));
    layout.push_manifest(&new, None).await.unwrap();
    fs::write(path.join(".transship.new"), r#"{"schemaVersion":2,"manif"#).unwrap();
    let layout = Layout::open(&path);
    assert_eq!(tag_map(&layout).await["v1"], Some(old.digest()));
    layout.push_manifest(&new, Some(&tag("v1"))).await.unwrap();
    assert_eq!(tag_map(&layout).await["v1"], Some(new.digest()));
    assert_eq!(assert_whole(&path).await, 1);
}
