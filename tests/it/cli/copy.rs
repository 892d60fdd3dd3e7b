//! Tests of `transship copy`: its requests to source and target, and its records in the journal.

use serde_json::Value;

use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Output, Running, skopeo_copy, skopeo_manifest};
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
        self.start_without_configuration(&[&["copy", &from, &to][..], &plain, args].concat())
    }

    fn start_without_configuration(&self, args: &[&str]) -> Running {
        Running::start(self.site.command(args).env_remove("TRANSSHIP_CONFIG"))
    }

    /// Runs a command without a configuration.
    fn run(&self, args: &[&str]) -> Output {
        self.start_without_configuration(args).wait(DEADLINE)
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
    scene.copy("app:v1", "mine:stable", &["--force"]).expect_success();
    scene.copy("app", "whole", &["--all-tags"]).expect_success();

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
    for args in [&[][..], &["--platform", "linux/arm64", "--force"]] {
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

#[test]
fn source_without_tag_is_the_image_latest_alone() {
    let scene = Scene::new();
    for tag in ["latest", "v1", "v2"] {
        images::small(Family::Oci, tag.len() as u64).put(&scene.source, "app", Some(tag));
    }
    let printed = scene.copy("app", "app", &[]).expect_success().stdout;
    assert!(printed.starts_with(&format!("{}/app:latest: 1 copied", scene.source.host())), "{printed}");
    assert_eq!(scene.target.store().tags("app").unwrap().len(), 1);
    let inspected = scene.run(&["inspect", "--plain-http", &format!("{}/app", scene.source.host())]).expect_success();
    assert!(inspected.stdout.starts_with(&format!("{}/app:latest\n", scene.source.host())), "{}", inspected.stdout);
    assert_eq!(scene.source.log().count("tags GET"), 0, "{:?}", scene.source.log().requests());
}

#[test]
fn tag_with_another_digest_stays_without_force() {
    let scene = Scene::new();
    let (old, new) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    old.put(&scene.target, "app", Some("v1"));
    new.put(&scene.source, "app", Some("v1"));
    for args in [&["--dry-run"][..], &[]] {
        let output = scene.copy("app:v1", "app", args);
        assert_eq!(output.code(), 4, "{}{}", output.stdout, output.stderr);
        assert!(output.stdout.contains("add --force to move the tag"), "{}", output.stdout);
        assert_eq!(scene.target.store().tag("app", "v1"), Some(old.digest()));
    }
    scene.copy("app:v1", "app", &["--force"]).expect_success();
    assert_eq!(scene.target.store().tag("app", "v1"), Some(new.digest()));
}

#[test]
fn dry_run_sends_no_write_and_records_nothing() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    let printed = scene.copy("app:v1", "app", &["--dry-run"]).expect_success().stdout;
    assert!(printed.contains(": 1 to copy, ") && printed.contains(" to send\n"), "{printed}");
    let kinds: Vec<String> = scene.target.log().requests().iter().map(|request| request.kind.clone()).collect();
    assert!(kinds.iter().all(|kind| kind.ends_with("HEAD") || kind.ends_with("GET")), "{kinds:?}");
    assert!(!scene.site.path("state/transship/journal.db").exists());
}

#[test]
fn plain_http_host_is_named_with_its_flag() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    let (source, target) = (scene.source.host(), scene.target.host());
    let place = format!("{source}/app:v1");
    for args in [
        vec!["copy", &place, "oci-layout:to"],
        vec!["copy", "--dry-run", &place, "oci-layout:to"],
        vec!["inspect", &place],
        vec!["tags", place.trim_end_matches(":v1")],
    ] {
        let output = scene.run(&args);
        let printed = format!("{}{}", output.stdout, output.stderr);
        assert!(output.code() != 0 && printed.contains(&format!("add `--plain-http {source}`")), "{args:?} {printed}");
    }
    let to = format!("{target}/app");
    let output = scene.run(&["copy", "--plain-http", source, &place, &to]);
    assert!(output.stdout.contains(&format!("add `--plain-http {target}`")), "{}", output.stdout);
}

#[test]
fn missing_platform_is_named_with_those_of_the_index() {
    let scene = Scene::new();
    images::two_platforms(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    let output = scene.copy("app:v1", "app", &["--platform", "linux/s390x,linux/riscv64"]);
    assert_eq!(output.code(), 1);
    let expected = "no child runs on linux/s390x or linux/riscv64; the index has linux/amd64, linux/arm64";
    assert!(output.stdout.contains(expected), "{}", output.stdout);
}

#[test]
fn place_that_is_no_repository_is_refused_with_its_form() {
    let site = Site::new();
    let refusal = |args: &[&str]| {
        let output = site.run(args);
        assert_eq!(output.code(), 2, "{args:?} {}", output.stdout);
        output.stderr
    };
    let alone = "127.0.0.1:23002 is a registry without a repository: write 127.0.0.1:23002/REPOSITORY";
    for args in
        [&["copy", "alpine", "127.0.0.1:23002"][..], &["tags", "127.0.0.1:23002"], &["inspect", "127.0.0.1:23002"]]
    {
        assert!(refusal(args).contains(alone), "{}", refusal(args));
    }
    assert!(refusal(&["copy", "alpine", "myuser"]).contains("docker.io/library/myuser for Docker Hub"));
    for text in ["docker-daemon:alpine:3", "dir:/srv/x", "./x"] {
        assert!(refusal(&["copy", "alpine", text]).contains("oci-archive:"), "{text}");
    }
}

/// Returns a transship location of an archive in the folder of the scene, and skopeo's location.
fn archive(scene: &Scene, name: &str) -> String {
    format!("oci-archive:{}", scene.site.path(name).display())
}

#[test]
fn skopeo_reads_archives_of_transship_and_the_reverse() {
    let scene = Scene::new();
    let (one, two) = (images::two_platforms(Family::Oci, 1), images::small(Family::Oci, 2));
    one.put(&scene.source, "app", Some("v1"));
    two.put(&scene.source, "app", Some("v2"));
    let plain = ["--plain-http", scene.source.host(), "--plain-http", scene.target.host()];
    let from = format!("{}/app", scene.source.host());
    let ours = archive(&scene, "ours.tar");
    scene.run(&[&["copy", "--all-tags", &from, &ours][..], &plain].concat()).expect_success();
    for (tag, image) in [("v1", &one), ("v2", &two)] {
        assert_eq!(
            skopeo_manifest(&format!("{ours}:{tag}")),
            String::from_utf8(image.manifest.bytes().to_vec()).unwrap()
        );
        let back = format!("docker://{}/skopeo:{tag}", scene.target.host());
        skopeo_copy(&format!("{ours}:{tag}"), &back);
        assert_eq!(scene.target.store().tag("skopeo", tag), Some(image.digest()));
    }
    let theirs = archive(&scene, "theirs.tar");
    skopeo_copy(&format!("docker://{from}:v1"), &format!("{theirs}:v1"));
    let to = format!("{}/app", scene.target.host());
    scene.run(&[&["copy", &theirs, &to][..], &plain].concat()).expect_success();
    assert_eq!(scene.target.store().tag("app", "v1"), Some(one.digest()));
    scene.run(&[&["copy", &format!("{from}:v2"), &theirs][..], &plain].concat()).expect_success();
    assert_eq!(skopeo_manifest(&format!("{theirs}:v1")), String::from_utf8(one.manifest.bytes().to_vec()).unwrap());
    let listed = scene.run(&["tags", "--names", &theirs]).expect_success().stdout;
    assert_eq!(listed, "v2\nv1\n");
}

#[test]
fn killed_copy_leaves_the_old_archive_and_no_evidence() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    let place = archive(&scene, "x.tar");
    let from = format!("{}/app", scene.source.host());
    scene.run(&["copy", &format!("{from}:v1"), &place, "--plain-http", scene.source.host()]).expect_success();
    let before = std::fs::read(scene.site.path("x.tar")).unwrap();
    images::small(Family::Oci, 2).put(&scene.source, "app", Some("v2"));
    images::small(Family::Oci, 3).put(&scene.source, "app", Some("v3"));
    // The first tag is complete when the process is killed, and the second one waits.
    scene.source.set(Fault::Held("blob GET"));
    let args = ["copy", "--all-tags", &from, &place, "--plain-http", scene.source.host()];
    let mut running = scene.start_without_configuration(&args);
    running.wait_until("a read", |_| (scene.source.log().count("blob GET") > 0).then_some(()));
    running.kill();
    scene.source.heal();
    assert_eq!(std::fs::read(scene.site.path("x.tar")).unwrap(), before);
    let evidence = |scene: &Scene| scene.list_records("evidence").len();
    assert_eq!(evidence(&scene), 1);
    scene.run(&args).expect_success();
    assert_eq!(evidence(&scene), 3);
    assert_eq!(scene.run(&["tags", "--names", &place]).expect_success().stdout.lines().count(), 3);
    assert!(!scene.site.path(".x.tar.transship-new").exists());
}

#[test]
fn entry_writes_a_tree_to_layouts_and_reads_it_back() {
    let scene = Scene::new();
    for (seed, repository) in [(1, "team/app"), (2, "team/app/tools"), (3, "team/base")] {
        images::small(Family::Oci, seed).put(&scene.source, repository, Some("v1"));
    }
    let (from, to) = (scene.source.host(), scene.target.host());
    let folder = format!("oci-layout:{}/**", scene.site.path("disk").display());
    let archive = archive(&scene, "base.tar");
    scene.site.configure(
        &[from, to],
        &format!(
            "- {{name: out, source: \"{from}/team/**\", target: \"{folder}\"}}\n\
             - {{name: in, source: \"{folder}\", target: \"{to}/inside/**\"}}\n\
             - {{name: pack, source: {from}/team/base, target: \"{archive}\"}}\n\
             - {{name: unpack, source: \"{archive}\", target: {to}/unpacked}}"
        ),
    );
    scene.site.run(&["check"]).expect_success();
    for entry in ["out", "in", "pack", "unpack"] {
        scene.site.run(&["once", entry]).expect_success();
    }
    assert_eq!(scene.target.store().repositories(), ["inside/app", "inside/app/tools", "inside/base", "unpacked"]);
    let repeated = scene.site.run(&["once", "--json"]).expect_success().stdout;
    let reports = parse(&repeated);
    let outcomes: Vec<&Value> =
        reports.as_array().unwrap().iter().flat_map(|report| report["tags"].as_array().unwrap()).collect();
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
    assert!(outcomes.iter().all(|tag| tag["outcome"] == "unchanged"), "{outcomes:?}");
    assert!(scene.site.evidence(&[]).iter().any(|row| row["target"] == archive.as_str()));
}

#[test]
fn tree_without_a_layout_fails_its_run() {
    let scene = Scene::new();
    let folder = format!("oci-layout:{}/**", scene.site.path("nothing").display());
    let entry = format!("- {{name: in, source: \"{folder}\", target: \"{}/x/**\"}}", scene.target.host());
    scene.site.configure(&[scene.target.host()], &entry);
    let report = scene.site.report(1);
    assert!(report.problems()[0].starts_with(&format!("source {folder}: cannot list")), "{:?}", report.problems());
}

/// Copies to an archive that another program changes during the copy, so the archive cannot be published.
fn fail_publication(scene: &Scene, args: &[&str]) {
    let path = scene.site.path("x.tar");
    scene.source.set(Fault::Held("blob GET"));
    let mut running = scene.site.start(args);
    running.wait_until("a new file", |_| scene.site.path(".x.tar.transship-new").exists().then_some(()));
    std::fs::write(&path, std::fs::read(&path).unwrap()).unwrap();
    scene.source.heal();
    let output = running.wait(DEADLINE);
    let printed = format!("{}{}", output.stdout, output.stderr);
    assert!(output.code() == 1 && printed.contains("another program has changed"), "{args:?} {printed}");
    assert!(!scene.site.path(".x.tar.transship-new").exists());
}

#[test]
fn failed_publication_leaves_no_record_of_late_referrers() {
    for command in ["copy", "once"] {
        let scene = Scene::new();
        let image = images::small(Family::Oci, 1);
        image.put(&scene.source, "app", Some("v1"));
        let (from, to) = (format!("{}/app", scene.source.host()), archive(&scene, "x.tar"));
        let entry = format!("- {{name: app, source: \"{from}\", target: \"{to}\"}}");
        scene.site.configure(&[scene.source.host()], &entry);
        let tag = format!("{from}:v1");
        // Without a journal, the first copy records no check of the referrers.
        scene.site.run(&["copy", &tag, &to, "--no-journal"]).expect_success();
        let sbom = images::sbom(&image, 1);
        sbom.put(&scene.source, "app", None);
        let args = if command == "copy" { vec!["copy", &tag, &to] } else { vec!["once"] };
        fail_publication(&scene, &args);
        let inspected = || scene.site.run(&["inspect", &format!("{to}:v1")]).expect_success().stdout;
        assert!(!inspected().contains("referrer"), "{command} {}", inspected());
        scene.site.run(&args).expect_success();
        assert!(inspected().contains(&format!("referrer {}", sbom.digest())), "{command} {}", inspected());
    }
}

#[test]
fn denied_read_of_the_target_names_force() {
    let scene = Scene::new();
    let image = images::small(Family::Oci, 1);
    image.put(&scene.source, "app", Some("v1"));
    images::small(Family::Oci, 2).put(&scene.target, "app", Some("old"));
    for kind in ["manifest HEAD", "manifest GET"] {
        scene.target.set(Fault::Answers { kind, path: "/manifests/", status: 403 });
    }
    for args in [&["app:v1"][..], &["app:v1", "--dry-run"], &["app", "--all-tags"]] {
        let output = scene.copy(args[0], "app", &args[1..]);
        assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
        let remedy = "if only reads are denied, --force writes without reading the present tag";
        assert!(output.stdout.contains(remedy), "{args:?} {}", output.stdout);
        assert_eq!(scene.target.store().tag("app", "v1"), None);
    }
    scene.copy("app:v1", "app", &["--force"]).expect_success();
    assert_eq!(scene.target.store().tag("app", "v1"), Some(image.digest()));
}

#[test]
fn plain_http_without_host_applies_to_both_references() {
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("latest"));
    let (from, to) = (format!("{}/app", scene.source.host()), format!("{}/app", scene.target.host()));
    for args in [["copy", &from, &to, "--plain-http"], ["copy", "--plain-http", &from, &to]] {
        scene.run(&args).expect_success();
    }
    for args in [["tags", "--plain-http", &from], ["inspect", &from, "--plain-http"]] {
        scene.run(&args).expect_success();
    }
}

/// Returns the command without the permission to read the folders of others, which root has.
fn unprivileged(command: &std::process::Command) -> std::process::Command {
    let mut limited = std::process::Command::new("setpriv");
    limited.arg("--bounding-set=-dac_override,-dac_read_search").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    limited
}

#[test]
fn unreadable_folder_of_a_tree_is_left_behind() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    images::small(Family::Oci, 1).put(&scene.source, "app", Some("v1"));
    let tree = scene.site.path("tree");
    let from = format!("{}/app", scene.source.host());
    scene
        .run(&["copy", "--plain-http", &format!("{from}:v1"), &format!("oci-layout:{}/app", tree.display())])
        .expect_success();
    let lost = tree.join("lost+found");
    std::fs::create_dir(&lost).unwrap();
    let source = format!("oci-layout:{}/**", tree.display());
    let entry = format!("- {{name: in, source: \"{source}\", target: \"{}/x/**\"}}", scene.target.host());
    scene.site.configure(&[scene.target.host()], &entry);
    std::fs::set_permissions(&lost, std::fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = std::fs::read_dir(&lost).is_ok();
    let run = |args: &[&str]| {
        let command = scene.site.command(args);
        let mut command = if is_root { unprivileged(&command) } else { command };
        let output = Running::start(&mut command).wait(DEADLINE);
        (output.code(), format!("{}{}", output.stdout, output.stderr))
    };
    let (plan, planned) = run(&["plan"]);
    let (code, printed) = run(&["once"]);
    std::fs::set_permissions(&lost, std::fs::Permissions::from_mode(0o700)).unwrap();
    let item = format!("layouts below {}", lost.display());
    assert!(plan == 0 && planned.contains(&format!("{item} cannot be copied: permission denied")), "{plan} {planned}");
    assert!(code == 4 && printed.contains(&item) && printed.contains("permission denied: allow"), "{code} {printed}");
    assert!(scene.target.store().tag("x/app", "v1").is_some(), "the other layouts are copied");
}
