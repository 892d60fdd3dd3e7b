//! Tests of a journal that is damaged between two runs: truncated, overwritten or emptied. The program reads the
//! remaining records or refuses the file by name. It never deletes the file, and the mirror stays complete.

use super::{Mirror, assert_tried, is_long};

/// Damage of a file, with its offset in bytes.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// The file is truncated at this offset.
    Cut(usize),
    /// The page at this offset is overwritten with zeros.
    Zeros(usize),
    /// The byte at this offset is changed.
    Flip(usize),
}

fn damages(length: usize) -> Vec<Damage> {
    let step = if is_long() { length / 80 } else { length / 7 };
    let mut damages = vec![Damage::Cut(0), Damage::Cut(1), Damage::Flip(0), Damage::Flip(20), Damage::Zeros(0)];
    for at in (step..length).step_by(step.max(1)) {
        damages.extend([Damage::Cut(at), Damage::Zeros(at), Damage::Flip(at)]);
    }
    damages
}

fn damaged(bytes: &[u8], damage: Damage) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Cut(at) => bytes.truncate(at),
        Damage::Zeros(at) => {
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].fill(0);
        }
        Damage::Flip(at) => bytes[at] ^= 0x41,
    }
    bytes
}

#[test]
fn damaged_journal_is_read_or_refused_and_never_deleted() {
    let mirror = Mirror::new("{mode: monolithic}", 3000);
    mirror.once().expect_success();
    let journal = mirror.site.journal();
    let whole = std::fs::read(&journal).expect("the journal");
    let kept = mirror.site.path("kept.db");
    std::fs::write(&kept, &whole).expect("a file in a temporary folder");
    let damages = damages(whole.len());
    for damage in damages.iter().copied() {
        let instant = format!("{damage:?} of {} bytes", whole.len());
        let broken = damaged(&whole, damage);
        for name in ["journal.db-wal", "journal.db-shm"] {
            let _ = std::fs::remove_file(mirror.site.path(name));
        }
        std::fs::write(&journal, &broken).expect("a file in a temporary folder");
        let output = mirror.once();
        mirror.assert_honest(&output, &instant);
        let now = std::fs::read(&journal).unwrap_or_else(|error| panic!("{instant}: the journal is gone: {error}"));
        if output.code() != 0 {
            let printed = format!("{}{}", output.stdout, output.stderr);
            assert!(printed.contains("journal"), "{instant}: {printed}");
            assert!(now.len() >= broken.len(), "{instant}: the journal became shorter: {} bytes", now.len());
        }
    }
    for name in ["journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(mirror.site.path(name));
    }
    std::fs::copy(&kept, &journal).expect("the journal is restored");
    mirror.once().expect_success();
    mirror.assert_complete("the journal put back");
    assert_tried("damaged_journal_is_read_or_refused_and_never_deleted", damages.len());
}
