//! From a file or a text to a configuration or its problems.

use std::path::Path;

use super::yaml::files::{Files, text_of};
use super::{Config, Environment, Problems, decode};

/// Reads and checks the file at `path` and those that it includes. Blocking. `environment` answers for `${NAME}`, `{env: NAME}`
/// and the places of defaults; files named as secrets must be readable, but are not read yet.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Config, Problems> {
    parse(&path.display().to_string(), &text_of(path)?, environment)
}

/// Checks the text of a file called `name`, in whose folder is what it includes. See [`load`].
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn parse(name: &str, text: &str, environment: Environment<'_>) -> Result<Config, Problems> {
    let unknown = || Problems::whole_file(name, "cannot be resolved".to_owned());
    let files = Files::read(name, text, environment)
        .map_err(|problems| Problems::joined(problems.into_iter()).unwrap_or_else(unknown))?;
    let (config, doubts) =
        decode::config(&files.root, environment).map_err(|found| files.problems(found).unwrap_or_else(unknown))?;
    Ok(Config { warnings: files.warnings(doubts), ..config })
}
