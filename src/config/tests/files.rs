//! Tests of unreadable files, of URLs as paths, and of very long files.

use std::fs;
use std::path::Path;

use super::support::{environment, read};
use crate::config::load;

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        load(&path, &environment).unwrap_err().to_string().replace(&*path.to_string_lossy(), name)
    };
    let missing = load(Path::new("no/such/sync.yaml"), &environment).unwrap_err().to_string();
    assert_eq!(missing, "no/such/sync.yaml: cannot be read: No such file or directory (os error 2)");
    assert_eq!(
        problem("large", &vec![b'#'; (16 << 20) + 1]),
        "large: is larger than 16MiB, the maximum size of a configuration"
    );
    let zero = load(Path::new("/dev/zero"), &environment).unwrap_err().to_string();
    assert_eq!(zero, "/dev/zero: cannot be read: a device, not a regular file");
    assert_eq!(problem("latin", b"version: 1\n# caf\xe9\n"), "latin: is not UTF-8 text (line 2)");
    let path = folder.path().join("good.yaml");
    fs::write(&path, "\u{feff}version: 1\r\nsync: []\r\n").unwrap();
    assert!(load(&path, &environment).is_ok(), "a byte order mark and CRLF are fine");
}

#[test]
fn a_url_in_the_place_of_a_path_is_refused() {
    let entry = "{name: a, source: h.example/a, target: h.example/b}";
    let with_keys = |keys: &str| format!("version: 1\nsync: [{entry}]\n{keys}\n");
    let credentials = |keys: &str| with_keys(&format!("registries: {{h.example: {{credentials: {{{keys}}}}}}}"));
    for text in [
        with_keys("daemon: {journal: \"postgres://me:hunter2@db/transship\"}"),
        with_keys("daemon: {journal: \"sqlite:journal.db\"}"),
        with_keys("daemon: {journal: \"file:/var/lib/journal.db\"}"),
        with_keys("daemon: {control: \"unix:///run/control.sock\"}"),
        with_keys("registries: {h.example: {tls: {ca: \"https://h.example/ca.pem\"}}}"),
        with_keys("registries: {h.example: {tls: {certificate: \"https://h.example/ca.pem\"}}}"),
        with_keys("include: \"https://h.example/sync.yaml\""),
        credentials("docker_config: \"https://h.example/config.json\""),
        credentials("token: {file: \"vault://secret/token\"}"),
        credentials("gcp: {key: \"gs://bucket/key.json\"}"),
    ] {
        let problems = read(&text).unwrap_err().to_string();
        assert!(problems.contains("found a URL: only local files"), "{text}\n{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let layout = read("version: 1\nsync: [{name: a, source: h.example/a, target: \"oci-layout:s3://bucket/a\"}]\n");
    assert!(layout.unwrap_err().to_string().contains("a layout is a folder on this machine, not a URL"));
    for path in ["C:journal", "./a:b/journal.db", "/var/lib/a:/journal.db", "a:b"] {
        assert!(read(&with_keys(&format!("daemon: {{journal: \"{path}\"}}"))).is_ok(), "{path}");
    }
}

#[test]
fn configuration_of_seventy_five_hundred_entries_is_read() {
    let mut text = String::from("version: 1\nsync:\n");
    for at in 0..7_500 {
        text += &format!(
            "  - name: e{at}\n    source: a.example/x/y{at}\n    target: b.example/x/y{at}\n    tags: \
             {{include: [\"1\", \"2\", \"3\"]}}\n    schedule: \"0 3 * * *\"\n"
        );
    }
    assert_eq!(read(&text).unwrap().entries.len(), 7_500);
    let mut text = String::from("version: 1\nsync:\n");
    for at in 0..300 {
        let tags: Vec<String> = (0..25).map(|tag| format!("\"{tag}.{at}\"")).collect();
        text += &format!(
            "  - {{name: e{at}, source: a.example/y{at}, target: b.example/y{at}, tags: {{include: [{}]}}}}\n",
            tags.join(", ")
        );
    }
    assert_eq!(read(&text).unwrap().entries.len(), 300);
}

#[test]
fn number_of_reported_problems_is_limited() {
    let text = format!("version: 1\nsync:\n{}", "  - {name: a}\n".repeat(5000));
    let started = std::time::Instant::now();
    let problems = read(&text).unwrap_err();
    assert_eq!(problems.as_slice().len(), 50);
    assert_eq!(problems.as_slice().len() + problems.more(), 5000 * 3 - 1);
    assert!(problems.to_string().ends_with("and 14949 more problems"), "took {:?}", started.elapsed());
}
