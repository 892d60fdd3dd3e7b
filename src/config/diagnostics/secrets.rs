//! Search of a tree for values and keys that may be secrets. The search considers mainly the place of a text, and less
//! its appearance.

use super::diagnostic::Part;
use super::schema_place::SchemaPlace;
use crate::config::keys::schema::{Schema, Secrecy};
use crate::config::keys::secret_text::sounds_secret;
use crate::config::yaml::document::{Document, Format};
use crate::config::yaml::node::{Node, Path};

/// Text that may be a secret, and its place.
pub(super) struct PossibleSecret<'n> {
    pub(super) path: Path,
    pub(super) part: Part,
    /// Text as the parser read it.
    pub(super) text: &'n str,
    pub(super) suspicion: Suspicion,
}

/// Reason to cover a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Secret, by its key or by its appearance. The text is covered in lines and in messages.
    Secret,
    /// Value under an unknown key. No code reads the value, so no message repeats it, and the value is covered only in
    /// lines.
    Unread,
    /// Harmless value. A comment beside the value may contain a secret.
    Remark,
}

/// Returns all keys and values of a file that may be secrets.
pub(super) fn find_secrets(document: &Document) -> Vec<PossibleSecret<'_>> {
    let place = match document.format {
        Format::Foreign => SchemaPlace::foreign(document.schema),
        Format::Configuration | Format::Unknown => SchemaPlace::root(document.schema),
    };
    let mut secrets = Vec::new();
    let context = Context { secrecy: Secrecy::Settings, secret: false, place };
    collect(&document.root, &mut Vec::new(), context, &mut secrets);
    secrets
}

/// Context of a node.
#[derive(Clone, Copy)]
struct Context {
    secrecy: Secrecy,
    /// True if the keys above a scalar make it a possible secret.
    secret: bool,
    place: SchemaPlace,
}

impl Context {
    fn suspect(self, text: &str) -> Option<Suspicion> {
        // A text by a free name is read, so a message may repeat the text.
        if self.secret || self.place.is_text_by_name() || self.place.schema().hides_secret(text) {
            Some(Suspicion::Secret)
        } else {
            (!self.place.shows_scalars()).then_some(Suspicion::Unread)
        }
    }

    /// Returns the suspicion of a key in the map at this place.
    fn suspect_key(self, key: &str, value: &Node) -> Option<Suspicion> {
        let schema = self.place.schema();
        // A key that contains a value is shown if that value would be shown. Below an unknown key, only plain words and
        // keys of other maps are shown.
        if !schema.may_show(key, self.secrecy) || !self.place.takes_name(key, value) {
            Some(Suspicion::Secret)
        } else {
            let is_shown =
                self.place.has_known_keys() || schema.is_known(key) || schema.may_show(key, Secrecy::Section);
            (!is_shown).then_some(Suspicion::Unread)
        }
    }
}

/// Collects the values that may be secrets:
/// - everything below a key that sounds like a secret or a section that has secrets, except values known to be harmless
///   there
/// - everything below a key that is unknown at its place
/// - texts that look like a secret, at any place
///
/// A key may be joined to its value, as in `password:hunter2`. So an unknown key in these places also counts as a
/// secret.
fn collect<'n>(node: &'n Node, path: &mut Path, context: Context, secrets: &mut Vec<PossibleSecret<'n>>) {
    let schema = context.place.schema();
    match node {
        Node::Map(pairs) => {
            for (at, (key, value)) in pairs.iter().enumerate() {
                path.push(at);
                let found =
                    |part, text: &'n str, suspicion| PossibleSecret { path: path.clone(), part, text, suspicion };
                secrets.extend(context.suspect_key(key, value).map(|suspicion| found(Part::Key, key, suspicion)));
                let below = schema.secrecy_below(context.secrecy, key);
                let is_harmless = is_harmless(schema, key, value);
                if is_harmless && below != Secrecy::Settings {
                    secrets.push(found(Part::Value, "", Suspicion::Remark));
                }
                let secret = !is_harmless && below != Secrecy::Settings;
                collect(value, path, Context { secrecy: below, secret, place: context.place.below(key) }, secrets);
                path.pop();
            }
        }
        Node::List(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at);
                collect(item, path, context, secrets);
                path.pop();
            }
        }
        Node::Text(_) | Node::Number(_) | Node::Tagged(_) | Node::Bool(_) | Node::Null => {
            let text = match node {
                Node::Text(text) | Node::Number(text) | Node::Tagged(text) => text,
                Node::Bool(true) => "true",
                Node::Bool(false) => "false",
                // A null needs no cover, but a comment beside the null does.
                _ => "",
            };
            let suspicion = context.suspect(text);
            secrets.extend(suspicion.map(|suspicion| PossibleSecret {
                path: path.clone(),
                part: Part::Value,
                text,
                suspicion,
            }));
        }
    }
}

/// Returns true if a value has a form that its key takes, and is not a secret.
fn is_harmless(schema: &Schema, key: &str, value: &Node) -> bool {
    match value {
        Node::Text(text) | Node::Number(text) => schema.is_harmless(key, text),
        Node::Bool(_) => !sounds_secret(key),
        Node::List(items) => items.iter().all(|item| matches!(item, Node::Text(text) if schema.is_harmless(key, text))),
        _ => false,
    }
}
