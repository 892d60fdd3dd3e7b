//! Fuzz targets: one function for each parser of untrusted bytes.
//!
//! `fuzz/` passes these functions to libFuzzer. The tests below run the functions over the committed corpus and over
//! mutations of the corpus. A target panics if a parser panics, or if the result of the parser violates an invariant.

use bytes::Bytes;

use crate::config::{HookKind, Receiver};
use crate::import::{ImportOptions, import_text};
use crate::layout::fuzz::layout_index;
use crate::oci::{Digest, Manifest, ManifestView, MediaType, Reference};
use crate::push_events;
use crate::registry::Secret;
use crate::registry::fuzz::{catalog_page, challenge, link, range, retry_after, tag_page};

/// Named entry point for the fuzzer.
#[derive(Debug, Clone, Copy)]
pub struct FuzzTarget {
    /// Name of the target, of its binary in `fuzz/` and of its folder in `fuzz/corpus/`.
    pub name: &'static str,
    /// Function that parses the bytes and checks the invariants of the result. Panics on a fault.
    pub run: fn(&[u8]),
}

/// List of all targets.
pub const TARGETS: [FuzzTarget; 12] = [
    FuzzTarget { name: "manifest", run: manifest },
    FuzzTarget { name: "index", run: index },
    FuzzTarget { name: "reference", run: reference },
    FuzzTarget { name: "link", run: link },
    FuzzTarget { name: "challenge", run: challenge },
    FuzzTarget { name: "range", run: range },
    FuzzTarget { name: "retry_after", run: retry_after },
    FuzzTarget { name: "tag_page", run: tag_page },
    FuzzTarget { name: "catalog_page", run: catalog_page },
    FuzzTarget { name: "layout_index", run: layout_index },
    FuzzTarget { name: "push_event", run: push_event },
    FuzzTarget { name: "import", run: import },
];

/// Runs the target with this name.
///
/// # Panics
/// If no target has this name, or if the target finds a fault.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no fuzz target {name}")).run)(data);
}

/// Parses bytes as a manifest, without a media type from a header.
fn manifest(data: &[u8]) {
    read_manifest(None, data);
}

/// Parses bytes as a manifest, with the media type of an index from a header.
fn index(data: &[u8]) {
    read_manifest(Some(&MediaType::new(MediaType::OCI_INDEX)), data);
}

fn read_manifest(stated: Option<&MediaType>, data: &[u8]) {
    let manifest = Manifest::received(stated, Bytes::copy_from_slice(data), None);
    assert_eq!(manifest.bytes(), data, "a manifest must keep its bytes");
    assert_eq!(manifest.digest(), Digest::of(data), "the digest of a manifest must be that of its bytes");
    if let Ok(view) = manifest.view() {
        assert!(view.manifests().len() <= crate::oci::MAX_CHILDREN);
        check_platforms(&view);
    }
}

/// Prints every platform of an index, and checks the length of the printed text.
fn check_platforms(view: &ManifestView) {
    for child in view.manifests() {
        if let Some(platform) = &child.platform {
            assert!(platform.to_string().len() >= platform.os.len());
        }
    }
}

/// Parses a reference and asserts that its printed form parses to the same reference.
fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(read) = text.parse::<Reference>() else { return };
    let printed = read.to_string();
    let again = printed.parse::<Reference>();
    assert_eq!(again.as_ref(), Ok(&read), "{text:?} prints as {printed:?}");
}

/// Parses a push event twice for each kind of sender: with a configured registry, and with the registry that the event
/// names.
fn push_event(data: &[u8]) {
    let kinds = [HookKind::Distribution, HookKind::Acr, HookKind::Harbor, HookKind::DockerHub, HookKind::Ghcr];
    for kind in kinds {
        for registry in [None, Some("registry.example.com".parse().expect("a host"))] {
            let receiver = Receiver { kind, secret: Secret::Value("0123456789abcdef".to_owned().into()), registry };
            push_events::fuzz::push_event(&receiver, data);
        }
    }
}

/// Imports a configuration of another program, and asserts that the result has the version of a `sync.yaml`.
fn import(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for target in [None, Some("registry.example.com/mirror".to_owned())] {
        let options = ImportOptions { target, ..ImportOptions::default() };
        if let Ok(imported) = import_text("fuzz.yaml", text, &options) {
            assert!(imported.text.contains("version: 1"), "an import must be a sync.yaml");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Number of mutations of each corpus file in a quick run. With `TRANSSHIP_LONG=1`, the number is a hundred times
    /// larger.
    const QUICK: u64 = 100;

    fn fuzz_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = fuzz_folder().join("corpus").join(target);
        let mut paths: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// Generator of pseudo-random numbers (SplitMix64) with a fixed seed, so failures are reproducible.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, bound: usize) -> usize {
            usize::try_from(self.next() % bound.max(1) as u64).unwrap()
        }
    }

    /// Applies one to four changes: flips, replaces, inserts or removes a byte, repeats a part, or truncates the end.
    fn mutated(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        const SYNTAX: &[u8] = b"\"{}[],:;<>=/\\\0\n 019-@%\xff";
        let mut bytes = seed.to_vec();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len());
            match numbers.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
                1 if at < bytes.len() => bytes[at] = SYNTAX[numbers.below(SYNTAX.len())],
                2 => bytes.insert(at, SYNTAX[numbers.below(SYNTAX.len())]),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                4 => {
                    let end = (at + numbers.below(32)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    }

    #[test]
    fn every_target_accepts_its_corpus_and_mutations() {
        let tries = if std::env::var_os("TRANSSHIP_LONG").is_some() { 100 * QUICK } else { QUICK };
        let faults: Vec<String> = TARGETS.iter().filter_map(|target| first_fault(target, tries)).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// Runs the target on each file of its corpus, and on `tries` mutations of each file. Returns a message about the
    /// first input that makes the target panic.
    fn first_fault(target: &FuzzTarget, tries: u64) -> Option<String> {
        let seeds = corpus(target.name);
        assert!(seeds.len() >= 3, "the corpus of {} has {} files", target.name, seeds.len());
        for (number, seed) in seeds.iter().enumerate() {
            let mut numbers = Numbers(number as u64);
            let mutations = (0..tries).map(|_| mutated(seed, &mut numbers));
            for input in std::iter::once(seed.clone()).chain(mutations) {
                if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
                    return Some(format!("{} panics at {:?}", target.name, String::from_utf8_lossy(&input)));
                }
            }
        }
        None
    }

    #[test]
    fn every_target_has_a_binary_in_the_fuzz_folder() {
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(fuzz_folder().join(folder)).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
        };
        let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(names("fuzz_targets"), targets);
        assert_eq!(names("corpus"), targets);
        let manifest = std::fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
        for name in targets {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
        }
    }
}
