//! Tests of warnings about selected tags that do not exist, and about settings of the configuration: in `check`,
//! `plan`, `once`, the log, `/status` and the pages. No warning changes an exit code.

use serde_json::Value;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::registry::Server;
use crate::support::site::{Site, parse};

const UNUSED: &str = "no entry uses the registry misspelt.example";
const UNMATCHED: &str = "\"gone-*\" under `include` matches no tag of";

/// Creates a site with an entry whose pattern matches nothing, and with settings of a registry that no entry uses.
fn site() -> (Server, Server, Site) {
    let (source, target, site) = (Server::start(), Server::start(), Site::new());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let (from, to) = (source.host().to_owned(), target.host().to_owned());
    let registries = [&from, &to].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
    let entry = format!(
        "- {{name: app, source: \"{from}/app\", target: \"{to}/app\", schedule: never, on_start: true, \
         tags: {{include: [\"v*\", \"gone-*\"]}}}}"
    );
    let registries = format!("{registries}, misspelt.example: {{}}");
    site.configure_fully("status: \"127.0.0.1:0\"", &registries, &entry);
    (source, target, site)
}

fn texts(warnings: &Value) -> Vec<&str> {
    warnings.as_array().into_iter().flatten().filter_map(|warning| warning["text"].as_str()).collect()
}

#[test]
fn commands_print_configuration_warnings_and_succeed() {
    let (_source, _target, site) = site();
    let check = site.run(&["check"]).expect_success();
    assert!(check.stdout.contains("warning: sync.yaml:3:") && check.stdout.contains(UNUSED), "{}", check.stdout);
    let check = parse(&site.run(&["check", "--json"]).expect_success().stdout);
    assert!(texts(&check["warnings"])[0].ends_with(UNUSED), "{check:#}");
    assert_eq!(check["warnings"][0]["remedy"], "remove the registry, or correct its name");

    for command in ["plan", "once"] {
        let output = site.run(&[command]).expect_success();
        assert!(output.stdout.contains(&format!("  warning: {UNMATCHED}")), "{command}: {}", output.stdout);
        assert!(output.stderr.contains(UNUSED), "{command}: {}", output.stderr);
        assert!(!output.stderr.contains(UNMATCHED), "{command}: {}", output.stderr);
        let reports = parse(&site.run(&[command, "--json"]).expect_success().stdout);
        assert_eq!(reports[0]["warnings"][0]["entry"], "app", "{command}: {reports:#}");
        assert!(texts(&reports[0]["warnings"])[0].starts_with(UNMATCHED), "{command}: {reports:#}");
    }
}

#[test]
fn unmatched_tag_warns_beside_patterns_and_fails_alone() {
    for (include, code) in [("gone, \"v*\"", 0), ("gone", 1)] {
        let (source, target, site) = (Server::start(), Server::start(), Site::new());
        images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
        let (from, to) = (source.host(), target.host());
        let tags = format!("tags: {{include: [{include}]}}");
        site.configure(&[from, to], &format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\", {tags}}}"));
        let output = site.run(&["once"]);
        assert_eq!(output.code(), code, "{}", output.stdout);
        let is_named = if code == 0 { "\"gone\" under `include` matches no tag" } else { "failed gone" };
        assert!(output.stdout.contains(is_named), "{}", output.stdout);
    }
}

#[test]
fn static_warnings_are_printed_by_commands_and_logged() {
    let (source, target, site) = (Server::start(), Server::start(), Site::new());
    let image = images::small(Family::Oci, 1);
    image.put(&source, "app", Some("v1"));
    image.put(&source, "other", Some("w1"));
    let (from, to) = (source.host(), target.host());
    let entry = |name: &str, repository: &str, tags: &str| {
        format!(
            "- {{name: {name}, source: \"{from}/{repository}\", target: \"{to}/app\", tags: {{include: \
                [\"{tags}\"]}}}}\n"
        )
    };
    let untagged = format!("@{}", image.digest());
    let entries = [entry("app", "app", "?1"), entry("other", "other", "*1"), entry("pinned", "app", &untagged)];
    site.configure(&[from, to], &entries.concat());
    let expected = ["is copied without a tag", "the entries app and other write to"];
    let check = site.run(&["check"]).expect_success().stdout;
    assert!(expected.iter().all(|text| check.contains(text)), "{check}");
    for command in ["plan", "once"] {
        let log = site.run(&[command, "pinned"]).expect_success().stderr;
        assert!(expected.iter().all(|text| log.contains(text)), "{command}: {log}");
    }
}

#[test]
fn daemon_shows_warnings_in_status_and_pages() {
    let (_source, _target, site) = site();
    let mut daemon = site.start(&["run"]);
    let address = daemon.ready();
    let status = daemon.wait_until("the warning of the first run", |_| {
        let status = http::status(&address)?;
        (texts(&status["warnings"]).len() == 2).then_some(status)
    });
    let found = texts(&status["warnings"]);
    assert!(found[0].ends_with(UNUSED) && found[1].starts_with(UNMATCHED), "{found:?}");
    let (_, overview) = http::get(&address, "/").unwrap();
    assert!(overview.contains(UNUSED) && overview.contains("gone-*"), "{overview}");
    let (_, entry) = http::get(&address, "/entry?name=app").unwrap();
    assert!(entry.contains("gone-*") && !entry.contains(UNUSED), "{entry}");
}

/// Creates a site with one entry over a tree of the source. The source has these repositories with one tag each.
fn site_with_tree(repositories: &[&str], tags: &str) -> (Server, Server, Site) {
    let (source, target) = (Server::start(), Server::start());
    for (seed, repository) in repositories.iter().enumerate() {
        images::small(Family::Oci, seed as u64).put(&source, repository, Some("v1"));
    }
    let (from, to) = (source.host(), target.host());
    let entry = format!("- {{name: all, source: \"{from}/team/**\", target: \"{to}/**\", tags: {{{tags}}}}}");
    let site = Site::with(&[from, to], &entry);
    (source, target, site)
}

#[test]
fn tree_without_repositories_fails_only_with_at_least() {
    let (_source, _target, site) = site_with_tree(&["other/app"], "");
    let output = site.run(&["once"]).expect_success();
    assert!(output.stdout.contains("/team/** has no repositories: check the prefix"), "{}", output.stdout);

    let (_source, _target, site) = site_with_tree(&["other/app"], "at_least: 1");
    let report = site.report(1);
    assert!(
        report.problems()[0].ends_with("/team/**: too few tags are selected: 0, but `at_least` requires 1"),
        "{report:?}"
    );
    assert_eq!(site.run(&["plan"]).code(), 1);
}

#[test]
fn at_least_counts_all_repositories_of_a_tree() {
    let (_source, target, site) = site_with_tree(&["team/a", "team/b"], "at_least: 2");
    site.once();
    assert!(target.store().tag("a", "v1").is_some() && target.store().tag("b", "v1").is_some());

    let (_source, _target, site) = site_with_tree(&["team/a", "team/b"], "at_least: 3");
    let report = site.report(1);
    assert!(report.problems()[0].ends_with("too few tags are selected: 2, but `at_least` requires 3"), "{report:?}");
}
