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

/// Line before a generated part of a page.
const BEGIN: &str = "<!-- The program generates this part: `UPDATE_REFERENCE=1 tests/run is_current` writes it. -->\n";
/// Line after a generated part of a page.
const END: &str = "<!-- End of the generated part. -->\n";

/// Asserts that a file in `docs/reference/` has this text. With `UPDATE_REFERENCE=1`, writes the file.
#[track_caller]
pub(crate) fn assert_current(name: &str, text: &str) {
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(docs(name), text).unwrap();
    }
    let present = std::fs::read_to_string(docs(name)).unwrap_or_default();
    let difference = present.lines().zip(text.lines()).find(|(present, current)| present != current);
    assert!(
        present == text,
        "docs/reference/{name} is not current ({difference:?}): `UPDATE_REFERENCE=1 tests/run is_current` writes it"
    );
}

/// Asserts that the generated part of a page in `docs/reference/` is this text. People write the rest of the page.
#[track_caller]
pub(crate) fn assert_part_is_current(name: &str, part: &str) {
    let present = std::fs::read_to_string(docs(name)).unwrap();
    let (before, rest) = present.split_once(BEGIN).unwrap_or_else(|| panic!("{name} has no line {BEGIN}"));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{name} has no line {END}"));
    assert_current(name, &format!("{before}{BEGIN}\n{part}\n{END}{after}"));
}

/// Returns a row of a table in Markdown.
pub(crate) fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', r"\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Returns the first two lines of a table in Markdown.
pub(crate) fn header(names: &[&str]) -> String {
    row(names) + &row(&vec!["---"; names.len()])
}

/// Returns a text as code in Markdown; an empty text stays empty.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

/// Asserts that the schema of a type is the schema in `docs/reference/`.
#[track_caller]
pub(crate) fn assert_schema_is_current(name: &str, schema: &Value) {
    assert_current(name, &(serde_json::to_string_pretty(schema).unwrap().replace("`None`", "`null`") + "\n"));
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
fn status_schema_is_current() {
    assert_schema_is_current("status.schema.json", &schema());
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

/// Returns the names of the labels of a metric, from its samples.
fn labels(metrics: &str, name: &str) -> Vec<String> {
    let sample = metrics.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        ["", "_total", "_info", "_count"].iter().find_map(|suffix| rest.strip_prefix(*suffix)?.strip_prefix('{'))
    });
    let sample = sample.and_then(|rest| rest.split_once('}')).map(|(labels, _)| labels).unwrap_or_default();
    Regex::new(r#"(\w+)=""#).unwrap().captures_iter(sample).map(|found| found[1].to_owned()).collect()
}

/// Returns the name of each metric in queries, with the row of the metric in the reference.
fn metric_rows() -> Vec<(String, String)> {
    let metrics = with_all().encode();
    let described = Regex::new(r"(?m)^# HELP (\w+) (.+)\.\n# TYPE \w+ (\w+)$").unwrap();
    let rows = described.captures_iter(&metrics).map(|found| {
        let (name, help, kind) = (&found[1], &found[2], &found[3]);
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<String> = labels(&metrics, name).iter().map(|label| code(label)).collect();
        let full = format!("{name}{suffix}");
        (full.clone(), row(&[&code(&full), kind, &labels.join(", "), &format!("{help}.")]))
    });
    rows.collect()
}

#[test]
fn metrics_page_is_current() {
    let rows = metric_rows();
    assert!(rows.len() > 20, "{rows:#?}");
    let types = with_all().encode().lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(rows.len(), types, "every metric has a row");
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    assert_part_is_current("metrics.md", &(header(&["metric", "type", "labels", "meaning"]) + &rows));
}

#[test]
fn every_metric_that_the_metrics_page_names_exists() {
    let page = std::fs::read_to_string(docs("metrics.md")).unwrap();
    let actual: BTreeSet<String> = metric_rows().into_iter().map(|(name, _)| name).collect();
    let named = Regex::new(r"`(transship_\w+)`").unwrap();
    let named: BTreeSet<String> = named.captures_iter(&page).map(|found| found[1].to_owned()).collect();
    assert_eq!(named, actual);
}
