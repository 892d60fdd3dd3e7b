//! Tests of the arguments that all commands share: entries by glob, the configuration, `-q`, `-v`, limits and times.

use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Output, Running, transship_command};
use crate::support::registry::Server;
use crate::support::site::Site;

struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    /// Creates the entries `app-one`, `app-two` and `base`. The source of `base` is missing.
    fn new(daemon: &str) -> Self {
        let scene = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        let (from, to) = (scene.source.host(), scene.target.host());
        for name in ["app-one", "app-two"] {
            images::small(Family::Oci, 1).put(&scene.source, name, Some("v1"));
        }
        let entry = |name: &str| {
            format!("- {{name: {name}, source: \"{from}/{name}\", target: \"{to}/{name}\", schedule: never}}")
        };
        let registries = [from, to].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
        scene.site.configure_fully(daemon, &registries, &["app-one", "app-two", "base"].map(entry).join("\n"));
        scene
    }

    fn run(&self, args: &[&str]) -> Output {
        self.site.run(args)
    }
}

#[test]
fn globs_select_entries_in_every_command() {
    let scene = Scene::new("status: off");
    let once = scene.run(&["once", "app-*"]).expect_success().stdout;
    assert!(once.contains("app-one: ") && once.contains("app-two: ") && !once.contains("base"), "{once}");
    let plan = scene.run(&["plan", "*-two"]).expect_success().stdout;
    assert_eq!(plan, "app-two: nothing to change (1 unchanged)\n");
    assert_eq!(scene.run(&["next", "app-{one,x}"]).expect_success().stdout, "manual only: app-one\n");
    assert_eq!(scene.site.history(&["*-one"]).len(), 1);
    assert_eq!(scene.site.evidence(&["app-*", "-n", "1"]).len(), 1);
    let checked = scene.run(&["login-check", "app-one"]).expect_success().stdout;
    assert!(checked.contains("pull of app-one") && !checked.contains("app-two"), "{checked}");
    let offline = scene.run(&["status", "app-two"]);
    assert!(offline.stdout.contains("app-two") && !offline.stdout.contains("app-one"), "{}", offline.stdout);
    for command in ["once", "plan", "next", "history", "evidence", "status", "limits", "login-check"] {
        let refused = scene.run(&[command, "web-*"]);
        assert_eq!((refused.code(), refused.stdout.contains("app-one")), (2, false), "{command}: {refused:?}");
        let expected = "error: no entry matches \"web-*\"; the entries are app-one, app-two, base\n";
        assert!(refused.stderr.ends_with(expected), "{command}: {}", refused.stderr);
    }
}

#[test]
fn daemon_commands_take_globs_and_all_entries() {
    let scene = Scene::new("status: \"127.0.0.1:0\", control: control.sock");
    let mut daemon = scene.site.start(&["run"]);
    daemon.ready();
    let paused = scene.run(&["pause", "app-*"]).expect_success().stdout;
    assert_eq!(paused, "app-one: paused\napp-two: paused\n");
    let resumed = scene.run(&["resume", "--all"]).expect_success().stdout;
    assert_eq!(resumed, "app-one: resumed\napp-two: resumed\nbase: was not paused\n");
    let refused = scene.run(&["trigger", "web-*"]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (2, ""));
    assert!(
        refused.stderr.contains("error: no entry matches \"web-*\"; the entries are app-one"),
        "{}",
        refused.stderr
    );
    let none = scene.run(&["trigger"]);
    assert_eq!(none.code(), 2);
    assert!(none.stderr.contains("ENTRY"), "{}", none.stderr);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn failed_runs_are_filtered_and_times_are_words() {
    let scene = Scene::new("status: off");
    assert_eq!(scene.run(&["once"]).code(), 1);
    let failed = scene.site.history(&["--failed", "--since", "1 hour ago"]);
    assert_eq!(failed.iter().map(|run| run["entry"].clone()).collect::<Vec<_>>(), ["base"]);
    assert_eq!(scene.site.history(&["--since", "yesterday"]).len(), 3);
    assert_eq!(scene.site.history(&["--until", "yesterday"]).len(), 0);
}

#[test]
fn configuration_of_the_working_folder_is_found_and_named() {
    let scene = Scene::new("status: off");
    let run = |args: &[&str]| {
        let mut command = transship_command(args);
        command.current_dir(scene.site.folder()).env_remove("TRANSSHIP_CONFIG");
        Running::start(&mut command).wait(DEADLINE)
    };
    let found = run(&["next"]).expect_success();
    assert!(found.stderr.starts_with("configuration: sync.yaml"), "{}", found.stderr);
    assert_eq!(run(&["next", "-f", "sync.yaml"]).expect_success().stderr, "configuration: sync.yaml\n");
    assert_eq!(run(&["next", "-q"]).expect_success().stderr, "");
    assert_eq!(run(&["next", "--json"]).expect_success().stderr, "");
    scene.site.write("other.yaml", "version: 1\nsync: []\n");
    let checked = run(&["check", "other.yaml"]).expect_success().stdout;
    assert!(checked.ends_with("other.yaml: valid, 0 entries, 1 warning\n"), "{checked}");
    let refused = run(&["plan", "other.yaml"]).stderr;
    assert!(refused.contains("to read a configuration file, write `--config other.yaml`"), "{refused}");
}

#[test]
fn quiet_run_prints_errors_only() {
    let scene = Scene::new("status: off");
    let quiet = scene.run(&["once", "-q", "app-one"]).expect_success();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let failed = scene.run(&["once", "-q", "base"]);
    assert_eq!((failed.code(), failed.stdout.as_str()), (1, ""));
    assert!(failed.stderr.contains("ERROR"), "{}", failed.stderr);
    let verbose = scene.run(&["once", "-v", "app-one"]).expect_success().stderr;
    assert!(verbose.contains("DEBUG"), "{verbose}");
    let mut filtered = scene.site.command(&["once", "-vv", "app-one"]);
    let filtered = Running::start(filtered.env("TRANSSHIP_LOG", "error")).wait(DEADLINE).expect_success();
    assert_eq!(filtered.stderr, "configuration: sync.yaml\n", "TRANSSHIP_LOG takes precedence");
}

#[test]
fn watch_shows_the_status_again_until_a_signal() {
    let scene = Scene::new("status: off");
    let mut watch = scene.site.start(&["status", "--watch", "app-*"]);
    watch.wait_until("two displays", |watch| (watch.stdout().matches("app-one").count() >= 2).then_some(()));
    watch.signal("INT");
    assert_eq!(watch.wait(DEADLINE).code(), 0);
}

#[test]
fn repositories_of_a_registry_are_listed() {
    let scene = Scene::new("status: off");
    let host = scene.source.host();
    let listed = scene.run(&["repositories", host]).expect_success().stdout;
    assert_eq!(listed, format!("{host}/app-one\n{host}/app-two\n"));
    assert_eq!(scene.run(&["ls", &format!("{host}/app-two")]).expect_success().stdout, format!("{host}/app-two\n"));
}
