//! The daemon's loop: what one entry, one registry or one neighbour of the daemon does holds up nothing else.

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;
use serde_json::Value;

/// Sources, one of which the test makes slow, and one target for all. The image of one shares a layer with that of the slow one.
struct Place {
    slow: Server,
    shares: Server,
    differs: Server,
    target: Server,
    site: Site,
}

impl Place {
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

    /// How the runs of an entry ended, the latest first.
    fn ends(&self, name: &str) -> Vec<Value> {
        self.site.history(&["--entry", name]).iter().map(|run| run["outcome"].clone()).collect()
    }
}

fn ready(daemon: &mut Running) -> String {
    let address = daemon.wait_until("the status port", |daemon| {
        let log = daemon.stderr();
        let (_, rest) = log.split_once("the status port answers address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    daemon.wait_until("readiness", |_| http::get(&address, "/readyz").filter(|(status, _)| *status == 200));
    address
}

#[test]
fn a_slow_entry_delays_no_other_though_both_bring_a_blob_to_one_registry() {
    let place = Place::new();
    place.slow.set(Fault::Held("blob GET"));
    let never = "schedule: never";
    place.configure(
        "entries_at_once: 2",
        &[
            place.entry("slow", &place.slow, "schedule: never, on_start: true"),
            place.entry("shares", &place.shares, never),
            place.entry("differs", &place.differs, never),
        ],
    );
    let mut daemon = place.site.start(&["run"]);
    let address = ready(&mut daemon);
    daemon.wait_until("reads of the slow entry", |_| (place.slow.log().count("blob GET") > 1).then_some(()));
    for name in ["differs", "shares"] {
        place.site.run(&["trigger", name, "--wait"]).expect_success();
        assert_eq!(place.target.store().tag(name, "v1").is_some(), true);
    }
    let entries = &http::status(&address).unwrap()["entries"];
    assert!(entries[0]["running"].is_object(), "{entries:#}");
    assert_eq!(place.ends("slow"), [Value::Null]);
    place.slow.heal();
    daemon.wait_until("the slow one", |_| (place.ends("slow") == ["succeeded"]).then_some(()));
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}
