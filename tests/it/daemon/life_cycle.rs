//! Tests of the life cycle of the daemon: status port, scheduled runs, reloads, shutdown.

use std::time::Duration;

use serde_json::Value;

use crate::support::front::{Authority, Front};
use crate::support::http;
use crate::support::images::{self, Family, Image, linux};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;
use crate::support::systemd::Manager;

/// Time limit for the next run of `* * * * *` on a busy machine.
const NEXT_MINUTE: Duration = Duration::from_secs(130);

/// Two registries and the site of a daemon.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        for (seed, name) in ["first", "second"].iter().enumerate() {
            images::two_platforms(Family::Oci, seed as u64).put(&scene.source, name, Some("v1"));
        }
        scene
    }

    /// Returns an entry that copies a repository to the same name at the target.
    fn entry(&self, name: &str, schedule: &str) -> String {
        let (source, target) = (self.source.host(), self.target.host());
        format!(
            "- {{name: {name}, source: \"{source}/{name}\", target: \"{target}/{name}\", schedule: \"{schedule}\"}}"
        )
    }

    fn configure(&self, daemon: &str, entries: &[String]) {
        let registries =
            [&self.source, &self.target].map(|server| format!("\"{}\": {{plain_http: true}}", server.host()));
        let daemon = format!("status: \"127.0.0.1:0\"{daemon}");
        self.site.configure_fully(&daemon, &registries.join(", "), &entries.join("\n"));
    }

    fn has_arrived(&self, name: &str) -> bool {
        self.target.store().tag(name, "v1").is_some()
            && self.target.store().tag(name, "v1") == self.source.store().tag(name, "v1")
    }

    /// Changes the entry's runs in the journal to scheduled runs of the year 2000, so that later runs count as missed.
    fn age_runs(&self, entry: &str) {
        let journal = rusqlite::Connection::open(self.site.journal()).unwrap();
        // 2000 has a 29 February, so that every date of a year stays valid.
        let age = "UPDATE runs SET trigger = 'schedule', started = '2000' || substr(started, 5), \
                   ended = '2000' || substr(ended, 5), scheduled_at = '2000' || substr(started, 5) WHERE entry = ?1";
        assert_eq!(journal.execute(age, [entry]).unwrap(), 1, "one run");
    }
}

/// Starts the daemon and finds its status port.
fn start(site: &Site) -> (Running, String) {
    let mut daemon = site.start(&["run"]);
    let found = daemon.ready();
    (daemon, found)
}

/// Returns the state of an entry in `/status`.
fn entry(address: &str, name: &str) -> Option<Value> {
    let status = http::status(address)?;
    status["entries"].as_array()?.iter().find(|entry| entry["entry"] == name).cloned()
}

/// Returns the entry's last run if it has succeeded.
fn succeeded(address: &str, name: &str) -> Option<Value> {
    let entry = entry(address, name)?;
    (entry["last_run"]["outcome"] == "succeeded").then(|| entry["last_run"].clone())
}

#[test]
fn daemon_serves_runs_reloads_and_shuts_down() {
    let scene = Scene::new();
    scene.configure("", &[scene.entry("first", "* * * * *")]);
    let (mut daemon, address) = start(&scene.site);
    assert_eq!(http::get(&address, "/healthz").unwrap().0, 200);
    let waiting = entry(&address, "first").unwrap();
    assert!(waiting["next_firing"].is_string() && waiting["last_run"].is_null(), "{waiting:#}");

    let run = daemon.wait_until_within(NEXT_MINUTE, "the run of the first entry", |_| succeeded(&address, "first"));
    assert!(scene.has_arrived("first"));
    assert_eq!((&run["counts"]["copied"], &run["counts"]["failed"]), (&1.into(), &0.into()));
    let metrics = || http::get(&address, "/metrics").unwrap().1;
    let text = metrics();
    for at_zero in
        ["transship_entry_runs_total{entry=\"first\"} 0\n", "transship_runs_total{outcome=\"succeeded\"} 0\n"]
    {
        let (name, _) = at_zero.rsplit_once(' ').unwrap();
        assert!(text.contains(name) && !text.contains(at_zero), "{text}");
    }
    let shown = scene.site.run(&["status", "--at", &address]).expect_success().stdout;
    assert!(shown.contains("first") && shown.contains("succeeded"), "{shown}");

    let schema: Value = serde_json::from_str(&scene.site.run(&["schema", "status"]).expect_success().stdout).unwrap();
    let status = http::status(&address).unwrap();
    let problems: Vec<String> =
        jsonschema::draft202012::new(&schema).unwrap().iter_errors(&status).map(|error| error.to_string()).collect();
    assert_eq!(problems, Vec::<String>::new(), "{status:#}");
    let registry = status["registries"].as_array().unwrap().iter().find(|one| one["registry"] == scene.target.host());
    assert!(registry.unwrap()["bytes_out"].as_u64() > Some(0), "{status:#}");

    let typo = scene.entry("second", "* * * * *").replace("source:", "sorce:");
    scene.configure("", &[scene.entry("first", "* * * * *"), typo]);
    let problem = daemon.wait_until("the refusal of the edit", |_| {
        http::status(&address)?["configuration"]["problem"].as_str().map(str::to_owned)
    });
    assert!(problem.contains("sync.yaml:6:") && problem.contains("did you mean"), "{problem}");
    assert!(daemon.stderr().contains("sync.yaml:6:"), "{}", daemon.stderr());
    assert!(metrics().contains("transship_configuration_last_reload_successful 0\n"), "{}", metrics());
    assert_eq!(http::get(&address, "/readyz").unwrap().0, 200, "the previous configuration stays active");
    assert!(entry(&address, "first").unwrap()["next_firing"].is_string());
    assert!(entry(&address, "second").is_none());

    scene.configure("", &[scene.entry("first", "* * * * *"), scene.entry("second", "* * * * *")]);
    daemon.wait_until("the good edit", |_| entry(&address, "second"));
    assert_eq!(http::status(&address).unwrap()["configuration"]["problem"], Value::Null);
    daemon.wait_until_within(NEXT_MINUTE, "the run of the second entry", |_| succeeded(&address, "second"));
    assert!(scene.has_arrived("second"));

    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert!(http::get(&address, "/healthz").is_none(), "the status port is closed");
    assert!(scene.site.history(&[]).iter().all(|run| run["trigger"] == "schedule" && run["outcome"] == "succeeded"));
}

#[test]
fn entry_with_on_start_runs_at_each_start() {
    let scene = Scene::new();
    let wanted = scene.entry("first", "never").replace("schedule:", "on_start: true, schedule:");
    scene.configure("", &[wanted, scene.entry("second", "never")]);
    for runs in [1, 2] {
        let (mut daemon, address) = start(&scene.site);
        daemon.wait_until("the run", |_| (scene.site.history(&["first"]).len() == runs).then_some(()));
        daemon.wait_until("its end", |_| succeeded(&address, "first"));
    }
    assert!(scene.has_arrived("first"));
    assert_eq!(scene.site.history(&["second"]).len(), 0);
}

#[test]
fn repeated_failures_lengthen_the_back_off_of_an_entry() {
    let scene = Scene::new();
    scene.configure("", &[scene.entry("gone", "* * * * *"), scene.entry("first", "* * * * *")]);
    for _ in 0..3 {
        assert_eq!(scene.site.run(&["once", "gone"]).code(), 1);
    }
    let (mut daemon, address) = start(&scene.site);
    let moment = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let gone = daemon
        .wait_until("the timetable", |_| entry(&address, "gone").filter(|entry| entry["next_firing"].is_string()));
    assert_eq!(gone["failures"], 3);
    let printed = "backed off after repeated failures: scheduled runs are skipped until the end of the back-off; \
     `transship trigger ENTRY` runs the entry now entry=gone failures=3";
    assert!(daemon.stderr().contains(printed), "{}", daemon.stderr());
    let wait = moment(&gone["next_firing"]) - moment(&gone["last_failure"]);
    assert!((240..=300).contains(&wait.num_seconds()), "{gone:#}");
    let wait = moment(&entry(&address, "first").unwrap()["next_firing"]) - chrono::Utc::now();
    assert!(wait.num_seconds() <= 60, "the other entry is not delayed: {wait}");
}

#[test]
fn entry_changed_during_its_run_restarts_with_new_rules() {
    let scene = Scene::new();
    for tag in 0..100 {
        images::small(Family::Oci, 1000 + tag).put(&scene.source, "first", Some(&format!("t{tag}")));
    }
    scene.target.set(Fault::Delay(Duration::from_millis(300)));
    let started =
        |rules: &str| scene.entry("first", "never").replace("schedule:", &format!("on_start: true, {rules}schedule:"));
    scene.configure("", &[started("")]);
    let (mut daemon, address) = start(&scene.site);
    let arrived = || scene.target.store().tags("first").map_or(0, |tags| tags.len());
    daemon.wait_until("the first tags", |_| (arrived() > 0).then_some(()));
    scene.configure("", &[started("tags: {include: v1}, ")]);
    let run = daemon.wait_until("the run by the new rules", |_| succeeded(&address, "first"));
    assert_eq!(run["counts"]["copied"].as_u64().unwrap() + run["counts"]["unchanged"].as_u64().unwrap(), 1, "{run:#}");
    assert!(scene.has_arrived("first") && arrived() < 101, "{} tags", arrived());
    let runs = scene.site.history(&["first"]);
    let message: Vec<_> = runs.iter().map(|run| (run["trigger"].clone(), run["outcome"].clone())).collect();
    assert_eq!(message.len(), 2, "{message:?}");
    assert_eq!(message[1].1, "interrupted");
}

/// Replaces `sync.yaml` as Kubernetes replaces a file of a ConfigMap: the file is in a folder of its own, and the link
/// `..data` points to that folder.
fn publish_as_config_map(site: &Site, version: &str, text: &str) {
    std::fs::create_dir(site.path(version)).unwrap();
    std::fs::write(site.path(version).join("sync.yaml"), text).unwrap();
    std::os::unix::fs::symlink(version, site.path("..data_tmp")).unwrap();
    std::fs::rename(site.path("..data_tmp"), site.path("..data")).unwrap();
}

#[test]
fn swapped_config_map_is_reloaded_at_once_and_by_sighup() {
    let scene = Scene::new();
    scene.configure("", &[scene.entry("first", "never")]);
    let text = std::fs::read_to_string(scene.site.path("sync.yaml")).unwrap();
    publish_as_config_map(&scene.site, "..1", &text);
    std::fs::remove_file(scene.site.path("sync.yaml")).unwrap();
    std::os::unix::fs::symlink("..data/sync.yaml", scene.site.path("sync.yaml")).unwrap();
    let (mut daemon, address) = start(&scene.site);
    daemon.wait_until("the first version", |_| entry(&address, "first"));
    publish_as_config_map(&scene.site, "..2", &text.replace("first", "second"));
    daemon.wait_until("the second version", |_| entry(&address, "second"));
    assert!(entry(&address, "first").is_none());
    let loaded_at = || http::status(&address).unwrap()["configuration"]["loaded_at"].clone();
    let before = loaded_at();
    daemon.signal("HUP");
    daemon.wait_until("the reload of the same file", |_| (loaded_at() != before).then_some(()));
}

#[test]
fn edit_of_an_included_file_is_reloaded() {
    let scene = Scene::new();
    std::fs::create_dir(scene.site.path("conf.d")).unwrap();
    scene.configure("", &[scene.entry("first", "never")]);
    let main = std::fs::read_to_string(scene.site.path("sync.yaml")).unwrap();
    scene.site.write("sync.yaml", &main.replace("version: 1\n", "version: 1\ninclude: conf.d/*.yaml\n"));
    let (mut daemon, address) = start(&scene.site);
    daemon.wait_until("the first entry", |_| entry(&address, "first"));
    let of_team = |text: &str| scene.site.write("conf.d/team.yaml", text);
    of_team(&format!("sync:\n{}\n", scene.entry("second", "never")));
    daemon.wait_until("the included entry", |_| entry(&address, "second"));
    of_team(&format!("sync:\n{}\n", scene.entry("second", "neverr")));
    let problem = daemon.wait_until("the refusal of the edit", |_| {
        http::status(&address)?["configuration"]["problem"].as_str().map(str::to_owned)
    });
    assert!(problem.contains("conf.d/team.yaml:2:"), "{problem}");
    assert!(entry(&address, "second").is_some(), "the last valid configuration stays active");
    std::fs::remove_file(scene.site.path("conf.d/team.yaml")).unwrap();
    daemon.wait_until("its end", |_| entry(&address, "second").is_none().then_some(()));
    assert!(scene.site.run(&["check"]).expect_success().stdout.contains("1 entry"));
}

#[test]
fn missed_runs_are_caught_up_by_one_run() {
    let scene = Scene::new();
    // The schedule is yearly, so only a missed run can start the entry, except in the first minutes of a year.
    scene.configure("", &[scene.entry("first", "@yearly"), scene.entry("second", "@yearly")]);
    scene.site.run(&["once", "first"]).expect_success();
    scene.age_runs("first");
    images::small(Family::Oci, 7).put(&scene.source, "first", Some("v1"));

    let (mut daemon, address) = start(&scene.site);
    daemon.wait_until("the missed run", |_| scene.has_arrived("first").then_some(()));
    daemon.wait_until("its end", |_| succeeded(&address, "first"));
    daemon.signal("TERM");
    let output = daemon.wait(DEADLINE).expect_success();
    assert!(output.stderr.contains("a missed run is caught up"), "{}", output.stderr);
    let runs = scene.site.history(&["first"]);
    assert_eq!(runs.len(), 2, "of many missed runs, one is caught up");
    assert_eq!(runs[0]["trigger"], "schedule");
    assert_eq!(scene.site.history(&["second"]).len(), 0, "an entry without runs has missed no run");

    let (daemon, _) = start(&scene.site);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert_eq!(scene.site.history(&["first"]).len(), 2, "the missed run is not caught up again");
}

fn large() -> Image {
    images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 3, 2_000_000)])
}

/// Starts a daemon that transfers a large blob of `slow` with this bandwidth in bytes per second.
fn daemon_during_transfer(scene: &Scene, grace: &str, bandwidth: u64) -> (Running, String) {
    images::small(Family::Oci, 1).put(&scene.source, "slow", Some("v1"));
    scene.configure(&format!(", shutdown_grace: {grace}"), &[scene.entry("slow", "@yearly")]);
    scene.site.once();
    scene.age_runs("slow");
    large().put(&scene.source, "slow", Some("v1"));
    scene.source.log().clear();
    scene.source.set(Fault::Bandwidth(bandwidth));
    let (mut daemon, address) = start(&scene.site);
    daemon.wait_until("the large layer in flight", |_| {
        scene.source.log().requests_of("blob GET").iter().any(|read| read.sent > 50_000).then_some(())
    });
    (daemon, address)
}

#[test]
fn transfer_in_flight_finishes_within_the_shutdown_grace() {
    let scene = Scene::new();
    let (mut daemon, address) = daemon_during_transfer(&scene, "50s", 250_000);
    assert!(!scene.has_arrived("slow"));
    let transfers = daemon.wait_until("the transfer in /status", |_| {
        let status = http::status(&address)?;
        status["in_flight"].as_array().filter(|transfers| !transfers.is_empty()).cloned()
    });
    assert!(transfers[0]["size"].as_u64() >= transfers[0]["sent"].as_u64(), "{transfers:?}");
    daemon.signal("TERM");
    daemon.wait_until("the end of readiness", |_| {
        let (status, _) = http::get(&address, "/readyz")?;
        (status == 503).then_some(())
    });
    daemon.wait(DEADLINE).expect_success();
    assert!(scene.has_arrived("slow"));
    assert_eq!(scene.site.history(&[])[0]["outcome"], "succeeded");
}

#[test]
fn transfer_beyond_the_shutdown_grace_resumes_after_restart() {
    let scene = Scene::new();
    let old = scene.source.store().tag("slow", "v1");
    assert_eq!(old, None);
    let (daemon, _) = daemon_during_transfer(&scene, "1s", 20_000);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert_eq!(
        scene.target.store().tag("slow", "v1"),
        Some(images::small(Family::Oci, 1).digest()),
        "the tag is unchanged"
    );
    assert_eq!(scene.site.history(&[])[0]["outcome"], "interrupted");

    scene.source.heal();
    let (mut daemon, address) = start(&scene.site);
    daemon.wait_until("the rest", |_| succeeded(&address, "slow"));
    assert!(scene.has_arrived("slow"));
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn daemon_notifies_systemd_of_readiness_and_shutdown() {
    let scene = Scene::new();
    scene.configure("", &[scene.entry("first", "never")]);
    let manager = Manager::new(&scene.site);
    let mut daemon = manager.start(&scene.site);
    manager.wait_for_message("READY=1");
    assert!(daemon.is_running());
    daemon.signal("TERM");
    manager.wait_for_message("STOPPING=1");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn systemd_status_shows_runs_and_configuration_problems() {
    let scene = Scene::new();
    let gone = scene.entry("gone", "never").replace("schedule:", "on_start: true, schedule:");
    scene.configure("", &[scene.entry("first", "never"), gone.clone()]);
    let manager = Manager::new(&scene.site);
    let daemon = manager.start(&scene.site);
    manager.wait_for_status("the run", |status| status == "2 entries: 1 running, 0 waiting, 0 failing");
    manager.wait_for_status("its failure", |status| status == "2 entries: 0 running, 0 waiting, 1 failing");
    scene.configure("", &[scene.entry("first", "neverr"), gone]);
    let status = manager.wait_for_status("the refusal", |status| status.contains("refused"));
    assert!(
        status.starts_with("the edit is refused, the previous configuration stays in force: sync.yaml:5:"),
        "{status}"
    );
    assert!(status.ends_with("; 2 entries: 0 running, 0 waiting, 1 failing"), "{status}");
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn broken_configuration_prevents_start_and_lists_every_mistake() {
    let scene = Scene::new();
    let bad = scene.entry("first", "61 * * * *").replace("target:", "tarket:");
    scene.configure("", &[bad]);
    let output = scene.site.run(&["run"]);
    assert_eq!(output.code(), 2, "{}", output.stdout);
    assert!(output.stderr.matches("sync.yaml:5:").count() >= 2, "{}", output.stderr);
    assert!(!scene.site.journal().exists());
}

#[test]
fn replaced_ca_certificate_is_trusted_from_the_next_run() {
    let scene = Scene::new();
    // An absolute `Location` would bypass the front.
    scene.source.set(Fault::RelativeLocation);
    let authority = Authority::new("the new authority");
    let front = Front::tls(scene.source.host(), &authority.certify("127.0.0.1", 4000), None, &["http/1.1"]);
    let (from, to) = (front.host(), scene.target.host());
    let registries = format!("\"{from}\": {{tls: {{ca: ca.pem}}}}, \"{to}\": {{plain_http: true}}");
    // The entry runs at each start, so back-off after a failure does not delay it.
    let line = "- {name: first, source: \"FROM/first\", target: \"TO/first\", schedule: \"* * * * *\", on_start: true}";
    let line = line.replace("FROM", &from).replace("TO", to);
    scene.site.write("ca.pem", &Authority::new("the old authority").pem());
    scene.site.configure_fully("status: \"127.0.0.1:0\"", &registries, &line);
    let (mut daemon, address) = start(&scene.site);
    daemon.wait_until("the first run", |_| {
        let state = entry(&address, "first")?;
        (state["last_run"]["outcome"] == "failed").then_some(())
    });
    assert!(!scene.has_arrived("first"));

    scene.site.write("ca.pem", "half a file");
    daemon.wait_until("the refusal of half a file", |daemon| {
        daemon.stderr().contains("the file ca.pem has no certificate").then_some(())
    });
    scene.site.write("ca.pem", &authority.pem());
    daemon.wait_until("the new file", |daemon| {
        daemon.stderr().contains("the configuration was read again").then_some(())
    });
    daemon.wait_until_within(NEXT_MINUTE, "the next run", |_| succeeded(&address, "first"));
    assert!(scene.has_arrived("first"));
    daemon.signal("TERM");
    let log = daemon.wait(DEADLINE).expect_success().stderr;
    assert_eq!(log.matches("the configuration was read again").count(), 1, "{log}");
}
