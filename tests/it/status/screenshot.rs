//! Screenshots of the status page for the README, in light and dark. `UPDATE_SCREENSHOTS=1 tests/run screenshots` takes
//! them of a running daemon.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::chromium::Chromium;
use crate::support::http;
use crate::support::images::{self, Family, linux};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;

/// Size of the window.
const SIZE: [u32; 2] = [1100, 720];

/// Maximum size of both files together, in bytes.
const MAX_SIZE: u64 = 200_000;

fn file(look: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/images/status-{look}.png"))
}

/// Returns the width and the height that the header of a PNG states.
fn dimensions(png: &[u8]) -> [u32; 2] {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "a PNG");
    [number(16), number(20)]
}

/// Registries and a folder for a daemon whose entries succeed, fail and run.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        let (source, target) = (scene.source.host(), scene.target.host());
        let entries = [
            ("python-base", "library/python", ", schedule: \"0 3 * * *\", tags: {newest: 3}"),
            ("platform-api", "platform/api", ", schedule: every 15m"),
            ("node-base", "library/node", ", schedule: \"30 3 * * *\""),
            ("grafana", "grafana/grafana", ", schedule: \"@daily\""),
            ("gpu-runtime", "ml/gpu-runtime", ", schedule: \"@weekly\", on_start: true"),
        ];
        let entry = |(name, repository, keys): (&str, &str, &str)| {
            format!("- {{name: {name}, source: \"{source}/{repository}\", target: \"{target}/{repository}\"{keys}}}\n")
        };
        let registries = [&source, &target].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
        let sync: String = entries.into_iter().map(entry).collect();
        scene.site.configure_fully("status: \"127.0.0.1:0\", shutdown_grace: 1s", &registries, &sync);
        scene
    }

    /// Runs the entries, so that the page has a history. `grafana` has no repository at the source, and fails.
    fn run_entries(&self) {
        for (round, tag) in ["1.0", "1.1", "1.2"].into_iter().enumerate() {
            for (number, repository) in ["library/python", "platform/api", "library/node"].into_iter().enumerate() {
                images::small(Family::Oci, (10 * round + number) as u64).put(&self.source, repository, Some(tag));
            }
            for entry in ["python-base", "platform-api", "node-base"] {
                self.site.run(&["once", entry]).expect_success();
            }
        }
        assert_eq!(self.site.run(&["once", "grafana"]).code(), 1);
        let layer = images::layer(Family::Oci, 3, 4_000_000);
        images::image(Family::Oci, linux("amd64"), &[layer]).put(&self.source, "ml/gpu-runtime", Some("12.4"));
        self.source.set(Fault::Bandwidth(100_000));
    }
}

/// Returns a script that replaces the addresses of the test's registries by realistic names, also after the page has
/// refreshed a part of itself.
fn with_names(source: &str, target: &str) -> String {
    let replace =
        format!("text.replaceAll('{source}', 'build.example.com').replaceAll('{target}', 'prod.example.com')");
    format!(
        "(() => {{ const rename = () => {{ \
         document.querySelectorAll('wbr').forEach((hint) => hint.remove()); document.body.normalize(); \
         const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
         while (walker.nextNode()) {{ \
         const text = walker.currentNode.data; walker.currentNode.data = {replace}; }} }}; \
         rename(); new MutationObserver(rename).observe(document.body, {{childList: true, subtree: true}}); \
         return true; }})()"
    )
}

/// Takes both screenshots.
fn take() {
    let scene = Scene::new();
    scene.run_entries();
    let mut daemon = scene.site.start(&["run"]);
    let address = daemon.ready();
    daemon.wait_until("a blob is half sent", |_| {
        let status = http::status(&address)?;
        (status["in_flight"][0]["sent"].as_u64()? > 600_000).then_some(())
    });
    let mut browser = Chromium::start();
    browser.call("Emulation.setScrollbarsHidden", json!({"hidden": true}));
    browser.open(&format!("http://{address}/"));
    for (look, dark) in [("light", false), ("dark", true)] {
        browser.set_display(SIZE, dark);
        browser.evaluate(&with_names(scene.source.host(), scene.target.host()));
        browser.picture(&file(look));
    }
}

#[test]
fn screenshots_of_the_readme_are_small_and_equal_in_size() {
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some() {
        take();
    }
    let pictures = ["light", "dark"].map(|look| fs::read(file(look)).unwrap());
    assert!(pictures.iter().all(|picture| dimensions(picture) == SIZE));
    assert_ne!(pictures[0], pictures[1]);
    let size: u64 = pictures.iter().map(|picture| picture.len() as u64).sum();
    assert!(size < MAX_SIZE, "{size} bytes");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for look in ["light", "dark"] {
        assert!(readme.contains(&format!("docs/images/status-{look}.png")), "the README shows the {look} one");
    }
}
