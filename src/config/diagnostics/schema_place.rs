//! Places in the tree of a configuration. A place has the keys that the schema permits at the place, and a flag that
//! permits to show values. [`Schema`] checks the text of the values.

use crate::config::keys::nearest::find_nearest;
use crate::config::keys::schema::{Schema, Secrecy};
use crate::config::keys::secret_text::is_one_word;
use crate::config::keys::table::{Key, Shape, Table};
use crate::config::yaml::node::Node;

/// Place in the tree: the value of a key, or an item of the list under a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchemaPlace {
    schema: &'static Schema,
    keys: PlaceKeys,
    /// True if a scalar at this place may be shown.
    shows_scalars: bool,
}

/// Keys that a map has at a place.
#[derive(Debug, Clone, Copy)]
enum PlaceKeys {
    /// Keys of a table.
    Table(&'static Table),
    /// Names that the operator chose. Under each name is a map with the keys of the table.
    Named(&'static Table),
    /// `env` and `file` of a secret.
    Secret,
    /// Names that the operator chose. Under each name is a secret.
    Secrets,
    /// Names that the operator chose. Under each name is a text.
    TextsByName,
    /// Text under a name of [`PlaceKeys::TextsByName`], which has no keys.
    TextByName,
    /// No known keys.
    Unknown,
    /// Keys of another program, which are not in a table.
    Foreign,
}

impl SchemaPlace {
    /// Returns the top level of a configuration.
    pub(crate) fn root(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Table(schema.root()), shows_scalars: false }
    }

    /// Returns the place for every node of a file of another program.
    pub(crate) fn foreign(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Foreign, shows_scalars: true }
    }

    /// Returns the place below an unknown key, where no value can be shown.
    fn unknown(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Unknown, shows_scalars: false }
    }

    /// Returns the place of a value with this shape.
    fn from_shape(schema: &'static Schema, shape: &Shape) -> Self {
        let (keys, takes_scalars) = match shape {
            // The name of the key shows that the value is a secret. [`Schema`] decides by this name about each value.
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
        // An operator who writes a scalar instead of a map without secrets needs to see the scalar.
        let is_plain_map = matches!(keys, PlaceKeys::Table(table) | PlaceKeys::Named(table) if !takes_secrets(table));
        Self { schema, keys, shows_scalars: takes_scalars || is_plain_map }
    }

    /// Returns the place of the value of a key in the map at this place.
    pub(crate) fn below(self, key: &str) -> Self {
        let unknown = Self::unknown(self.schema);
        match self.keys {
            PlaceKeys::Table(table) => table.find(key).map_or(unknown, |key| Self::from_shape(self.schema, &key.shape)),
            PlaceKeys::Named(table) => {
                Self { keys: PlaceKeys::Table(table), shows_scalars: !takes_secrets(table), ..self }
            }
            PlaceKeys::Secret if matches!(key, "env" | "file") => Self { shows_scalars: true, ..unknown },
            PlaceKeys::Secrets => Self::from_shape(self.schema, &Shape::Secret),
            // A secret key at the wrong place looks like a name.
            PlaceKeys::TextsByName => Self { keys: PlaceKeys::TextByName, ..unknown },
            PlaceKeys::TextByName | PlaceKeys::Secret | PlaceKeys::Unknown => unknown,
            PlaceKeys::Foreign => self,
        }
    }

    /// Returns the schema of the file.
    pub(crate) fn schema(self) -> &'static Schema {
        self.schema
    }

    /// Returns true if a scalar at this place may be shown.
    pub(crate) fn shows_scalars(self) -> bool {
        self.shows_scalars
    }

    /// Returns true if this place is the text under a name of a map of texts.
    pub(crate) fn is_text_by_name(self) -> bool {
        matches!(self.keys, PlaceKeys::TextByName)
    }

    /// Returns true if some keys of a map are known.
    pub(crate) fn has_known_keys(self) -> bool {
        !matches!(self.keys, PlaceKeys::Unknown | PlaceKeys::TextByName)
    }

    /// Returns true if a key of the map at this place contains only a name, without a part that may be a secret.
    /// `value` is the value of the key.
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

/// Returns true if a map with the keys of `table` takes a secret, at any level.
fn takes_secrets(table: &'static Table) -> bool {
    table.keys().any(is_secret) || table.below().any(takes_secrets)
}

fn is_secret(key: &Key) -> bool {
    matches!(key.shape, Shape::Secret | Shape::Secrets)
}

/// Returns true if a key of a map with the keys of `table` contains only a name. After two mistakes,
/// YAML reads a secret as a key or as a part of a key:
/// - `api_key:VALUE`, without the space after the colon
/// - `{api_key, VALUE}`, where YAML reads both texts as keys
///
/// If the value can be shown, a known key with a joined value counts as a name.
pub(crate) fn is_name(schema: &'static Schema, name: &str, value: &Node, table: &'static Table) -> bool {
    let shows_value = |key: &Key| !is_secret(key) && SchemaPlace::from_shape(schema, &key.shape).shows_scalars;
    let swallowed = || name.split_once(':').and_then(|(head, _)| table.find(head)).is_some_and(shows_value);
    let is_near = || find_nearest(name, table.keys().map(|key| key.name)).is_some();
    let may_be_value = *value == Node::Null && !schema.may_show(name, Secrecy::Section) && !is_near();
    is_one_word(name) && !may_be_value || name == "<<" || table.find(name).is_some() || swallowed()
}

/// Returns true if a name that the operator chose is no key with a joined value. In a host name, a port follows the
/// colon.
pub(crate) fn is_host_like(name: &str) -> bool {
    name.split_once(':').is_none_or(|(head, rest)| {
        let is_port = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) && rest.len() <= 5;
        is_port || head.contains('.') || rest.starts_with("//") || head.starts_with('[')
    })
}

/// Returns true if a tree is a configuration: a map with a key of the top level, or with a similar key.
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
            // Variables of a command are below `credentials`, where every value counts as a secret.
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
