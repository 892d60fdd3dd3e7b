//! Holds `docs/status.md` and `docs/status.schema.json` against what the status port tells.

use std::collections::BTreeSet;
use std::path::PathBuf;

use regex::Regex;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Snapshot;
use super::metrics::tests::with_all;
use super::snapshot::tests::{at, working};

/// A file of `docs/`.
pub(crate) fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// The schema of what is written.
fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Snapshot>().to_value();
    schema["title"] = "/status of transship".into();
    schema
}

/// A schema is the one that is in `docs/`. With `BLESS=1` it becomes that.
#[track_caller]
pub(crate) fn assert_committed(name: &str, schema: &Value) {
    let written = serde_json::to_string_pretty(schema).unwrap().replace("`None`", "`null`") + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(docs(name), &written).unwrap();
    }
    let there = std::fs::read_to_string(docs(name)).unwrap_or_default();
    assert!(
        there == written,
        "docs/{name} is not that of the types: BLESS=1 cargo test --lib schema_in_the_docs writes it"
    );
}

/// The fields of a schema, `entries[].name`.
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

/// What stands in the first column of the tables of a section of a page, between backticks.
pub(crate) fn documented(page: &str, section: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(docs(page)).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the section");
    let rows = rest.split("\n## ").next().unwrap_or_default().lines();
    let names = rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_schema_in_the_docs_is_that_of_the_types() {
    assert_committed("status.schema.json", &schema());
}

#[test]
fn what_is_told_is_as_the_schema_says() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    for snapshot in [working(), Snapshot::starting(at(0))] {
        let told = serde_json::to_value(snapshot).unwrap();
        let problems: Vec<String> = schema.iter_errors(&told).map(|error| error.to_string()).collect();
        assert_eq!(problems, Vec::<String>::new());
    }
    let mut wrong = serde_json::to_value(working()).unwrap();
    wrong["entries"][0]["failures"] = "three".into();
    assert!(!schema.is_valid(&wrong));
}

#[test]
fn every_field_and_no_other_stands_on_the_page() {
    let mut told = BTreeSet::new();
    fields(&schema(), "", &mut told);
    assert!(told.contains("entries[].last_run.counts.copied") && told.len() > 60, "{told:#?}");
    assert_eq!(documented("status.md", "/status"), told);
}

#[test]
fn every_metric_and_no_other_stands_on_the_page() {
    let metrics = with_all().encode();
    let named = Regex::new(r"(?m)^# TYPE (\w+) (\w+)$").unwrap();
    let suffix = |kind: &str| match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let told: BTreeSet<String> =
        named.captures_iter(&metrics).map(|found| format!("{}{}", &found[1], suffix(&found[2]))).collect();
    assert!(told.len() > 20, "{told:#?}");
    assert_eq!(documented("status.md", "/metrics"), told);
}
