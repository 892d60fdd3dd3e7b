//! Digest of the content of a configuration, by which the daemon notices an edit.

use std::path::{Path, PathBuf};

use super::document::MAX_FILE;
use super::includes::{MAX_FILES, find_included, included_patterns};
use crate::config::yaml::expand::Environment;
use crate::config::yaml::node;
use crate::oci::Digest;
use crate::regular_file;

/// Returns one digest of the content of a configuration and of all files that it includes, valid or not. Also returns
/// the paths and glob patterns whose changes may change that content. Blocking. Returns `None` if the file cannot be
/// read.
#[must_use]
pub fn content(path: &Path, environment: Environment<'_>) -> Option<(Digest, Vec<PathBuf>)> {
    let mut all = regular_file::read(path, MAX_FILE).ok()?;
    let mut watched = vec![path.to_owned()];
    if let Ok(root) = node::read(&String::from_utf8_lossy(&all)) {
        for (_, pattern) in included_patterns(path, &root, environment) {
            watched.push(pattern);
        }
        for path in find_included(path, &root, environment).paths.into_iter().take(MAX_FILES) {
            all.extend_from_slice(path.as_os_str().as_encoded_bytes());
            all.push(0);
            // For an unreadable file, the digest covers the error, so the digest changes when the file becomes
            // readable.
            let read = regular_file::read(&path, MAX_FILE).unwrap_or_else(|error| error.to_string().into_bytes());
            all.extend_from_slice(Digest::of(&read).to_string().as_bytes());
        }
    }
    watched.sort();
    watched.dedup();
    Some((Digest::of(&all), watched))
}
