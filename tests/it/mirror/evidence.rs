//! Tests that every moved tag has evidence, even if the process is killed right after the write or the journal cannot
//! be written.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Fault, Server, Setup};
use crate::support::site::Site;

/// Two registries and an entry `app` between them.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new(tags: &[&str]) -> Self {
        let (source, target, site) = (Server::start(), Server::start(), Site::new());
        for (seed, tag) in tags.iter().enumerate() {
            images::small(Family::Oci, seed as u64 + 1).put(&source, "app", Some(tag));
        }
        let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
        site.configure(&[source.host(), target.host()], &entry);
        Self { source, target, site }
    }

    /// Returns the tags at the target.
    fn arrived(&self) -> Vec<String> {
        self.target.store().tags("app").unwrap_or_default().into_keys().collect()
    }

    /// Returns each row of evidence: the tag, true if the row was recovered, and the previous digest.
    fn evidence(&self) -> Vec<(String, bool, Value)> {
        let rows = self.site.evidence(&[]);
        let row = |row: &Value| {
            (row["tag"].as_str().unwrap().to_owned(), row["recovered"].is_string(), row["previous"].clone())
        };
        let mut rows: Vec<_> = rows.iter().map(row).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    /// Makes the journal refuse a kind of write, as a full disk does.
    fn refuse(&self, name: &str, write: &str) {
        let refusal = format!("CREATE TRIGGER {name} BEFORE {write} BEGIN SELECT RAISE(FAIL, 'no room'); END");
        self.journal().execute_batch(&refusal).unwrap();
    }

    fn allow(&self, name: &str) {
        self.journal().execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }

    fn journal(&self) -> Connection {
        let db = Connection::open(self.site.journal()).unwrap();
        db.busy_timeout(DEADLINE).unwrap();
        db
    }

    /// Kills a run after the target has written a tag and before it has sent its response.
    fn killed_after_a_write(&self) {
        self.target.set(Fault::ManifestPutAnswerHeld);
        let before = self.arrived();
        // The first blob creates the repository, which has no tags at first.
        let tags = || self.target.store().tags("app").unwrap_or_default();
        let digests = tags();
        let mut running = self.site.start(&["once"]);
        running.wait_until("the tag at the target", |_| (tags() != digests).then_some(()));
        running.kill();
        self.target.heal();
        assert!(self.arrived().len() >= before.len());
    }
}

#[test]
fn tag_written_before_a_kill_gets_evidence_next_run() {
    let scene = Scene::new(&["v1", "v2", "v3"]);
    scene.killed_after_a_write();
    assert!(scene.evidence().len() < scene.arrived().len());
    let message = scene.site.run(&["evidence"]).expect_success().stderr;
    assert!(message.contains("an interrupted run was about to write tags"), "{message}");
    scene.site.once();
    let evidence = scene.evidence();
    let tags: Vec<&str> = evidence.iter().map(|(tag, ..)| tag.as_str()).collect();
    assert_eq!(tags, ["v1", "v2", "v3"], "each once");
    assert!(evidence.iter().any(|(_, recovered, _)| *recovered), "{evidence:?}");
    let recovered = scene.site.evidence(&[]).into_iter().find(|row| row["recovered"].is_string()).unwrap();
    let runs = scene.site.history(&[]);
    assert_eq!(
        (&recovered["run"], &runs[1]["outcome"]),
        (&runs[1]["run"], &"interrupted".into()),
        "evidence of the killed run"
    );
    let table = scene.site.run(&["evidence"]).expect_success();
    assert!(table.stdout.contains(" (recovered)") && table.stderr == "configuration: sync.yaml\n", "{table:?}");
    scene.target.log().clear();
    scene.site.once();
    assert_eq!(scene.target.log().count("manifest HEAD"), 3, "no intent is open");
}

#[test]
fn evidence_of_a_moved_tag_has_its_previous_digest() {
    let scene = Scene::new(&["v1"]);
    scene.site.once();
    let first = scene.target.store().tag("app", "v1").unwrap().to_string();
    images::small(Family::Oci, 7).put(&scene.source, "app", Some("v1"));
    scene.killed_after_a_write();
    let second = scene.target.store().tag("app", "v1").unwrap().to_string();
    scene.site.once();
    images::small(Family::Oci, 8).put(&scene.source, "app", Some("v1"));
    scene.site.once();
    let evidence = scene.evidence();
    let expected = |recovered, previous: Value| ("v1".to_owned(), recovered, previous);
    assert!(evidence.contains(&expected(false, Value::Null)), "{evidence:?}");
    assert!(evidence.contains(&expected(true, first.into())), "{evidence:?}");
    assert!(evidence.contains(&expected(false, second.into())), "{evidence:?}");
}

#[test]
fn intent_at_an_unreachable_target_stays_open_until_recovery() {
    let scene = Scene::new(&["v1"]);
    scene.killed_after_a_write();
    scene.target.set(Fault::Unavailable { next: 1000 });
    scene.site.run(&["once"]);
    assert_eq!(scene.evidence(), []);
    scene.target.heal();
    scene.site.once();
    assert_eq!(scene.evidence(), [("v1".to_owned(), true, Value::Null)]);
}

#[test]
fn unwritten_tag_leaves_no_evidence() {
    let scene = Scene::new(&["v1"]);
    scene.target.set(Fault::ManifestPutFailsFor("v1".into()));
    assert_eq!(scene.site.run(&["once"]).code(), 1);
    scene.target.heal();
    assert_eq!((scene.arrived().len(), scene.evidence().len()), (0, 0));
    scene.site.once();
    assert_eq!(scene.evidence(), [("v1".to_owned(), false, Value::Null)], "only evidence of the new run");
}

#[test]
fn tag_does_not_move_if_its_intent_is_unrecorded() {
    let scene = Scene::new(&["v0"]);
    scene.site.once();
    scene.refuse("full", "INSERT ON intents");
    images::small(Family::Oci, 9).put(&scene.source, "app", Some("v9"));
    let output = scene.site.run(&["once"]);
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stdout.contains("v9 was not written, because its evidence cannot be recorded"), "{}", output.stdout);
    assert_eq!(scene.arrived(), ["v0"]);
    scene.allow("full");
    scene.site.once();
    assert_eq!(scene.arrived(), ["v0", "v9"]);
    assert_eq!(scene.evidence().len(), 2);
}

#[test]
fn unwritten_evidence_is_completed_by_the_next_run() {
    let scene = Scene::new(&["v0"]);
    scene.site.once();
    images::small(Family::Oci, 9).put(&scene.source, "app", Some("v9"));
    scene.refuse("full", "INSERT ON evidence");
    assert_eq!(scene.site.run(&["once"]).code(), 1);
    assert_eq!((scene.arrived().len(), scene.evidence().len()), (2, 1));
    scene.allow("full");
    scene.site.once();
    assert_eq!(scene.evidence()[1], ("v9".to_owned(), true, Value::Null));
}

#[test]
fn entry_whose_run_end_is_unrecorded_runs_again() {
    let scene = Scene::new(&["v0"]);
    let (from, to) = (scene.source.host(), scene.target.host());
    let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}");
    let plain = format!("\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true}}");
    let daemon = format!("status: \"127.0.0.1:0\", control: \"{}\"", scene.site.path("control").display());
    scene.site.configure_fully(&daemon, &plain, &entry);
    scene.site.once();
    let mut daemon = scene.site.start(&["run"]);
    let address = daemon.ready();
    scene.refuse("full", "UPDATE OF ended ON runs");
    let failed = scene.site.run(&["trigger", "app", "--wait"]);
    assert_eq!(failed.code(), 1, "{failed:?}");
    scene.allow("full");
    let message = scene.site.run(&["trigger", "app", "--wait"]).expect_success();
    assert!(http::status(&address).is_some(), "{message:?}");
    let outcomes: Vec<Value> = scene.site.history(&[]).iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!(outcomes, ["succeeded"; 3], "the end of the run is recorded later, with its outcome");
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

impl Scene {
    /// Writes a `sync.yaml` with one entry of this name, whose target is this repository.
    fn rename(&self, entry: &str, repository: &str) {
        let (from, to) = (self.source.host(), self.target.host());
        let entry = format!("- {{name: {entry}, source: \"{from}/app\", target: \"{to}/{repository}\"}}");
        self.site.configure(&[from, to], &entry);
    }
}

#[test]
fn open_intent_of_a_renamed_entry_is_completed() {
    let scene = Scene::new(&["v1"]);
    scene.killed_after_a_write();
    scene.rename("renamed", "app");
    scene.site.once();
    assert_eq!(scene.evidence(), [("v1".to_owned(), true, Value::Null)]);
    assert_eq!(scene.site.evidence(&[])[0]["entry"], "app", "the evidence belongs to the killed run");
    assert_eq!(scene.site.run(&["evidence"]).expect_success().stderr, "configuration: sync.yaml\n");
}

#[test]
fn open_intent_is_completed_by_a_tree_over_its_target() {
    let scene = Scene::new(&["v1"]);
    scene.killed_after_a_write();
    let (from, to) = (scene.source.host(), scene.target.host());
    scene.site.configure(&[from, to], &format!("- {{name: all, source: \"{from}/**\", target: \"{to}/**\"}}"));
    scene.site.once();
    assert_eq!(scene.evidence(), [("v1".to_owned(), true, Value::Null)]);
}

#[test]
fn open_intent_at_a_target_without_entry_stays_in_doubt() {
    let scene = Scene::new(&["v1"]);
    scene.killed_after_a_write();
    let digest = scene.target.store().tag("app", "v1").unwrap().to_string();
    scene.rename("app", "elsewhere");
    for _ in 0..2 {
        let message = scene.site.run(&["once"]).expect_success().stderr;
        let lines: Vec<&str> = message.lines().filter(|line| line.contains("no entry writes to this target")).collect();
        let [line] = lines[..] else { panic!("{message}") };
        assert!(line.contains(&format!("{}/app", scene.target.host())) && line.contains("v1"), "{line}");
    }
    let elsewhere = format!("{}/elsewhere", scene.target.host());
    assert!(scene.site.evidence(&[]).iter().all(|row| row["target"] == elsewhere), "unproven arrivals are no evidence");
    let [open] = &scene.site.evidence(&["--in-doubt"])[..] else { panic!("one open intent") };
    assert_eq!((&open["tag"], &open["digest"]), (&"v1".into(), &Value::from(digest.clone())));
    let table = scene.site.run(&["evidence"]).expect_success().stdout;
    assert!(table.split_once("in doubt:").is_some_and(|(_, open)| open.contains(&digest)), "{table}");
    // A `copy` to the same target completes the intent, as a run of an entry does.
    let (from, to) = (format!("{}/app:v1", scene.source.host()), format!("{}/app", scene.target.host()));
    scene.site.run(&["copy", &from, &to]).expect_success();
    assert_eq!(scene.site.evidence(&["--in-doubt"]), [] as [Value; 0]);
    assert!(scene.evidence().contains(&("v1".to_owned(), true, Value::Null)), "{:?}", scene.evidence());
}

#[test]
fn daemon_completes_open_intents_at_start_without_a_run() {
    let scene = Scene::new(&["v1"]);
    scene.killed_after_a_write();
    // No run of an entry with the new name was interrupted, so no run starts automatically.
    let (from, to) = (scene.source.host(), scene.target.host());
    let plain = format!("\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true}}");
    let daemon = format!("status: \"127.0.0.1:0\", control: \"{}\"", scene.site.path("control").display());
    let entry = format!("- {{name: renamed, source: \"{from}/app\", target: \"{to}/app\"}}");
    scene.site.configure_fully(&daemon, &plain, &entry);
    let mut daemon = scene.site.start(&["run"]);
    daemon.wait_until("the evidence", |_| (!scene.site.evidence(&[]).is_empty()).then_some(()));
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert_eq!(scene.evidence(), [("v1".to_owned(), true, Value::Null)]);
    assert_eq!(scene.site.history(&[]).len(), 1, "only the run that was killed");
}

/// Creates a target without the referrers API and an entry with `overwrite: keep_previous`. A first run has copied
/// `v1`. Then `v1` has moved at the source to an image with an SBOM.
fn moved_with_an_sbom() -> (Scene, images::Image) {
    let (source, target) = (Server::start(), Server::with(Setup { referrers_api: false, ..Setup::default() }));
    let scene = Scene { source, target, site: Site::new() };
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    let (from, to) = (scene.source.host(), scene.target.host());
    let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\", overwrite: keep_previous}}");
    scene.site.configure(&[from, to], &entry);
    scene.site.once();
    let moved = images::small(Family::Oci, 2);
    moved.put(&scene.source, "app", Some("v1"));
    images::sbom(&moved, 1).put(&scene.source, "app", None);
    (scene, moved)
}

impl Scene {
    /// Asserts that the evidence has each tag of the target with its digest, and that nothing is in doubt.
    #[track_caller]
    fn assert_all_has_evidence(&self, instant: &str) {
        let rows = self.site.evidence(&[]);
        let known: BTreeSet<_> =
            rows.iter().map(|row| (row["tag"].as_str().unwrap(), row["digest"].as_str().unwrap())).collect();
        for (tag, digest) in self.target.store().tags("app").unwrap() {
            assert!(
                known.contains(&(tag.as_str(), digest.to_string().as_str())),
                "{instant}: {tag} {digest}: {known:#?}"
            );
        }
        assert_eq!(self.site.evidence(&["--in-doubt"]), [] as [Value; 0], "{instant}");
    }

    /// Returns the only evidence of this kind.
    #[track_caller]
    fn only(&self, kind: &str) -> Value {
        let rows = self.site.evidence(&[]);
        let of_kind: Vec<&Value> = rows.iter().filter(|row| row["kind"] == kind).collect();
        let [row] = of_kind[..] else { panic!("{kind}: {rows:#?}") };
        row.clone()
    }
}

#[test]
fn open_intent_of_a_since_moved_tag_is_completed() {
    let scene = Scene::new(&["v1"]);
    scene.killed_after_a_write();
    let first = scene.target.store().tag("app", "v1").unwrap().to_string();
    images::small(Family::Oci, 7).put(&scene.source, "app", Some("v1"));
    scene.refuse("full", "INSERT ON evidence");
    assert_eq!(scene.site.run(&["once"]).code(), 1, "the tag moves without evidence");
    scene.allow("full");
    scene.site.once();
    let mut evidence = scene.evidence();
    evidence.sort_by_key(|(.., previous)| previous.is_string());
    let row = |previous| ("v1".to_owned(), true, previous);
    assert_eq!(evidence, [row(Value::Null), row(first.into())]);
    assert_eq!(scene.site.evidence(&["--in-doubt"]), [] as [Value; 0]);
}

#[test]
fn kept_tags_and_referrers_lists_have_their_own_evidence_kinds() {
    let (scene, moved) = moved_with_an_sbom();
    let before = scene.target.store().tag("app", "v1").unwrap().to_string();
    scene.site.once();
    scene.assert_all_has_evidence("without a kill");
    let kept = scene.only("kept_previous");
    assert_eq!((kept["digest"].as_str(), &kept["source"]), (Some(before.as_str()), &kept["target"]));
    let list = scene.only("referrers_list");
    let sbom = images::sbom(&moved, 1).digest().to_string();
    assert_eq!((&list["listed"], &list["previous"]), (&Value::from(vec![sbom]), &Value::Null));
    assert_eq!(list["source_digest"], moved.digest().to_string(), "the digest of the subject");
    assert_eq!(
        scene.site.history(&[])[0]["counts"]["replaced"],
        1,
        "kept tags and lists do not count as tags of the run"
    );
    let table = scene.site.run(&["evidence"]).expect_success().stdout;
    assert!(table.contains(" (kept)") && table.contains(" (list of referrers)"), "{table}");
    // The evidence of an extended list has the previous digest.
    images::sbom(&moved, 2).put(&scene.source, "app", None);
    let (from, to) = (format!("{}/app:v1", scene.source.host()), format!("{}/app", scene.target.host()));
    scene.site.run(&["copy", &from, &to, "--again"]).expect_success();
    scene.assert_all_has_evidence("after another SBOM");
    assert_eq!(scene.site.evidence(&[])[0]["previous"], list["digest"]);
    let rows = scene.site.evidence(&[]).len();
    scene.site.run(&["copy", &from, &to, "--again"]).expect_success();
    scene.assert_all_has_evidence("after a list that had all of it");
    assert_eq!(scene.site.evidence(&[]).len(), rows, "nothing was written");
}

#[test]
fn kill_after_writing_a_kept_tag_or_list_loses_no_evidence() {
    for (part, kind) in [("/sha256-", "referrers_list"), (".previous-", "kept_previous")] {
        let (scene, _) = moved_with_an_sbom();
        scene.target.set(Fault::ManifestPutAnswerHeldFor(part));
        let is_there = || scene.arrived().iter().any(|tag| format!("/{tag}").contains(part));
        let mut running = scene.site.start(&["once"]);
        running.wait_until("the write", |_| is_there().then_some(()));
        running.kill();
        scene.target.heal();
        let open = scene.site.evidence(&["--in-doubt"]);
        assert!(open.iter().any(|row| row["kind"] == kind), "{kind}: {open:#?}");
        scene.site.once();
        scene.assert_all_has_evidence(kind);
        let recovered = |row: &&Value| row["kind"] == kind && row["recovered"].is_string();
        assert_eq!(scene.site.evidence(&[]).iter().filter(recovered).count(), 1, "{kind}");
    }
}

#[test]
fn left_behind_referrers_are_in_the_evidence_of_the_tag() {
    let scene = Scene::new(&["v1"]);
    let image = images::small(Family::Oci, 1);
    let sbom = images::sbom(&image, 1);
    sbom.put(&scene.source, "app", None);
    scene.target.set(Fault::ManifestPutFailsFor(sbom.digest().to_string()));
    assert_eq!(scene.site.run(&["once"]).code(), 4);
    let [row] = &scene.site.evidence(&[])[..] else { panic!("one tag") };
    let what = format!("referrer {} of {}", sbom.digest(), image.digest());
    assert_eq!(row["left_behind"][0]["what"], what, "{row:#}");
    let reason = row["left_behind"][0]["reason"].as_str().unwrap();
    let table = scene.site.run(&["evidence"]).expect_success().stdout;
    let line = format!("left behind when {}/app:v1 was copied: {what}: {reason}", scene.target.host());
    assert!(table.lines().any(|shown| shown == line), "{line} is not in {table}");
    let csv = scene.site.run(&["evidence", "--csv"]).expect_success().stdout;
    assert!(csv.contains(&what), "{csv}");
}
