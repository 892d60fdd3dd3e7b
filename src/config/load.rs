//! Entry points: from a file or a text to a configuration or its problems.

use std::path::Path;

use super::yaml::files::{Files, text_of};
use super::{Config, Environment, Problems, decode};

/// Reads and checks the file at `path` and the files that it includes. Blocking. `environment` resolves `${NAME}`,
/// `{env: NAME}` and the default paths. Files named as secrets must be readable, but are not read yet.
///
/// # Errors
/// Returns all problems at once.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Config, Problems> {
    parse(&path.display().to_string(), &text_of(path)?, environment)
}

/// Checks the text of a file called `name`. Paths of its `include` are relative to the folder of that file. See
/// [`load`].
///
/// # Errors
/// Returns all problems at once.
pub fn parse(name: &str, text: &str, environment: Environment<'_>) -> Result<Config, Problems> {
    let unknown = || Problems::whole_file(name, "cannot be resolved".to_owned());
    let files = Files::read(name, text, environment)
        .map_err(|problems| Problems::joined(problems.into_iter()).unwrap_or_else(unknown))?;
    let (config, doubts) =
        decode::config(&files.root, environment).map_err(|found| files.problems(found).unwrap_or_else(unknown))?;
    Ok(Config { warnings: files.warnings(doubts), ..config })
}
