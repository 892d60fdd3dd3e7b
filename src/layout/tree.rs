//! Tree of layouts: a folder with one layout for each repository, at the path of the repository's name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::oci::RepositoryName;

/// Names of the files of a layout. A repository with such a name in its path would be within another layout.
const FILES: [&str; 3] = ["blobs", "index.json", "oci-layout"];
/// Maximum depth of a repository's folder.
const MAX_DEPTH: usize = 64;

/// Reason why a tree of layouts does not have a repository.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A part of the repository's name is the name of a layout's file.
    #[error(
        "the repository {name} cannot have a layout below {root}: {part:?} is the name of a file of a layout; copy the \
         repository by an entry of its own"
    )]
    Reserved {
        /// The repository.
        name: RepositoryName,
        /// The folder of the tree.
        root: PathBuf,
        /// The part of the name.
        part: &'static str,
    },
    /// A folder cannot be read.
    #[error("cannot list {path}: {reason}")]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The message of the operating system.
        reason: String,
    },
    /// A layout's path is not the name of a repository.
    #[error(
        "the path of the layout {path} is not a repository name: rename the folder to lower-case letters, digits, `.`, \
         `_` and `-`"
    )]
    Name {
        /// The layout.
        path: PathBuf,
    },
    /// The folder contains no layout.
    #[error("{path} contains no layout: no folder in it has an index.json")]
    Empty {
        /// The folder of the tree.
        path: PathBuf,
    },
}

/// Returns the folder of a repository's layout in a tree.
///
/// # Errors
/// [`TreeError::Reserved`] if the folder would be a file of another layout.
pub fn layout_path(root: &Path, name: &RepositoryName) -> Result<PathBuf, TreeError> {
    let reserved = |part: &&'static str| name.as_str().split('/').any(|other| other == *part);
    match FILES.iter().find(|part| reserved(part)) {
        Some(part) => Err(TreeError::Reserved { name: name.clone(), root: root.to_owned(), part }),
        None => Ok(root.join(name.as_str())),
    }
}

/// Finds the layouts of a tree, in alphabetical order: the folders below `root` with an `index.json`. Does not follow
/// links. Blocks.
#[must_use]
pub fn find_layouts(root: &Path) -> Vec<Result<RepositoryName, TreeError>> {
    let mut found = Vec::new();
    visit(root, root, MAX_DEPTH, &mut found);
    if found.is_empty() {
        found.push(Err(TreeError::Empty { path: root.to_owned() }));
    }
    found
}

fn visit(root: &Path, folder: &Path, depth: usize, found: &mut Vec<Result<RepositoryName, TreeError>>) {
    let mut folders = match list_folders(folder) {
        Ok(folders) => folders,
        Err(error) => {
            let reason = error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase();
            return found.push(Err(TreeError::Unreadable { path: folder.to_owned(), reason }));
        }
    };
    folders.sort();
    let is_layout = folder != root && folder.join("index.json").is_file();
    if is_layout {
        let name = folder.strip_prefix(root).ok().and_then(Path::to_str).and_then(|name| name.parse().ok());
        found.push(name.ok_or_else(|| TreeError::Name { path: folder.to_owned() }));
    }
    for inner in folders.iter().filter(|_| depth > 0) {
        let is_content = is_layout && inner.file_name().is_some_and(|name| name == "blobs");
        if !is_content {
            visit(root, inner, depth - 1, found);
        }
    }
}

fn list_folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        let text = |found: Result<RepositoryName, TreeError>| found.map_or_else(|e| e.to_string(), |n| n.to_string());
        find_layouts(root).into_iter().map(text).collect()
    }

    #[test]
    fn layouts_are_found_at_every_depth_but_not_within_blobs() {
        let root = tempfile::tempdir().unwrap();
        for path in ["team/app", "team/app/tools", "team", "blobs/x", "team/app/blobs/y", "none"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        for path in ["team/app", "team/app/tools", "blobs/x", "team/app/blobs/y"] {
            fs::write(root.path().join(path).join("index.json"), "{}").unwrap();
        }
        assert_eq!(names(root.path()), ["blobs/x", "team/app", "team/app/tools"]);
    }

    #[test]
    fn tree_without_layouts_and_wrong_names_are_reported() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(
            names(root.path()),
            [format!("{} contains no layout: no folder in it has an index.json", root.path().display())]
        );
        let missing = names(&root.path().join("missing"));
        assert!(missing[0].ends_with("missing: no such file or directory"), "{missing:?}");
        fs::create_dir_all(root.path().join("Team")).unwrap();
        fs::write(root.path().join("Team/index.json"), "{}").unwrap();
        assert!(names(root.path())[0].contains("is not a repository name: rename the folder"));
    }

    #[test]
    fn repository_named_like_a_layout_file_is_refused() {
        let path = |name: &str| layout_path(Path::new("/srv"), &name.parse().unwrap());
        assert_eq!(path("team/app").unwrap(), Path::new("/srv/team/app"));
        for name in ["blobs", "team/index.json", "oci-layout/x"] {
            assert!(path(name).unwrap_err().to_string().starts_with(&format!("the repository {name} cannot have")));
        }
    }
}
