//! Tests of notifications: their content, their number, their signature, and that a bad receiver affects no run.

use std::process::Command;

use serde_json::Value;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Running};
use crate::support::receiver::{Behavior, Received, Receiver};
use crate::support::registry::Server;
use crate::support::site::Site;

const OK: Behavior = Behavior::Answers("204 No Content");
const SECRET: &str = "of-the-test-alone";

/// Registry and site of a daemon with one entry, `app`, which runs at each start.
struct Scene {
    registry: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        Self { registry: Server::start(), site: Site::new() }
    }

    /// Configures the daemon and the entry with these keys.
    fn configure(&self, daemon: &str, entry: &str) {
        let host = self.registry.host();
        let entry = format!(
            "- {{name: app, source: \"{host}/app\", target: \"{host}/mirror/app\", on_start: true, timeout: 30s, \
                {entry}}}"
        );
        let daemon = format!("status: \"127.0.0.1:0\", {daemon}");
        self.site.configure_fully(&daemon, &format!("\"{host}\": {{plain_http: true}}"), &entry);
    }

    fn put(&self, seed: u64) {
        images::small(Family::Oci, seed).put(&self.registry, "app", Some("v1"));
    }

    fn start(&self) -> (Running, String) {
        let mut daemon = self.site.start(&["run"]);
        let found = daemon.ready();
        (daemon, found)
    }

    /// Starts the daemon, waits until the run of the entry ends with this outcome, and ends the daemon. Returns its
    /// log.
    fn run_once(&self, outcome: &str) -> String {
        let (mut daemon, address) = self.start();
        daemon.wait_until("the end of the run", |_| ended(&address, outcome));
        daemon.signal("TERM");
        daemon.wait(DEADLINE).expect_success().stderr
    }
}

fn ended(address: &str, outcome: &str) -> Option<()> {
    let status = http::status(address)?;
    (status["entries"][0]["last_run"]["outcome"] == outcome && status["entries"][0]["running"].is_null()).then_some(())
}

fn webhook(receiver: &Receiver, on: &str) -> String {
    format!("notify: [{{webhook: {{url: \"{}/hook/t0ken\", secret: {SECRET}}}, on: [{on}]}}]", receiver.url())
}

/// Verifies a message with the program in docs/reference/notifications.md.
fn assert_signed(message: &Received, secret: &str) {
    let page = include_str!("../../../docs/reference/notifications.md");
    let (_, rest) = page.split_once("```python\n").expect("the example");
    let example = rest.split_once("```").expect("its end").0;
    let script = format!(
        "{example}\nimport sys\nheaders = dict(zip(['webhook-id', 'webhook-timestamp', 'webhook-signature'], \
            sys.argv[2:5]))\n\
         print(is_ours(sys.argv[1], headers, sys.argv[5].encode()))"
    );
    let header = |name: &str| message.headers.get(name).unwrap_or_else(|| panic!("no {name}: {message:?}")).as_str();
    let (id, at, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let is_ours = |secret: &str, at: &str, body: &str| {
        let output = Command::new("python3").args(["-c", &script, secret, id, at, signature, body]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim() == "True"
    };
    assert!(is_ours(secret, at, &message.body));
    assert!(!is_ours("another-secret", at, &message.body), "with another secret");
    assert!(!is_ours(secret, at, &format!("{} ", message.body)), "of another body");
    let earlier = (at.parse::<i64>().unwrap() - 600).to_string();
    assert!(!is_ours(secret, &earlier, &message.body), "at another time");
}

#[test]
fn failure_and_recovery_are_notified_once_over_restarts() {
    let (scene, receiver) = (Scene::new(), Receiver::start(OK));
    scene.configure(&webhook(&receiver, "failure, recovery"), &webhook(&receiver, "change"));
    scene.run_once("failed");
    scene.run_once("failed");
    assert_eq!(receiver.summaries(), ["failure app"]);
    scene.put(1);
    scene.run_once("succeeded");
    scene.run_once("succeeded");
    assert_eq!(receiver.summaries(), ["failure app", "recovery app", "change app"]);
    let messages = receiver.received();
    messages.iter().for_each(|message| assert_signed(message, SECRET));
    let failure = messages[0].json();
    assert_eq!(failure["version"], 2);
    assert!(failure["text"].as_str().unwrap().starts_with("app fails: "), "{failure:#}");
    let data = &failure["data"];
    assert_eq!((&data["run"]["id"], &data["run"]["outcome"]), (&1.into(), &"failed".into()), "{failure:#}");
    assert_eq!(data["source"], format!("{}/app", scene.registry.host()));
    assert!(!data["problems"]["items"].as_array().unwrap().is_empty(), "{failure:#}");
    assert!(messages[1].json()["data"]["failing_since"].is_string());
    let changes = messages[2].json()["data"]["changes"].clone();
    let expected = images::small(Family::Oci, 1).digest().to_string();
    assert_eq!((&changes["items"][0]["tag"], &changes["items"][0]["digest"]), (&"v1".into(), &expected.into()));
    assert_eq!(changes["more"], 0);
    scene.site.once();
    assert_eq!(receiver.summaries().len(), 3, "a manual run sends no notification");
}

#[test]
fn failure_is_delivered_after_a_receiver_recovers_from_404() {
    let (scene, receiver) = (Scene::new(), Receiver::start(Behavior::Answers("404 Not Found")));
    scene.configure("", &webhook(&receiver, "failure"));
    let (mut daemon, _) = scene.start();
    daemon.wait_until("an attempt", |_| (!receiver.received().is_empty()).then_some(()));
    let before = receiver.received().len();
    receiver.set(OK);
    daemon.wait_until("another attempt", |_| (receiver.received().len() > before).then_some(()));
    assert!(receiver.summaries().iter().all(|message| message == "failure app"), "{:?}", receiver.summaries());
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn refused_failure_message_is_repeated_with_the_next_failure() {
    let (scene, receiver) = (Scene::new(), Receiver::start(Behavior::Answers("400 Bad Request")));
    scene.configure("", &webhook(&receiver, "failure, recovery"));
    let log = scene.run_once("failed");
    assert!(log.contains("gave up a notification"), "{log}");
    assert_eq!(receiver.summaries(), ["failure app"], "the message is not repeated");
    receiver.set(OK);
    scene.run_once("failed");
    scene.run_once("failed");
    assert_eq!(receiver.summaries(), ["failure app", "failure app"]);
    scene.put(1);
    scene.run_once("succeeded");
    assert_eq!(receiver.summaries(), ["failure app", "failure app", "recovery app"]);
}

#[test]
fn withheld_tag_is_notified_once_per_digest() {
    let (scene, receiver) = (Scene::new(), Receiver::start(OK));
    let rule = format!("overwrite: never, {}", webhook(&receiver, "withheld"));
    scene.configure("", &rule);
    scene.put(1);
    scene.run_once("succeeded");
    scene.put(2);
    scene.run_once("succeeded");
    scene.run_once("succeeded");
    assert_eq!(receiver.summaries(), ["withheld app"]);
    scene.put(3);
    scene.run_once("succeeded");
    assert_eq!(receiver.summaries(), ["withheld app", "withheld app"]);
    let held = receiver.received()[1].json()["data"]["withheld"]["items"][0].clone();
    assert_eq!((&held["tag"], &held["outcome"]), (&"v1".into(), &"blocked".into()), "{held:#}");
}

#[test]
fn refused_edit_and_its_correction_are_notified() {
    let (scene, receiver) = (Scene::new(), Receiver::start(OK));
    scene.put(1);
    scene.configure(&webhook(&receiver, "failure, recovery"), "schedule: never");
    let (mut daemon, _) = scene.start();
    scene.configure(&webhook(&receiver, "failure, recovery"), "shedule: never");
    daemon.wait_until("the refusal", |_| (receiver.summaries() == ["failure -"]).then_some(()));
    let message = receiver.received()[0].json();
    assert!(message["data"]["problems"]["items"][0].as_str().unwrap().contains("sync.yaml:5:"), "{message:#}");
    scene.configure(&webhook(&receiver, "failure, recovery"), "schedule: never");
    daemon.wait_until("the message about the correction", |_| {
        (receiver.summaries() == ["failure -", "recovery -"]).then_some(())
    });
}

#[test]
fn undelivered_message_is_resent_under_its_id_after_a_crash() {
    let (scene, receiver) = (Scene::new(), Receiver::start(Behavior::Answers("503 Away\r\nRetry-After: 1")));
    scene.configure("", &webhook(&receiver, "failure"));
    let (mut daemon, address) = scene.start();
    daemon.wait_until("a second attempt", |_| (receiver.received().len() >= 2).then_some(()));
    let metrics = http::get(&address, "/metrics").unwrap().1;
    assert!(metrics.contains("transship_notifications_pending 1\n"), "{metrics}");
    assert!(metrics.contains("transship_notifications_total{result=\"retried\"} "), "{metrics}");
    daemon.signal("KILL");
    daemon.wait(DEADLINE);
    let before = receiver.received().len();
    receiver.set(OK);
    let (mut daemon, address) = scene.start();
    daemon.wait_until("the delivery", |_| {
        http::get(&address, "/metrics")?
            .1
            .contains("transship_notifications_total{result=\"delivered\"} 1\n")
            .then_some(())
    });
    let received = receiver.received();
    assert_eq!(received.len(), before + 1, "{:?}", receiver.summaries());
    assert!(received.iter().all(|one| one.headers["webhook-id"] == received[0].headers["webhook-id"]));
    assert_signed(&received[before], SECRET);
}

#[test]
fn bad_receiver_affects_no_run_and_no_other_receiver() {
    let elsewhere = Receiver::start(OK);
    let redirect = format!("302 Found\r\nLocation: {}/hook/t0ken", elsewhere.url());
    let bad = [
        Behavior::Silent,
        Behavior::Endless,
        Behavior::Answers(redirect.leak()),
        Behavior::Answers("500 Internal Server Error"),
        Behavior::Answers("nonsense"),
    ];
    let receivers: Vec<Receiver> = bad.into_iter().map(Receiver::start).collect();
    let (scene, good) = (Scene::new(), Receiver::start(OK));
    let away = "{webhook: {url: \"http://127.0.0.1:1/t0ken\", secret: of-the-test-alone}, on: [change]}";
    let all: Vec<String> = receivers
        .iter()
        .chain([&good])
        .map(|receiver| webhook(receiver, "change").replace("notify: [", "").replace("]}]", "]}"))
        .chain([away.to_owned()])
        .collect();
    scene.configure("", &format!("notify: [{}]", all.join(", ")));
    scene.put(1);
    let (mut daemon, address) = scene.start();
    daemon.wait_until("the run", |_| ended(&address, "succeeded"));
    daemon.wait_until("the good receiver", |_| (good.summaries() == ["change app"]).then_some(()));
    daemon.wait_until("the attempts at all other receivers", |_| {
        receivers.iter().all(|receiver| !receiver.received().is_empty()).then_some(())
    });
    assert_eq!(http::get(&address, "/healthz").unwrap().0, 200);
    let status = http::get(&address, "/status").unwrap().1;
    daemon.signal("TERM");
    let log = daemon.wait(DEADLINE).expect_success().stderr;
    assert!(elsewhere.received().is_empty(), "a redirect is not followed");
    assert!(log.contains("redirects are not followed"), "{log}");
    let journal = crate::support::canary::journal(&scene.site);
    let places = [("the log", log.as_bytes()), ("/status", status.as_bytes()), ("the journal", &journal[..])];
    crate::support::canary::assert_absent(&[("the secret", SECRET), ("the address", "hook/t0ken")], &places);
    let run: Value = scene.site.history(&[])[0].clone();
    assert_eq!(run["outcome"], "succeeded");
}
