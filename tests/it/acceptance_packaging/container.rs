//! What can be known of the image without a program that builds it.

use std::collections::BTreeSet;

use super::text;

fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().expect("a version of numbers")).collect()
}

#[test]
fn the_image_is_built_by_a_compiler_that_is_new_enough() {
    let image = text("packaging/container/Containerfile");
    let base = image.lines().find_map(|line| line.strip_prefix("FROM docker.io/library/rust:")).unwrap();
    let (compiler, _) = base.split_once('-').unwrap();
    assert!(version(compiler) >= version(env!("CARGO_PKG_RUST_VERSION")), "{compiler}");
}

#[test]
fn the_image_is_built_from_what_cargo_reads_and_from_no_build() {
    let ignored = text("packaging/container/Containerfile.dockerignore");
    let rules: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "all but what follows is left out");
    let kept: BTreeSet<&str> = rules[1..].iter().map(|rule| rule.strip_prefix('!').unwrap()).collect();
    for needed in ["Cargo.lock", "Cargo.toml", "src"] {
        assert!(kept.contains(needed), "{needed}");
    }
    assert!(kept.iter().all(|kept| super::file(kept).exists()), "{kept:?}");
    assert!(!kept.contains("target"));
}
