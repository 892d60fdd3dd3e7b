//! Tests of the JSON Schema.

use std::fs;

use serde_json::Value;

use super::support::{read, root};
use crate::config::json_schema;

#[test]
fn json_schema_is_valid_and_is_current() {
    let schema = json_schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let path = root().join("packaging/sync.schema.json");
    let text = format!("{schema:#}\n");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "{} is not current: `UPDATE_REFERENCE=1 tests/run is_current` writes it",
        path.display()
    );
}

#[test]
fn the_schema_refuses_unknown_keys_and_impossible_values() {
    let schema = jsonschema::draft202012::new(&json_schema()).unwrap();
    for text in [
        "{version: 1, sync: [], wibble: 1}",
        "{version: 2, sync: []}",
        "{version: 1}",
        "{version: 1, sync: [{name: a, source: b/c}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: t.example/d, targets: [e]}]}",
        "{version: 1, sync: [{name: 'a b', source: b/c, target: t.example/d}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: t.example/d, overwrite: sometimes}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: t.example/d, tags: {include: [3.10]}}]}",
        "{version: 1, sync: [], daemon: {memory: lots}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {username: me}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: }}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {token: x, anonymous: true}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {username: me, password: {nev: X}}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {limits: {requests: 10}}}}",
        "{version: 1, sync: [{name: a, source: b/c, target: t.example/d, credentials: {username: me, password: x}}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: t.example/d, credentials: {target: {username: me}}}]}",
        "{version: 1, sync: [], registries: {ghcr.io: {limits: {profile: acr}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {limits: {writes: never}}}}",
        "{version: 1, sync: [], daemon: {status: {token: 0123456789abcdef}}}",
        "{version: 1, sync: [], daemon: {status: ['127.0.0.1:9180']}}",
        "{version: 1, sync: [], daemon: {bandwidth: []}}",
        "{version: 1, sync: [], daemon: {bandwidth: {between: '08:00-18:00'}}}",
        "{version: 1, sync: [], daemon: {bandwidth: [{rate: 1MiB/s, between: 8-18}]}}",
    ] {
        let value: Value = serde_yaml::from_str(text).unwrap();
        assert!(!schema.is_valid(&value), "the schema takes {text}");
        assert!(read(text).is_err(), "{text} is read");
    }
}
