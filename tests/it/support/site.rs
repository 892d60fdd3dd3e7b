//! Site of a test: a folder with a `sync.yaml` and a journal, in which transship runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::programs::{DEADLINE, Output, Running, transship_command};

/// Folder with a `sync.yaml`, in which transship runs.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
}

/// Report of `once --json` about one entry.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Site {
    /// Creates an empty folder.
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    /// Creates a folder whose `sync.yaml` has these entries, and plain HTTP for these registries.
    pub fn with(hosts: &[&str], entries: &str) -> Self {
        let site = Self::new();
        site.configure(hosts, entries);
        site
    }

    /// Writes `sync.yaml`: entries as YAML without indentation, and the registries that use plain HTTP.
    pub fn configure(&self, hosts: &[&str], entries: &str) {
        let plain: Vec<String> = hosts.iter().map(|host| format!("\"{host}\": {{plain_http: true}}")).collect();
        self.configure_fully("status: off", &plain.join(", "), entries);
    }

    /// Writes `sync.yaml` with more keys of the daemon, and with registries as the content of a flow mapping. Replaces
    /// the file atomically, as editors and deployments do.
    pub fn configure_fully(&self, daemon: &str, registries: &str, entries: &str) {
        let journal = self.journal().display().to_string();
        let text = format!(
            "version: 1\ndaemon: {{journal: \"{journal}\", {daemon}}}\nregistries: {{{registries}}}\nsync:\n{entries}\n"
        );
        self.write("sync.yaml", &text);
    }

    /// Writes a file atomically.
    pub fn write(&self, name: &str, text: &str) {
        let (file, new) = (self.path(name), self.path(&format!("{name}.new")));
        std::fs::write(&new, text).expect("a file in a temporary folder");
        std::fs::rename(new, file).expect("a name in a temporary folder");
    }

    /// Returns a path within the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the path of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path("journal.db")
    }

    /// Returns the folder itself.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the command of transship in the folder, with its `sync.yaml`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = transship_command(args);
        command.current_dir(self.folder()).env("TRANSSHIP_CONFIG", "sync.yaml");
        command.env("XDG_STATE_HOME", self.path("state"));
        command
    }

    /// Starts transship in parallel to the test.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Runs transship to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait(DEADLINE)
    }

    /// Runs `once`, which must end with 0. Returns its summary.
    #[track_caller]
    pub fn once(&self) -> String {
        self.run(&["once"]).expect_success().stdout
    }

    /// Runs `once --json`, which must end with this code. Returns the report of the only entry.
    #[track_caller]
    pub fn report(&self, code: i32) -> Report {
        let mut reports = self.reports(code);
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    /// Runs `once --json`, which must end with this code. Returns the reports of all entries.
    #[track_caller]
    pub fn reports(&self, code: i32) -> Vec<Report> {
        let output = self.run(&["once", "--json"]);
        assert_eq!(output.code(), code, "stdout: {}\nstderr: {}", output.stdout, output.stderr);
        let Value::Array(reports) = parse(&output.stdout) else { panic!("no list: {}", output.stdout) };
        reports.into_iter().map(Report).collect()
    }

    /// Returns the output of `evidence --json`, latest first.
    #[track_caller]
    pub fn evidence(&self, filters: &[&str]) -> Vec<Value> {
        self.list("evidence", filters)
    }

    /// Returns the output of `history --json`, latest first.
    #[track_caller]
    pub fn history(&self, filters: &[&str]) -> Vec<Value> {
        self.list("history", filters)
    }

    #[track_caller]
    fn list(&self, command: &str, filters: &[&str]) -> Vec<Value> {
        let output = self.run(&[&[command, "--json"], filters].concat()).expect_success();
        let Value::Array(rows) = parse(&output.stdout) else { panic!("no list: {}", output.stdout) };
        rows
    }
}

impl Report {
    /// Returns the report of each tag (or digest) at each target.
    pub fn tags(&self) -> Vec<&Value> {
        self.0["tags"].as_array().into_iter().flatten().collect()
    }

    /// Returns the outcome of each tag, by name. A tag must have the same outcome at all targets.
    #[track_caller]
    pub fn outcomes(&self) -> BTreeMap<String, String> {
        let mut outcomes = BTreeMap::new();
        for tag in self.tags() {
            let name = tag["tag"].as_str().or(tag["digest"].as_str()).unwrap_or("?").to_owned();
            let outcome = tag["outcome"].as_str().unwrap_or("?").to_owned();
            let before = outcomes.insert(name, outcome.clone());
            assert!(before.is_none_or(|before| before == outcome), "{:#}", self.0);
        }
        outcomes
    }

    /// Returns the report of one tag.
    #[track_caller]
    pub fn tag(&self, name: &str) -> &Value {
        self.tags().into_iter().find(|tag| tag["tag"] == name).unwrap_or_else(|| panic!("no {name} in {:#}", self.0))
    }

    /// Returns the messages of failures that concern no tag.
    pub fn problems(&self) -> Vec<&str> {
        self.0["problems"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// Parses the JSON of a program's output.
#[track_caller]
pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
