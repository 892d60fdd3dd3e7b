//! Tests of the completion script of bash, run by bash.

use std::path::Path;
use std::process::Command;

use crate::support::programs::{DEADLINE, Running, transship, transship_command};
use crate::support::site::Site;

const ENTRIES: &str = "- {name: api, source: s.example/a, target: t.example/a}\n\
                       - {name: app-one, source: s.example/b, target: t.example/b}\n\
                       - {name: base, source: s.example/c, target: t.example/c}";

/// Returns the candidates that bash computes for the last word of a command line.
fn complete(site: &Site, words: &[&str]) -> Vec<String> {
    std::fs::write(site.path("script"), transship(&["completions", "bash"]).expect_success().stdout).unwrap();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let last = quoted.last().unwrap();
    let script = format!(
        "source ./script; COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; _clap_complete_transship transship {last} x; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words.len() - 1
    );
    let program = transship_command(&[]).get_program().to_owned();
    let folder = Path::new(&program).parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).current_dir(site.folder()).env("PATH", path).env_remove("TRANSSHIP_CONFIG");
    let output = Running::start(&mut bash).wait(DEADLINE).expect_success();
    assert_eq!(output.stderr, "");
    output.stdout.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn bash_completes_names_of_entries_from_the_configuration() {
    let site = Site::with(&["s.example", "t.example"], ENTRIES);
    assert_eq!(complete(&site, &["transship", "once", "ap"]), ["api", "app-one"]);
    assert_eq!(complete(&site, &["transship", "pause", "--all", "b"]), ["base"]);
    assert_eq!(complete(&site, &["transship", "history", "app"]), ["app-one"]);
    assert_eq!(complete(&site, &["transship", "limits", "s"]), ["s.example"]);
    assert_eq!(complete(&site, &["transship", "evid"]), ["evidence"]);
}

#[test]
fn bash_completes_from_the_named_configuration_only() {
    let site = Site::with(&[], ENTRIES);
    site.write("other.yaml", "version: 1\nsync: [{name: apart, source: s.example/a, target: t.example/a}]\n");
    assert_eq!(complete(&site, &["transship", "once", "-c", "other.yaml", "ap"]), ["apart"]);
    assert_eq!(complete(&site, &["transship", "--config", "missing.yaml", "once", "ap"]), Vec::<String>::new());
}
