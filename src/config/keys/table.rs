//! Table of the keys that a map can have, with types, documentation and defaults. Each section defines its tables.

/// Keys that a map can have.
#[derive(Debug)]
pub(crate) struct Table {
    /// Position of the map, as a part of a message: "under `daemon`".
    pub(crate) place: &'static str,
    /// Groups of keys. Several tables can contain the same group.
    pub(crate) groups: &'static [&'static [Key]],
    pub(crate) required: &'static [&'static str],
}

/// Key of a map.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// Purpose of the key, in one or two sentences.
    pub(crate) about: &'static str,
    /// Default value, as JSON.
    pub(crate) default: Option<&'static str>,
    /// Example value, as JSON. If the value is a map whose keys have examples, the text is empty.
    pub(crate) example: &'static str,
    /// True if the value, or a value below the key, can be a secret. A message shows the value only if the value has
    /// the form [`Key::safe_form`]. The keys below this key need no mark.
    pub(crate) secret: bool,
    /// Form of harmless values, which messages can show. If `None`, messages show only a value such as `${NAME}`.
    pub(crate) safe_form: Option<SafeForm>,
}

/// Type of a value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// This number.
    Exactly(u64),
    /// Text that matches the regular expression. The expression does not apply to a text with `${…}`.
    Text { pattern: &'static str },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Whole number between `min` and `max`.
    Integer { min: u64, max: u64 },
    /// Number of bytes, with or without a unit.
    Size,
    /// `true` or `false`.
    Bool,
    /// One text, or a list of texts. If `filled` is true, the list must not be empty.
    Texts { filled: bool },
    /// List of at least one text.
    List,
    /// Text, `{env: NAME}` or `{file: PATH}`.
    Secret,
    /// Map of operator-selected names. The value of each name is a [`Shape::Secret`].
    Secrets,
    /// Map of operator-selected names. The value of each name is a text.
    TextsByName,
    /// Text, a map with the keys of a table, or a list of these maps.
    TextOrMaps { pattern: &'static str, keys: &'static Table },
    /// Text, or a map with the keys of a table.
    TextOr { pattern: &'static str, keys: &'static Table },
    /// Map with the keys of a table.
    Map(&'static Table),
    /// One of these words, or a map with the keys of a table.
    WordOr(&'static [&'static str], &'static Table),
    /// Map with the keys of exactly one alternative.
    OneOf(&'static Table, &'static [Alternative]),
    /// Map of operator-selected names. The value of each name is a map with the keys of a table.
    MapOf(&'static Table),
    /// List of at least one map with the keys of a table.
    ListOf(&'static Table),
    /// List of maps with the keys of a table. The list can be empty.
    Maps(&'static Table),
    /// One of these words, or a list of at least one of these words.
    Words(&'static [&'static str]),
}

/// Combination of keys that a map can have, such as `username` with `password`.
#[derive(Debug)]
pub(crate) struct Alternative {
    /// Required keys. The first key identifies the alternative.
    pub(crate) required: &'static [&'static str],
    /// Optional keys.
    pub(crate) optional: &'static [&'static str],
}

/// Form of harmless values. If the value of a secret key has this form, messages can show the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SafeForm {
    /// Name of an environment variable.
    Variable,
    /// Path of a file.
    Path,
    /// Words in lower case.
    Words,
    /// Host, address or socket.
    Host,
}

pub(crate) const ANY: Shape = Shape::Text { pattern: "^.+$" };
pub(crate) const DURATION: Shape = Shape::Text { pattern: "^[0-9]+ *[a-zA-Zµ]+( *[0-9]+ *[a-zA-Zµ]+)*$" };

/// Maximum number of items in a list.
pub(crate) const MAX_ITEMS: u64 = 10_000;

/// Creates a key without secrets and without a default.
pub(crate) const fn key(name: &'static str, shape: Shape, about: &'static str, example: &'static str) -> Key {
    Key { name, shape, about, default: None, example, secret: false, safe_form: None }
}

impl Key {
    /// Sets the default value, as JSON.
    pub(crate) const fn with_default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// Marks the key as secret: the value, or a value below the key, can be a secret.
    pub(crate) const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Sets the form of harmless values, which messages can show.
    pub(crate) const fn safe_as(self, form: SafeForm) -> Self {
        Self { safe_form: Some(form), ..self }
    }
}

impl Table {
    /// Returns the keys of all groups.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// Returns the tables of the maps directly below this map.
    pub(crate) fn below(&self) -> impl Iterator<Item = &'static Self> {
        self.keys().filter_map(|key| match key.shape {
            Shape::TextOrMaps { keys: table, .. }
            | Shape::Map(table)
            | Shape::WordOr(_, table)
            | Shape::OneOf(table, _)
            | Shape::MapOf(table)
            | Shape::ListOf(table)
            | Shape::Maps(table) => Some(table),
            _ => None,
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

impl Shape {
    /// Returns the table of the map in the value. If the value contains no map, returns `None`.
    pub(crate) fn table(&self) -> Option<&'static Table> {
        match self {
            Self::TextOrMaps { keys: table, .. }
            | Self::TextOr { keys: table, .. }
            | Self::Map(table)
            | Self::WordOr(_, table)
            | Self::OneOf(table, _)
            | Self::MapOf(table)
            | Self::ListOf(table)
            | Self::Maps(table) => Some(table),
            Self::Exactly(_)
            | Self::Text { .. }
            | Self::Word(_)
            | Self::Integer { .. }
            | Self::Size
            | Self::Bool
            | Self::Texts { .. }
            | Self::List
            | Self::Secret
            | Self::Secrets
            | Self::TextsByName
            | Self::Words(_) => None,
        }
    }
}
