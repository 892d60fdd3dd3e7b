//! Mistakes in `sync.yaml` that people make. `tests/config/mistakes` has one file a mistake, and beside each file the
//! expected output of `transship check` with its exit code. `UPDATE_REFERENCE=1` writes these outputs; read the outputs
//! before you commit them. Mistakes that only a registry shows are tests of their own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Output, Running, transship_command};
use crate::support::registry::{Auth, Server, Setup};
use crate::support::site::{Site, parse};

const CORPUS: &str = "tests/config/mistakes";

/// Content of every secret of the corpus. No output may contain it.
const SECRET: &str = "hunter2";

/// Files that are no mistakes: transship reads a spelling that other programs refuse.
const ACCEPTED: [&str; 17] = [
    "document-marker-first",
    "duration-in-days",
    "duration-with-long-unit",
    "file-in-json",
    "file-with-byte-order-mark",
    "file-with-crlf",
    "include-as-text",
    "interval-with-long-unit",
    "name-as-boolean",
    "platforms-as-text",
    "registry-with-docker-alias",
    "secret-from-file-with-crlf",
    "secret-from-file-with-line-breaks",
    "secret-from-variable-with-line-break",
    "semver-caret",
    "size-with-space",
    "source-with-short-name",
];

/// Copies the corpus to the folder of a site, and sets what a repository of files cannot contain.
fn site() -> Site {
    let site = Site::new();
    for folder in ["", "conf.d", "files"] {
        let target = site.path(folder);
        fs::create_dir_all(&target).unwrap();
        for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(CORPUS).join(folder), |_| true) {
            fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
    fs::set_permissions(site.path("files/writable"), Permissions::from_mode(0o666)).unwrap();
    symlink("circle", site.path("files/circle")).unwrap();
    site
}

/// Returns the files of a folder, sorted.
fn files(folder: &Path, is_wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && is_wanted(path));
    files.sort();
    files
}

fn check(site: &Site, file: &str, arguments: &[&str]) -> Output {
    let mut command = transship_command(&[&["check", "--config", file], arguments].concat());
    command.current_dir(site.folder()).env("XDG_STATE_HOME", site.path("state"));
    command.envs([("EMPTY", ""), ("PASSWORD", SECRET), ("TWO_LINES", "me\nhunter2")]);
    command.env("PASSWORD_WITH_LINE_BREAK", format!("{SECRET}\n"));
    Running::start(&mut command).wait(DEADLINE)
}

/// Returns the names of the mistakes, each with its file name.
fn mistakes(site: &Site) -> Vec<(String, String)> {
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let paths = files(site.folder(), |path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.iter().map(|path| (name(path), format!("{}.yaml", name(path)))).collect()
}

#[test]
fn output_of_check_for_every_mistake_is_current() {
    let site = site();
    let (mistakes, mut different) = (mistakes(&site), Vec::new());
    assert!(mistakes.len() >= 131, "only {} files", mistakes.len());
    for (name, file) in mistakes {
        let output = check(&site, &file, &[]);
        let printed = format!("exit code {}\n{}{}", output.code(), output.stdout, output.stderr);
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join(CORPUS).join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            fs::write(&expected, &printed).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if printed != expected {
            different.push(format!("--- {name}, expected\n{expected}--- {name}, found\n{printed}"));
        }
        assert!(!printed.contains(SECRET), "{name} shows a secret:\n{printed}");
    }
    assert!(
        different.is_empty(),
        "{}\n`UPDATE_REFERENCE=1 tests/run is_current` writes these outputs",
        different.join("\n")
    );
}

#[test]
fn every_mistake_is_reported_with_its_place_and_remedy() {
    let site = site();
    let mut accepted = Vec::new();
    for (name, file) in mistakes(&site) {
        let output = check(&site, &file, &["--json"]);
        let report = parse(&output.stdout);
        let found = |key: &str| report[key].as_array().cloned().unwrap_or_default();
        let (problems, warnings) = (found("problems"), found("warnings"));
        assert_eq!(output.code(), if problems.is_empty() { 0 } else { 2 }, "{name}: {report:#}");
        if problems.is_empty() && warnings.is_empty() {
            accepted.push(name);
            continue;
        }
        for problem in problems {
            let (message, hint) = (problem["message"].as_str().unwrap_or_default(), problem["hint"].as_str());
            let remedies = ["write", "expected", "only", "lower-case", "save", "cannot be read"];
            let has_remedy = hint.is_some() || remedies.iter().any(|word| message.contains(word));
            let is_plain = message.contains("duplicate") || message.contains("there is no file");
            assert!(has_remedy || is_plain || is_explained(&name), "{name}: {problem:#}");
            let is_whole_file = problem["line"] == 0 && problem["message"].as_str().is_some_and(is_about_whole_file);
            assert!(problem["line"].as_u64() > Some(0) || is_whole_file, "{name}: {problem:#}");
        }
        for warning in warnings {
            assert!(warning["remedy"].is_string() || warning["text"].to_string().contains("write"), "{name}");
        }
    }
    assert_eq!(accepted, ACCEPTED);
}

fn is_about_whole_file(message: &str) -> bool {
    ["UTF-8", "cannot be read"].iter().any(|part| message.contains(part))
}

/// Returns true for a message that needs no remedy, because the message itself is one.
fn is_explained(name: &str) -> bool {
    ["cron-hour-out-of-range", "quote-unclosed", "regex-unclosed", "secret-from-empty-variable"].contains(&name)
        || name.starts_with("secret-from-unset")
}

#[test]
fn file_that_is_no_file_is_refused_by_name() {
    let site = site();
    for (file, expected) in [
        ("no-such-file.yaml", "no-such-file.yaml: cannot be read: No such file or directory"),
        ("conf.d", "conf.d: cannot be read: a directory, not a regular file"),
    ] {
        let output = check(&site, file, &[]);
        assert_eq!(output.code(), 2, "{file}");
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}

#[test]
fn problem_of_an_included_file_has_the_name_of_that_file() {
    let site = site();
    let report = parse(&check(&site, "include-with-mistake.yaml", &["--json"]).stdout);
    let problem = &report["problems"][0];
    assert_eq!(
        (&problem["file"], &problem["line"], &problem["column"]),
        (&Value::from("conf.d/mistake.yaml"), &Value::from(3), &Value::from(5))
    );
    assert_eq!(report["file"], "include-with-mistake.yaml");
}

/// Creates a source with one image `app:v1`, a target, and a site that copies `source` of that source to the target.
fn run_time_mistake(source: &str, keys: &str) -> (Server, Server, Site) {
    let (from, to) = (Server::start(), Server::start());
    images::small(Family::Oci, 1).put(&from, "app", Some("v1"));
    let target = if source.ends_with("**") { "mirror/**" } else { "mirror/app" };
    let entry = format!(
        "- {{name: app, source: \"{}/{source}\", target: \"{}/{target}\", tags: {{{keys}}}}}",
        from.host(),
        to.host()
    );
    let site = Site::with(&[from.host(), to.host()], &entry);
    (from, to, site)
}

#[test]
fn pattern_without_a_matching_tag_is_a_warning_of_plan_and_once() {
    let (from, _to, site) = run_time_mistake("app", "include: [\"9.*\"]");
    let expected =
        format!("warning: \"9.*\" under `include` matches no tag of {}/app: correct the pattern", from.host());
    for command in ["plan", "once"] {
        let output = site.run(&[command]).expect_success();
        assert!(output.stdout.contains(&expected), "{command}: {}", output.stdout);
    }
}

#[test]
fn prefix_without_repositories_is_a_warning_and_fails_login_check() {
    let (from, _to, site) = run_time_mistake("nosuch/**", "");
    let expected = format!("{}/nosuch/** has no repositories: check the prefix", from.host());
    for command in ["plan", "once"] {
        let output = site.run(&[command]).expect_success();
        assert!(output.stdout.contains(&format!("warning: {expected}")), "{command}: {}", output.stdout);
    }
    let output = site.run(&["login-check"]);
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert!(output.stdout.contains(&format!("readable, but {expected}")), "{}", output.stdout);
}

#[test]
fn secret_with_line_breaks_logs_in_from_variable_and_file() {
    let auth = Auth::Basic("mirror".to_owned(), SECRET.to_owned());
    let source = Server::with(Setup { auth, ..Setup::default() });
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let target = Server::start();
    for password in ["{env: PASSWORD_LINES}", "{file: password}"] {
        let site = Site::new();
        site.write("password", &format!("{SECRET}\n\n"));
        let registries = format!(
            "\"{}\": {{plain_http: true, credentials: {{username: mirror, password: {password}}}}}, \
             \"{}\": {{plain_http: true}}",
            source.host(),
            target.host()
        );
        let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
        site.configure_fully("status: off", &registries, &entry);
        let mut command = site.command(&["login-check"]);
        command.env("PASSWORD_LINES", format!("{SECRET}\r\n\n"));
        let output = Running::start(&mut command).wait(DEADLINE);
        assert_eq!(output.code(), 0, "{password}: {}{}", output.stdout, output.stderr);
    }
}
