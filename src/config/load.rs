//! Functions that read a configuration from a file or a text.

use std::path::Path;

use super::decode::read_config;
use super::diagnostics::problem::Problems;
use super::files::document::read_text;
use super::files::third_party::ForeignFile;
use super::files::tree::Files;
use super::model::config::Config;
use super::sections::top_level::SCHEMA;
use super::yaml::expand::Environment;

/// Reads and checks a configuration and its included files. `environment` returns the values of variables and supplies
/// the default paths. The function also reads the files of secrets to check them, but the result contains only the
/// paths of these files. The call blocks.
///
/// # Errors
/// Returns all problems, not only the first problem.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Config, Problems> {
    parse(&path.display().to_string(), &read_text(path)?, environment)
}

/// Reads a configuration from a text, like [`load`]. `name` is the path of the file. Paths under `include` are relative
/// to the folder of the file.
///
/// # Errors
/// Returns all problems, not only the first problem.
pub fn parse(name: &str, text: &str, environment: Environment<'_>) -> Result<Config, Problems> {
    let unknown = || Problems::whole_file(name, "cannot be resolved".to_owned());
    let files = Files::read(name, text, environment, &SCHEMA)
        .map_err(|problems| Problems::join(problems.into_iter()).unwrap_or_else(unknown))?;
    let (config, warnings) =
        read_config(&files.root, environment).map_err(|found| files.locate_problems(found).unwrap_or_else(unknown))?;
    Ok(Config { warnings: files.locate_warnings(warnings), ..config })
}

/// Reads a file of another program. The call blocks.
///
/// # Errors
/// Fails if the file is unreadable, is larger than 16 MiB, or is not valid YAML.
pub(crate) fn load_foreign(path: &Path) -> Result<ForeignFile, Problems> {
    ForeignFile::load(path, &SCHEMA)
}

/// Parses a text of another program's file. `name` is the name of the file in messages.
///
/// # Errors
/// Fails if the text is not valid YAML.
pub(crate) fn parse_foreign(name: &str, text: &str) -> Result<ForeignFile, Problems> {
    ForeignFile::parse(name, text, &SCHEMA)
}

/// Returns true if a text may contain a secret. Messages must not contain this text.
pub(crate) fn may_be_secret(text: &str) -> bool {
    SCHEMA.hides_secret(text)
}
