//! Parser of the sources and destinations in a file of image-syncer (`pkg/utils/url.go` in image-syncer):
//!
//! - `quay.io/app`: all tags of the repository
//! - `quay.io/app:v1,v2`: the listed tags
//! - `quay.io/app@sha256:…`: one digest
//! - `quay.io/app:/b+/`: all tags that the regular expression `b+` matches

use crate::config::Node;
use crate::oci::{Reference, Tag};

/// Parsed source or destination: a repository, and the images that are selected in the repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) repository: String,
    pub(super) images: Images,
}

/// Selected images of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Images {
    All,
    Tags(Vec<String>),
    Digest(String),
    /// Regular expression. A tag is selected if any part of the tag matches the expression.
    Expression(String),
}

/// Parses a source or a destination. Returns `None` for a text that image-syncer also refuses.
pub(super) fn parse_image(text: &str) -> Option<Image> {
    if let Ok(reference) = text.parse::<Reference>() {
        let images = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => Images::Digest(digest.to_string()),
            (None, Some(tag)) => Images::Tags(vec![tag.to_string()]),
            (None, None) => Images::All,
        };
        return Some(Image { repository: reference.repository.to_string(), images });
    }
    if let Some((repository, expression)) = text.split_once(":/") {
        let expression = expression.strip_suffix('/')?;
        let reference = repository.parse::<Reference>().ok().filter(|reference| reference.tag.is_none())?;
        return Some(Image {
            repository: reference.repository.to_string(),
            images: Images::Expression(expression.to_owned()),
        });
    }
    let mut parts = text.split(',');
    let first = parts.next()?.parse::<Reference>().ok().filter(|first| first.digest.is_none())?;
    let mut tags = vec![first.tag?.to_string()];
    for tag in parts {
        tags.push(tag.parse::<Tag>().ok()?.to_string());
    }
    Some(Image { repository: first.repository.to_string(), images: Images::Tags(tags) })
}

/// Returns true if a key and its value look like a rule of image-syncer, such as `quay.io/app: mirror.example/app`. The
/// value is a destination or a list of destinations.
pub(crate) fn is_rule(source: &str, destinations: &Node) -> bool {
    let is_place = |node: &Node| matches!(node, Node::Text(text) if text.contains('/'));
    let has_places = match destinations {
        Node::List(items) => !items.is_empty() && items.iter().all(is_place),
        other => is_place(other),
    };
    has_places && parse_image(source).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_is_parsed_as_image_syncer_documents() {
        let digest = format!("sha256:{}", "1".repeat(64));
        let tags = |tags: &[&str]| Images::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        for (text, repository, images) in [
            ("quay.io/coreos/proxy", "quay.io/coreos/proxy", Images::All),
            ("nginx:v1", "docker.io/library/nginx", tags(&["v1"])),
            ("127.0.0.1:300/library/nginx:v1,v2", "127.0.0.1:300/library/nginx", tags(&["v1", "v2"])),
            (&format!("q.io/a@{digest}"), "q.io/a", Images::Digest(digest.clone())),
            ("h:5000/test:/b+/", "h:5000/test", Images::Expression("b+".into())),
        ] {
            assert_eq!(parse_image(text), Some(Image { repository: repository.into(), images }), "{text}");
        }
        for other in ["h.io/a:/b+", "h.io/a,v1", "h.io/a:v1,no tag", "A B", ""] {
            assert_eq!(parse_image(other), None, "{other}");
        }
    }
}
