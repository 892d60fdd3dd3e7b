//! Tests that compare the pages of the status port in `docs/reference/` with its output.

use std::collections::BTreeSet;
use std::path::PathBuf;

use regex::Regex;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Snapshot;
use super::metrics::tests::with_all;
use super::snapshot::tests::{second, working};

/// Returns the path of a file in `docs/reference/`.
pub(crate) fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name)
}

/// Returns the schema of the serialised snapshot.
fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Snapshot>().to_value();
    schema["title"] = "/status of transship".into();
    schema
}

/// Asserts that a schema equals the one in `docs/reference/`. With `BLESS=1` it writes that file.
#[track_caller]
pub(crate) fn assert_committed(name: &str, schema: &Value) {
    let written = serde_json::to_string_pretty(schema).unwrap().replace("`None`", "`null`") + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(docs(name), &written).unwrap();
    }
    let there = std::fs::read_to_string(docs(name)).unwrap_or_default();
    assert!(
        there == written,
        "docs/reference/{name} is not that of the types: BLESS=1 cargo test --lib schema_in_the_docs writes it"
    );
}

/// Collects the paths of the fields of a schema, such as `entries[].name`.
pub(crate) fn fields(schema: &Value, before: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        let path = if field["items"].is_object() { format!("{path}[]") } else { path };
        found.insert(path.clone());
        fields(field, &path, found);
        fields(&field["items"], &path, found);
        for either in field["anyOf"].as_array().into_iter().flatten() {
            fields(either, &path, found);
        }
    }
}

/// Returns the names between backticks in the first column of the tables in a section of a page.
pub(crate) fn documented(page: &str, section: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(docs(page)).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the section");
    let rows = rest.split("\n## ").next().unwrap_or_default().lines();
    let names = rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn schema_in_the_docs_matches_the_types() {
    assert_committed("status.schema.json", &schema());
}

#[test]
fn serialised_snapshot_matches_the_schema() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    for snapshot in [working(), Snapshot::starting(second(0))] {
        let actual = serde_json::to_value(snapshot).unwrap();
        let problems: Vec<String> = schema.iter_errors(&actual).map(|error| error.to_string()).collect();
        assert_eq!(problems, Vec::<String>::new());
    }
    let mut wrong = serde_json::to_value(working()).unwrap();
    wrong["entries"][0]["failures"] = "three".into();
    assert!(!schema.is_valid(&wrong));
}

#[test]
fn status_page_documents_exactly_the_fields() {
    let mut actual = BTreeSet::new();
    fields(&schema(), "", &mut actual);
    assert!(actual.contains("entries[].last_run.counts.copied") && actual.len() > 60, "{actual:#?}");
    assert_eq!(documented("status.md", "/status"), actual);
}

#[test]
fn status_page_documents_exactly_the_metrics() {
    let metrics = with_all().encode();
    let named = Regex::new(r"(?m)^# TYPE (\w+) (\w+)$").unwrap();
    let suffix = |kind: &str| match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let actual: BTreeSet<String> =
        named.captures_iter(&metrics).map(|found| format!("{}{}", &found[1], suffix(&found[2]))).collect();
    assert!(actual.len() > 20, "{actual:#?}");
    assert_eq!(documented("status.md", "/metrics"), actual);
}
