//! Reader of just enough Rust to find the paths of a file that begin with `crate::`, and the names of its tests. This
//! module is not a general parser.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Content of a file, without comments, literals and test-only items.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Paths after `crate::`, with the groups of `use` expanded.
    pub paths: BTreeSet<String>,
    /// Test-only modules that are in files of their own.
    pub test_modules: BTreeSet<String>,
    /// Largest number of consecutive `super::`.
    pub deepest_super: usize,
    /// Names that the file's `use` declarations bring into scope.
    pub uses: Vec<Use>,
    /// Paths outside `use` declarations, as they are written: `super::x::f`, `child::f`.
    pub inline_paths: BTreeSet<String>,
}

/// Name that a `use` declaration brings into scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub name: String,
    /// Path as it is written.
    pub path: String,
    /// True if the file only re-exports the name: the declaration is public, and nothing else in the file uses the
    /// name.
    pub only_reexported: bool,
}

/// Returns the Rust files below a folder, in order of their paths.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads a file.
pub fn read(text: &str) -> Source {
    let (code, test_modules) = without_tests(&blank(text));
    let mut source = Source { test_modules, ..Source::default() };
    for (at, _) in code.match_indices("crate::") {
        let part_of_a_name = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if !part_of_a_name {
            expand("", &code[at + "crate::".len()..], &mut source.paths);
        }
    }
    let (uses, body) = split_uses(&code);
    source.inline_paths = paths_in(&body);
    let has_word = |name: &str| body.split(|c: char| !is_of_name(c)).any(|word| word == name);
    for (is_public, tree) in uses {
        let mut leaves = Vec::new();
        expand_uses("", &tree, &mut leaves);
        source.uses.extend(leaves.into_iter().map(|(path, name)| {
            let only_reexported = is_public && !has_word(&name);
            Use { name, path, only_reexported }
        }));
    }
    let tight: String = code.split_whitespace().collect();
    while tight.contains(&"super::".repeat(source.deepest_super + 1)) {
        source.deepest_super += 1;
    }
    source
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Removes the `use` declarations from the code. Returns the tree of each declaration, with true if the declaration is
/// public, and the remaining code.
fn split_uses(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut uses, mut body) = (Vec::new(), String::new());
    for statement in code.split_inclusive(';') {
        let start = statement.match_indices("use ").map(|(at, _)| at).find(|at| {
            let before = statement[..*at].trim_end();
            !statement[..*at].ends_with(is_of_name)
                && (before.is_empty() || before.ends_with([';', '{', '}', ')', ']']) || before.ends_with("pub"))
        });
        match start {
            Some(at) => {
                let before = statement[..at].trim_end();
                let is_public = before.ends_with("pub") || before.ends_with(')');
                body.push_str(&statement[..at]);
                uses.push((is_public, statement[at + "use ".len()..].trim_end_matches(';').to_owned()));
            }
            None => body.push_str(statement),
        }
    }
    (uses, body)
}

/// Expands the tree of a `use` declaration to its paths, each with the name that it has in the file.
fn expand_uses(before: &str, tree: &str, into: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    if let Some(at) = tree.find('{') {
        let before = format!("{before}{}", tree[..at].trim());
        let (mut depth, mut start) = (0, 0);
        let whole = tree[at + 1..].trim_end();
        let whole = whole.strip_suffix('}').unwrap_or(whole);
        for (at, c) in whole.char_indices().chain([(whole.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !whole[start..at].trim().is_empty() {
                        expand_uses(&before, &whole[start..at], into);
                    }
                    start = (at + 1).min(whole.len());
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path.trim(), Some(alias.trim())));
    let path = format!("{before}{path}");
    let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
    let name = alias.or_else(|| path.rsplit("::").next()).unwrap_or_default().to_owned();
    into.push((path, name));
}

/// Returns the paths of two names or more in code without `use` declarations.
fn paths_in(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find(is_of_name) {
        let path = &rest[at..];
        let end = path.find(|c: char| !is_of_name(c) && c != ':').unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        let path = path.split(":::").next().unwrap_or_default().trim_end_matches(':');
        if path.contains("::") {
            paths.insert(path.to_owned());
        }
        rest = after;
    }
    paths
}

/// Returns the names of a file's tests.
pub fn tests(text: &str) -> BTreeSet<String> {
    let code = blank(text);
    let marks = ["#[test]", "#[tokio::test]", "#[tokio::test("];
    let after = marks.iter().flat_map(|mark| code.match_indices(mark).map(|(at, mark)| &code[at + mark.len()..]));
    let name = |rest: &str| {
        // Only further attributes and `async` may be between the attribute and the function.
        let (before, rest) = rest.split_once("fn ")?;
        let is_near = !before.contains(['{', '}', ';']) && !before.contains("#[ignore");
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
        is_near.then(|| rest[..end].to_owned())
    };
    after.filter_map(name).collect()
}

/// Reads one path, or a group of paths in braces, from the start of `rest`. Returns the remaining text.
fn expand<'a>(before: &str, rest: &'a str, into: &mut BTreeSet<String>) -> &'a str {
    let rest = rest.trim_start();
    if let Some(mut rest) = rest.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            if rest.is_empty() {
                return rest;
            }
            rest = after_alias(expand(before, rest, into));
        }
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
    // Skip a character that cannot be part of a path, or the loop above would never end.
    let end = if end == 0 { rest.chars().next().map_or(0, char::len_utf8) } else { end };
    let (name, after) = rest.split_at(end);
    let path = if before.is_empty() { name.to_owned() } else { format!("{before}::{name}") };
    match after.trim_start().strip_prefix("::") {
        Some(after) if !after.trim_start().starts_with('<') => expand(&path, after, into),
        _ => {
            into.insert(path.trim_end_matches("::*").trim_end_matches("::self").to_owned());
            after
        }
    }
}

fn after_alias(rest: &str) -> &str {
    match rest.trim_start().strip_prefix("as ") {
        Some(alias) => alias.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => rest,
    }
}

/// Returns the code without items under `#[cfg(test)]`, and the names of those modules that have a file.
fn without_tests(code: &str) -> (String, BTreeSet<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut kept, mut names, mut rest) = (String::new(), BTreeSet::new(), code);
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        let item = &rest[at + MARK.len()..];
        let end = item.find([';', '{']).unwrap_or(item.len());
        if item[end..].starts_with('{') {
            rest = after_braces(&item[end..]);
        } else {
            let name = item[..end].split_whitespace().skip_while(|word| *word != "mod").nth(1);
            names.extend(name.map(str::to_owned));
            rest = &item[end..];
        }
    }
    kept.push_str(rest);
    (kept, names)
}

fn after_braces(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return &text[at + 1..],
            '}' => depth -= 1,
            _ => {}
        }
    }
    ""
}

/// Returns the code with each comment and literal replaced by a space.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest, out.chars().next_back()));
        match skipped {
            Some(length) => {
                out.push(' ');
                rest = &rest[length..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// Returns the length of the comment at the start of `rest`.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    rest.starts_with("/*").then(|| rest.find("*/").map_or(rest.len(), |end| end + 2))
}

/// Returns the length of the string or character literal at the start of `rest`, raw ones included.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    let in_a_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_a_name);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let inside = rest.len() - raw.len() + hashes + 1;
            return Some(rest[inside..].find(&end).map_or(rest.len(), |at| inside + at + end.len()));
        }
    }
    let mut chars = rest.char_indices();
    match chars.next()?.1 {
        '"' => {
            let mut escaped = false;
            for (at, c) in chars {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => return Some(at + 1),
                    _ => {}
                }
            }
            Some(rest.len())
        }
        // A lifetime has no second quote, unlike a character.
        '\'' => match chars.next()?.1 {
            '\\' => rest[3..].find('\'').map(|at| at + 4),
            _ => chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1),
        },
        _ => None,
    }
}

#[test]
fn paths_are_found_in_code_and_nowhere_else() {
    let text = r##"
        //! See crate::comment::X.
        use crate::oci::{Digest, name::{self, Tag as T}, Platform};
        use crate::store::*;
        pub(crate) fn f<'a>(x: &'a str) -> crate::plan::Plan<'a> {
            my_crate::no::X; "crate::text::X \" "; '"'; '\''; r#"crate::raw::X"#; x
        }
        /* crate::block::X */
        fn g() { crate::copy :: event::new::<u8>() }
        #[cfg(test)]
        mod tests { fn h() { if true { crate::only::tests() } } }
        #[cfg(test)]
        mod apart;
        use super::super::up;
    "##;
    let found = read(text);
    let paths: Vec<&str> = found.paths.iter().map(String::as_str).collect();
    assert_eq!(
        paths,
        ["copy::event::new", "oci::Digest", "oci::Platform", "oci::name", "oci::name::Tag", "plan::Plan", "store"]
    );
    assert_eq!(found.test_modules.into_iter().collect::<Vec<_>>(), ["apart"]);
    assert_eq!(found.deepest_super, 2);
}

#[test]
fn uses_are_split_from_other_paths() {
    let text = "pub(super) use a::{b::{self, C as D}, e};\npub use f::G;\nuse super::h::*;\n\
                fn x(g: G) { super::y::z(child::w(D::new())); let k: u8 = v; }";
    let found = read(text);
    let uses: Vec<_> = found.uses.iter().map(|used| (&*used.name, &*used.path, used.only_reexported)).collect();
    let expected = [
        ("b", "a::b", true),
        ("D", "a::b::C", false),
        ("e", "a::e", true),
        ("G", "f::G", false),
        ("*", "super::h::*", false),
    ];
    assert_eq!(uses, expected);
    assert_eq!(found.inline_paths.into_iter().collect::<Vec<_>>(), ["D::new", "child::w", "super::y::z"]);
}

#[test]
fn tests_differ_from_functions_comments_and_ignored_tests() {
    let text = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn two() {}\n\
                // #[test]\nfn three() {}\n#[test]\n#[ignore]\nfn four() {}\n";
    assert_eq!(tests(text).into_iter().collect::<Vec<_>>(), ["one", "two"]);
}
