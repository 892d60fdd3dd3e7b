//! Import of other programs' configurations: translates the files of regsync, `skopeo sync`, image-syncer, dregsy or
//! zot into a `sync.yaml`.
//!
//! The functions are pure. Keys become keys with the same meaning. A key without an equivalent becomes a comment at its
//! place and a remark. An entry that would copy more, less, or to another place than the original is skipped as a
//! whole, and is written as comments. Entries that differ only in their tags become one entry. The import copies no
//! secret. The result names an environment variable instead. The import contacts no host, and reads only the imported
//! file and the file with its credentials.

mod access;
mod detection;
mod draft;
mod dregsy;
mod duration;
mod ends;
mod form;
mod image_syncer;
mod limits;
mod page;
mod pattern;
mod range;
mod reading;
mod regsync;
mod skopeo;
mod template;
#[cfg(test)]
mod tests;
mod treatment;
mod variable;
#[cfg(test)]
mod whole_tests;
mod zot;

use std::path::{Path, PathBuf};

pub use form::Form;

use crate::config::{ForeignFile, Problem, Problems, load_foreign, parse_foreign};
use reading::Reading;

/// Options of an import, beside the file.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Program of the file; `None` detects the program from the keys.
    pub form: Option<Form>,
    /// HOST or HOST/PREFIX to copy to, as on the command line of `skopeo sync`. Only for skopeo and zot, whose files
    /// name no target.
    pub target: Option<String>,
    /// Appends the full name of the source to the target, as `skopeo sync --scoped` does. Only for skopeo's
    /// configuration.
    pub scoped: bool,
    /// File with the user names and passwords: that of image-syncer's option `--auth`, or zot's `credentialsFile`.
    /// [`import_text`] ignores it.
    pub auth: Option<PathBuf>,
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
    /// The file has keys of none of the programs.
    #[error(
        "{0} does not look like a configuration of regsync, `skopeo sync`, image-syncer, dregsy or zot: name the \
         program with --from"
    )]
    UnknownForm(String),
    /// The file has only authentication.
    #[error(
        "{0} has only the authentication of image-syncer: name the file with the images first, and this file by --auth"
    )]
    OnlyAuth(String),
    /// A file of skopeo or zot names no target, and the options name none.
    #[error(
        "{0} does not name a target: write --target HOST[/PREFIX], the target on the command line of `skopeo sync` or \
         the address of zot itself"
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
    /// The file names its targets itself.
    #[error("--target is for the files of `skopeo sync` and zot: {name} is a configuration of {}, which names its \
             targets itself", .form.name())]
    TargetNotAsked {
        /// Name of the file.
        name: String,
        /// Program of the file.
        form: Form,
    },
    /// The option `--scoped` does not apply to the program.
    #[error("--scoped is for the YAML of `skopeo sync`: {name} is a configuration of {}", .form.name())]
    ScopedNotAsked {
        /// Name of the file.
        name: String,
        /// Program of the file.
        form: Form,
    },
    /// The program reads no other file with credentials.
    #[error("--auth is for the files of image-syncer and zot: {name} is a configuration of {}", .form.name())]
    AuthNotAsked {
        /// Name of the file.
        name: String,
        /// Program of the file.
        form: Form,
    },
}

/// Reads a file and translates it into a `sync.yaml`. Blocking.
///
/// # Errors
/// Fails if the file cannot be read, is not a configuration of these programs, or does not fit the options in `order`.
pub fn import(path: &Path, order: &Order) -> Result<Imported, ImportError> {
    let auth = order.auth.as_deref().map(load_foreign).transpose()?;
    translate(&load_foreign(path)?, auth.as_ref(), order)
}

/// Translates the text of a file called `name`, like [`import`], and reads no file.
///
/// # Errors
/// Fails in the same cases as [`import`].
pub fn import_text(name: &str, text: &str, order: &Order) -> Result<Imported, ImportError> {
    translate(&parse_foreign(name, text)?, None, order)
}

fn translate(file: &ForeignFile, auth: Option<&ForeignFile>, order: &Order) -> Result<Imported, ImportError> {
    let name = file.name().to_owned();
    let form = match order.form.or_else(|| detection::detect_form(file.root())) {
        Some(form) => form,
        None if image_syncer::is_auth(file.root()) => return Err(ImportError::OnlyAuth(name)),
        None => return Err(ImportError::UnknownForm(name)),
    };
    check_order(form, auth.is_some(), order, name)?;
    let destination = |order: &Order| {
        let text = order.target.clone().ok_or_else(|| ImportError::NoTarget(file.name().to_owned()))?;
        skopeo::Destination::new(&text, order.scoped).ok_or(ImportError::BadTarget { text })
    };
    let (mut reading, mut auth_reading) = (Reading::default(), Reading::default());
    let separate = auth.map(|auth| (auth.root(), &mut auth_reading));
    let draft = match form {
        Form::Regsync => regsync::translate(file.root(), &mut reading),
        Form::Dregsy => dregsy::translate(file.root(), &mut reading),
        Form::ImageSyncer => image_syncer::translate(file.root(), separate, &mut reading),
        Form::Skopeo => skopeo::translate(file.root(), &destination(order)?, &mut reading),
        Form::Zot => zot::translate(file.root(), &destination(order)?, separate, &mut reading),
    };
    let unknown = reading.unknown + auth_reading.unknown;
    let mut remarks = Remarks::default();
    for (file, reading) in [(Some(file), reading), (auth, auth_reading)] {
        let Some(file) = file else { continue };
        if let Some(problems) = file.locate_problems(reading.errors) {
            return Err(problems.into());
        }
        remarks.add(file.locate_problems(reading.remarks));
    }
    let (entries, skipped) = draft.counts();
    let Remarks { remarks, more: more_remarks } = remarks;
    Ok(Imported { form, text: draft.into_text(), entries, skipped, unknown, remarks, more_remarks })
}

/// Refuses the options that do not apply to the program of the file.
fn check_order(form: Form, has_auth: bool, order: &Order, name: String) -> Result<(), ImportError> {
    if order.target.is_some() && !form.needs_target() {
        Err(ImportError::TargetNotAsked { name, form })
    } else if order.scoped && form != Form::Skopeo {
        Err(ImportError::ScopedNotAsked { name, form })
    } else if has_auth && !form.has_auth_file() {
        Err(ImportError::AuthNotAsked { name, form })
    } else {
        Ok(())
    }
}

/// Remarks of all files of an import.
#[derive(Default)]
struct Remarks {
    remarks: Vec<Problem>,
    /// Number of remarks that are not in `remarks`.
    more: usize,
}

impl Remarks {
    fn add(&mut self, problems: Option<Problems>) {
        self.more += problems.as_ref().map_or(0, Problems::more);
        self.remarks.extend(problems.iter().flatten().cloned());
    }
}
