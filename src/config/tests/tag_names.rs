//! Tests of the names of tags at the target and of the selection of repositories: values, problems and warnings.

use super::support::read;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Returns the text of a configuration with one entry that has these keys.
fn entry(keys: &str) -> String {
    format!("version: 1\nsync:\n  - name: a\n    source: s.example/a\n    target: t.example/a\n    {keys}\n")
}

/// Returns the text of a configuration with one entry over a tree that has these keys.
fn tree(keys: &str) -> String {
    format!("version: 1\nsync:\n  - name: a\n    source: s.example/**\n    target: t.example/**\n    {keys}\n")
}

fn refused(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn warnings(text: &str) -> Vec<String> {
    read(text).unwrap_or_else(|problems| panic!("{problems}")).warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn names_of_tags_are_read_from_both_keys() {
    let config = read(&entry("rename: {\"1.2.0\": stable}\n    tag: \"mirror-{tag}\"")).unwrap();
    let names = &config.entries[0].names;
    assert_eq!(names.template.as_ref().map(ToString::to_string).as_deref(), Some("mirror-{tag}"));
    assert_eq!(names.renamed[&"1.2.0".parse().unwrap()].as_str(), "stable");
    let config = read(&tree("repositories: {include: [\"team/*\"], exclude: [team/x]}")).unwrap();
    let repositories = &config.entries[0].repositories;
    assert!(repositories.takes("team/a") && !repositories.takes("team/x") && !repositories.takes("other"));
}

#[test]
fn name_that_no_tag_can_have_is_refused_with_its_place() {
    for (keys, expected) in [
        ("tag: v1", "sync.yaml:6:10: \"v1\" gives every tag the same name: write {tag}"),
        ("tag: \"-{tag}\"", "sync.yaml:6:10: \"-{tag}\" never makes a tag"),
        ("rename: {v1: \"a b\"}", "sync.yaml:6:18: "),
        ("rename: {\"a b\": v1}", "sync.yaml:6:14: "),
        ("rename: [v1]", "sync.yaml:6:13: expected a map of tags and their names at the target"),
        ("rename: {a: x, b: x}", "the tags a and b get the same name x"),
        ("rename: {a: x, a: y}", "duplicate"),
        (
            "rename: {latest: stable}\n    tags: {include: [latest, stable]}",
            "the tags latest and stable get the same name",
        ),
        (&format!("rename: {{v1: {}.sig}}", DIGEST.replace(':', "-")), "is made of a digest"),
    ] {
        let message = refused(&entry(keys));
        assert!(message.contains(expected), "{expected}\n--\n{message}");
    }
    let long = "x".repeat(126);
    let message = refused(&entry(&format!("tag: \"m-{{tag}}x\"\n    tags: {{include: [{long}]}}")));
    assert!(message.contains("gives the tag") && message.contains("an invalid name"), "{message}");
}

#[test]
fn name_of_a_tag_that_is_never_selected_causes_a_warning() {
    let found = warnings(&entry("rename: {v1: stable}\n    tags: {include: [\"w*\"]}"));
    assert!(found[0].contains("`rename` names the tag v1, but `tags` never selects it"), "{found:?}");
    assert_eq!(warnings(&entry("rename: {v1: stable}\n    tags: {include: [\"v*\"]}")), [""; 0]);
    assert_eq!(warnings(&entry(&format!("rename: {{v1: stable}}\n    tags: {{include: [\"v1@{DIGEST}\"]}}"))), [""; 0]);
}

#[test]
fn entries_are_compared_by_the_names_at_the_target() {
    let two = |one: &str, other: &str| {
        let entry = |name: &str, source: &str, keys: &str| {
            format!("  - {{name: {name}, source: {source}, target: t.example/a, {keys}}}\n")
        };
        format!("version: 1\nsync:\n{}{}", entry("a", "s.example/a", one), entry("b", "s.example/b", other))
    };
    let literal = "tags: {include: [v1]}";
    assert!(refused(&two(literal, literal)).contains("write the tag v1 of t.example/a from different sources"));
    assert_eq!(warnings(&two(literal, &format!("{literal}, rename: {{v1: b-v1}}"))), [""; 0]);
    let meet = two("tags: {include: [v2]}, rename: {v2: v1}", literal);
    assert!(refused(&meet).contains("write the tag v1 of t.example/a from different sources"));
    assert_eq!(warnings(&two("tag: \"a-{tag}\"", "tag: \"b-{tag}\"")), [""; 0]);
    assert_eq!(warnings(&two("tag: \"a-{tag}\"", "tag: \"a-b-{tag}\"")).len(), 1);
    let same_source = two("tags: {include: [v2]}, rename: {v2: v1}", literal).replace("s.example/b", "s.example/a");
    assert!(refused(&same_source).contains("from different tags: a and b"), "{}", refused(&same_source));
}

#[test]
fn selection_of_repositories_needs_a_tree() {
    let message = refused(&entry("repositories: {include: [x]}"));
    assert!(message.contains("below a source that ends in `/**`, but the source is s.example/a"), "{message}");
    for (keys, expected) in [
        ("repositories: {include: [\"x:v1\"]}", "a name cannot contain ':'"),
        ("repositories: {include: []}", "`include` is empty, so no repository would be selected"),
        ("repositories: [x]", "write `repositories: {include: […]}`"),
        ("repositories: {only: [x]}", "unknown key"),
    ] {
        let message = refused(&tree(keys));
        assert!(message.contains(expected), "{expected}\n--\n{message}");
    }
}
