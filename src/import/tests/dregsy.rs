//! Tests of whole files of dregsy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{counts, ends, imported};
use crate::import::Program;

fn auth(text: &str) -> String {
    STANDARD.encode(text)
}

/// Returns a dregsy configuration with one task and the mappings.
fn file_with(mappings: &str) -> String {
    format!(
        "relay: skopeo\ntasks:\n- name: one\n  interval: 60\n  source: {{registry: s.example}}\n  \
         target: {{registry: t.example}}\n  mappings:\n{mappings}"
    )
}

#[test]
fn dregsy_file_becomes_valid_configuration_without_secrets() {
    let text = format!(
        r#"
relay: skopeo
skopeo: {{binary: skopeo, certs-dir: /etc/certs}}
lister: {{maxItems: 50}}
watch: true
tasks:
- name: task1
  interval: 60
  verbose: true
  source:
    registry: source-registry.acme.com
    auth: {}
  target:
    registry: dest-registry.acme.com:5000
    auth: {}
    skip-tls-verify: true
  mappings:
  - {{from: test/image, to: archive/test/image, tags: ['0.1.0', '0.1.1']}}
  - {{from: /test/another, platform: linux/arm64/v8}}
  - {{from: 'regex:team/.*', to: mirror, tags: ['semver: >=1.31.0 <1.31.9', 'keep: .+-alpine']}}
- name: once
  source: {{registry: 123456789012.dkr.ecr.eu-central-1.amazonaws.com, auth-refresh: 10h}}
  target: {{registry: eu.gcr.io}}
  mappings: [{{from: base, to: 'regex:ba(.+),project/$1'}}]
"#,
        auth("{\"username\": \"alex\", \"password\": \"hunter2\"}"),
        auth("bob:hunter3"),
    );
    let imported = imported(&text, None);
    let text = &imported.text;
    assert_eq!(
        (imported.form, imported.entries, imported.skipped, imported.unknown),
        (Program::Dregsy, 4, 0, 0),
        "{text}"
    );
    assert!(!text.contains("hunter"), "{text}");
    for expected in [
        "  source-registry.acme.com:\n    credentials:\n      username: alex\n      \
         password: {env: SOURCE_REGISTRY_ACME_COM_PASSWORD}\n",
        "    tls:\n      insecure_skip_verify: true\n",
        "    credentials:\n      aws: {}\n",
        "    credentials:\n      gcp: {}\n",
        "    source: source-registry.acme.com/test/image\n    \
         target: dest-registry.acme.com:5000/archive/test/image\n    tags:\n      \
         include: [\"0.1.0\", \"0.1.1\"]\n    on_start: true\n    schedule: \"every 60s\"\n",
        "    source: source-registry.acme.com/test/another\n    target: dest-registry.acme.com:5000/test/another\n",
        "    platforms: [linux/arm64/v8]\n",
        "    source: \"source-registry.acme.com/**\"\n    target: \"dest-registry.acme.com:5000/mirror/**\"\n    \
         repositories:\n      include: [\"re:team/.*\"]\n    tags:\n      include: [\"re:.+-alpine\"]\n      \
         semver: \">=1.31.0, <1.31.9\"\n",
        "    target: eu.gcr.io/project/se\n    on_start: true\n",
        "# Task `task1` of dregsy.",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
    for key in ["skopeo", "lister", "watch", "verbose"] {
        assert!(imported.remarks.iter().any(|remark| remark.message.contains(&format!("`{key}`"))), "{key}");
    }
}

#[test]
fn dregsy_mapping_without_equivalent_skips_its_entry() {
    for (mapping, expected) in [
        ("  - {from: a, tags: ['keep: latest 3']}\n", (0, 1, 0)),
        ("  - {from: a, tags: ['regex: (']}\n", (0, 1, 0)),
        ("  - {from: 'regex:team/(', to: b}\n", (0, 1, 0)),
        ("  - {from: 'regex:team/.*', to: 'regex:team,other'}\n", (0, 1, 0)),
        ("  - {from: a, to: 'regex:a'}\n", (0, 1, 0)),
        ("  - {from: a, platform: moon}\n", (0, 1, 0)),
        ("  - {from: a, form: b}\n", (0, 1, 1)),
        ("  - {from: a, platform: all}\n", (1, 0, 0)),
        ("  - {from: a, tags: ['1.0', 'semver: >=2.0.0 || <1.0.0']}\n", (3, 0, 0)),
    ] {
        assert_eq!(counts(&file_with(mapping)), expected, "{mapping}");
    }
    let often = file_with("  - {from: a}\n").replace("interval: 60", "interval: 45");
    assert_eq!(counts(&often), (0, 1, 0), "transship runs at most once a minute");
    let elsewhere = file_with("  - {from: 'regex:.*'}\n")
        .replace("{registry: s.example}", "{registry: s.example, lister: {type: index}}");
    assert_eq!(counts(&elsewhere), (0, 1, 0), "the repositories are not from the catalog");
}

#[test]
fn second_login_at_a_registry_becomes_credentials_of_its_entries() {
    let task = |name: &str, source: &str, target: &str| {
        format!("- name: {name}\n  source: {source}\n  target: {target}\n  mappings: [{{from: {name}}}]\n")
    };
    let target = |auth: &str| format!("{{registry: t.example{auth}}}");
    let text = format!(
        "tasks:\n{}{}{}",
        task("a", "{registry: s.example}", &target(&format!(", auth: {}", auth("a:hunter2")))),
        task("b", "{registry: s.example}", &target(&format!(", auth: {}", auth("b:hunter2")))),
        task("c", "{registry: s.example, auth: none}", &target("")),
    );
    let imported = imported(&text, None);
    assert_eq!((imported.entries, imported.skipped), (3, 0), "{}", imported.text);
    for expected in [
        "      username: a\n      password: {env: T_EXAMPLE_PASSWORD}\n",
        "    credentials:\n      target:\n        username: b\n        password: {env: T_EXAMPLE_PASSWORD_2}\n",
        "    credentials:\n      source:\n        anonymous: true\n      target:\n        anonymous: true\n",
    ] {
        assert!(imported.text.contains(expected), "{expected}\n--\n{}", imported.text);
    }
}

#[test]
fn dregsy_task_without_registry_is_refused_with_its_place() {
    let refused =
        |text: &str| crate::import::import_text("f.yml", text, &super::options(None)).unwrap_err().to_string();
    assert!(
        refused("tasks:\n- {name: a, source: {}, target: {registry: t.example}}\n").starts_with("f.yml:2:21: a task")
    );
    assert!(refused("relay: podman\ntasks: []\n").starts_with("f.yml:1:8: `relay` must be docker or skopeo"));
    let text = file_with("  - {from: a}\n");
    assert_eq!(ends(&imported(&text, None)), ("s.example/a".to_owned(), "t.example/a".to_owned()));
}
