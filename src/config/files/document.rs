//! Reader of one file: its text, up to the maximum size, and its YAML.

use std::io::ErrorKind;
use std::path::Path;

use super::other_program::OtherProgram;
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::diagnostics::problem::Problems;
use crate::config::diagnostics::report::locate_problems;
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
    if is_utf16(&bytes) {
        let message = "is UTF-16 text, which PowerShell writes with `>`: save the file as UTF-8, in PowerShell with \
                       `Out-File -Encoding utf8`";
        return Err(Problems::whole_file(&name, message.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Problems::whole_file(&name, format!("is not UTF-8 text (line {line})"))
    })
}

/// Returns true if a text is encoded as UTF-16: with a byte order mark, or with a zero byte in its first character.
fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, ..] => (*first == 0) != (*second == 0),
        _ => false,
    }
}

/// Parses a configuration, or a file that a configuration includes.
pub(super) fn parse_configuration(name: &str, text: &str, schema: &'static Schema) -> Result<Document, Problems> {
    let document = parse(name, text, Format::Configuration, schema)?;
    if let Some(program) = OtherProgram::detect(&document.root) {
        // No line is shown, because the masks do not know the keys of the other program.
        let found = Diagnostic::new(&[], Part::Value, program.message()).with_hint(program.remedy(name));
        let document = Document { format: Format::Unknown, ..document };
        let unknown = || Problems::whole_file(name, program.message());
        return Err(locate_problems(&document, vec![found], |_| None).unwrap_or_else(unknown));
    }
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
