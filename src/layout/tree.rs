//! Tree of layouts: a folder with one layout for each repository, at the path of the repository's name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::fault::Fault;
use super::folder::Folder;
use crate::oci::RepositoryName;

/// Names of the files and folders of a layout. No part of a repository's name may be such a name: the folder of
/// `team/blobs/x` would be inside the layout `team`.
const FILES: [&str; 3] = ["blobs", "index.json", "oci-layout"];
/// Maximum depth of a repository's folder below the root of the tree.
const MAX_DEPTH: usize = 64;

/// Error of a repository or a folder in a tree of layouts.
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
    /// The folder of the tree cannot be read.
    #[error("cannot list {path}: {reason}")]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The message of the operating system.
        reason: String,
    },
    /// A folder below the folder of the tree cannot be read. The search still finds the layouts in other folders.
    #[error("cannot list {path}: {reason}")]
    FolderUnreadable {
        /// The folder.
        path: PathBuf,
        /// The message of the operating system.
        reason: String,
    },
    /// The path of a layout below the folder of the tree is not a valid repository name.
    #[error(
        "the path of the layout {path} is not a repository name: rename the folder to lower-case letters, digits, `.`, \
         `_` and `-`"
    )]
    Name {
        /// The layout.
        path: PathBuf,
    },
    /// The tree contains no layout.
    #[error("{path} contains no layout: no folder in it has an index.json")]
    Empty {
        /// The folder of the tree.
        path: PathBuf,
    },
}

/// Returns the folder of a repository's layout in the tree of layouts at `root`.
///
/// # Errors
/// [`TreeError::Reserved`] if a part of the name is the name of a layout's file, such as `blobs` in `team/blobs`.
pub fn layout_path(root: &Path, name: &RepositoryName) -> Result<PathBuf, TreeError> {
    let reserved = |part: &&'static str| name.as_str().split('/').any(|other| other == *part);
    match FILES.iter().find(|part| reserved(part)) {
        Some(part) => Err(TreeError::Reserved { name: name.clone(), root: root.to_owned(), part }),
        None => Ok(root.join(name.as_str())),
    }
}

/// Returns the repositories of a tree of layouts, in alphabetical order. Each folder below `root` with an `index.json`
/// is a repository. A folder that cannot be read is an error in the list. Does not follow links below `root`. The call
/// blocks.
#[must_use]
pub fn find_layouts(root: &Path) -> Vec<Result<RepositoryName, TreeError>> {
    let mut found = Vec::new();
    match Folder::root(root).and_then(|folder| list_folders(folder, root)) {
        Ok((folder, names)) => visit(root, &folder, names, MAX_DEPTH, &mut found),
        Err(fault) => found.push(Err(TreeError::Unreadable { path: root.to_owned(), reason: fault.reason() })),
    }
    if found.is_empty() {
        found.push(Err(TreeError::Empty { path: root.to_owned() }));
    }
    found
}

/// Searches the subfolders `names` of `folder`, and adds the layouts to `found`.
fn visit(
    root: &Path,
    folder: &Folder,
    names: Vec<OsString>,
    depth: usize,
    found: &mut Vec<Result<RepositoryName, TreeError>>,
) {
    for name in names {
        let path = folder.path().join(&name);
        let (inner, mut names) = match folder.folder(&name).and_then(|inner| list_folders(inner, &path)) {
            Ok(listed) => listed,
            Err(fault) => {
                found.push(Err(TreeError::FolderUnreadable { path, reason: fault.reason() }));
                continue;
            }
        };
        // If `index.json` is a link or cannot be inspected, list the folder as a layout. Reading the layout then
        // returns the error.
        if !matches!(inner.regular("index.json"), Ok(None)) {
            let name = path.strip_prefix(root).ok().and_then(Path::to_str).and_then(|name| name.parse().ok());
            found.push(name.ok_or_else(|| TreeError::Name { path: path.clone() }));
            names.retain(|name| name != "blobs");
        }
        if depth > 0 {
            visit(root, &inner, names, depth - 1, found);
        }
    }
}

/// Returns `folder` and the sorted names of its subfolders. If `folder` is `None`, returns an error.
fn list_folders(folder: Option<Folder>, path: &Path) -> Result<(Folder, Vec<OsString>), Fault> {
    let folder = folder.ok_or_else(|| Fault::io("open", path)(Errno::NOENT.into()))?;
    let mut names = Vec::new();
    for name in folder.names()? {
        if folder.has_folder(&name)? {
            names.push(name);
        }
    }
    names.sort();
    Ok((folder, names))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

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
    fn folder_that_cannot_be_read_leaves_the_other_layouts() {
        let root = tempfile::tempdir().unwrap();
        for name in ["app", "base"] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("index.json"), "{}").unwrap();
        }
        // No file system of the tests accepts a name of 300 characters, so opening this folder fails.
        let folder = Folder::root(root.path()).unwrap().unwrap();
        let names = ["app".into(), "a".repeat(300).into(), "base".into()].to_vec();
        let mut found = Vec::new();
        visit(root.path(), &folder, names, 1, &mut found);
        let [Ok(app), Err(TreeError::FolderUnreadable { reason, .. }), Ok(base)] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((app.as_str(), reason.as_str(), base.as_str()), ("app", "file name too long", "base"));
    }

    #[test]
    fn link_to_a_folder_is_not_searched_for_layouts() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(other.path().join("app")).unwrap();
        fs::write(other.path().join("app/index.json"), "{}").unwrap();
        symlink(other.path(), root.path().join("team")).unwrap();
        assert!(names(root.path())[0].contains("contains no layout"));
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
