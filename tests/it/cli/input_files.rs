//! Tests of the program with files that other programs wrote: layouts of other tools, pipes, devices, symbolic links,
//! and very long files.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Output, Running};
use crate::support::registry::Server;
use crate::support::site::Site;

const NAME: &str = "org.opencontainers.image.ref.name";

fn site() -> Site {
    let site = Site::new();
    site.configure_fully("status: off", "", "- {name: a, source: a.example/a, target: b.example/a}");
    site
}

/// Creates a layout of two images. `change` edits each entry of its index.
fn layout(site: &Site, change: impl Fn(&mut Value, usize)) -> String {
    let source = Server::start();
    for (seed, tag) in [(1, "v1"), (2, "v2")] {
        images::small(Family::Oci, seed).put(&source, "app", Some(tag));
    }
    let place = format!("oci-layout:{}", site.path("layout").display());
    let from = format!("{}/app", source.host());
    site.run(&["copy", "--all-tags", &from, &place, "--plain-http", source.host()]).expect_success();
    let file = site.path("layout").join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (at, entry) in index["manifests"].as_array_mut().unwrap().iter_mut().enumerate() {
        change(entry, at);
    }
    fs::write(file, index.to_string()).unwrap();
    place
}

/// Copies a layout to a new registry. Returns the output and the number of copied tags.
fn copy_to_new_registry(site: &Site, place: &str) -> (Output, usize) {
    let target = Server::start();
    let to = format!("{}/app", target.host());
    let output = site.run(&["copy", "--all-tags", place, &to, "--plain-http", target.host()]);
    let tags = ["v1", "v2"].iter().filter(|tag| target.store().tag("app", tag).is_some()).count();
    (output, tags)
}

#[test]
fn layout_of_unnamed_images_fails_with_digests() {
    let site = site();
    let place = layout(&site, |entry, _| drop(entry.as_object_mut().unwrap().remove("annotations")));
    let (output, tags) = copy_to_new_registry(&site, &place);
    assert_eq!((output.code(), tags), (1, 0), "{}{}", output.stdout, output.stderr);
    assert_eq!(
        output.stderr.matches("WARN skipped: an image has no name; select it by its digest: @sha256:").count(),
        2
    );
    assert!(output.stdout.contains("the source has content but no tag, so nothing was selected"), "{}", output.stdout);
    let count_files = site.run(&["tags", &place]).expect_success();
    assert_eq!(count_files.stderr.matches("select it by its digest: @sha256:").count(), 2, "{}", count_files.stderr);
}

#[test]
fn named_image_is_copied_and_unnamed_one_reported() {
    let site = site();
    let place = layout(&site, |entry, at| {
        if at == 1 {
            entry.as_object_mut().unwrap().remove("annotations");
        }
    });
    let (output, tags) = copy_to_new_registry(&site, &place);
    assert_eq!((output.code(), tags), (0, 1), "{}{}", output.stdout, output.stderr);
    let (_, digest) = output.stderr.split_once("select it by its digest: @").expect("the digest in the message");
    let digest: String = digest.chars().take_while(|c| c.is_alphanumeric() || *c == ':').collect();
    let target = Server::start();
    let to = format!("{}/app:v2", target.host());
    site.run(&["copy", &format!("{place}@{digest}"), &to, "--plain-http", target.host()]).expect_success();
    assert!(target.store().tag("app", "v2").is_some(), "the remedy works");
}

#[test]
fn name_of_two_images_fails_with_both_digests() {
    let site = site();
    let place = layout(&site, |entry, at| {
        entry["annotations"] = json!({NAME: "v1", "io.containerd.image.name": format!("docker.io/x/app{at}:v1")});
    });
    let (output, tags) = copy_to_new_registry(&site, &place);
    assert_eq!((output.code(), tags), (1, 0), "{}{}", output.stdout, output.stderr);
    for expected in ["(docker.io/x/app0:v1) and sha256:", "(docker.io/x/app1:v1) under the name \"v1\""] {
        assert!(output.stdout.contains(expected), "{expected}: {}", output.stdout);
    }
}

/// Runs the program with this memory limit in KiB. The program aborts if it needs more.
fn run_with_memory_limit(kibibytes: u64, site: &Site, args: &[&str]) -> Output {
    let program = site.command(args);
    let mut command = Command::new("sh");
    let script = format!("ulimit -d {kibibytes} && exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program.get_program()).args(program.get_args()).current_dir(site.folder());
    Running::start(&mut command).wait(2 * DEADLINE)
}

/// Returns a memory limit in KiB for a file of this length: the base need of the program and a small multiple of the
/// length.
fn memory_limit(length: usize) -> u64 {
    (96 << 10) + ((length as u64 * 5) >> 10)
}

#[test]
fn large_layout_index_is_read_in_bounded_memory() {
    const LENGTH: usize = 16 << 20;
    /// Slightly less than the maximum length of an `index.json`.
    const LARGEST: usize = (64 << 20) - 1024;
    let site = site();
    let folder = site.path("layout");
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let place = format!("oci-layout:{}", folder.display());
    let of = |entry: &str, length: usize| {
        format!("{{\"manifests\":[{}{entry}]}}", format!("{entry},").repeat(length / (entry.len() + 1)))
    };
    let nested = format!("{{\"manifests\":[[{}0]]}}", "[],".repeat(LENGTH / 3));
    let elsewhere = format!("{{\"x\":[{}0],\"manifests\":[]}}", "{},".repeat(LENGTH / 3));
    let digest = format!("{{\"digest\":\"sha256:{}\"}}", "0".repeat(64));
    for (text, code, printed) in [
        (of("{}", LARGEST), 1, "manifests, more than the maximum of 400000"),
        (of(&digest, LARGEST), 1, "manifests, more than the maximum of 400000"),
        (of(&digest, LENGTH), 0, "has no name in index.json"),
        (nested, 0, "entry 1 of index.json has no valid digest"),
        (elsewhere, 0, ""),
    ] {
        fs::write(folder.join("index.json"), &text).unwrap();
        let output = run_with_memory_limit(memory_limit(text.len()), &site, &["tags", &place]);
        assert_eq!(output.code(), code, "{printed}: {}", output.stderr);
        assert!(output.stderr.contains(printed), "{printed}: {}", output.stderr);
    }
    File::create(folder.join("index.json")).unwrap().set_len(3 << 30).unwrap();
    let output = run_with_memory_limit(memory_limit(0), &site, &["tags", &place]);
    assert!(output.code() == 1 && output.stderr.contains("more than the maximum of 67108864"), "{}", output.stderr);
}

#[test]
fn huge_or_irregular_configuration_is_refused_in_bounded_memory() {
    let site = site();
    File::create(site.path("large.yaml")).unwrap().set_len(3 << 30).unwrap();
    assert!(Command::new("mkfifo").arg(site.path("pipe.yaml")).status().unwrap().success());
    symlink("/dev/zero", site.path("zero.yaml")).unwrap();
    for (name, printed) in [
        ("large.yaml", "is larger than 16MiB, the maximum size of a configuration"),
        ("pipe.yaml", "cannot be read: a pipe, not a regular file"),
        ("zero.yaml", "cannot be read: a device, not a regular file"),
    ] {
        for args in
            [&["check", "--config", name][..], &["once", "--config", name], &["tags", "x.example/a", "--config", name]]
        {
            let output = run_with_memory_limit(memory_limit(0), &site, args);
            assert!(output.code() == 2 && output.stderr.contains(printed), "{args:?}: {}", output.stderr);
        }
        site.write("sync.yaml", &format!("version: 1\ninclude: {name}\nsync: []\n"));
        let output = run_with_memory_limit(memory_limit(0), &site, &["check", "--config", "sync.yaml"]);
        assert!(output.code() == 2 && output.stderr.contains(printed), "{name}: {}", output.stderr);
    }
    site.write("sync.yaml", "version: 1\ninclude: \"/**/*.none\"\nsync: []\n");
    let output = run_with_memory_limit(memory_limit(0), &site, &["check", "--config", "sync.yaml"]);
    let printed = "the search covers more than 10000 files and folders";
    assert!(output.code() == 2 && (output.stderr.contains(printed) || output.stderr.contains("cannot be listed")));
}

#[test]
fn secret_in_a_pipe_or_device_fails_without_hanging() {
    let site = site();
    assert!(Command::new("mkfifo").arg(site.path("pipe")).status().unwrap().success());
    for (file, printed) in [("pipe", "a pipe, not a regular file"), ("/dev/zero", "a device, not a regular file")] {
        let credentials = format!("credentials: {{token: {{file: \"{file}\"}}}}");
        let entry = "- {name: a, source: a.example/a, target: b.example/a}";
        site.configure_fully("status: off", &format!("a.example: {{{credentials}}}"), entry);
        let output = site.run(&["check"]);
        assert!(output.code() == 2 && output.stderr.contains(printed), "{}", output.stderr);
    }
}

#[test]
fn target_layout_with_a_symlink_is_refused_unwritten() {
    let site = site();
    let source = Server::start();
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let outside = site.path("outside");
    fs::create_dir(&outside).unwrap();
    for (at, (name, to)) in [("blobs", outside.clone()), (".transship.lock", outside.join("lock"))].iter().enumerate() {
        let folder = site.path(&format!("target{at}"));
        fs::create_dir(&folder).unwrap();
        symlink(to, folder.join(name)).unwrap();
        let place = format!("oci-layout:{}", folder.display());
        let output = site.run(&["copy", &format!("{}/app:v1", source.host()), &place, "--plain-http", source.host()]);
        let printed = format!(
            "{} is a symbolic link, which transship does not follow within a layout",
            folder.join(name).display()
        );
        assert!(output.code() == 1 && output.stdout.contains(&printed), "{}{}", output.stdout, output.stderr);
    }
    assert_eq!(count_files(&outside), 0, "nothing is written outside");
}

fn count_files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}
