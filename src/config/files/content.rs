//! Digest of the files of a configuration. The daemon compares digests to detect an edit.

use std::path::{Path, PathBuf};

use super::document::MAX_FILE;
use super::includes::{MAX_FILES, find_included, included_patterns};
use crate::config::yaml::expand::Environment;
use crate::config::yaml::node;
use crate::oci::Digest;
use crate::regular_file;

/// Returns the digest of a configuration and its included files. Also returns the paths and glob patterns that the
/// daemon watches. The files can be invalid. If the configuration is unreadable, returns `None`. The call blocks.
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
            // For an unreadable file, the digest contains the error. If the file becomes readable, the digest changes.
            let read = regular_file::read(&path, MAX_FILE).unwrap_or_else(|error| error.to_string().into_bytes());
            all.extend_from_slice(Digest::of(&read).to_string().as_bytes());
        }
    }
    watched.sort();
    watched.dedup();
    Some((Digest::of(&all), watched))
}
