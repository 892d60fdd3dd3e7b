//! Table of the keys of one map: names, types, documentation and defaults. Each section has its own tables; this module
//! knows no section.

/// Keys of one kind of map.
#[derive(Debug)]
pub(crate) struct Table {
    /// Place of the keys, in the words of a message: "under `daemon`".
    pub(crate) place: &'static str,
    /// Keys, in groups so that maps can share some groups.
    pub(crate) groups: &'static [&'static [Key]],
    /// Required keys.
    pub(crate) required: &'static [&'static str],
}

/// One key of a map.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// Purpose of the key, in one or two sentences.
    pub(crate) about: &'static str,
    /// Default value, as JSON.
    pub(crate) default: Option<&'static str>,
    /// Example value, as JSON; empty if the keys below have their own examples.
    pub(crate) example: &'static str,
    /// True if the value, or a value below it, may be a secret: such a value is shown only if it has the form
    /// [`Key::safe_form`]. The keys below such a key need no mark of their own.
    pub(crate) secret: bool,
    /// Form of a value that is certainly no secret. `None` means that only a whole `${NAME}` is certainly no secret.
    pub(crate) safe_form: Option<SafeForm>,
}

/// Shape of a value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// This number only.
    Exactly(u64),
    /// Text; the regular expression applies to text that is written without `${…}`.
    Text { pattern: &'static str },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Whole number within these bounds.
    Integer { min: u64, max: u64 },
    /// Bytes, as a number or with a unit.
    Size,
    /// `true` or `false`.
    Bool,
    /// One text or a list of texts; `filled` if an empty list is refused.
    Texts { filled: bool },
    /// List of texts, at least one.
    List,
    /// Text, `{env: NAME}` or `{file: PATH}`.
    Secret,
    /// Map with keys that the operator chooses, each with a [`Shape::Secret`].
    Secrets,
    /// Map with keys that the operator chooses, each with a text.
    TextsByName,
    /// Text, a map of known keys, or a list of such maps.
    TextOrMaps { pattern: &'static str, keys: &'static Table },
    /// Text, or a map of known keys.
    TextOr { pattern: &'static str, keys: &'static Table },
    /// Map of known keys.
    Map(&'static Table),
    /// One of these words, or a map of known keys.
    WordOr(&'static [&'static str], &'static Table),
    /// Map of known keys, with the keys of exactly one of these alternatives.
    OneOf(&'static Table, &'static [Alternative]),
    /// Map with keys that the operator chooses.
    MapOf(&'static Table),
    /// List of maps.
    ListOf(&'static Table),
    /// List of maps, which may be empty.
    Maps(&'static Table),
    /// List of these words, at least one, or a single word.
    Words(&'static [&'static str]),
}

/// Set of keys that are used together.
#[derive(Debug)]
pub(crate) struct Alternative {
    /// Required keys; the first required key identifies this alternative.
    pub(crate) required: &'static [&'static str],
    /// Optional keys.
    pub(crate) optional: &'static [&'static str],
}

/// Form of a value that is no secret, although its key may take a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SafeForm {
    /// Name of an environment variable.
    Variable,
    /// Path of a file.
    Path,
    /// Words of lower-case letters.
    Words,
    /// Host, address or socket.
    Host,
}

pub(crate) const ANY: Shape = Shape::Text { pattern: "^.+$" };
pub(crate) const DURATION: Shape = Shape::Text { pattern: "^[0-9]+ *[a-zA-Zµ]+( *[0-9]+ *[a-zA-Zµ]+)*$" };

/// Maximum number of items of any list.
pub(crate) const MAX_ITEMS: u64 = 10_000;

/// Creates a key that takes no secret and has no default.
pub(crate) const fn key(name: &'static str, shape: Shape, about: &'static str, example: &'static str) -> Key {
    Key { name, shape, about, default: None, example, secret: false, safe_form: None }
}

impl Key {
    /// Returns the key with a default value, as JSON.
    pub(crate) const fn with_default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// Returns the key as one whose value, or a value below it, may be a secret.
    pub(crate) const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Returns the key with the form of values that are no secret.
    pub(crate) const fn safe_as(self, form: SafeForm) -> Self {
        Self { safe_form: Some(form), ..self }
    }
}

impl Table {
    /// Returns the keys of all groups.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// Returns the tables of the maps directly below this table. A hint searches these tables for a misplaced key.
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

    /// Returns the key with this name.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

impl Shape {
    /// Returns the table of the map that the value is or contains.
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
