//! Combined tree of a configuration and its included files. For each position in the combined tree, the module finds
//! the file and the position in that file.

use std::path::Path;

use super::document::{parse_configuration, read_text};
use super::includes::{Included, MAX_FILES, find_included};
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::diagnostics::problem::{Problem, Problems};
use crate::config::diagnostics::report::locate_problems;
use crate::config::diagnostics::warning::{Warning, WarningDraft};
use crate::config::keys::schema::Schema;
use crate::config::yaml::document::{Document, Format};
use crate::config::yaml::expand::Environment;
use crate::config::yaml::node::{Node, affordable};

/// Maximum number of warnings with line and column. All further warnings are only counted.
const MOST_WARNINGS: usize = 100;

/// Keys that an included file can have.
const PARTS: [&str; 2] = ["registries", "sync"];

/// Message for an included file that is not a map with these keys.
const NOT_INCLUDABLE: &str = "an included file must be a map with `registries` or `sync`";

/// Configuration and its included files. The first document is the configuration.
pub(crate) struct Files {
    documents: Vec<Document>,
    /// Combined tree of all files.
    pub(crate) root: Node,
    grafts: Vec<Graft>,
    /// Warnings about `include`.
    warnings: Vec<Diagnostic>,
}

/// Part of an included file that was appended to a list or map of the combined tree.
struct Graft {
    document: usize,
    /// Index of the key `registries` or `sync` in the included file.
    from: usize,
    /// Index of the same key in the combined tree.
    to: usize,
    /// Indices of the appended items in the list or map of the combined tree.
    items: std::ops::Range<usize>,
}

impl Files {
    /// Reads the included files of a configuration. `name` and `text` are the file name and the content of the
    /// configuration.
    pub(crate) fn read(
        name: &str,
        text: &str,
        environment: Environment<'_>,
        schema: &'static Schema,
    ) -> Result<Self, Vec<Problems>> {
        let main = parse_configuration(name, text, schema).map_err(|problems| vec![problems])?;
        let mut files =
            Self { root: main.root.clone(), documents: vec![main], grafts: Vec::new(), warnings: Vec::new() };
        let mut problems = Vec::new();
        let Included { paths, refused, unmatched } = find_included(Path::new(name), &files.root, environment);
        problems.extend(files.locate_problems(refused));
        files.warnings = unmatched;
        if paths.len() > MAX_FILES {
            let message = format!("the file includes {} files, and at most {MAX_FILES} are allowed", paths.len());
            return Err(vec![Problems::whole_file(name, message)]);
        }
        for path in paths {
            let name = path.display().to_string();
            match read_text(&path).and_then(|text| parse_configuration(&name, &text, schema)) {
                Ok(document) => problems.extend(files.add(document)),
                Err(found) => problems.push(found),
            }
        }
        if problems.is_empty() { Ok(files) } else { Err(problems) }
    }

    /// Appends an included file to the combined tree. If the file has keys or values that are not permitted, returns
    /// problems.
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
                let message = format!("the key `{key}` is not allowed in an included file");
                let hint = "an included file may have only `registries` and `sync`: move the key to the including file";
                found.push(Diagnostic::new(&[from], Part::Key, message).with_hint(hint));
            }
        }
        let problems = locate_problems(&document, found, |_| None);
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
            (Node::List(all), Node::List(own)) => append(all, own),
            (Node::Map(all), Node::Map(own)) => append(all, own),
            (empty @ Node::Null, own) => {
                *empty = own;
                0..usize::MAX
            }
            (Node::List(_), _) => {
                return Some(Diagnostic::new(&[from], Part::Value, "`sync` must be a list of entries"));
            }
            (Node::Map(_), _) => {
                return Some(Diagnostic::new(&[from], Part::Value, "`registries` must be a map of hosts"));
            }
            // The value in the including file has a wrong type. The decoder later reports this problem.
            _ => return None,
        };
        self.grafts.push(Graft { document, from, to, items });
        None
    }

    /// Returns the index of the file that contains a node of the combined tree, and the path of the node in that file.
    fn find_origin(&self, path: &[usize]) -> (usize, Vec<usize>) {
        if let [to, item, rest @ ..] = path
            && let Some(graft) = self.grafts.iter().find(|graft| graft.to == *to && graft.items.contains(item))
        {
            let own = item - graft.items.start;
            return (graft.document, [&[graft.from, own], rest].concat());
        }
        (0, path.to_vec())
    }

    /// Converts diagnostics into problems, in the order of the files. If `found` is empty, returns `None`.
    pub(crate) fn locate_problems(&self, found: Vec<Diagnostic>) -> Option<Problems> {
        let mut by_document: Vec<Vec<Diagnostic>> = self.documents.iter().map(|_| Vec::new()).collect();
        for diagnostic in found {
            let (document, path) = self.find_origin(diagnostic.path());
            by_document[document].push(diagnostic.with_path(path));
        }
        let origin = |path: &[usize]| {
            let (document, path) = self.find_origin(path);
            Some((&self.documents[document], path))
        };
        let problems = self.documents.iter().zip(by_document);
        Problems::join(problems.filter_map(|(document, found)| locate_problems(document, found, origin)))
    }

    /// Returns the warnings with file, line and column. The warnings about `include` come first. If there are more than
    /// [`MOST_WARNINGS`] warnings, the last warning contains the number of omitted warnings.
    pub(crate) fn locate_warnings(&self, drafts: Vec<WarningDraft>) -> Vec<Warning> {
        let longest = self.documents.iter().map(|document| document.text.as_str()).max_by_key(|text| text.len());
        let most = affordable(longest.unwrap_or_default(), MOST_WARNINGS);
        let of_includes = self.warnings.iter().map(|found| WarningDraft { entry: None, found: found.clone() });
        let drafts: Vec<WarningDraft> = of_includes.chain(drafts).collect();
        let more = drafts.len().saturating_sub(most);
        let mut warnings = Vec::new();
        for WarningDraft { entry, found } in drafts.into_iter().take(most) {
            let located = self.locate_problems(vec![found]);
            let warning = |problem: &Problem| Warning {
                entry: entry.clone(),
                text: format!("{}:{}:{}: {}", problem.file, problem.line, problem.column, problem.message),
                remedy: problem.hint.clone(),
            };
            warnings.extend(located.iter().flat_map(Problems::as_slice).map(warning));
        }
        if more > 0 {
            warnings.push(Warning { entry: None, text: format!("{more} more warnings"), remedy: None });
        }
        warnings
    }
}

fn append<T>(all: &mut Vec<T>, own: Vec<T>) -> std::ops::Range<usize> {
    let start = all.len();
    all.extend(own);
    start..all.len()
}
