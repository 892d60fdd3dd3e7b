//! Reader of a secret: text, `{env: NAME}` or `{file: PATH}`. The reader removes line breaks at the end of a secret.
//! Messages of this module contain no secret.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::expand::{expand, is_name};
use crate::config::yaml::node::Node;
use crate::registry::Secret;
use crate::regular_file;

/// Mode bit of a file that every user of the machine can change.
const WRITABLE_BY_ALL: u32 = 0o002;

/// Reads a secret. Refuses a secret of several lines.
pub(crate) fn read_secret(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    let found = find_secret(reader, value)?;
    if found.content.expose_secret().contains(['\n', '\r']) {
        let message = format!("{} has more than one line, and a secret is one line", found.place);
        reader.refuse_with_hint(&found.value, message, "write only the secret");
        return None;
    }
    Some(found.secret)
}

/// Reads a secret that can have several lines, such as the JSON key of a service account.
pub(crate) fn read_secret_of_lines(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    Some(find_secret(reader, value)?.secret)
}

/// Secret that exists and is not empty.
struct FoundSecret<'n> {
    secret: Secret,
    /// Content at the time of the read.
    content: SecretString,
    /// Place of the secret, as the subject of a message: `the file /run/secrets/token`.
    place: String,
    /// Value in the configuration to which a message about the secret refers.
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
                Some(text) => {
                    let found = found_text(reader, name, &text, format!("the environment variable {variable}"))?;
                    let secret = Secret::Variable { name: variable, value: found.content.clone() };
                    Some(FoundSecret { secret, ..found })
                }
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

/// Warns about a secret that the configuration contains as plain text, and about `$$` in the text of a secret.
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

/// Reads the secret in a file.
fn read_content(reader: &Reader<'_>, value: &Value<'_>, path: &Path) -> Option<SecretString> {
    let refuse = |error| {
        let message = format!("the file {} has no secret: {error}", path.display());
        reader.refuse_with_hint(value, message, "write the secret to the file");
    };
    Secret::read_file(path).map_err(refuse).ok()
}

/// Warns if every user of the machine can change the file of a secret.
fn warn_about_permissions(reader: &Reader<'_>, value: &Value<'_>, path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode & WRITABLE_BY_ALL != 0 {
        let message = format!("every user of this machine can change the secret in the file {}", path.display());
        let found = Diagnostic::new(&value.path, Part::Value, message);
        reader.add_warning(None, found.with_hint(format!("run `chmod o-w {}`", path.display())));
    }
}

/// Checks that a path is a readable regular file. Refuses any other kind of file, such as a named pipe, because a read
/// of the pipe could block for ever.
pub(crate) fn check_readable(path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("the file {} cannot be read: {error}", path.display());
    regular_file::open(path).map(drop).map_err(cannot)
}
