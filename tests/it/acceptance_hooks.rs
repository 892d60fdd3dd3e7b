//! Push events, seen from outside: what is pushed arrives without a schedule, for its tag alone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::canary;
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::Server;
use crate::support::site::Site;

const SECRET: &str = "c4nary-of-the-receiver-0123456789";

/// Two registries, and a daemon between them that is told of pushes.
struct Wharf {
    source: Server,
    target: Server,
    site: Site,
}

impl Wharf {
    fn new() -> Self {
        Self { source: Server::start(), target: Server::start(), site: Site::new() }
    }

    /// Starts the daemon with entries where `SOURCE` and `TARGET` stand for the registries; the address of its port.
    fn start(&self, entries: &str) -> (Running, String) {
        let plain = [&self.source, &self.target].map(|server| format!("\"{}\": {{plain_http: true}}", server.host()));
        let daemon = format!(
            "status: off, hooks: {{listen: \"127.0.0.1:0\", receivers: {{build: {{kind: distribution, secret: {SECRET}, \
             registry: \"{}\"}}}}}}",
            self.source.host()
        );
        let entries = entries.replace("SOURCE", self.source.host()).replace("TARGET", self.target.host());
        self.site.configure_fully(&daemon, &plain.join(", "), &entries);
        let mut daemon = self.site.start(&["run"]);
        let address = daemon.wait_until("the port", |daemon| {
            let log = daemon.stderr();
            let (_, rest) = log.split_once("the port for push events answers address=")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        (daemon, address)
    }
}

/// The status and body of the answer to these pushes of `repository`.
fn push(address: &str, secret: &str, repository: &str, tags: &[&str]) -> (u16, String) {
    let event = |tag: &&str| json!({"action": "push", "target": {"repository": repository, "tag": tag}});
    let body = json!({"events": tags.iter().map(event).collect::<Vec<_>>()}).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let head =
        format!("POST /hooks/build HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nContent-Length: {length}");
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn what_is_pushed_arrives_for_its_tag_alone_and_costs_no_list() {
    let wharf = Wharf::new();
    for (seed, tag) in ["v1", "v2", "beta"].iter().enumerate() {
        images::small(Family::Oci, seed as u64).put(&wharf.source, "team/app", Some(tag));
    }
    let entries = "- {name: app, source: \"SOURCE/team/app\", target: \"TARGET/app\", tags: {include: \"v*\", at_least: 9}}\n\
                   - {name: tree, source: \"SOURCE/team/**\", target: \"TARGET/tree/**\", tags: {exclude: \"v*\"}}";
    let (mut daemon, address) = wharf.start(entries);
    wharf.source.log().clear();
    wharf.target.log().clear();
    assert_eq!(push(&address, "wrong-0123456789", "team/app", &["v1"]).0, 401);
    assert_eq!(push(&address, SECRET, "other", &["v1"]), (200, "{\"entries\":[]}".to_owned()));
    for _ in 0..20 {
        let told = push(&address, SECRET, "team/app", &["v2", "gone-v"]);
        assert_eq!(told, (202, "{\"entries\":[\"app\",\"tree\"]}".to_owned()));
    }
    let store = || wharf.target.store();
    daemon.wait_until("the tag", |_| store().tag("app", "v2"));
    let ended = |count| {
        move |daemon: &Running| {
            let log = daemon.stderr();
            (log.matches("run ended").count() >= count).then_some(())
        }
    };
    daemon.wait_until("both ends", ended(2));
    assert_eq!(store().tag("app", "v2"), wharf.source.store().tag("team/app", "v2"));
    assert_eq!((store().tag("app", "v1"), store().tag("app", "beta")), (None, None));
    assert_eq!(store().tag("tree/app", "v2"), None, "its rules do not take the tag");
    let asked = wharf.source.log().counts();
    assert!(asked.keys().all(|kind| !kind.contains("tags") && !kind.contains("catalog")), "{asked:?}");
    assert_eq!(asked.get("manifest GET"), Some(&1), "{asked:?}");

    // Once more, with nothing new: one question a side.
    let ends = daemon.stderr().matches("run ended").count();
    wharf.source.log().clear();
    wharf.target.log().clear();
    push(&address, SECRET, "team/app", &["v2"]);
    daemon.wait_until("both ends", ended(ends + 2));
    assert_eq!(wharf.source.log().count("manifest HEAD"), 1, "{:?}", wharf.source.log().counts());
    assert_eq!(wharf.target.log().counts().values().sum::<usize>(), 1, "{:?}", wharf.target.log().counts());

    daemon.signal("TERM");
    let output = daemon.wait(DEADLINE).expect_success();
    let runs = wharf.site.history(&["--entry", "app"]);
    assert!(runs.iter().all(|run| run["trigger"] == "pushed" && run["outcome"] == "succeeded"), "{runs:?}");
    assert!(runs.len() <= 4, "a storm is few runs: {}", runs.len());
    let journal = canary::journal(&wharf.site);
    let places = [("the log", output.stderr.as_bytes()), ("the journal", journal.as_slice())];
    canary::nowhere(&[("the secret", SECRET)], &places);
}
