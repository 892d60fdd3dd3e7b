//! Files of one configuration as one tree, and the mapping from a place in the tree back to its file. `include` adds
//! further files with `registries` and `sync` of their own; `decode` interprets these.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::expand::expand;
use super::glob::{self, GlobError};
use super::node::{self, Node, affordable};
use super::syntax;
use crate::config::decode::is_url;
use crate::config::diagnostics::place::is_configuration;
use crate::config::diagnostics::report::{Diagnostic, Part};
use crate::config::reader::Doubt;
use crate::config::{Environment, Problem, Problems, Warning};
use crate::oci::Digest;
use crate::regular_file;

/// Maximum size of a file, in bytes: ten times the size of the largest known import.
const MAX_FILE: u64 = 16 << 20;

/// Maximum number of warnings; nobody reads more.
const MOST_WARNINGS: usize = 100;

/// Maximum number of included files.
const MAX_FILES: usize = 1000;

/// Keys that an included file may contain.
const PARTS: [&str; 2] = ["registries", "sync"];

/// Message for an included file that is not in our format.
const NOT_INCLUDABLE: &str = "an included file is a map with `registries` and `sync`";

/// One file: a part of a configuration, or the YAML of another program.
pub(crate) struct Document {
    /// Name in messages.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) root: Node,
    pub(crate) format: Format,
}

/// Format of a file. It decides which parts of its lines can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Configuration, whose keys are in the table of keys.
    Configuration,
    /// Configuration of another program.
    Foreign,
    /// Unknown format. No line is shown: the file may be full of secrets.
    Unknown,
}

/// All files of a configuration. The first is the file that the caller named.
pub(crate) struct Files {
    documents: Vec<Document>,
    /// Combined tree of all files.
    pub(crate) root: Node,
    grafts: Vec<Graft>,
    /// Doubts about the includes.
    doubts: Vec<Diagnostic>,
}

/// List or map of an included file that was appended to the list or map of the tree.
struct Graft {
    document: usize,
    /// Position of its key in the file's own map, and in the tree's map.
    from: usize,
    to: usize,
    /// Items of the tree's list or map that come from this file.
    items: std::ops::Range<usize>,
}

impl Files {
    /// Reads the files that `text`, the file of this name, includes.
    pub(crate) fn read(name: &str, text: &str, environment: Environment<'_>) -> Result<Self, Vec<Problems>> {
        let main = Document::parse(name, text).map_err(|problems| vec![problems])?;
        let mut files = Self { root: main.root.clone(), documents: vec![main], grafts: Vec::new(), doubts: Vec::new() };
        let mut problems = Vec::new();
        let Included { paths, wrong, unmatched } = included(Path::new(name), &files.root, environment);
        problems.extend(files.problems(wrong));
        files.doubts = unmatched;
        if paths.len() > MAX_FILES {
            let message = format!("includes {} files: {MAX_FILES} at most", paths.len());
            return Err(vec![Problems::whole_file(name, message)]);
        }
        for path in paths {
            let name = path.display().to_string();
            match text_of(&path).and_then(|text| Document::parse(&name, &text)) {
                Ok(document) => problems.extend(files.add(document)),
                Err(found) => problems.push(found),
            }
        }
        if problems.is_empty() { Ok(files) } else { Err(problems) }
    }

    /// Appends the content of a file to the tree. Returns problems for content that an included file may not have.
    fn add(&mut self, document: Document) -> Option<Problems> {
        let at = self.documents.len();
        let mut found = Vec::new();
        let pairs = match &document.root {
            Node::Map(_) if document.format == Format::Unknown => {
                found.push(Diagnostic::new(&[], Part::Value, NOT_INCLUDABLE));
                Vec::new()
            }
            Node::Map(pairs) => pairs.clone(),
            Node::Null => Vec::new(),
            _ => {
                found.push(Diagnostic::new(&[], Part::Value, NOT_INCLUDABLE));
                Vec::new()
            }
        };
        for (from, (key, node)) in pairs.into_iter().enumerate() {
            if PARTS.contains(&key.as_str()) {
                found.extend(self.graft(at, from, key, node));
            } else {
                let message = format!("`{key}` in a file that is included");
                let hint = "`registries` and `sync` may be here, all else stands in the file that includes it";
                found.push(Diagnostic::new(&[from], Part::Key, message).hint(hint));
            }
        }
        let problems = crate::config::diagnostics::report::problems(&document, found, |_| None);
        self.documents.push(document);
        problems
    }

    fn graft(&mut self, document: usize, from: usize, key: String, node: Node) -> Option<Diagnostic> {
        let Node::Map(pairs) = &mut self.root else { return None };
        let to = pairs.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            let nothing = if key == "sync" { Node::List(Vec::new()) } else { Node::Map(Vec::new()) };
            pairs.push((key.clone(), nothing));
            pairs.len() - 1
        });
        let items = match (&mut pairs[to].1, node) {
            (_, Node::Null) => return None,
            (Node::List(all), Node::List(own)) => extended(all, own),
            (Node::Map(all), Node::Map(own)) => extended(all, own),
            (there @ Node::Null, own) => {
                *there = own;
                0..usize::MAX
            }
            (Node::List(_), _) => return Some(Diagnostic::new(&[from], Part::Value, "`sync` is a list of entries")),
            (Node::Map(_), _) => return Some(Diagnostic::new(&[from], Part::Value, "`registries` is a map of hosts")),
            // The including file has a wrong type here; `decode` reports that problem there.
            _ => return None,
        };
        self.grafts.push(Graft { document, from, to, items });
        None
    }

    /// Returns the file that contains a place of the tree, and the place in that file.
    fn origin(&self, path: &[usize]) -> (usize, Vec<usize>) {
        if let [to, item, rest @ ..] = path
            && let Some(graft) = self.grafts.iter().find(|graft| graft.to == *to && graft.items.contains(item))
        {
            let own = item - graft.items.start;
            return (graft.document, [&[graft.from, own], rest].concat());
        }
        (0, path.to_vec())
    }

    /// Finds the lines and columns of all diagnostics, in the order of the files. Returns `None` if there are none.
    pub(crate) fn problems(&self, found: Vec<Diagnostic>) -> Option<Problems> {
        let mut of_each: Vec<Vec<Diagnostic>> = self.documents.iter().map(|_| Vec::new()).collect();
        for one in found {
            let (document, path) = self.origin(one.path());
            of_each[document].push(one.at(path));
        }
        let elsewhere = |path: &[usize]| {
            let (document, path) = self.origin(path);
            Some((&self.documents[document], path))
        };
        let problems = self.documents.iter().zip(of_each);
        Problems::joined(
            problems.filter_map(|(document, found)| {
                crate::config::diagnostics::report::problems(document, found, elsewhere)
            }),
        )
    }

    /// Returns the warnings, first those about the includes, each with its place before its text. Warnings beyond a
    /// hundred are only counted.
    pub(crate) fn warnings(&self, doubts: Vec<Doubt>) -> Vec<Warning> {
        let longest = self.documents.iter().map(|document| document.text.as_str()).max_by_key(|text| text.len());
        let most = affordable(longest.unwrap_or_default(), MOST_WARNINGS);
        let of_includes = self.doubts.iter().map(|found| Doubt { entry: None, found: found.clone() });
        let doubts: Vec<Doubt> = of_includes.chain(doubts).collect();
        let more = doubts.len().saturating_sub(most);
        let mut warnings = Vec::new();
        for Doubt { entry, found } in doubts.into_iter().take(most) {
            let located = self.problems(vec![found]);
            let warning = |one: &Problem| Warning {
                entry: entry.clone(),
                text: format!("{}:{}:{}: {}", one.file, one.line, one.column, one.message),
                remedy: one.hint.clone(),
            };
            warnings.extend(located.iter().flat_map(Problems::all).map(warning));
        }
        if more > 0 {
            warnings.push(Warning { entry: None, text: format!("{more} more warnings of this kind"), remedy: None });
        }
        warnings
    }
}

impl Document {
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        let document = Self::with_format(name, text, Format::Configuration)?;
        let format = if is_configuration(&document.root) { Format::Configuration } else { Format::Unknown };
        Ok(Self { format, ..document })
    }

    /// Parses a file of another program.
    pub(crate) fn foreign(name: &str, text: &str) -> Result<Self, Problems> {
        let document = Self::with_format(name, text, Format::Foreign)?;
        let format = if matches!(document.root, Node::Map(_)) { Format::Foreign } else { Format::Unknown };
        Ok(Self { format, ..document })
    }

    fn with_format(name: &str, text: &str, format: Format) -> Result<Self, Problems> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = node::read(text).map_err(|error| syntax::problem(name, text, format, &error))?;
        Ok(Self { name: name.to_owned(), text: text.to_owned(), root, format })
    }
}

fn extended<T>(all: &mut Vec<T>, own: Vec<T>) -> std::ops::Range<usize> {
    let start = all.len();
    all.extend(own);
    start..all.len()
}

/// Result of resolving the `include` of a file.
#[derive(Default)]
struct Included {
    /// Files, each once; the files of one pattern are sorted by name.
    paths: Vec<PathBuf>,
    /// Paths that lead nowhere, and patterns that cannot be followed.
    wrong: Vec<Diagnostic>,
    /// Patterns that no file matches.
    unmatched: Vec<Diagnostic>,
}

/// Finds the files that the `include` of a file names. Blocking.
fn included(file: &Path, root: &Node, environment: Environment<'_>) -> Included {
    let mut included = Included::default();
    for (place, path) in patterns(file, root, environment) {
        let pattern = path.display().to_string();
        let found = |message: String| Diagnostic::new(&place, Part::Value, message);
        let paths = match glob::find(&path) {
            Ok(paths) => paths,
            Err(error) => {
                let problem = found(format!("{pattern}: {error}"));
                let is_wide = matches!(error, GlobError::TooMany(_));
                let hint = "name a folder nearer to the files, without `**`";
                included.wrong.push(if is_wide { problem.hint(hint) } else { problem });
                continue;
            }
        };
        if paths.is_empty() && is_url(&pattern) {
            let message = "expected the path of a file, found a URL: only local files are included".to_owned();
            included.wrong.push(found(message));
        } else if paths.is_empty() && !glob::is_pattern(&pattern) {
            included.wrong.push(found(format!("there is no file {pattern}")));
        } else if paths.is_empty() {
            included.unmatched.push(found(format!("no file matches {pattern}: nothing is included by it")));
        }
        for path in paths {
            if path != file && !included.paths.contains(&path) {
                included.paths.push(path);
            }
        }
    }
    included
}

/// Returns the paths and patterns under `include`, relative to the file's folder, each with its place. `decode` reports
/// items that are not text.
fn patterns(file: &Path, root: &Node, environment: Environment<'_>) -> Vec<(Vec<usize>, PathBuf)> {
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

/// Reads the text of the file at `path`. Blocking.
pub(crate) fn text_of(path: &Path) -> Result<String, Problems> {
    let name = path.display().to_string();
    let bytes = regular_file::read(path, MAX_FILE).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::FileTooLarge => format!("is larger than {}MiB, which no configuration is", MAX_FILE >> 20),
            _ => format!("cannot be read: {error}"),
        };
        Problems::whole_file(&name, message)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Problems::whole_file(&name, format!("is not UTF-8 text (line {line})"))
    })
}

/// Returns one digest of the content of a configuration and of all files that it includes, valid or not. Also returns
/// the paths and glob patterns whose changes may change that content. Blocking. Returns `None` if the file cannot be
/// read.
#[must_use]
pub fn content(path: &Path, environment: Environment<'_>) -> Option<(Digest, Vec<PathBuf>)> {
    let mut all = regular_file::read(path, MAX_FILE).ok()?;
    let mut watched = vec![path.to_owned()];
    if let Ok(root) = node::read(&String::from_utf8_lossy(&all)) {
        for (_, pattern) in patterns(path, &root, environment) {
            watched.push(pattern);
        }
        for path in included(path, &root, environment).paths.into_iter().take(MAX_FILES) {
            all.extend_from_slice(path.as_os_str().as_encoded_bytes());
            all.push(0);
            // The digest of an unreadable file covers its error, so it differs from that of any readable file.
            let read = regular_file::read(&path, MAX_FILE).unwrap_or_else(|error| error.to_string().into_bytes());
            all.extend_from_slice(Digest::of(&read).to_string().as_bytes());
        }
    }
    watched.sort();
    watched.dedup();
    Some((Digest::of(&all), watched))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, load};

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(folder.0.path().join("conf.d")).unwrap();
            for (name, text) in files {
                folder.write(name, text);
            }
            folder
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }

        fn main(&self) -> PathBuf {
            self.0.path().join("sync.yaml")
        }

        fn load(&self) -> Result<Config, String> {
            let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
            let shown = |problems: Problems| problems.to_string().replace(&self.0.path().display().to_string(), "");
            load(&self.main(), &environment).map_err(shown)
        }

        fn content(&self) -> Option<(Digest, Vec<PathBuf>)> {
            content(&self.main(), &|_| None)
        }
    }

    const MAIN: &str = "version: 1\ninclude: conf.d/*.yaml\ndefaults: {timeout: 1h}\nsync:\n  - \
                        {name: a, source: h.example/a, target: t.example/a}\n";
    const TEAM: &str =
        "registries: {t.example: {plain_http: true}}\nsync:\n  - {name: b, source: h.example/b, target: t.example/b}\n";

    #[test]
    fn what_included_files_say_stands_behind_the_rest_and_has_its_defaults() {
        let folder = Folder::new(&[("sync.yaml", MAIN), ("conf.d/team.yaml", TEAM), ("conf.d/not.txt", "wrong: [")]);
        folder.write("conf.d/empty.yaml", "# nothing yet\n");
        let config = folder.load().unwrap();
        let names: Vec<String> = config.entries.iter().map(|entry| entry.name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(config.entries.iter().all(|entry| entry.timeout == Some(std::time::Duration::from_secs(3600))));
        assert_eq!(config.registries.len(), 1);
    }

    #[test]
    fn a_file_that_only_includes_others_is_a_configuration() {
        let folder =
            Folder::new(&[("sync.yaml", "version: 1\ninclude: [conf.d/team.yaml]\n"), ("conf.d/team.yaml", TEAM)]);
        assert_eq!(folder.load().unwrap().entries.len(), 1);
    }

    #[test]
    fn a_problem_is_told_in_its_own_file_and_line() {
        let folder = Folder::new(&[("sync.yaml", MAIN), ("conf.d/team.yaml", TEAM)]);
        folder.write(
            "conf.d/x.yaml",
            "sync:\n  - {name: c, sorce: h.example/b, target: t.example/c}\n  - \
                                       {name: a, source: h.example/b, target: t.example/c}\n",
        );
        let told = folder.load().unwrap_err();
        assert!(told.contains("/conf.d/x.yaml:2:15: unknown key `sorce` in an entry"), "{told}");
        assert!(told.contains("2 |   - {name: c, sorce: ***, target: t.example/c}"), "{told}");
        assert!(told.contains("/conf.d/x.yaml:3:12:") && told.contains("first in line 5 of /sync.yaml"), "{told}");
    }

    #[test]
    fn what_may_not_be_included_is_named_with_the_way_out() {
        let folder = Folder::new(&[("sync.yaml", MAIN)]);
        for (text, expected) in [
            ("version: 1\n", "/conf.d/x.yaml:1:1: `version` in a file that is included"),
            ("daemon: {memory: 1GiB}\n", "/conf.d/x.yaml:1:1: `daemon` in a file that is included"),
            ("sync: {}\n", "/conf.d/x.yaml:1:7: `sync` is a list of entries"),
            ("- a\n", "/conf.d/x.yaml:1:1: an included file is a map with `registries` and `sync`"),
            ("sync: [b\n  c: d\n", "/conf.d/x.yaml:1:7: a list or map in brackets is not closed"),
        ] {
            folder.write("conf.d/x.yaml", text);
            let told = folder.load().unwrap_err();
            assert!(told.starts_with(expected), "{told}");
        }
        let missing = Folder::new(&[("sync.yaml", "version: 1\ninclude: [conf.d/*.yaml, more.yaml]\nsync: []\n")]);
        let told = missing.load().unwrap_err();
        assert!(told.starts_with("/sync.yaml:2:26: there is no file /more.yaml\n"), "{told}");
    }

    #[test]
    fn a_pattern_without_a_file_is_a_warning_at_its_place() {
        let text = "version: 1\ninclude: [conf.d/*.yaml, \"more/*.yml\"]\nsync: []\n";
        let folder = Folder::new(&[("sync.yaml", text)]);
        folder.write("conf.d/team.yaml", TEAM);
        let warnings = folder.load().unwrap().warnings;
        let shown: Vec<String> = warnings.iter().map(|warning| warning.text.clone()).collect();
        let shown = shown.join("\n").replace(&folder.0.path().display().to_string(), "");
        assert_eq!(shown, "/sync.yaml:2:26: no file matches /more/*.yml: nothing is included by it");
    }

    #[test]
    fn a_pattern_that_would_walk_the_disk_is_refused_with_a_way_out() {
        let folder = Folder::new(&[("sync.yaml", "version: 1\ninclude: \"/**/*.transship-none\"\nsync: []\n")]);
        let told = folder.load().unwrap_err();
        assert!(told.starts_with("/sync.yaml:2:10: /**/*.transship-none: "), "{told}");
    }

    #[test]
    fn a_file_that_is_no_configuration_shows_none_of_its_lines() {
        let folder = Folder::new(&[("sync.yaml", MAIN)]);
        for secret in [
            "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
            "root:$6$hunter2$abc:19000:0:99999:7:::\n",
            "hunter2\n",
            "- hunter2\n",
            "apiVersion: v1\nkind: Secret\ndata: {hunter2: hunter2}\n",
            "hunter2: [\n",
            "machine x login y password \"hunter2\n",
            "-----BEGIN PRIVATE KEY-----\nhunter2: \t[\n",
            "KEY=hunter2\nOTHER=`hunter2`\n",
            "{\"hunter2\": {\"auth\": \"hunter2\"}}\n",
            "*hunter2\n",
            "a: !!int hunter2\n",
            "a: b: hunter2\n",
        ] {
            folder.write("conf.d/x.yaml", secret);
            let told = folder.load().unwrap_err();
            assert!(told.starts_with("/conf.d/x.yaml:"), "{told}");
            for piece in ["hunter2", "root", "19000", "|"] {
                assert!(!told.contains(piece), "{secret}\n{told}");
            }
            folder.write("conf.d/x.yaml", "# nothing\n");
            let path = folder.0.path().join("other");
            std::fs::write(&path, secret).unwrap();
            let told = load(&path, &|_| None).unwrap_err().to_string();
            for piece in ["hunter2", "root", "19000", "|"] {
                assert!(!told.contains(piece), "{secret}\n{told}");
            }
        }
    }

    #[test]
    fn a_pipe_a_device_or_a_huge_file_is_refused_without_waiting() {
        let folder = Folder::new(&[("sync.yaml", MAIN)]);
        let made = std::process::Command::new("mkfifo").arg(folder.0.path().join("conf.d/x.yaml")).status().unwrap();
        assert!(made.success());
        let told = folder.load().unwrap_err();
        assert_eq!(told, "/conf.d/x.yaml: cannot be read: it is a pipe, not a regular file");
        assert!(folder.content().is_some());
        std::fs::remove_file(folder.0.path().join("conf.d/x.yaml")).unwrap();
        let large = std::fs::File::create(folder.0.path().join("conf.d/x.yaml")).unwrap();
        large.set_len(3 << 30).unwrap();
        let told = folder.load().unwrap_err();
        assert_eq!(told, "/conf.d/x.yaml: is larger than 16MiB, which no configuration is");
    }

    #[test]
    fn the_content_changes_with_each_file_and_names_what_to_watch() {
        let folder = Folder::new(&[("sync.yaml", MAIN), ("conf.d/team.yaml", TEAM)]);
        let (first, watched) = folder.content().unwrap();
        assert_eq!(watched, [folder.0.path().join("conf.d/*.yaml"), folder.main()]);
        assert_eq!(folder.content().unwrap().0, first);
        folder.write("conf.d/not.txt", "is not included");
        assert_eq!(folder.content().unwrap().0, first);
        let mut seen = vec![first];
        folder.write("conf.d/team.yaml", "sync: []\n");
        seen.push(folder.content().unwrap().0);
        folder.write("conf.d/new.yaml", "");
        seen.push(folder.content().unwrap().0);
        std::fs::remove_file(folder.0.path().join("conf.d/new.yaml")).unwrap();
        folder.write("sync.yaml", "version: 1\nsync: []\n");
        seen.push(folder.content().unwrap().0);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 4);
        std::fs::remove_file(folder.main()).unwrap();
        assert_eq!(folder.content(), None);
    }
}
