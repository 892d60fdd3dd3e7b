//! Plans: a plan writes nothing, and shows the tags, the digests and the bytes of the run that follows.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::images::{self, Family, Image, linux};
use crate::support::registry::{PullLimit, Server, Setup};
use crate::support::site::{Site, parse};

/// Outcome and digest of each tag, by target and name.
type Facts = BTreeMap<(String, String), (String, String)>;

/// Plan or report of one entry.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    facts: Facts,
    /// Blobs and bytes of all tags together: the first copy of a shared blob belongs to any of its tags.
    blobs: u64,
    bytes: u64,
    left_behind: Vec<Value>,
}

impl Outcome {
    fn new<'a>(tags: impl Iterator<Item = &'a Value>, left_behind: &Value) -> Self {
        let text = |tag: &Value, key: &str| tag[key].as_str().unwrap_or_default().to_owned();
        let (mut facts, mut blobs, mut bytes) = (Facts::new(), 0, 0);
        for tag in tags {
            let name = tag["tag"].as_str().map_or_else(|| text(tag, "digest"), str::to_owned);
            let fact = (text(tag, "outcome"), text(tag, "digest"));
            assert_eq!(facts.insert((text(tag, "target"), name), fact), None, "{tag}");
            blobs += tag["blobs"]["copied"].as_u64().unwrap_or_default();
            bytes += tag["bytes"].as_u64().unwrap_or_default();
        }
        Self { facts, blobs, bytes, left_behind: left_behind.as_array().cloned().unwrap_or_default() }
    }

    #[track_caller]
    fn plan(site: &Site, args: &[&str]) -> (Self, Value) {
        let output = site.run(&[&["plan", "--json"], args].concat()).expect_success();
        let plan = parse(&output.stdout)[0].clone();
        let pairs = plan["pairs"].as_array().expect("pairs").clone();
        let tags = pairs.iter().flat_map(|pair| pair["tags"].as_array().expect("tags"));
        (Self::new(tags, &plan["left_behind"]), plan)
    }

    #[track_caller]
    fn run(site: &Site) -> Self {
        let report = site.report(0);
        Self::new(report.tags().into_iter(), &report.0["left_behind"])
    }
}

/// Image with one large layer of its own and one layer that all images share.
fn image(seed: u64) -> Image {
    let layers = [images::layer(Family::Oci, 7, 3_000), images::layer(Family::Oci, 100 + seed, 10_000)];
    images::image(Family::Oci, linux("amd64"), &layers)
}

fn put_content(source: &Server) {
    images::two_platforms(Family::Oci, 50).put(source, "app", Some("v1"));
    let (signed, renewed, same) = (image(2), image(3), image(4));
    signed.put(source, "app", Some("v2"));
    images::signature(&signed).put(source, "app", Some(&images::signature_tag(&signed)));
    let sbom = images::sbom(&signed, 1);
    sbom.put(source, "app", None);
    images::list_referrers(source, "app", &signed, &[&sbom]);
    renewed.put(source, "app", Some("v3"));
    same.put(source, "app", Some("v4"));
}

fn put_old_content(target: &Server) {
    image(9).put(target, "app", Some("v3"));
    image(4).put(target, "app", Some("v4"));
}

#[test]
fn plan_equals_the_run_that_follows() {
    let with_api = |referrers_api| Server::with(Setup { referrers_api, ..Setup::default() });
    for (referrers_api, keys) in [
        (true, ""),
        (false, ""),
        (true, "tags: {include: [\"v*\"]}"),
        (true, "referrers: false"),
        (true, "platforms: [linux/amd64]"),
        (true, "overwrite: keep_previous"),
        (true, "rename: {v1: stable}"),
    ] {
        let [source, target, other] = [(); 3].map(|()| with_api(referrers_api));
        put_content(&source);
        put_old_content(&target);
        let hosts = [&source, &target, &other].map(Server::host);
        let comma = if keys.is_empty() { "" } else { ", " };
        let entry = format!(
            "- {{name: app, source: \"{}/app\", targets: [\"{}/app\", \"{}/app\"]{comma}{keys}}}",
            hosts[0], hosts[1], hosts[2]
        );
        let site = Site::with(&hosts, &entry);
        let (plan, _) = Outcome::plan(&site, &[]);
        for server in [&target, &other] {
            let writes =
                server.log().counts().into_keys().filter(|kind| !kind.ends_with("HEAD") && !kind.ends_with("GET"));
            assert_eq!(writes.collect::<Vec<_>>(), Vec::<String>::new(), "{keys}: a plan writes nothing");
        }
        assert_eq!(source.log().count("blob GET"), 0, "{keys}: a plan reads no blob");
        let run = Outcome::run(&site);
        assert!(run.bytes > 40_000, "{keys}: {run:?}");
        assert_eq!(plan, run, "{keys}, referrers API {referrers_api}");
        let ((again, _), run) = (Outcome::plan(&site, &[]), Outcome::run(&site));
        for (facts, bytes) in [(again.facts, again.bytes), (run.facts, run.bytes)] {
            let is_unchanged = facts.values().all(|(outcome, _)| outcome == "unchanged");
            assert!(is_unchanged && bytes == 0 && !facts.is_empty(), "{keys}: {facts:?}");
        }
    }
}

#[test]
fn plan_includes_a_signature_that_appeared_after_its_image() {
    let [source, target] = [(); 2].map(|()| Server::start());
    let signed = image(2);
    signed.put(&source, "app", Some("v2"));
    let (from, to) = (source.host(), target.host());
    let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\", tags: {{include: [\"v*\"]}}}}");
    let site = Site::with(&[from, to], &entry);
    site.once();
    images::signature(&signed).put(&source, "app", Some(&images::signature_tag(&signed)));
    let (plan, _) = Outcome::plan(&site, &[]);
    assert_eq!(plan.facts.len(), 2, "{plan:?}");
    assert_eq!(plan, Outcome::run(&site));
}

#[test]
fn plan_for_a_layout_equals_its_run() {
    let source = Server::start();
    put_content(&source);
    let site = Site::new();
    let layout = site.path("layout");
    let entry =
        format!("- {{name: app, source: \"{}/app\", target: \"oci-layout:{}\"}}", source.host(), layout.display());
    site.configure(&[source.host()], &entry);
    let (plan, _) = Outcome::plan(&site, &[]);
    assert!(!layout.exists(), "a plan writes nothing");
    assert_eq!(plan, Outcome::run(&site));
}

#[test]
fn plan_spends_counted_pulls_only_on_request() {
    let pulls = Some(PullLimit { limit: 100, window: 3600, slides: false });
    let (hub, target) = (Server::with(Setup { pulls, ..Setup::default() }), Server::start());
    images::two_platforms(Family::Oci, 50).put(&hub, "app", Some("v1"));
    image(2).put(&hub, "app", Some("v2"));
    let (from, to) = (hub.host(), target.host());
    let site = Site::with(&[from, to], &format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}"));
    let (_, plan) = Outcome::plan(&site, &[]);
    assert_eq!(hub.log().pulls(), 0, "{plan}");
    let (registry, pulls) = (from.to_owned(), &plan["pulls"][0]);
    let expected = serde_json::json!({"registry": registry, "manifests": 2, "is_minimum": true});
    assert_eq!(pulls, &expected);
    let text = site.run(&["plan"]).expect_success().stdout;
    assert!(text.starts_with(&format!("app: 2 to copy, unknown bytes, at least 2 pulls of {from} (see --")), "{text}");

    let (exact, plan) = Outcome::plan(&site, &["--spend-pulls"]);
    let planned = plan["pulls"][0]["manifests"].as_u64().unwrap();
    assert_eq!((planned as usize, &plan["pulls"][0]["is_minimum"]), (hub.log().pulls(), &Value::Bool(false)));
    hub.log().clear();
    assert_eq!(exact, Outcome::run(&site));
    assert_eq!(hub.log().pulls() as u64, planned, "the run uses the planned pulls");
}
