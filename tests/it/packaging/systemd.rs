//! Tests of the unit and its drop-ins with systemd, and of the daemon's notifications during a reload.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{file, run};
use crate::support::programs::DEADLINE;
use crate::support::site::Site;
use crate::support::systemd::Manager;

/// Folder of the units of packages.
const UNITS: &str = "usr/lib/systemd/system";

/// Warning of systemd before 253 about the second `Type=` of the unit. The comment in the unit quotes it.
const UNKNOWN_TYPE: &str = "Failed to parse service type, ignoring: notify-reload";

/// First version of systemd that supports `Type=notify-reload`.
const KNOWS_NOTIFY_RELOAD: u32 = 253;

fn analyze(root: &Path, arguments: &[&str]) -> crate::support::programs::Output {
    run(Command::new("systemd-analyze").arg(format!("--root={}", root.display())).args(arguments))
}

fn version_of_systemd() -> u32 {
    let version = run(Command::new("systemd-analyze").arg("--version")).expect_success().stdout;
    version.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("systemd VERSION (…)")
}

/// Asserts that systemd accepts the unit that is installed in `root`. Copies systemd's own units into `root`, because
/// the unit refers to some of them.
#[track_caller]
pub(super) fn assert_valid(root: &Path) {
    let own = Path::new("/").join(UNITS);
    let copied = run(Command::new("cp").arg("-rnT").arg(own).arg(root.join(UNITS)));
    copied.expect_success();
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/kill", root.join("bin/kill")).unwrap();
    let unit = root.join(UNITS).join("transship.service");
    let judged = analyze(root, &["verify", "--man=no", unit.to_str().unwrap()]);
    let old = version_of_systemd() < KNOWS_NOTIFY_RELOAD;
    let expected = |line: &&str| old && line.contains("transship.service:") && line.ends_with(UNKNOWN_TYPE);
    let problems: Vec<&str> = judged.stderr.lines().filter(|line| !expected(line)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(old || judged.status.success(), "{judged:?}");
    assert_eq!(judged.stderr.lines().any(|line| expected(&line)), old, "{judged:?}");
}

#[track_caller]
fn assert_hardened(root: &Path) {
    let judged = analyze(root, &["security", "--offline=yes", "--threshold=15", "--no-pager", "transship.service"]);
    judged.expect_success();
}

/// Creates a root folder with the unit, a program at the path in the unit, and these drop-ins.
fn root_with(drop_ins: &[PathBuf]) -> TempDir {
    let root = TempDir::new().unwrap();
    let units = root.path().join(UNITS);
    let of_ours = root.path().join("etc/systemd/system/transship.service.d");
    for folder in [&units, &of_ours, &root.path().join("usr/bin")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::copy(file("packaging/systemd/transship.service"), units.join("transship.service")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_transship"), root.path().join("usr/bin/transship")).unwrap();
    for drop_in in drop_ins {
        std::fs::copy(drop_in, of_ours.join(drop_in.file_name().unwrap())).unwrap();
    }
    root
}

fn drop_ins() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(file("packaging/systemd/transship.service.d")).unwrap();
    let found: Vec<PathBuf> = folder.map(|found| found.unwrap().path()).collect();
    assert!(found.len() >= 2, "{found:?}");
    found
}

#[test]
fn unit_and_each_drop_in_pass_systemd_analyze() {
    for drop_in in drop_ins() {
        let root = root_with(std::slice::from_ref(&drop_in));
        assert_valid(root.path());
        assert_hardened(root.path());
    }
    let root = root_with(&[]);
    assert_valid(root.path());
    assert_hardened(root.path());
}

#[test]
fn daemon_notifies_systemd_of_reloads_and_loop_iterations() {
    let site = Site::new();
    let entry = |name: &str| format!("- {{name: {name}, source: \"oci-layout:a\", target: \"oci-layout:b\"}}");
    site.configure(&[], &entry("first"));
    let manager = Manager::new(&site);
    let daemon = manager.start(&site);
    assert_eq!(manager.wait_for_message("READY=1"), ["READY=1", "STATUS=1 entry: 0 running, 0 waiting, 0 failing"]);
    manager.wait_for_message("WATCHDOG=1");

    daemon.signal("HUP");
    let (first, status) = manager.reload();
    assert_eq!(status, "1 entry: 0 running, 0 waiting, 0 failing", "a requested reload reads an unchanged file");

    site.configure(&[], &entry("first").replace("source", "sorce"));
    let (second, status) = manager.reload();
    assert!(second > first, "{second} is not later than {first}");
    let refused = "the edit is refused, the previous configuration stays in force: sync.yaml:5:17: unknown key \
        `sorce` in an entry; \
                   did you mean `source`?";
    assert!(status.starts_with(refused) && status.ends_with("; 1 entry: 0 running, 0 waiting, 0 failing"), "{status}");
    daemon.signal("HUP");
    assert_eq!(manager.reload().1, status, "a refused reload also ends");

    // The correction of the file removes the problem from the status.
    site.configure(&[], &format!("{}\n{}", entry("first"), entry("second")));
    assert_eq!(manager.reload().1, "2 entries: 0 running, 0 waiting, 0 failing");

    daemon.signal("TERM");
    manager.wait_for_message("STOPPING=1");
    daemon.wait(DEADLINE).expect_success();
}

#[test]
fn daemon_that_needs_a_person_is_not_restarted() {
    let unit = std::fs::read_to_string(file("packaging/systemd/transship.service")).unwrap();
    let codes = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("the setting");
    let codes: Vec<i32> = codes.split(' ').map(|code| code.parse().unwrap()).collect();

    let site = Site::new();
    site.configure(&[], "- {name: a, source: \"oci-layout:a\", target: \"oci-layout:b\"}");
    site.run(&["once"]);
    let journal = site.journal();
    let mut bytes = std::fs::read(&journal).unwrap();
    let pages = bytes.split_at_mut(4096).1;
    assert!(!pages.is_empty());
    pages.fill(0xff);
    std::fs::write(&journal, &bytes).unwrap();
    let damaged = site.run(&["run"]);
    let path = journal.display();
    assert!(damaged.stderr.contains(&format!("the journal {path} is damaged: ")), "{}", damaged.stderr);
    assert!(damaged.stderr.contains(&format!("move {path} away")), "{}", damaged.stderr);
    assert_eq!(std::fs::read(&journal).unwrap(), bytes, "the journal is unchanged");

    site.write("sync.yaml", "version: 2\n");
    let misconfigured = site.run(&["run"]);
    assert_eq!([misconfigured.code(), damaged.code()], codes[..]);
}
