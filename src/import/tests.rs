//! Tests of whole configuration files. transship must accept every result.

mod dregsy;
mod image_syncer;
mod zot;

use super::*;

fn options(target: Option<&str>) -> ImportOptions {
    ImportOptions { target: target.map(str::to_owned), ..ImportOptions::default() }
}

/// Imports a text and asserts that the result is a valid `sync.yaml`.
fn imported(text: &str, target: Option<&str>) -> Imported {
    let imported = import_text("theirs.yml", text, &options(target)).unwrap_or_else(|error| panic!("{error}"));
    // The variables `…_METADATA_HOST` must contain a URL, so this environment does not set the variables.
    let environment = |name: &str| (!name.ends_with("_METADATA_HOST")).then(|| "x".into());
    if let Err(problems) = crate::config::parse("sync.yaml", &imported.text, &environment) {
        panic!("{problems}\n{}", imported.text);
    }
    imported
}

const REGSYNC: &str = r#"
version: 1
x-tags: &tags {allow: ["3", "3\\.\\d+", latest], deny: ["3\\.1"]}
creds:
  - {registry: "registry:5000", tls: disabled}
  - {registry: docker.io, user: '{{env "HUB_USER"}}', pass: hunter2, reqConcurrent: 5}
  - {registry: ghcr.io, user: me, pass: '{{env "TOKEN"}}', reqPerSec: 0.5}
defaults: {ratelimit: {min: 100}, interval: 60m, backup: "old-{{.Ref.Tag}}"}
sync:
  - {source: "busybox:latest", target: "registry:5000/library/busybox:latest", type: image}
  - {source: "busybox:1", target: "registry:5000/library/busybox:one", type: image}
  - {source: alpine, hooks: {}, target: "registry:5000/library/alpine", type: repository, tags: *tags,
     schedule: "0 3 * * *"}
  - {source: debian, target: "registry:5000/debian", type: repository, tags: {semverRange: ["<2", ">=11 <13"]},
     platforms: [linux/amd64]}
  - {source: ghcr.io, target: "registry:5000/ghcr", type: registry}
"#;

#[test]
fn regsync_file_becomes_valid_configuration_without_secrets() {
    let imported = imported(REGSYNC, None);
    let text = &imported.text;
    assert_eq!((imported.form, imported.entries, imported.skipped), (Program::Regsync, 5, 0), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    for expected in [
        "  docker.io:\n    credentials:\n      username: \"${HUB_USER}\"\n      password: {env: DOCKER_IO_PASSWORD}\n",
        "set the environment variable DOCKER_IO_PASSWORD",
        "      password: {env: TOKEN}\n    limits:\n      requests: \"30/min\"\n",
        "    source: docker.io/library/alpine\n    target: registry:5000/library/alpine\n",
        "      include: [\"3\", 're:3\\.\\d+', latest]\n      exclude: [\"3.1\"]\n",
        "    schedule: \"0 3 * * *\"\n",
        "    schedule: \"every 60m\"\n",
        "      semver: \">=11.0.0, <13.0.0\"\n",
        "    source: \"ghcr.io/**\"\n    target: \"registry:5000/ghcr/**\"\n",
        "      include: [latest, \"1\"]\n    rename:\n      \"1\": one\n",
        "    overwrite: keep_previous\n",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
    let remarks: Vec<String> = imported.remarks.iter().map(|one| format!("{}:{}", one.line, one.message)).collect();
    assert!(remarks.iter().any(|one| one.starts_with("12:`hooks`")), "{remarks:?}");
}

const SKOPEO: &str = r#"
registry.example.com:
  images:
    busybox: []
    redis: ["1.0", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
  images-by-tag-regex: {nginx: '^1\.13\.[12]-alpine-perl$'}
  images-by-semver: {alpine: ">= 3.12.0"}
  credentials: {username: john, password: this is a secret}
  cert-dir: /home/john/certs
quay.io:
  tls-verify: false
  images: {coreos/etcd: [latest], other/redis: ["1.0"]}
"#;

#[test]
fn skopeo_file_becomes_valid_configuration_without_secrets() {
    let imported = imported(SKOPEO, Some("mirror.example/repo/"));
    let text = &imported.text;
    assert_eq!((imported.form, imported.entries, imported.skipped), (Program::Skopeo, 5, 1), "{text}");
    assert!(!text.contains("this is a secret"), "{text}");
    for expected in [
        "    source: registry.example.com/busybox\n    target: mirror.example/repo/busybox\n",
        "      include: [\"1.0\", \"@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n",
        "      include: ['re:1\\.13\\.[12]-alpine-perl']\n",
        "      exclude: [\"*-*\", \"*_*\"]\n      semver: \">=3.12.0\"\n",
        "      password: {env: REGISTRY_EXAMPLE_COM_PASSWORD}\n",
        "      insecure_skip_verify: true\n",
        "# skipped: another entry writes the tag 1.0 of this target from another source",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
}

#[test]
fn scoped_target_contains_whole_source_name() {
    let options = ImportOptions { scoped: true, ..options(Some("mirror.example")) };
    let imported = import_text("f", SKOPEO, &options).unwrap();
    assert!(imported.text.contains("target: mirror.example/quay.io/coreos/etcd\n"), "{}", imported.text);
}

#[test]
fn invalid_import_is_refused_with_its_place() {
    let message = |text: &str, target| import_text("f.yml", text, &options(target)).unwrap_err().to_string();
    assert!(message("sync: [", None).starts_with("f.yml:"));
    assert!(message("a: 1", None).starts_with("f.yml does not look like a configuration of regsync"));
    assert!(message(SKOPEO, None).contains("--target HOST[/PREFIX]"));
    assert!(message(REGSYNC, Some("h.example")).contains("names its targets itself"));
    assert!(message("sync:\n  - {source: a, type: image}\n", None).starts_with("f.yml:2:5: an entry needs"));
    assert!(message("sync: {}\ncreds: []\n", None).starts_with("f.yml:1:7: `sync` must be a list"));
}

/// Returns a regsync configuration with one entry, to which the lines `more` are appended.
fn regsync_with(source: &str, target: &str, kind: &str, more: &str) -> String {
    format!("version: 1\nsync:\n  - source: {source}\n    target: {target}\n    type: {kind}\n{more}")
}

fn counts(text: &str) -> (usize, usize, usize) {
    let Imported { entries, skipped, unknown, .. } = imported(text, None);
    (entries, skipped, unknown)
}

/// Returns the source and the target of the first entry in the result.
fn ends(imported: &Imported) -> (String, String) {
    let config = crate::config::parse("sync.yaml", &imported.text, &|_| Some("x".into())).unwrap();
    let entry = &config.entries[0];
    (entry.source.to_string(), entry.targets[0].to_string())
}

#[test]
fn regsync_references_keep_their_hosts_in_the_result() {
    let digest = format!("sha256:{}", "1".repeat(64));
    for (source, target, kind, expected) in [
        ("quay.io/a/app:1", "MYREGISTRY/app:1", "image", ("quay.io/a/app", "MYREGISTRY/app")),
        ("MyRegistry/a/app", "registry:5000/app", "repository", ("MYREGISTRY/a/app", "registry:5000/app")),
        ("quay.io/a/app", "localhost/app", "repository", ("quay.io/a/app", "localhost/app")),
        ("busybox:1", "'[::1]:5000/busybox:1'", "image", ("docker.io/library/busybox", "[::1]:5000/busybox")),
        ("busybox", "me/busybox", "repository", ("docker.io/library/busybox", "docker.io/me/busybox")),
        ("index.docker.io/a/b", "h.example/b", "repository", ("docker.io/a/b", "h.example/b")),
        ("SOURCE", "TARGET/all", "registry", ("SOURCE/**", "TARGET/all/**")),
        ("h.example", "me", "registry", ("h.example/**", "docker.io/me/**")),
        (&format!("a/b:1@{digest}"), "h.example/b:1", "image", ("docker.io/a/b", "h.example/b")),
    ] {
        let imported = imported(&regsync_with(source, target, kind, ""), None);
        assert_eq!((imported.entries, imported.skipped), (1, 0), "{}", imported.text);
        assert_eq!(ends(&imported), (expected.0.to_owned(), expected.1.to_owned()), "{}", imported.text);
    }
    // regsync lists the catalog of the host `registry`, but copies the listed repositories from Docker Hub.
    assert_eq!(counts(&regsync_with("registry", "h.example", "registry", "")), (0, 1, 0));
}

#[test]
fn regsync_key_that_changes_content_skips_its_entry() {
    for key in [
        "referrers: true\n    referrerSource: attest.example/app",
        "referrers: true\n    referrerTarget: attest.example/app",
        "referrers: true\n    referrerFilters: [{artifactType: application/spdx+json}]",
        "includeExternal: true",
        "mediaTypes: [application/vnd.oci.image.index.v1+json]",
        "platform: local",
        "schedule: '@reboot'",
        "schedule: '0 3 * * 7'",
        "interval: 10s",
        "backup: 'backup.example/app:{{.Ref.Tag}}'",
    ] {
        let own = regsync_with("ghcr.io/a/app", "t.example/app", "repository", &format!("    {key}\n"));
        assert_eq!(counts(&own), (0, 1, 0), "{key}");
        if !key.starts_with("platform") {
            let of_all =
                format!("{}defaults:\n    {key}\n", regsync_with("ghcr.io/a/app", "t.example/app", "repository", ""));
            assert_eq!(counts(&of_all), (0, 1, 0), "defaults: {key}");
        }
    }
    for key in ["hostname: elsewhere.example", "pathPrefix: proxy"] {
        let of_host = regsync_with("ghcr.io/a/app", "t.example/app", "repository", "");
        for host in ["ghcr.io", "t.example"] {
            assert_eq!(counts(&format!("{of_host}creds: [{{registry: {host}, {key}}}]\n")), (0, 1, 0), "{key} {host}");
        }
    }
}

#[test]
fn regsync_key_that_keeps_content_keeps_entry_active() {
    for key in [
        "referrerSource: attest.example/app",
        "referrers: true\n    referrerSource: ghcr.io/a/app\n    referrerTarget: t.example/app",
        "includeExternal: false",
        "referrerSlow: true",
        "forceRecursive: true",
        "ratelimit: {min: 100, retry: 15m}",
        "hooks: {pre: {type: shell, params: [echo]}}",
        "interval: 0s",
        "tags: {}\n    tagSets: []",
    ] {
        let own = regsync_with("ghcr.io/a/app", "t.example/app", "repository", &format!("    {key}\n"));
        assert_eq!(counts(&own), (1, 0, 0), "{key}");
    }
    let hub = regsync_with(
        "busybox",
        "t.example/app",
        "repository",
        "creds: [{registry: docker.io, hostname: registry-1.docker.io}]\n",
    );
    assert_eq!(counts(&hub), (1, 0, 0));
}

#[test]
fn unknown_key_is_named_and_counted() {
    let own = regsync_with("ghcr.io/a/app", "t.example/app", "repository", "    refererSource: x\n");
    assert_eq!(counts(&own), (0, 1, 1));
    let of_all = regsync_with("ghcr.io/a/app", "t.example/app", "repository", "defaults: {surprise: 1}\nstray: 1\n");
    assert_eq!(counts(&of_all), (1, 0, 2));
    let imported = imported(
        "h.example: {images: {a: [v1, 'no tag']}, image: {b: []}}\nregistry: {images: {c: []}}\n",
        Some("t.example"),
    );
    assert_eq!((imported.entries, imported.skipped, imported.unknown), (1, 0, 3), "{}", imported.text);
    for named in ["`image`", "`no tag`", "`registry`"] {
        assert!(imported.remarks.iter().any(|remark| remark.message.contains(named)), "{named}");
    }
}

#[test]
fn regsync_image_with_another_tag_becomes_a_renamed_tag() {
    let entry = |source: &str, target: &str| {
        format!("- {{source: 'h.example/a:{source}', target: 't.example/a:{target}', type: image}}\n")
    };
    let file = |entries: &[(&str, &str)]| {
        let entries: String = entries.iter().map(|(source, target)| entry(source, target)).collect();
        imported(&format!("version: 1\nsync:\n{entries}"), None)
    };
    let merged = file(&[("1", "1"), ("2", "stable"), ("3", "3")]);
    assert_eq!((merged.entries, merged.skipped), (1, 0), "{}", merged.text);
    assert!(merged.text.contains("    rename:\n      \"2\": stable\n"), "{}", merged.text);
    let twice = file(&[("1", "1"), ("1", "stable")]);
    assert_eq!((twice.entries, twice.skipped), (2, 0), "a tag has one name in an entry: {}", twice.text);
    let rival = file(&[("1", "stable"), ("2", "stable")]);
    assert_eq!((rival.entries, rival.skipped), (1, 1), "{}", rival.text);
    assert!(rival.text.contains("writes the tag stable of this target from another tag"), "{}", rival.text);
}

#[test]
fn regsync_selection_of_repositories_becomes_repositories() {
    let repos = |repos: &str| regsync_with("ghcr.io", "t.example/all", "registry", &format!("    repos: {repos}\n"));
    let imported = imported(&repos(r#"{allow: ["team/.*", 'base'], deny: [".*-test"]}"#), None);
    assert_eq!((imported.entries, imported.skipped, imported.unknown), (1, 0, 0), "{}", imported.text);
    let expected = "    repositories:\n      include: [\"re:team/.*\", base]\n      exclude: [\"re:.*-test\"]\n";
    assert!(imported.text.contains(expected), "{}", imported.text);
    assert_eq!(counts(&repos("{allow: ['(']}")), (0, 1, 0));
    assert_eq!(counts(&repos("{only: [a]}")), (0, 1, 1));
}

#[test]
fn empty_tag_set_beside_others_adds_no_tag() {
    let text = regsync_with(
        "h.example/a",
        "t.example/a",
        "repository",
        "    tagSets: [{allow: [v1]}]\n    tags: {allow: []}\n",
    );
    let imported = imported(&text, None);
    assert_eq!(imported.entries, 1, "{}", imported.text);
    assert!(imported.text.contains("include: [v1]\n"), "{}", imported.text);
}

#[test]
fn images_of_one_repository_become_one_entry() {
    let mut text = "version: 1\nsync:\n".to_owned();
    let mut expected = std::collections::BTreeSet::new();
    for at in 0..2000 {
        let (repository, tag) = (format!("component-{:03}", at % 80), format!("v1.{}.0", at / 80));
        text +=
            &format!("- {{source: 'vendor/{repository}:{tag}', target: 'r.example/m-{repository}:{tag}', type: image");
        // Every seventh image has different options than the other images of the repository.
        text += if at % 7 == 0 { ", referrers: true}\n" } else { "}\n" };
        expected.insert((
            format!("docker.io/vendor/{repository}"),
            format!("r.example/m-{repository}"),
            tag,
            at % 7 == 0,
        ));
    }
    let imported = imported(&text, None);
    assert_eq!((imported.entries, imported.skipped), (160, 0));
    let config = crate::config::parse("sync.yaml", &imported.text, &|_| Some("x".into())).unwrap();
    let mut copies = std::collections::BTreeSet::new();
    for entry in &config.entries {
        for tag in entry.selection.literals().unwrap() {
            let copy = (entry.source.to_string(), entry.targets[0].to_string(), tag.to_string(), entry.referrers);
            assert!(copies.insert(copy), "each image is copied once");
        }
    }
    assert_eq!(copies, expected);
}

#[test]
fn target_without_host_is_refused_with_a_remedy() {
    let refused = import_text("f.yml", SKOPEO, &options(Some("registry/mirror"))).unwrap_err().to_string();
    assert!(refused.contains("with a `.` or a port in HOST"), "{refused}");
    let imported = imported(SKOPEO, Some("MYREGISTRY"));
    assert!(imported.text.contains("target: MYREGISTRY/busybox\n"), "{}", imported.text);
}
