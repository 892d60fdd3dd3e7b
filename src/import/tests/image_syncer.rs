//! Tests of whole files of image-syncer.

use super::{counts, imported, options};
use crate::config::parse_foreign;
use crate::import::{ImportError, Imported, Program, translate};

const IMAGES: &str = "
quay.io/coreos/kube-rbac-proxy: quay.io/ruohe/kube-rbac-proxy
quay.io/coreos/kube-rbac-proxy:v1.0: r.example/ruohe/kube-rbac-proxy
quay.io/coreos/kube-rbac-proxy:v1.0,v2.0: s.example/ruohe/kube-rbac-proxy
quay.io/coreos/kube-rbac-proxy:v1.1:
  - quay.io/ruohe/kube-rbac-proxy1
  - quay.io/ruohe/kube-rbac-proxy2
quay.io/coreos/kube-rbac-proxy:/a+/: t.example/ruohe/kube-rbac-proxy
nginx:1: '${REGISTRY}/nginx'
";

const AUTH: &str = r#"
quay.io: {username: xxx, password: hunter2, insecure: true}
quay.io/coreos: {username: abc, password: hunter3, insecure: true}
r.example: {username: "${USER_NAME}", password: $TOKEN}
"#;

/// Imports a file of images with a separate file of credentials.
fn with_auth(images: &str, auth: &str) -> Result<Imported, ImportError> {
    let [images, auth] = [("images.yaml", images), ("auth.yaml", auth)]
        .map(|(name, text)| parse_foreign(name, text).unwrap_or_else(|problems| panic!("{problems}")));
    translate(&images, Some(&auth), &options(None))
}

#[test]
fn image_syncer_files_become_valid_configuration_without_secrets() {
    let imported = with_auth(IMAGES, AUTH).unwrap();
    let text = &imported.text;
    crate::config::parse("sync.yaml", text, &|_| Some("x.example".into()))
        .unwrap_or_else(|found| panic!("{found}\n{text}"));
    assert_eq!((imported.form, imported.entries, imported.skipped), (Program::ImageSyncer, 7, 0), "{text}");
    assert!(!text.contains("hunter"), "{text}");
    for expected in [
        "  quay.io:\n    credentials:\n      username: xxx\n      password: {env: QUAY_IO_PASSWORD}\n    \
         tls:\n      insecure_skip_verify: true\n",
        "      username: \"${USER_NAME}\"\n      password: {env: TOKEN}\n",
        "    source: quay.io/coreos/kube-rbac-proxy\n    target: quay.io/ruohe/kube-rbac-proxy\n    \
         credentials:\n      source:\n        username: abc\n        password: {env: QUAY_IO_PASSWORD_2}\n",
        "      include: [v1.0, v2.0]\n",
        "    target: quay.io/ruohe/kube-rbac-proxy2\n",
        "      include: [\"re:.*a+.*\"]\n",
        "    source: docker.io/library/nginx\n    target: \"${REGISTRY}/nginx\"\n    tags:\n      include: [\"1\"]\n",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
    let named: Vec<String> = imported.remarks.iter().map(|remark| format!("{}:{}", remark.file, remark.line)).collect();
    assert!(named.contains(&"auth.yaml:2".to_owned()), "{named:?}");
}

#[test]
fn image_syncer_rule_without_equivalent_skips_its_entry() {
    let digest = format!("sha256:{}", "1".repeat(64));
    for (rule, expected) in [
        (format!("q.io/a@{digest}: r.example/a"), (1, 0, 0)),
        (format!("q.io/a@{digest}: r.example/a:v1"), (1, 0, 0)),
        (format!("q.io/a:v1: r.example/a@{digest}"), (0, 1, 0)),
        ("q.io/a:v1,v2: r.example/a:v1,two".to_owned(), (1, 0, 0)),
        ("q.io/a:v1,v2: r.example/a:one,one".to_owned(), (0, 1, 0)),
        ("q.io/a: r.example/a:v1".to_owned(), (0, 1, 0)),
        ("q.io/a:v1,v2: r.example/a:v1".to_owned(), (0, 1, 0)),
        ("q.io/a:v1: q.io/a".to_owned(), (0, 1, 0)),
        ("q.io/a:v1: r.example/a:$TAG".to_owned(), (0, 1, 0)),
        ("q.io/a:/(/: r.example/a".to_owned(), (0, 1, 0)),
    ] {
        assert_eq!(counts(&rule), expected, "{rule}");
    }
}

#[test]
fn whole_image_syncer_file_has_literal_dollars_in_auth() {
    let text =
        "auth: {q.io: {username: me, password: $TOKEN}, q.io/b: {username: me}}\nimages: {q.io/a:v1: r.example/a}\n";
    let imported = imported(text, None);
    assert!(imported.text.contains("password: {env: Q_IO_PASSWORD}"), "{}", imported.text);
    assert!(!imported.text.contains("TOKEN}"), "{}", imported.text);
}

#[test]
fn certificates_of_single_namespaces_skip_their_entries() {
    let auth = "q.io/b: {username: me, password: x, insecure: true}\n";
    let imported = with_auth("q.io/a: r.example/a\nq.io/b/c: r.example/c\n", auth).unwrap();
    assert_eq!((imported.entries, imported.skipped), (1, 1), "{}", imported.text);
    assert!(imported.text.contains("image-syncer verifies the certificate of q.io"), "{}", imported.text);
}

#[test]
fn authentication_alone_is_refused_with_a_remedy() {
    let refused = |text: &str| crate::import::import_text("f.json", text, &options(None)).unwrap_err().to_string();
    assert!(
        refused("{\"q.io\": {\"username\": \"a\", \"password\": \"b\"}}").contains("give the file with the images")
    );
    let target = crate::import::import_text("f.yml", "q.io/a: r.example/a\n", &options(Some("t.example"))).unwrap_err();
    assert!(target.to_string().contains("f.yml is a configuration of image-syncer"), "{target}");
    assert!(
        with_auth("sync: []\n", AUTH).unwrap_err().to_string().contains("--auth is for"),
        "regsync has no such file"
    );
}
