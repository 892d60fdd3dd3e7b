//! Test of the vocabulary of JSON: all commands and `/status` use the same names, the same types and documented fields.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::DEADLINE;
use crate::support::registry::Server;
use crate::support::site::{Site, parse};

/// Types of the fields that commands share.
const TYPES: [(&str, &[&str]); 23] = [
    ("run", &["number", "null"]),
    ("entry", &["text", "null"]),
    ("source", &["text"]),
    ("target", &["text"]),
    ("targets", &["list"]),
    ("tag", &["text", "null"]),
    ("digest", &["text", "null"]),
    ("source_digest", &["text", "null"]),
    ("previous", &["text", "null"]),
    ("outcome", &["text", "null"]),
    ("reason", &["text"]),
    ("problems", &["list"]),
    ("warnings", &["list"]),
    ("started", &["instant"]),
    ("ended", &["instant", "null"]),
    ("trigger", &["text"]),
    ("tags", &["list"]),
    ("counts", &["object"]),
    ("bytes", &["number"]),
    ("entries", &["list"]),
    ("registry", &["text"]),
    ("schedule", &["text"]),
    ("at", &["instant"]),
];

/// Names that the vocabulary replaced.
const REPLACED: [&str; 7] = ["error", "problem", "message", "hint", "detail", "why", "figure"];

/// Fields by name, with the types of their values and the commands that print them.
#[derive(Default)]
struct Fields(BTreeMap<String, BTreeSet<(String, &'static str)>>);

impl Fields {
    fn collect(&mut self, command: &str, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.collect(command, item)),
            Value::Object(members) => {
                for (name, member) in members {
                    let types = self.0.entry(name.clone()).or_default();
                    types.insert((command.to_owned(), type_name(member)));
                    self.collect(command, member);
                }
            }
            _ => {}
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    let instant = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d").unwrap();
    let precise = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").unwrap();
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
        Value::String(text) if precise.is_match(text) => "instant",
        Value::String(text) if instant.is_match(text) => "instant with other digits",
        Value::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => "number as text",
        Value::String(_) => "text",
    }
}

/// Returns the JSON of each command, and of `/status`.
fn outputs() -> Vec<(String, Value)> {
    let (source, target, site) = (Server::start(), Server::start(), Site::new());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let (from, to) = (source.host().to_owned(), target.host().to_owned());
    let registries = [&from, &to].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
    let entry = |name: &str, more: &str| {
        format!("- {{name: {name}, source: \"{from}/{name}\", target: \"{to}/{name}\", timezone: UTC{more}}}\n")
    };
    let entries = entry("app", ", schedule: every 6h, tags: {include: [\"v*\", \"gone-*\"]}") + &entry("missing", "");
    site.configure_fully("status: \"127.0.0.1:0\", control: control.sock", &registries, &entries);
    let mut outputs = Vec::new();
    let mut run = |args: &[&str]| {
        let output = site.run(&[args, &["--json"]].concat());
        assert!(!output.stdout.is_empty(), "{args:?}: {}", output.stderr);
        outputs.push((args[0].to_owned(), parse(&output.stdout)));
    };
    run(&["plan"]);
    run(&["once"]);
    run(&["copy", &format!("{from}/app:v1"), &format!("{to}/copied")]);
    images::small(Family::Oci, 2).put(&source, "app", Some("v1"));
    run(&["once", "app"]);
    for command in ["history", "evidence", "next", "limits", "login-check", "check"] {
        run(&[command]);
    }
    run(&["tags", &format!("{to}/app")]);
    run(&["repositories", &to]);
    site.write("broken.yaml", "version: 2\n");
    run(&["check", "broken.yaml"]);
    let mut daemon = site.start(&["run"]);
    let address = daemon.ready();
    run(&["trigger", "--all", "--wait"]);
    run(&["pause", "app"]);
    run(&["resume", "nosuch"]);
    let status = daemon.wait_until("both runs", |_| {
        let status = http::status(&address)?;
        status["entries"].as_array()?.iter().all(|entry| entry["last_run"].is_object()).then_some(status)
    });
    outputs.push(("/status".to_owned(), status));
    daemon.signal("TERM");
    daemon.wait(DEADLINE).expect_success();
    outputs
}

#[test]
fn all_commands_share_names_and_types_of_fields() {
    let outputs = outputs();
    let mut fields = Fields::default();
    outputs.iter().for_each(|(command, output)| fields.collect(command, output));
    let mut problems = Vec::new();
    for (name, types) in &fields.0 {
        // A count of tags, and the problem of a configuration or a journal in /status, are not shared.
        let is_own = |command: &str| command == "/status" && ["problem", "tags"].contains(&name.as_str());
        let allowed = TYPES.iter().find(|(shared, _)| shared == name).map(|(_, allowed)| *allowed);
        for (command, actual) in types.iter().filter(|(command, _)| !is_own(command)) {
            if allowed.is_some_and(|allowed| !allowed.contains(actual)) {
                problems.push(format!("{command}: {name} is {actual}, not {allowed:?}"));
            }
            if actual.contains("digits") || *actual == "number as text" {
                problems.push(format!("{command}: {name} is {actual}"));
            }
            if REPLACED.contains(&name.as_str()) {
                problems.push(format!("{command}: {name} has another name in the vocabulary"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let seen = TYPES.iter().filter(|(name, _)| fields.0.contains_key(*name)).count();
    assert_eq!(seen, TYPES.len(), "{:#?}", fields.0.keys());
}

#[test]
fn json_page_documents_every_field_of_the_commands() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/json.md")).unwrap();
    let documented: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let mut fields = Fields::default();
    let outputs = outputs();
    // The page of the status API documents the fields of /status.
    outputs
        .iter()
        .filter(|(command, _)| command != "/status")
        .for_each(|(command, value)| fields.collect(command, value));
    let missing: Vec<&String> = fields.0.keys().filter(|name| !documented.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(fields.0.len() > 50, "{:?}", fields.0.keys());
}

#[test]
fn copy_has_the_same_entry_in_json_and_in_the_log() {
    let (source, target, site) = (Server::start(), Server::start(), Site::new());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    site.configure(&[source.host(), target.host()], "- {name: x, source: s.example/x, target: t.example/x}");
    let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app", target.host()));
    let output = site.run(&["copy", &from, &to, "--json"]).expect_success();
    assert_eq!(parse(&output.stdout)["entry"], "(copy)");
    assert!(output.stderr.contains("entry=(copy)"), "{}", output.stderr);
    let shown = site.run(&["copy", &from, &to]).expect_success().stdout;
    assert!(shown.starts_with(&format!("{from}: nothing changed")), "{shown}");
}
