//! The table of answers to auxiliary requests: every status from 200 to 599 to each of them. No answer fails a copy that can continue,
//! and none loses content silently.
//!
//! Each row of the table is one run of many entries, each with a registry of its own that answers with its own status. The quick form
//! has the statuses that the code or a registry tells apart, and some of the others; `tests/run --long` has all 400.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::images::{self, Family, Image};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::{Site, parse};

/// The statuses that some part of the program or some registry tells apart. 429 is not among them: the program waits for longer than a
/// minute before it gives up a request that is always answered so, which the full form has the time for.
const TOLD_APART: [u16; 40] = [
    200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409,
    410, 412, 413, 415, 416, 422, 423, 451, 500, 501, 502, 503, 504, 505, 507, 511, 599,
];

/// Every how manieth of the others the quick form has.
const STEP: usize = 29;

fn statuses() -> BTreeSet<u16> {
    if std::env::var_os("TRANSSHIP_LONG").is_some() {
        return (200..600).collect();
    }
    TOLD_APART.into_iter().chain((207..600).step_by(STEP)).collect()
}

/// The repository of every entry.
const REPOSITORY: &str = "app";

/// One row of the table.
struct Row {
    /// The request, named as in the registry's log.
    kind: &'static str,
    /// A part of its path and query.
    path: &'static str,
    /// The side that is answered so.
    side: Side,
    /// What the registry of that side is from its start.
    setup: Setup,
    /// Further faults of that registry, such as the one that makes a program ask at all.
    faults: Vec<Fault>,
    /// The source below the host: a repository, or a tree.
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

/// What one entry's run said, and what is at its target then.
#[derive(Debug)]
struct Outcome {
    report: Value,
    arrived: bool,
    /// Whether the request of the row was made at all.
    asked: bool,
}

impl Outcome {
    /// Whether the report says that something went wrong, or that something was left behind.
    fn is_named(&self) -> bool {
        let failed = |tag: &Value| tag["outcome"] != "copied" && tag["outcome"] != "unchanged";
        let list = |key: &str| self.report[key].as_array().cloned().unwrap_or_default();
        !list("problems").is_empty() || !list("warnings").is_empty() || list("tags").iter().any(failed)
    }
}

/// The image that is copied. It shares a layer with what the target has, and an SBOM refers to it.
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
            format!("- {{name: s{status}, source: \"{source}/{REPOSITORY}\", target: \"{target}/{to}\", tags: {{include: [v1]}}}}")
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
        let asked =
            odd.log().requests().iter().any(|request| request.kind == row.kind && request.path.contains(row.path));
        (status, Outcome { report, arrived, asked })
    };
    servers.into_iter().zip(reports).map(outcome).collect()
}

fn target_repository(row: &Row) -> String {
    if row.side == Side::Both { "copy".to_owned() } else { REPOSITORY.to_owned() }
}

/// Whatever the request is answered, the image arrives.
#[track_caller]
fn assert_never_fatal(row: &Row) {
    let outcomes = run(row);
    let lost: Vec<_> = outcomes.iter().filter(|(_, outcome)| !outcome.arrived).collect();
    assert!(lost.is_empty(), "{}: {} statuses fail the copy: {lost:#?}", row.kind, lost.len());
    assert!(outcomes.values().any(|outcome| outcome.asked), "{}: the request was never made", row.kind);
}

/// An answer that is no answer to the question ends in an error or a warning that names it; nothing is lost in silence.
#[track_caller]
fn assert_never_silent(row: &Row) {
    let outcomes = run(row);
    let silent: Vec<_> = outcomes.iter().filter(|(_, outcome)| !outcome.arrived && !outcome.is_named()).collect();
    assert!(silent.is_empty(), "{}: {} statuses lose the image in silence: {silent:#?}", row.kind, silent.len());
    assert!(outcomes.values().any(|outcome| outcome.asked), "{}: the request was never made", row.kind);
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
