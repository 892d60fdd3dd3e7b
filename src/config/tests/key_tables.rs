//! Tests of the sections' tables of keys: comparison with the example, the defaults and the JSON Schema, and marks of
//! keys with secrets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{example, keys_below, read};
use crate::config::keys::schema::Secrecy;
use crate::config::keys::secret_text::sounds_secret;
use crate::config::keys::synonym::Synonym;
use crate::config::keys::table::{Shape, Table};
use crate::config::sections::top_level::SCHEMA;
use crate::config::{difference, json_schema};

#[test]
fn the_example_shows_every_key_after_a_comment() {
    let text = example();
    assert_eq!(text.lines().next(), Some("# yaml-language-server: $schema=packaging/sync.schema.json"));
    let mut keys = Vec::new();
    keys_below(SCHEMA.root(), "", &mut keys);
    let mut names: BTreeSet<&str> = keys.iter().map(|(_, key)| key.name).collect();
    names.extend([
        "env",
        "file",
        "daemon",
        "registries",
        "tls",
        "timeouts",
        "credentials",
        "limits",
        "defaults",
        "tags",
        "sync",
    ]);
    let lines: Vec<&str> = text.lines().collect();
    for name in names {
        let shown = lines.windows(2).any(|pair| {
            let is_key = pair[1].trim_start().trim_start_matches("- ").starts_with(&format!("{name}:"));
            is_key && (pair[0].trim_start().starts_with('#'))
        });
        assert!(shown, "{name} is not in the example after a comment");
    }
}

#[test]
fn key_tables_state_the_effective_defaults() {
    let mut keys = Vec::new();
    keys_below(SCHEMA.root(), "", &mut keys);
    assert!(keys.len() > 25);
    let written = |path: &str| -> String {
        let keys = keys.iter().filter(|(full, _)| full.strip_prefix(path).is_some_and(|rest| !rest.contains('.')));
        keys.filter_map(|(_, key)| Some(format!("{}: {}", key.name, key.default?))).collect::<Vec<_>>().join(", ")
    };
    let entry = "name: a, source: ghcr.io/x/y, target: localhost:5000/y";
    let silent = read(&format!("{{version: 1, registries: {{ghcr.io: {{}}}}, sync: [{{{entry}}}]}}")).unwrap();
    let explicit = format!(
        "{{version: 1, daemon: {{{}}}, registries: {{ghcr.io: {{{}}}}}, sync: [{{{entry}, {}}}]}}",
        written("daemon."),
        written("registries.*."),
        written("sync.*.")
    );
    assert!(explicit.contains("shutdown_grace") && explicit.contains("overwrite"), "{explicit}");
    let difference = difference(&silent, &read(&explicit).unwrap());
    assert!(difference.is_empty(), "{difference:?}");
}

#[test]
fn the_examples_in_the_table_of_keys_fit_the_json_schema() {
    let mut keys = Vec::new();
    keys_below(SCHEMA.root(), "", &mut keys);
    let schema = json_schema();
    for (path, key) in keys {
        let example: Value = serde_json::from_str(key.example).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut at = &schema;
        for step in path.split('.') {
            if at["$ref"] == "#/$defs/credentials" {
                at = &schema["$defs"]["credentials"];
            }
            at = if step == "*" {
                at.get("items").unwrap_or_else(|| &at["additionalProperties"])
            } else {
                &at["properties"][step]
            };
        }
        let mut alone = at.clone();
        alone["$defs"] = schema["$defs"].clone();
        let alone = jsonschema::draft202012::new(&alone).unwrap();
        assert!(alone.is_valid(&example), "{path}: {example}");
        if let Some(default) = key.default {
            assert!(alone.is_valid(&serde_json::from_str(default).unwrap()), "{path}: {default}");
        }
    }
}

/// Adds a table and the tables below it.
fn tables_below(table: &'static Table, found: &mut Vec<&'static Table>) {
    if found.iter().any(|known| std::ptr::eq(*known, table)) {
        return;
    }
    found.push(table);
    table.keys().filter_map(|key| key.shape.table()).for_each(|below| tables_below(below, found));
}

#[test]
fn schema_lists_every_table_of_a_section_once() {
    let mut found = Vec::new();
    tables_below(SCHEMA.root(), &mut found);
    let places = |tables: &[&'static Table]| {
        let mut places: Vec<&str> = tables.iter().map(|table| table.place).collect();
        places.sort_unstable();
        places
    };
    let listed: Vec<&'static Table> = SCHEMA.tables().collect();
    assert_eq!(places(&listed), places(&found));
    assert!(listed.len() > 15);
}

#[test]
fn key_that_may_take_a_secret_is_marked_or_below_a_marked_one() {
    let mut marked = 0;
    for table in SCHEMA.tables() {
        let is_below_marked = SCHEMA.secrecy_of(table) != Secrecy::Settings;
        for key in table.keys() {
            let may_be_secret = matches!(key.shape, Shape::Secret | Shape::Secrets) || sounds_secret(key.name);
            assert!(key.secret || is_below_marked || !may_be_secret, "{} {}", key.name, table.place);
            let below = key.shape.table().map(|below| SCHEMA.secrecy_of(below));
            let has_secrets_below = !matches!(below, None | Some(Secrecy::Settings));
            assert!(key.secret || is_below_marked || !has_secrets_below, "{} {}", key.name, table.place);
            marked += usize::from(key.secret);
        }
    }
    assert!(marked >= 8, "{marked} keys");
}

#[test]
fn synonym_is_no_key_of_its_table_and_means_one() {
    let synonyms = SCHEMA.tables().flat_map(|table| SCHEMA.synonyms_of(table).iter().map(move |one| (table, one)));
    let mut count = 0;
    for (table, Synonym { written, key, .. }) in synonyms {
        assert!(table.find(written).is_none(), "`{written}` is a key {}", table.place);
        assert!(table.find(key).is_some(), "`{key}` is no key {}", table.place);
        count += 1;
    }
    assert!(count > 30, "{count} synonyms");
}
