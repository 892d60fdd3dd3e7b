//! Entry points: read a file or a text, and return a configuration or its problems.

use std::path::Path;

use super::decode::read_config;
use super::diagnostics::problem::Problems;
use super::files::document::read_text;
use super::files::third_party::ForeignFile;
use super::files::tree::Files;
use super::model::config::Config;
use super::sections::top_level::SCHEMA;
use super::yaml::expand::Environment;

/// Reads and checks the file at `path` and all included files. Blocking. `environment` resolves `${NAME}`,
/// `{env: NAME}` and the default paths. The files of secrets must be readable, but the function does not read the
/// secrets.
///
/// # Errors
/// Returns all problems at once.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Config, Problems> {
    parse(&path.display().to_string(), &read_text(path)?, environment)
}

/// Checks the text of the file `name`. Paths under `include` are relative to the folder of that file. See [`load`].
///
/// # Errors
/// Returns all problems at once.
pub fn parse(name: &str, text: &str, environment: Environment<'_>) -> Result<Config, Problems> {
    let unknown = || Problems::whole_file(name, "cannot be resolved".to_owned());
    let files = Files::read(name, text, environment, &SCHEMA)
        .map_err(|problems| Problems::join(problems.into_iter()).unwrap_or_else(unknown))?;
    let (config, warnings) =
        read_config(&files.root, environment).map_err(|found| files.locate_problems(found).unwrap_or_else(unknown))?;
    Ok(Config { warnings: files.locate_warnings(warnings), ..config })
}

/// Reads a file of another program. Blocking.
///
/// # Errors
/// Returns the problems if the file cannot be read, is larger than 16 MiB or is not valid YAML.
pub(crate) fn load_foreign(path: &Path) -> Result<ForeignFile, Problems> {
    ForeignFile::load(path, &SCHEMA)
}

/// Parses the text of the file `name`, a file of another program.
///
/// # Errors
/// Returns the problems if the text is not valid YAML.
pub(crate) fn parse_foreign(name: &str, text: &str) -> Result<ForeignFile, Problems> {
    ForeignFile::parse(name, text, &SCHEMA)
}

/// Returns true if a text may be or contain a secret. No message may repeat such a text.
pub(crate) fn may_be_secret(text: &str) -> bool {
    SCHEMA.hides_secret(text)
}
