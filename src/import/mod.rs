//! Configurations of other programs, told in our words: the YAML of regsync or of `skopeo sync` in, a `sync.yaml` out.
//!
//! Pure functions. What is understood becomes keys of the same meaning; what has no equal becomes a comment at its
//! place and a remark. What would copy more, less, or to another place than the original said is left out whole, as
//! comments. Entries that differ in their tags only become one. No secret is carried over: it becomes the name of an
//! environment variable. Nothing is contacted, and no file is read but the one.

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

use crate::config::{Foreign, Node, Problem, Problems};
use draft::Draft;
use reading::Reading;

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// regclient's regsync, version 1.
    Regsync,
    /// The YAML of `skopeo sync --src yaml`.
    Skopeo,
}

/// What is asked for beside the file.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Whose configuration it is; `None` is told from its keys.
    pub form: Option<Form>,
    /// HOST or HOST/PREFIX to copy to, as `skopeo sync` takes it on its command line. Only for skopeo's.
    pub target: Option<String>,
    /// Whether the whole name of the source goes behind the target, as by `skopeo sync --scoped`. Only for skopeo's.
    pub scoped: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Whose configuration it was.
    pub form: Form,
    /// The `sync.yaml`.
    pub text: String,
    /// How many entries it has.
    pub entries: usize,
    /// How many entries are comments, since something in them has no equal.
    pub left_out: usize,
    /// The number of keys and values that are not understood: the result may mean something else.
    pub unknown: usize,
    /// What has no equal or none quite, each with its place in the file that was read.
    pub remarks: Vec<Problem>,
    /// How many remarks there are beyond those; the comments tell of them.
    pub more_remarks: usize,
}

/// Why there is no `sync.yaml`.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read, or says what its own program would refuse.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// Its keys are neither regsync's nor skopeo's.
    #[error(
        "{0} looks neither like regsync's configuration (creds, defaults, sync) nor like that of `skopeo sync` (hosts with \
         images); say whose it is by --from regsync or --from skopeo"
    )]
    UnknownForm(String),
    /// skopeo's file does not say where to.
    #[error(
        "{0} does not say where to copy to; say it as on the command line of `skopeo sync`: --target HOST[/PREFIX]"
    )]
    NoTarget(String),
    /// The target is none.
    #[error(
        "--target {text:?} is no place for repositories: write HOST or HOST/PREFIX, with a `.` or a port in HOST; for \
         a name at Docker Hub write docker.io/NAME"
    )]
    BadTarget {
        /// As it was written.
        text: String,
    },
    /// regsync's file names its targets itself.
    #[error("--target and --scoped are for the YAML of `skopeo sync`: {0} is regsync's and names its targets itself")]
    TargetNotAsked(String),
}

/// Reads a file and tells it in our words. Blocking.
///
/// # Errors
/// Where the file cannot be read, is no configuration of these programs, or lacks what `order` must say.
pub fn import(path: &Path, order: &Order) -> Result<Imported, ImportError> {
    told(&Foreign::load(path)?, order)
}

/// As [`import`], of the text of a file called `name`.
///
/// # Errors
/// As [`import`].
pub fn import_text(name: &str, text: &str, order: &Order) -> Result<Imported, ImportError> {
    told(&Foreign::parse(name, text)?, order)
}

fn told(file: &Foreign, order: &Order) -> Result<Imported, ImportError> {
    let name = file.name().to_owned();
    let form = order.form.or_else(|| form_of(file.root())).ok_or_else(|| ImportError::UnknownForm(name.clone()))?;
    let mut reading = Reading::default();
    let draft = match form {
        Form::Regsync if order.target.is_some() || order.scoped => return Err(ImportError::TargetNotAsked(name)),
        Form::Regsync => regsync::draft(file.root(), &mut reading),
        Form::Skopeo => {
            let text = order.target.clone().ok_or(ImportError::NoTarget(name))?;
            let target = skopeo::Destination::new(&text, order.scoped).ok_or(ImportError::BadTarget { text })?;
            skopeo::draft(file.root(), &target, &mut reading)
        }
    };
    let Reading { wrong, remarks, unknown } = reading;
    if let Some(problems) = file.problems(wrong) {
        return Err(problems.into());
    }
    Ok(imported(form, draft, file.problems(remarks), unknown))
}

fn imported(form: Form, draft: Draft, remarks: Option<Problems>, unknown: usize) -> Imported {
    let more_remarks = remarks.as_ref().map_or(0, Problems::more);
    let remarks = remarks.iter().flatten().cloned().collect();
    let (entries, left_out) = draft.counts();
    Imported { form, text: draft.into_text(), entries, left_out, unknown, remarks, more_remarks }
}

/// Told from the keys: regsync's are few and known, skopeo's are hosts.
fn form_of(root: &Node) -> Option<Form> {
    let Node::Map(pairs) = root else { return None };
    if pairs.iter().any(|(key, node)| (key == "sync" && matches!(node, Node::List(_))) || key == "creds") {
        return Some(Form::Regsync);
    }
    let is_registry = |node: &Node| matches!(node, Node::Map(keys) if keys.iter().any(|(key, _)| skopeo::KEYS.contains(&key.as_str())));
    pairs.iter().any(|(_, node)| is_registry(node)).then_some(Form::Skopeo)
}
