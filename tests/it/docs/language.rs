//! Tests of the language of the source: doc comments begin with the noun that the thing is, or with a verb, and
//! lines fit the width.

use std::fs;
use std::path::Path;

use syn::visit::Visit;

use crate::support::rust_source;

/// Words that begin a free relative clause or a question. No doc comment may begin with them.
const BANNED: [&str; 5] = ["Who", "What", "Whose", "Whether", "How"];

/// Names that do not describe a function. The name of a function is a verb with its object.
const BANNED_FUNCTIONS: [&str; 13] =
    ["of", "at", "one", "all", "told", "look", "keep", "note", "there", "each", "saw", "say", "tell"];

/// Permitted functions with such a name: `Digest::of(bytes)` reads as a phrase in each call.
const EXCEPTIONS: [&str; 1] = ["oci/digest.rs: of"];

/// Maximum number of columns of a line, as in rustfmt.toml. rustfmt does not wrap strings.
const MAX_COLUMNS: usize = 120;

/// Returns the text of a line that begins a doc comment; `None` for other lines.
fn beginning<'a>(before: &str, line: &'a str) -> Option<&'a str> {
    let doc = |line: &'a str| line.trim_start().strip_prefix("///").or_else(|| line.trim_start().strip_prefix("//!"));
    let goes_on = |line: &str| {
        let line = line.trim_start();
        (line.starts_with("///") || line.starts_with("//!")) && !matches!(line, "///" | "//!")
    };
    doc(line).filter(|_| !goes_on(before)).map(str::trim_start)
}

fn is_banned(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).next().is_some_and(|word| BANNED.contains(&word))
}

#[test]
fn doc_comments_begin_with_a_noun_or_a_verb() {
    let files = rust_source::files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let (mut seen, mut problems) = (0, Vec::new());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! "), "{}: the first line says what the file contains", path.display());
        let lines = std::iter::once("").chain(text.lines()).zip(text.lines());
        for (number, text) in
            lines.enumerate().filter_map(|(at, (before, line))| Some((at + 1, beginning(before, line)?)))
        {
            seen += 1;
            if is_banned(text) {
                problems.push(format!("{}:{number}: {text}", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(seen > 2_000, "{seen} doc comments were found");
}

/// Collects the names of free functions and of methods.
#[derive(Default)]
struct Functions(Vec<String>);

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.0.push(function.sig.ident.to_string());
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.0.push(function.sig.ident.to_string());
        syn::visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn no_function_has_a_banned_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut seen, mut problems) = (0, Vec::new());
    for path in rust_source::files(&root) {
        let mut functions = Functions::default();
        functions.visit_file(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        seen += functions.0.len();
        let place = path.strip_prefix(&root).unwrap().display();
        let banned = functions.0.iter().filter(|name| BANNED_FUNCTIONS.contains(&name.as_str()));
        problems.extend(banned.map(|name| format!("{place}: {name}")).filter(|found| !EXCEPTIONS.contains(&&**found)));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(seen > 3_000, "{seen} functions were found");
}

#[test]
fn no_line_of_the_source_exceeds_120_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "examples", "benches", "fuzz/fuzz_targets"];
    let files: Vec<_> = folders.iter().flat_map(|folder| rust_source::files(&root.join(folder))).collect();
    let long = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let too_long = text.lines().enumerate().filter(|(_, line)| line.chars().count() > MAX_COLUMNS);
        too_long.map(|(at, _)| format!("{}:{}", path.display(), at + 1)).collect::<Vec<_>>()
    };
    let problems: Vec<String> = files.iter().flat_map(|path| long(path)).collect();
    assert!(files.len() > 300 && problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn first_line_of_a_doc_comment_is_recognized() {
    assert_eq!(beginning("", "    /// What it is"), Some("What it is"));
    assert_eq!(beginning("/// A size in bytes.", "/// What is more"), None);
    assert_eq!(beginning("///", "/// What is more"), Some("What is more"));
    assert_eq!(beginning("let x = 1;", "// What is no doc comment"), None);
    assert!(is_banned("Whether it is") && is_banned("What's more") && !is_banned("Whatever") && !is_banned("`What`"));
}
