//! Tests of a source that counts pulls as Docker Hub does: the tags that fit into a window are copied, the newest
//! first, and the other tags are deferred.

use std::collections::BTreeSet;

use crate::support::images::{self, Family};
use crate::support::registry::{Fault, PullLimit, Server, Setup};
use crate::support::site::Site;

const SIX_HOURS: u64 = 6 * 3600;

fn hub(limit: usize, slides: bool) -> Server {
    let pulls = Some(PullLimit { limit, window: SIX_HOURS, slides });
    Server::with(Setup { pulls, ..Setup::default() })
}

/// Puts a small image under each of these tags.
fn put_images(hub: &Server, repository: &str, tags: impl Iterator<Item = String>) {
    for (seed, tag) in tags.enumerate() {
        images::small(Family::Docker, seed as u64 + 1).put(hub, repository, Some(&tag));
    }
}

/// Returns the tags `1.0.0`, `1.1.0` and so on.
fn versions(of: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    of.map(|minor| format!("1.{minor}.0"))
}

fn tags(target: &Server, repository: &str) -> BTreeSet<String> {
    target.store().tags(repository).unwrap_or_default().into_keys().collect()
}

fn site_of(hub: &Server, target: &Server, repositories: &[&str], limits: &str) -> Site {
    let site = Site::new();
    let registries = format!(
        "\"{}\": {{plain_http: true, limits: {{{limits}}}}}, \"{}\": {{plain_http: true}}",
        hub.host(),
        target.host()
    );
    let entry = |name: &&str| {
        format!("- {{name: {name}, source: \"{}/{name}\", target: \"{}/{name}\"}}", hub.host(), target.host())
    };
    let entries: Vec<String> = repositories.iter().map(entry).collect();
    site.configure_fully("status: off", &registries, &entries.join("\n"));
    site
}

#[test]
fn three_hundred_tags_arrive_over_several_quota_windows() {
    let (hub, target) = (hub(100, false), Server::start());
    put_images(&hub, "app", versions(0..300));
    let site = site_of(&hub, &target, &["app"], "");

    let report = site.report(4);
    let newest: BTreeSet<String> = versions(200..300).collect();
    assert_eq!(tags(&target, "app"), newest, "the newest tags are copied first");
    assert_eq!(report.0["outcome"], "deferred");
    assert_eq!(hub.pulls_left(), 0);

    hub.advance_pull_clock(SIX_HOURS);
    let mut running = site.start(&["once"]);
    running.wait_until("tags of the second window", |_| (tags(&target, "app").len() >= 140).then_some(()));
    running.kill();
    let before = tags(&target, "app").len();
    site.report(4);
    let after = tags(&target, "app").len();
    assert!(before < after && after > 190, "{before} and then {after}");

    for _ in 0..2 {
        hub.advance_pull_clock(SIX_HOURS);
        site.run(&["once"]);
    }
    assert_eq!(tags(&target, "app"), versions(0..300).collect());
    assert_eq!(hub.refused_pulls(), 0);
}

#[test]
fn first_run_within_a_quota_reads_only_the_newest_tags() {
    let (hub, target) = (hub(12, false), Server::start());
    for minor in 0..11 {
        index(2, minor).put(&hub, "app", Some(&format!("1.{minor}.0")));
    }
    // The program does not know the limit before the first response.
    site_of(&hub, &target, &["app"], "").report(4);
    assert_eq!(tags(&target, "app"), versions(7..11).collect(), "the four newest tags, with three reads each");
    assert_eq!((hub.log().pulls(), hub.refused_pulls()), (12, 0));
}

/// Returns an index of this number of platforms, which shares no manifest with indexes of other seeds.
fn index(platforms: u64, seed: u64) -> images::Image {
    let child = |nth| {
        let layers = [images::layer(Family::Oci, 1000 * seed + nth, 500)];
        images::image(Family::Oci, images::linux(&format!("cpu{nth}")), &layers)
    };
    images::index(Family::Oci, &(0..platforms).map(child).collect::<Vec<_>>())
}

#[test]
fn index_over_the_remaining_quota_wastes_no_pull() {
    let (hub, target) = (hub(20, true), Server::start());
    images::small(Family::Oci, 1).put(&hub, "app", Some("0.0.1"));
    let site = site_of(&hub, &target, &["app"], "");
    site.once();
    hub.log().clear();
    for minor in 0..4 {
        index(7, minor).put(&hub, "app", Some(&format!("1.{minor}.0")));
    }
    images::small(Family::Oci, 2).put(&hub, "app", Some("0.1.0"));

    let report = site.report(4);
    let there = |tags: [&str; 3]| tags.map(str::to_owned).into();
    assert_eq!(tags(&target, "app"), there(["0.0.1", "1.2.0", "1.3.0"]), "the small tag waits behind the larger ones");
    assert_eq!(hub.log().pulls(), 2 * 8 + 1, "one pull of the third index shows that it does not fit");
    let reason = report.tag("1.1.0")["reason"].as_str().unwrap();
    let message = format!(
        "7 more manifests must be read, and the pull limit of {} leaves 2 of 20 pulls per 6h (reported ",
        hub.host()
    );
    assert!(reason.contains(&message), "{reason}");

    hub.advance_pull_clock(SIX_HOURS);
    let message = site.once();
    assert!(message.contains("3 copied, 3 unchanged"), "{message}");
    assert_eq!(hub.log().pulls(), 2 * 8 + 1 + 2 * 8 + 1);
    assert_eq!(hub.refused_pulls(), 0);
}

#[test]
fn index_larger_than_the_quota_fails_and_delays_nothing() {
    let (hub, target) = (hub(10, false), Server::start());
    index(12, 1).put(&hub, "app", Some("2.0.0"));
    put_images(&hub, "app", versions(0..3));
    let report = site_of(&hub, &target, &["app"], "reserve_pulls: 2").report(1);
    assert_eq!(tags(&target, "app"), versions(0..3).collect());
    let message = report.tag("2.0.0")["reason"].as_str().unwrap();
    let reported = format!(
        "12 more manifests must be read, and the pull limit of {} is 10, of which 2 are reserved: authenticate with an \
         account that has a larger limit, lower `limits.reserve_pulls`, or select fewer `platforms`",
        hub.host()
    );
    assert!(message.ends_with(&reported), "{message}");
}

#[test]
fn entries_share_remaining_pulls_and_leave_the_reserve() {
    let (hub, target) = (hub(50, false), Server::start());
    for repository in ["one", "two"] {
        put_images(&hub, repository, versions(0..40).map(|tag| format!("{tag}-{repository}")));
    }
    let site = site_of(&hub, &target, &["one", "two"], "reserve_pulls: 20");
    let message = site.run(&["once"]);
    assert_eq!(message.code(), 4, "{}", message.stdout);
    assert_eq!(hub.pulls_left(), 20);
    assert_eq!(tags(&target, "one").len() + tags(&target, "two").len(), 30);
    let waits =
        format!("the pull limit of {} leaves 20 of 50 pulls per 6h, of which 20 are reserved (reported ", hub.host());
    assert!(message.stdout.contains(" wait until ") && message.stdout.contains(&waits), "{}", message.stdout);
    let history = site.history(&["one"]);
    assert_eq!((&history[0]["outcome"], history[0]["deferred_until"].is_string()), (&"deferred".into(), true));
    let counts = ["copied", "deferred"].map(|word| history[0]["counts"][word].as_u64().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 40, "{counts:?}");

    // No pulls remain: the program queries the quota and tries no pull.
    site.run(&["once"]);
    assert_eq!((hub.log().pulls(), hub.pulls_left(), hub.refused_pulls()), (30, 20, 0));
}

#[test]
fn tags_of_one_image_cost_one_pull() {
    let (hub, target) = (hub(100, false), Server::start());
    // The second run knows from the journal that the registry counts pulls.
    images::small(Family::Oci, 1).put(&hub, "app", Some("old"));
    let site = site_of(&hub, &target, &["app"], "");
    site.once();
    let image = images::small(Family::Oci, 2);
    for tag in versions(0..20) {
        image.put(&hub, "app", Some(&tag));
    }
    site.once();
    assert_eq!(hub.log().pulls(), 2);
    assert_eq!(tags(&target, "app").len(), 21);
}

#[test]
fn pulls_of_other_clients_are_noticed_without_long_waits() {
    let (hub, target) = (hub(30, false), Server::start());
    put_images(&hub, "app", versions(0..40));
    let site = site_of(&hub, &target, &["app"], "");
    hub.set(Fault::Held("blob GET"));
    let mut running = site.start(&["once"]);
    running.wait_until("the first pulls", |_| (hub.log().pulls() > 0).then_some(()));
    hub.add_foreign_pulls(30);
    hub.heal();
    let output = running.wait(crate::support::programs::DEADLINE);
    assert_eq!(output.code(), 4, "{}\n{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("deferred"), "{}", output.stdout);
    assert_eq!(hub.pulls_left(), 0);
}

#[test]
fn daemon_continues_when_the_quota_window_allows() {
    // The shortest window that counts as a quota. The program queries the remaining pulls again after 50 seconds.
    let pulls = Some(PullLimit { limit: 5, window: 600, slides: false });
    let (hub, target) = (Server::with(Setup { pulls, ..Setup::default() }), Server::start());
    put_images(&hub, "app", versions(0..8));
    let site = Site::new();
    let entries = format!(
        "- {{name: app, source: \"{}/app\", target: \"{}/app\", schedule: \"@yearly\", on_start: true}}",
        hub.host(),
        target.host()
    );
    let registries = format!("\"{}\": {{plain_http: true}}, \"{}\": {{plain_http: true}}", hub.host(), target.host());
    site.configure_fully("status: \"127.0.0.1:0\"", &registries, &entries);
    let mut daemon = site.start(&["run"]);
    let of = |count: usize| (tags(&target, "app").len() == count).then_some(());
    daemon.wait_until_within(std::time::Duration::from_secs(90), "five tags", |_| of(5));
    let address = daemon.ready();
    daemon.wait_until("the remaining pulls", |_| {
        let (_, metrics) = crate::support::http::get(&address, "/metrics")?;
        let line = format!("transship_quota_remaining{{registry=\"{}\",identity=\"anonymous\"}} 0", hub.host());
        metrics.contains(&line).then_some(())
    });
    // The first run must end before the window allows further pulls, or it would copy the remaining tags itself.
    daemon.wait_until_within(std::time::Duration::from_secs(90), "the end of the first run", |_| {
        site.history(&[]).iter().any(|run| run["outcome"] == "deferred").then_some(())
    });
    hub.advance_pull_clock(600);
    daemon.wait_until_within(std::time::Duration::from_secs(150), "all tags", |_| of(8));
    daemon.wait_until_within(std::time::Duration::from_secs(90), "the end of the run that copied them", |_| {
        let runs = site.history(&[]);
        let brought = runs.iter().find(|run| run["outcome"] == "succeeded" && run["counts"]["copied"] == 3)?;
        assert_eq!(brought["trigger"], "continued");
        Some(())
    });
    assert_eq!(hub.refused_pulls(), 0);
    daemon.signal("TERM");
    daemon.wait(crate::support::programs::DEADLINE);
}

#[test]
fn docker_hub_quota_is_queried_before_the_first_pull() {
    let (hub, target) = (hub(100, true), Server::start());
    for minor in 0..40 {
        index(9, minor).put(&hub, "library/app", Some(&format!("1.{minor}.0")));
    }
    let site = Site::new();
    let registries = format!(
        "docker.io: {{plain_http: true, proxy: \"http://{}\", credentials: {{anonymous: true}}}}, \"{}\": {{plain_http: true}}",
        hub.host(),
        target.host()
    );
    let entry = format!("- {{name: app, source: app, target: \"{}/app\"}}", target.host());
    site.configure_fully("status: off", &registries, &entry);
    hub.add_foreign_pulls(100);
    let report = site.report(4);
    assert_eq!((hub.log().count("manifest GET"), report.tags().len()), (0, 40));
    let reason = report.tag("1.3.0")["reason"].as_str().unwrap();
    let message = "source docker.io/library/app: reading manifest 1.3.0: \
                the pull limit of docker.io leaves 0 of 100 pulls per 6h (reported ";
    assert!(reason.starts_with(message), "{reason}");

    hub.advance_pull_clock(SIX_HOURS);
    std::fs::remove_file(site.journal()).unwrap();
    site.report(4);
    assert_eq!(tags(&target, "app"), versions(30..40).collect(), "ten tags with ten pulls each");
    assert_eq!((hub.log().pulls(), hub.refused_pulls()), (100, 0));
}

#[test]
fn new_process_queries_a_recorded_quota_before_reading() {
    let (hub, target) = (hub(3, true), Server::start());
    put_images(&hub, "one", versions(0..3));
    let site = site_of(&hub, &target, &["one"], "");
    site.once();
    put_images(&hub, "two", versions(0..3));
    let entry = format!("- {{name: two, source: \"{}/two\", target: \"{}/two\"}}", hub.host(), target.host());
    site.configure(&[hub.host(), target.host()], &entry);
    assert_eq!(site.report(4).0["outcome"], "deferred");
    assert_eq!((hub.log().pulls(), hub.refused_pulls()), (3, 0));
}
