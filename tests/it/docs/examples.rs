//! Runs of the example programs of the library, `examples/*.rs`, against Debian's registry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;
use transship::oci::Digest;

use crate::support::clock::use_machine_clock;
use crate::support::programs::{
    DEADLINE, DebianRegistry, Output, Running, isolated_command, skopeo_copy, skopeo_manifest,
};
use crate::support::site::{Site, parse};

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

/// Returns the folder of the compiled examples, of the same profile as this test. Compiles them first if a filter of
/// `cargo test` has skipped them.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_transship"));
        let profile = program.parent().expect("the program is in a folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--examples", "--manifest-path"]);
        cargo
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().unwrap());
        if !profile.ends_with("debug") {
            cargo.arg("--profile").arg(profile.file_name().unwrap());
        }
        // The compiler can hang under libfaketime.
        use_machine_clock(&mut cargo);
        let built = cargo.output().expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile.join("examples")
    })
}

fn run(example: &str, args: &[&str]) -> Output {
    Running::start(&mut isolated_command(&folder().join(example), args)).wait(DEADLINE)
}

/// Returns the tags of the example images, sorted.
fn tags() -> Vec<String> {
    let index = std::fs::read_to_string(Path::new(IMAGES).join("index.json")).unwrap();
    let manifests = parse(&index)["manifests"].as_array().unwrap().clone();
    let name =
        |manifest: &Value| manifest["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
    let mut tags: Vec<String> = manifests.iter().filter_map(name).collect();
    tags.sort();
    assert!(tags.len() >= 5 && tags.contains(&"1.1.0".to_owned()), "{tags:?}");
    tags
}

/// Starts a registry that has the example images, with the signature of `1.1.0`, as the repository `hello`.
fn registry_of_images() -> DebianRegistry {
    let registry = DebianRegistry::start();
    for tag in tags() {
        skopeo_copy(&format!("oci:{IMAGES}:{tag}"), &format!("docker://{}/hello:{tag}", registry.host()));
    }
    registry
}

fn digest(reference: &str) -> Digest {
    Digest::of(skopeo_manifest(reference).as_bytes())
}

#[test]
fn list_tags_prints_each_tag_with_its_digest() {
    let registry = registry_of_images();
    let hello = format!("{}/hello", registry.host());
    let printed = run("list_tags", &["--plain-http", &hello]).expect_success().stdout;
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    let wanted: Vec<String> =
        tags().iter().map(|tag| format!("{tag} {}", digest(&format!("oci:{IMAGES}:{tag}")))).collect();
    assert_eq!(lines, wanted);

    let missing = run("list_tags", &["--plain-http", &format!("{}/nothing", registry.host())]);
    assert_eq!(missing.code(), 1);
    assert!(missing.stderr.starts_with("Error: ") && missing.stderr.contains("/nothing"), "{}", missing.stderr);
}

#[test]
fn copy_image_shows_progress_and_the_image_arrives() {
    let (source, target) = (registry_of_images(), DebianRegistry::start());
    let (from, to) = (format!("{}/hello", source.host()), format!("{}/copy", target.host()));
    let (image, copy) = (format!("{from}:1.1.0"), format!("{to}:stable"));
    let args = [&image, &copy, "--plain-http", source.host(), "--plain-http", target.host()];
    let wanted = digest(&format!("docker://{image}"));

    let printed = run("copy_image", &args).expect_success().stdout;
    let last = printed.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("copied {wanted} from {from} to {copy}: ")), "{printed}");
    let sent = printed.lines().filter(|line| line.contains(": sent ") && line.ends_with(" bytes")).count();
    assert!(sent >= 5, "two configurations and three layers: {printed}");

    assert_eq!(digest(&format!("docker://{copy}")), wanted);
    let folder = TempDir::new().unwrap();
    skopeo_copy(&format!("docker://{copy}"), &format!("dir:{}", folder.path().display()));
    let signature = tags().into_iter().find(|tag| tag.ends_with(".sig")).unwrap();
    let signed = |repository: &str| digest(&format!("docker://{repository}:{signature}"));
    assert_eq!(signed(&to), signed(&from), "the signature was copied");

    let second = run("copy_image", &args).expect_success().stdout;
    assert_eq!(second, format!("{copy} is {wanted} already\n"));
}

#[test]
fn plan_entry_prints_the_planned_copies() {
    let (source, target) = (registry_of_images(), DebianRegistry::start());
    let (from, to) = (format!("{}/hello", source.host()), format!("{}/mirror", target.host()));
    let site = Site::with(
        &[source.host(), target.host()],
        &format!("- {{name: hello, source: {from}, target: {to}, tags: {{semver: \">=1.0\"}}}}"),
    );
    let file = site.path("sync.yaml");
    let plan = |args: &[&str]| run("plan_entry", &[&[file.to_str().unwrap()], args].concat());
    let signature = tags().into_iter().find(|tag| tag.ends_with(".sig")).unwrap();
    let signed = format!("hello: copy {signature} to {to}\n");
    let both = format!("hello: copy 1.1.0 to {to}\nhello: copy 1.0.0 to {to}\n{signed}");
    assert_eq!(plan(&[]).expect_success().stdout, both);

    skopeo_copy(&format!("docker://{from}:1.0.0"), &format!("docker://{to}:1.0.0"));
    skopeo_copy(&format!("docker://{from}:1.0.0"), &format!("docker://{to}:1.1.0"));
    let now = digest(&format!("docker://{to}:1.1.0")).short();
    let moved = format!("hello: replace 1.1.0 at {to}, which is {now} now\n{signed}");
    assert_eq!(plan(&["hello"]).expect_success().stdout, moved);
    site.once();
    assert_eq!(plan(&[]).expect_success().stdout, "hello: nothing to copy\n");

    let unknown = plan(&["other"]);
    assert_eq!((unknown.code(), unknown.stderr.contains("has no entry other")), (1, true), "{}", unknown.stderr);
}
