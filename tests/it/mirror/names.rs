//! Names of tags at the target, and the selection of repositories: the content that arrives, its evidence, and
//! conflicts.

use std::collections::BTreeSet;

use transship::oci::Digest;

use crate::support::images::{self, Family};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;

/// Two registries and an entry `app` from `app` in the one to `app` in the other.
struct Pair {
    source: Server,
    target: Server,
    site: Site,
}

impl Pair {
    /// Creates the registries with a small image under each of these tags of the source, and an entry with these keys.
    fn new(tags: &[&str], keys: &str) -> Self {
        let pair = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        for (seed, tag) in tags.iter().enumerate() {
            images::small(Family::Oci, seed as u64).put(&pair.source, "app", Some(tag));
        }
        pair.configure(keys);
        pair
    }

    fn configure(&self, keys: &str) {
        let (source, target) = (self.source.host(), self.target.host());
        let entry = format!("- {{name: app, source: \"{source}/app\", target: \"{target}/app\", {keys}}}");
        self.site.configure(&[source, target], &entry);
    }

    /// Returns the tags at the target.
    fn arrived(&self) -> BTreeSet<String> {
        arrived(&self.target, "app")
    }

    fn digest(&self, tag: &str) -> Option<Digest> {
        self.target.store().tag("app", tag)
    }
}

fn arrived(server: &Server, repository: &str) -> BTreeSet<String> {
    server.store().tags(repository).unwrap_or_default().into_keys().collect()
}

fn set(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

fn seed(seed: u64) -> Digest {
    images::small(Family::Oci, seed).digest()
}

#[test]
fn renamed_tags_arrive_under_their_names_with_evidence() {
    let pair = Pair::new(&["v1", "v2"], "rename: {v1: stable}, tag: \"m-{tag}\"");
    let plan = pair.site.run(&["plan"]).expect_success().stdout;
    assert!(plan.contains("stable (from v1)") && plan.contains("m-v2 (from v2)"), "{plan}");
    let report = pair.site.report(0);
    assert_eq!(report.tag("stable")["source_tag"], "v1");
    assert_eq!(pair.arrived(), set(&["m-v2", "stable"]));
    assert_eq!((pair.digest("stable"), pair.digest("m-v2")), (Some(seed(0)), Some(seed(1))));
    let evidence = pair.site.evidence(&["--digest", &seed(0).to_string()]);
    assert_eq!((&evidence[0]["tag"], &evidence[0]["source_reference"]), (&"stable".into(), &"v1".into()));
    pair.target.log().clear();
    assert!(pair.site.once().starts_with("app: nothing changed (2 unchanged)"));
    assert_eq!(pair.target.log().count("manifest PUT"), 0);
}

#[test]
fn moved_tag_keeps_its_previous_digest_under_the_name_at_the_target() {
    let pair = Pair::new(&["v1"], "rename: {v1: stable}, overwrite: keep_previous");
    pair.site.once();
    images::small(Family::Oci, 7).put(&pair.source, "app", Some("v1"));
    let report = pair.site.report(0);
    let kept_as = report.tag("stable")["kept_as"].as_str().unwrap().to_owned();
    assert!(kept_as.starts_with("stable.previous-"), "{kept_as}");
    assert_eq!((pair.digest("stable"), pair.digest(&kept_as)), (Some(seed(7)), Some(seed(0))));
}

#[test]
fn rule_against_overwriting_applies_to_the_name_at_the_target() {
    let pair = Pair::new(&["v1"], "rename: {v1: stable}, overwrite: never");
    images::small(Family::Oci, 9).put(&pair.target, "app", Some("stable"));
    let output = pair.site.run(&["once"]);
    assert_eq!(output.code(), 4, "{}", output.stderr);
    assert!(output.stdout.contains("blocked stable (from v1) at "), "{}", output.stdout);
    assert_eq!((pair.digest("stable"), pair.digest("v1")), (Some(seed(9)), None));
}

#[test]
fn two_tags_with_one_name_are_named_and_do_not_move() {
    let pair = Pair::new(&["latest", "stable", "v1"], "rename: {latest: stable}");
    let plan = pair.site.run(&["plan"]);
    assert_eq!(plan.code(), 1, "{}", plan.stdout);
    let output = pair.site.run(&["once"]);
    assert_eq!(output.code(), 1, "{}", output.stdout);
    let planned = ["conflict of stable at ", "conflict of stable (from latest) at "];
    for (text, names) in
        [(&plan.stdout, planned), (&output.stdout, ["conflict of 2 tags at ", "    stable, stable (from latest)\n"])]
    {
        for name in names {
            assert!(text.contains(name), "{name}\n{text}");
        }
        assert!(text.contains("the entry app gives this name to several tags"), "{text}");
    }
    assert_eq!(pair.arrived(), set(&["v1"]), "other tags are copied");
    pair.configure("rename: {latest: stable}, tags: {exclude: [stable]}");
    pair.site.once();
    assert_eq!(pair.digest("stable"), Some(seed(0)));
}

#[test]
fn entries_with_different_templates_share_one_target() {
    let [one, other, target] = [(); 3].map(|()| Server::start());
    for (server, seed) in [(&one, 1), (&other, 2)] {
        images::small(Family::Oci, seed).put(server, "app", Some("v1"));
    }
    let [from, second, to] = [&one, &other, &target].map(Server::host);
    let entries = |tag: &str| {
        format!(
            "- {{name: one, source: \"{from}/app\", target: \"{to}/app\", tag: \"one-{{tag}}\"}}\n\
             - {{name: two, source: \"{second}/app\", target: \"{to}/app\", tag: \"{tag}-{{tag}}\"}}"
        )
    };
    let site = Site::new();
    site.configure(&[from, second, to], &entries("two"));
    site.once();
    assert_eq!(arrived(&target, "app"), set(&["one-v1", "two-v1"]));
    site.configure(&[from, second, to], &entries("one"));
    let output = site.run(&["once"]);
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert!(output.stdout.contains("conflict of one-v1 (from v1) at "), "{}", output.stdout);
    assert!(output.stdout.contains("the entries one and two claim it"), "{}", output.stdout);
}

#[test]
fn tag_of_a_signature_keeps_its_name_at_the_target() {
    let pair = Pair::new(&["v1"], "tag: \"m-{tag}\"");
    let signature = format!("sha256-{}.sig", seed(0).hex());
    images::small(Family::Oci, 5).put(&pair.source, "app", Some(&signature));
    pair.site.once();
    assert_eq!(pair.arrived(), set(&["m-v1", &signature]));
}

#[test]
fn name_that_is_too_long_fails_its_tag_alone() {
    let long = "x".repeat(128);
    let pair = Pair::new(&["v1", &long], "tag: \"m-{tag}\"");
    let report = pair.site.report(1);
    let message = report.tag(&long)["reason"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("the template \"m-{{tag}}\" gives the tag {long} an invalid name")),
        "{message}"
    );
    assert_eq!(pair.arrived(), set(&["m-v1"]));
}

#[test]
fn only_selected_repositories_of_a_tree_are_copied() {
    let (source, target) = (Server::start(), Server::start());
    for (seed, repository) in ["team/apps/a", "team/apps/a-test", "team/base", "team/other"].iter().enumerate() {
        images::small(Family::Oci, seed as u64).put(&source, repository, Some("v1"));
    }
    let (from, to) = (source.host(), target.host());
    let keys = "repositories: {include: [\"apps/*\", base, gone], exclude: [\"*-test\"]}";
    let entry = format!("- {{name: all, source: \"{from}/team/**\", target: \"{to}/m/**\", {keys}}}");
    let site = Site::with(&[from, to], &entry);
    let report = site.report(0);
    for (repository, has_tag) in [("m/apps/a", true), ("m/base", true), ("m/apps/a-test", false), ("m/other", false)] {
        assert_eq!(!arrived(&target, repository).is_empty(), has_tag, "{repository}");
    }
    let warnings = &report.0["warnings"];
    assert_eq!(warnings.as_array().map(Vec::len), Some(1), "{warnings}");
    let expected = format!("\"gone\" under `repositories.include` matches no repository of {from}/team/**");
    assert!(warnings.to_string().replace("\\\"", "\"").contains(&expected), "{warnings}");
}

#[test]
fn selected_repositories_and_renamed_tags_pass_through_layouts() {
    let (source, target) = (Server::start(), Server::start());
    for (seed, repository) in ["team/apps/a", "team/base", "team/blobs"].iter().enumerate() {
        images::small(Family::Oci, seed as u64).put(&source, repository, Some("v1"));
    }
    let (from, to, site) = (source.host(), target.host(), Site::new());
    let disk = format!("oci-layout:{}/**", site.path("disk").display());
    let archive = format!("oci-archive:{}", site.path("base.tar").display());
    site.configure(
        &[from, to],
        &format!(
            "- {{name: out, source: \"{from}/team/**\", target: \"{disk}\", tag: \"m-{{tag}}\", repositories: \
             {{exclude: [blobs]}}}}\n\
             - {{name: in, source: \"{disk}\", target: \"{to}/in/**\", repositories: {{include: [\"apps/*\"]}}}}\n\
             - {{name: pack, source: \"{from}/team/base\", target: \"{archive}\", rename: {{v1: stable}}}}\n\
             - {{name: unpack, source: \"{archive}\", target: \"{to}/unpacked\", tag: \"{{tag}}-1\"}}"
        ),
    );
    for _ in 0..2 {
        for entry in ["out", "in", "pack", "unpack"] {
            let output = site.run(&["once", entry]).expect_success();
            assert!(!output.stdout.contains("warning"), "{}", output.stdout);
        }
    }
    assert_eq!(target.store().repositories(), ["in/apps/a", "unpacked"]);
    assert_eq!((arrived(&target, "in/apps/a"), arrived(&target, "unpacked")), (set(&["m-v1"]), set(&["stable-1"])));
    let packed = site.evidence(&["--digest", &seed(1).to_string()]);
    let packed = packed.iter().find(|row| row["target"] == archive.as_str()).unwrap();
    assert_eq!((&packed["tag"], &packed["source_reference"]), (&"stable".into(), &"v1".into()));
}

#[test]
fn rule_of_overwriting_follows_the_name_at_the_target() {
    let digest = "a".repeat(64);
    let pair =
        Pair::new(&[&digest], &format!("tag: \"sha256-{{tag}}.sig\", tags: {{include: [{digest}]}}, overwrite: never"));
    images::small(Family::Oci, 9).put(&pair.target, "app", Some("old"));
    pair.target.set(Fault::Answers { kind: "manifest HEAD", path: "/manifests/", status: 403 });
    pair.target.set(Fault::Answers { kind: "tags GET", path: "/tags/", status: 403 });
    // The tag at the target is a signature. The rule does not apply to it, so the present tag need not be read.
    pair.site.once();
    assert_eq!(pair.digest(&format!("sha256-{digest}.sig")), Some(seed(0)));
    pair.configure("tag: \"m-{tag}\", overwrite: never");
    let report = pair.site.report(1);
    assert_eq!(report.tag(&format!("m-{digest}"))["outcome"], "failed");
    assert_eq!(pair.digest(&format!("m-{digest}")), None);
}
