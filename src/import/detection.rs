//! Detection of the program that a configuration file belongs to.

use super::form::Program;
use super::{image_syncer, skopeo, zot};
use crate::config::Node;

/// Detects the program by the keys and values of the file. A file of regsync, dregsy or zot has fixed keys at the top.
/// In a file of skopeo, the keys at the top are hosts. In a file of image-syncer, the keys are images.
pub(super) fn detect_form(root: &Node) -> Option<Program> {
    let Node::Map(pairs) = root else { return None };
    let has_list = |name: &str| pairs.iter().any(|(key, node)| key == name && matches!(node, Node::List(_)));
    if zot::find_sync(root).is_some() {
        Some(Program::Zot)
    } else if has_list("sync") || pairs.iter().any(|(key, _)| key == "creds") {
        Some(Program::Regsync)
    } else if has_list("tasks") {
        Some(Program::Dregsy)
    } else if pairs.iter().any(|(_, node)| is_skopeos_registry(node)) {
        Some(Program::Skopeo)
    } else if has_images(pairs) {
        Some(Program::ImageSyncer)
    } else {
        None
    }
}

fn is_skopeos_registry(node: &Node) -> bool {
    match node {
        Node::Map(keys) => keys.iter().any(|(key, _)| skopeo::KEYS.contains(&key.as_str())),
        _ => false,
    }
}

/// Returns true if the file contains only rules of image-syncer, at the top level or under `images`.
fn has_images(pairs: &[(String, Node)]) -> bool {
    let images = pairs.iter().find(|(key, _)| key == "images").map(|(_, node)| node);
    let rules = match images {
        Some(Node::Map(rules)) => rules,
        _ => pairs,
    };
    !rules.is_empty() && rules.iter().all(|(source, destinations)| image_syncer::is_rule(source, destinations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_foreign;

    fn detect(text: &str) -> Option<Program> {
        detect_form(parse_foreign("f", text).unwrap().root())
    }

    #[test]
    fn program_is_detected_by_keys_and_values() {
        for (text, form) in [
            ("sync: [{source: a}]", Some(Program::Regsync)),
            ("creds: []", Some(Program::Regsync)),
            ("h.example: {images: {a: []}}", Some(Program::Skopeo)),
            ("relay: skopeo\ntasks: [{name: a}]", Some(Program::Dregsy)),
            ("q.io/a/b:v1,v2: r.example/b", Some(Program::ImageSyncer)),
            ("nginx: [r.example/nginx, s.example/nginx]", Some(Program::ImageSyncer)),
            ("auth: {q.io: {username: a}}\nimages: {q.io/a: r.example/a}", Some(Program::ImageSyncer)),
            (
                "{\"extensions\": {\"sync\": {\"registries\": [{\"URLs\": [\"https://h.example\"]}]}}}",
                Some(Program::Zot),
            ),
            ("registries: [{urls: [\"https://h.example\"]}]", Some(Program::Zot)),
            ("a: b", None),
            ("q.io: {username: a, password: b}", None),
            ("[]", None),
            ("{}", None),
        ] {
            assert_eq!(detect(text), form, "{text}");
        }
    }
}
