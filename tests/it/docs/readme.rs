//! Tests that run the commands and check the configurations of the README, the pages and the examples.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use transship::oci::Digest;

use crate::support::programs::{DEADLINE, Output, Running, skopeo_copy, skopeo_manifest, transship, transship_command};
use crate::support::site::parse;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// Creates a folder with a copy of the repository's examples only.
fn clone() -> TempDir {
    let folder = TempDir::new().unwrap();
    let status = Command::new("cp").arg("-r").arg(root().join("examples")).arg(folder.path()).status().unwrap();
    assert!(status.success());
    folder
}

/// Returns the arguments of the README's first command.
fn quickstart() -> Vec<String> {
    let readme = readme();
    let line = readme.lines().find(|line| line.starts_with("cargo run ")).unwrap();
    let (_, args) = line.split_once(" -- ").unwrap();
    args.split_whitespace().map(str::to_owned).collect()
}

fn run_in(folder: &Path, args: &[String]) -> Output {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = transship_command(&args);
    command.current_dir(folder).env("XDG_STATE_HOME", folder.join("state"));
    Running::start(&mut command).wait(DEADLINE)
}

#[test]
fn quickstart_mirrors_the_examples_and_then_changes_nothing() {
    let folder = clone();
    let first = run_in(folder.path(), &quickstart()).expect_success().stdout;
    assert!(first.starts_with("quickstart: ") && first.contains("copied"), "{first}");
    let index = std::fs::read_to_string(root().join("examples/images/index.json")).unwrap();
    let manifests = parse(&index)["manifests"].as_array().unwrap().clone();
    let names: Vec<&str> =
        manifests.iter().filter_map(|one| one["annotations"]["org.opencontainers.image.ref.name"].as_str()).collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in &names {
        let raw = |layout: &Path| skopeo_manifest(&format!("oci:{}:{name}", layout.display()));
        let (there, here) = (raw(&root().join("examples/images")), raw(&folder.path().join("mirror")));
        assert_eq!(Digest::of(here.as_bytes()), Digest::of(there.as_bytes()), "{name}");
        let copy = folder.path().join("read").join(name);
        std::fs::create_dir_all(&copy).unwrap();
        skopeo_copy(
            &format!("oci:{}:{name}", folder.path().join("mirror").display()),
            &format!("dir:{}", copy.display()),
        );
    }
    let blobs = |layout: PathBuf| {
        let files = std::fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|file| file.unwrap().file_name());
        let mut names: Vec<_> = files.collect();
        names.sort();
        names
    };
    assert_eq!(blobs(folder.path().join("mirror")), blobs(root().join("examples/images")), "the SBOM was copied");

    let second = run_in(folder.path(), &quickstart()).expect_success().stdout;
    assert!(second.starts_with("quickstart: nothing changed ("), "{second}");
}

#[test]
fn cleanup_of_the_readme_removes_all_files_of_the_quickstart() {
    let readme = readme();
    let (_, rest) = readme.split_once("To clean up").expect("the cleanup");
    let command = rest.split('`').nth(1).expect("its command");
    let folder = clone();
    let args = quickstart();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut quickstart = transship_command(&args);
    quickstart.current_dir(folder.path()).env("HOME", folder.path()).env_remove("XDG_STATE_HOME");
    Running::start(&mut quickstart).wait(DEADLINE).expect_success();
    let mut cleanup = Command::new("sh");
    cleanup.args(["-ec", command]).current_dir(folder.path()).env("HOME", folder.path());
    Running::start(&mut cleanup).wait(DEADLINE).expect_success();
    let mut find = Command::new("find");
    find.args([".", "-type", "f", "-not", "-path", "./examples/*"]).current_dir(folder.path());
    assert_eq!(Running::start(&mut find).wait(DEADLINE).expect_success().stdout, "", "{command}");
}

#[test]
fn readme_answers_an_evaluators_questions_in_their_order() {
    let readme = readme();
    let headings: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let expected = [
        "Highlights",
        "Is it for you?",
        "Try it",
        "Install",
        "Quickstart",
        "Comparison",
        "[Documents](docs/README.md)",
    ];
    assert_eq!(headings, expected);
    let commands: Vec<&str> = readme.split("```sh\n").skip(1).filter_map(|block| block.lines().next()).collect();
    assert!(commands[0].starts_with("cargo run --locked -- once"), "{commands:?}");
    assert!(commands[1].starts_with("cargo build --release") && !readme.contains("tests/run"), "{commands:?}");
    assert!(commands[2].starts_with("transship "), "the program is installed before its first command: {commands:?}");
    for tool in ["regsync", "skopeo sync", "`az acr import`", "Harbor"] {
        assert!(readme.contains(tool), "{tool}");
    }
}

/// Sets each variable that a configuration reads a secret from.
fn set_variables(command: &mut Command, configuration: &str) {
    for (_, rest) in configuration.match_indices("env: ").map(|(at, found)| configuration.split_at(at + found.len())) {
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        // The value is valid as a secret and as the address of a webhook.
        command.env(name, "https://secret.example");
    }
}

#[test]
fn every_example_passes_the_check() {
    let folder = clone();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.path().join("examples"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    assert!(files.len() >= 4, "{files:?}");
    files.push(root().join("sync.yaml.example"));
    std::fs::write(folder.path().join("docker-hub"), "secret\n").unwrap();
    std::fs::write(folder.path().join("build-hook"), "a-secret-of-the-test\n").unwrap();
    std::fs::write(folder.path().join("vault"), "secret\n").unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    for name in ["ca.pem", "me.pem", "me.key", "azure.pem", "gcp.json"] {
        std::fs::copy(root().join("tests/config/credentials").join(name), folder.path().join(name)).unwrap();
    }
    for file in files {
        let mut command = transship_command(&["check", "--config", file.to_str().unwrap()]);
        command.current_dir(folder.path()).env("CREDENTIALS_DIRECTORY", folder.path());
        let text = std::fs::read_to_string(&file).unwrap();
        set_variables(&mut command, &text);
        let output = Running::start(&mut command).wait(DEADLINE);
        assert_eq!(output.code(), 0, "{}: {}{}", file.display(), output.stdout, output.stderr);
    }
}

/// Returns the README and every page of the documentation.
fn pages() -> Vec<PathBuf> {
    let (mut pages, mut folders) = (vec![root().join("README.md")], vec![root().join("docs")]);
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

#[test]
fn every_command_in_the_documents_exists() {
    let digest = Digest::of(b"").to_string();
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        // Every second part is between fences.
        for line in text.split("```").skip(1).step_by(2).flat_map(str::lines) {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let Some(args) = line.strip_prefix("transship ").or(line.strip_prefix("cargo run --locked -- ")) else {
                continue;
            };
            let args = args.replace("sha256:…", &digest);
            let args: Vec<&str> = args.split_whitespace().chain(["--help"]).collect();
            let output = transship(&args);
            assert_eq!(output.code(), 0, "{}: {line}: {}", page.display(), output.stderr);
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
}

#[test]
fn every_complete_configuration_in_the_pages_is_valid() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sync.yaml");
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for configuration in blocks.filter(|block| block.starts_with("version: 1\n")) {
            std::fs::write(&file, configuration).unwrap();
            let mut command = transship_command(&["check", "--config", file.to_str().unwrap()]);
            set_variables(&mut command, configuration);
            let output = Running::start(&mut command).wait(DEADLINE);
            assert_eq!(output.code(), 0, "{}: {}{}", page.display(), output.stdout, output.stderr);
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen} configurations were found");
}

#[test]
fn quickstart_configuration_of_the_readme_passes_the_check() {
    let readme = readme();
    let (_, rest) = readme.split_once("```yaml\n").expect("a configuration");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sync.yaml");
    std::fs::write(&file, rest.split_once("```").expect("its end").0).unwrap();
    let output = transship(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert!(readme.lines().count() <= 130, "the README stays short");
}
