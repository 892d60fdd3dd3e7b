//! Tests of the log: the exact lines of runs and of a daemon, the run that each line names, and protection against
//! forged lines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};

use crate::support::images::{self, Family, Image};
use crate::support::programs::{DEADLINE, Output, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::{Site, parse};

/// Two registries and a site between them.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    /// Creates entries with these names and further keys. Each copies a repository to the same name at the target.
    fn new(entries: &[(&str, &str)]) -> Self {
        let scene = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        let (source, target) = (scene.source.host(), scene.target.host());
        let entry = |(name, keys): &(&str, &str)| {
            format!("- {{name: {name}, source: \"{source}/{name}\", target: \"{target}/{name}\"{keys}}}")
        };
        let entries: Vec<String> = entries.iter().map(entry).collect();
        let registries = [source, target].map(|host| format!("\"{host}\": {{plain_http: true}}"));
        let daemon = "status: off, control: control.sock";
        scene.site.configure_fully(daemon, &registries.join(", "), &entries.join("\n"));
        scene
    }

    fn put(&self, entry: &str, tag: &str, seed: u64) -> Image {
        let image = images::small(Family::Oci, seed);
        image.put(&self.source, entry, Some(tag));
        image
    }

    /// Runs `once` with this log format and filter, which must exit with this code.
    #[track_caller]
    fn once(&self, form: &str, filter: &str, code: i32) -> Output {
        let mut command = self.site.command(&["--log-format", form, "once"]);
        let output = Running::start(command.env("TRANSSHIP_LOG", filter)).wait(DEADLINE);
        assert_eq!(output.code(), code, "{}\n{}", output.stdout, output.stderr);
        output
    }

    /// Runs `once`, which must exit with this code. Returns its comparable log lines.
    #[track_caller]
    fn lines(&self, code: i32) -> Vec<Value> {
        comparable_lines(&self.once("json", "", code).stderr)
    }

    /// Returns the expected line about a tag of the entry `app`.
    fn line(&self, level: &str, message: &str, run: u64, tag: &str, image: &Image) -> Value {
        let (source, target) = (format!("{}/app", self.source.host()), format!("{}/app", self.target.host()));
        json!({"level": level, "message": message, "entry": "app", "run": run, "source": source, "target": target,
               "tag": tag, "digest": image.digest().to_string()})
    }
}

/// Parses a log with one JSON object per line.
#[track_caller]
fn objects(log: &str) -> Vec<Value> {
    log.lines().map(parse).collect()
}

/// Returns the objects of a log without times, modules, numbers and texts that differ between runs, sorted by text.
#[track_caller]
fn comparable_lines(log: &str) -> Vec<Value> {
    let mut lines: Vec<Value> = objects(log);
    for line in &mut lines {
        let fields = line.as_object_mut().unwrap();
        let time = fields.remove("timestamp").unwrap();
        assert!(time.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{time}");
        assert!(fields.remove("module").unwrap().is_string());
        for number in ["seconds", "bytes"] {
            assert!(fields.remove(number).is_none_or(|value| value.is_number()), "{number}");
        }
        for text in ["problem", "reason"] {
            assert!(
                fields.remove(text).is_none_or(|value| value.as_str().is_some_and(|text| text.len() > 20)),
                "{text}"
            );
        }
    }
    lines.sort_by_key(|line| format!("{line}"));
    lines
}

#[track_caller]
fn expect(found: &[Value], expected: &[Value]) {
    let mut expected = expected.to_vec();
    expected.sort_by_key(|line| format!("{line}"));
    assert_eq!(found, expected, "{found:#?}");
}

fn run_ended(run: u64, [copied, replaced, unchanged, blocked]: [u64; 4]) -> Value {
    json!({"level": "INFO", "message": "run ended", "entry": "app", "run": run, "outcome": "succeeded",
           "copied": copied, "replaced": replaced, "unchanged": unchanged, "held": 0, "blocked": blocked})
}

#[test]
fn run_logs_one_line_per_change_and_one_summary() {
    let scene = Scene::new(&[("app", "")]);
    let (one, two) = (scene.put("app", "v1", 1), scene.put("app", "v2", 2));
    let copied = |tag, image| scene.line("INFO", "copied", 1, tag, image);
    expect(&scene.lines(0), &[copied("v1", &one), copied("v2", &two), run_ended(1, [2, 0, 0, 0])]);

    expect(&scene.lines(0), &[run_ended(2, [0, 0, 2, 0])]);

    let three = scene.put("app", "v2", 3);
    let mut replaced = scene.line("INFO", "replaced", 3, "v2", &three);
    replaced["previous"] = two.digest().to_string().into();
    expect(&scene.lines(0), &[replaced, run_ended(3, [0, 1, 1, 0])]);
}

#[test]
fn failed_and_blocked_tags_are_logged_as_such() {
    let scene = Scene::new(&[("app", ", overwrite: never")]);
    let one = scene.put("app", "v1", 1);
    scene.lines(0);
    let old = images::schema_1("app");
    old.put(&scene.source, "app", Some("v2"));
    let ended = json!({"level": "WARN", "message": "run ended", "entry": "app", "run": 2, "outcome": "failed",
                       "copied": 0, "replaced": 0, "unchanged": 1, "held": 0, "blocked": 0, "deferred": 0, "conflict": 0, "failed": 1});
    expect(&scene.lines(1), &[scene.line("ERROR", "failed", 2, "v2", &old), ended]);

    scene.source.store().remove_manifest("app", "v2");
    let two = scene.put("app", "v1", 2);
    assert_ne!(one.digest(), two.digest());
    expect(&scene.lines(4), &[scene.line("WARN", "blocked", 3, "v1", &two), run_ended(3, [0, 0, 0, 1])]);
}

#[test]
fn pretty_format_has_the_same_lines_as_json() {
    let scene = Scene::new(&[("app", "")]);
    let image = scene.put("app", "v1", 1);
    let log = scene.once("pretty", "", 0).stderr;
    let time = Regex::new(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ").unwrap();
    let numbers = Regex::new(r"(seconds|bytes)=[0-9.]+").unwrap();
    let log = numbers.replace_all(&time.replace_all(&log, "TIME "), "$1=N").into_owned();
    let (source, target) = (scene.source.host(), scene.target.host());
    let expected = format!(
        "configuration: sync.yaml\n\
         TIME  INFO copied entry=app run=1 source={source}/app target={target}/app tag=v1 digest={} bytes=N\n\
         TIME  INFO run ended entry=app run=1 outcome=succeeded seconds=N copied=1 replaced=0 unchanged=0 held=0 blocked=0 bytes=N\n",
        image.digest()
    );
    assert_eq!(log, expected);
}

#[test]
fn daemon_logs_addresses_changes_and_shutdown() {
    let scene = Scene::new(&[("app", ", on_start: true, schedule: never")]);
    let image = scene.put("app", "v1", 1);
    let mut daemon = scene.site.start(&["--log-format", "json", "run"]);
    daemon.wait_until("the run", |daemon| daemon.stderr().contains("run ended").then_some(()));
    scene.site.run(&["trigger", "app", "--wait"]).expect_success();
    daemon.signal("TERM");
    let log = daemon.wait(DEADLINE).expect_success().stderr;
    let socket = json!({"level": "INFO", "message": "the control socket listens", "path": "control.sock"});
    let ending = json!({"level": "INFO", "message": "ending", "running": 0, "grace": "30s"});
    let mut lines = comparable_lines(&log);
    for line in &mut lines {
        let fields = line.as_object_mut().unwrap();
        assert_eq!(fields.remove("uid").is_some(), fields.remove("pid").is_some(), "the process of the client");
    }
    let requests = json!({"level": "INFO", "message": "trigger requested at the control socket", "entry": "app"});
    let copied = scene.line("INFO", "copied", 1, "v1", &image);
    let journal = scene.site.journal();
    let started = json!({"level": "INFO", "message": "started", "version": env!("CARGO_PKG_VERSION"),
                         "configuration": "sync.yaml", "entries": 1, "journal": journal});
    let ended = json!({"level": "INFO", "message": "ended"});
    expect(
        &lines,
        &[socket, started, copied, run_ended(1, [1, 0, 0, 0]), requests, run_ended(2, [0, 0, 1, 0]), ending, ended],
    );
}

#[test]
fn second_signal_is_logged_and_interruption_is_no_error() {
    let scene = Scene::new(&[("app", ", on_start: true, schedule: never")]);
    scene.put("app", "v1", 1);
    scene.source.set(Fault::Held("blob GET"));
    let start = |command| {
        let mut running = scene.site.start(&["--log-format", "json", command]);
        let before = scene.source.log().count("blob GET");
        running.wait_until("a read", |_| (scene.source.log().count("blob GET") > before).then_some(()));
        running.signal("TERM");
        running
    };
    let line = |log: &str, message: &str| objects(log).into_iter().find(|line| line["message"] == message).unwrap();

    let log = start("once").wait(DEADLINE).stderr;
    let ended = line(&log, "run ended");
    assert_eq!((&ended["level"], &ended["outcome"]), (&json!("INFO"), &json!("interrupted")), "{log}");

    let mut daemon = start("run");
    daemon.wait_until("the log line of the shutdown", |daemon| daemon.stderr().contains("\"ending\"").then_some(()));
    daemon.signal("TERM");
    let log = daemon.wait(DEADLINE).stderr;
    let dropped = line(&log, "received a second signal: work in progress is dropped");
    assert_eq!(dropped["level"], "WARN");
}

#[test]
fn configuration_problems_are_logged_as_lines_or_one_field() {
    for form in ["pretty", "json"] {
        let scene = Scene::new(&[("app", ", on_start: true, schedule: never")]);
        scene.put("app", "v1", 1);
        let mut daemon = scene.site.start(&["--log-format", form, "run"]);
        daemon.wait_until("its start", |daemon| daemon.stderr().contains("run ended").then_some(()));
        scene.site.write("sync.yaml", "version: 1\nsync:\n- {nme: app}\n");
        daemon.wait_until("the refusal", |daemon| daemon.stderr().contains("^^^").then_some(()));
        daemon.signal("TERM");
        let log = daemon.wait(DEADLINE).expect_success().stderr;
        let shown = if form == "pretty" {
            log
        } else {
            let is_refusal = |line: &Value| line["level"] == "ERROR";
            objects(&log).into_iter().find(is_refusal).unwrap()["problems"].as_str().unwrap().to_owned()
        };
        assert!(shown.lines().any(|line| line.starts_with("sync.yaml:3:")), "{shown}");
        assert!(shown.lines().any(|line| line == "3 | - {nme: ***}"), "{shown}");
    }
}

#[test]
fn log_lines_of_concurrent_runs_name_their_own_run() {
    let scene = Scene::new(&[("first", ""), ("second", "")]);
    for (entry, seed) in [("first", 10), ("second", 20)] {
        for tag in 0..4 {
            scene.put(entry, &format!("v{tag}"), seed + tag);
        }
    }
    scene.source.set(Fault::Delay(Duration::from_millis(20)));
    scene.source.set(Fault::BlobGetBreaks { after: 10, times: 4 });
    scene.target.set(Fault::TooManyRequests { next: 3, retry_after: None });
    let lines = objects(&scene.once("json", "transship=trace", 0).stderr);
    let mut runs: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    let mut rooms = BTreeSet::new();
    for line in &lines {
        let module = line["module"].as_str().unwrap();
        let room = module.split("::").nth(1).unwrap_or_default();
        if !["registry", "copy", "sync"].contains(&room) {
            continue;
        }
        rooms.insert(room);
        let entry = line["entry"].as_str().unwrap_or_else(|| panic!("a line without an entry: {line}"));
        runs.entry(entry)
            .or_default()
            .insert(line["run"].as_i64().unwrap_or_else(|| panic!("a line without a run: {line}")));
        let other = if entry == "first" { "/second" } else { "/first" };
        assert!(!line.to_string().contains(other), "{line}");
    }
    assert_eq!(rooms.len(), 3, "{rooms:?} of {lines:#?}");
    assert!(lines.iter().any(|line| line["message"] == "repeating a request"), "{lines:#?}");
    assert!(runs.len() == 2 && runs["first"].is_disjoint(&runs["second"]), "{runs:?}");
    assert!(runs.values().all(|numbers| numbers.len() == 1), "{runs:?}");
    let of = |entry: &str| lines.iter().position(|line| line["entry"] == entry).unwrap();
    let end =
        |entry: &str| lines.iter().position(|line| line["entry"] == entry && line["message"] == "run ended").unwrap();
    assert!(of("first") < end("second") && of("second") < end("first"), "they ran at the same time");
}

#[test]
fn broken_blob_transfer_is_logged_with_its_context() {
    let scene = Scene::new(&[("app", "")]);
    let image = scene.put("app", "v1", 1);
    scene.source.set(Fault::BlobGetBreaks { after: 10, times: 1 });
    let lines = objects(&scene.once("json", "transship::copy=debug", 0).stderr);
    let broke = lines.iter().find(|line| line["message"] == "an interrupted read resumes").unwrap();
    let expected = scene.line("DEBUG", "", 1, "v1", &image);
    for field in ["entry", "run", "source", "target", "tag", "digest"] {
        assert_eq!(broke[field], expected[field], "{field} of {broke}");
    }
}

#[test]
fn blob_transfer_to_several_targets_is_logged_with_context() {
    let scene = Scene::new(&[]);
    let (image, slow) = (scene.put("app", "v1", 1), Server::start());
    let (source, target) = (scene.source.host(), scene.target.host());
    let entry =
        format!("- {{name: app, source: \"{source}/app\", targets: [\"{target}/app\", \"{}/app\"]}}", slow.host());
    scene.site.configure(&[source, target, slow.host()], &entry);
    slow.set(Fault::Held("upload POST"));
    let mut command = scene.site.command(&["--log-format", "json", "once"]);
    let mut running = Running::start(command.env("TRANSSHIP_LOG", "transship::copy=debug"));
    let is_told =
        |line: &Value| line["message"].as_str().is_some_and(|message| message.starts_with("slower than its siblings"));
    let reported = running.wait_until("the slow one", |running| objects(&running.stderr()).into_iter().find(is_told));
    slow.heal();
    running.wait(DEADLINE).expect_success();
    let expected = scene.line("DEBUG", "", 1, "v1", &image);
    for field in ["entry", "run", "source", "tag", "digest"] {
        assert_eq!(reported[field], expected[field], "{field} of {reported}");
    }
}

#[test]
fn hostile_registry_cannot_forge_log_lines() {
    let scene = Scene::new(&[("app", "")]);
    scene.put("app", "v1", 1);
    let name = "v2\n2026-01-01T00:00:00.000000Z ERROR forged\r\u{1b}[2J\u{2028}\u{202e}\nTRANSSHIP_ENTRY=forged";
    scene.source.set(Fault::TagListHas(name.to_owned()));
    let steers = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}');
    let log = scene.once("pretty", "", 0).stderr;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 4, "configuration, skipped, copied, ended: {log}");
    assert!(lines.iter().all(|line| !line.contains(steers)), "{log:?}");
    let shown = "name=\"v2\\n2026-01-01T00:00:00.000000Z ERROR forged\\r\\u{1b}[2J\\u{2028}\\u{202e}\\nTRANSSHIP_ENTRY=forged\"";
    assert!(
        lines.iter().any(|line| line.contains("skipped a name that is not a valid tag") && line.ends_with(shown)),
        "{log}"
    );

    let log = scene.once("json", "", 0).stderr;
    assert!(log.lines().all(|line| !line.contains(steers)), "{log:?}");
    let skipped = objects(&log).into_iter().find(|line| line["level"] == "WARN").unwrap();
    assert_eq!((&skipped["name"], &skipped["entry"]), (&json!(name), &json!("app")));
}

#[test]
fn log_file_beside_the_configuration_does_not_feed_itself() {
    let scene = Scene::new(&[("app", ", schedule: never")]);
    let log = scene.site.path("transship.log");
    // The shell creates the file when it starts.
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    // A shell writes the log, as a service manager does.
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_transship");
    command.args(["-c", "exec \"$0\" --log-format json run 2>transship.log", program]);
    command.current_dir(scene.site.folder()).env("TRANSSHIP_CONFIG", "sync.yaml").env("TRANSSHIP_LOG", "trace");
    let mut daemon = Running::start(&mut command);
    daemon.wait_until("the start", |_| text().contains("\"started\"").then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    let written = text();
    assert!(written.contains("\"TRACE\""), "everything else is logged: {written}");
    assert!(!written.contains("\"module\":\"notify") && !written.contains("\"module\":\"inotify"), "{written}");
    assert!(written.len() < 200_000, "{} bytes of a daemon that does nothing", written.len());
    // The configuration is still watched.
    let edited = std::fs::read_to_string(scene.site.path("sync.yaml")).unwrap().replace("never", "\"61 * * * *\"");
    scene.site.write("sync.yaml", &edited);
    let refused = "the edited configuration is refused";
    daemon.wait_until("the refusal", |_| text().contains(refused).then_some(()));
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}
