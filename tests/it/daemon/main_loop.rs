//! Tests of the daemon's loop: no entry, registry or other program delays the loop or other entries.

use std::os::unix::net::UnixDatagram;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;
use serde_json::Value;

/// Sources, of which the test slows one down, and one common target. Two sources have images with a common layer, and
/// one of them is the slow source.
struct Scene {
    slow: Server,
    shares: Server,
    differs: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let [slow, shares, differs, target] = [(); 4].map(|()| Server::start());
        for (server, seed) in [(&slow, 1), (&shares, 2)] {
            images::small(Family::Oci, seed).put(server, "app", Some("v1"));
        }
        let layers = [images::layer(Family::Oci, 3, 2000)];
        images::image(Family::Oci, images::linux("amd64"), &layers).put(&differs, "app", Some("v1"));
        let site = Site::new();
        Self { slow, shares, differs, target, site }
    }

    fn entry(&self, name: &str, source: &Server, rest: &str) -> String {
        let (from, to) = (source.host(), self.target.host());
        format!("- {{name: {name}, source: \"{from}/app\", target: \"{to}/{name}\", {rest}}}")
    }

    fn configure(&self, daemon: &str, entries: &[String]) {
        let registries = [&self.slow, &self.shares, &self.differs, &self.target]
            .map(|server| format!("\"{}\": {{plain_http: true}}", server.host()));
        let daemon = format!("status: \"127.0.0.1:0\", control: control.sock, {daemon}");
        self.site.configure_fully(&daemon, &registries.join(", "), &entries.join("\n"));
    }

    /// Returns the outcomes of the runs of an entry, the latest first.
    fn outcomes(&self, name: &str) -> Vec<Value> {
        self.site.history(&[name]).iter().map(|run| run["outcome"].clone()).collect()
    }
}

#[test]
fn slow_entry_does_not_delay_one_sharing_its_blob() {
    let scene = Scene::new();
    scene.slow.set(Fault::Held("blob GET"));
    let never = "schedule: never";
    scene.configure(
        "entries_at_once: 2",
        &[
            scene.entry("slow", &scene.slow, "schedule: never, on_start: true"),
            scene.entry("shares", &scene.shares, never),
            scene.entry("differs", &scene.differs, never),
        ],
    );
    let mut daemon = scene.site.start(&["run"]);
    let address = daemon.ready();
    daemon.wait_until("reads of the slow entry", |_| (scene.slow.log().count("blob GET") > 1).then_some(()));
    for name in ["differs", "shares"] {
        scene.site.run(&["trigger", name, "--wait"]).expect_success();
        assert!(scene.target.store().tag(name, "v1").is_some(), "{name}");
    }
    let entries = &http::status(&address).unwrap()["entries"];
    assert!(entries[0]["running"].is_object(), "{entries:#}");
    assert_eq!(scene.outcomes("slow"), [Value::Null]);
    scene.slow.heal();
    daemon.wait_until("the slow one", |_| (scene.outcomes("slow") == ["succeeded"]).then_some(()));
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn entry_with_hanging_reads_leaves_memory_to_others() {
    let scene = Scene::new();
    let layers: Vec<_> = (100..400).map(|seed| images::layer(Family::Oci, seed, 100)).collect();
    images::image(Family::Oci, images::linux("amd64"), &layers).put(&scene.slow, "app", Some("v2"));
    scene.slow.set(Fault::Held("blob GET"));
    let never = "schedule: never";
    // This memory suffices for 256 small blobs.
    scene.configure(
        "memory: 16MiB",
        &[
            scene.entry("slow", &scene.slow, "schedule: never, on_start: true"),
            scene.entry("differs", &scene.differs, never),
        ],
    );
    let mut daemon = scene.site.start(&["run"]);
    daemon.ready();
    // A transfer has its memory when its upload is open. It then waits for its bytes.
    daemon.wait_until("uploads", |_| (scene.target.log().count("upload POST") >= 190).then_some(()));
    scene.site.run(&["trigger", "differs", "--wait"]).expect_success();
    assert_eq!(scene.outcomes("slow"), [Value::Null]);
    daemon.kill();
}

#[test]
fn entry_with_trickling_reads_leaves_target_permits_to_others() {
    let scene = Scene::new();
    let layers: Vec<_> = (100..112).map(|seed| images::layer(Family::Oci, seed, 200_000)).collect();
    images::image(Family::Oci, images::linux("amd64"), &layers).put(&scene.slow, "app", Some("v2"));
    scene.slow.set(Fault::Bandwidth(100));
    let never = "schedule: never";
    let daemon = "status: \"127.0.0.1:0\", control: control.sock, entries_at_once: 2";
    let sources = [&scene.slow, &scene.differs].map(|server| format!("\"{}\": {{plain_http: true}}", server.host()));
    let target = format!("\"{}\": {{plain_http: true, limits: {{concurrent: 4}}}}", scene.target.host());
    let entries = [
        scene.entry("slow", &scene.slow, "schedule: never, on_start: true"),
        scene.entry("differs", &scene.differs, never),
    ];
    scene.site.configure_fully(daemon, &format!("{}, {target}", sources.join(", ")), &entries.join("\n"));
    let mut daemon = scene.site.start(&["run"]);
    let address = daemon.ready();
    // A transfer has its permit at the target while its bytes are in flight.
    daemon.wait_until("uploads", |_| {
        let status = http::status(&address)?;
        let here = status["registries"].as_array()?.iter().find(|here| here["registry"] == scene.target.host())?;
        (here["in_flight"].as_u64()? >= 3).then_some(())
    });
    scene.site.run(&["trigger", "differs", "--wait"]).expect_success();
    assert_eq!(scene.outcomes("slow"), [Value::Null]);
    daemon.kill();
}

/// Asserts that the daemon is healthy and that its loop iterates.
#[track_caller]
fn expect_loop_iterates(daemon: &mut Running, address: &str) {
    let turned = |address: &str| http::status(address)?["loop_iterated_at"].as_str().map(str::to_owned);
    let mut last = turned(address).expect("a status");
    for _ in 0..3 {
        assert_eq!(http::get(address, "/healthz"), Some((200, "ok\n".to_owned())));
        last = daemon.wait_until("an iteration of the loop", |_| turned(address).filter(|now| *now != last));
    }
}

#[test]
fn loop_iterates_despite_broken_registries_and_systemd_socket() {
    let (target, site) = (Server::start(), Site::new());
    // One registry accepts connections and never responds, one does not exist, and one ends during a run.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let gone_at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let dies = Server::start();
    images::small(Family::Oci, 1).put(&dies, "app", Some("v1"));
    dies.set(Fault::Held("blob GET"));
    let sources = [("silent", silent_at.as_str()), ("gone", gone_at.as_str()), ("dies", dies.host())];
    let entry = |(name, host): &(&str, &str)| {
        let target = target.host();
        format!("- {{name: {name}, source: \"{host}/app\", target: \"{target}/{name}\", on_start: true}}")
    };
    let hosts = sources.iter().map(|(_, host)| *host).chain([target.host()]);
    let registries: Vec<String> = hosts.map(|host| format!("\"{host}\": {{plain_http: true}}")).collect();
    let entries: Vec<String> = sources.iter().map(entry).collect();
    site.configure_fully("status: \"127.0.0.1:0\"", &registries.join(", "), &entries.join("\n"));
    // No process reads from this socket.
    let _systemd = UnixDatagram::bind(site.path("notify.sock")).unwrap();
    let mut daemon = Running::start(site.command(&["run"]).env("NOTIFY_SOCKET", site.path("notify.sock")));
    let address = daemon.ready();
    let all_run = |address: &str| {
        let status = http::status(address)?;
        status["entries"]
            .as_array()?
            .iter()
            .all(|entry| entry["entry"] == "gone" || entry["running"].is_object())
            .then_some(())
    };
    daemon.wait_until("the runs", |_| all_run(&address));
    daemon.wait_until("a read", |_| (dies.log().count("blob GET") > 0).then_some(()));
    expect_loop_iterates(&mut daemon, &address);
    drop(dies);
    expect_loop_iterates(&mut daemon, &address);
    // More notifications than fit into an unread socket: two per iteration.
    for _ in 0..20 {
        daemon.signal("HUP");
    }
    for _ in 0..5 {
        expect_loop_iterates(&mut daemon, &address);
    }
    assert!(http::status(&address).unwrap()["entries"][0]["running"].is_object());
    daemon.kill();
}

#[test]
fn loop_iterates_while_another_process_locks_the_journal() {
    let scene = Scene::new();
    let entry = |rest: &str| scene.entry("differs", &scene.differs, rest);
    scene.configure("entries_at_once: 2", &[entry("schedule: never")]);
    let mut daemon = scene.site.start(&["run"]);
    let address = daemon.ready();
    let other = rusqlite::Connection::open(scene.site.journal()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // A run that waits for the journal, an edit with a new entry, and a pause that cannot be recorded.
    scene.site.run(&["trigger", "differs"]).expect_success();
    scene.configure(
        "entries_at_once: 2",
        &[entry("schedule: never"), scene.entry("shares", &scene.shares, "schedule: never")],
    );
    expect_loop_iterates(&mut daemon, &address);
    let refused = scene.site.run(&["pause", "differs"]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    daemon
        .wait_until("the problem in /readyz", |_| http::get(&address, "/readyz").filter(|(status, _)| *status == 503));
    expect_loop_iterates(&mut daemon, &address);
    other.execute_batch("ROLLBACK").unwrap();
    daemon.wait_until("readiness", |_| http::get(&address, "/readyz").filter(|(status, _)| *status == 200));
    let again = "the journal can be written again";
    daemon.wait_until("the log line", |daemon| daemon.stderr().contains(again).then_some(()));
    daemon.wait_until("the new entry", |_| {
        Some(http::status(&address)?["entries"].as_array()?.len()).filter(|n| *n == 2)
    });
    scene.site.run(&["trigger", "shares", "--wait"]).expect_success();
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn entries_at_once_limits_runs_and_queues_in_order() {
    let (target, site) = (Server::start(), Site::new());
    let names: Vec<String> = (1..=5).map(|number| format!("entry-{number}")).collect();
    // Each entry reads from its own server, so that the test determines which run ends.
    let sources: Vec<Server> = names.iter().map(|_| Server::start()).collect();
    for source in &sources {
        images::small(Family::Oci, 1).put(source, "app", Some("v1"));
        source.set(Fault::Held("tags GET"));
    }
    let entry = |(name, source): (&String, &Server)| {
        let (from, to) = (source.host(), target.host());
        format!("- {{name: {name}, source: \"{from}/app\", target: \"{to}/{name}\", on_start: true}}")
    };
    let servers = sources.iter().chain([&target]);
    let registries: Vec<String> =
        servers.map(|server| format!("\"{}\": {{plain_http: true}}", server.host())).collect();
    let entries: Vec<String> = names.iter().zip(&sources).map(entry).collect();
    let daemon = "status: \"127.0.0.1:0\", entries_at_once: 2";
    site.configure_fully(daemon, &registries.join(", "), &entries.join("\n"));
    let mut daemon = site.start(&["run"]);
    let address = daemon.ready();
    let named =
        |list: &[Value]| -> Vec<String> { list.iter().map(|one| one["entry"].as_str().unwrap().to_owned()).collect() };
    // The first two entries run. Each time that a run ends, one further entry starts.
    for ended in 0..=names.len() {
        let (running, waiting) = names[ended..].split_at(2.min(names.len() - ended));
        daemon.wait_until("the next one", |_| {
            let status = http::status(&address)?;
            let mut entries = status["entries"].as_array()?.clone();
            entries.retain(|entry| entry["running"].is_object());
            let now = named(&entries);
            assert!(now.len() <= 2, "{now:?} at once");
            (now == running && named(status["waiting"].as_array()?) == waiting).then_some(())
        });
        sources.iter().take(ended + 1).for_each(Server::heal);
    }
    assert_eq!(site.history(&[]).iter().filter(|run| run["outcome"] == "succeeded").count(), names.len());
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}
