//! Detection of the program of a file, by its keys and values.

use super::form::Form;
use super::{image_syncer, skopeo, zot};
use crate::config::Node;

/// Detects the program. The files of regsync, dregsy and zot have a few fixed keys. The keys of a file of skopeo are
/// hosts, and those of image-syncer are images.
pub(super) fn detect_form(root: &Node) -> Option<Form> {
    let Node::Map(pairs) = root else { return None };
    let has_list = |name: &str| pairs.iter().any(|(key, node)| key == name && matches!(node, Node::List(_)));
    if zot::find_sync(root).is_some() {
        Some(Form::Zot)
    } else if has_list("sync") || pairs.iter().any(|(key, _)| key == "creds") {
        Some(Form::Regsync)
    } else if has_list("tasks") {
        Some(Form::Dregsy)
    } else if pairs.iter().any(|(_, node)| is_skopeos_registry(node)) {
        Some(Form::Skopeo)
    } else if has_images(pairs) {
        Some(Form::ImageSyncer)
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

/// Returns true if all pairs are rules of image-syncer, or all pairs of the key `images`.
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

    fn detect(text: &str) -> Option<Form> {
        detect_form(parse_foreign("f", text).unwrap().root())
    }

    #[test]
    fn program_is_detected_by_keys_and_values() {
        for (text, form) in [
            ("sync: [{source: a}]", Some(Form::Regsync)),
            ("creds: []", Some(Form::Regsync)),
            ("h.example: {images: {a: []}}", Some(Form::Skopeo)),
            ("relay: skopeo\ntasks: [{name: a}]", Some(Form::Dregsy)),
            ("q.io/a/b:v1,v2: r.example/b", Some(Form::ImageSyncer)),
            ("nginx: [r.example/nginx, s.example/nginx]", Some(Form::ImageSyncer)),
            ("auth: {q.io: {username: a}}\nimages: {q.io/a: r.example/a}", Some(Form::ImageSyncer)),
            ("{\"extensions\": {\"sync\": {\"registries\": [{\"URLs\": [\"https://h.example\"]}]}}}", Some(Form::Zot)),
            ("registries: [{urls: [\"https://h.example\"]}]", Some(Form::Zot)),
            ("a: b", None),
            ("q.io: {username: a, password: b}", None),
            ("[]", None),
            ("{}", None),
        ] {
            assert_eq!(detect(text), form, "{text}");
        }
    }
}
