//! Headline and causes of failures on the page of a daemon whose registries refuse or throttle it.

use serde_json::Value;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::Running;
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

const DAEMON: &str = "status: \"127.0.0.1:0\", shutdown_grace: 1s";

/// Returns the text of the overview without markup.
fn overview(address: &str) -> String {
    let (status, page) = http::get(address, "/").expect("the daemon answers");
    assert_eq!(status, 200);
    let main = page.split_once("<main>").expect("a main part").1;
    regex::Regex::new("<[^>]+>").unwrap().replace_all(main, "").into_owned()
}

/// Waits until the state of the daemon has this property.
fn wait_for(daemon: &mut Running, address: &str, expectation: &str, has: impl Fn(&Value) -> bool) {
    daemon.wait_until(expectation, |_| http::status(address).filter(|status| has(status)).map(|_| ()));
}

fn entries(source: &Server, target: &Server, names: &[&str]) -> String {
    let entry = |name: &&str| {
        let (source, target) = (source.host(), target.host());
        format!(
            "- {{name: {name}, source: \"{source}/{name}\", target: \"{target}/{name}\", schedule: never, \
             on_start: true}}\n"
        )
    };
    names.iter().map(entry).collect()
}

#[test]
fn wrong_password_of_all_entries_is_one_row() {
    let auth = Auth::Basic("bot".into(), "right".into());
    let (source, target) = (Server::with(Setup { auth, ..Setup::default() }), Server::start());
    let site = Site::new();
    let registries = format!(
        "\"{}\": {{plain_http: true, credentials: {{username: bot, password: wrong}}}}, \"{}\": {{plain_http: true}}",
        source.host(),
        target.host()
    );
    site.configure_fully(DAEMON, &registries, &entries(&source, &target, &["a", "b", "c"]));
    let mut daemon = site.start(&["run"]);
    let address = daemon.ready();
    wait_for(&mut daemon, &address, "three failures", |status| {
        status["entries"].as_array().is_some_and(|entries| {
            entries.len() == 3 && entries.iter().all(|entry| entry["last_run"]["outcome"] == "failed")
        })
    });
    let shown = overview(&address);
    let title = format!("{} rejects bot", source.host());
    assert!(shown.contains(&format!("All 3 entries fail: {title}")), "{shown}");
    assert_eq!(shown.matches(&title).count(), 2, "once in the headline and once in the table: {shown}");
    assert!(shown.contains("401"), "the first cause is complete: {shown}");
}

#[test]
fn registry_with_long_retry_after_is_named_in_the_headline() {
    let (source, target) = (Server::start(), Server::start());
    images::small(Family::Oci, 1).put(&source, "a", Some("v1"));
    source.set(Fault::TooManyRequests { next: 1000, retry_after: Some(7200) });
    let site = Site::new();
    let registries = [&source, &target].map(|server| format!("\"{}\": {{plain_http: true}}", server.host())).join(", ");
    site.configure_fully(DAEMON, &registries, &entries(&source, &target, &["a"]));
    let mut daemon = site.start(&["run"]);
    let address = daemon.ready();
    wait_for(&mut daemon, &address, "a pause of the registry", |status| {
        status["registries"]
            .as_array()
            .is_some_and(|registries| registries.iter().any(|registry| !registry["paused_until"].is_null()))
    });
    let shown = overview(&address);
    assert!(!shown.contains("All is well"), "{shown}");
    assert!(shown.contains(&format!("{} limits requests until ", source.host())), "{shown}");
    assert!(shown.contains("1 run waits"), "{shown}");
}

#[test]
fn selection_without_a_match_is_in_headline_and_filter() {
    let (source, target) = (Server::start(), Server::start());
    images::small(Family::Oci, 1).put(&source, "a", Some("v1"));
    let site = Site::new();
    let registries = [&source, &target].map(|server| format!("\"{}\": {{plain_http: true}}", server.host())).join(", ");
    let entry =
        entries(&source, &target, &["a"]).replace("schedule: never", "schedule: never, tags: {include: [\"9.*\"]}");
    site.configure_fully(DAEMON, &registries, &format!("{entry}{}", entries(&source, &target, &["b"])));
    images::small(Family::Oci, 2).put(&source, "b", Some("v1"));
    let mut daemon = site.start(&["run"]);
    let address = daemon.ready();
    wait_for(&mut daemon, &address, "two ended runs", |status| {
        status["entries"].as_array().is_some_and(|entries| {
            entries.len() == 2 && entries.iter().all(|entry| entry["last_run"]["outcome"] == "succeeded")
        })
    });
    let shown = overview(&address);
    assert!(shown.contains("1 entry has a selection without a match"), "{shown}");
    assert!(shown.contains("Never matched 1"), "{shown}");
    let (_, filtered) = http::get(&address, "/?show=never-matched").expect("the daemon answers");
    assert_eq!(filtered.matches("<th scope=\"row\">").count(), 1, "{filtered}");
}
