//! Series of faults: one run for each moment at which a fault may occur. After each run, no tag at the target is
//! broken. A further run without a fault copies everything and completes the evidence.
//!
//! The quick form tries some of the moments. `tests/run --long` tries all of them. `docs/explanation/testing.md` states
//! how many each form tries, and each series checks its own figures there.

mod calls;
mod damage;
mod disks;
mod kills;
mod requests;

use std::collections::BTreeSet;

use serde_json::Value;
use transship::oci::Digest;

use crate::support::images::{self, Family};
use crate::support::programs::Output;
use crate::support::registry::Server;
use crate::support::site::Site;

/// Returns true if the long form is requested.
fn is_long() -> bool {
    std::env::var_os("TRANSSHIP_LONG").is_some()
}

/// Returns about `few` numbers from 1 to `last`, evenly spread and with both ends. Returns all numbers in the long
/// form.
fn instants(last: usize, few: usize) -> Vec<usize> {
    if is_long() || last <= few {
        return (1..=last).collect();
    }
    let spread = (0..few).map(|at| 1 + at * (last - 1) / (few - 1));
    spread.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Asserts that a series tried at least as many instants as the table in `docs/explanation/testing.md` states of this
/// form.
#[track_caller]
fn assert_tried(series: &str, tried: usize) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/explanation/testing.md");
    let page = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| `{series}` | ")));
    let row = row.unwrap_or_else(|| panic!("docs/explanation/testing.md has no row of {series}"));
    let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
    let [_, quick, full] = cells[..] else { panic!("a row has four cells: {row}") };
    let stated = if is_long() { full } else { quick };
    let stated: usize = stated.replace(',', "").parse().unwrap_or_else(|_| panic!("{stated:?} is no number: {row}"));
    assert!(tried >= stated, "{series} tried {tried} instants, and docs/explanation/testing.md states {stated}");
}

/// Side of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// Source with every kind of content that an entry can copy, empty target, and an entry between them.
struct Mirror {
    source: Server,
    target: Server,
    site: Site,
}

/// Tags of the source: images of one and of two platforms, one of them with an SBOM and one with a signature.
const TAGS: [&str; 5] = ["v1", "v2", "v3", "v4", "v5"];

impl Mirror {
    /// `upload` is the target's `upload:` section in YAML's flow form.
    fn new(upload: &str, layer: usize) -> Self {
        let (source, target) = (Server::start(), Server::start());
        for (seed, tag) in (1..).zip(TAGS) {
            let image = match seed {
                1 => {
                    let layers = [images::layer(Family::Oci, 0, 2000), images::layer(Family::Oci, seed, layer)];
                    images::image(Family::Oci, images::linux("amd64"), &layers)
                }
                2 | 3 => images::two_platforms(Family::Oci, seed),
                _ => images::small(Family::Docker, seed),
            };
            image.put(&source, "app", Some(tag));
            match seed {
                2 => images::sbom(&image, seed).put(&source, "app", None),
                3 => images::signature(&image).put(&source, "app", Some(&images::signature_tag(&image))),
                _ => {}
            }
        }
        let site = Site::new();
        let registries = format!(
            "\"{}\": {{plain_http: true}}, \"{}\": {{plain_http: true, upload: {upload}}}",
            source.host(),
            target.host()
        );
        let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
        site.configure_fully("status: off", &registries, &entry);
        Self { source, target, site }
    }

    fn server(&self, side: Side) -> &Server {
        if side == Side::Source { &self.source } else { &self.target }
    }

    fn once(&self) -> Output {
        self.site.run(&["once"])
    }

    /// Asserts that every manifest and blob below every tag at the target exists.
    #[track_caller]
    fn assert_no_tag_is_broken(&self, instant: &str) {
        for (tag, digest) in self.target.store().tags("app").unwrap_or_default() {
            let missing = missing_below(&self.target, &digest);
            assert!(missing.is_empty(), "{instant}: the tag {tag} lacks {missing:?}");
        }
    }

    /// Asserts that the target has everything, and that the evidence has every tag.
    #[track_caller]
    fn assert_complete(&self, instant: &str) {
        self.assert_no_tag_is_broken(instant);
        let (at_source, at_target) = (self.source.store().tags("app"), self.target.store().tags("app"));
        assert_eq!(at_target, at_source, "{instant}: the tags differ");
        for digest in at_source.unwrap_or_default().values() {
            let expected = self.source.store().referrers("app", digest);
            assert_eq!(self.target.store().referrers("app", digest), expected, "{instant}: referrers of {digest}");
        }
        let evidence: BTreeSet<String> = self.site.evidence(&["--limit", "1000"]).iter().map(arrival).collect();
        for (tag, digest) in self.target.store().tags("app").unwrap_or_default() {
            let row = format!("{tag} {digest}");
            assert!(evidence.contains(&row), "{instant}: the evidence lacks {row}: {evidence:?}");
        }
    }

    /// Asserts that the exit code of a run is true: with exit code 0, all selected tags are at the target.
    #[track_caller]
    fn assert_honest(&self, output: &Output, instant: &str) {
        self.assert_no_tag_is_broken(instant);
        let all = self.source.store().tags("app");
        if output.code() == 0 {
            assert_eq!(self.target.store().tags("app"), all, "{instant}: exit 0\n{}\n{}", output.stdout, output.stderr);
        } else {
            let printed = format!("{}{}", output.stdout, output.stderr);
            assert!(!printed.trim().is_empty(), "{instant}: exit {} without a word", output.code());
            assert!(!printed.contains("panicked"), "{instant}: {printed}");
        }
    }
}

fn arrival(row: &Value) -> String {
    format!("{} {}", row["tag"].as_str().unwrap_or("-"), row["digest"].as_str().unwrap_or("-"))
}

/// Returns the digests below this one that a registry lacks.
fn missing_below(server: &Server, digest: &Digest) -> Vec<String> {
    let Some(manifest) = server.store().manifest("app", &digest.to_string()) else { return vec![digest.to_string()] };
    let json: Value = serde_json::from_slice(&manifest.bytes).expect("a manifest is JSON");
    let mut missing = server.store().missing("app", &json);
    for child in json["manifests"].as_array().into_iter().flatten() {
        let child: Digest = child["digest"].as_str().expect("a digest").parse().expect("a digest");
        missing.extend(missing_below(server, &child));
    }
    missing
}
