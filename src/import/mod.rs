//! Import of other programs' configurations. The import translates a file of regsync, `skopeo sync`, image-syncer,
//! dregsy or zot into a `sync.yaml`.
//!
//! The import sends no requests, and reads only the imported file and the file of credentials. The rules of the import:
//! - If a key has an equivalent, the import writes the equivalent. If not, the import writes a comment and reports a
//!   remark.
//! - If an entry cannot copy exactly the images of the original configuration to the original target, the import writes
//!   the whole entry as a comment.
//! - If entries differ only in their tags, the import writes one entry for all these tags.
//! - The result contains names of environment variables instead of secrets.

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

pub use form::Program;

use crate::config::{ForeignFile, Problem, Problems, load_foreign, parse_foreign};
use reading::Reading;

/// Options of an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Program that the file belongs to. `None` means that the import detects the program.
    pub form: Option<Program>,
    /// Target as HOST or HOST/PREFIX. Only files of skopeo and zot need the option, because these files contain no
    /// target.
    pub target: Option<String>,
    /// True if the full name of the source becomes a part of the target, as with `skopeo sync --scoped`. Valid only for
    /// skopeo.
    pub scoped: bool,
    /// File with user names and passwords: the file of image-syncer's `--auth`, or zot's `credentialsFile`.
    /// [`import_text`] does not read the file.
    pub auth: Option<PathBuf>,
}

/// Result of an import.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Program of the imported file.
    pub form: Program,
    /// Text of the `sync.yaml`.
    pub text: String,
    /// Number of active entries in `text`. Skipped entries are not counted.
    pub entries: usize,
    /// Number of skipped entries. `text` contains a skipped entry as a comment.
    pub skipped: usize,
    /// Number of unknown keys and values. An unknown key may change the copied content.
    pub unknown: usize,
    /// Remarks about keys and values without an exact equivalent. Each remark has its place in the imported file.
    pub remarks: Vec<Problem>,
    /// Number of remarks that `remarks` omits. The comments in `text` contain all remarks.
    pub more_remarks: usize,
}

/// Error of an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read, or contains a value that the other program refuses.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The import cannot detect the program of the file.
    #[error(
        "{0} does not look like a configuration of regsync, `skopeo sync`, image-syncer, dregsy or zot: name the \
         program with --from"
    )]
    UnknownForm(String),
    /// The file contains credentials of image-syncer but no images.
    #[error(
        "{0} contains only credentials of image-syncer: give the file with the images as the argument, and this file \
            with --auth"
    )]
    OnlyAuth(String),
    /// The file belongs to skopeo or zot, and the options contain no target.
    #[error(
        "{0} contains no target: add --target HOST[/PREFIX]. For skopeo, this is the target on the command line of \
            `skopeo sync`; for zot, the address of zot"
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
    /// The options contain a target, but the file contains its own targets.
    #[error("--target is for the files of `skopeo sync` and zot: {name} is a configuration of {}, which names its \
             targets itself", .form.name())]
    TargetNotAsked {
        /// Name of the file.
        name: String,
        /// Program of the file.
        form: Program,
    },
    /// The option `--scoped` does not apply to the program.
    #[error("--scoped is for the YAML of `skopeo sync`: {name} is a configuration of {}", .form.name())]
    ScopedNotAsked {
        /// Name of the file.
        name: String,
        /// Program of the file.
        form: Program,
    },
    /// The options contain a file of credentials, but the program of the file has no file of credentials.
    #[error("--auth is for the files of image-syncer and zot: {name} is a configuration of {}", .form.name())]
    AuthNotAsked {
        /// Name of the file.
        name: String,
        /// Program of the file.
        form: Program,
    },
}

/// Reads a file and translates the file into a `sync.yaml`. The call blocks.
///
/// # Errors
/// Fails if the file is unreadable, has no known program, contains a refused value, or does not fit the options in
/// `order`.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let auth = options.auth.as_deref().map(load_foreign).transpose()?;
    translate(&load_foreign(path)?, auth.as_ref(), options)
}

/// Translates `text` like [`import`], and reads no file. `name` is the name of the file in errors.
///
/// # Errors
/// Fails in the same cases as [`import`].
pub fn import_text(name: &str, text: &str, options: &ImportOptions) -> Result<Imported, ImportError> {
    translate(&parse_foreign(name, text)?, None, options)
}

fn translate(file: &ForeignFile, auth: Option<&ForeignFile>, options: &ImportOptions) -> Result<Imported, ImportError> {
    let name = file.name().to_owned();
    let form = match options.form.or_else(|| detection::detect_form(file.root())) {
        Some(form) => form,
        None if image_syncer::is_auth(file.root()) => return Err(ImportError::OnlyAuth(name)),
        None => return Err(ImportError::UnknownForm(name)),
    };
    check_order(form, auth.is_some(), options, name)?;
    let destination = |options: &ImportOptions| {
        let text = options.target.clone().ok_or_else(|| ImportError::NoTarget(file.name().to_owned()))?;
        skopeo::Destination::new(&text, options.scoped).ok_or(ImportError::BadTarget { text })
    };
    let (mut reading, mut auth_reading) = (Reading::default(), Reading::default());
    let separate = auth.map(|auth| (auth.root(), &mut auth_reading));
    let draft = match form {
        Program::Regsync => regsync::translate(file.root(), &mut reading),
        Program::Dregsy => dregsy::translate(file.root(), &mut reading),
        Program::ImageSyncer => image_syncer::translate(file.root(), separate, &mut reading),
        Program::Skopeo => skopeo::translate(file.root(), &destination(options)?, &mut reading),
        Program::Zot => zot::translate(file.root(), &destination(options)?, separate, &mut reading),
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

/// Returns an error if an option does not apply to the program of the file.
fn check_order(form: Program, has_auth: bool, options: &ImportOptions, name: String) -> Result<(), ImportError> {
    if options.target.is_some() && !form.needs_target() {
        Err(ImportError::TargetNotAsked { name, form })
    } else if options.scoped && form != Program::Skopeo {
        Err(ImportError::ScopedNotAsked { name, form })
    } else if has_auth && !form.has_auth_file() {
        Err(ImportError::AuthNotAsked { name, form })
    } else {
        Ok(())
    }
}

/// Remarks about all files of an import.
#[derive(Default)]
struct Remarks {
    remarks: Vec<Problem>,
    /// Number of remarks that `remarks` omits.
    more: usize,
}

impl Remarks {
    fn add(&mut self, problems: Option<Problems>) {
        self.more += problems.as_ref().map_or(0, Problems::more);
        self.remarks.extend(problems.iter().flatten().cloned());
    }
}
