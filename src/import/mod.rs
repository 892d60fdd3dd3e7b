//! Import of other programs' configurations: translates the YAML of regsync or of `skopeo sync` into a `sync.yaml`.
//!
//! The functions are pure. Keys become keys with the same meaning. A key without an equivalent becomes a comment at its
//! place and a remark. An entry that would copy more, less, or to another place than the original is skipped as a
//! whole, and is written as comments. Entries that differ only in their tags become one entry. The import copies no
//! secret. The result names an environment variable instead. The import contacts no host, and reads only the imported
//! file.

mod draft;
mod page;
mod pattern;
mod range;
mod reading;
mod regsync;
mod skopeo;
mod template;
#[cfg(test)]
mod tests;
mod variable;
#[cfg(test)]
mod whole_tests;

use std::path::Path;

use crate::config::{ForeignFile, Node, Problem, Problems, load_foreign, parse_foreign};
use draft::Draft;
use reading::Reading;

/// Program whose configuration is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// regclient's regsync, version 1.
    Regsync,
    /// The YAML of `skopeo sync --src yaml`.
    Skopeo,
}

/// Options of an import, beside the file.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Program of the file; `None` detects the program from the keys.
    pub form: Option<Form>,
    /// HOST or HOST/PREFIX to copy to, as on the command line of `skopeo sync`. Only for skopeo's configuration.
    pub target: Option<String>,
    /// Appends the full name of the source to the target, as `skopeo sync --scoped` does. Only for skopeo's
    /// configuration.
    pub scoped: bool,
}

/// Result of an import.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Program of the imported file.
    pub form: Form,
    /// Text of the `sync.yaml`.
    pub text: String,
    /// Number of active entries.
    pub entries: usize,
    /// Number of entries that are written as comments, because one of their keys or values has no equivalent.
    pub skipped: usize,
    /// Number of keys and values that the import does not know. With such keys, the result may have another meaning.
    pub unknown: usize,
    /// Remarks about keys and values without an exact equivalent, each with its place in the imported file.
    pub remarks: Vec<Problem>,
    /// Number of further remarks; the comments contain them.
    pub more_remarks: usize,
}

/// Reason why an import has no result.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read, or its own program would refuse it.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The file has neither keys of regsync nor of skopeo.
    #[error(
        "{0} looks neither like a configuration of regsync (creds, defaults, sync) nor like a configuration of `skopeo \
         sync` (hosts with images): name the program with --from regsync or --from skopeo"
    )]
    UnknownForm(String),
    /// A file of skopeo names no target, and the options name none.
    #[error(
        "{0} does not name a target: write --target HOST[/PREFIX], the target on the command line of `skopeo sync`"
    )]
    NoTarget(String),
    /// The target is not HOST or HOST/PREFIX.
    #[error(
        "--target {text:?} is not a valid target: write HOST or HOST/PREFIX, with a `.` or a port in HOST; for \
         a name at Docker Hub write docker.io/NAME"
    )]
    BadTarget {
        /// Text of the option.
        text: String,
    },
    /// A file of regsync names its targets itself.
    #[error(
        "--target and --scoped are for the YAML of `skopeo sync`: {0} is a configuration of regsync, which names its \
         targets itself"
    )]
    TargetNotAsked(String),
}

/// Reads a file and translates it into a `sync.yaml`. Blocking.
///
/// # Errors
/// Fails if the file cannot be read, is not a configuration of these programs, or does not fit the options in `order`.
pub fn import(path: &Path, order: &Order) -> Result<Imported, ImportError> {
    translate(&load_foreign(path)?, order)
}

/// Translates the text of a file called `name`, like [`import`].
///
/// # Errors
/// Fails in the same cases as [`import`].
pub fn import_text(name: &str, text: &str, order: &Order) -> Result<Imported, ImportError> {
    translate(&parse_foreign(name, text)?, order)
}

fn translate(file: &ForeignFile, order: &Order) -> Result<Imported, ImportError> {
    let name = file.name().to_owned();
    let form = order.form.or_else(|| detect_form(file.root())).ok_or_else(|| ImportError::UnknownForm(name.clone()))?;
    let mut reading = Reading::default();
    let draft = match form {
        Form::Regsync if order.target.is_some() || order.scoped => return Err(ImportError::TargetNotAsked(name)),
        Form::Regsync => regsync::translate(file.root(), &mut reading),
        Form::Skopeo => {
            let text = order.target.clone().ok_or(ImportError::NoTarget(name))?;
            let target = skopeo::Destination::new(&text, order.scoped).ok_or(ImportError::BadTarget { text })?;
            skopeo::translate(file.root(), &target, &mut reading)
        }
    };
    let Reading { errors, remarks, unknown } = reading;
    if let Some(problems) = file.locate_problems(errors) {
        return Err(problems.into());
    }
    Ok(build_imported(form, draft, file.locate_problems(remarks), unknown))
}

fn build_imported(form: Form, draft: Draft, remarks: Option<Problems>, unknown: usize) -> Imported {
    let more_remarks = remarks.as_ref().map_or(0, Problems::more);
    let remarks = remarks.iter().flatten().cloned().collect();
    let (entries, skipped) = draft.counts();
    Imported { form, text: draft.into_text(), entries, skipped, unknown, remarks, more_remarks }
}

/// Detects the program from the keys. A file of regsync has a few fixed keys. The keys of a file of skopeo are hosts.
fn detect_form(root: &Node) -> Option<Form> {
    let Node::Map(pairs) = root else { return None };
    if pairs.iter().any(|(key, node)| (key == "sync" && matches!(node, Node::List(_))) || key == "creds") {
        return Some(Form::Regsync);
    }
    let is_registry = |node: &Node| match node {
        Node::Map(keys) => keys.iter().any(|(key, _)| skopeo::KEYS.contains(&key.as_str())),
        _ => false,
    };
    pairs.iter().any(|(_, node)| is_registry(node)).then_some(Form::Skopeo)
}
