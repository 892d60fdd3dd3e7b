//! Tests of the arguments of `copy`, with layouts on both sides.

use std::path::Path;

use clap::Parser as _;

use super::super::tags::tests::layout_of;
use super::*;
use crate::cli::context::invocation::tests::context;
use crate::cli::output::writer::tests::OutputBuffer;
use crate::layout::Layout;
use crate::oci::Digest;
use crate::store::Source as _;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    copy: Copy,
}

/// Parses the arguments, with `--no-journal` before them.
fn copy(args: &[&str]) -> Copy {
    Line::try_parse_from([&["copy", "--no-journal"], args].concat()).unwrap_or_else(|error| panic!("{error}")).copy
}

/// Runs `copy` with these arguments, and returns the outcome of each tag.
async fn outcome(args: &[&str]) -> Result<Vec<TagOutcome>, String> {
    let copy = copy(args);
    let copied = async {
        let endpoints: Arc<Endpoints> = Arc::default();
        let single = copy.choose_single(&endpoints).await?;
        let engine = Engine { copier: Copier::new(MEMORY), endpoints, journal: None };
        copy.run(&engine, single, &context()).await
    };
    let report = copied.await.map_err(|failure: Failure| failure.to_string())?;
    Ok(report.tags.into_iter().map(|tag| tag.outcome).collect())
}

async fn digest(path: &Path, tag: &str) -> Option<Digest> {
    let reference = ManifestRef::Tag(tag.parse().unwrap());
    Layout::open(path).resolve(&reference).await.unwrap().map(|descriptor| descriptor.digest)
}

fn text(path: &Path) -> String {
    format!("oci-layout:{}", path.display())
}

#[tokio::test]
async fn tag_is_copied_once_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    layout_of(&from, &["v1", "v2"]).await;
    let (v1, v2, stable) = (text(&from) + ":v1", text(&from) + ":v2", text(&to) + ":stable");
    assert_eq!(outcome(&[&v1, &stable]).await, Ok(vec![TagOutcome::Copied]));
    assert_eq!(digest(&to, "stable").await, digest(&from, "v1").await);
    assert_eq!(digest(&to, "v1").await, None);
    assert_eq!(outcome(&[&v1, &stable]).await, Ok(vec![TagOutcome::Unchanged]));
    let previous = digest(&from, "v1").await.unwrap();
    let moved = outcome(&["--force", &v2, &stable]).await;
    assert_eq!(moved, Ok(vec![TagOutcome::Replaced { previous, kept_as: None }]));
}

#[tokio::test]
async fn tag_with_another_digest_is_moved_only_with_force() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    layout_of(&from, &["v1", "v2"]).await;
    let v2 = digest(&from, "v2").await.unwrap();
    outcome(&[&(text(&from) + ":v1"), &(text(&to) + ":v2")]).await.unwrap();
    let v1 = digest(&to, "v2").await.unwrap();
    let reason = format!("the target has {v1}, the source has {v2}: add --force to move the tag");
    let (one, all, target) = (text(&from) + ":v2", text(&from), text(&to));
    for args in [vec![one.as_str(), &target], vec!["--all-tags", &all, &target]] {
        for first in [&["--dry-run"][..], &[]] {
            let args = [first, &args].concat();
            assert_eq!(copy(&args).perform(&mut context()).await.unwrap(), Exit::Withheld, "{args:?}");
            assert_eq!(digest(&to, "v2").await, Some(v1));
        }
        let outcomes = outcome(&args).await.unwrap();
        assert!(outcomes.contains(&TagOutcome::Blocked { reason: reason.clone() }), "{outcomes:?}");
    }
}

#[tokio::test]
async fn source_without_tag_means_latest_and_not_all_tags() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    layout_of(&from, &["v1", "latest", "v2"]).await;
    assert_eq!(outcome(&[&text(&from), &text(&to)]).await, Ok(vec![TagOutcome::Copied]));
    assert_eq!(digest(&to, "latest").await, digest(&from, "latest").await);
    assert_eq!(digest(&to, "v1").await, None);
    let registry = copy(&["docker://alpine", "h.example/alpine"]);
    let single = registry.choose_single(&Endpoints::default()).await.unwrap().unwrap();
    assert_eq!(registry.title(Some(&single)), "docker.io/library/alpine:latest");
    assert_eq!(single.tag.unwrap().as_str(), "latest");
}

#[tokio::test]
async fn digest_is_copied_without_tag_and_repository_with_all() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    layout_of(&from, &["v1", "v2"]).await;
    let v1 = digest(&from, "v1").await.unwrap();
    let (source, target) = (text(&from), text(&to));
    assert_eq!(outcome(&[&format!("{source}@{v1}"), &target]).await, Ok(vec![TagOutcome::Copied]));
    assert!(Layout::open(&to).resolve(&ManifestRef::Digest(v1)).await.unwrap().is_some());
    assert_eq!(digest(&to, "v1").await, None);
    let several = outcome(&[&source, &target]).await.unwrap_err();
    assert!(several.ends_with(":TAG, or copy all with --all-tags"), "{several}");
    let all = outcome(&["--all-tags", &source, &target]).await;
    assert_eq!(all, Ok(vec![TagOutcome::Copied, TagOutcome::Copied]));
    assert_eq!(digest(&to, "v1").await, Some(v1));
}

#[tokio::test]
async fn tree_of_layouts_is_copied_to_one_layout_each() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for repository in ["team", "team/app", "tools"] {
        layout_of(&from.join(repository), &["v1"]).await;
    }
    let (source, target) = (text(&from) + "/**", text(&to) + "/**");
    let copied = outcome(&["--all-tags", &source, &target]).await;
    assert_eq!(copied, Ok(vec![TagOutcome::Copied, TagOutcome::Copied, TagOutcome::Copied]));
    for repository in ["team/app", "team", "tools"] {
        assert!(digest(&to.join(repository), "v1").await.is_some(), "{repository}");
    }
    let again = outcome(&["--all-tags", &source, &target]).await;
    assert_eq!(again, Ok(vec![TagOutcome::Unchanged; 3]));
}

#[tokio::test]
async fn archive_collects_tags_of_several_copies() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    layout_of(&from, &["v1", "v2"]).await;
    let archive = format!("oci-archive:{}/x.tar", folder.path().display());
    for tag in [":v1", ":v2"] {
        assert_eq!(outcome(&[&(text(&from) + tag), &archive]).await, Ok(vec![TagOutcome::Copied]));
    }
    let back = folder.path().join("back");
    let copied = outcome(&["--all-tags", &archive, &text(&back)]).await;
    assert_eq!(copied, Ok(vec![TagOutcome::Copied, TagOutcome::Copied]));
    assert_eq!(digest(&back, "v2").await, digest(&from, "v2").await);
}

#[tokio::test]
async fn archive_that_cannot_be_completed_fails_its_tags() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    layout_of(&from, &["v1"]).await;
    // Before the copy ends, the test creates a folder at the path of the archive. So the last rename fails.
    let path = folder.path().join("x.tar");
    let (source, archive) = (text(&from) + ":v1", format!("oci-archive:{}", path.display()));
    let copy = copy(&[&source, &archive]);
    let endpoints: Arc<Endpoints> = Arc::default();
    let target = endpoints.target(&copy.target.0.repository, AccessContext::default()).unwrap();
    target
        .begin_upload(
            &layout_of(&folder.path().join("other"), &["x"])
                .await
                .resolve(&ManifestRef::Tag("x".parse().unwrap()))
                .await
                .unwrap()
                .unwrap(),
            None,
        )
        .await
        .map(drop)
        .unwrap();
    std::fs::create_dir(&path).unwrap();
    let single = copy.choose_single(&endpoints).await.unwrap();
    let engine = Engine { copier: Copier::new(MEMORY), endpoints, journal: None };
    let report = copy.run(&engine, single, &context()).await.unwrap();
    let [TagOutcome::Failed { side: Some(Side::Target), message, .. }] =
        &report.tags.iter().map(|tag| tag.outcome.clone()).collect::<Vec<_>>()[..]
    else {
        panic!("{report:#?}")
    };
    assert!(message.contains("completing the archive: ") && message.ends_with("is not a regular file: remove it"));
    assert!(!folder.path().join(".x.tar.transship-new").exists(), "the run removes its new file");
}

#[tokio::test]
async fn dry_run_shows_the_change_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    layout_of(&from, &["v1"]).await;
    let (source, target) = (text(&from) + ":v1", text(&to));
    let buffer = OutputBuffer::default();
    let mut context = Context { output: buffer.output(), ..context() };
    let exit = copy(&["--dry-run", &source, &target]).perform(&mut context).await.unwrap();
    assert_eq!(exit, Exit::Ok);
    let text = buffer.text();
    assert!(text.starts_with(&format!("{source}: 1 to copy, 394 B to send\n")) && text.contains(&target), "{text}");
    assert!(!to.exists());
    outcome(&[&source, &target]).await.unwrap();
    copy(&["--dry-run", &source, &target]).perform(&mut context).await.unwrap();
    assert!(buffer.text().contains("nothing to change (1 unchanged)"), "{}", buffer.text());
}

#[tokio::test]
async fn contradictory_arguments_are_refused_before_any_copy() {
    let digest = Digest::of(b"x");
    let message = async |args: &[&str]| copy(args).perform(&mut context()).await.unwrap_err().to_string();
    let whole = "error: t.example/a:v1 is one tag, and --all-tags copies several: name the repository alone";
    assert_eq!(message(&["--all-tags", "h.example/a", "t.example/a:v1"]).await, whole);
    let pinned = message(&["--all-tags", "h.example/a:v1", "t.example/a"]).await;
    assert!(pinned.starts_with("error: h.example/a:v1 is one manifest, and --all-tags copies a repository"));
    let tree = message(&["h.example/**", "oci-layout:x/**"]).await;
    assert_eq!(tree, "error: h.example/** names several repositories: add --all-tags");
    let one = message(&["--all-tags", "h.example/**", "oci-layout:x"]).await;
    assert!(one.ends_with("write the target with /** too"), "{one}");
    let written = message(&["h.example/a:v1", &format!("t.example/a@{digest}")]).await;
    assert!(written.ends_with("which cannot be chosen: name a tag or nothing"), "{written}");
    let pinned = message(&["--platform", "linux/amd64", &format!("h.example/a@{digest}"), "t.example/a"]).await;
    assert!(pinned.starts_with("error: --platform creates a new index, whose digest differs from sha256:"), "{pinned}");
}

#[test]
fn platforms_are_a_list_with_commas_or_repeated() {
    let listed = copy(&["--platform", "linux/amd64,linux/arm64", "alpine", "h.example/a"]);
    let repeated = copy(&["--platform", "linux/amd64", "--platform", "linux/arm64", "alpine", "h.example/a"]);
    assert_eq!(listed.platforms, repeated.platforms);
    assert_eq!(listed.platforms.len(), 2);
}

#[tokio::test]
async fn missing_source_tag_is_a_failure_of_the_source() {
    let folder = tempfile::tempdir().unwrap();
    layout_of(folder.path(), &["v1"]).await;
    let place = text(folder.path());
    let target = text(&folder.path().join("to"));
    let outcomes = outcome(&[&format!("{place}:v2"), &target]).await.unwrap();
    let [TagOutcome::Failed { side: Some(Side::Source), message, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(*message, format!("source {place}: there is no v2; the nearest tag is v1"));
}
