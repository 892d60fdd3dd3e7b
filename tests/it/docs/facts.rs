//! Comparison of `docs/reference/registries.md` with the tests: each row of the page names an existing test that shows
//! the row.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::rust_source;

/// Sections of the page, in order.
const SECTIONS: [&str; 14] = [
    "Every registry",
    "Azure Container Registry",
    "Docker Hub",
    "Amazon ECR",
    "GitHub (GHCR)",
    "Google Artifact Registry and gcr.io",
    "Harbor",
    "Quay",
    "GitLab",
    "Artifactory",
    "distribution 2 and 3",
    "zot",
    "Proxies and load balancers",
    "Security floor",
];

/// Modules whose tests are all about registries. The page must name each of their tests.
const COVERED_MODULES: [&str; 4] =
    ["registries::acr", "credentials::cloud", "registries::docker_hub", "registries::mirrors"];

/// Title of the section of facts without tests.
const UNTESTED_SECTION: &str = "Not used yet";

/// Row of a table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    section: String,
    fact: String,
    tests: Vec<String>,
}

fn rows(page: &str) -> Vec<Row> {
    let (mut rows, mut section) = (Vec::new(), String::new());
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.trim().to_owned();
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let cells: Vec<&str> = cells.split(" | ").collect();
        let is_head = cells[0] == "fact" || cells[0].starts_with("---");
        if is_head || section == UNTESTED_SECTION {
            continue;
        }
        assert_eq!(cells.len(), 3, "a row has a fact, a behaviour and tests: {line}");
        let tests = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        rows.push(Row { section: section.clone(), fact: cells[0].to_owned(), tests });
    }
    rows
}

/// Returns true if a test with this name exists. The name has the form that `cargo test` prints.
fn exists(root: &Path, test: &str) -> bool {
    let Some((module, function)) = test.rsplit_once("::") else { return false };
    let path = module.replace("::", "/");
    let within = path.strip_suffix("/tests").unwrap_or(&path);
    let files = [
        format!("tests/it/{path}.rs"),
        format!("src/{path}.rs"),
        format!("src/{within}.rs"),
        format!("src/{within}/mod.rs"),
    ];
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(root.join(file)).ok());
    texts.into_iter().any(|text| rust_source::tests(&text).contains(function))
}

fn page() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/registries.md");
    std::fs::read_to_string(file).expect("the page of facts")
}

#[test]
fn every_fact_names_an_existing_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = rows(&page());
    assert!(rows.len() > 50, "the tables were found: {}", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        if row.tests.is_empty() {
            wrong.push(format!("{}: no test: {}", row.section, row.fact));
        }
        let missing = row.tests.iter().filter(|test| !exists(root, test));
        wrong.extend(missing.map(|test| format!("{}: there is no test {test}: {}", row.section, row.fact)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_of_registry_behavior_is_on_the_page() {
    let named: BTreeSet<String> = rows(&page()).into_iter().flat_map(|row| row.tests).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let tests = |module: &str| {
        let text =
            std::fs::read_to_string(folder.join(format!("{}.rs", module.replace("::", "/")))).expect("a file of tests");
        rust_source::tests(&text).into_iter().map(move |test| format!("{module}::{test}")).collect::<Vec<String>>()
    };
    let all: Vec<String> = COVERED_MODULES.into_iter().flat_map(tests).collect();
    assert!(all.len() > 30, "the tests were found: {}", all.len());
    let lacking: Vec<&String> = all.iter().filter(|test| !named.contains(*test)).collect();
    assert_eq!(lacking, Vec::<&String>::new(), "tests without a row");
}

#[test]
fn every_registry_has_a_section_and_facts_are_unique() {
    let page = page();
    let titles: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(titles, [&SECTIONS[..], &[UNTESTED_SECTION]].concat());
    let rows = rows(&page);
    for section in SECTIONS {
        assert!(rows.iter().any(|row| row.section == section), "{section} has no row");
    }
    let facts: BTreeSet<&str> = rows.iter().map(|row| row.fact.as_str()).collect();
    assert_eq!(facts.len(), rows.len());
}

#[test]
fn tables_of_facts_are_parsed_with_their_tests() {
    let page = "## One\n\n| fact | so | shown by |\n| --- | --- | --- |\n| a | b | `x::y`, `z::w` |\n| c | d |  |\n\
                ## Not used yet\n\n| e | f |\n";
    let row = |fact: &str, tests: &[&str]| Row {
        section: "One".to_owned(),
        fact: fact.to_owned(),
        tests: tests.iter().map(|test| (*test).to_owned()).collect(),
    };
    assert_eq!(rows(page), [row("a", &["x::y", "z::w"]), row("c", &[])]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(exists(root, "docs::facts::tables_of_facts_are_parsed_with_their_tests"));
    assert!(exists(root, "registry::http::link_header::tests::endless_listing_is_an_error"));
    assert!(exists(root, "registry::tests::listing::tag_pages_are_followed_to_the_last"));
    for none in ["docs::facts::rows", "facts::nowhere", "nowhere::tables_of_facts_are_parsed_with_their_tests", "facts"]
    {
        assert!(!exists(root, none), "{none}");
    }
}
