//! Tests with the files in `tests/config`. transship reads each valid file, and the file matches the JSON Schema. For
//! each invalid file, the `.txt` file with the same name contains the expected message. With `UPDATE_REFERENCE=1`, the
//! tests write the `.txt` files.

use std::fs;

use serde_json::Value;

use super::support::{environment, root, yaml_files};
use crate::config::{json_schema, parse};

#[test]
fn message_of_every_invalid_file_is_current() {
    let files = yaml_files("tests/config/invalid");
    assert!(files.len() >= 55, "only {} files", files.len());
    let mut different = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let problems = parse(&name, &text, &environment).expect_err(&name);
        let shown = format!("{problems}\n");
        let message_file = file.with_extension("txt");
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            fs::write(&message_file, &shown).unwrap();
        }
        let expected = fs::read_to_string(&message_file).unwrap_or_default();
        if shown != expected {
            different.push(format!("--- {name}, expected\n{expected}--- {name}, found\n{shown}"));
        }
        assert!(!shown.contains("hunter2") && !shown.contains("12345678"), "{name} shows a secret:\n{shown}");
    }
    assert!(
        different.is_empty(),
        "{}\n`UPDATE_REFERENCE=1 tests/run is_current` writes these messages",
        different.join("\n")
    );
}

#[test]
fn every_valid_file_is_read_and_fits_the_json_schema() {
    let files = yaml_files("tests/config/valid");
    assert!(files.len() >= 7, "only {} files", files.len());
    let schema = jsonschema::draft202012::new(&json_schema()).unwrap();
    for file in files.into_iter().chain(yaml_files("examples")).chain([root().join("sync.yaml.example")]) {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        if let Err(problems) = parse(&name, &text, &environment) {
            panic!("{problems}");
        }
        let value: Value = serde_yaml::from_str(&text).unwrap();
        let errors: Vec<String> = schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path)).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}
