//! Tests of the book in `docs/`: the book builds without warnings, its summary lists every page, and every link within
//! the documents leads to a file and a heading. No test contacts another host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex::Regex;
use tempfile::TempDir;

use super::assert_current;

/// Title of the last part of the summary, which lists the decisions.
const DECISIONS: &str = "# Decisions\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files below a folder with this extension, in order of their paths.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|actual| actual == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the documents for people: those of the top folder, of the book, and of the packages and benchmarks.
fn documents() -> Vec<PathBuf> {
    let mut documents = files(&root().join("docs"), "md");
    for folder in ["", "packaging", "benches"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    documents
}

/// Returns the anchor of a heading, as GitHub and mdBook form it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Links and headings of a document.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outline {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

fn outline(text: &str) -> Outline {
    let attribute = Regex::new(r#"\b(?:href|src|srcset)="([^" ]+)"#).unwrap();
    let mut outline = Outline::default();
    let mut heading: Option<String> = None;
    let mut repeated: BTreeMap<String, usize> = BTreeMap::new();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                outline.links.push(dest_url.into_string());
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let count = repeated.entry(anchor.clone()).or_default();
                outline.anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
                *count += 1;
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                outline.links.extend(attribute.captures_iter(&html).map(|found| found[1].to_owned()));
            }
            _ => {}
        }
    }
    outline
}

/// Returns true if a link leads to another host or to a mailbox.
fn is_external(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

/// Resolves `..` and `.` in a path.
fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normalized.pop();
            }
            Component::CurDir => {}
            other => normalized.push(other),
        }
    }
    normalized
}

/// Returns the problem of a link of a document; `None` if the link leads to an existing file and, if the link names a
/// heading, to an existing heading.
fn problem(document: &Path, link: &str, outlines: &BTreeMap<PathBuf, Outline>) -> Option<String> {
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { document.to_owned() } else { normalized(&document.parent()?.join(path)) };
    let book = root().join("docs");
    if !target.exists() {
        return Some("leads to no file".to_owned());
    }
    if document.starts_with(&book) && !target.starts_with(&book) {
        return Some("leads out of the book: name the path instead".to_owned());
    }
    let anchors = outlines.get(&target).map(|outline| &outline.anchors);
    let is_missing = !fragment.is_empty() && anchors.is_some_and(|anchors| !anchors.contains(fragment));
    is_missing.then(|| "leads to no heading".to_owned())
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_and_a_heading() {
    let read = |path: PathBuf| {
        let outline = outline(&fs::read_to_string(&path).unwrap());
        (path, outline)
    };
    let outlines: BTreeMap<PathBuf, Outline> = documents().into_iter().map(read).collect();
    let (mut seen, mut problems) = (0, Vec::new());
    for (document, outline) in &outlines {
        for link in outline.links.iter().filter(|link| !is_external(link)) {
            seen += 1;
            let name = document.strip_prefix(root()).unwrap().display();
            problems.extend(problem(document, link, &outlines).map(|problem| format!("{name}: {link} {problem}")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(seen > 200, "{seen} links were found");
}

#[test]
fn links_and_headings_of_a_document_are_found() {
    let text = "# One `two` (three)\n[a](b.md#c) ![d](e.svg)\n\n<img src=\"f.png\" alt=\"\">\n\n## One two three\n\
                ```\n[no](link.md)\n```\n| x |\n| --- |\n| [g](h.md) |\n";
    let Outline { links, anchors } = outline(text);
    assert_eq!(links, ["b.md#c", "e.svg", "f.png", "h.md"]);
    assert_eq!(anchors, BTreeSet::from(["one-two-three".to_owned(), "one-two-three-1".to_owned()]));
    assert_eq!(anchor(" `sync.yaml`: 1 key_word "), "syncyaml-1-key_word");
}

#[test]
fn links_to_missing_files_headings_and_other_folders_are_problems() {
    let page = root().join("docs/README.md");
    let outlines = BTreeMap::from([(page.clone(), outline("# Here\n"))]);
    let problem = |link: &str| problem(&page, link, &outlines);
    assert_eq!(problem("#here"), None);
    assert_eq!(problem("../docs/README.md#here"), None);
    assert_eq!(problem("#there").as_deref(), Some("leads to no heading"));
    assert_eq!(problem("none.md").as_deref(), Some("leads to no file"));
    assert_eq!(problem("../README.md").as_deref(), Some("leads out of the book: name the path instead"));
}

#[test]
fn summary_lists_every_page_once() {
    let book = root().join("docs");
    let summary = outline(&fs::read_to_string(book.join("SUMMARY.md")).unwrap()).links;
    let listed: BTreeSet<PathBuf> = summary.iter().map(|link| normalized(&book.join(link))).collect();
    assert_eq!(listed.len(), summary.len(), "a page is listed twice");
    let pages: BTreeSet<PathBuf> =
        files(&book, "md").into_iter().filter(|path| !path.ends_with("docs/SUMMARY.md")).collect();
    let orphans: Vec<&PathBuf> = pages.difference(&listed).collect();
    assert!(orphans.is_empty(), "docs/SUMMARY.md does not list {orphans:?}");
    assert!(pages.len() > 100, "{} pages were found", pages.len());
}

/// Returns the part of the summary that lists the decisions, with the titles of their pages.
fn decisions() -> String {
    let mut part = format!("{DECISIONS}\n- [Decisions](adr/README.md)\n");
    for file in files(&root().join("docs/adr"), "md").iter().filter(|file| !file.ends_with("README.md")) {
        let text = fs::read_to_string(file).unwrap();
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a title");
        part += &format!("  - [{title}](adr/{})\n", file.file_name().unwrap().to_str().unwrap());
    }
    part
}

#[test]
fn list_of_decisions_in_the_summary_is_current() {
    let file = root().join("docs/SUMMARY.md");
    let summary = fs::read_to_string(&file).unwrap();
    let (before, _) = summary.split_once(DECISIONS).expect("the part of the decisions");
    assert_current(&file, &format!("{before}{}", decisions()));
}

/// Returns the problems of the links of a page in HTML. `ids` has the ids of each page.
fn html_problems(built: &Path, page: &Path, text: &str, ids: &BTreeMap<PathBuf, BTreeSet<String>>) -> Vec<String> {
    let link = Regex::new(r#"\b(?:href|src)="([^"]*)""#).unwrap();
    let links = link.captures_iter(text).map(|found| found[1].to_owned());
    let mut problems = Vec::new();
    for link in links.filter(|link| !is_external(link) && !link.starts_with("data:")) {
        let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let target = if path.is_empty() { page.to_owned() } else { normalized(&page.parent().unwrap().join(path)) };
        let is_known = fragment.is_empty() || ids.get(&target).is_none_or(|ids| ids.contains(fragment));
        if !target.is_file() || !target.starts_with(built) || !is_known {
            problems.push(format!("{}: {link}", page.strip_prefix(built).unwrap().display()));
        }
    }
    problems
}

#[test]
fn book_builds_without_warnings_and_dead_links() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new("mdbook");
    command.arg("build").arg(root().join("docs")).arg("--dest-dir").arg(folder.path()).env_remove("RUST_LOG");
    let output = command.output().expect("tests/run installs mdbook");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("WARN") && !log.contains("ERROR"), "{log}");

    let built = folder.path().canonicalize().unwrap();
    let pages: BTreeMap<PathBuf, String> = files(&built, "html")
        .into_iter()
        .map(|page| {
            let text = fs::read_to_string(&page).unwrap();
            (page, text)
        })
        .collect();
    let id = Regex::new(r#"\bid="([^"]+)""#).unwrap();
    let ids = pages
        .iter()
        .map(|(page, text)| (page.clone(), id.captures_iter(text).map(|found| found[1].to_owned()).collect()))
        .collect();
    let problems: Vec<String> = pages.iter().flat_map(|(page, text)| html_problems(&built, page, text, &ids)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(pages.len() > 100, "{} pages were built", pages.len());
}
