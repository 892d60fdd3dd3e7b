//! Files that the `include` of a configuration names, as paths or as patterns.

use std::path::{Path, PathBuf};

use super::glob::{self, GlobError};
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::yaml::expand::{Environment, expand};
use crate::config::yaml::node::Node;
use crate::config::yaml::scalar::is_url;

/// Maximum number of included files.
pub(super) const MAX_FILES: usize = 1000;

/// Result of resolving the `include` of a file.
#[derive(Default)]
pub(super) struct Included {
    /// Files, each once; the files of one pattern are sorted by name.
    pub(super) paths: Vec<PathBuf>,
    /// Problems of paths that do not exist, and of patterns whose files cannot be listed.
    pub(super) refused: Vec<Diagnostic>,
    /// Warnings about patterns that no file matches.
    pub(super) unmatched: Vec<Diagnostic>,
}

/// Finds the files that the `include` of a file names. Blocking.
pub(super) fn find_included(file: &Path, root: &Node, environment: Environment<'_>) -> Included {
    let mut included = Included::default();
    for (place, path) in included_patterns(file, root, environment) {
        let pattern = path.display().to_string();
        let found = |message: String| Diagnostic::new(&place, Part::Value, message);
        let paths = match glob::find(&path) {
            Ok(paths) => paths,
            Err(error) => {
                let problem = found(format!("{pattern}: {error}"));
                let is_wide = matches!(error, GlobError::TooMany(_));
                let hint = "write a folder that is closer to the files, without `**`";
                included.refused.push(if is_wide { problem.with_hint(hint) } else { problem });
                continue;
            }
        };
        if paths.is_empty() && is_url(&pattern) {
            let message = "expected the path of a file, found a URL: only local files can be included".to_owned();
            included.refused.push(found(message));
        } else if paths.is_empty() && !glob::is_pattern(&pattern) {
            included.refused.push(found(format!("there is no file {pattern}")));
        } else if paths.is_empty() {
            let warning = found(format!("no file matches {pattern}, so this pattern includes nothing"));
            included.unmatched.push(warning.with_hint("correct the pattern, or remove it"));
        } else if !glob::is_pattern(&pattern) && path.is_dir() {
            let problem = found(format!("{pattern} is a folder, and only files can be included"));
            included.refused.push(problem.with_hint(format!("write `{}`", path.join("*.yaml").display())));
            continue;
        }
        for path in paths {
            if path != file && !included.paths.contains(&path) {
                included.paths.push(path);
            }
        }
    }
    included
}

/// Returns the paths and patterns under `include`, relative to the file's folder, each with its place. The reader of
/// `include` reports items that are not text.
pub(super) fn included_patterns(file: &Path, root: &Node, environment: Environment<'_>) -> Vec<(Vec<usize>, PathBuf)> {
    let Node::Map(pairs) = root else { return Vec::new() };
    let Some(at) = pairs.iter().position(|(key, _)| key == "include") else { return Vec::new() };
    let texts: Vec<(Vec<usize>, &Node)> = match &pairs[at].1 {
        Node::List(items) => items.iter().enumerate().map(|(item, node)| (vec![at, item], node)).collect(),
        one => vec![(vec![at], one)],
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let pattern = |(place, node): (Vec<usize>, &Node)| match node {
        Node::Text(text) => Some((place, folder.join(expand(text, environment).ok()?))),
        _ => None,
    };
    texts.into_iter().filter_map(pattern).collect()
}
