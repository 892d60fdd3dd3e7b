//! Tests of the daemon's schedule on a clock that jumps, and of runs that time out.

use std::time::Duration;

use crate::support::clock::Clock;
use crate::support::http;
use crate::support::images::{self, Family, linux};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::{Site, parse};
use serde_json::Value;

const HOUR: i64 = 3600;

/// Time in which no further run may start: several iterations of the daemon's loop.
const QUIET_TIME: Duration = Duration::from_secs(4);

/// Registries and a daemon whose clock the test sets, so that no scheduled run depends on the real time.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
    clock: Clock,
}

impl Scene {
    fn new(time: &str) -> Self {
        let (source, target) = (Server::start(), Server::start());
        images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
        Self { source, target, site: Site::new(), clock: Clock::showing(time) }
    }

    fn configure(&self, entries: &[(&str, &str)]) {
        let (from, to) = (self.source.host(), self.target.host());
        let entry = |(name, rest): &(&str, &str)| {
            format!("- {{name: {name}, source: \"{from}/app\", target: \"{to}/{name}\", {rest}}}")
        };
        let entries: Vec<String> = entries.iter().map(entry).collect();
        let registries =
            [&self.source, &self.target].map(|server| format!("\"{}\": {{plain_http: true}}", server.host()));
        self.site.configure_fully("status: \"127.0.0.1:0\"", &registries.join(", "), &entries.join("\n"));
    }

    fn start(&self) -> (Running, String) {
        let mut command = self.site.command(&["run"]);
        self.clock.apply_to(&mut command);
        let mut daemon = Running::start(&mut command);
        let address = daemon.ready();
        (daemon, address)
    }

    /// Returns the number of ended runs of an entry.
    fn ended(&self, name: &str) -> usize {
        // `history` refuses the name of an entry that is neither configured nor recorded.
        let is_ended = |run: &&Value| run["entry"] == name && !run["ended"].is_null();
        self.site.history(&[]).iter().filter(is_ended).count()
    }

    fn wait_for(&self, daemon: &mut Running, runs: [usize; 2]) {
        daemon.wait_until("the scheduled runs", |_| {
            ([self.ended("hourly"), self.ended("nightly")] == runs).then_some(())
        });
    }

    #[track_caller]
    fn expect_no_more_than(&self, runs: [usize; 2]) {
        std::thread::sleep(QUIET_TIME);
        assert_eq!([self.ended("hourly"), self.ended("nightly")], runs);
    }
}

const SET_BACK: &str = "the clock was set back";

#[test]
fn clock_jump_by_a_day_runs_each_entry_once() {
    let scene = Scene::new("2026-06-01T00:10:00Z");
    scene.configure(&[("hourly", "schedule: every 1h"), ("nightly", "schedule: \"0 3 * * *\"")]);
    let (mut daemon, address) = scene.start();
    scene.expect_no_more_than([0, 0]);
    scene.clock.advance(24 * HOUR);
    scene.wait_for(&mut daemon, [1, 1]);
    scene.expect_no_more_than([1, 1]);
    assert_eq!(http::status(&address).unwrap()["clock_set_back"], Value::Null);
    // This sets the clock back by more than an hour, to a time less than a day before the run at 3 o'clock.
    scene.clock.advance(-24 * HOUR);
    scene.expect_no_more_than([1, 1]);
    let status = http::status(&address).unwrap();
    let seconds = status["clock_set_back"]["seconds"].as_i64().unwrap();
    assert!((24 * HOUR - 60..=24 * HOUR).contains(&seconds), "{status:#}");
    let next: Vec<&str> =
        status["entries"].as_array().unwrap().iter().map(|entry| entry["next_firing"].as_str().unwrap()).collect();
    assert_eq!(next, ["2026-06-01T01:00:00.000Z", "2026-06-02T03:00:00.000Z"]);
    assert_eq!(http::get(&address, "/healthz"), Some((200, "ok\n".to_owned())));
    scene.clock.advance(2 * HOUR);
    scene.wait_for(&mut daemon, [2, 1]);
    // The nightly run of that day was done before the clock was set back, so it is not repeated.
    scene.clock.advance(2 * HOUR);
    scene.wait_for(&mut daemon, [3, 1]);
    scene.expect_no_more_than([3, 1]);
    scene.clock.advance(24 * HOUR);
    scene.wait_for(&mut daemon, [4, 2]);
    let log = daemon.stderr();
    assert_eq!(log.matches("a missed run is caught up").count(), 6, "{log}");
    assert_eq!(log.matches(SET_BACK).count(), 1, "{log}");
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn clock_corrected_during_downtime_skips_no_entry() {
    let scene = Scene::new("2026-06-01T12:00:10Z");
    scene.configure(&[("hourly", "schedule: \"*/2 * * * *\"")]);
    let (mut daemon, _) = scene.start();
    scene.clock.advance(120);
    scene.wait_for(&mut daemon, [1, 0]);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();

    scene.clock.advance(-8 * HOUR);
    let (mut daemon, address) = scene.start();
    let status = http::status(&address).unwrap();
    assert!(status["clock_set_back"]["seconds"].as_i64() > Some(7 * HOUR), "{status:#}");
    assert_eq!(daemon.stderr().matches(SET_BACK).count(), 1, "{}", daemon.stderr());
    scene.clock.advance(120);
    scene.wait_for(&mut daemon, [2, 0]);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();

    // Runs at the corrected time count from now on.
    let (mut daemon, address) = scene.start();
    scene.clock.advance(120);
    scene.wait_for(&mut daemon, [3, 0]);
    assert_eq!(http::status(&address).unwrap()["clock_set_back"], Value::Null);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn wildcard_schedules_continue_over_daylight_saving_changes() {
    for (time, schedule, expected) in [
        ("2026-10-24T23:45:00Z", "*/30 * * * *", ["25T00:00", "25T00:30", "25T01:00", "25T01:30"]),
        ("2026-10-24T23:45:00Z", "0 * * * *", ["25T00:00", "25T01:00", "25T02:00", "25T03:00"]),
        ("2026-10-24T23:45:00Z", "30 2 * * *", ["25T00:30", "26T01:30", "27T01:30", "28T01:30"]),
        ("2026-03-29T00:15:00Z", "*/30 * * * *", ["29T00:30", "29T01:00", "29T01:30", "29T02:00"]),
        ("2026-03-29T00:15:00Z", "30 2 * * *", ["29T01:00", "30T00:30", "31T00:30", "01T00:30"]),
    ] {
        let scene = Scene::new(time);
        scene.configure(&[("app", &format!("schedule: \"{schedule}\", timezone: Europe/Berlin"))]);
        let mut command = scene.site.command(&["next", "--limit", "4", "--json"]);
        scene.clock.apply_to(&mut command);
        let listed = Running::start(&mut command).wait(DEADLINE).expect_success().stdout;
        let listed = parse(&listed);
        let at = |coming: &Value| coming["at"].as_str().unwrap()[8..16].to_owned();
        let found: Vec<String> = listed.as_array().unwrap().iter().map(at).collect();
        assert_eq!(found, expected, "{schedule} at {time}");
    }
}

#[test]
fn bytes_sent_before_a_timeout_are_not_resent() {
    let (source, target, site) = (Server::start(), Server::start(), Site::new());
    let mut layers: Vec<_> = (0..5).map(|seed| images::layer(Family::Oci, seed, 1000)).collect();
    layers.push(images::layer(Family::Oci, 9, 4_000_000));
    let image = images::image(Family::Oci, linux("amd64"), &layers);
    image.put(&source, "app", Some("v1"));
    source.set(Fault::Bandwidth(100_000));
    let line = format!("source: \"{}/app\", target: \"{}/app\"", source.host(), target.host());
    let configure = |timeout: &str| {
        site.configure(&[source.host(), target.host()], &format!("- {{name: app, timeout: {timeout}, {line}}}"));
    };
    configure("6s");
    assert_eq!(site.run(&["once"]).code(), 1);
    assert_eq!(site.history(&[])[0]["outcome"], "timed_out");
    let arrived = target.store().blobs("app").len();
    assert!((1..image.blobs.len()).contains(&arrived), "{arrived}");
    assert_eq!(target.store().tag("app", "v1"), None);

    source.heal();
    target.log().clear();
    configure("2h");
    site.once();
    assert_eq!(target.log().count("upload PUT"), image.blobs.len() - arrived, "only the remaining blobs");
    assert_eq!(target.store().tag("app", "v1"), Some(image.digest()));
}
