//! Tests of archives: reading archives of other programs, writing, publishing, and what a killed writer leaves.

use std::fs::File;
use std::io::Write as _;

use super::*;
use crate::layout::archive::Archive;
use crate::layout::fault::Fault;

/// Returns a folder and the path of an archive in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    (folder, path)
}

async fn resolve(path: &Path, name: &str) -> Result<Option<Descriptor>, StoreError> {
    Layout::open_archive(path).resolve(&ManifestRef::Tag(tag(name))).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn published_archive_has_all_tags_and_no_temporary_file() {
    let (folder, path) = place();
    let archive = Layout::open_archive(&path);
    let first = push_image(&archive, b"one", "v1").await;
    assert!(!path.exists(), "nothing is visible before the publication");
    archive.publish().await.unwrap();
    assert_eq!(names(folder.path()), ["x.tar"]);
    let second = push_image(&archive, b"two", "v2").await;
    assert_eq!(resolve(&path, "v2").await.unwrap(), None);
    archive.publish().await.unwrap();
    archive.publish().await.unwrap();
    for (name, manifest) in [("v1", &first), ("v2", &second)] {
        assert_eq!(resolve(&path, name).await.unwrap().unwrap().digest, manifest.digest());
        let read = Layout::open_archive(&path).manifest(&ManifestRef::Tag(tag(name))).await.unwrap();
        assert_eq!(read.bytes(), manifest.bytes());
    }
    assert_eq!(names(folder.path()), ["x.tar"]);
}

#[tokio::test]
async fn killed_writer_leaves_the_old_archive_and_next_writer_continues() {
    let (folder, path) = place();
    let archive = Layout::open_archive(&path);
    push_image(&archive, b"one", "v1").await;
    archive.publish().await.unwrap();
    let before = fs::read(&path).unwrap();
    push_image(&archive, b"two", "v2").await;
    // Simulate a killed process: the new file stays, but nobody holds its lock.
    let left = fs::read(folder.path().join(".x.tar.transship-new")).unwrap();
    drop(archive);
    fs::write(folder.path().join(".x.tar.transship-new"), left).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    let next = Layout::open_archive(&path);
    push_image(&next, b"three", "v3").await;
    next.publish().await.unwrap();
    assert_eq!(names(folder.path()), ["x.tar"]);
    assert!(resolve(&path, "v1").await.unwrap().is_some() && resolve(&path, "v3").await.unwrap().is_some());
    assert_eq!(resolve(&path, "v2").await.unwrap(), None);
}

#[tokio::test]
async fn cancelled_upload_leaves_no_gap_in_the_archive() {
    let (folder, path) = place();
    let archive = Layout::open_archive(&path);
    push_image(&archive, b"one", "v1").await;
    let region = archive.disk.create_temporary(1 << 20).unwrap();
    drop(region);
    archive.publish().await.unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    assert_eq!(names(folder.path()), ["x.tar"]);
    assert!(resolve(&path, "v1").await.unwrap().is_some());
}

#[tokio::test]
async fn publication_during_an_upload_keeps_the_upload() {
    let (_folder, path) = place();
    let archive = Layout::open_archive(&path);
    push_image(&archive, b"one", "v1").await;
    let mut region = archive.disk.create_temporary(3).unwrap();
    archive.publish().await.unwrap();
    assert!(resolve(&path, "v1").await.unwrap().is_some());
    region.write(&[bytes::Bytes::from_static(b"two")]).unwrap();
    let digest = Digest::of(b"two");
    archive.disk.commit(region, &digest).unwrap();
    archive.publish().await.unwrap();
    let size = Layout::open_archive(&path).disk.blob_size(&digest).unwrap();
    assert_eq!(size, Some(3));
}

#[tokio::test]
async fn region_refuses_more_and_fewer_bytes_than_reserved() {
    let (_folder, path) = place();
    let archive = Layout::open_archive(&path);
    push_image(&archive, b"one", "v1").await;
    let mut region = archive.disk.create_temporary(2).unwrap();
    assert!(matches!(region.write(&[bytes::Bytes::from_static(b"two")]), Err(Fault::Length { .. })));
    let region = archive.disk.create_temporary(2).unwrap();
    let committed = archive.disk.commit(region, &Digest::of(b"two"));
    assert!(matches!(committed, Err(Fault::Length { .. })));
}

#[tokio::test]
async fn second_process_cannot_write_at_the_same_time() {
    let (_folder, path) = place();
    let first = Layout::open_archive(&path);
    push_image(&first, b"one", "v1").await;
    let other = Archive::new(&path);
    assert!(!other.start_writing(b"{}").unwrap());
    first.publish().await.unwrap();
    assert!(other.start_writing(b"{}").unwrap());
}

#[tokio::test]
async fn new_file_is_never_written_through_a_link() {
    let (folder, path) = place();
    let (new, outside) = (folder.path().join(".x.tar.transship-new"), folder.path().join("outside"));
    fs::write(&outside, "precious").unwrap();
    std::os::unix::fs::symlink(&outside, &new).unwrap();
    let archive = Layout::open_archive(&path);
    let error = archive.begin_upload(&blob(b"one"), None).await.map(drop).unwrap_err();
    assert!(error.detail.starts_with(&format!("{} is a symbolic link", new.display())), "{error}");
    fs::remove_file(&new).unwrap();
    fs::hard_link(&outside, &new).unwrap();
    push_image(&archive, b"one", "v1").await;
    archive.publish().await.unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"precious", "a file of a killed process is replaced, not written");
    fs::create_dir(&new).unwrap();
    let error = archive.begin_upload(&blob(b"two"), None).await.map(drop).unwrap_err();
    assert!(error.detail.ends_with("is not a regular file: remove it"), "{error}");
}

#[tokio::test]
async fn link_to_an_archive_stays_and_its_target_is_replaced() {
    let (folder, path) = place();
    fs::create_dir(folder.path().join("disk")).unwrap();
    let real = folder.path().join("disk/real.tar");
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let first = Layout::open_archive(&real);
    push_image(&first, b"one", "v1").await;
    let other = Archive::new(&path);
    assert!(!other.start_writing(b"{}").unwrap(), "both paths have one lock");
    first.publish().await.unwrap();
    let second = Layout::open_archive(&path);
    push_image(&second, b"two", "v2").await;
    second.publish().await.unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(resolve(&real, "v1").await.unwrap().is_some() && resolve(&real, "v2").await.unwrap().is_some());
    assert_eq!(names(folder.path()), ["disk", "x.tar"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_of_an_archive_lose_no_tag() {
    let (folder, path) = place();
    // `one` and `other` act as two processes. The two tasks with `one` act as two entries of one process.
    let (one, other) = (Layout::open_archive(&path), Layout::open_archive(&path));
    let tasks = [(one.clone(), "a"), (one, "b"), (other, "c")].map(|(archive, name)| {
        tokio::spawn(async move {
            for number in 0..20 {
                let tag = format!("{name}{number}");
                push_image(&archive, tag.as_bytes(), &tag).await;
                archive.publish().await.unwrap();
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(tag_map(&Layout::open_archive(&path)).await.len(), 60);
    assert_eq!(names(folder.path()), ["x.tar"]);
}

#[tokio::test]
async fn archive_that_another_program_changed_is_not_replaced() {
    let (folder, path) = place();
    let (archive, other) = (Layout::open_archive(&path), folder.path().join("other.tar"));
    push_image(&archive, b"one", "v1").await;
    archive.publish().await.unwrap();
    push_image(&archive, b"two", "v2").await;
    // The other program does not use the lock.
    let theirs = Layout::open_archive(&other);
    push_image(&theirs, b"three", "v3").await;
    theirs.publish().await.unwrap();
    fs::rename(&other, &path).unwrap();
    let error = archive.publish().await.unwrap_err();
    assert!(error.detail.starts_with("another program has changed") && error.detail.ends_with("run again"), "{error}");
    assert!(resolve(&path, "v3").await.unwrap().is_some());
    assert_eq!(names(folder.path()), ["x.tar"]);
    push_image(&archive, b"two", "v2").await;
    archive.publish().await.unwrap();
    assert!(resolve(&path, "v3").await.unwrap().is_some() && resolve(&path, "v2").await.unwrap().is_some());
}

#[tokio::test]
async fn end_of_the_last_run_removes_unpublished_content() {
    let (folder, path) = place();
    let archive = Layout::open_archive(&path);
    archive.enter();
    archive.enter();
    let region = archive.begin_upload(&blob(b"zero"), None).await.unwrap();
    push_image(&archive, b"one", "v1").await;
    archive.leave().await;
    assert!(archive.is_staging(), "another run may publish the content");
    archive.leave().await;
    assert!(!archive.is_staging());
    assert_eq!(names(folder.path()), [""; 0]);
    assert_eq!(archive.resolve(&tag("v1").into()).await.unwrap(), None);
    // The upload of the ended run must not write into the next new file.
    push_image(&archive, b"two", "v2").await;
    let UploadStart::Session(session) = region else { panic!("nothing can be mounted") };
    let late = session.send(verified(vec![b"zero"], &blob(b"zero"))).await.unwrap_err();
    assert!(late.detail.contains("the writes to"), "{late}");
    archive.publish().await.unwrap();
    assert_eq!(Layout::open_archive(&path).disk.blob_size(&Digest::of(b"zero")).unwrap(), None);
    assert!(resolve(&path, "v2").await.unwrap().is_some());
}

#[tokio::test]
async fn members_of_other_programs_keep_their_long_names() {
    let (_folder, path) = place();
    // The 99th byte is inside a two-byte letter.
    let long =
        ["x".repeat(98) + "äöü", "y".repeat(511), "z".repeat(512), format!("{}/{}", "a".repeat(600), "ß".repeat(99))];
    let mut members: Vec<(&str, &[u8])> = long.iter().map(|name| (name.as_str(), &b"foreign"[..])).collect();
    members.push(("index.json", b"{}"));
    write_tar(&path, &members);
    let archive = Layout::open_archive(&path);
    push_image(&archive, b"one", "v1").await;
    archive.publish().await.unwrap();
    let read = Archive::new(&path);
    for name in &long {
        let content = read.open(name).unwrap().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(content.read_up_to(9, &path).unwrap(), b"foreign");
    }
    let mut tar = tar::Archive::new(File::open(&path).unwrap());
    let listed: Vec<PathBuf> =
        tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(long.iter().all(|name| listed.contains(&PathBuf::from(name))), "{listed:?}");
    assert!(resolve(&path, "v1").await.unwrap().is_some());
}

#[tokio::test]
async fn member_whose_name_would_be_lost_refuses_the_write() {
    let (_folder, path) = place();
    write_tar(&path, &[("index.json", b"{}")]);
    let mut bytes = fs::read(&path).unwrap();
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..4].copy_from_slice(b"\xff\xfe.x");
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(0);
    header.set_cksum();
    bytes.splice(0..0, header.as_bytes().iter().copied());
    fs::write(&path, &bytes).unwrap();
    let archive = Layout::open_archive(&path);
    let error = archive.begin_upload(&blob(b"one"), None).await.map(drop).unwrap_err();
    assert!(error.detail.contains("whose name a new archive cannot have"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// Writes a tar file with these members by the `tar` crate.
fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

#[tokio::test]
async fn archive_of_another_program_is_read_in_place() {
    let (folder, path) = place();
    let layout = Layout::open(&folder.path().join("layout"));
    let manifest = push_image(&layout, b"one", "v1").await;
    // GNU tar writes `./` before each name and adds the folders.
    let status = std::process::Command::new("tar")
        .arg("-C")
        .arg(folder.path().join("layout"))
        .arg("-cf")
        .arg(&path)
        .arg(".")
        .status()
        .unwrap();
    assert!(status.success());
    let archive = Layout::open_archive(&path);
    let read = archive.manifest(&ManifestRef::Tag(tag("v1"))).await.unwrap();
    assert_eq!(read.bytes(), manifest.bytes());
    let size = archive.disk.blob_size(&Digest::of(b"one")).unwrap();
    assert_eq!(size, Some(3));
}

#[tokio::test]
async fn file_that_is_no_archive_is_refused_with_its_reason() {
    let (folder, path) = place();
    let message = async || Layout::open_archive(&path).resolve(&ManifestRef::Tag(tag("v1"))).await.unwrap_err().detail;
    for (bytes, reason) in [
        (&b"\x1f\x8b12345"[..], "the file is compressed: decompress it first, with `gunzip`"),
        (&[7; 1024], "the file is not a tar archive"),
        (b"short", "the file is not a tar archive"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(message().await, format!("{}: {reason}", path.display()));
    }
    write_tar(&path, &[("index.json", &[b' '; 600])]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..700]).unwrap();
    assert!(message().await.contains("the file is truncated: its member at byte 0 is incomplete"));
    assert_eq!(
        Layout::open_archive(folder.path()).resolve(&ManifestRef::Tag(tag("v1"))).await.unwrap_err().detail,
        format!("{0}: is a folder, not an archive: write oci-layout:{0}", folder.path().display())
    );
}

#[tokio::test]
async fn tar_file_of_other_content_is_not_overwritten() {
    let (_folder, path) = place();
    write_tar(&path, &[("holiday.jpg", b"sun")]);
    let before = fs::read(&path).unwrap();
    let archive = Layout::open_archive(&path);
    let manifest = image(b"", json!({}));
    let error = archive.push_manifest(&manifest, Some(&tag("v1"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.detail.ends_with("so it is not an OCI archive: name another file"), "{error}");
    archive.publish().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn member_names_and_sizes_come_from_extensions_too() {
    let (_folder, path) = place();
    let long = format!("blobs/sha512/{}", "a".repeat(128));
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    builder.append_pax_extensions([("path", long.as_bytes()), ("size", b"5".as_slice())]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(5);
    header.set_cksum();
    builder.append(&header, &b"hello"[..]).unwrap();
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "./index.json", "/etc/passwd").unwrap();
    builder.into_inner().unwrap().flush().unwrap();
    let archive = Archive::new(&path);
    assert_eq!(archive.open(&long).unwrap().unwrap().read_up_to(9, &path).unwrap(), b"hello");
    assert!(archive.open("short").unwrap().is_none());
    assert!(matches!(archive.open("index.json"), Err(Fault::NotRegular { .. })), "links are not followed");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_archive_is_an_error_and_never_a_panic(position in 0_usize..4096, byte: u8, length in 0_usize..4096) {
        let (_folder, path) = place();
        write_tar(&path, &[("index.json", b"{}"), ("blobs/sha256/x", &[1; 700])]);
        let mut bytes = fs::read(&path).unwrap();
        let position = position % bytes.len();
        bytes[position] = byte;
        bytes.truncate(length.max(1));
        fs::write(&path, &bytes).unwrap();
        let archive = Archive::new(&path);
        if let Ok(Some(content)) = archive.open("blobs/sha256/x") {
            assert!(content.read_up_to(1 << 20, &path).is_ok_and(|bytes| bytes.len() <= 4096));
        }
    }
}
