//! Tests of the Debian package, which is built with the program under test and installed into a separate root folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{Event, Options, Parser, Tag};
use regex::Regex;
use tempfile::TempDir;

use super::systemd::assert_valid;
use super::{DEADLINE, file, run, text};
use crate::support::programs::{Output, Running};

/// Root folder without installed packages.
pub(crate) struct Root(TempDir);

impl Root {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        let database = root.path().join("var/lib/dpkg");
        for folder in ["info", "triggers", "updates"] {
            fs::create_dir_all(database.join(folder)).unwrap();
        }
        fs::write(database.join("status"), "").unwrap();
        Self(root)
    }

    /// Returns the path of a file in the root folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs dpkg as root on this folder. The libraries that the package depends on are not installed there.
    #[track_caller]
    pub(crate) fn dpkg(&self, arguments: &[&str]) {
        let mut command = Command::new("fakeroot");
        command.args(["dpkg", "--log=/dev/null", "--force-depends,script-chrootless"]);
        run(command.arg(format!("--root={}", self.0.path().display())).args(arguments)).expect_success();
    }

    /// Runs the installed program.
    fn transship(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.path("usr/bin/transship"));
        command.current_dir(self.0.path()).env_clear().env("STATE_DIRECTORY", self.path("state")).args(arguments);
        Running::start(&mut command).wait(DEADLINE)
    }
}

/// Packs the program under test into `folder`.
#[track_caller]
pub(crate) fn build(folder: &Path) -> PathBuf {
    let mut command = Command::new(file("packaging/debian/build"));
    // The build time differs from the current time. The compression level is the lowest, because the size of the
    // package does not matter here.
    command.env("SOURCE_DATE_EPOCH", "1700000000").env("DPKG_DEB_COMPRESSOR_LEVEL", "0");
    command.env("DEBFULLNAME", "Platform Team").env("DEBEMAIL", "platform@example.com");
    let built = run(command.arg(env!("CARGO_BIN_EXE_transship")).arg(folder)).expect_success();
    let package = PathBuf::from(built.stdout.trim_end());
    let expected = format!("transship_{}_", env!("CARGO_PKG_VERSION"));
    assert!(package.file_name().unwrap().to_str().unwrap().starts_with(&expected), "{package:?}");
    package
}

#[test]
fn package_installs_runs_keeps_edits_and_uninstalls() {
    let (folder, root) = (TempDir::new().unwrap(), Root::new());
    let package = build(folder.path());
    root.dpkg(&["--install", package.to_str().unwrap()]);
    let maintainer = run(Command::new("dpkg-deb").arg("--field").arg(&package).arg("Maintainer")).expect_success();
    assert_eq!(maintainer.stdout, "Platform Team <platform@example.com>\n");

    let version = root.transship(&["--version"]).expect_success().stdout;
    assert_eq!(version, format!("transship {}\n", env!("CARGO_PKG_VERSION")));
    let configuration = root.path("etc/transship/sync.yaml");
    let check = ["check", "--config", configuration.to_str().unwrap()];
    let checked = root.transship(&check).expect_success().stdout;
    assert!(checked.ends_with("sync.yaml: valid, 0 entries, 1 warning\n"), "{checked}");
    assert_valid(root.0.path());
    assert_eq!(unpacked(&root.path("usr/share/man/man1/transship.1.gz")), root.transship(&["man"]).stdout);
    for (shell, place) in [
        ("bash", "usr/share/bash-completion/completions/transship"),
        ("zsh", "usr/share/zsh/vendor-completions/_transship"),
        ("fish", "usr/share/fish/vendor_completions.d/transship.fish"),
    ] {
        assert_eq!(fs::read_to_string(root.path(place)).unwrap(), root.transship(&["completions", shell]).stdout);
    }
    let examples = root.path("usr/share/doc/transship/examples");
    assert!(examples.join("transship.service.d/credentials.conf").exists());
    assert_book_is_whole(&root.path("usr/share/doc/transship"));
    let first = fs::read_to_string(examples.join("sync.yaml.example")).unwrap();
    let schema = first.lines().next().and_then(|line| line.split_once("$schema=")).expect("a schema is named").1;
    assert!(examples.join(schema).exists(), "{schema}");

    // An entry that an operator adds, and its run.
    let images = file("examples/images");
    let entry = format!(
        "version: 1\nsync:\n- {{name: a, source: \"oci-layout:{}\", target: \"oci-layout:mirror\"}}\n",
        images.display()
    );
    fs::write(&configuration, &entry).unwrap();
    let run = root.transship(&["once", "--config", configuration.to_str().unwrap()]).expect_success().stdout;
    assert!(run.contains("copied"), "{run}");
    root.dpkg(&["--install", package.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&configuration).unwrap(), entry, "an upgrade does not change the configuration");

    root.dpkg(&["--remove", "transship"]);
    assert!(!root.path("usr").join("bin").exists() && configuration.exists());
    root.dpkg(&["--purge", "transship"]);
    assert!(!configuration.exists());
    assert!(root.path("state/journal.db").exists(), "the journal remains");
}

/// Asserts that the folder of documents has each page of the book, and that each relative link of its Markdown files
/// leads to a file of the package.
#[track_caller]
fn assert_book_is_whole(documents: &Path) {
    let page = Regex::new(r"\]\(([^)]+)\.md\)").unwrap();
    let summary = text("docs/SUMMARY.md");
    let pages = page.captures_iter(&summary).map(|found| format!("book/{}.html", &found[1]));
    let mut expected: BTreeSet<String> = pages.chain(["book/reference/status.schema.json".to_owned()]).collect();
    assert!(expected.len() > 100, "{expected:?}");
    for page in ["README.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(documents.join(page)).unwrap();
        let links = relative_links(&text);
        assert!(links.len() > 3, "{page}: {links:?}");
        expected.extend(links);
    }
    for wanted in ["CHANGELOG.md", "copyright", "examples/sync.yaml.example", "book/adr/README.html"] {
        assert!(expected.contains(wanted), "{wanted} is not among {expected:?}");
    }
    let missing: Vec<&String> = expected.iter().filter(|file| !documents.join(file).is_file()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!documents.join("book/book.toml").exists() && !documents.join("book/theme").exists());
}

/// Returns the targets of the links and images of a Markdown text that are not on another host, without their anchors.
fn relative_links(text: &str) -> BTreeSet<String> {
    let attribute = Regex::new(r#"\b(?:href|src|srcset)="([^" ]+)"#).unwrap();
    let markdown = Parser::new_ext(text, Options::ENABLE_TABLES).flat_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => vec![dest_url.into_string()],
        Event::Html(html) | Event::InlineHtml(html) => {
            attribute.captures_iter(&html).map(|found| found[1].to_owned()).collect()
        }
        _ => Vec::new(),
    });
    let relative = markdown.filter(|target| !target.contains("://") && !target.starts_with('#'));
    relative.map(|target| target.split('#').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn links_of_a_page_are_found_in_text_and_in_html() {
    let text = "[a](b.md#c) [`d`](e) <https://h.example> [f](#g)\n\n<picture>\n  <img src=\"i.png\">\n</picture>\n";
    assert_eq!(relative_links(text), ["b.md", "e", "i.png"].map(str::to_owned).into());
}

/// Returns the text of a gzipped file.
fn unpacked(file: &Path) -> String {
    run(Command::new("gzip").args(["--decompress", "--stdout"]).arg(file)).expect_success().stdout
}

#[test]
fn packaged_configuration_names_the_journal_of_the_service() {
    let unit = text("packaging/systemd/transship.service");
    let state =
        unit.lines().find_map(|line| line.strip_prefix("StateDirectory=")).expect("StateDirectory= of the unit");
    let configuration: serde_json::Value = serde_yaml::from_str(&text("packaging/debian/sync.yaml")).unwrap();
    assert_eq!(configuration["daemon"]["journal"], format!("/var/lib/{state}/journal.db"));
    assert!(text("packaging/debian/build").contains(" packaging/debian/sync.yaml \"$root/etc/transship/sync.yaml\""));
}

#[test]
fn package_of_the_same_program_is_reproducible() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [first, second] = folders.each_ref().map(|folder| fs::read(build(folder.path())).unwrap());
    assert!(first == second, "{} and {} bytes", first.len(), second.len());
}

#[test]
fn package_changelog_names_the_current_version() {
    let changelog = text("packaging/debian/changelog");
    let newest = format!("transship ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&newest), "{changelog}");
}

/// Returns the arguments of the calls of `systemctl` by the package's scripts, in the order of an installation, an
/// upgrade and a removal.
fn systemctl_calls(systemd_runs: bool) -> String {
    let folder = TempDir::new().unwrap();
    let systemctl = folder.path().join("systemctl");
    fs::write(&systemctl, format!("#!/bin/sh\necho \"$@\" >>{}/calls\n", folder.path().display())).unwrap();
    run(Command::new("chmod").arg("755").arg(&systemctl)).expect_success();
    let systemd = if systemd_runs { "mkdir -p /run/systemd/system" } else { ":" };
    let script = format!(
        "set -e; mount -t tmpfs none /run; {systemd}; cd {}; sh postinst configure ''; sh postinst configure 0.0.9; \
         sh prerm upgrade 9; sh prerm remove; sh postrm remove; sh postrm upgrade 9; sh postrm purge",
        file("packaging/debian").display()
    );
    // The mount namespace protects the machine's /run.
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]).env_remove("DPKG_ROOT");
    let path = std::env::var("PATH").unwrap();
    run(command.env("PATH", format!("{}:{path}", folder.path().display()))).expect_success();
    fs::read_to_string(folder.path().join("calls")).unwrap_or_default()
}

#[test]
fn package_scripts_call_systemctl_only_if_systemd_runs() {
    let expected = "daemon-reload\n\
                    daemon-reload\ntry-restart transship.service\n\
                    disable --now transship.service\n\
                    daemon-reload\n";
    assert_eq!(systemctl_calls(true), expected);
    assert_eq!(systemctl_calls(false), "");
}
