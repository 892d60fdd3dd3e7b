//! The daemon, seen from outside: it answers, fires, follows edits, and ends cleanly.

use std::time::Duration;

use serde_json::Value;

use crate::support::front::{Authority, Front};
use crate::support::http;
use crate::support::images::{self, Family, Image, linux};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;
use crate::support::systemd::Manager;

/// How long the next firing of `* * * * *` may take, on a busy machine.
const NEXT_MINUTE: Duration = Duration::from_secs(130);

/// Two registries and a place for a daemon between them.
struct Harbour {
    source: Server,
    target: Server,
    site: Site,
}

impl Harbour {
    fn new() -> Self {
        let harbour = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        for (seed, name) in ["first", "second"].iter().enumerate() {
            images::two_platforms(Family::Oci, seed as u64).put(&harbour.source, name, Some("v1"));
        }
        harbour
    }

    /// An entry from a repository to its namesake.
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

    /// Makes the entry's runs in the journal scheduled ones of long ago, so that firings were missed since.
    fn age_runs(&self, entry: &str) {
        let journal = rusqlite::Connection::open(self.site.journal()).unwrap();
        // 2000 has a 29 February, so that every day of a year stays a date.
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

/// The state of an entry in `/status`.
fn entry(address: &str, name: &str) -> Option<Value> {
    let status = http::status(address)?;
    status["entries"].as_array()?.iter().find(|entry| entry["name"] == name).cloned()
}

/// The end of the entry's last run, once that is a success.
fn succeeded(address: &str, name: &str) -> Option<Value> {
    let entry = entry(address, name)?;
    (entry["last_run"]["outcome"] == "succeeded").then(|| entry["last_run"].clone())
}

#[test]
fn it_answers_fires_refuses_a_bad_edit_follows_a_good_one_and_ends() {
    let harbour = Harbour::new();
    harbour.configure("", &[harbour.entry("first", "* * * * *")]);
    let (mut daemon, address) = start(&harbour.site);
    assert_eq!(http::get(&address, "/healthz").unwrap().0, 200);
    let waiting = entry(&address, "first").unwrap();
    assert!(waiting["next_firing"].is_string() && waiting["last_run"].is_null(), "{waiting:#}");

    let run = daemon.wait_until_within(NEXT_MINUTE, "the first entry to fire", |_| succeeded(&address, "first"));
    assert!(harbour.has_arrived("first"));
    assert_eq!((&run["counts"]["copied"], &run["counts"]["failed"]), (&1.into(), &0.into()));
    let metrics = || http::get(&address, "/metrics").unwrap().1;
    let text = metrics();
    for at_zero in
        ["transship_entry_runs_total{entry=\"first\"} 0\n", "transship_runs_total{outcome=\"succeeded\"} 0\n"]
    {
        let (name, _) = at_zero.rsplit_once(' ').unwrap();
        assert!(text.contains(name) && !text.contains(at_zero), "{text}");
    }
    let shown = harbour.site.run(&["status", "--at", &address]).expect_success().stdout;
    assert!(shown.contains("first") && shown.contains("succeeded"), "{shown}");

    let schema: Value = serde_json::from_str(&harbour.site.run(&["schema", "status"]).expect_success().stdout).unwrap();
    let status = http::status(&address).unwrap();
    let problems: Vec<String> =
        jsonschema::draft202012::new(&schema).unwrap().iter_errors(&status).map(|error| error.to_string()).collect();
    assert_eq!(problems, Vec::<String>::new(), "{status:#}");
    let registry = status["registries"].as_array().unwrap().iter().find(|one| one["registry"] == harbour.target.host());
    assert!(registry.unwrap()["bytes_out"].as_u64() > Some(0), "{status:#}");

    let typo = harbour.entry("second", "* * * * *").replace("source:", "sorce:");
    harbour.configure("", &[harbour.entry("first", "* * * * *"), typo]);
    let problem = daemon.wait_until("the refusal of the edit", |_| {
        http::status(&address)?["configuration"]["problem"].as_str().map(str::to_owned)
    });
    assert!(problem.contains("sync.yaml:6:") && problem.contains("did you mean"), "{problem}");
    assert!(daemon.stderr().contains("sync.yaml:6:"), "{}", daemon.stderr());
    assert!(metrics().contains("transship_configuration_last_reload_successful 0\n"), "{}", metrics());
    assert_eq!(http::get(&address, "/readyz").unwrap().0, 200, "the old configuration goes on");
    assert!(entry(&address, "first").unwrap()["next_firing"].is_string());
    assert!(entry(&address, "second").is_none());

    harbour.configure("", &[harbour.entry("first", "* * * * *"), harbour.entry("second", "* * * * *")]);
    daemon.wait_until("the good edit", |_| entry(&address, "second"));
    assert_eq!(http::status(&address).unwrap()["configuration"]["problem"], Value::Null);
    daemon.wait_until_within(NEXT_MINUTE, "the second entry to fire", |_| succeeded(&address, "second"));
    assert!(harbour.has_arrived("second"));

    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert!(http::get(&address, "/healthz").is_none(), "nobody answers any more");
    assert!(harbour.site.history(&[]).iter().all(|run| run["trigger"] == "schedule" && run["outcome"] == "succeeded"));
}

#[test]
fn an_entry_runs_at_each_start_where_that_is_wanted() {
    let harbour = Harbour::new();
    let wanted = harbour.entry("first", "never").replace("schedule:", "on_start: true, schedule:");
    harbour.configure("", &[wanted, harbour.entry("second", "never")]);
    for runs in [1, 2] {
        let (mut daemon, address) = start(&harbour.site);
        daemon.wait_until("the run", |_| (harbour.site.history(&["--entry", "first"]).len() == runs).then_some(()));
        daemon.wait_until("its end", |_| succeeded(&address, "first"));
    }
    assert!(harbour.has_arrived("first"));
    assert_eq!(harbour.site.history(&["--entry", "second"]).len(), 0);
}

#[test]
fn an_entry_that_keeps_failing_is_left_alone_for_longer_and_longer() {
    let harbour = Harbour::new();
    harbour.configure("", &[harbour.entry("gone", "* * * * *"), harbour.entry("first", "* * * * *")]);
    for _ in 0..3 {
        assert_eq!(harbour.site.run(&["once", "gone"]).code(), 1);
    }
    let (mut daemon, address) = start(&harbour.site);
    let moment = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let gone = daemon
        .wait_until("the timetable", |_| entry(&address, "gone").filter(|entry| entry["next_firing"].is_string()));
    assert_eq!(gone["failures"], 3);
    let said = "backed off after repeated failures: scheduled runs are skipped until the end of the back-off; \
     `transship trigger ENTRY` runs the entry now entry=gone failures=3";
    assert!(daemon.stderr().contains(said), "{}", daemon.stderr());
    let wait = moment(&gone["next_firing"]) - moment(&gone["last_failure"]);
    assert!((240..=300).contains(&wait.num_seconds()), "{gone:#}");
    let wait = moment(&entry(&address, "first").unwrap()["next_firing"]) - chrono::Utc::now();
    assert!(wait.num_seconds() <= 60, "the other one is not held up: {wait}");
}

#[test]
fn an_entry_that_is_changed_while_it_runs_goes_on_by_its_new_rules() {
    let harbour = Harbour::new();
    for tag in 0..100 {
        images::small(Family::Oci, 1000 + tag).put(&harbour.source, "first", Some(&format!("t{tag}")));
    }
    harbour.target.set(Fault::Delay(Duration::from_millis(300)));
    let begun = |rules: &str| {
        harbour.entry("first", "never").replace("schedule:", &format!("on_start: true, {rules}schedule:"))
    };
    harbour.configure("", &[begun("")]);
    let (mut daemon, address) = start(&harbour.site);
    let arrived = || harbour.target.store().tags("first").map_or(0, |tags| tags.len());
    daemon.wait_until("the first tags", |_| (arrived() > 0).then_some(()));
    harbour.configure("", &[begun("tags: {include: v1}, ")]);
    let run = daemon.wait_until("the run by the new rules", |_| succeeded(&address, "first"));
    assert_eq!(run["counts"]["copied"].as_u64().unwrap() + run["counts"]["unchanged"].as_u64().unwrap(), 1, "{run:#}");
    assert!(harbour.has_arrived("first") && arrived() < 101, "{} tags", arrived());
    let runs = harbour.site.history(&["--entry", "first"]);
    let told: Vec<_> = runs.iter().map(|run| (run["trigger"].clone(), run["outcome"].clone())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1].1, "interrupted");
}

/// Makes `text` the version of `sync.yaml` as Kubernetes does for a file of a ConfigMap: in a folder of its own, to which `..data` points.
fn publish_as_config_map(site: &Site, version: &str, text: &str) {
    std::fs::create_dir(site.path(version)).unwrap();
    std::fs::write(site.path(version).join("sync.yaml"), text).unwrap();
    std::os::unix::fs::symlink(version, site.path("..data_tmp")).unwrap();
    std::fs::rename(site.path("..data_tmp"), site.path("..data")).unwrap();
}

#[test]
fn a_config_map_that_is_swapped_is_read_again_at_once_and_at_a_hang_up() {
    let harbour = Harbour::new();
    harbour.configure("", &[harbour.entry("first", "never")]);
    let text = std::fs::read_to_string(harbour.site.path("sync.yaml")).unwrap();
    publish_as_config_map(&harbour.site, "..1", &text);
    std::fs::remove_file(harbour.site.path("sync.yaml")).unwrap();
    std::os::unix::fs::symlink("..data/sync.yaml", harbour.site.path("sync.yaml")).unwrap();
    let (mut daemon, address) = start(&harbour.site);
    daemon.wait_until("the first version", |_| entry(&address, "first"));
    publish_as_config_map(&harbour.site, "..2", &text.replace("first", "second"));
    daemon.wait_until("the second version", |_| entry(&address, "second"));
    assert!(entry(&address, "first").is_none());
    let loaded_at = || http::status(&address).unwrap()["configuration"]["loaded_at"].clone();
    let before = loaded_at();
    daemon.signal("HUP");
    daemon.wait_until("the same once more", |_| (loaded_at() != before).then_some(()));
}

#[test]
fn a_file_that_is_included_is_followed_like_the_one_that_includes_it() {
    let harbour = Harbour::new();
    std::fs::create_dir(harbour.site.path("conf.d")).unwrap();
    harbour.configure("", &[harbour.entry("first", "never")]);
    let main = std::fs::read_to_string(harbour.site.path("sync.yaml")).unwrap();
    harbour.site.write("sync.yaml", &main.replace("version: 1\n", "version: 1\ninclude: conf.d/*.yaml\n"));
    let (mut daemon, address) = start(&harbour.site);
    daemon.wait_until("the first entry", |_| entry(&address, "first"));
    let of_team = |text: &str| harbour.site.write("conf.d/team.yaml", text);
    of_team(&format!("sync:\n{}\n", harbour.entry("second", "never")));
    daemon.wait_until("the included entry", |_| entry(&address, "second"));
    of_team(&format!("sync:\n{}\n", harbour.entry("second", "neverr")));
    let problem = daemon.wait_until("the refusal of the edit", |_| {
        http::status(&address)?["configuration"]["problem"].as_str().map(str::to_owned)
    });
    assert!(problem.contains("conf.d/team.yaml:2:"), "{problem}");
    assert!(entry(&address, "second").is_some(), "the last good configuration goes on");
    std::fs::remove_file(harbour.site.path("conf.d/team.yaml")).unwrap();
    daemon.wait_until("its end", |_| entry(&address, "second").is_none().then_some(()));
    assert!(harbour.site.run(&["check"]).expect_success().stdout.contains("1 entry"));
}

#[test]
fn what_was_missed_is_made_up_for_once() {
    let harbour = Harbour::new();
    // Yearly: nothing but the missed firing can be the reason, except in the first minutes of a year.
    harbour.configure("", &[harbour.entry("first", "@yearly"), harbour.entry("second", "@yearly")]);
    harbour.site.run(&["once", "first"]).expect_success();
    harbour.age_runs("first");
    images::small(Family::Oci, 7).put(&harbour.source, "first", Some("v1"));

    let (mut daemon, address) = start(&harbour.site);
    daemon.wait_until("what was missed", |_| harbour.has_arrived("first").then_some(()));
    daemon.wait_until("its end", |_| succeeded(&address, "first"));
    daemon.signal("TERM");
    let output = daemon.wait(DEADLINE).expect_success();
    assert!(output.stderr.contains("a missed run is caught up"), "{}", output.stderr);
    let runs = harbour.site.history(&["--entry", "first"]);
    assert_eq!(runs.len(), 2, "many were missed, one is made up for");
    assert_eq!(runs[0]["trigger"], "schedule");
    assert_eq!(harbour.site.history(&["--entry", "second"]).len(), 0, "what never ran has missed nothing");

    let (daemon, _) = start(&harbour.site);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert_eq!(harbour.site.history(&["--entry", "first"]).len(), 2, "it is not made up for again");
}

fn large() -> Image {
    images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 3, 2_000_000)])
}

/// A daemon in the middle of a large blob of `slow`, at this many bytes a second.
fn daemon_under_way(harbour: &Harbour, grace: &str, bandwidth: u64) -> (Running, String) {
    images::small(Family::Oci, 1).put(&harbour.source, "slow", Some("v1"));
    harbour.configure(&format!(", shutdown_grace: {grace}"), &[harbour.entry("slow", "@yearly")]);
    harbour.site.once();
    harbour.age_runs("slow");
    large().put(&harbour.source, "slow", Some("v1"));
    harbour.source.log().clear();
    harbour.source.set(Fault::Bandwidth(bandwidth));
    let (mut daemon, address) = start(&harbour.site);
    daemon.wait_until("the large layer on its way", |_| {
        harbour.source.log().requests_of("blob GET").iter().any(|read| read.sent > 50_000).then_some(())
    });
    (daemon, address)
}

#[test]
fn a_transfer_under_way_is_finished_within_the_grace() {
    let harbour = Harbour::new();
    let (mut daemon, address) = daemon_under_way(&harbour, "50s", 250_000);
    assert!(!harbour.has_arrived("slow"));
    let transfers = daemon.wait_until("the transfer in /status", |_| {
        let status = http::status(&address)?;
        status["in_flight"].as_array().filter(|transfers| !transfers.is_empty()).cloned()
    });
    assert!(transfers[0]["size"].as_u64() >= transfers[0]["sent"].as_u64(), "{transfers:?}");
    daemon.signal("TERM");
    daemon.wait_until("not to be ready", |_| {
        let (status, _) = http::get(&address, "/readyz")?;
        (status == 503).then_some(())
    });
    daemon.wait(DEADLINE).expect_success();
    assert!(harbour.has_arrived("slow"));
    assert_eq!(harbour.site.history(&[])[0]["outcome"], "succeeded");
}

#[test]
fn what_is_not_finished_within_the_grace_is_dropped_and_goes_on_at_the_next_start() {
    let harbour = Harbour::new();
    let old = harbour.source.store().tag("slow", "v1");
    assert_eq!(old, None);
    let (daemon, _) = daemon_under_way(&harbour, "1s", 20_000);
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert_eq!(harbour.target.store().tag("slow", "v1"), Some(images::small(Family::Oci, 1).digest()), "as it was");
    assert_eq!(harbour.site.history(&[])[0]["outcome"], "interrupted");

    harbour.source.heal();
    let (mut daemon, address) = start(&harbour.site);
    daemon.wait_until("the rest", |_| succeeded(&address, "slow"));
    assert!(harbour.has_arrived("slow"));
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_ends() {
    let harbour = Harbour::new();
    harbour.configure("", &[harbour.entry("first", "never")]);
    let manager = Manager::new(&harbour.site);
    let mut daemon = manager.start(&harbour.site);
    manager.wait_for_message("READY=1");
    assert!(daemon.is_running());
    daemon.signal("TERM");
    manager.wait_for_message("STOPPING=1");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn the_status_that_systemd_shows_follows_the_runs_and_keeps_what_is_wrong_with_the_file() {
    let harbour = Harbour::new();
    let gone = harbour.entry("gone", "never").replace("schedule:", "on_start: true, schedule:");
    harbour.configure("", &[harbour.entry("first", "never"), gone.clone()]);
    let manager = Manager::new(&harbour.site);
    let daemon = manager.start(&harbour.site);
    manager.wait_for_status("the run", |status| status == "2 entries: 1 running, 0 waiting, 0 failing");
    manager.wait_for_status("its failure", |status| status == "2 entries: 0 running, 0 waiting, 1 failing");
    harbour.configure("", &[harbour.entry("first", "neverr"), gone]);
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
fn a_broken_configuration_keeps_it_from_starting_and_shows_every_mistake() {
    let harbour = Harbour::new();
    let bad = harbour.entry("first", "61 * * * *").replace("target:", "tarket:");
    harbour.configure("", &[bad]);
    let output = harbour.site.run(&["run"]);
    assert_eq!(output.code(), 2, "{}", output.stdout);
    assert!(output.stderr.matches("sync.yaml:5:").count() >= 2, "{}", output.stderr);
    assert!(!harbour.site.journal().exists());
}

#[test]
fn an_authority_that_is_exchanged_is_believed_from_the_next_run_on() {
    let harbour = Harbour::new();
    // What it says of itself would lead past the front.
    harbour.source.set(Fault::RelativeLocation);
    let authority = Authority::new("the new authority");
    let front = Front::tls(harbour.source.host(), &authority.certify("127.0.0.1", 4000), None, &["http/1.1"]);
    let (from, to) = (front.host(), harbour.target.host());
    let registries = format!("\"{from}\": {{tls: {{ca: ca.pem}}}}, \"{to}\": {{plain_http: true}}");
    // Begun at the start: an entry that has failed once is not held back.
    let line = "- {name: first, source: \"FROM/first\", target: \"TO/first\", schedule: \"* * * * *\", on_start: true}";
    let line = line.replace("FROM", &from).replace("TO", to);
    harbour.site.write("ca.pem", &Authority::new("the old authority").pem());
    harbour.site.configure_fully("status: \"127.0.0.1:0\"", &registries, &line);
    let (mut daemon, address) = start(&harbour.site);
    daemon.wait_until("the first run", |_| {
        let state = entry(&address, "first")?;
        (state["last_run"]["outcome"] == "failed").then_some(())
    });
    assert!(!harbour.has_arrived("first"));

    harbour.site.write("ca.pem", "half a file");
    daemon.wait_until("the refusal of half a file", |daemon| {
        daemon.stderr().contains("the file ca.pem has no certificate").then_some(())
    });
    harbour.site.write("ca.pem", &authority.pem());
    daemon.wait_until("the new file", |daemon| {
        daemon.stderr().contains("the configuration was read again").then_some(())
    });
    daemon.wait_until_within(NEXT_MINUTE, "the next run", |_| succeeded(&address, "first"));
    assert!(harbour.has_arrived("first"));
    daemon.signal("TERM");
    let log = daemon.wait(DEADLINE).expect_success().stderr;
    assert_eq!(log.matches("the configuration was read again").count(), 1, "{log}");
}
