//! Tests of included files: lines and columns, problems, and files that are refused.

use std::path::PathBuf;

use super::content::content;
use crate::config::{Config, Problems, load};
use crate::oci::Digest;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.0.path().join("conf.d")).unwrap();
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("sync.yaml")
    }

    fn load(&self) -> Result<Config, String> {
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let shown = |problems: Problems| problems.to_string().replace(&self.0.path().display().to_string(), "");
        load(&self.main(), &environment).map_err(shown)
    }

    fn content(&self) -> Option<(Digest, Vec<PathBuf>)> {
        content(&self.main(), &|_| None)
    }
}

const MAIN: &str = "version: 1\ninclude: conf.d/*.yaml\ndefaults: {timeout: 1h}\nsync:\n  - \
                    {name: a, source: h.example/a, target: t.example/a}\n";
const TEAM: &str =
    "registries: {t.example: {plain_http: true}}\nsync:\n  - {name: b, source: h.example/b, target: t.example/b}\n";

#[test]
fn included_entries_follow_and_have_the_defaults() {
    let folder = Folder::new(&[("sync.yaml", MAIN), ("conf.d/team.yaml", TEAM), ("conf.d/not.txt", "wrong: [")]);
    folder.write("conf.d/empty.yaml", "# nothing yet\n");
    let config = folder.load().unwrap();
    let names: Vec<String> = config.entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(config.entries.iter().all(|entry| entry.timeout == Some(std::time::Duration::from_secs(3600))));
    assert_eq!(config.registries.len(), 1);
}

#[test]
fn a_file_that_only_includes_others_is_a_configuration() {
    let folder = Folder::new(&[("sync.yaml", "version: 1\ninclude: [conf.d/team.yaml]\n"), ("conf.d/team.yaml", TEAM)]);
    assert_eq!(folder.load().unwrap().entries.len(), 1);
}

#[test]
fn problem_names_its_own_file_and_line() {
    let folder = Folder::new(&[("sync.yaml", MAIN), ("conf.d/team.yaml", TEAM)]);
    folder.write(
        "conf.d/x.yaml",
        "sync:\n  - {name: c, sorce: h.example/b, target: t.example/c}\n  - \
                                   {name: a, source: h.example/b, target: t.example/c}\n",
    );
    let shown = folder.load().unwrap_err();
    assert!(shown.contains("/conf.d/x.yaml:2:15: unknown key `sorce` in an entry"), "{shown}");
    assert!(shown.contains("2 |   - {name: c, sorce: ***, target: t.example/c}"), "{shown}");
    assert!(
        shown.contains("/conf.d/x.yaml:3:12:") && shown.contains("(first occurrence in line 5 of /sync.yaml)"),
        "{shown}"
    );
}

#[test]
fn forbidden_content_of_an_included_file_is_named() {
    let folder = Folder::new(&[("sync.yaml", MAIN)]);
    for (text, expected) in [
        ("version: 1\n", "/conf.d/x.yaml:1:1: the key `version` is not allowed in an included file"),
        ("daemon: {memory: 1GiB}\n", "/conf.d/x.yaml:1:1: the key `daemon` is not allowed in an included file"),
        ("sync: {}\n", "/conf.d/x.yaml:1:7: `sync` must be a list of entries"),
        ("- a\n", "/conf.d/x.yaml:1:1: an included file must be a map with `registries` or `sync`"),
        ("sync: [b\n  c: d\n", "/conf.d/x.yaml:1:7: a list or map in brackets is not closed"),
    ] {
        folder.write("conf.d/x.yaml", text);
        let shown = folder.load().unwrap_err();
        assert!(shown.starts_with(expected), "{shown}");
    }
    let missing = Folder::new(&[("sync.yaml", "version: 1\ninclude: [conf.d/*.yaml, more.yaml]\nsync: []\n")]);
    let shown = missing.load().unwrap_err();
    assert!(shown.starts_with("/sync.yaml:2:26: there is no file /more.yaml\n"), "{shown}");
}

#[test]
fn a_pattern_without_a_file_is_a_warning_at_its_place() {
    let text = "version: 1\ninclude: [conf.d/*.yaml, \"more/*.yml\"]\nsync: []\n";
    let folder = Folder::new(&[("sync.yaml", text)]);
    folder.write("conf.d/team.yaml", TEAM);
    let warnings = folder.load().unwrap().warnings;
    let shown: Vec<String> = warnings.iter().map(|warning| warning.text.clone()).collect();
    let shown = shown.join("\n").replace(&folder.0.path().display().to_string(), "");
    assert_eq!(shown, "/sync.yaml:2:26: no file matches /more/*.yml, so this pattern includes nothing");
}

#[test]
fn pattern_over_the_whole_disk_is_refused_with_a_remedy() {
    let folder = Folder::new(&[("sync.yaml", "version: 1\ninclude: \"/**/*.transship-none\"\nsync: []\n")]);
    let shown = folder.load().unwrap_err();
    assert!(shown.starts_with("/sync.yaml:2:10: /**/*.transship-none: "), "{shown}");
}

#[test]
fn a_file_that_is_no_configuration_shows_none_of_its_lines() {
    let folder = Folder::new(&[("sync.yaml", MAIN)]);
    for secret in [
        "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
        "root:$6$hunter2$abc:19000:0:99999:7:::\n",
        "hunter2\n",
        "- hunter2\n",
        "apiVersion: v1\nkind: Secret\ndata: {hunter2: hunter2}\n",
        "hunter2: [\n",
        "machine x login y password \"hunter2\n",
        "-----BEGIN PRIVATE KEY-----\nhunter2: \t[\n",
        "KEY=hunter2\nOTHER=`hunter2`\n",
        "{\"hunter2\": {\"auth\": \"hunter2\"}}\n",
        "*hunter2\n",
        "a: !!int hunter2\n",
        "a: b: hunter2\n",
    ] {
        folder.write("conf.d/x.yaml", secret);
        let shown = folder.load().unwrap_err();
        assert!(shown.starts_with("/conf.d/x.yaml:"), "{shown}");
        for piece in ["hunter2", "root", "19000", "|"] {
            assert!(!shown.contains(piece), "{secret}\n{shown}");
        }
        folder.write("conf.d/x.yaml", "# nothing\n");
        let path = folder.0.path().join("other");
        std::fs::write(&path, secret).unwrap();
        let shown = load(&path, &|_| None).unwrap_err().to_string();
        for piece in ["hunter2", "root", "19000", "|"] {
            assert!(!shown.contains(piece), "{secret}\n{shown}");
        }
    }
}

#[test]
fn a_pipe_a_device_or_a_huge_file_is_refused_without_waiting() {
    let folder = Folder::new(&[("sync.yaml", MAIN)]);
    let made = std::process::Command::new("mkfifo").arg(folder.0.path().join("conf.d/x.yaml")).status().unwrap();
    assert!(made.success());
    let shown = folder.load().unwrap_err();
    assert_eq!(shown, "/conf.d/x.yaml: cannot be read: a pipe, not a regular file");
    assert!(folder.content().is_some());
    std::fs::remove_file(folder.0.path().join("conf.d/x.yaml")).unwrap();
    let large = std::fs::File::create(folder.0.path().join("conf.d/x.yaml")).unwrap();
    large.set_len(3 << 30).unwrap();
    let shown = folder.load().unwrap_err();
    assert_eq!(shown, "/conf.d/x.yaml: is larger than 16MiB, the maximum size of a configuration");
}

#[test]
fn content_changes_with_each_file_and_lists_watched_paths() {
    let folder = Folder::new(&[("sync.yaml", MAIN), ("conf.d/team.yaml", TEAM)]);
    let (first, watched) = folder.content().unwrap();
    assert_eq!(watched, [folder.0.path().join("conf.d/*.yaml"), folder.main()]);
    assert_eq!(folder.content().unwrap().0, first);
    folder.write("conf.d/not.txt", "is not included");
    assert_eq!(folder.content().unwrap().0, first);
    let mut seen = vec![first];
    folder.write("conf.d/team.yaml", "sync: []\n");
    seen.push(folder.content().unwrap().0);
    folder.write("conf.d/new.yaml", "");
    seen.push(folder.content().unwrap().0);
    std::fs::remove_file(folder.0.path().join("conf.d/new.yaml")).unwrap();
    folder.write("sync.yaml", "version: 1\nsync: []\n");
    seen.push(folder.content().unwrap().0);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    std::fs::remove_file(folder.main()).unwrap();
    assert_eq!(folder.content(), None);
}
