//! Tests of the running daemon that send commands to its control socket.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Output, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;

/// Source with the repository `first`, target, and the site of a daemon.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    /// Creates entries with these schedules: `first`, then `second`, whose source is missing.
    fn new(schedules: &[&str]) -> Self {
        let scene = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        let names = ["first", "second"];
        images::small(Family::Oci, 1).put(&scene.source, "first", Some("v1"));
        let (source, target) = (scene.source.host(), scene.target.host());
        let entry = |(name, schedule): (&&str, &&str)| {
            format!(
                "- {{name: {name}, source: \"{source}/{name}\", target: \"{target}/{name}\", schedule: \"{schedule}\"}}"
            )
        };
        let entries: Vec<String> = names.iter().zip(schedules).map(entry).collect();
        let registries = [source, target].map(|host| format!("\"{host}\": {{plain_http: true}}"));
        let daemon = "status: \"127.0.0.1:0\", control: control.sock";
        scene.site.configure_fully(daemon, &registries.join(", "), &entries.join("\n"));
        scene
    }

    fn start(&self) -> (Running, String) {
        let mut daemon = self.site.start(&["run"]);
        let address = daemon.ready();
        (daemon, address)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.site.run(args)
    }

    /// Returns the trigger and the outcome of each run of an entry, the latest first.
    fn runs(&self, entry: &str) -> Vec<(String, Value)> {
        let runs = self.site.history(&[entry]);
        runs.iter().map(|run| (run["trigger"].as_str().unwrap().to_owned(), run["outcome"].clone())).collect()
    }
}

fn end(daemon: Running) -> String {
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success().stderr
}

#[test]
fn triggered_run_starts_at_once_and_reports_its_end() {
    let scene = Scene::new(&["never", "never"]);
    let (daemon, _) = scene.start();
    let printed = scene.run(&["trigger", "first", "--wait"]).expect_success().stdout;
    assert_eq!(
        printed,
        "first: requested; starts now, or when fewer than `daemon.entries_at_once` entries run\n\
         first: succeeded, 1 copied\n"
    );
    assert_eq!(scene.target.store().tag("first", "v1"), scene.source.store().tag("first", "v1"));
    assert_eq!(scene.runs("first"), [("requested".to_owned(), "succeeded".into())]);

    let failed = scene.run(&["trigger", "second", "first", "--wait", "--json"]);
    assert_eq!(failed.code(), 1, "{failed:?}");
    let answers: Value = serde_json::from_str(&failed.stdout).unwrap();
    let ends: Vec<_> = answers.as_array().unwrap().iter().filter(|answer| answer["result"] == "ended").collect();
    assert_eq!(ends.iter().map(|end| end["outcome"].clone()).collect::<Vec<_>>(), ["succeeded", "failed"]);
    assert!(ends[1]["problems"][0].is_string(), "{answers:#}");
    let log = end(daemon);
    assert!(log.contains("trigger requested at the control socket entry="), "{log}");
}

#[test]
fn running_entry_is_not_started_twice_by_triggers() {
    let scene = Scene::new(&["never"]);
    scene.target.set(Fault::Delay(Duration::from_millis(700)));
    let (mut daemon, address) = scene.start();
    scene.run(&["trigger", "first"]).expect_success();
    daemon.wait_until("the run", |_| http::status(&address)?["entries"][0]["running"].is_object().then_some(()));
    let mut waiting = scene.site.start(&["trigger", "first", "--wait"]);
    waiting.wait_until("the answer", |waiting| (waiting.stdout() == "first: already running\n").then_some(()));
    waiting.signal("INT");
    assert_eq!(waiting.wait(DEADLINE).code(), 130);
    scene.target.heal();
    let printed = scene.run(&["trigger", "first", "--wait"]).expect_success().stdout;
    assert!(
        printed.ends_with("first: succeeded, 1 copied\n") || printed.ends_with("first: succeeded, 1 unchanged\n"),
        "{printed}"
    );
    assert!(scene.runs("first").iter().all(|(trigger, outcome)| trigger == "requested" && outcome == "succeeded"));
    end(daemon);
}

#[test]
fn refused_commands_are_reported_with_a_remedy() {
    let scene = Scene::new(&["never", "never"]);
    let silent = scene.run(&["trigger", "first"]);
    assert_eq!(silent.code(), 1);
    let expected = "error: no daemon listens at control.sock: start a daemon with `daemon.control` in its \
                    configuration, name its socket with --at, or run without a daemon: `transship once first`\n";
    assert_eq!(silent.stderr, format!("configuration: sync.yaml\n{expected}"));
    let (daemon, _) = scene.start();
    let unknown = scene.run(&["trigger", "frist"]);
    assert_eq!(unknown.code(), 2);
    assert_eq!(unknown.stdout, "");
    let expected = "error: there is no entry \"frist\": did you mean \"first\"?\n";
    assert!(unknown.stderr.ends_with(expected), "{}", unknown.stderr);
    // The daemon keeps the last valid configuration, so it accepts commands although its file is broken.
    let at = scene.site.path("control.sock");
    scene.site.write("sync.yaml", "version: 2\n");
    scene.run(&["trigger", "first", "--wait", "--at", at.to_str().unwrap()]).expect_success();
    end(daemon);
}

#[test]
fn control_socket_is_exclusive_group_accessible_and_temporary() {
    let scene = Scene::new(&["never"]);
    let socket = scene.site.path("control.sock");
    let (daemon, _) = scene.start();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let second = scene.run(&["run"]);
    assert_eq!(second.code(), 1);
    let expected = "error: another daemon listens at control.sock: set `daemon.control` to another path \
                    or to `off`\n";
    assert!(second.stderr.ends_with(expected), "{}", second.stderr);
    scene.run(&["trigger", "first", "--wait"]).expect_success();
    daemon.kill();
    assert!(socket.exists(), "a killed daemon leaves it behind");
    let (daemon, _) = scene.start();
    scene.run(&["trigger", "first", "--wait"]).expect_success();
    end(daemon);
    assert!(!socket.exists());
}

#[test]
fn malformed_or_silent_socket_clients_disturb_no_other() {
    let scene = Scene::new(&["never"]);
    let (daemon, address) = scene.start();
    let connect = || UnixStream::connect(scene.site.path("control.sock")).unwrap();
    let idle: Vec<UnixStream> = (0..200).map(|_| connect()).collect();
    let mut nonsense = connect();
    nonsense.write_all(&[b'x'; 100]).unwrap();
    nonsense.write_all(b"\n").unwrap();
    let mut printed = String::new();
    nonsense.read_to_string(&mut printed).unwrap();
    assert!(printed.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{printed}");
    // The daemon closes the connection before it has read this request completely.
    let _ = connect().write_all(&vec![b'['; 10 << 20]);
    scene.run(&["trigger", "first", "--wait"]).expect_success();
    assert_eq!(http::get(&address, "/healthz").unwrap().0, 200);
    drop(idle);
    let log = end(daemon);
    assert!(log.contains("refused a request at the control socket uid="), "{log}");
    assert!(log.contains("error=\"cannot parse the request: "), "{log}");
}

/// Sends a POST request without a body to the control socket. Returns the status and the body of the response.
fn post(scene: &Scene, path: &str, headers: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(scene.site.path("control.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\n{headers}\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {response}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn status_codes_give_the_reason_of_a_refusal() {
    let scene = Scene::new(&["never"]);
    let (daemon, _) = scene.start();
    let post = |path: &str| post(&scene, path, "Host: localhost\r\n");
    let (status, body) = post("/entries/frist/trigger");
    let expected =
        r#"{"entry":"frist","result":"unknown","reason":"there is no entry \"frist\": did you mean \"first\"?"}"#;
    assert_eq!((status, body.trim_end()), (404, expected));
    assert_eq!(post("/entries/first/pause"), (200, "{\"entry\":\"first\",\"result\":\"paused\"}\n".into()));
    let (status, body) = post("/entries/first/trigger");
    let refused = "the entry is paused: `transship resume first` ends the pause";
    let expected = format!(r#"{{"entry":"first","result":"refused","reason":"{refused}"}}"#);
    assert_eq!((status, body.trim_end()), (409, expected.as_str()));
    assert_eq!(post("/entries/first/resume"), (200, "{\"entry\":\"first\",\"result\":\"resumed\"}\n".into()));
    assert_eq!(post("/entries/first/erase").0, 404);
    assert!(scene.runs("first").is_empty(), "no request has started a run");
    end(daemon);
}

#[test]
fn request_for_another_host_reaches_only_the_daemon() {
    let scene = Scene::new(&["never"]);
    let (daemon, _) = scene.start();
    let host = scene.source.host();
    let before = scene.source.log().requests().len();
    let headers = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
    let paused = (200, "{\"entry\":\"first\",\"result\":\"paused\"}\n".to_owned());
    for path in ["/entries/first/pause".to_owned(), format!("http://{host}/entries/first/pause")] {
        assert_eq!(post(&scene, &path, &headers), paused);
    }
    assert_eq!(scene.source.log().requests().len(), before, "the daemon sends that host no request");
    end(daemon);
}

/// Returns the blocks of code of a page, with the language of each.
fn code_blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (code, after) = after.split_once("```").unwrap();
        blocks.push((language.to_owned(), code.to_owned()));
        rest = after;
    }
    blocks
}

#[test]
fn examples_of_the_documentation_work_with_curl() {
    let scene = Scene::new(&["never"]);
    let (mut daemon, address) = scene.start();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/control.md")).unwrap();
    let blocks = code_blocks(&page);
    assert!(blocks.len() >= 10, "the page has examples: {blocks:?}");
    let socket = scene.site.path("control.sock");
    for pair in blocks.chunks(2) {
        let [(shell, command), (json, expected)] = pair else { panic!("a command has no reply: {pair:?}") };
        assert_eq!((shell.as_str(), json.as_str()), ("sh", "json"));
        // The entry of the example has another name than that of the test.
        let rename = |text: &str| text.replace("alpine", "first").replace("alpin", "firs");
        let command = rename(command).replace("/run/transship/control.sock", socket.to_str().unwrap());
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), rename(expected), "{command}");
        daemon.wait_until("the end of the first run", |_| first(&address)?["last_run"].is_object().then_some(()));
    }
    end(daemon);
}

/// Returns the first entry in `/status`.
fn first(address: &str) -> Option<Value> {
    Some(http::status(address)?["entries"][0].clone())
}

#[test]
fn pause_and_its_end_are_visible_before_the_reply() {
    let scene = Scene::new(&["never"]);
    let (daemon, address) = scene.start();
    for _ in 0..5 {
        scene.run(&["pause", "first"]).expect_success();
        assert!(first(&address).unwrap()["paused_since"].is_string());
        scene.run(&["resume", "first"]).expect_success();
        assert!(first(&address).unwrap()["paused_since"].is_null());
    }
    end(daemon);
}

#[test]
fn paused_entry_stays_paused_over_a_crash() {
    let scene = Scene::new(&["* * * * *"]);
    let (mut daemon, address) = scene.start();
    daemon.wait_until("a firing", |_| first(&address)?["next_firing"].is_string().then_some(()));
    assert_eq!(scene.run(&["pause", "first"]).expect_success().stdout, "first: paused\n");
    daemon.wait_until("the pause", |_| {
        let state = first(&address)?;
        (state["paused_since"].is_string() && state["next_firing"].is_null()).then_some(())
    });
    let metrics = http::get(&address, "/metrics").unwrap().1;
    assert!(metrics.contains("transship_entry_paused{entry=\"first\"} 1\n"), "{metrics}");
    let shown = scene.run(&["status", "--at", &address]).expect_success().stdout;
    assert!(shown.contains("paused since "), "{shown}");
    let refused = scene.run(&["trigger", "first"]);
    assert_eq!(refused.code(), 1);
    let expected = "error: first: the entry is paused: `transship resume first` ends the pause\n";
    assert!(refused.stderr.ends_with(expected) && refused.stdout.is_empty(), "{refused:?}");
    assert_eq!(scene.run(&["pause", "frist"]).code(), 2);
    let runs = scene.runs("first").len();
    daemon.kill();

    let (mut daemon, address) = scene.start();
    let state = daemon.wait_until("the pause", |_| first(&address).filter(|state| state["paused_since"].is_string()));
    assert_eq!(state["next_firing"], Value::Null);
    assert_eq!(scene.runs("first").len(), runs);
    assert_eq!(scene.run(&["resume", "first"]).expect_success().stdout, "first: resumed\n");
    daemon.wait_until("a firing", |_| first(&address)?["next_firing"].is_string().then_some(()));
    assert_eq!(scene.run(&["resume", "first"]).expect_success().stdout, "first: was not paused\n");
    scene.run(&["trigger", "first", "--wait"]).expect_success();
    end(daemon);
}

#[test]
fn pause_finishes_current_tags_and_continues_after_resume() {
    let scene = Scene::new(&["never"]);
    for tag in 0..100 {
        images::small(Family::Oci, 1000 + tag).put(&scene.source, "first", Some(&format!("t{tag}")));
    }
    scene.target.set(Fault::Delay(Duration::from_millis(300)));
    let (mut daemon, address) = scene.start();
    scene.run(&["trigger", "first"]).expect_success();
    let arrived = || scene.target.store().tags("first").map_or(0, |tags| tags.len());
    daemon.wait_until("the first tags", |_| (arrived() > 0).then_some(()));
    scene.run(&["pause", "first", "--for", "3h"]).expect_success();
    let state = daemon.wait_until("the end of the run", |_| first(&address).filter(|state| state["running"].is_null()));
    assert!(state["paused_until"].is_string(), "{state:#}");
    assert!(arrived() < 101, "{} tags", arrived());
    scene.target.heal();
    scene.run(&["resume", "first"]).expect_success();
    daemon.wait_until("the rest", |_| (arrived() == 101).then_some(()));
    daemon.wait_until("its end", |_| first(&address).filter(|state| state["running"].is_null()));
    assert_eq!(scene.runs("first")[0], ("continued".to_owned(), "succeeded".into()));
    end(daemon);
}
