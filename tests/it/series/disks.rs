//! Tests of a full disk of the journal at any moment of a run. The disk is a file system of a given size in a separate
//! mount namespace.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{Mirror, arrival, assert_tried, is_long};
use crate::support::programs::{DEADLINE, Output, Running};

/// Runs `transship once` with its journal on a file system of this size in KiB, and copies the journal out of it
/// afterwards.
fn once_on_a_small_disk(mirror: &Mirror, kib: usize) -> Output {
    let disk = mirror.site.path("disk");
    std::fs::create_dir_all(&disk).expect("a folder in a temporary folder");
    let journal = mirror.site.journal();
    let script = format!(
        "mount -t tmpfs -o size={kib}k none {disk}\n\
         {binary} once; code=$?\n\
         cp {disk}/journal.db* {folder}/ 2>/dev/null\n\
         exit $code\n",
        disk = disk.display(),
        binary = env!("CARGO_BIN_EXE_transship"),
        folder = mirror.site.folder().display(),
    );
    let file = mirror.site.path("sync.yaml");
    let text = std::fs::read_to_string(&file).expect("the configuration of the site");
    let small = text.replace(&path(&journal), &path(&disk.join("journal.db")));
    assert_ne!(small, text, "the configuration names its journal");
    mirror.site.write("small.yaml", &small);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
    command.current_dir(mirror.site.folder()).env("TRANSSHIP_CONFIG", "small.yaml").env("HOME", "/nonexistent");
    Running::start(&mut command).wait(DEADLINE)
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn full_journal_disk_of_any_size_loses_nothing() {
    let step = if is_long() { 4 } else { 96 };
    let (mut failed, mut succeeded) = (0, 0);
    for kib in (4..900).step_by(step) {
        let instant = format!("a disk of {kib} KiB");
        let mirror = Mirror::new("{mode: monolithic}", 3000);
        let output = once_on_a_small_disk(&mirror, kib);
        mirror.assert_honest(&output, &instant);
        if output.code() == 0 {
            succeeded += 1
        } else {
            failed += 1
        }
        let again = mirror.once();
        assert_eq!(again.code(), 0, "{instant}, then one with room: {}\n{}", again.stdout, again.stderr);
        let evidence: BTreeSet<String> = mirror.site.evidence(&["--limit", "1000"]).iter().map(arrival).collect();
        for (tag, digest) in mirror.target.store().tags("app").unwrap_or_default() {
            assert!(evidence.contains(&format!("{tag} {digest}")), "{instant}: the evidence lacks {tag}: {evidence:?}");
        }
    }
    assert!(failed > 0 && succeeded > 0, "{failed} failed, {succeeded} succeeded: the sizes are not telling");
    assert_tried("full_journal_disk_of_any_size_loses_nothing", failed + succeeded);
}
