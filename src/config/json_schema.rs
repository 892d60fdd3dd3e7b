//! JSON Schema of `sync.yaml` (draft 2020-12), generated from the tables of keys. The schema cannot express every check
//! (cron, time zones, relations between values). The decoder refuses everything that the JSON Schema refuses.

use serde_json::{Map, Value, json};

use super::keys::table::{Alternative, Key, MAX_ITEMS, Shape, Table};
use super::sections::credentials::{CREDENTIAL_ALTERNATIVES, CREDENTIALS};
use super::sections::notify::MAX_RECEIVERS;
use super::sections::top_level::SCHEMA;

/// Pattern of a value that contains a variable.
const VARIABLE: &str = r"\$\{";

/// Returns the schema, as `transship schema` prints it.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table(SCHEMA.root());
    let about = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sync.yaml of transship",
        "description": "Container registries that transship keeps in step, with their schedules and rules.",
    });
    if let (Value::Object(schema), Value::Object(about)) = (&mut schema, about) {
        schema.extend(about);
        schema.insert(
            "$defs".into(),
            json!({ "secret": secret(), "credentials": one_of(&CREDENTIALS, CREDENTIAL_ALTERNATIVES) }),
        );
    }
    schema
}

fn table(table: &Table) -> Value {
    let properties: Map<String, Value> = table.keys().map(|key| (key.name.to_owned(), property(key))).collect();
    // YAML reads a section with only comment lines as null.
    let kind = if table.required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    json!({
        "type": kind,
        "additionalProperties": false,
        "required": table.required,
        "properties": properties,
    })
}

fn entry(keys: &Table) -> Value {
    let mut entry = table(keys);
    entry["oneOf"] = json!([{ "required": ["target"] }, { "required": ["targets"] }]);
    entry
}

/// Returns the schema of a map with the keys of exactly one alternative; keys of other alternatives are refused.
fn one_of(keys: &Table, alternatives: &[Alternative]) -> Value {
    let alternative = |alternative: &Alternative| {
        let others = keys
            .keys()
            .filter(|key| !alternative.required.contains(&key.name) && !alternative.optional.contains(&key.name));
        let others: Map<String, Value> = others.map(|key| (key.name.to_owned(), false.into())).collect();
        json!({ "required": alternative.required, "properties": others })
    };
    let mut map = table(keys);
    map["type"] = "object".into();
    map["oneOf"] = alternatives.iter().map(alternative).collect();
    map
}

fn secret() -> Value {
    let one = |key: &str, about: &str| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": [key],
            "properties": { key: { "type": "string", "minLength": 1, "description": about } },
        })
    };
    json!({
        "anyOf": [
            { "type": "string", "minLength": 1 },
            one("env", "Environment variable with the secret."),
            one("file", "File with the secret. Line breaks at the end of the file are not part of the secret."),
        ]
    })
}

fn property(key: &Key) -> Value {
    let mut property = shape(&key.shape);
    property["description"] = key.about.into();
    // The default and the example in the table are JSON. A test parses each of them.
    if let Some(default) = key.default.and_then(|text| serde_json::from_str(text).ok()) {
        property["default"] = default;
    }
    if let Ok(example) = serde_json::from_str::<Value>(key.example) {
        property["examples"] = json!([example]);
    }
    property
}

fn shape(shape: &Shape) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": format!("{pattern}|{VARIABLE}") });
    let variable = json!({ "type": "string", "pattern": VARIABLE });
    match shape {
        Shape::Exactly(number) => json!({ "const": number }),
        Shape::Text { pattern } => text(pattern),
        Shape::Word(words) => json!({ "anyOf": [{ "enum": words }, variable] }),
        Shape::Integer { min, max } => {
            json!({ "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, variable] })
        }
        Shape::Size => {
            let size = text("^[0-9]+ *(B|kB|KB|KiB|MB|MiB|GB|GiB|TiB)?$");
            json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, size] })
        }
        Shape::Bool => json!({ "anyOf": [{ "type": "boolean" }, variable] }),
        Shape::Texts { filled } => {
            json!({ "anyOf": [{ "type": "string", "minLength": 1 }, list(usize::from(*filled))] })
        }
        Shape::List => list(1),
        Shape::Secret => json!({ "$ref": "#/$defs/secret" }),
        Shape::Secrets => json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/secret" } }),
        Shape::TextsByName => {
            json!({ "type": "object", "additionalProperties": { "type": "string", "minLength": 1 } })
        }
        Shape::TextOrMaps { pattern, keys } => {
            let mut map = table(keys);
            map["type"] = "object".into();
            let maps = json!({ "type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": map });
            json!({ "anyOf": [text(pattern), map, maps] })
        }
        Shape::TextOr { pattern, keys } => {
            let mut map = table(keys);
            map["type"] = "object".into();
            json!({ "anyOf": [text(pattern), map] })
        }
        Shape::Map(keys) => table(keys),
        Shape::WordOr(words, keys) => {
            let mut map = table(keys);
            map["type"] = "object".into();
            json!({ "anyOf": [{ "enum": words }, variable, map] })
        }
        // Several keys take credentials, so the schema defines their map once.
        Shape::OneOf(keys, _) if std::ptr::eq(*keys, &CREDENTIALS) => json!({ "$ref": "#/$defs/credentials" }),
        Shape::OneOf(keys, alternatives) => one_of(keys, alternatives),
        Shape::MapOf(keys) => json!({ "type": ["object", "null"], "additionalProperties": table(keys) }),
        Shape::Maps(keys) => {
            let mut map = table(keys);
            map["type"] = "object".into();
            json!({ "type": "array", "maxItems": MAX_RECEIVERS, "items": map })
        }
        Shape::Words(words) => {
            let word = json!({ "anyOf": [{ "enum": words }, variable] });
            json!({ "anyOf": [word, { "type": "array", "minItems": 1, "items": word }] })
        }
        Shape::ListOf(keys) => json!({ "type": "array", "maxItems": MAX_ITEMS, "items": entry(keys) }),
    }
}

fn list(least: usize) -> Value {
    json!({ "type": "array", "minItems": least, "maxItems": MAX_ITEMS, "items": { "type": "string", "minLength": 1 } })
}
