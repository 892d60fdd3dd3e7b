//! Tests of the main promise: content that skopeo and builds push to one registry is copied to another registry byte
//! for byte, and a repeated run costs only a few requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use transship::oci::Digest;
use transship::registry::{Options, Registry};

use crate::support::images::{self, EXAMPLES, Family, linux};
use crate::support::programs::{DEADLINE, DebianRegistry, skopeo, skopeo_copy, skopeo_manifest};
use crate::support::registry::{Fault, Server, Setup};
use crate::support::site::{Site, parse};

/// Time limit for the next run of `* * * * *` on a busy machine.
const NEXT_MINUTE: Duration = Duration::from_secs(130);

/// Repositories that [`fill`] creates.
const REPOSITORIES: [&str; 3] = ["apps/examples", "apps/docker", "apps/built"];

/// Returns the tags of the example images.
fn example_tags() -> Vec<String> {
    let index = std::fs::read_to_string(format!("{EXAMPLES}/index.json")).unwrap();
    let name =
        |manifest: &Value| manifest["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
    parse(&index)["manifests"].as_array().unwrap().iter().filter_map(name).collect()
}

/// Fills a registry with skopeo and by pushes: OCI and Docker images and lists, a signature, a chart, artifacts.
fn fill(registry: &DebianRegistry) {
    let host = registry.host();
    let tags = example_tags();
    assert!(tags.len() >= 5, "{tags:?}");
    for tag in &tags {
        skopeo_copy(&format!("oci:{EXAMPLES}:{tag}"), &format!("docker://{host}/apps/examples:{tag}"));
    }
    for tag in ["1.0.0", "1.1.0"] {
        let (from, to) = (format!("oci:{EXAMPLES}:{tag}"), format!("docker://{host}/apps/docker:{tag}"));
        skopeo(&["copy", "--all", "--format", "v2s2", "--dest-tls-verify=false", &from, &to]).expect_success();
    }
    let one = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 1, 300_000)]);
    let empty = images::image(Family::Oci, linux("amd64"), &[images::empty_layer(Family::Oci)]);
    let foreign = images::image(Family::Docker, linux("amd64"), &[images::foreign_layer(Family::Docker, 1)]);
    let built = [
        ("one", one),
        ("empty", empty),
        ("foreign", foreign),
        ("list", images::two_platforms(Family::Docker, 7)),
        ("index", images::two_platforms(Family::Oci, 8)),
        ("nested", images::index(Family::Oci, &[images::two_platforms(Family::Oci, 9), images::small(Family::Oci, 9)])),
        ("chart", images::helm_chart("built", "1.0.0")),
    ];
    push(host, "apps/built", &built);
}

fn push(host: &str, repository: &str, images: &[(&str, images::Image)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = Options { plain_http: true, ..Options::default() };
        let target = Registry::new(host.parse().unwrap(), options).unwrap().repository(repository.parse().unwrap());
        for (tag, image) in images {
            image.push(&target, Some(tag)).await.unwrap();
        }
    });
}

fn tags_by_skopeo(repository: &str) -> BTreeSet<String> {
    let output = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{repository}")]).expect_success();
    let tags = parse(&output.stdout)["Tags"].as_array().unwrap().clone();
    tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

/// Compares two repositories with skopeo: the tags, and the bytes of each manifest and of its children. Returns the
/// number of compared manifests.
#[track_caller]
fn compare_by_skopeo(source: &str, target: &str) -> usize {
    let tags = tags_by_skopeo(source);
    assert_eq!(tags_by_skopeo(target), tags, "{source} and {target}");
    let mut references: Vec<String> = tags.iter().map(|tag| format!(":{tag}")).collect();
    let mut compared = 0;
    while let Some(reference) = references.pop() {
        let at = |place: &str| skopeo_manifest(&format!("docker://{place}{reference}"));
        let (there, here) = (at(source), at(target));
        assert_eq!(Digest::of(here.as_bytes()), Digest::of(there.as_bytes()), "{source} and {target}, {reference}");
        let children = parse(&here)["manifests"].as_array().cloned().unwrap_or_default();
        references.extend(children.iter().map(|child| format!("@{}", child["digest"].as_str().unwrap())));
        compared += 1;
    }
    compared
}

/// Reads whole images with skopeo, which verifies every blob.
#[track_caller]
fn read_by_skopeo(host: &str, site: &Site) {
    for (at, image) in ["apps/examples:1.1.0", "apps/docker:1.0.0", "apps/built:index"].iter().enumerate() {
        let folder = site.path(&format!("read-{at}"));
        skopeo_copy(&format!("docker://{host}/{image}"), &format!("dir:{}", folder.display()));
    }
}

#[test]
fn skopeo_finds_every_digest_in_a_mirrored_registry() {
    let (a, b) = (DebianRegistry::start(), DebianRegistry::start());
    fill(&a);
    let entries = format!("- {{name: apps, source: \"{}/apps/**\", target: \"{}/apps/**\"}}", a.host(), b.host());
    let site = Site::with(&[a.host(), b.host()], &entries);

    let message = site.once();
    assert!(message.starts_with("apps: "), "{message}");
    let compared: usize = REPOSITORIES
        .iter()
        .map(|repository| {
            compare_by_skopeo(&format!("{}/{repository}", a.host()), &format!("{}/{repository}", b.host()))
        })
        .sum();
    assert!(compared > 25, "{compared}");
    read_by_skopeo(b.host(), &site);

    let again = site.once();
    assert!(again.starts_with("apps: nothing changed ("), "{again}");
}

#[test]
fn skopeo_finds_every_digest_after_copies_through_layouts() {
    let (a, c) = (DebianRegistry::start(), DebianRegistry::start());
    fill(&a);
    let mut entries = Vec::new();
    for (at, repository) in REPOSITORIES.iter().enumerate() {
        let (source, target) = (format!("{}/{repository}", a.host()), format!("{}/{repository}", c.host()));
        entries.push(format!("- {{name: out-{at}, source: \"{source}\", target: \"oci-layout:carried/{at}\"}}"));
        entries.push(format!("- {{name: in-{at}, source: \"oci-layout:carried/{at}\", target: \"{target}\"}}"));
    }
    let site = Site::with(&[a.host(), c.host()], &entries.join("\n"));

    site.run(&["once", "out-0", "out-1", "out-2"]).expect_success();
    let carried = format!("oci:{}:1.1.0", site.path("carried/0").display());
    let there = skopeo_manifest(&format!("docker://{}/apps/examples:1.1.0", a.host()));
    assert_eq!(skopeo_manifest(&carried), there, "skopeo reads what was written");
    skopeo_copy(&carried, &format!("dir:{}", site.path("read-carried").display()));

    site.run(&["once", "in-0", "in-1", "in-2"]).expect_success();
    for repository in REPOSITORIES {
        compare_by_skopeo(&format!("{}/{repository}", a.host()), &format!("{}/{repository}", c.host()));
    }
    read_by_skopeo(c.host(), &site);
    let again = site.once();
    assert_eq!(again.matches(": nothing changed (").count(), 6, "{again}");
}

#[test]
fn layout_written_by_skopeo_is_read() {
    let (site, target) = (Site::new(), Server::start());
    let layout = site.path("by-skopeo");
    for tag in ["1.0.0", "latest"] {
        skopeo_copy(&format!("oci:{EXAMPLES}:{tag}"), &format!("oci:{}:{tag}", layout.display()));
    }
    let entry = format!("- {{name: in, source: \"oci-layout:by-skopeo\", target: \"{}/in\"}}", target.host());
    site.configure(&[target.host()], &entry);
    site.once();
    for tag in ["1.0.0", "latest"] {
        let raw = skopeo_manifest(&format!("oci:{EXAMPLES}:{tag}"));
        assert_eq!(target.store().tag("in", tag), Some(Digest::of(raw.as_bytes())));
    }
}

#[test]
fn unchanged_run_costs_one_head_per_tag_and_side() {
    let (source, target) = (Server::start(), Server::start());
    let images: Vec<_> = (0..30).map(|seed| images::two_platforms(Family::Oci, seed)).collect();
    for (at, image) in images.iter().enumerate() {
        image.put(&source, "app", Some(&format!("v{at}")));
    }
    images::sbom(&images[3], 1).put(&source, "app", None);
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    assert!(site.once().starts_with("app: 30 copied, "));
    assert_eq!(target.store().tags("app"), source.store().tags("app"));

    source.log().clear();
    target.log().clear();
    let again = site.once();
    assert!(again.starts_with("app: nothing changed (30 unchanged)"), "{again}");
    let counts = |server: &Server| server.log().counts().into_iter().collect::<Vec<_>>();
    assert_eq!(counts(&source), [("manifest HEAD".to_owned(), 30), ("tags GET".to_owned(), 1)]);
    assert_eq!(counts(&target), [("manifest HEAD".to_owned(), 30)]);
}

#[test]
fn both_sides_are_queried_for_a_tag_concurrently() {
    let (source, target) = (Server::start(), Server::start());
    for seed in 0..3 {
        images::small(Family::Oci, seed).put(&source, "app", Some(&format!("v{seed}")));
    }
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    site.once();
    for server in [&source, &target] {
        server.log().clear();
        server.set(Fault::Held("manifest HEAD"));
    }
    let mut run = site.start(&["once"]);
    // Neither side responds before both have received all requests.
    let requested = |server: &Server| server.log().count("manifest HEAD");
    run.wait_until("the requests to both sides", |_| {
        (requested(&source) == 3 && requested(&target) == 3).then_some(())
    });
    source.heal();
    target.heal();
    let message = run.wait(DEADLINE).expect_success().stdout;
    assert!(message.starts_with("app: nothing changed (3 unchanged)"), "{message}");
}

#[test]
fn source_and_new_target_are_listed_concurrently() {
    let (source, target) = (Server::start(), Server::start());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    for server in [&source, &target] {
        server.set(Fault::Held("tags GET"));
    }
    let mut run = site.start(&["once"]);
    let requested = |server: &Server| server.log().count("tags GET");
    run.wait_until("the requests to both sides", |_| {
        (requested(&source) == 1 && requested(&target) == 1).then_some(())
    });
    source.heal();
    target.heal();
    run.wait(DEADLINE).expect_success();
}

#[test]
fn many_repositories_are_queried_while_eight_copy() {
    let (source, target) = (Server::start(), Server::start());
    let base = images::layer(Family::Oci, 0, 2_000);
    let names: Vec<String> = (0..20).map(|at| format!("team/r{at}")).collect();
    for (seed, name) in (1..).zip(&names) {
        let layers = [base.clone(), images::layer(Family::Oci, seed, 1000)];
        images::image(Family::Oci, linux("amd64"), &layers).put(&source, name, Some("v1"));
    }
    let entry =
        format!("- {{name: team, source: \"{}/team/**\", target: \"{}/team/**\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    target.set(Fault::Held("upload PUT"));
    let mut run = site.start(&["once"]);
    let busy = || {
        let repository = |path: &str| path.split("/blobs/").next().unwrap_or_default().to_owned();
        target
            .log()
            .requests_of("upload POST")
            .iter()
            .map(|opened| repository(&opened.path))
            .collect::<BTreeSet<_>>()
            .len()
    };
    run.wait_until("the requests about all repositories", |_| (source.log().count("manifest GET") >= 20).then_some(()));
    run.wait_until("eight copies in progress", |_| (busy() >= 8).then_some(()));
    assert_eq!(busy(), 8);
    target.heal();
    run.wait(DEADLINE).expect_success();
    for name in &names {
        assert_eq!(target.store().tags(name), source.store().tags(name));
    }
}

#[test]
fn first_run_reads_and_writes_each_item_once() {
    let (source, target) = (Server::start(), Server::start());
    for seed in 0..8 {
        images::two_platforms(Family::Oci, seed).put(&source, "app", Some(&format!("v{seed}")));
    }
    let entry = format!(
        "- {{name: app, referrers: false, source: \"{}/app\", target: \"{}/app\"}}",
        source.host(),
        target.host()
    );
    Site::with(&[source.host(), target.host()], &entry).once();
    let blobs = source.store().blobs("app").len();
    assert_eq!(source.log().count("blob GET"), blobs);
    assert_eq!(source.log().pulls(), source.store().manifests("app").len());
    let paths: BTreeSet<String> =
        source.log().requests_of("blob GET").into_iter().map(|request| request.path).collect();
    assert_eq!(paths.len(), blobs, "each path is different");
    assert_eq!(target.log().count("manifest PUT"), source.store().manifests("app").len());
    assert_eq!(target.log().pulls(), 0, "the body of a manifest is never read from a target");
}

#[test]
fn new_target_is_listed_once_without_further_lookups() {
    let setup = || Server::with(Setup { referrers_api: false, ..Setup::default() });
    let (source, target) = (setup(), setup());
    for seed in 0..8 {
        images::two_platforms(Family::Oci, seed).put(&source, "app", Some(&format!("v{seed}")));
    }
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    Site::with(&[source.host(), target.host()], &entry).once();
    let (blobs, manifests) = (source.store().blobs("app").len(), source.store().manifests("app").len());
    let expected = |counts: &[(&str, usize)]| counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    let counts = |server: &Server| server.log().counts().into_iter().collect::<BTreeMap<_, _>>();
    // Each tag costs one GET without a preceding HEAD. The referrers API is probed once. Fallback tags that are not in
    // the listing are not requested.
    let read: BTreeMap<String, usize> =
        expected(&[("blob GET", blobs), ("manifest GET", manifests), ("referrers GET", 2), ("tags GET", 1)]);
    assert_eq!(counts(&source), read);
    let written: BTreeMap<String, usize> =
        expected(&[("manifest PUT", manifests), ("tags GET", 1), ("upload POST", blobs), ("upload PUT", blobs)]);
    assert_eq!(counts(&target), written);
}

#[test]
fn lists_with_digests_replace_every_head() {
    let (source, target) = (Server::start(), Server::start());
    source.set(Fault::TagListWithDigests);
    target.set(Fault::TagListWithDigests);
    for seed in 0..8 {
        images::two_platforms(Family::Oci, seed).put(&source, "app", Some(&format!("v{seed}")));
    }
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    site.once();
    source.log().clear();
    target.log().clear();
    let again = site.once();
    assert!(again.starts_with("app: nothing changed (8 unchanged)"), "{again}");
    for server in [&source, &target] {
        assert_eq!(server.log().counts().into_iter().collect::<Vec<_>>(), [("tags GET".to_owned(), 1)]);
    }
}

#[test]
fn partly_filled_target_is_queried_for_its_blobs() {
    let (source, target) = (Server::start(), Server::start());
    let image = images::two_platforms(Family::Oci, 1);
    image.put(&source, "app", Some("v1"));
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    target.set(Fault::ManifestPutFailsFor("v1".into()));
    assert_eq!(site.run(&["once"]).code(), 1);
    target.heal();
    target.log().clear();
    site.once();
    assert_eq!(target.log().count("upload POST"), 0, "copied content is not sent again");
}

#[test]
fn daemon_mirrors_every_minute_by_schedule() {
    let (a, b) = (DebianRegistry::start(), DebianRegistry::start());
    fill(&a);
    let entry = format!(
        "- {{name: apps, source: \"{}/apps/**\", target: \"{}/apps/**\", schedule: \"* * * * *\"}}",
        a.host(),
        b.host()
    );
    let site = Site::with(&[a.host(), b.host()], &entry);
    let mut daemon = site.start(&["run"]);
    daemon.wait_until_within(NEXT_MINUTE, "the run of the entry", |daemon| {
        daemon.stderr().contains("run ended").then_some(())
    });
    for repository in REPOSITORIES {
        compare_by_skopeo(&format!("{}/{repository}", a.host()), &format!("{}/{repository}", b.host()));
    }
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    assert_eq!(site.history(&[]).last().unwrap()["trigger"], "schedule");
}
