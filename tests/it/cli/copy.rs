//! Tests of `transship copy`: its requests to source and target, and its records in the journal.

use serde_json::Value;

use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Output, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::{Site, parse};

/// Two registries and a folder without a configuration.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        Self { source: Server::start(), target: Server::start(), site: Site::new() }
    }

    /// Runs `copy` with these further arguments after source and target.
    fn copy(&self, source: &str, target: &str, args: &[&str]) -> Output {
        self.start(source, target, args).wait(DEADLINE)
    }

    fn start(&self, source: &str, target: &str, args: &[&str]) -> Running {
        let (from, to) = (format!("{}/{source}", self.source.host()), format!("{}/{target}", self.target.host()));
        let plain = ["--plain-http", self.source.host(), "--plain-http", self.target.host()];
        let mut command = self.site.command(&[&["copy", &from, &to][..], &plain, args].concat());
        command.env_remove("TRANSSHIP_CONFIG");
        Running::start(&mut command)
    }

    fn list_records(&self, what: &str) -> Vec<Value> {
        let journal = self.site.path("state/transship/journal.db");
        let output = self.site.run(&[what, "--json", "--journal", journal.to_str().unwrap()]).expect_success();
        parse(&output.stdout).as_array().unwrap().clone()
    }
}

#[test]
fn copy_is_recorded_in_the_journal_at_its_default_path() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    scene.copy("app:v1", "mine:stable", &[]).expect_success();
    images::small(Family::Oci, 2).put(&scene.source, "app", Some("v1"));
    scene.copy("app:v1", "mine:stable", &[]).expect_success();
    scene.copy("app", "whole", &[]).expect_success();

    let [whole, second, first] = &scene.list_records("evidence")[..] else {
        panic!("{:#?}", scene.list_records("evidence"))
    };
    assert_eq!((&first["tag"], &first["previous"]), (&"stable".into(), &Value::Null));
    assert_eq!((&second["previous"], &second["source_reference"]), (&first["digest"], &"v1".into()));
    assert_eq!(whole["target"], format!("{}/whole", scene.target.host()));
    let runs = scene.list_records("history");
    let message: Vec<_> = runs.iter().map(|run| (&run["entry"], &run["trigger"], &run["outcome"])).collect();
    assert_eq!(message, [(&"(copy)".into(), &"manual".into(), &"succeeded".into()); 3]);
    let mut command = scene.site.command(&["history"]);
    let by_default = Running::start(command.env_remove("TRANSSHIP_CONFIG")).wait(DEADLINE).expect_success();
    assert!(by_default.stdout.contains("(copy)"), "without a configuration too: {}", by_default.stdout);
}

#[test]
fn unchanged_image_costs_one_manifest_head_per_side() {
    let scene = Scene::new();
    images::two_platforms(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    for args in [&[][..], &["--platform", "linux/arm64"]] {
        scene.copy("app:v1", "app", args).expect_success();
        [&scene.source, &scene.target].iter().for_each(|side| side.log().clear());
        let message = scene.copy("app:v1", "app", args).expect_success().stdout;
        assert!(message.contains("nothing changed"), "{message}");
        for side in [&scene.source, &scene.target] {
            let requested: Vec<String> = side.log().requests().iter().map(|one| one.kind.clone()).collect();
            assert_eq!(
                requested.iter().filter(|kind| kind.starts_with("manifest ")).count(),
                1,
                "{args:?} {requested:?}"
            );
            assert_eq!(side.log().count("manifest HEAD"), 1, "{args:?} {requested:?}");
        }
    }
}

#[test]
fn late_signature_is_copied_by_copy_with_again() {
    let scene = Scene::new();
    let image = images::small(Family::Oci, 1);
    image.put(&scene.source, "app", Some("v1"));
    scene.copy("app:v1", "app", &[]).expect_success();
    let signature = format!("sha256-{}.sig", image.digest().hex());
    images::small(Family::Oci, 2).put(&scene.source, "app", Some(&signature));
    scene.copy("app:v1", "app", &["--again"]).expect_success();
    assert_eq!(scene.target.store().tag("app", &signature), scene.source.store().tag("app", &signature));
}

#[test]
fn next_copy_completes_the_evidence_of_a_killed_copy() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    scene.target.set(Fault::ManifestPutAnswerHeld);
    let mut running = scene.start("app:v1", "app", &[]);
    running.wait_until("the tag", |_| scene.target.store().tag("app", "v1").map(drop));
    running.kill();
    scene.target.heal();
    scene.copy("app:v1", "elsewhere", &[]).expect_success();
    assert_eq!(scene.list_records("evidence").len(), 1, "the first target gets no request");
    scene.copy("app:v1", "app", &[]).expect_success();
    let evidence = scene.list_records("evidence");
    assert!(evidence.len() == 2 && evidence.iter().any(|row| row["recovered"].is_string()), "{evidence:#?}");
}

#[test]
fn entry_run_completes_the_evidence_of_a_killed_copy() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    let (from, to) = (scene.source.host(), scene.target.host());
    scene.site.configure(&[from, to], &format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}"));
    scene.target.set(Fault::ManifestPutAnswerHeld);
    let mut running = scene.site.start(&["copy", &format!("{from}/app:v1"), &format!("{to}/app")]);
    running.wait_until("the tag", |_| scene.target.store().tag("app", "v1").map(drop));
    running.kill();
    scene.target.heal();
    scene.site.once();
    let evidence = scene.site.evidence(&[]);
    let [row] = &evidence[..] else { panic!("{evidence:#?}") };
    assert!(row["entry"] == "(copy)" && row["recovered"].is_string(), "{row:#}");
}

#[test]
fn unlistable_referrers_are_reported_and_retried_by_copy() {
    let scene = Scene::new();
    let image = images::small(Family::Oci, 1);
    image.put(&scene.source, "app", Some("v1"));
    images::sbom(&image, 1).put(&scene.source, "app", None);
    scene.source.set(Fault::ReferrersAnswered { status: 500, times: 100 });
    let report = parse(&scene.copy("app:v1", "app", &["--json"]).stdout);
    assert_eq!(report["in_doubt"][0]["digest"], image.digest().to_string(), "{report:#}");
    scene.source.heal();
    let report = parse(&scene.copy("app:v1", "app", &["--json"]).expect_success().stdout);
    assert_eq!((&report["in_doubt"], &report["tags"][0]["outcome"]), (&Value::Array(Vec::new()), &"unchanged".into()));
    assert_eq!(scene.target.store().referrers("app", &image.digest()).len(), 1);
}

#[test]
fn concurrent_copies_of_one_image_do_not_block() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    scene.target.set(Fault::Held("manifest PUT"));
    let running: Vec<Running> = (0..3).map(|_| scene.start("app:v1", "app", &[])).collect();
    let mut all = running;
    all[0].wait_until("all three", |_| (scene.target.log().count("manifest PUT") == 3).then_some(()));
    scene.target.heal();
    for one in all {
        one.wait(DEADLINE).expect_success();
    }
    assert_eq!(scene.list_records("history").len(), 3);
}

#[test]
fn copy_without_a_journal_path_warns_and_succeeds() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    std::fs::write(scene.site.path("state"), "no folder").unwrap();
    let message = scene.copy("app:v1", "app", &[]).expect_success();
    assert!(message.stderr.contains("this copy is not recorded"), "{}", message.stderr);
    let message = scene.copy("app:v1", "again", &["--no-journal"]).expect_success();
    assert!(!message.stderr.contains("not recorded"), "{}", message.stderr);
    std::fs::remove_file(scene.site.path("state")).unwrap();
    std::fs::create_dir_all(scene.site.path("state/transship")).unwrap();
    std::fs::write(scene.site.path("state/transship/journal.db"), "another program's file, and not small".repeat(90))
        .unwrap();
    let refused = scene.copy("app:v1", "third", &[]);
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr.contains("is not a journal of transship") && refused.stderr.contains("--no-journal"),
        "{}",
        refused.stderr
    );
}
