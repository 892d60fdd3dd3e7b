//! Position in the tree of a configuration, with the permitted keys at this position. The position also determines
//! whether messages can show a value without the risk of showing a secret.

use crate::config::keys::nearest::find_nearest;
use crate::config::keys::schema::{Schema, Secrecy};
use crate::config::keys::secret_text::is_one_word;
use crate::config::keys::table::{Key, Shape, Table};
use crate::config::yaml::node::Node;

/// Position in the tree: the value of a key, or an item of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchemaPlace {
    schema: &'static Schema,
    keys: PlaceKeys,
    /// True if messages can show a scalar at this position.
    shows_scalars: bool,
}

/// Keys that a map can have at a position.
#[derive(Debug, Clone, Copy)]
enum PlaceKeys {
    /// Keys in the table.
    Table(&'static Table),
    /// Names that the operator selects, such as the hosts under `registries`. The value of each name is a map with the
    /// keys of the table.
    Named(&'static Table),
    /// Keys of a secret: `env` and `file`.
    Secret,
    /// Names that the operator selects, such as the variables of a credential command. The value of each name is a
    /// secret.
    Secrets,
    /// Names that the operator selects, such as the tags under `rename`. The value of each name is a text.
    TextsByName,
    /// No keys. The position is a value below [`PlaceKeys::TextsByName`], such as `stable` in `rename: {v1: stable}`.
    TextByName,
    /// Unknown keys.
    Unknown,
    /// Keys of another program, for which there is no table.
    Foreign,
}

impl SchemaPlace {
    /// Returns the position of the top level.
    pub(crate) fn root(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Table(schema.root()), shows_scalars: false }
    }

    /// Returns the position of every node in a file of another program.
    pub(crate) fn foreign(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Foreign, shows_scalars: true }
    }

    /// Returns the position below an unknown key. Messages show no value at this position, because the value can be a
    /// secret.
    fn unknown(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Unknown, shows_scalars: false }
    }

    /// Returns the position of a value with this shape.
    fn from_shape(schema: &'static Schema, shape: &Shape) -> Self {
        let (keys, takes_scalars) = match shape {
            // A message can show the text of a harmless secret, such as `${NAME}`. [`Schema`] finds the other secrets
            // by the name of the key.
            Shape::Secret => (PlaceKeys::Secret, true),
            Shape::Secrets => (PlaceKeys::Secrets, true),
            Shape::TextsByName => (PlaceKeys::TextsByName, true),
            Shape::MapOf(table) => (PlaceKeys::Named(table), false),
            Shape::Map(table) | Shape::OneOf(table, _) | Shape::ListOf(table) | Shape::Maps(table) => {
                (PlaceKeys::Table(table), false)
            }
            Shape::TextOr { keys: table, .. } | Shape::TextOrMaps { keys: table, .. } | Shape::WordOr(_, table) => {
                (PlaceKeys::Table(table), true)
            }
            Shape::Exactly(_)
            | Shape::Text { .. }
            | Shape::Word(_)
            | Shape::Integer { .. }
            | Shape::Size
            | Shape::Bool
            | Shape::Texts { .. }
            | Shape::List
            | Shape::Words(_) => (PlaceKeys::Unknown, true),
        };
        // If the operator writes a scalar instead of a map, the message should show the scalar. If the map can have
        // secrets, the message must not show the scalar.
        let is_plain_map = matches!(keys, PlaceKeys::Table(table) | PlaceKeys::Named(table) if !takes_secrets(table));
        Self { schema, keys, shows_scalars: takes_scalars || is_plain_map }
    }

    /// Returns the position of the value of `key`.
    pub(crate) fn below(self, key: &str) -> Self {
        let unknown = Self::unknown(self.schema);
        match self.keys {
            PlaceKeys::Table(table) => table.find(key).map_or(unknown, |key| Self::from_shape(self.schema, &key.shape)),
            PlaceKeys::Named(table) => {
                Self { keys: PlaceKeys::Table(table), shows_scalars: !takes_secrets(table), ..self }
            }
            PlaceKeys::Secret if matches!(key, "env" | "file") => Self { shows_scalars: true, ..unknown },
            PlaceKeys::Secrets => Self::from_shape(self.schema, &Shape::Secret),
            // If the operator writes `password: hunter2` below `rename`, `password` looks like a tag.
            PlaceKeys::TextsByName => Self { keys: PlaceKeys::TextByName, ..unknown },
            PlaceKeys::TextByName | PlaceKeys::Secret | PlaceKeys::Unknown => unknown,
            PlaceKeys::Foreign => self,
        }
    }

    pub(crate) fn schema(self) -> &'static Schema {
        self.schema
    }

    /// Returns true if messages can show a scalar at this position.
    pub(crate) fn shows_scalars(self) -> bool {
        self.shows_scalars
    }

    /// Returns true if this position is a value below [`PlaceKeys::TextsByName`], such as `stable` in
    /// `rename: {v1: stable}`.
    pub(crate) fn is_text_by_name(self) -> bool {
        matches!(self.keys, PlaceKeys::TextByName)
    }

    /// Returns true if the schema or the format of the file determines the keys of a map at this position.
    pub(crate) fn has_known_keys(self) -> bool {
        !matches!(self.keys, PlaceKeys::Unknown | PlaceKeys::TextByName)
    }

    /// Returns true if messages can show the key `name` of the map at this position. The key must contain no possible
    /// secret. `value` is the value of the key.
    pub(crate) fn takes_name(self, name: &str, value: &Node) -> bool {
        match self.keys {
            PlaceKeys::Table(table) => is_name(self.schema, name, value, table),
            PlaceKeys::Named(_) | PlaceKeys::TextsByName => is_host_like(name),
            PlaceKeys::TextByName
            | PlaceKeys::Secret
            | PlaceKeys::Secrets
            | PlaceKeys::Unknown
            | PlaceKeys::Foreign => true,
        }
    }
}

/// Returns true if a map with the keys of `table`, or a map below that map, can have a secret value.
fn takes_secrets(table: &'static Table) -> bool {
    table.keys().any(is_secret) || table.below().any(takes_secrets)
}

fn is_secret(key: &Key) -> bool {
    matches!(key.shape, Shape::Secret | Shape::Secrets)
}

/// Returns true if the key `name` contains no possible secret. After two typical mistakes, YAML reads a secret as a key
/// or as a part of a key:
/// - `api_key:VALUE` (no space after the colon)
/// - `{api_key, VALUE}` (no colon)
///
/// If messages can show the value of a known key, the key can contain the value: for `version:1`, returns true.
pub(crate) fn is_name(schema: &'static Schema, name: &str, value: &Node, table: &'static Table) -> bool {
    let shows_value = |key: &Key| !is_secret(key) && SchemaPlace::from_shape(schema, &key.shape).shows_scalars;
    let swallowed = || name.split_once(':').and_then(|(head, _)| table.find(head)).is_some_and(shows_value);
    let is_near = || find_nearest(name, table.keys().map(|key| key.name)).is_some();
    let may_be_value = *value == Node::Null && !schema.may_show(name, Secrecy::Section) && !is_near();
    is_one_word(name) && !may_be_value || name == "<<" || table.find(name).is_some() || swallowed()
}

/// Returns true for a name such as `ghcr.io` or `localhost:5000`, and false for a key with a value, such as
/// `token:hunter2`. The operator selects these names.
pub(crate) fn is_host_like(name: &str) -> bool {
    name.split_once(':').is_none_or(|(head, rest)| {
        let is_port = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) && rest.len() <= 5;
        is_port || head.contains('.') || rest.starts_with("//") || head.starts_with('[')
    })
}

/// Returns true if a tree is a configuration: a map that contains a top-level key or a similar key.
pub(crate) fn is_configuration(schema: &Schema, root: &Node) -> bool {
    match root {
        Node::Map(pairs) => pairs.is_empty() || pairs.iter().any(|(key, _)| schema.is_top_level(key)),
        Node::Null => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sections::top_level::SCHEMA;

    #[test]
    fn name_of_every_secret_key_sounds_secret() {
        let keys: Vec<&Key> = SCHEMA.tables().flat_map(Table::keys).filter(|key| is_secret(key)).collect();
        assert!(keys.len() > 5, "{keys:?}");
        for key in keys {
            // The map of a command's variables is below `credentials`, and each value below `credentials` is a possible
            // secret.
            assert!(SCHEMA.leads_to_secrets(key.name) || matches!(key.shape, Shape::Secrets), "{}", key.name);
        }
    }

    #[test]
    fn key_that_swallowed_a_value_is_a_name_where_the_value_can_be_shown() {
        let is_name = |name: &str, value: &Node| is_name(&SCHEMA, name, value, SCHEMA.root());
        for name in ["versoin", "x-y.z", "<<", "include:a.yaml", "version:1"] {
            assert!(is_name(name, &Node::Null), "{name}");
        }
        assert!(is_name("hunter2", &Node::Bool(true)) && !is_name("hunter2", &Node::Null));
        for name in ["api_key:hunter2", "my key", "api_key=hunter2", "daemon:hunter2", "sync:hunter2"] {
            assert!(!is_name(name, &Node::Bool(true)), "{name}");
        }
        for name in ["docker.io", "localhost:5000", "https://ghcr.io", "h.example:5o00", "[::1]:5000"] {
            assert!(is_host_like(name), "{name}");
        }
        for name in ["api_key:hunter2", "kind:acr", "h:"] {
            assert!(!is_host_like(name), "{name}");
        }
    }
}
