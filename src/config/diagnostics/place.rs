//! Places in the tree of a configuration, as the table of keys describes them: the keys known at a place, and whether a
//! value there can be shown. `sensitivity` judges the values by their text.

use super::sensitivity::{Among, is_one_word, may_show};
use crate::config::keys::{Key, ROOT, Shape, TABLES, Table};
use crate::config::reader::nearest;
use crate::config::yaml::node::Node;

/// Place in the tree: the value of a key, or an item of the list that is the value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    keys: Keys,
    /// True if a scalar can be shown, judged by its key.
    shows_scalars: bool,
}

/// Keys that a map has at a place.
#[derive(Debug, Clone, Copy)]
enum Keys {
    /// Keys of a table.
    Of(&'static Table),
    /// Names that the operator chose, each with a map that has the keys of the table.
    Named(&'static Table),
    /// `env` and `file` of a secret.
    Secret,
    /// Names that the operator chose, each with a secret.
    Secrets,
    /// No known keys.
    Unknown,
    /// Keys of another program, which has no table.
    Foreign,
}

impl Place {
    /// Returns the top level of a configuration.
    pub(crate) fn root() -> Self {
        Self { keys: Keys::Of(&ROOT), shows_scalars: false }
    }

    /// Returns the place that represents every place in a file of another program.
    pub(crate) fn foreign() -> Self {
        Self { keys: Keys::Foreign, shows_scalars: true }
    }

    /// Place below an unknown key. No key below it is known, so no value there can be shown.
    const UNKNOWN: Self = Self { keys: Keys::Unknown, shows_scalars: false };

    /// Returns the place of a value with this shape.
    fn with_shape(shape: &Shape) -> Self {
        let (keys, takes_scalars) = match shape {
            // The names of such keys show that the keys take a secret; they also determine the part of the secret that
            // may be shown.
            Shape::Secret => (Keys::Secret, true),
            Shape::Secrets => (Keys::Secrets, true),
            Shape::MapOf(table) => (Keys::Named(table), false),
            Shape::Map(table) | Shape::OneOf(table, _) | Shape::ListOf(table) | Shape::Maps(table) => {
                (Keys::Of(table), false)
            }
            Shape::TextOr { keys: table, .. } | Shape::TextOrMaps { keys: table, .. } | Shape::WordOr(_, table) => {
                (Keys::Of(table), true)
            }
            Shape::Exactly(_)
            | Shape::Text { .. }
            | Shape::Word(_)
            | Shape::Integer { .. }
            | Shape::Size
            | Shape::Bool
            | Shape::Texts { .. }
            | Shape::List
            | Shape::Words(_) => (Keys::Unknown, true),
        };
        // A scalar in the place of a map without secrets is shown, because the operator needs to see this mistake.
        let is_plain_map = matches!(keys, Keys::Of(table) | Keys::Named(table) if !takes_secrets(table));
        Self { keys, shows_scalars: takes_scalars || is_plain_map }
    }

    /// Returns the place of the value of a key in the map at this place.
    pub(crate) fn below(self, key: &str) -> Self {
        match self.keys {
            Keys::Of(table) => table.find(key).map_or(Self::UNKNOWN, |key| Self::with_shape(&key.shape)),
            Keys::Named(table) => Self { keys: Keys::Of(table), shows_scalars: !takes_secrets(table) },
            Keys::Secret if matches!(key, "env" | "file") => Self { shows_scalars: true, ..Self::UNKNOWN },
            Keys::Secrets => Self::with_shape(&Shape::Secret),
            Keys::Secret | Keys::Unknown => Self::UNKNOWN,
            Keys::Foreign => self,
        }
    }

    /// Returns true if a scalar can be shown, judged by its key.
    pub(crate) fn shows_scalars(self) -> bool {
        self.shows_scalars
    }

    /// Returns true if some keys of a map are known.
    pub(crate) fn has_known_keys(self) -> bool {
        !matches!(self.keys, Keys::Unknown)
    }

    /// Returns true if a key of the map at this place is only a name and contains nothing that may be a secret. `value`
    /// is the value of the key.
    pub(crate) fn takes_name(self, name: &str, value: &Node) -> bool {
        match self.keys {
            Keys::Of(table) => is_name(name, value, table),
            Keys::Named(_) => is_host_like(name),
            Keys::Secret | Keys::Secrets | Keys::Unknown | Keys::Foreign => true,
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
/// that swallowed a value which can be shown counts as a name.
pub(crate) fn is_name(name: &str, value: &Node, table: &'static Table) -> bool {
    let shows_value = |key: &Key| !is_secret(key) && Place::with_shape(&key.shape).shows_scalars;
    let swallowed = || name.split_once(':').and_then(|(head, _)| table.find(head)).is_some_and(shows_value);
    let is_near = || nearest(name, table.keys().map(|key| key.name)).is_some();
    let may_be_value = *value == Node::Null && !may_show(name, Among::Section) && !is_near();
    is_one_word(name) && !may_be_value || name == "<<" || table.find(name).is_some() || swallowed()
}

/// Returns true if a name that the operator chose is not a key joined to its value: the text after a colon is a port.
pub(crate) fn is_host_like(name: &str) -> bool {
    name.split_once(':').is_none_or(|(head, rest)| {
        let is_port = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) && rest.len() <= 5;
        is_port || head.contains('.') || rest.starts_with("//") || head.starts_with('[')
    })
}

/// Returns true if the key belongs to any map of a configuration.
pub(crate) fn is_known(key: &str) -> bool {
    TABLES.iter().any(|table| table.find(key).is_some() || table.below().any(|below| below.find(key).is_some()))
}

/// Returns true if a tree is a configuration: a map with a key that is known at the top level, or nearly matches one.
pub(crate) fn is_configuration(root: &Node) -> bool {
    match root {
        Node::Map(pairs) => pairs.is_empty() || pairs.iter().any(|(key, _)| is_top_level(key)),
        Node::Null => true,
        _ => false,
    }
}

/// Returns true if a key is known at the top level, or nearly matches one.
pub(crate) fn is_top_level(key: &str) -> bool {
    nearest(key, ROOT.keys().map(|key| key.name)).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::sensitivity::leads_to_secrets;
    use super::*;

    #[test]
    fn name_of_every_key_that_takes_a_secret_tells_so() {
        let keys: Vec<&Key> = TABLES.iter().flat_map(|table| table.keys()).filter(|key| is_secret(key)).collect();
        assert!(keys.len() > 5, "{keys:?}");
        for key in keys {
            // Variables of a command are within `credentials`, where every value counts as a secret.
            assert!(leads_to_secrets(key.name) || matches!(key.shape, Shape::Secrets), "{}", key.name);
        }
    }

    #[test]
    fn key_that_swallowed_a_value_is_a_name_where_the_value_can_be_shown() {
        let table = &ROOT;
        for name in ["versoin", "x-y.z", "<<", "include:a.yaml", "version:1"] {
            assert!(is_name(name, &Node::Null, table), "{name}");
        }
        assert!(is_name("hunter2", &Node::Bool(true), table) && !is_name("hunter2", &Node::Null, table));
        for name in ["api_key:hunter2", "my key", "api_key=hunter2", "daemon:hunter2", "sync:hunter2"] {
            assert!(!is_name(name, &Node::Bool(true), table), "{name}");
        }
        for name in ["docker.io", "localhost:5000", "https://ghcr.io", "h.example:5o00", "[::1]:5000"] {
            assert!(is_host_like(name), "{name}");
        }
        for name in ["api_key:hunter2", "kind:acr", "h:"] {
            assert!(!is_host_like(name), "{name}");
        }
    }
}
