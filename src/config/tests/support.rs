//! Environment, files and texts for the tests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::keys::table::{Key, Shape, Table};
use crate::config::{Config, Problems, parse};

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn environment(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/home/me",
        "USER" => "me",
        "PASSWORD" | "BUILD_REGISTRY_PASSWORD" | "PROD_WEU_PASSWORD" | "PROD_SEA_PASSWORD" | "IMPORTER_PASSWORD" => {
            "hunter2"
        }
        "AZURE_SECRET" => "hunter2",
        "AZURE_CLIENT_ID" | "AZURE_TENANT_ID" => "id",
        "AZURE_FEDERATED_TOKEN_FILE" => "/run/secrets/token",
        "IDENTITY_TOKEN" => "hunter2-token",
        "HOOK_SECRET" => "hunter2-of-the-hook",
        "HOOK" | "CHAT_WEBHOOK" => "https://chat.example/hooks/hunter2",
        "CONCURRENT" => "8",
        "RATE" => "10MiB/s",
        "RATE_OF_LISTS" => "5/s",
        "CREDENTIALS_DIRECTORY" => "tests/config/credentials",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

pub(super) fn read(text: &str) -> Result<Config, Problems> {
    parse("sync.yaml", text, &environment)
}

/// Returns the `.yaml` files of a folder, sorted by name.
pub(super) fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join(folder))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

pub(super) fn example() -> String {
    fs::read_to_string(root().join("sync.yaml.example")).unwrap()
}

/// Adds all keys of a table, and all keys of the tables below the table. Each key has its path.
pub(super) fn keys_below(table: &'static Table, above: &str, keys: &mut Vec<(String, &'static Key)>) {
    for key in table.keys() {
        let path = format!("{above}{}", key.name);
        match key.shape {
            Shape::Map(below) | Shape::OneOf(below, _) => keys_below(below, &format!("{path}."), keys),
            Shape::MapOf(below) | Shape::ListOf(below) | Shape::Maps(below) => {
                keys_below(below, &format!("{path}.*."), keys)
            }
            _ => keys.push((path, key)),
        }
    }
}
