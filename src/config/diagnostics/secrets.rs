//! Search of a YAML tree for keys and values that may be secrets. The search uses the position of a text and its form.

use super::diagnostic::Part;
use super::schema_place::SchemaPlace;
use crate::config::keys::schema::{Schema, Secrecy};
use crate::config::keys::secret_text::sounds_secret;
use crate::config::yaml::document::{Document, Format};
use crate::config::yaml::node::{Node, Path};

/// Key or value that may be a secret.
pub(super) struct PossibleSecret<'n> {
    pub(super) path: Path,
    pub(super) part: Part,
    /// Text as the YAML parser returned the text.
    pub(super) text: &'n str,
    pub(super) suspicion: Suspicion,
}

/// Reason to mask a text, and the places where the text is masked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Possible secret, by its key or by its form. The text is masked in shown lines and in messages.
    Secret,
    /// Value under an unknown key. The text is masked only in shown lines, because no message contains the value.
    Unread,
    /// Value without a secret. A comment after the value can contain a secret.
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

/// Position of a node during the search.
#[derive(Clone, Copy)]
struct Context {
    secrecy: Secrecy,
    /// True if a key above the node can have secret values.
    secret: bool,
    place: SchemaPlace,
}

impl Context {
    fn suspect(self, text: &str) -> Option<Suspicion> {
        // The value of a name, such as `stable` in `rename: {v1: stable}`, can be a secret that the operator wrote
        // there by mistake. Messages can repeat this value.
        if self.secret || self.place.is_text_by_name() || self.place.schema().hides_secret(text) {
            Some(Suspicion::Secret)
        } else {
            (!self.place.shows_scalars()).then_some(Suspicion::Unread)
        }
    }

    fn suspect_key(self, key: &str, value: &Node) -> Option<Suspicion> {
        let schema = self.place.schema();
        // A key can contain a value, such as `password:hunter2`. Messages then show the key only if messages can show
        // the value. Below an unknown key, messages show only plain words and known keys.
        if !schema.may_show(key, self.secrecy) || !self.place.takes_name(key, value) {
            Some(Suspicion::Secret)
        } else {
            let is_shown =
                self.place.has_known_keys() || schema.is_known(key) || schema.may_show(key, Secrecy::Section);
            (!is_shown).then_some(Suspicion::Unread)
        }
    }
}

/// Collects the possible secrets:
/// - values below a key that sounds like a secret, or in a section with secrets, except values in a harmless form
/// - values below an unknown key
/// - texts that look like a secret
/// - unknown keys at these positions, because a key can contain a value, as in `password:hunter2`
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
                // The null is no secret, but a comment after the null can contain a secret.
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

/// Returns true if the value has the harmless form that the schema defines for the key.
fn is_harmless(schema: &Schema, key: &str, value: &Node) -> bool {
    match value {
        Node::Text(text) | Node::Number(text) => schema.is_harmless(key, text),
        Node::Bool(_) => !sounds_secret(key),
        Node::List(items) => items.iter().all(|item| matches!(item, Node::Text(text) if schema.is_harmless(key, text))),
        _ => false,
    }
}
