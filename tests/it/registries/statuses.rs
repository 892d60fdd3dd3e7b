//! Tests of responses to auxiliary requests, with every status from 200 to 599. No status fails a copy that can
//! continue, and no status loses content silently.
//!
//! Each test is one run of many entries. Each entry has its own registry, which responds with its own status. The quick
//! form uses the statuses that the code or a registry distinguishes, and some others. `tests/run --long` uses all 400.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::images::{self, Family, Image};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::{Site, parse};

/// Statuses that the program or some registry distinguishes. The list lacks 429, because the program retries a request
/// with permanent 429 responses for more than a minute. Only the long form has time for that.
const DISTINGUISHED: [u16; 40] = [
    200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409,
    410, 412, 413, 415, 416, 422, 423, 451, 500, 501, 502, 503, 504, 505, 507, 511, 599,
];

/// Distance between two of the other statuses in the quick form.
const STEP: usize = 29;

fn statuses() -> BTreeSet<u16> {
    if std::env::var_os("TRANSSHIP_LONG").is_some() {
        return (200..600).collect();
    }
    DISTINGUISHED.into_iter().chain((207..600).step_by(STEP)).collect()
}

/// Repository of every entry.
const REPOSITORY: &str = "app";

/// Auxiliary request under test.
struct Row {
    /// Kind of the request, named as in the registry's log.
    kind: &'static str,
    /// Part of the request's path and query.
    path: &'static str,
    /// Side whose registry responds with the status.
    side: Side,
    /// Settings of that registry.
    setup: Setup,
    /// Further faults of that registry, such as a fault that causes the request.
    faults: Vec<Fault>,
    /// True if the source is a tree, and false if it is a repository.
    tree: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
    /// Source and target are one registry.
    Both,
}

impl Row {
    fn new(kind: &'static str, side: Side) -> Self {
        Self { kind, path: "", side, setup: Setup::default(), faults: Vec::new(), tree: false }
    }

    fn fault(&self, status: u16) -> Fault {
        Fault::Answers { kind: self.kind, path: self.path, status }
    }
}

/// Result of the run of one entry.
#[derive(Debug)]
struct Outcome {
    report: Value,
    arrived: bool,
    /// True if the program sent the request.
    was_requested: bool,
}

impl Outcome {
    /// Returns true if the report contains a problem, a warning, or a tag that was not copied.
    fn is_reported(&self) -> bool {
        let failed = |tag: &Value| tag["outcome"] != "copied" && tag["outcome"] != "unchanged";
        let list = |key: &str| self.report[key].as_array().cloned().unwrap_or_default();
        !list("problems").is_empty() || !list("warnings").is_empty() || list("tags").iter().any(failed)
    }
}

/// Returns the image to copy. The target has an image with a common layer, and an SBOM refers to the image.
fn image() -> Image {
    images::small(Family::Oci, 7)
}

fn run(row: &Row) -> BTreeMap<u16, Outcome> {
    let image = image();
    let sbom = images::sbom(&image, 1);
    let start = |status: u16| {
        let odd = Server::with(row.setup.clone());
        let other = Server::start();
        let (source, target) = match row.side {
            Side::Source => (&odd, &other),
            Side::Target => (&other, &odd),
            Side::Both => (&odd, &odd),
        };
        image.put(source, REPOSITORY, Some("v1"));
        sbom.put(source, REPOSITORY, None);
        images::list_referrers(source, REPOSITORY, &image, &[&sbom]);
        images::small(Family::Oci, 8).put(target, &target_repository(row), Some("old"));
        row.faults.iter().for_each(|fault| odd.set(fault.clone()));
        odd.set(row.fault(status));
        (status, odd, other)
    };
    let servers: Vec<_> = statuses().into_iter().map(start).collect();
    let site = Site::new();
    let (mut registries, mut entries) = (Vec::new(), Vec::new());
    for (status, odd, other) in &servers {
        let credentials =
            if matches!(row.setup.auth, Auth::None) { "" } else { ", credentials: {username: u, password: p}" };
        registries.push(format!("\"{}\": {{plain_http: true{credentials}}}", odd.host()));
        let (source, target) = match row.side {
            Side::Source => (odd.host(), other.host()),
            Side::Target => (other.host(), odd.host()),
            Side::Both => (odd.host(), odd.host()),
        };
        if row.side != Side::Both {
            registries.push(format!("\"{}\": {{plain_http: true}}", other.host()));
        }
        entries.push(if row.tree {
            format!("- {{name: s{status}, source: \"{source}/**\", target: \"{target}/**\"}}")
        } else {
            let to = target_repository(row);
            format!(
                "- {{name: s{status}, source: \"{source}/{REPOSITORY}\", target: \"{target}/{to}\", tags: \
                {{include: [v1]}}}}"
            )
        });
    }
    site.configure_fully("status: off, entries_at_once: 64", &registries.join(", "), &entries.join("\n"));
    let output = site.start(&["once", "--json"]).wait(4 * DEADLINE);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    let Value::Array(reports) = parse(&output.stdout) else { panic!("no list: {}", output.stdout) };
    assert_eq!(reports.len(), servers.len());
    let outcome = |((status, odd, other), report): ((u16, Server, Server), Value)| {
        assert_eq!(report["entry"], format!("s{status}"));
        let target = if row.side == Side::Source { &other } else { &odd };
        let arrived = target.store().tag(&target_repository(row), "v1") == Some(image.digest());
        let was_requested =
            odd.log().requests().iter().any(|request| request.kind == row.kind && request.path.contains(row.path));
        (status, Outcome { report, arrived, was_requested })
    };
    servers.into_iter().zip(reports).map(outcome).collect()
}

fn target_repository(row: &Row) -> String {
    if row.side == Side::Both { "copy".to_owned() } else { REPOSITORY.to_owned() }
}

/// Asserts that the image is copied with every status of the request.
#[track_caller]
fn assert_never_fatal(row: &Row) {
    let outcomes = run(row);
    let lost: Vec<_> = outcomes.iter().filter(|(_, outcome)| !outcome.arrived).collect();
    assert!(lost.is_empty(), "{}: {} statuses fail the copy: {lost:#?}", row.kind, lost.len());
    assert!(outcomes.values().any(|outcome| outcome.was_requested), "{}: the request was never made", row.kind);
}

/// Asserts that the run reports an error or a warning with every status that prevents the copy.
#[track_caller]
fn assert_never_silent(row: &Row) {
    let outcomes = run(row);
    let silent: Vec<_> = outcomes.iter().filter(|(_, outcome)| !outcome.arrived && !outcome.is_reported()).collect();
    assert!(silent.is_empty(), "{}: {} statuses lose the image in silence: {silent:#?}", row.kind, silent.len());
    assert!(outcomes.values().any(|outcome| outcome.was_requested), "{}: the request was never made", row.kind);
}

#[test]
fn no_status_of_a_blob_head_fails_a_copy() {
    assert_never_fatal(&Row::new("blob HEAD", Side::Target));
}

#[test]
fn no_status_of_a_mount_fails_a_copy() {
    assert_never_fatal(&Row::new("mount POST", Side::Both));
}

#[test]
fn no_status_of_the_referrers_api_fails_a_copy() {
    assert_never_fatal(&Row::new("referrers GET", Side::Source));
}

#[test]
fn no_status_of_a_fallback_tag_fails_a_copy() {
    let setup = Setup { referrers_api: false, ..Setup::default() };
    assert_never_fatal(&Row { path: "/manifests/sha256-", setup, ..Row::new("manifest GET", Side::Source) });
}

#[test]
fn no_status_of_a_target_tag_list_fails_a_copy() {
    assert_never_fatal(&Row::new("tags GET", Side::Target));
}

#[test]
fn no_status_of_an_upload_cancellation_fails_a_copy() {
    let faults = vec![Fault::MountRefused];
    assert_never_fatal(&Row { faults, ..Row::new("upload DELETE", Side::Target) });
}

#[test]
fn no_status_of_a_source_tag_list_loses_tags_silently() {
    assert_never_silent(&Row { tree: true, ..Row::new("tags GET", Side::Source) });
}

#[test]
fn no_status_of_a_catalog_loses_repositories_silently() {
    assert_never_silent(&Row { tree: true, ..Row::new("catalog GET", Side::Source) });
}

#[test]
fn no_status_of_a_token_service_loses_images_silently() {
    let user = ("u".to_owned(), "p".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull: false, lifetime: std::time::Duration::from_secs(300) };
    let setup = Setup { auth, ..Setup::default() };
    assert_never_silent(&Row { setup, ..Row::new("token GET", Side::Source) });
}
