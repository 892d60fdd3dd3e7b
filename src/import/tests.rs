//! Whole files of both forms, and what our own reader says of the result.

use super::*;

fn order(target: Option<&str>) -> Order {
    Order { target: target.map(str::to_owned), ..Order::default() }
}

/// The result, which must be a configuration.
fn imported(text: &str, target: Option<&str>) -> Imported {
    let imported = import_text("theirs.yml", text, &order(target)).unwrap_or_else(|error| panic!("{error}"));
    if let Err(problems) = crate::config::parse("sync.yaml", &imported.text, &|_| Some("x".into())) {
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
  - {source: alpine, target: "registry:5000/library/alpine", type: repository, tags: *tags, schedule: "0 3 * * *", hooks: {}}
  - {source: debian, target: "registry:5000/debian", type: repository, tags: {semverRange: ["<2", ">=11 <13"]}, platforms: [linux/amd64]}
  - {source: ghcr.io, target: "registry:5000/ghcr", type: registry}
"#;

#[test]
fn a_file_of_regsync_becomes_a_good_configuration_without_its_secrets() {
    let imported = imported(REGSYNC, None);
    let text = &imported.text;
    assert_eq!((imported.form, imported.entries, imported.left_out), (Form::Regsync, 5, 1), "{text}");
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
        "# left out: it gives the image another name",
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
fn a_file_of_skopeo_becomes_a_good_configuration_without_its_secrets() {
    let imported = imported(SKOPEO, Some("mirror.example/repo/"));
    let text = &imported.text;
    assert_eq!((imported.form, imported.entries, imported.left_out), (Form::Skopeo, 5, 1), "{text}");
    assert!(!text.contains("this is a secret"), "{text}");
    for expected in [
        "    source: registry.example.com/busybox\n    target: mirror.example/repo/busybox\n",
        "      include: [\"1.0\", \"@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n",
        "      include: ['re:1\\.13\\.[12]-alpine-perl']\n",
        "      exclude: [\"*-*\", \"*_*\"]\n      semver: \">=3.12.0\"\n",
        "      password: {env: REGISTRY_EXAMPLE_COM_PASSWORD}\n",
        "      insecure_skip_verify: true\n",
        "# left out: another entry writes the tag 1.0 of this target from another source",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
}

#[test]
fn scoped_names_hold_the_whole_source() {
    let order = Order { scoped: true, ..order(Some("mirror.example")) };
    let imported = import_text("f", SKOPEO, &order).unwrap();
    assert!(imported.text.contains("target: mirror.example/quay.io/coreos/etcd\n"), "{}", imported.text);
}

#[test]
fn what_cannot_be_imported_is_refused_with_its_place() {
    let message = |text: &str, target| import_text("f.yml", text, &order(target)).unwrap_err().to_string();
    assert!(message("sync: [", None).starts_with("f.yml:"));
    assert!(message("a: 1", None).starts_with("f.yml looks neither like regsync's"));
    assert!(message(SKOPEO, None).contains("--target HOST[/PREFIX]"));
    assert!(message(REGSYNC, Some("h.example")).contains("names its targets itself"));
    assert!(message("sync:\n  - {source: a, type: image}\n", None).starts_with("f.yml:2:5: an entry has"));
    assert!(message("sync: {}\ncreds: []\n", None).starts_with("f.yml:1:7: expected `sync`: a list"));
}
