//! ARCHITECTURE.md's table of modules, compared with the paths in the source.
//! Tests within the source may import anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::rust_source::{self, Source};

const HEADER: &str = "| module | contents | may import |";

/// The imports that a module may have.
#[derive(Debug, Default)]
struct Allowed {
    /// Modules and parts of modules: `oci`, `copy::event`.
    paths: BTreeSet<String>,
    /// Single types of a module: `registry::Options`.
    types: BTreeSet<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the rows of the table: the name of the module and the third cell.
fn rows(text: &str) -> Vec<(String, String)> {
    let table = text.lines().skip_while(|line| *line != HEADER).skip(2).take_while(|line| line.starts_with('|'));
    let mut rows = Vec::new();
    for line in table {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "a row of ARCHITECTURE.md's table has three cells: {line}");
        for module in quoted(cells[0]) {
            rows.push((module.trim_end_matches('/').trim_end_matches(".rs").to_owned(), cells[2].to_owned()));
        }
    }
    rows
}

/// Returns the texts between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Returns the allowed imports of each module. A cell may refer to earlier rows.
fn read_table(text: &str) -> BTreeMap<String, Allowed> {
    let rows = rows(text);
    let all: BTreeSet<String> = rows.iter().map(|(module, _)| module.clone()).collect();
    let mut table: BTreeMap<String, Allowed> = BTreeMap::new();
    for (module, cell) in rows {
        let mut allowed = Allowed::default();
        if let Some(except) = cell.strip_prefix("all but ") {
            let except = quoted(except);
            allowed.paths.extend(all.iter().filter(|other| !except.contains(&other.as_str())).cloned());
        } else if cell != "nothing of ours" {
            for item in cell.split(", ") {
                read_item(item, &all, &table, &mut allowed);
            }
        }
        table.entry(module).or_default().merge(allowed);
    }
    table
}

impl Allowed {
    fn merge(&mut self, other: Self) {
        self.paths.extend(other.paths);
        self.types.extend(other.types);
    }

    /// Returns true if a path such as `registry::Options` is allowed.
    fn covers(&self, path: &str) -> bool {
        let below = |allowed: &String| {
            path == allowed || path.strip_prefix(allowed.as_str()).is_some_and(|rest| rest.starts_with("::"))
        };
        self.paths.iter().any(below) || self.types.iter().any(below)
    }
}

fn read_item(item: &str, all: &BTreeSet<String>, table: &BTreeMap<String, Allowed>, allowed: &mut Allowed) {
    let name = quoted(item).first().map(|name| (*name).to_owned());
    match name {
        Some(name) if item == format!("`{name}`") => {
            allowed.paths.insert(name);
        }
        Some(name) if item == format!("`{name}` and below") => {
            let below = table.get(&name).unwrap_or_else(|| panic!("{item}: the row of {name} comes first"));
            allowed.paths.extend(below.paths.iter().cloned().chain([name.clone()]));
        }
        _ if item.starts_with("option types of ") || item.ends_with(" records") => {
            let word = |module: &&String| item.split([' ', '`']).any(|word| word == module.as_str());
            let module = all.iter().find(word).unwrap_or_else(|| panic!("{item:?} names no module"));
            let file = if item.ends_with(" records") { "record" } else { "options" };
            allowed.types.extend(public_types(module, file));
        }
        _ => panic!("ARCHITECTURE.md's table: {item:?} is not understood"),
    }
}

/// Returns the public types that the files of this name declare, or the files of a folder of this name, as
/// `MODULE::Type`, with the path of that file or folder.
fn public_types(module: &str, name: &str) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    let folder = root().join("src").join(module);
    for path in rust_source::files(&folder) {
        let relative = path.strip_prefix(&folder).unwrap().with_extension("");
        let mut parts = relative.iter().filter_map(|part| part.to_str());
        let Some(part) = parts.find(|part| part.trim_end_matches('s') == name.trim_end_matches('s')) else { continue };
        types.insert(format!("{module}::{part}"));
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let rest = ["pub struct ", "pub enum ", "pub type "].iter().find_map(|start| line.strip_prefix(start));
            let name = rest.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
            types.extend(name.map(|name| format!("{module}::{name}")));
        }
    }
    types
}

/// Returns every file of the source that is not for tests only, by its module path: `["oci", "digest"]`.
fn modules() -> Vec<(Vec<String>, Source)> {
    let source = root().join("src");
    let (mut modules, mut only_tests) = (Vec::new(), BTreeSet::new());
    for path in rust_source::files(&source) {
        let relative = path.strip_prefix(&source).unwrap().with_extension("");
        let mut module: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if module.len() == 1 && (module[0] == "lib" || module[0] == "main") {
            continue;
        }
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let parsed = rust_source::read(&fs::read_to_string(&path).unwrap());
        only_tests.extend(parsed.test_modules.iter().map(|name| [&module[..], std::slice::from_ref(name)].concat()));
        modules.push((module, parsed));
    }
    modules.retain(|(module, _)| !only_tests.iter().any(|test| module.starts_with(test)));
    modules
}

/// Graph of the source's files: which file uses an item of which other file. A module that only re-exports a name is
/// skipped.
struct FileGraph {
    sources: BTreeMap<Vec<String>, Source>,
}

impl FileGraph {
    fn read() -> Self {
        Self { sources: modules().into_iter().collect() }
    }

    /// Returns the file that has the item of this path, as `module` writes it; `None` for a path out of this crate.
    fn resolve(&self, module: &[String], path: &str) -> Option<Vec<String>> {
        let segments: Vec<String> = path.split("::").map(str::to_owned).collect();
        let first = segments.first()?.as_str();
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        let absolute = match first {
            "crate" => segments[1..].to_vec(),
            "self" => [module, &segments[1..]].concat(),
            "super" => [&module[..module.len().checked_sub(supers)?], &segments[supers..]].concat(),
            child if self.sources.contains_key(&[module, &[child.to_owned()]].concat()) => [module, &segments].concat(),
            _ => return None,
        };
        let depth = (1..=absolute.len()).rev().find(|depth| self.sources.contains_key(&absolute[..*depth]))?;
        let (owner, rest) = absolute.split_at(depth);
        let passed_on = rest.first().and_then(|name| {
            let used = self.sources[owner].uses.iter().find(|used| used.name == *name)?;
            self.resolve(owner, &[std::slice::from_ref(&used.path), &rest[1..]].concat().join("::"))
        });
        Some(passed_on.unwrap_or_else(|| owner.to_vec()))
    }

    /// Returns the edges between the files of a module.
    fn edges(&self, module: &str) -> BTreeSet<(Vec<String>, Vec<String>)> {
        let mut edges = BTreeSet::new();
        for (file, source) in self.sources.iter().filter(|(file, _)| file[0] == module) {
            let uses = source.uses.iter().filter(|used| !used.only_reexported).map(|used| &used.path);
            let targets = uses.chain(&source.inline_paths).filter_map(|path| self.resolve(file, path));
            edges.extend(targets.filter(|to| to[0] == module && to != file).map(|to| (file.clone(), to)));
        }
        edges
    }

    /// Returns the folder of a module that a file is in; `.` for a file that is directly in the module.
    fn folder(&self, file: &[String]) -> String {
        let is_folder =
            |folder: &[String]| self.sources.keys().any(|other| other.len() > 2 && other.starts_with(folder));
        if file.len() > 1 && is_folder(&file[..2]) { file[1].clone() } else { ".".to_owned() }
    }

    /// Returns the groups of files of a module that use each other.
    fn file_cycles(&self, module: &str) -> Vec<Vec<String>> {
        let edges = self.edges(module).into_iter().map(|(from, to)| (from.join("::"), to.join("::")));
        cycles(&edges.collect())
    }

    /// Returns the edges between the folders of a module, each with the files that make it.
    fn folder_edges(&self, module: &str) -> BTreeMap<(String, String), String> {
        let named = self.edges(module).into_iter().map(|(from, to)| {
            let why = format!("{} uses {}", from.join("::"), to.join("::"));
            ((self.folder(&from), self.folder(&to)), why)
        });
        named.filter(|((from, to), _)| from != to).collect()
    }

    /// Returns the groups of folders of a module that use each other.
    fn folder_cycles(&self, module: &str) -> Vec<Vec<String>> {
        cycles(&self.folder_edges(module).into_keys().collect())
    }
}

/// Returns the strongly connected components of more than one node.
fn cycles(edges: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(node) = next.pop() {
            let targets = edges.iter().filter(|(from, _)| from == node).map(|(_, to)| to);
            next.extend(targets.filter(|to| reached.insert((*to).clone())));
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = edges.iter().map(|(from, _)| (from, reach(from))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (node, targets) in reached.iter().filter(|(node, targets)| targets.contains(**node)) {
        let back = |other: &&String| reached.get(other).is_some_and(|back| back.contains(*node));
        found.insert(targets.iter().filter(back).cloned().collect());
    }
    found.into_iter().collect()
}

/// Returns the layers of `registry` in the order of the list in its documentation, the lowest first. The files of the
/// module itself are the highest layer.
fn layers_of_registry() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/registry/mod.rs")).unwrap();
    let items = text.lines().filter_map(|line| line.strip_prefix("//! ")?.split_once(". `"));
    let numbered = items.filter(|(number, _)| number.parse::<usize>().is_ok());
    let mut layers: Vec<String> = numbered.filter_map(|(_, rest)| Some(rest.split_once('`')?.0.to_owned())).collect();
    layers.push(".".to_owned());
    layers
}

#[test]
fn folders_of_registry_import_only_lower_layers() {
    let (graph, layers) = (FileGraph::read(), layers_of_registry());
    let height = |folder: &String| {
        let found = layers.iter().position(|layer| layer == folder);
        found.unwrap_or_else(|| panic!("the documentation of `registry` lists no layer {folder}"))
    };
    let edges = graph.folder_edges("registry");
    let upward: Vec<&String> =
        edges.iter().filter(|((from, to), _)| height(from) < height(to)).map(|(_, why)| why).collect();
    assert!(upward.is_empty(), "a lower layer uses a higher one: {upward:#?}");
    assert!(edges.len() > 20, "{} edges were found", edges.len());
    assert_eq!(graph.folder_cycles("registry"), Vec::<Vec<String>>::new());
}

#[test]
fn no_cycle_joins_files_of_a_module_or_folders_of_sync() {
    let graph = FileGraph::read();
    let none = Vec::<Vec<String>>::new();
    for module in ["cli", "config", "daemon", "sync", "control", "listen", "status", "import"] {
        assert!(graph.edges(module).len() > 1, "the files of {module} were found");
        assert_eq!(graph.file_cycles(module), none, "files of {module}");
    }
    assert_eq!(graph.folder_cycles("sync"), none);
}

#[test]
fn cycles_of_a_graph_are_found_and_paths_ignored() {
    let edge = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
    let graph = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("f", "a")].map(edge);
    assert_eq!(cycles(&graph.into()), [["a", "b", "c"]]);
    assert!(cycles(&[("a", "b"), ("a", "c"), ("b", "c")].map(edge).into()).is_empty());
}

#[test]
fn used_items_are_found_behind_reexports() {
    let file = |path: &str, text: &str| (path.split("::").map(str::to_owned).collect(), rust_source::read(text));
    let graph = FileGraph {
        sources: BTreeMap::from([
            file("m", "mod low; mod high; pub use high::{Top as T}; pub use self::low::Bottom;"),
            file("m::high", "mod part; use crate::m::Bottom; pub use part::Top; fn f() { part::g() }"),
            file("m::high::part", "use super::super::low; fn g() {}"),
            file("m::low", "fn f() -> crate::m::T { x }"),
        ]),
    };
    let edges: Vec<String> =
        graph.edges("m").iter().map(|(from, to)| format!("{} {}", from.join("::"), to.join("::"))).collect();
    assert_eq!(edges, ["m::high m::high::part", "m::high m::low", "m::high::part m::low", "m::low m::high::part"]);
    assert_eq!(graph.file_cycles("m"), [["m::high::part", "m::low"]]);
    assert_eq!(graph.folder_cycles("m"), [[".", "high"]]);
}

#[test]
fn each_module_imports_only_allowed_modules() {
    let table = read_table(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    assert!(table.len() >= 10, "the table of modules was not found under {HEADER:?}");
    let (mut seen, mut problems) = (0, Vec::new());
    for (path, source) in modules() {
        let (module, place) = (&path[0], path.join("::"));
        let Some(allowed) = table.get(module) else {
            problems.push(format!("{place}: the module {module} has no row in ARCHITECTURE.md"));
            continue;
        };
        if source.deepest_super >= path.len() {
            problems.push(format!("{place}: reaches another module by `super::`; write `crate::`"));
        }
        for import in &source.paths {
            seen += 1;
            let own = import.split("::").next() == Some(module.as_str());
            if !own && !allowed.covers(import) {
                problems.push(format!("{place}: imports crate::{import}, which its row does not allow"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(seen >= 5, "no paths were found in the source");
}

#[test]
fn each_row_of_the_table_has_its_module() {
    let table = read_table(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let found: BTreeSet<String> = modules().into_iter().map(|(path, _)| path[0].clone()).collect();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), found);
}

/// A flavour differs from others by the fields of its constant: no code compares it with another one.
#[test]
fn no_module_but_flavor_names_a_flavor() {
    let (mut flavors, mut problems) = (0, Vec::new());
    for (module, _) in modules() {
        let base = root().join("src").join(module.join("/"));
        let files = [base.with_extension("rs"), base.join("mod.rs")];
        let file = files.into_iter().find(|file| file.is_file()).unwrap_or(base);
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut words = code.split("Flavor::").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
        let names_one = words.any(|word| {
            word.is_some_and(|word| {
                word.chars().all(|c| c.is_ascii_uppercase()) && !["", "ALL", "KINDS"].contains(&word)
            })
        });
        if module.len() > 2 && module[..2] == ["registry", "flavor"] {
            flavors += 1;
        } else if names_one || (module[0] != "oci" && code.contains("is_docker_hub")) {
            problems.push(file.display().to_string());
        }
    }
    assert!(flavors > 7 && problems.is_empty(), "{flavors} files of flavours; {}", problems.join("\n"));
}

#[test]
fn main_is_under_forty_lines() {
    let lines = fs::read_to_string(root().join("src/main.rs")).unwrap().lines().count();
    assert!((1..40).contains(&lines), "{lines} lines");
}

#[test]
fn cells_of_the_table_become_allowed_imports() {
    let text = format!(
        "# x\n\n{HEADER}\n| --- | --- | --- |\n| `oci/` | values | nothing of ours |\n\
         | `store.rs`, `store/` | seam | `oci` |\n| `journal/` | SQL | `oci`, `copy::event` |\n\
         | `daemon/` | loop | all but `cli` |\n| `cli/` | commands | `daemon` and below |\n"
    );
    let table = read_table(&text);
    assert_eq!(table.keys().collect::<Vec<_>>(), ["cli", "daemon", "journal", "oci", "store"]);
    let may = |module: &str, path: &str| table[module].covers(path);
    assert!(may("store", "oci::Digest") && !may("store", "ocish::Digest") && !may("oci", "store::Source"));
    assert!(may("journal", "copy::event::Event") && !may("journal", "copy::Copier") && !may("journal", "copy"));
    assert!(may("daemon", "journal") && !may("daemon", "cli::run") && may("cli", "daemon::run") && may("cli", "oci"));
}

#[test]
fn types_of_options_files_and_folders_are_found() {
    for (module, name, found) in [
        ("registry", "options", "registry::Timeouts"),
        ("notify", "options", "notify::Event"),
        ("journal", "record", "journal::RunRecord"),
    ] {
        let types = public_types(module, name);
        assert!(types.contains(found) && types.contains(&format!("{module}::{name}")), "{module}: {types:?}");
    }
}
