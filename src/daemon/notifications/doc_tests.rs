//! Tests that compare the page and the schema of notifications in `docs/reference/` with the messages that receivers
//! get.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::notify::Body;
use crate::status::doc_tests::{assert_schema_is_current, docs, documented, fields};

/// Returns the JSON Schema of a message, generated from its types.
fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Body<'_>>().to_value();
    without_null_where_absent(&mut schema);
    schema["title"] = "A notification of transship".into();
    schema
}

/// Removes `null` from the schema of optional fields. An optional field is absent or has a value, but is never `null`.
fn without_null_where_absent(schema: &mut Value) {
    let required: BTreeSet<String> = match schema.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => BTreeSet::new(),
    };
    for (name, field) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if !required.contains(name) {
            require_value(field);
        }
        without_null_where_absent(field);
        if let Some(items) = field.get_mut("items") {
            without_null_where_absent(items);
        }
    }
}

/// Replaces the schema of an optional field by the schema of its value.
fn require_value(field: &mut Value) {
    let either = |key: &str| field.get(key).and_then(Value::as_array)?.first().cloned();
    if let Some(kind) = either("type") {
        field["type"] = kind;
    } else if let Some(Value::Object(mut value)) = either("anyOf") {
        value.extend(field.get("description").map(|text| ("description".to_owned(), text.clone())));
        *field = Value::Object(value);
    }
}

/// Asserts that a body has the documented shape.
#[track_caller]
pub(crate) fn assert_as_documented(body: &str) {
    let body: Value = serde_json::from_str(body).unwrap();
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    let problems: Vec<String> =
        schema.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert_eq!(problems, Vec::<String>::new(), "{body:#}");
}

#[test]
fn notification_schema_is_current() {
    assert!(jsonschema::meta::is_valid(&schema()));
    assert_schema_is_current("notification.schema.json", &schema());
}

#[test]
fn page_lists_exactly_the_fields_of_a_message() {
    let mut found = BTreeSet::new();
    fields(&schema(), "", &mut found);
    assert!(found.contains("data.changes.items[].kept_as"), "{found:#?}");
    assert_eq!(documented("notifications.md", "The message"), found);
}

#[test]
fn documented_example_matches_the_schema() {
    let page = std::fs::read_to_string(docs("notifications.md")).unwrap();
    let (_, rest) = page.split_once("```json\n").unwrap();
    let example = rest.split_once("```").unwrap().0;
    assert_as_documented(example);
    let wrong = example.replace("\"failure\"", "\"disaster\"");
    assert!(std::panic::catch_unwind(|| assert_as_documented(&wrong)).is_err());
}
