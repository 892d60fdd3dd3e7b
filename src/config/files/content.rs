//! Digest of the content of a configuration. With the digest, the daemon detects an edit.

use std::path::{Path, PathBuf};

use super::document::MAX_FILE;
use super::includes::{MAX_FILES, find_included, included_patterns};
use crate::config::yaml::expand::Environment;
use crate::config::yaml::node;
use crate::oci::Digest;
use crate::regular_file;

/// Returns one digest of a configuration and of all included files. The files need not be valid. Also returns the paths
/// and glob patterns to watch for changes. If the configuration cannot be read, returns `None`. Blocking.
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
            // The digest of an unreadable file covers the error, so the digest changes if the file becomes readable.
            let read = regular_file::read(&path, MAX_FILE).unwrap_or_else(|error| error.to_string().into_bytes());
            all.extend_from_slice(Digest::of(&read).to_string().as_bytes());
        }
    }
    watched.sort();
    watched.dedup();
    Some((Digest::of(&all), watched))
}
