//! Detection of a configuration of another program by its keys and values. `import` interprets the keys.

use crate::config::yaml::node::Node;

/// Program whose configuration an operator may pass to transship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherProgram {
    /// regclient's regsync.
    Regsync,
    /// `skopeo sync --src yaml`.
    Skopeo,
    /// xelalexv's dregsy.
    Dregsy,
    /// AliyunContainerService's image-syncer: its images, its logins, or both.
    ImageSyncer,
    /// zot, whose extension `sync` mirrors registries.
    Zot,
    /// Task of Azure Container Registry.
    AcrTask,
}

/// Check that a file is a configuration of one program.
type FileCheck = fn(&Node) -> bool;

impl OtherProgram {
    /// Returns the program of a file. Returns `None` for a configuration of transship, also one with mistakes, and for
    /// any other file.
    pub(super) fn detect(root: &Node) -> Option<Self> {
        let Node::Map(pairs) = root else { return None };
        if pairs.is_empty() {
            return None;
        }
        let checks: [(Self, FileCheck); 6] = [
            (Self::Regsync, is_regsync),
            (Self::AcrTask, is_acr_task),
            (Self::Dregsy, is_dregsy),
            (Self::Zot, is_zot),
            (Self::Skopeo, is_skopeo),
            (Self::ImageSyncer, is_image_syncer),
        ];
        checks.into_iter().find(|(_, is_of_program)| is_of_program(root)).map(|(program, _)| program)
    }

    /// Returns the message about the file.
    pub(super) fn message(self) -> String {
        let what = match self {
            Self::Regsync => "a configuration of regsync",
            Self::Skopeo => "a configuration of `skopeo sync`",
            Self::Dregsy => "a configuration of dregsy",
            Self::ImageSyncer => "a configuration of image-syncer",
            Self::Zot => "a configuration of zot",
            Self::AcrTask => "a task of Azure Container Registry",
        };
        format!("this file is {what}, not of transship")
    }

    /// Returns the command that converts the file called `name`.
    pub(super) fn remedy(self, name: &str) -> String {
        match self {
            Self::Skopeo => {
                format!("convert the file: `transship import-config {name} --target HOST/PREFIX --output NEW.yaml`")
            }
            Self::AcrTask => {
                "`transship import-config` does not convert tasks: write an entry with `source`, `target` \
                              and `schedule` for each image that the task copies"
                    .to_owned()
            }
            Self::Regsync | Self::Dregsy | Self::ImageSyncer | Self::Zot => {
                format!("convert the file: `transship import-config {name} --output NEW.yaml`")
            }
        }
    }
}

/// Returns the value of a key of a map.
fn value_of<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Node::Map(pairs) = node else { return None };
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn has_key(node: &Node, key: &str) -> bool {
    value_of(node, key).is_some()
}

/// Returns the items of a list that is the value of a key.
fn items_of<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    match value_of(node, key) {
        Some(Node::List(items)) => items,
        _ => &[],
    }
}

/// A configuration of regsync has the logins as a list, or entries with a `type` and without a name.
fn is_regsync(root: &Node) -> bool {
    let is_entry = |entry: &Node| {
        let kind = value_of(entry, "type");
        let is_kind = matches!(kind, Some(Node::Text(kind)) if ["registry", "repository", "image"].contains(&&**kind));
        is_kind && !has_key(entry, "name")
    };
    let is_login = |login: &Node| has_key(login, "registry");
    let entries = items_of(root, "sync");
    items_of(root, "creds").iter().any(is_login) || !entries.is_empty() && entries.iter().all(is_entry)
}

fn is_acr_task(root: &Node) -> bool {
    let is_step = |step: &Node| ["cmd", "build", "push"].iter().any(|key| has_key(step, key));
    !has_key(root, "sync") && items_of(root, "steps").iter().any(is_step)
}

fn is_dregsy(root: &Node) -> bool {
    let is_task = |task: &Node| has_key(task, "mappings") && has_key(task, "source");
    !has_key(root, "sync") && items_of(root, "tasks").iter().any(is_task)
}

fn is_zot(root: &Node) -> bool {
    let has_extension = value_of(root, "extensions").is_some_and(|extensions| has_key(extensions, "sync"));
    has_extension || has_key(root, "distSpecVersion") && has_key(root, "storage")
}

/// The keys of skopeo's configuration are hosts, each with its images.
fn is_skopeo(root: &Node) -> bool {
    let Node::Map(pairs) = root else { return false };
    let has_images = |host: &Node| {
        let keys = ["images", "images-by-tag-regex", "images-by-semver"];
        keys.iter().any(|key| matches!(value_of(host, key), Some(Node::Map(_))))
    };
    !is_of_transship(root) && pairs.iter().any(|(_, host)| has_images(host))
}

/// The file of the images maps each source to its targets. The file of the logins has a user and a password for each
/// host. An old file has both, under `images` and `auth`.
fn is_image_syncer(root: &Node) -> bool {
    let Node::Map(pairs) = root else { return false };
    let is_login = |login: &Node| has_key(login, "username") && has_key(login, "password");
    let is_target = |target: &Node| match target {
        Node::Text(target) => target.contains('/'),
        Node::List(targets) => targets.iter().all(|target| matches!(target, Node::Text(_))),
        Node::Null => true,
        _ => false,
    };
    let has_both = has_key(root, "auth") && has_key(root, "images");
    let has_images = pairs.iter().all(|(source, target)| source.contains('/') && is_target(target));
    let has_logins = pairs.iter().all(|(host, login)| host.contains(['.', ':']) && is_login(login));
    !is_of_transship(root) && (has_both || has_images || has_logins)
}

fn is_of_transship(root: &Node) -> bool {
    ["version", "sync", "registries"].iter().any(|key| has_key(root, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::node::read;

    fn detect(text: &str) -> Option<OtherProgram> {
        OtherProgram::detect(&read(text).unwrap())
    }

    #[test]
    fn program_of_each_known_format_is_detected() {
        use OtherProgram::{AcrTask, Dregsy, ImageSyncer, Regsync, Skopeo, Zot};
        for (program, text) in [
            (Regsync, "{version: 1, sync: [{source: a/b, target: c.example/b, type: repository}]}"),
            (Regsync, "{version: 1, creds: [{registry: a.example, user: me}], sync: []}"),
            (Skopeo, "a.example: {images: {busybox: []}, tls-verify: false}"),
            (Skopeo, "a.example: {images-by-tag-regex: {nginx: ^1}}"),
            (Dregsy, "{relay: skopeo, tasks: [{name: a, source: {registry: x}, target: {registry: y}, mappings: []}]}"),
            (ImageSyncer, "{a.example/b: c.example/b, 'a.example/c:v1': [c.example/d]}"),
            (ImageSyncer, "{a.example: {username: me, password: x}}"),
            (ImageSyncer, "{auth: {a.example: {username: me, password: x}}, images: {a.example/b: c.example/b}}"),
            (Zot, "{distSpecVersion: 1.1.0, storage: {rootDirectory: /tmp}, http: {port: 5000}}"),
            (Zot, "{extensions: {sync: {registries: []}}}"),
            (AcrTask, "{version: v1.1.0, steps: [{cmd: 'az acr import'}]}"),
        ] {
            assert_eq!(detect(text), Some(program), "{text}");
        }
    }

    #[test]
    fn configuration_of_transship_with_mistakes_is_of_no_other_program() {
        for text in [
            "{}",
            "[a]",
            "{version: 1, sync: []}",
            "{version: 1, sync: [{name: a, source: a/b, target: c.example/b, type: image}]}",
            "{version: 1, images: [{source: a/b}]}",
            "{ghcr.io: {credentials: {username: me}}}",
            "{sync: [{source: a/b}], tasks: []}",
            "{sorce: a/b, target: c/d}",
        ] {
            assert_eq!(detect(text), None, "{text}");
        }
    }
}
