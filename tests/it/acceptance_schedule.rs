//! The daemon's schedule on a clock that jumps, and runs that are ended by their timeout.

use std::time::Duration;

use crate::support::clock::Clock;
use crate::support::images::{self, Family, linux};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;
use chrono::Utc;

const HOUR: i64 = 3600;

/// How long a firing that must not come is waited for: some turns of the daemon's loop.
const TURNS: Duration = Duration::from_secs(4);

/// A daemon whose clock the test sets: ten minutes past an hour, so that none ends while the test goes on.
struct Stage {
    source: Server,
    target: Server,
    site: Site,
    clock: Clock,
}

impl Stage {
    fn new() -> Self {
        let (source, target) = (Server::start(), Server::start());
        images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
        let clock = Clock::new();
        clock.advance(HOUR - Utc::now().timestamp() % HOUR + 600);
        Self { source, target, site: Site::new(), clock }
    }

    fn entry(&self, name: &str, rest: &str) -> String {
        let (from, to) = (self.source.host(), self.target.host());
        format!("- {{name: {name}, source: \"{from}/app\", target: \"{to}/{name}\", {rest}}}")
    }

    fn start(&self, entries: &[String]) -> Running {
        let registries =
            [&self.source, &self.target].map(|server| format!("\"{}\": {{plain_http: true}}", server.host()));
        self.site.configure_fully("status: \"127.0.0.1:0\"", &registries.join(", "), &entries.join("\n"));
        let mut command = self.site.command(&["run"]);
        self.clock.rule(&mut command);
        let mut daemon = Running::start(&mut command);
        daemon.ready();
        daemon
    }

    /// How many runs of an entry have ended.
    fn ended(&self, name: &str) -> usize {
        self.site.history(&["--entry", name]).iter().filter(|run| !run["ended"].is_null()).count()
    }

    fn wait_for(&self, daemon: &mut Running, runs: [usize; 2]) {
        daemon.wait_until("the firings", |_| ([self.ended("hourly"), self.ended("nightly")] == runs).then_some(()));
    }

    #[track_caller]
    fn expect_no_more_than(&self, runs: [usize; 2]) {
        std::thread::sleep(TURNS);
        assert_eq!([self.ended("hourly"), self.ended("nightly")], runs);
    }
}

#[test]
fn a_clock_that_jumps_by_a_day_fires_each_entry_once_forwards_and_not_at_all_backwards() {
    let stage = Stage::new();
    let entries = ["hourly: every 1h", "nightly: \"0 3 * * *\""].map(|entry| {
        let (name, schedule) = entry.split_once(": ").unwrap();
        stage.entry(name, &format!("schedule: {schedule}"))
    });
    let mut daemon = stage.start(&entries);
    stage.expect_no_more_than([0, 0]);
    stage.clock.advance(24 * HOUR);
    stage.wait_for(&mut daemon, [1, 1]);
    stage.expect_no_more_than([1, 1]);
    stage.clock.advance(-24 * HOUR);
    stage.clock.advance(2 * HOUR);
    stage.expect_no_more_than([1, 1]);
    // A whole day and an hour after the first jump, what was fired then is over.
    stage.clock.advance(23 * HOUR);
    stage.wait_for(&mut daemon, [2, 1]);
    stage.expect_no_more_than([2, 1]);
    let log = daemon.stderr();
    assert_eq!(log.matches("a missed firing is made up for").count(), 3, "{log}");
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn what_a_run_had_sent_before_its_timeout_is_not_sent_again_by_the_next() {
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
    assert_eq!(target.log().count("upload PUT"), image.blobs.len() - arrived, "the rest alone");
    assert_eq!(target.store().tag("app", "v1"), Some(image.digest()));
}
