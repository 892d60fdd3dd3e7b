//! Tests of the rules of an entry: selection of tags, platforms, referrers, and overwrite rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use transship::oci::{Digest, MediaType};

use crate::support::images::{self, Family, Image, linux};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Fault, Server, Setup};
use crate::support::site::{Site, parse};

/// Two registries and an entry `app` that copies the repository `app` from one to the other.
struct Pair {
    source: Server,
    target: Server,
    site: Site,
}

impl Pair {
    /// Creates the entry with these further keys, such as `platforms: [linux/amd64]`.
    fn with(keys: &str) -> Self {
        let pair = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        pair.configure(keys);
        pair
    }

    fn configure(&self, keys: &str) {
        let (source, target) = (self.source.host(), self.target.host());
        let comma = if keys.is_empty() { "" } else { ", " };
        let entry = format!("- {{name: app, source: \"{source}/app\", target: \"{target}/app\"{comma}{keys}}}");
        self.site.configure(&[source, target], &entry);
    }

    /// Puts a small image under each of these tags. The seed is the tag's index.
    fn fill(&self, tags: &[&str]) {
        for (seed, tag) in tags.iter().enumerate() {
            images::small(Family::Oci, seed as u64).put(&self.source, "app", Some(tag));
        }
    }

    /// Returns the target's tags.
    fn arrived(&self) -> BTreeSet<String> {
        self.target.store().tags("app").unwrap_or_default().into_keys().collect()
    }
}

fn set(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

fn json(server: &Server, repository: &str, reference: &str) -> Value {
    let stored = server.store().manifest(repository, reference).unwrap_or_else(|| panic!("no {reference}"));
    serde_json::from_slice(&stored.bytes).unwrap()
}

#[test]
fn platform_subset_makes_a_new_index_with_both_in_evidence() {
    let pair = Pair::with("platforms: [linux/amd64]");
    let image = images::two_platforms(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    pair.site.once();

    let derived = pair.target.store().tag("app", "v1").unwrap();
    assert_ne!(derived, image.digest());
    let index = json(&pair.target, "app", "v1");
    let children: Vec<&Value> = index["manifests"].as_array().unwrap().iter().collect();
    assert_eq!(children.len(), 1);
    assert_eq!(children[0]["platform"], linux("amd64"));
    assert_eq!(children[0]["digest"], image.children[0].digest().to_string());
    assert_eq!(pair.target.store().manifests("app").len(), 2, "the other platform is not copied");
    let evidence = &pair.site.evidence(&[])[0];
    assert_eq!(evidence["digest"], derived.to_string());
    assert_eq!(evidence["source_digest"], image.digest().to_string());

    pair.source.log().clear();
    pair.target.log().clear();
    assert!(pair.site.once().starts_with("app: nothing changed (1 unchanged)"));
    assert_eq!((pair.source.log().count("manifest GET"), pair.target.log().count("manifest GET")), (0, 0));
}

#[test]
fn missing_platforms_of_an_image_fail_by_name() {
    let pair = Pair::with("platforms: [linux/s390x]");
    images::two_platforms(Family::Oci, 1).put(&pair.source, "app", Some("v1"));
    let report = pair.site.report(1);
    let message = report.tag("v1")["reason"].as_str().unwrap();
    assert!(message.contains("no child runs on linux/s390x"), "{message}");
    assert_eq!(pair.arrived(), set(&[]));
}

#[test]
fn overwrite_never_blocks_only_tags_that_would_move() {
    let pair = Pair::with("overwrite: never");
    pair.fill(&["v1", "v2"]);
    let old = images::small(Family::Oci, 99);
    old.put(&pair.target, "app", Some("v1"));
    let output = pair.site.run(&["once"]);
    assert_eq!(output.code(), 4, "{}", output.stderr);
    let why = format!(
        "  blocked v1 at {}/app: the target has {}…, the source has {}…, and `overwrite: never` forbids the move\n",
        pair.target.host(),
        &old.digest().to_string()[..19],
        &images::small(Family::Oci, 0).digest().to_string()[..19]
    );
    assert!(output.stdout.contains(&why), "{why}\nis not in\n{}", output.stdout);
    assert_eq!(pair.target.store().tag("app", "v1"), Some(old.digest()));
    assert_eq!(pair.target.store().tag("app", "v2"), Some(images::small(Family::Oci, 1).digest()));
}

#[test]
fn keep_previous_keeps_the_old_digest_under_a_new_tag() {
    let pair = Pair::with("overwrite: keep_previous");
    pair.fill(&["v1"]);
    let old = images::two_platforms(Family::Oci, 99);
    old.put(&pair.target, "app", Some("v1"));
    let report = pair.site.report(0);
    let kept_as = report.tag("v1")["kept_as"].as_str().unwrap().to_owned();
    assert!(kept_as.starts_with("v1.previous-"), "{kept_as}");
    assert_eq!(pair.target.store().tag("app", &kept_as), Some(old.digest()));
    assert_eq!(pair.target.store().tag("app", "v1"), Some(images::small(Family::Oci, 0).digest()));
    assert!(pair.site.once().starts_with("app: nothing changed (1 unchanged)"));
}

#[test]
fn pinned_tag_keeps_its_content_after_the_source_moved() {
    let (old, new) = (images::two_platforms(Family::Oci, 5), images::small(Family::Oci, 6));
    let pair = Pair::with(&format!("tags: {{include: [\"2.4.1@{}\", \"2.*\"]}}", old.digest()));
    old.put(&pair.source, "app", None);
    new.put(&pair.source, "app", Some("2.4.1"));
    new.put(&pair.source, "app", Some("2.5"));
    let plan = pair.site.run(&["plan", "--explain"]).expect_success().stdout;
    assert!(plan.contains("  2.4.1\tcopy\t") && plan.contains(&format!("\tpinned to {}\n", old.digest())), "{plan}");
    pair.site.once();
    assert_eq!(pair.arrived(), set(&["2.4.1", "2.5"]));
    assert_eq!(pair.target.store().tag("app", "2.4.1"), Some(old.digest()));
    let evidence = pair.site.evidence(&["--digest", &old.digest().to_string()]);
    assert_eq!(evidence[0]["tag"], "2.4.1", "{evidence:#?}");
    assert!(pair.site.once().starts_with("app: nothing changed (2 unchanged)"));
    // If another client moves the tag at the target, the next run restores it.
    pair.target.store().set_tag("app", "2.4.1", new.digest());
    assert!(pair.site.once().contains("1 replaced"));
    assert_eq!(pair.target.store().tag("app", "2.4.1"), Some(old.digest()));
}

#[test]
fn tag_pinned_by_one_entry_and_followed_by_another_conflicts() {
    let (pinned, moving) = (images::small(Family::Oci, 5), images::small(Family::Oci, 6));
    let pair = Pair::with("");
    pinned.put(&pair.source, "app", None);
    moving.put(&pair.source, "app", Some("v1"));
    moving.put(&pair.source, "app", Some("v2"));
    let (source, target) = (pair.source.host(), pair.target.host());
    let entry = |name: &str, include: &str| {
        format!(
            "- {{name: {name}, source: \"{source}/app\", target: \"{target}/app\", tags: {{include: \
                [\"{include}\"]}}}}\n"
        )
    };
    let entries = [entry("pins", &format!("v1@{}", pinned.digest())), entry("follows", "v*")].concat();
    pair.site.configure(&[source, target], &entries);
    let output = pair.site.run(&["once"]);
    assert_eq!(output.code(), 1, "{}", output.stdout);
    let printed = "conflict of v1 at";
    assert_eq!(output.stdout.matches(printed).count(), 2, "{}", output.stdout);
    assert_eq!(pair.arrived(), set(&["v2"]));
}

#[test]
fn tags_are_selected_by_pattern_version_and_number() {
    let pair = Pair::with("tags: {include: [\"v*\"], exclude: [\"*-rc*\"], semver: \">=1.1\", newest: 2, at_least: 2}");
    pair.fill(&["v1.0.0", "v1.1.0", "v1.2.0-rc1", "v1.9.0", "v1.10.0", "latest"]);
    pair.site.once();
    assert_eq!(pair.arrived(), set(&["v1.10.0", "v1.9.0"]));
}

#[test]
fn too_few_tags_are_an_error_without_any_write() {
    let pair = Pair::with("tags: {include: [\"v*\"], at_least: 3}");
    pair.fill(&["v1", "v2", "w3"]);
    let report = pair.site.report(1);
    let problem = report.problems()[0];
    assert!(problem.starts_with(&format!("source {}/app: ", pair.source.host())) && problem.contains('3'), "{problem}");
    assert_eq!(pair.arrived(), set(&[]));
}

#[test]
fn alternation_in_a_pattern_matches_whole_tags_only() {
    let pair = Pair::with("tags: {include: [\"re:v1|v2\"]}");
    pair.fill(&["v1", "v2", "v1-evil", "evil-v2", "v"]);
    pair.site.once();
    assert_eq!(pair.arrived(), set(&["v1", "v2"]));
}

#[test]
fn pinned_digest_is_copied_without_a_tag() {
    let pinned = images::two_platforms(Family::Oci, 5);
    let pair = Pair::with(&format!("tags: {{include: [\"@{}\"]}}", pinned.digest()));
    pinned.put(&pair.source, "app", Some("moving"));
    pair.site.once();
    assert_eq!(pair.arrived(), set(&[]));
    assert!(pair.target.store().manifest("app", &pinned.digest().to_string()).is_some());
    let evidence = pair.site.evidence(&[]);
    assert_eq!((&evidence[0]["tag"], &evidence[0]["digest"]), (&Value::Null, &pinned.digest().to_string().into()));
    pair.source.store().set_tag("app", "moving", images::small(Family::Oci, 6).digest());
    assert!(pair.site.once().starts_with("app: nothing changed (1 unchanged)"));
}

#[test]
fn exactly_named_tags_need_no_listing() {
    let pair = Pair::with("tags: {include: [v1, v2]}");
    pair.fill(&["v1", "v2", "v3"]);
    pair.site.once();
    assert_eq!(pair.arrived(), set(&["v1", "v2"]));
    assert_eq!(pair.source.log().count("tags GET"), 0);
    pair.configure("tags: {include: [v1, nowhere]}");
    let report = pair.site.report(1);
    let message = report.tag("nowhere")["reason"].as_str().unwrap();
    assert_eq!(message, format!("source {}/app: resolving nowhere: there is no such tag", pair.source.host()));
    assert_eq!(report.outcomes()["v1"], "unchanged");
}

#[test]
fn plan_changes_nothing_and_explains_every_tag() {
    let pair = Pair::with("tags: {include: [\"v*\"], exclude: [\"*-rc*\"]}");
    pair.fill(&["v1", "v2", "v3-rc1", "latest"]);
    pair.source.set(Fault::TagListHas("sha256:abc".into()));
    let old = images::small(Family::Oci, 99);
    old.put(&pair.target, "app", Some("v2"));
    let output = pair.site.run(&["plan", "--explain"]).expect_success();
    assert!(output.stdout.starts_with("app: 1 to copy, 1 to replace, "), "{}", output.stdout);
    let rows: Vec<Vec<&str>> = output.stdout.lines().skip(2).map(|row| row.trim().split('\t').collect()).collect();
    let shown: Vec<[&str; 3]> = rows.iter().map(|row| [row[0], row[1], row[6]]).collect();
    let expected = [
        ["v2", "replace", "included by \"v*\""],
        ["v1", "copy", "included by \"v*\""],
        ["v3-rc1", "out", "excluded by \"*-rc*\""],
        ["latest", "out", "no `include` matches the tag"],
        ["sha256:abc", "out", "not a tag by the specification"],
    ];
    assert_eq!(shown, expected);
    let only = pair.site.run(&["plan", "--only", "out"]).expect_success().stdout;
    assert_eq!(only.matches("\tout\t").count(), 3, "{only}");
    assert!(!only.contains("\tcopy\t"), "{only}");
    assert_eq!(pair.site.run(&["plan", "--exit-code"]).code(), 3);
    assert_eq!(pair.target.store().tags("app").unwrap().len(), 1);
    assert_eq!(pair.target.store().tag("app", "v2"), Some(old.digest()));
    let kinds = |server: &Server| server.log().counts().into_keys().collect::<Vec<_>>();
    let reads = ["manifest GET", "manifest HEAD", "referrers GET", "tags GET"];
    assert_eq!(kinds(&pair.source), reads, "a plan sends only reads");
    assert_eq!(kinds(&pair.target), ["blob HEAD", "manifest HEAD"]);
    pair.site.once();
    assert_eq!(
        pair.site.run(&["plan", "--exit-code"]).expect_success().stdout,
        "app: nothing to change (2 unchanged)\n"
    );
}

#[test]
fn tag_claimed_by_two_entries_conflicts_in_both() {
    let (source, target) = (Server::start(), Server::start());
    for (repository, tags) in [("one", ["v1", "v2"]), ("two", ["v2", "v3"])] {
        for (seed, tag) in tags.iter().enumerate() {
            images::small(Family::Oci, (repository.len() + seed) as u64 + u64::from(repository == "two") * 10).put(
                &source,
                repository,
                Some(tag),
            );
        }
    }
    let entry = |name| {
        format!(
            "- {{name: {name}, source: \"{}/{name}\", target: \"{}/all\", tags: {{include: [\"v*\"]}}}}",
            source.host(),
            target.host()
        )
    };
    let site = Site::with(&[source.host(), target.host()], &format!("{}\n{}", entry("one"), entry("two")));
    site.run(&["check"]).expect_success();
    let message =
        format!("conflict of v2 at {}/all: the entries one and two claim it for different sources\n", target.host());
    for command in [["plan"], ["once"]] {
        let output = site.run(&command);
        assert_eq!(output.code(), 1, "{}", output.stdout);
        assert_eq!(output.stdout.matches(&message).count(), 2, "{}", output.stdout);
    }
    let arrived: Vec<String> = target.store().tags("all").unwrap().into_keys().collect();
    assert_eq!(arrived, ["v1", "v3"]);
}

#[test]
fn whole_tree_is_mirrored_by_the_catalog() {
    let pair = Pair::with("");
    for (seed, repository) in ["team/a", "team/b/c", "teams/d", "other"].iter().enumerate() {
        images::small(Family::Oci, seed as u64).put(&pair.source, repository, Some("v1"));
    }
    let entry = format!(
        "- {{name: team, source: \"{}/team/**\", target: \"{}/m/**\"}}",
        pair.source.host(),
        pair.target.host()
    );
    pair.site.configure(&[pair.source.host(), pair.target.host()], &entry);
    pair.site.once();
    assert_eq!(pair.target.store().repositories(), ["m/a", "m/b/c"]);
    assert_eq!(pair.target.store().tag("m/b/c", "v1"), pair.source.store().tag("team/b/c", "v1"));

    pair.source.set(Fault::NoCatalog);
    let report = pair.site.report(1);
    let problem = report.problems()[0].to_owned();
    assert!(problem.starts_with(&format!("source {}: listing repositories: ", pair.source.host())), "{problem}");
}

/// Runs `copy` between two registries.
fn copy(source: &Server, target: &Server, args: &[&str]) -> String {
    let plain = ["copy", "--plain-http", source.host(), "--plain-http", target.host()];
    let site = Site::new();
    let mut command = site.command(&[&plain[..], args].concat());
    command.env_remove("TRANSSHIP_CONFIG");
    let output = crate::support::programs::Running::start(&mut command).wait(DEADLINE);
    assert!(!site.journal().exists() && site.path("state/transship/journal.db").exists());
    output.expect_success().stdout
}

#[test]
fn copy_accepts_a_tag_a_digest_or_a_repository() {
    let (source, target) = (Server::start(), Server::start());
    let (one, two) = (images::two_platforms(Family::Oci, 1), images::small(Family::Docker, 2));
    one.put(&source, "app", Some("v1"));
    two.put(&source, "app", Some("v2"));
    let from = |what: &str| format!("{}/app{what}", source.host());
    let to = |what: &str| format!("{}/{what}", target.host());

    copy(&source, &target, &[&from(":v1"), &to("by-tag")]);
    assert_eq!(target.store().tag("by-tag", "v1"), Some(one.digest()));
    copy(&source, &target, &[&from(":v1"), &to("by-tag:renamed")]);
    assert_eq!(target.store().tag("by-tag", "renamed"), Some(one.digest()));
    copy(&source, &target, &[&from(&format!("@{}", two.digest())), &to("by-digest")]);
    assert_eq!(target.store().tags("by-digest").unwrap().len(), 0);
    assert!(target.store().manifest("by-digest", &two.digest().to_string()).is_some());
    copy(&source, &target, &["--all-tags", &from(""), &to("whole")]);
    assert_eq!(target.store().tags("whole"), source.store().tags("app"));
    copy(&source, &target, &["--platform", "linux/arm64", &from(":v1"), &to("cut")]);
    let children = json(&target, "cut", "v1")["manifests"].as_array().unwrap().clone();
    assert_eq!(children.iter().map(|child| &child["platform"]).collect::<Vec<_>>(), [&linux("arm64")]);
}

/// Image with an SBOM, an SBOM of a child, a signature of the SBOM, and cosign's signature.
struct Signed {
    image: Image,
    referrers: Vec<(Digest, Image)>,
    signature: Image,
}

fn signed(seed: u64) -> Signed {
    let image = images::two_platforms(Family::Oci, seed);
    let sbom = images::sbom(&image, seed);
    let of_child = images::sbom(&image.children[1], seed + 100);
    let of_sbom = images::sbom(&sbom, seed + 200);
    let signature = images::signature(&image);
    let referrers =
        vec![(image.digest(), sbom.clone()), (image.children[1].digest(), of_child), (sbom.digest(), of_sbom)];
    Signed { image, referrers, signature }
}

/// Puts referrers as clients of a registry with or without the referrers API do.
pub fn put_referrers(server: &Server, has_api: bool, repository: &str, referrers: &[(Digest, Image)]) {
    for (subject, referrer) in referrers {
        referrer.put(server, repository, None);
        if !has_api {
            let list = server.store().referrers(repository, subject);
            let body = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": list});
            let manifest = transship::oci::Manifest::new(MediaType::new(MediaType::OCI_INDEX), body.to_string().into());
            let tag = subject.to_string().replace(':', "-");
            server.store().put_manifest(repository, (&manifest).into(), Some(&tag));
        }
    }
}

/// Returns true if the server lists a referrer of a subject.
fn lists_referrer(server: &Server, has_api: bool, repository: &str, subject: &Digest, referrer: &Image) -> bool {
    let wanted = referrer.digest().to_string();
    let listed = if has_api {
        server.store().referrers(repository, subject)
    } else {
        let tag = subject.to_string().replace(':', "-");
        if server.store().tag(repository, &tag).is_none() {
            return false;
        }
        json(server, repository, &tag)["manifests"].as_array().cloned().unwrap_or_default()
    };
    listed.iter().any(|one| one["digest"] == wanted.as_str() && one["artifactType"] == "application/spdx+json")
}

fn assert_referrers_are_copied(at_source: bool, at_target: bool) {
    let with = |referrers_api| Server::with(Setup { referrers_api, ..Setup::default() });
    let (source, target) = (with(at_source), with(at_target));
    let Signed { image, referrers, signature } = signed(1);
    image.put(&source, "app", Some("v1"));
    put_referrers(&source, at_source, "app", &referrers);
    signature.put(&source, "app", Some(&images::signature_tag(&image)));
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    let report = site.report(0);
    assert_eq!(target.store().tag("app", "v1"), Some(image.digest()), "{:#}", report.0);
    for (subject, referrer) in &referrers {
        assert!(
            lists_referrer(&target, at_target, "app", subject, referrer),
            "{subject}: {:?}",
            target.store().tags("app")
        );
    }
    assert_eq!(target.store().tag("app", &images::signature_tag(&image)), Some(signature.digest()));
    assert!(site.once().contains(": nothing changed ("));
}

#[test]
fn referrers_are_copied_from_api_to_api() {
    assert_referrers_are_copied(true, true);
}

#[test]
fn referrers_are_copied_from_api_to_fallback_tags() {
    assert_referrers_are_copied(true, false);
}

#[test]
fn referrers_are_copied_from_fallback_tags_to_api() {
    assert_referrers_are_copied(false, true);
}

#[test]
fn referrers_are_copied_from_fallback_tags_to_fallback_tags() {
    assert_referrers_are_copied(false, false);
}

#[test]
fn disabled_referrers_copy_only_the_image() {
    let pair = Pair::with("referrers: false, tags: {include: [v1]}");
    let Signed { image, referrers, signature } = signed(1);
    image.put(&pair.source, "app", Some("v1"));
    put_referrers(&pair.source, true, "app", &referrers);
    signature.put(&pair.source, "app", Some(&images::signature_tag(&image)));
    pair.site.once();
    assert_eq!(pair.arrived(), set(&["v1"]));
    assert_eq!(pair.target.store().manifests("app").len(), 3);
}

#[test]
fn late_signature_is_copied_by_the_next_run() {
    let pair = Pair::with("tags: {include: [\"v*\"]}");
    let image = images::two_platforms(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    pair.site.once();
    let signature = images::signature(&image);
    signature.put(&pair.source, "app", Some(&images::signature_tag(&image)));
    let message = pair.site.once();
    assert_eq!(pair.target.store().tag("app", &images::signature_tag(&image)), Some(signature.digest()), "{message}");
    assert!(pair.site.once().starts_with("app: nothing changed ("));
}

#[test]
fn changed_signature_is_copied_despite_overwrite_never() {
    let pair = Pair::with("tags: {include: [\"v*\"]}, overwrite: never");
    let image = images::two_platforms(Family::Oci, 1);
    let tag = images::signature_tag(&image);
    image.put(&pair.source, "app", Some("v1"));
    images::small(Family::Oci, 7).put(&pair.target, "app", Some(&tag));
    let signature = images::signature(&image);
    signature.put(&pair.source, "app", Some(&tag));
    pair.site.once();
    assert_eq!(pair.target.store().tag("app", &tag), Some(signature.digest()));
    let countersigned = images::small(Family::Oci, 8);
    countersigned.put(&pair.source, "app", Some(&tag));
    pair.site.once();
    assert_eq!(pair.target.store().tag("app", &tag), Some(countersigned.digest()));
}

#[test]
fn late_referrer_under_a_fallback_tag_is_copied_next_run() {
    let source = Server::with(Setup { referrers_api: false, ..Setup::default() });
    let target = Server::start();
    let image = images::small(Family::Oci, 1);
    image.put(&source, "app", Some("v1"));
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    site.once();
    let sbom = images::sbom(&image, 1);
    put_referrers(&source, false, "app", &[(image.digest(), sbom.clone())]);
    site.once();
    assert!(lists_referrer(&target, true, "app", &image.digest(), &sbom));
    source.log().clear();
    site.once();
    assert_eq!(source.log().pulls(), 0, "copied content is not copied again");
}

#[test]
fn late_signature_of_a_named_tag_is_copied_next_day() {
    let pair = Pair::with("tags: {include: [v1]}");
    let image = images::two_platforms(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    pair.site.once();
    let (signature, tag) = (images::signature(&image), images::signature_tag(&image));
    signature.put(&pair.source, "app", Some(&tag));
    let once = || once_with_counts(&pair.site, &pair.source, &pair.target);
    let nothing_more = [expected(&[("manifest HEAD", 1)]), expected(&[("manifest HEAD", 1)])];
    assert_eq!(once(), nothing_more, "the copy counts as a referrer check");
    age_referrer_checks(&pair.site);
    pair.site.once();
    assert_eq!(pair.target.store().tag("app", &tag), Some(signature.digest()));
    assert_eq!(once(), nothing_more);
}

/// Makes all referrer checks in the journal a day older.
pub fn age_referrer_checks(site: &Site) {
    let journal = rusqlite::Connection::open(site.journal()).unwrap();
    let older = "UPDATE referrer_checks SET checked = date(substr(checked, 1, 10), '-1 day') || substr(checked, 11)";
    assert!(journal.execute(older, []).unwrap() > 0);
}

/// Runs once without changes. Returns the number of requests of each kind to the source and to the target.
#[track_caller]
fn once_with_counts(site: &Site, source: &Server, target: &Server) -> [BTreeMap<String, usize>; 2] {
    source.log().clear();
    target.log().clear();
    let message = site.once();
    assert!(message.contains(": nothing changed ("), "{message}");
    [source.log().counts(), target.log().counts()]
}

fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

#[test]
fn late_referrer_listed_only_by_api_is_copied_next_day() {
    let pair = Pair::with("");
    let image = images::small(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    pair.site.once();
    let sbom = images::sbom(&image, 1);
    sbom.put(&pair.source, "app", None);
    let once = || once_with_counts(&pair.site, &pair.source, &pair.target);
    let arrived = || lists_referrer(&pair.target, true, "app", &image.digest(), &sbom);
    let nothing_more = [expected(&[("manifest HEAD", 1), ("tags GET", 1)]), expected(&[("manifest HEAD", 1)])];

    assert_eq!(once(), nothing_more, "the copy counts as a referrer check");
    assert!(!arrived());
    age_referrer_checks(&pair.site);
    once();
    assert!(arrived());
    assert_eq!(once(), nothing_more);
}

#[test]
fn referrers_lookup_costs_one_request_per_day_and_digest() {
    let pair = Pair::with("");
    let (plain, signed) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    plain.put(&pair.source, "app", Some("v1"));
    signed.put(&pair.source, "app", Some("v2"));
    signed.put(&pair.source, "app", Some("latest"));
    images::sbom(&signed, 1).put(&pair.source, "app", None);
    let once = || once_with_counts(&pair.site, &pair.source, &pair.target);
    pair.site.once();
    age_referrer_checks(&pair.site);
    // The journal does not record the referrers list of the first copy. The list of `signed` is copied again, and then
    // recorded.
    once();
    let unchanged = |looks| {
        let mut source = expected(&[("manifest HEAD", 3), ("tags GET", 1)]);
        source.extend(expected(looks));
        [source, expected(&[("manifest HEAD", 3)])]
    };
    assert_eq!(once(), unchanged(&[]));
    age_referrer_checks(&pair.site);
    assert_eq!(once(), unchanged(&[("referrers GET", 2)]), "one for each digest");
    assert_eq!(once(), unchanged(&[]));

    let new = images::sbom(&signed, 2);
    new.put(&pair.source, "app", None);
    age_referrer_checks(&pair.site);
    let manifests = pair.target.store().manifests("app").len();
    let blobs = pair.target.store().blobs("app").len();
    once();
    assert!(lists_referrer(&pair.target, true, "app", &signed.digest(), &new));
    assert_eq!(pair.target.store().manifests("app").len(), manifests + 1);
    let sent = pair.target.store().blobs("app").len() - blobs;
    assert_eq!(pair.target.log().count("upload PUT"), sent, "{:?}", pair.target.log().counts());
    assert_eq!(pair.source.log().count("blob GET"), sent);
    assert_eq!(once(), unchanged(&[]));
}

#[test]
fn source_without_the_referrers_api_gets_two_requests() {
    let source = Server::with(Setup { referrers_api: false, ..Setup::default() });
    let target = Server::start();
    for seed in 0..4 {
        images::small(Family::Oci, seed).put(&source, "app", Some(&format!("v{seed}")));
    }
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    site.once();
    age_referrer_checks(&site);
    let [requested, _] = once_with_counts(&site, &source, &target);
    assert_eq!(requested, expected(&[("manifest HEAD", 4), ("referrers GET", 2), ("tags GET", 1)]));
}

#[test]
fn late_referrer_is_copied_by_every_entry_to_its_target() {
    let pair = Pair::with("");
    let image = images::small(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    let entry = |name| {
        format!("- {{name: {name}, source: \"{}/app\", target: \"{}/{name}\"}}", pair.source.host(), pair.target.host())
    };
    let hosts = [pair.source.host(), pair.target.host()];
    pair.site.configure(&hosts, &format!("{}\n{}", entry("one"), entry("two")));
    pair.site.once();
    let sbom = images::sbom(&image, 1);
    sbom.put(&pair.source, "app", None);
    age_referrer_checks(&pair.site);
    for name in ["one", "two"] {
        pair.site.run(&["once", name]).expect_success();
        assert!(lists_referrer(&pair.target, true, name, &image.digest(), &sbom), "{name}");
    }
}

#[test]
fn failed_referrers_are_retried_by_the_next_run() {
    let pair = Pair::with("");
    let image = images::small(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    pair.site.once();
    let sbom = images::sbom(&image, 1);
    sbom.put(&pair.source, "app", None);
    age_referrer_checks(&pair.site);
    pair.target.set(Fault::ManifestPutFailsFor(sbom.digest().to_string()));
    let output = pair.site.run(&["once"]);
    assert!(output.code() == 4 && output.stdout.contains("1 left behind"), "{}", output.stdout);
    pair.target.heal();
    pair.site.once();
    assert!(lists_referrer(&pair.target, true, "app", &image.digest(), &sbom));
}

/// Copies an image with an SBOM that the source lists and does not have, then again with and without the SBOM.
fn absent_referrer_is_checked_again(has_api: bool) {
    let source = Server::with(Setup { referrers_api: has_api, ..Setup::default() });
    let target = Server::with(Setup { referrers_api: has_api, ..Setup::default() });
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    let (returns, deleted) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    returns.put(&source, "app", Some("returns"));
    deleted.put(&source, "app", Some("deleted"));
    let sbom = |image: &Image| (image.digest(), images::sbom(image, 1));
    let referrers = [sbom(&returns), sbom(&deleted)];
    put_referrers(&source, has_api, "app", &referrers);
    referrers.iter().for_each(|(_, sbom)| source.set(Fault::ManifestAbsent(sbom.digest().to_string())));
    let arrived = |(subject, sbom): &(Digest, Image)| lists_referrer(&target, has_api, "app", subject, sbom);

    let output = site.run(&["once"]).expect_success();
    assert!(output.stderr.contains("the source lists the referrer but does not have it"), "{}", output.stderr);
    assert!(!arrived(&referrers[0]) && !arrived(&referrers[1]));
    source.heal();
    source.set(Fault::ManifestAbsent(referrers[1].1.digest().to_string()));
    site.once();
    assert!(arrived(&referrers[0]), "the next run checks again");
    assert!(!arrived(&referrers[1]));
    // Two further runs confirm that the other referrer was deleted. Later runs do not request it.
    site.once();
    site.once();
    source.log().clear();
    site.once();
    let requested =
        source.log().requests().iter().any(|request| request.path.ends_with(&referrers[1].1.digest().to_string()));
    assert!(!requested, "{:?}", source.log().counts());
}

#[test]
fn listed_referrer_that_source_lacks_is_checked_again_by_api() {
    absent_referrer_is_checked_again(true);
}

#[test]
fn listed_referrer_that_source_lacks_is_checked_again_by_fallback_tag() {
    absent_referrer_is_checked_again(false);
}

#[test]
fn schema_1_manifest_fails_by_name_alone() {
    let pair = Pair::with("");
    pair.fill(&["v1"]);
    images::schema_1("app").put(&pair.source, "app", Some("old"));
    let report = pair.site.report(1);
    let message = report.tag("old")["reason"].as_str().unwrap();
    assert!(message.to_lowercase().contains("schema 1"), "{message}");
    assert_eq!(pair.arrived(), set(&["v1"]));
}

#[test]
fn foreign_layers_are_not_copied_by_default() {
    let pair = Pair::with("");
    let layers = [images::layer(Family::Docker, 1, 1000), images::foreign_layer(Family::Docker, 2)];
    let image = images::image(Family::Docker, linux("amd64"), &layers);
    image.put(&pair.source, "app", Some("v1"));
    pair.site.once();
    assert_eq!(pair.target.store().tag("app", "v1"), Some(image.digest()));
    let requested =
        |server: &Server| server.log().requests().iter().any(|r| r.path.contains(&layers[1].digest().to_string()));
    assert!(!requested(&pair.source) && !requested(&pair.target), "no request for the layer");
}

#[test]
fn tag_that_moves_during_its_lookup_is_resolved_again() {
    let pair = Pair::with("");
    let (before, after) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    images::small(Family::Oci, 9).put(&pair.target, "app", Some("v1"));
    before.put(&pair.source, "app", Some("v1"));
    pair.target.set(Fault::Held("manifest HEAD"));
    let mut run = pair.site.start(&["once"]);
    let answered =
        |server: &Server| server.log().requests_of("manifest HEAD").iter().any(|request| request.status == 200);
    run.wait_until("the source's digest", |_| answered(&pair.source).then_some(()));
    run.wait_until("the request to the target", |_| (pair.target.log().count("manifest HEAD") == 1).then_some(()));
    after.put(&pair.source, "app", Some("v1"));
    pair.target.heal();
    run.wait(DEADLINE).expect_success();
    assert_eq!(pair.target.store().tag("app", "v1"), Some(after.digest()));
    assert_eq!(pair.source.log().count("manifest HEAD"), 2, "one further request");
}

#[test]
fn every_kind_of_artifact_is_copied_unchanged() {
    let pair = Pair::with("");
    let wasm = images::artifact(
        "application/vnd.wasm.config.v0+json",
        None,
        &[("application/wasm", images::noise(1, 500))],
        None,
    );
    let empty = images::artifact("application/vnd.example.nothing", None, &[], None);
    let nested = images::index(Family::Oci, &[images::two_platforms(Family::Docker, 1), images::small(Family::Oci, 2)]);
    let all = [
        ("chart", images::helm_chart("c", "1.0.0")),
        ("wasm", wasm),
        ("empty", empty),
        ("nested", nested),
        ("list", images::two_platforms(Family::Docker, 3)),
    ];
    for (tag, image) in &all {
        image.put(&pair.source, "app", Some(tag));
    }
    pair.site.once();
    for (tag, image) in &all {
        let stored = pair.target.store().manifest("app", tag).unwrap();
        assert_eq!(&stored.bytes, image.manifest.bytes(), "{tag}");
        assert_eq!(stored.media_type, image.manifest.media_type().to_string(), "{tag}");
    }
}

#[test]
fn several_targets_share_one_read_of_a_blob() {
    let source = Server::start();
    let targets = [Server::start(), Server::start(), Server::start()];
    let image = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 1, 400_000)]);
    image.put(&source, "app", Some("v1"));
    let hosts: Vec<&str> = targets.iter().map(Server::host).chain([source.host()]).collect();
    let places: Vec<String> = targets.iter().map(|target| format!("\"{}/app\"", target.host())).collect();
    let entry = format!("- {{name: app, source: \"{}/app\", targets: [{}]}}", source.host(), places.join(", "));
    Site::with(&hosts, &entry).once();
    for target in &targets {
        assert_eq!(target.store().tag("app", "v1"), Some(image.digest()));
    }
    assert_eq!(source.log().count("blob GET"), image.blobs.len(), "each blob was read once for all targets");
    assert_eq!(source.log().pulls(), 1);
}

#[test]
fn slow_target_delays_no_tag_at_other_targets() {
    let source = Server::start();
    let targets = [Server::start(), Server::start(), Server::start()];
    // More tags than the program processes concurrently.
    for seed in 0..40 {
        images::small(Family::Oci, seed).put(&source, "app", Some(&format!("v{seed}")));
    }
    let hosts: Vec<&str> = targets.iter().map(Server::host).chain([source.host()]).collect();
    let places: Vec<String> = targets.iter().map(|target| format!("\"{}/app\"", target.host())).collect();
    let entry = format!("- {{name: app, source: \"{}/app\", targets: [{}]}}", source.host(), places.join(", "));
    let site = Site::with(&hosts, &entry);
    let [first, second, slow] = &targets;
    slow.set(Fault::Held("upload PUT"));
    let mut run = site.start(&["once"]);
    let arrived = |server: &Server| server.store().tags("app").unwrap_or_default().len();
    run.wait_until("all tags at two targets", |_| (arrived(first) == 40 && arrived(second) == 40).then_some(()));
    run.wait_until("the evidence of these tags", |_| (site.evidence(&[]).len() == 80).then_some(()));
    assert_eq!(arrived(slow), 0);
    slow.heal();
    run.wait(DEADLINE).expect_success();
    assert_eq!(slow.store().tags("app"), source.store().tags("app"));
}

#[test]
fn layer_shared_by_repositories_is_sent_once_and_mounted() {
    let (source, target) = (Server::start(), Server::start());
    let base = images::layer(Family::Oci, 0, 50_000);
    let names: Vec<String> = (0..6).map(|at| format!("team/r{at}")).collect();
    for (seed, name) in (1..).zip(&names) {
        let layers = [base.clone(), images::layer(Family::Oci, seed, 1000)];
        images::image(Family::Oci, linux("amd64"), &layers).put(&source, name, Some("v1"));
    }
    let entry =
        format!("- {{name: team, source: \"{}/team/**\", target: \"{}/team/**\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    site.once();
    for name in &names {
        assert_eq!(target.store().tags(name), source.store().tags(name));
    }
    // Each repository has a unique configuration, a unique layer and the base layer.
    assert_eq!(target.log().count("upload PUT"), 2 * names.len() + 1);
    assert_eq!(source.log().count("blob GET"), 2 * names.len() + 1);
    let mounts = target.log().requests_of("mount POST").iter().filter(|mount| mount.status == 201).count();
    assert_eq!(mounts, names.len() - 1);
    let mounted: u64 = site.evidence(&[]).iter().map(|row| row["blobs"]["mounted"].as_u64().unwrap()).sum();
    assert_eq!(mounted, names.len() as u64 - 1);
}

#[test]
fn json_report_has_everything_in_the_summary() {
    let pair = Pair::with("");
    pair.fill(&["v1"]);
    let output = pair.site.run(&["once", "--json"]).expect_success();
    let reports = parse(&output.stdout);
    let tag = &reports[0]["tags"][0];
    assert_eq!((&tag["tag"], &tag["outcome"]), (&"v1".into(), &"copied".into()));
    assert_eq!(tag["digest"], images::small(Family::Oci, 0).digest().to_string());
    assert_eq!(tag["blobs"]["copied"], 3);
}
