//! From a file or a text to a configuration or its problems.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{Config, Environment, Problem, Problems, decode, node, report, syntax};

/// The largest file that is read, in bytes; no honest one comes near.
const MAX_FILE: u64 = 1 << 20;

/// Reads and checks the file at `path`. Blocking. `environment` answers for `${NAME}`, `{env: NAME}` and the places of
/// defaults; files named as secrets must be readable, but are not read yet.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let cannot = |error: std::io::Error| Problems::whole_file(&name, format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Problems::whole_file(&name, "is larger than 1MiB, which no configuration is".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Problems::whole_file(&name, format!("is not UTF-8 text (line {line})"))
    })?;
    parse(&name, &text, environment)
}

/// Checks the text of a file called `name`. See [`load`].
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn parse(name: &str, text: &str, environment: Environment<'_>) -> Result<Config, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = node::read(text).map_err(|error| syntax::problem(name, text, &error))?;
    let (config, doubts) = decode::config(&root, environment).map_err(|found| {
        report::problems(name, text, &root, found)
            .unwrap_or_else(|| Problems::whole_file(name, "cannot be resolved".to_owned()))
    })?;
    let doubts = report::problems(name, text, &root, doubts);
    let warning = |doubt: &Problem| format!("{name}:{}:{}: {}", doubt.line, doubt.column, doubt.message);
    let warnings = doubts.iter().flat_map(Problems::all).map(warning).collect();
    Ok(Config { warnings, ..config })
}
