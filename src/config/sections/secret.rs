//! Value that is a secret: text, `{env: NAME}` or `{file: PATH}`. No message in this module repeats the written text.
//! A secret has the same content from each of these places: the text without the line breaks at its end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::expand::{expand, is_name};
use crate::config::yaml::node::Node;
use crate::registry::Secret;
use crate::regular_file;

/// Permission of every user of the machine to change a file.
const WRITABLE_BY_ALL: u32 = 0o002;

/// Reads a secret of one line. No message of this function repeats the written text, which may be the secret.
pub(crate) fn read_secret(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    let found = find_secret(reader, value)?;
    if found.content.expose_secret().contains(['\n', '\r']) {
        let message = format!("{} has more than one line, and a secret is one line", found.place);
        reader.refuse_with_hint(&found.value, message, "write only the secret");
        return None;
    }
    Some(found.secret)
}

/// Reads a secret that may have several lines, such as the key of a service account in a variable of a program.
pub(crate) fn read_secret_of_lines(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    Some(find_secret(reader, value)?.secret)
}

/// Secret that exists and is not empty.
struct FoundSecret<'n> {
    secret: Secret,
    /// Present content.
    content: SecretString,
    /// Place of the secret, as the subject of a message.
    place: String,
    /// Value that names the place.
    value: Value<'n>,
}

fn find_secret<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Option<FoundSecret<'n>> {
    let pairs: Vec<(&str, Value<'n>)> = value.pairs().collect();
    match (value.node, pairs.as_slice()) {
        (Node::Text(text), _) => {
            warn_about_written_secret(reader, value, text);
            let text = reader.accept(value, expand(text, reader.environment))?;
            found_text(reader, value, &text, "the secret".to_owned())
        }
        (_, [("env", name)]) => {
            let variable = reader.text(name, "the name of an environment variable")?;
            if !is_name(&variable) {
                reader
                    .refuse(name, "this is not the name of an environment variable: use only letters, digits and `_`");
                return None;
            }
            match (reader.environment)(&variable) {
                Some(text) => found_text(reader, name, &text, format!("the environment variable {variable}")),
                None => {
                    reader.refuse(name, format!("the environment variable {variable} is not set"));
                    None
                }
            }
        }
        (_, [("file", file)]) => {
            let path = reader.path(file, "the path of a file")?;
            reader.accept(file, check_readable(&path))?;
            let content = read_content(reader, file, &path)?;
            warn_about_permissions(reader, file, &path);
            let place = format!("the file {}", path.display());
            Some(FoundSecret { secret: Secret::File(path), content, place, value: file.clone() })
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

/// Warns about a secret that is readable in the configuration, and about `$$` in it.
fn warn_about_written_secret(reader: &Reader<'_>, value: &Value<'_>, text: &str) {
    if !text.contains("${") {
        let message = "the file itself contains a secret: write {env: NAME} or {file: PATH} instead";
        reader.warn(value, message);
    }
    if text.contains("$$") {
        let found = Diagnostic::new(&value.path, Part::Value, "transship reads each `$$` in this secret as one `$`");
        let hint = "write `$$$$` for two of them; {env: NAME} and {file: PATH} need no such spelling";
        reader.add_warning(None, found.with_hint(hint));
    }
}

fn found_text<'n>(reader: &Reader<'_>, value: &Value<'n>, text: &str, place: String) -> Option<FoundSecret<'n>> {
    let Some(Secret::Value(content)) = Secret::from_text(text) else {
        reader.refuse(value, format!("{place} is empty"));
        return None;
    };
    Some(FoundSecret { secret: Secret::Value(content.clone()), content, place, value: value.clone() })
}

/// Returns the content of a readable file with a secret.
fn read_content(reader: &Reader<'_>, value: &Value<'_>, path: &Path) -> Option<SecretString> {
    let refuse = |error| {
        let message = format!("the file {} has no secret: {error}", path.display());
        reader.refuse_with_hint(value, message, "write the secret to the file");
    };
    Secret::read_file(path).map_err(refuse).ok()
}

/// Warns about a file of a secret that every user of the machine can change.
fn warn_about_permissions(reader: &Reader<'_>, value: &Value<'_>, path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode & WRITABLE_BY_ALL != 0 {
        let message = format!("every user of this machine can change the secret in the file {}", path.display());
        let found = Diagnostic::new(&value.path, Part::Value, message);
        reader.add_warning(None, found.with_hint(format!("run `chmod o-w {}`", path.display())));
    }
}

/// Checks that a regular file can be read. Any other kind of file is refused, because reading such a file could block a
/// run or never end.
pub(crate) fn check_readable(path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("the file {} cannot be read: {error}", path.display());
    regular_file::open(path).map(drop).map_err(cannot)
}
