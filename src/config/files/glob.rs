//! Search for the files that a pattern under `include` matches. The search has a limit, because a pattern such as
//! `/**/*.yaml` matches the whole disk.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use ::glob::Pattern;

/// Maximum number of files and folders that one search reads.
const MAX_VISITED: usize = 10_000;

/// Error of a search.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GlobError {
    #[error("invalid file pattern: {0}")]
    Pattern(&'static str),
    #[error("the search covers more than {0} files and folders")]
    TooMany(usize),
    #[error("the folder {path} cannot be listed: {source}")]
    Folder { path: PathBuf, source: std::io::Error },
}

/// Returns true if a path contains a wildcard.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Returns the files and folders that match a pattern, sorted by name. `**` matches any number of folders, but no
/// symbolic links to folders. The other wildcards work as in a shell. The call blocks.
pub(crate) fn find(pattern: &Path) -> Result<Vec<PathBuf>, GlobError> {
    let mut steps = Vec::new();
    let mut start = PathBuf::new();
    for component in pattern.components() {
        match component {
            Component::Normal(name) => match name.to_str().filter(|name| is_pattern(name)) {
                Some("**") => steps.push(Step::Folders),
                Some(name) => {
                    let pattern = Pattern::new(name).map_err(|error| GlobError::Pattern(error.msg))?;
                    steps.push(Step::Matching(pattern));
                }
                None if steps.is_empty() => start.push(name),
                None => steps.push(Step::Named(name.to_owned())),
            },
            other if steps.is_empty() => start.push(other),
            other => steps.push(Step::Named(other.as_os_str().to_owned())),
        }
    }
    let mut search = Search { remaining: MAX_VISITED, found: Vec::new() };
    search.follow(start, &steps)?;
    Ok(search.found)
}

enum Step {
    /// Literal file name.
    Named(OsString),
    /// Pattern of a file name.
    Matching(Pattern),
    /// Any number of folders.
    Folders,
}

struct Search {
    remaining: usize,
    found: Vec<PathBuf>,
}

impl Search {
    fn follow(&mut self, base: PathBuf, steps: &[Step]) -> Result<(), GlobError> {
        match steps {
            [] => {
                // If the metadata of a file is unreadable, the search still returns the file. The caller reads the file
                // and reports the error.
                let kind = fs::metadata(&base).err().map(|error| error.kind());
                let is_absent = matches!(kind, Some(ErrorKind::NotFound | ErrorKind::NotADirectory));
                if !is_absent && !self.found.contains(&base) {
                    self.found.push(base);
                }
                Ok(())
            }
            [Step::Named(name), rest @ ..] => self.follow(base.join(name), rest),
            [Step::Matching(pattern), rest @ ..] => {
                for name in self.names(&base)? {
                    if pattern.matches(&name.to_string_lossy()) {
                        self.follow(base.join(name), rest)?;
                    }
                }
                Ok(())
            }
            [Step::Folders, rest @ ..] => {
                if !rest.is_empty() {
                    self.follow(base.clone(), rest)?;
                }
                for name in self.names(&base)? {
                    let path = base.join(name);
                    // `**` does not follow symbolic links to folders, because a link could create a cycle.
                    match fs::symlink_metadata(&path) {
                        Ok(file) if file.is_dir() => self.follow(path, steps)?,
                        Ok(_) if rest.is_empty() => self.follow(path, &[])?,
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }

    /// Returns the sorted file names in a folder. If the folder does not exist, returns an empty list.
    fn names(&mut self, folder: &Path) -> Result<Vec<OsString>, GlobError> {
        let path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let failed = |source| GlobError::Folder { path: path.to_owned(), source };
        let files = match fs::read_dir(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            files => files.map_err(failed)?,
        };
        let mut names = Vec::new();
        for file in files {
            self.remaining = self.remaining.checked_sub(1).ok_or(GlobError::TooMany(MAX_VISITED))?;
            names.push(file.map_err(failed)?.file_name());
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path, pattern: &str) -> Result<Vec<String>, String> {
        let paths = find(&folder.join(pattern)).map_err(|error| error.to_string())?;
        Ok(paths.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect())
    }

    #[test]
    fn patterns_find_files_by_name_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        for file in ["z.yaml", "a/y.yaml", "a/b/x.yaml", "a/b/x.txt", "c.yaml"] {
            fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("..", root.join("a/round")).unwrap();
        std::os::unix::fs::symlink("a", root.join("linked")).unwrap();
        for (pattern, expected) in [
            ("*.yaml", &["c.yaml", "z.yaml"][..]),
            ("a/*.yaml", &["a/y.yaml"]),
            ("**/*.yaml", &["c.yaml", "z.yaml", "a/y.yaml", "a/b/x.yaml"]),
            ("*/b/x.*", &["a/b/x.txt", "a/b/x.yaml", "linked/b/x.txt", "linked/b/x.yaml"]),
            ("linked/[xy].yaml", &["linked/y.yaml"]),
            ("z.yaml", &["z.yaml"]),
            ("none/*.yaml", &[]),
            ("none.yaml", &[]),
        ] {
            assert_eq!(found(root, pattern).unwrap(), expected, "{pattern}");
        }
        assert!(found(root, "a**b").unwrap_err().starts_with("invalid file pattern"));
    }

    #[test]
    fn pattern_over_the_whole_disk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for at in 0..MAX_VISITED / 100 + 1 {
            let below = folder.path().join(at.to_string());
            fs::create_dir(&below).unwrap();
            (0..100).for_each(|at| fs::write(below.join(at.to_string()), "").unwrap());
        }
        let refused = found(folder.path(), "**/*.x").unwrap_err();
        assert_eq!(refused, "the search covers more than 10000 files and folders");
        assert_eq!(found(folder.path(), "7/*9").unwrap().len(), 10);
    }
}
