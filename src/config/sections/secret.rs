//! Value that is a secret: text, `{env: NAME}` or `{file: PATH}`. No message in this module repeats the written text.

use std::path::Path;

use secrecy::SecretString;

use crate::config::reader::{Reader, Value};
use crate::config::yaml::expand::{expand, is_name};
use crate::config::yaml::node::Node;
use crate::registry::Secret;
use crate::regular_file;

/// Reads a secret. No message of this function repeats the written text, which may be the secret.
pub(crate) fn read_secret(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    let pairs: Vec<(&str, Value<'_>)> = value.pairs().collect();
    match (value.node, pairs.as_slice()) {
        (Node::Text(text), _) => {
            if !text.contains("${") {
                let message = "the file itself contains a secret: write {env: NAME} or {file: PATH} instead";
                reader.warn(value, message);
            }
            let text = reader.accept(value, expand(text, reader.environment))?;
            checked_secret(reader, value, text, "the secret")
        }
        (_, [("env", name)]) => {
            let name_text = reader.text(name, "the name of an environment variable")?;
            if !is_name(&name_text) {
                reader
                    .refuse(name, "this is not the name of an environment variable: use only letters, digits and `_`");
                return None;
            }
            match (reader.environment)(&name_text) {
                Some(text) => {
                    let secret = checked_secret(reader, name, text, &format!("the environment variable {name_text}"))?;
                    secret.known().map(|value| Secret::Variable { name: name_text, value: value.clone() })
                }
                None => {
                    reader.refuse(name, format!("the environment variable {name_text} is not set"));
                    None
                }
            }
        }
        (_, [("file", file)]) => {
            let path = reader.path(file, "the path of a file")?;
            reader.accept(file, check_readable(&path))?;
            Some(Secret::File(path))
        }
        (Node::Number(_) | Node::Bool(_), _) => {
            reader.refuse_with_hint(value, "a secret must be text", "quote the value");
            None
        }
        _ => {
            reader.refuse(value, "a secret must be text, {env: NAME} or {file: PATH}");
            None
        }
    }
}

fn checked_secret(reader: &Reader<'_>, value: &Value<'_>, text: String, name: &str) -> Option<Secret> {
    if text.is_empty() {
        reader.refuse(value, format!("{name} is empty"));
        return None;
    }
    Some(Secret::Value(SecretString::from(text)))
}

/// Checks that a regular file can be read. Any other kind of file is refused, because reading such a file could block a
/// run or never end.
pub(crate) fn check_readable(path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("the file {} cannot be read: {error}", path.display());
    regular_file::open(path).map(drop).map_err(cannot)
}
