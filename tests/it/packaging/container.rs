//! Tests of the container image that need no image builder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::text;

fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().expect("a version of numbers")).collect()
}

#[test]
fn image_compiler_satisfies_the_minimum_rust_version() {
    let image = text("packaging/container/Containerfile");
    let base = image.lines().find_map(|line| line.strip_prefix("FROM docker.io/library/rust:")).unwrap();
    let (compiler, _) = base.split_once('-').unwrap();
    assert!(version(compiler) >= version(env!("CARGO_PKG_RUST_VERSION")), "{compiler}");
}

#[test]
fn image_context_has_sources_and_no_build_output() {
    let ignored = text("packaging/container/Containerfile.dockerignore");
    let rules: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "everything is excluded except the following files");
    let kept: BTreeSet<&str> = rules[1..].iter().map(|rule| rule.strip_prefix('!').unwrap()).collect();
    for needed in ["Cargo.lock", "Cargo.toml", "src", "fuzz"] {
        assert!(kept.contains(needed), "{needed}");
    }
    assert!(kept.iter().all(|kept| super::file(kept).exists()), "{kept:?}");
    assert!(!kept.contains("target"));
}

/// Collects the files that the sources below `folder` include, as paths in this repository. Files that only tests read
/// are skipped.
fn included(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    let include = Regex::new(r#"include_(?:str|bytes)!\(\s*"([^"]+)"\s*\)"#).unwrap();
    for entry in std::fs::read_dir(super::file("").join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            if name != "tests" {
                included(&path, found);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let source = std::fs::read_to_string(entry.path()).unwrap();
            let program = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for named in include.captures_iter(program) {
                let mut whole = folder.to_path_buf();
                for part in Path::new(&named[1]) {
                    if part == ".." { assert!(whole.pop()) } else { whole.push(part) }
                }
                found.insert(whole);
            }
        }
    }
}

#[test]
fn image_context_has_every_included_file() {
    let ignored = text("packaging/container/Containerfile.dockerignore");
    let kept: Vec<&str> = ignored.lines().filter_map(|rule| rule.strip_prefix('!')).collect();
    let mut found = BTreeSet::new();
    included(Path::new("src"), &mut found);
    let outside: Vec<&PathBuf> = found.iter().filter(|path| !path.starts_with("src")).collect();
    assert!(!outside.is_empty(), "{found:?}");
    for path in outside {
        assert!(super::file(path.to_str().unwrap()).exists(), "{path:?}");
        assert!(kept.iter().any(|kept| path.starts_with(kept)), "{path:?} does not reach the builder");
    }
}
