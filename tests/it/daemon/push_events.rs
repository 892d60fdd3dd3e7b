//! Tests of push events: a pushed tag is copied without a schedule, and only that tag.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::images::{self, EXAMPLES, Family};
use crate::support::programs::{DEADLINE, DebianRegistry, Events, Guard, Running, skopeo, skopeo_copy};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;
use crate::support::{canary, http};

const SECRET: &str = "c4nary-of-the-receiver-0123456789";
const ROTATED: &str = "an0ther-of-the-receiver-0123456789";

/// Two registries, and a daemon that receives push events.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        Self { source: Server::start(), target: Server::start(), site: Site::new() }
    }

    /// Writes the configuration with one receiver and these entries. `SOURCE` and `TARGET` in the entries are
    /// placeholders of the registries.
    fn configure(&self, name: &str, secret: &str, entries: &str) {
        let (source, target) = (self.source.host(), self.target.host());
        let plain = [source, target].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
        let entries = entries.replace("SOURCE", source).replace("TARGET", target);
        self.site.configure_fully(&daemon_with(name, secret, source), &plain, &entries);
    }

    /// Starts the daemon with these entries. Returns it with the address of its port for push events.
    fn start(&self, entries: &str) -> (Running, String) {
        self.configure("build", SECRET, entries);
        let mut daemon = self.site.start(&["run"]);
        let address = daemon.port("the port for push events");
        (daemon, address)
    }
}

/// Returns the daemon's section with one receiver.
fn daemon_with(name: &str, secret: &str, registry: &str) -> String {
    let receiver = format!("{{kind: distribution, secret: {secret}, registry: \"{registry}\"}}");
    format!("status: \"127.0.0.1:0\", push_events: {{listen: \"127.0.0.1:0\", receivers: {{{name}: {receiver}}}}}")
}

/// Posts an event about pushed tags of `repository`. Returns the status and the body of the response.
fn push(address: &str, secret: &str, repository: &str, tags: &[&str]) -> (u16, String) {
    push_to("build", address, secret, repository, tags)
}

fn push_to(receiver: &str, address: &str, secret: &str, repository: &str, tags: &[&str]) -> (u16, String) {
    let event = |tag: &&str| json!({"action": "push", "target": {"repository": repository, "tag": tag}});
    let body = json!({"events": tags.iter().map(event).collect::<Vec<_>>()}).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let head = format!(
        "POST /hooks/{receiver} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nContent-Length: {length}"
    );
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn push_event_copies_only_its_tag_without_listing() {
    let scene = Scene::new();
    for (seed, tag) in ["v1", "v2", "beta"].iter().enumerate() {
        images::small(Family::Oci, seed as u64).put(&scene.source, "team/app", Some(tag));
    }
    let entries = "- {name: app, source: \"SOURCE/team/app\", target: \"TARGET/app\", tags: {include: \"v*\", at_least: 9}}\n\
                   - {name: tree, source: \"SOURCE/team/**\", target: \"TARGET/tree/**\", tags: {exclude: \"v*\"}}";
    let (mut daemon, address) = scene.start(entries);
    scene.source.log().clear();
    scene.target.log().clear();
    assert_eq!(push(&address, "wrong-0123456789", "team/app", &["v1"]).0, 401);
    assert_eq!(push(&address, SECRET, "other", &["v1"]), (200, "{\"entries\":[]}".to_owned()));
    for _ in 0..20 {
        let message = push(&address, SECRET, "team/app", &["v2", "gone-v"]);
        assert_eq!(message, (202, "{\"entries\":[\"app\",\"tree\"]}".to_owned()));
    }
    let store = || scene.target.store();
    daemon.wait_until("the tag", |_| store().tag("app", "v2"));
    let ended = |count| {
        move |daemon: &Running| {
            let log = daemon.stderr();
            (log.matches("run ended").count() >= count).then_some(())
        }
    };
    daemon.wait_until("both ends", ended(2));
    assert_eq!(store().tag("app", "v2"), scene.source.store().tag("team/app", "v2"));
    assert_eq!((store().tag("app", "v1"), store().tag("app", "beta")), (None, None));
    assert_eq!(store().tag("tree/app", "v2"), None, "the rules of the entry exclude the tag");
    let requested = scene.source.log().counts();
    assert!(requested.keys().all(|kind| !kind.contains("tags") && !kind.contains("catalog")), "{requested:?}");
    assert_eq!(requested.get("manifest GET"), Some(&1), "{requested:?}");

    // A repeated event without a new image costs one request per side.
    let ends = daemon.stderr().matches("run ended").count();
    scene.source.log().clear();
    scene.target.log().clear();
    push(&address, SECRET, "team/app", &["v2"]);
    daemon.wait_until("both ends", ended(ends + 2));
    assert_eq!(scene.source.log().count("manifest HEAD"), 1, "{:?}", scene.source.log().counts());
    assert_eq!(scene.target.log().counts().values().sum::<usize>(), 1, "{:?}", scene.target.log().counts());

    daemon.signal("TERM");
    let output = daemon.wait(DEADLINE).expect_success();
    let runs = scene.site.history(&["app"]);
    assert!(runs.iter().all(|run| run["trigger"] == "push_event" && run["outcome"] == "succeeded"), "{runs:?}");
    assert!(runs.len() <= 4, "a storm is few runs: {}", runs.len());
    let journal = canary::journal(&scene.site);
    let places = [("the log", output.stderr.as_bytes()), ("the journal", journal.as_slice())];
    canary::assert_absent(&[("the secret", SECRET)], &places);
}

#[test]
fn pushed_tag_never_takes_the_name_of_another_tag() {
    let scene = Scene::new();
    for (seed, (repository, tag)) in
        [("team/app", "latest"), ("team/app", "stable"), ("team/skipped", "latest"), ("team/free", "latest")]
            .into_iter()
            .enumerate()
    {
        images::small(Family::Oci, seed as u64).put(&scene.source, repository, Some(tag));
    }
    let entries = "- {name: app, source: \"SOURCE/team/app\", target: \"TARGET/app\", rename: {latest: stable}}\n\
                   - {name: tree, source: \"SOURCE/team/**\", target: \"TARGET/tree/**\", \
                   repositories: {exclude: [skipped]}, rename: {latest: stable}}";
    let (mut daemon, address) = scene.start(entries);
    assert_eq!(push(&address, SECRET, "team/skipped", &["latest"]), (200, "{\"entries\":[]}".to_owned()));
    assert_eq!(push(&address, SECRET, "team/app", &["latest"]), (202, "{\"entries\":[\"app\",\"tree\"]}".to_owned()));
    push(&address, SECRET, "team/free", &["latest"]);
    let store = || scene.target.store();
    daemon.wait_until("the free name", |_| store().tag("tree/free", "stable"));
    for place in ["app", "tree/app"] {
        let expected = format!("would get the name stable at {}/{place}, which the entry", scene.target.host());
        daemon.wait_until("a conflict", |daemon| daemon.stderr().contains(&expected).then_some(()));
    }
    daemon.signal("TERM");
    daemon.wait(DEADLINE);
    assert_eq!((store().tag("app", "stable"), store().tag("tree/app", "stable")), (None, None));
}

#[test]
fn push_to_debians_registry_copies_only_its_tag() {
    let (target, site) = (Server::start(), Site::new());
    site.configure_fully(&daemon_with("build", SECRET, "registry.example"), "", "  []");
    let mut daemon = site.start(&["run"]);
    let address = daemon.port("the port for push events");
    let url = format!("http://{address}/hooks/build");
    let events = Some(Events { url: &url, token: SECRET });
    let source = DebianRegistry::with(Guard { events, ..Guard::default() });
    // No run has read from the registry yet.
    skopeo_copy(&format!("oci:{EXAMPLES}:1.0.0"), &format!("docker://{}/team/app:1.0.0", source.host()));
    let plain = [source.host(), target.host()].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
    let entry = format!("- {{name: app, source: \"{}/team/app\", target: \"{}/app\"}}", source.host(), target.host());
    site.configure_fully(&daemon_with("build", SECRET, source.host()), &plain, &entry);
    daemon
        .wait_until("the reload", |daemon| daemon.stderr().contains("the configuration was read again").then_some(()));
    skopeo_copy(&format!("oci:{EXAMPLES}:1.1.0"), &format!("docker://{}/team/app:1.1.0", source.host()));
    daemon.wait_until("the tag", |_| target.store().tag("app", "1.1.0"));
    daemon.wait_until("the end of the run", |daemon| daemon.stderr().contains("run ended").then_some(()));
    let digest = |place: &str| {
        let output = skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", place]).expect_success();
        output.stdout.trim().to_owned()
    };
    let pushed = digest(&format!("docker://{}/team/app:1.1.0", source.host()));
    assert_eq!(target.store().tag("app", "1.1.0").map(|digest| digest.to_string()), Some(pushed));
    assert_eq!(target.store().tag("app", "1.0.0"), None, "no entry read the repository at the time of the push");
    let requested = source.log();
    let ours: Vec<&str> = requested.lines().filter(|line| line.contains("transship/")).collect();
    assert!(ours.iter().any(|line| line.contains("/v2/team/app/manifests/1.1.0")), "{requested}");
    assert!(!ours.iter().any(|line| line.contains("tags/list") || line.contains("_catalog")), "{ours:#?}");
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    let runs = site.history(&[]);
    assert!(!runs.is_empty() && runs.iter().all(|run| run["trigger"] == "push_event"), "{runs:?}");
}

#[test]
fn thousand_events_during_a_run_cause_few_further_runs() {
    let scene = Scene::new();
    let put = |tag: &str, seed: u64| images::small(Family::Oci, seed).put(&scene.source, "team/app", Some(tag));
    put("v0", 1);
    let (mut daemon, address) = scene.start("- {name: app, source: SOURCE/team/app, target: TARGET/app}");
    scene.target.set(Fault::Held("manifest PUT"));
    assert_eq!(push(&address, SECRET, "team/app", &["v0"]).0, 202);
    daemon.wait_until("a run in progress", |_| (scene.target.log().count("manifest PUT") > 0).then_some(()));
    for tag in 0..50 {
        put(&format!("v{tag}"), 100 + tag);
    }
    std::thread::scope(|scope| {
        for sender in 0..20 {
            let address = &address;
            scope.spawn(move || {
                for event in 0..50 {
                    let tag = format!("v{}", (sender + event) % 50);
                    assert_eq!(push(address, SECRET, "team/app", &[&tag]).0, 202);
                }
            });
        }
    });
    assert_eq!(scene.site.history(&[]).len(), 1, "no second run started");
    scene.target.heal();
    daemon.wait_until("the current state of all tags", |_| {
        (0..50)
            .all(|tag| {
                let name = format!("v{tag}");
                scene.target.store().tag("app", &name) == scene.source.store().tag("team/app", &name)
            })
            .then_some(())
    });
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    let runs = scene.site.history(&[]);
    assert!((2..=4).contains(&runs.len()), "{runs:?}");
}

#[test]
fn receivers_secrets_and_metrics_follow_a_reload() {
    let scene = Scene::new();
    let entries = "- {name: app, source: SOURCE/team/app, target: TARGET/app}";
    let (mut daemon, events) = scene.start(entries);
    let status = daemon.port("the status port");
    let answer = |receiver: &str, secret: &str| push_to(receiver, &events, secret, "elsewhere", &["v1"]).0;
    assert_eq!((answer("build", SECRET), answer("other", SECRET)), (200, 404));
    let metrics = || http::get(&status, "/metrics").unwrap().1;
    assert!(metrics().contains("transship_push_events_total{receiver=\"build\",result=\"unmatched\"} 1\n"));
    scene.configure("other", ROTATED, entries);
    daemon
        .wait_until("the reload", |daemon| daemon.stderr().contains("the configuration was read again").then_some(()));
    assert_eq!((answer("build", SECRET), answer("other", SECRET), answer("other", ROTATED)), (404, 401, 200));
    let text = metrics();
    assert!(!text.contains("\"build\"") && text.contains("{receiver=\"other\",result=\"unauthorized\"} 1\n"), "{text}");
}

#[test]
fn pushed_tag_is_copied_only_if_among_the_newest() {
    let scene = Scene::new();
    for seed in 1..=4 {
        images::small(Family::Oci, seed).put(&scene.source, "team/app", Some(&format!("{seed}.0.0")));
    }
    let entry = "- {name: app, source: SOURCE/team/app, target: TARGET/app, tags: {semver: \"<4\", newest: 2}}";
    let (mut daemon, address) = scene.start(entry);
    let third = scene.source.store().tag("team/app", "3.0.0");
    for (before, (pushed, expected)) in [("1.0.0", None), ("4.0.0", None), ("3.0.0", third)].into_iter().enumerate() {
        assert_eq!(push(&address, SECRET, "team/app", &[pushed]).0, 202);
        daemon.wait_until("the end of the run", |daemon| {
            (daemon.stderr().matches("run ended").count() > before).then_some(())
        });
        assert_eq!(scene.target.store().tag("app", pushed), expected, "{pushed}");
    }
    assert_eq!(scene.target.store().tags("app").map(|tags| tags.len()), Some(1), "2.0.0 was not pushed");
    assert!(scene.source.log().count("tags GET") > 0, "{:?}", scene.source.log().counts());
}
