//! Places in the tree of a configuration: the keys that the schema has at a place, and a flag for values that can be
//! shown there. [`Schema`] checks the text of the values.

use crate::config::keys::nearest::find_nearest;
use crate::config::keys::schema::{Schema, Secrecy};
use crate::config::keys::secret_text::is_one_word;
use crate::config::keys::table::{Key, Shape, Table};
use crate::config::yaml::node::Node;

/// Place in the tree: the value of a key, or an item of the list that is the value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchemaPlace {
    schema: &'static Schema,
    keys: PlaceKeys,
    /// True if the key of a scalar permits that the scalar is shown.
    shows_scalars: bool,
}

/// Keys that a map has at a place.
#[derive(Debug, Clone, Copy)]
enum PlaceKeys {
    /// Keys of a table.
    Table(&'static Table),
    /// Names that the operator chose, each with a map that has the keys of the table.
    Named(&'static Table),
    /// `env` and `file` of a secret.
    Secret,
    /// Names that the operator chose, each with a secret.
    Secrets,
    /// Names that the operator chose, each with a text.
    TextsByName,
    /// No keys: the text by a name of such a map.
    TextByName,
    /// No known keys.
    Unknown,
    /// Keys of another program, which has no table.
    Foreign,
}

impl SchemaPlace {
    /// Returns the top level of a configuration.
    pub(crate) fn root(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Table(schema.root()), shows_scalars: false }
    }

    /// Returns the place that represents every place in a file of another program.
    pub(crate) fn foreign(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Foreign, shows_scalars: true }
    }

    /// Returns the place below an unknown key. No key below an unknown key is known, so no value there can be shown.
    fn unknown(schema: &'static Schema) -> Self {
        Self { schema, keys: PlaceKeys::Unknown, shows_scalars: false }
    }

    /// Returns the place of a value with this shape.
    fn from_shape(schema: &'static Schema, shape: &Shape) -> Self {
        let (keys, takes_scalars) = match shape {
            // The name of such a key shows that its value is a secret. [`Schema`] decides by the name which values may
            // be shown.
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
        // If a scalar is written instead of a map without secrets, the scalar is shown, because the operator needs to
        // see this mistake.
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
            // A misplaced key with a secret looks like a name.
            PlaceKeys::TextsByName => Self { keys: PlaceKeys::TextByName, ..unknown },
            PlaceKeys::TextByName | PlaceKeys::Secret | PlaceKeys::Unknown => unknown,
            PlaceKeys::Foreign => self,
        }
    }

    /// Returns the schema of the file.
    pub(crate) fn schema(self) -> &'static Schema {
        self.schema
    }

    /// Returns true if the key of a scalar permits that the scalar is shown.
    pub(crate) fn shows_scalars(self) -> bool {
        self.shows_scalars
    }

    /// Returns true if a scalar at this place is the text by a free name of a map.
    pub(crate) fn is_text_by_name(self) -> bool {
        matches!(self.keys, PlaceKeys::TextByName)
    }

    /// Returns true if some keys of a map are known.
    pub(crate) fn has_known_keys(self) -> bool {
        !matches!(self.keys, PlaceKeys::Unknown | PlaceKeys::TextByName)
    }

    /// Returns true if a key of the map at this place is only a name and contains nothing that may be a secret. `value`
    /// is the value of the key.
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

/// Returns true if a table has a key that takes a secret, at any level.
fn takes_secrets(table: &'static Table) -> bool {
    table.keys().any(is_secret) || table.below().any(takes_secrets)
}

fn is_secret(key: &Key) -> bool {
    matches!(key.shape, Shape::Secret | Shape::Secrets)
}

/// Returns true if a key of a map with the keys of `table` is only a name. In `api_key:VALUE` the key is not only a
/// name, because the space after the colon is missing; in `{api_key, VALUE}` the second key is not a name. A known key
/// that is joined to a value counts as a name if the value can be shown.
pub(crate) fn is_name(schema: &'static Schema, name: &str, value: &Node, table: &'static Table) -> bool {
    let shows_value = |key: &Key| !is_secret(key) && SchemaPlace::from_shape(schema, &key.shape).shows_scalars;
    let swallowed = || name.split_once(':').and_then(|(head, _)| table.find(head)).is_some_and(shows_value);
    let is_near = || find_nearest(name, table.keys().map(|key| key.name)).is_some();
    let may_be_value = *value == Node::Null && !schema.may_show(name, Secrecy::Section) && !is_near();
    is_one_word(name) && !may_be_value || name == "<<" || table.find(name).is_some() || swallowed()
}

/// Returns true if a name that the operator chose is not a key joined to its value: the text after a colon is a port.
pub(crate) fn is_host_like(name: &str) -> bool {
    name.split_once(':').is_none_or(|(head, rest)| {
        let is_port = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) && rest.len() <= 5;
        is_port || head.contains('.') || rest.starts_with("//") || head.starts_with('[')
    })
}

/// Returns true if a tree is a configuration: a map with a key that is known at the top level, or that nearly matches
/// such a key.
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
            // Variables of a command are within `credentials`, where every value counts as a secret.
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
