//! Reader of one file: its text, up to the maximum size, and its YAML.

use std::io::ErrorKind;
use std::path::Path;

use crate::config::diagnostics::problem::Problems;
use crate::config::diagnostics::schema_place::is_configuration;
use crate::config::diagnostics::syntax_error::describe_syntax_error;
use crate::config::keys::schema::Schema;
use crate::config::yaml::document::{Document, Format};
use crate::config::yaml::node::{self, Node};
use crate::regular_file;

/// Maximum size of a file, in bytes: ten times the size of the largest known import.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// Reads the text of the file at `path`. Blocking.
pub(crate) fn read_text(path: &Path) -> Result<String, Problems> {
    let name = path.display().to_string();
    let bytes = regular_file::read(path, MAX_FILE).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::FileTooLarge => {
                format!("is larger than {}MiB, the maximum size of a configuration", MAX_FILE >> 20)
            }
            _ => format!("cannot be read: {error}"),
        };
        Problems::whole_file(&name, message)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Problems::whole_file(&name, format!("is not UTF-8 text (line {line})"))
    })
}

/// Parses a configuration, or a file that a configuration includes.
pub(super) fn parse_configuration(name: &str, text: &str, schema: &'static Schema) -> Result<Document, Problems> {
    let document = parse(name, text, Format::Configuration, schema)?;
    let is_configuration = is_configuration(schema, &document.root);
    let format = if is_configuration { Format::Configuration } else { Format::Unknown };
    Ok(Document { format, ..document })
}

/// Parses a file of another program.
pub(super) fn parse_foreign(name: &str, text: &str, schema: &'static Schema) -> Result<Document, Problems> {
    let document = parse(name, text, Format::Foreign, schema)?;
    let format = if matches!(document.root, Node::Map(_)) { Format::Foreign } else { Format::Unknown };
    Ok(Document { format, ..document })
}

fn parse(name: &str, text: &str, format: Format, schema: &'static Schema) -> Result<Document, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = node::read(text).map_err(|error| describe_syntax_error(schema, name, text, format, &error))?;
    Ok(Document { name: name.to_owned(), text: text.to_owned(), root, format, schema })
}
