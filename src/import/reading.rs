//! Reader of the YAML tree of another program: values with their paths, errors and remarks. Errors end the import;
//! remarks also become comments. The reader does not know the meaning of the keys.

use crate::config::{Diagnostic, Node, NodePath, Part, may_be_secret};

/// Maximum length of a text that a comment quotes, in characters.
const MAX_QUOTED: usize = 100;

/// Errors and remarks of an import.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Errors: values that the other program would refuse too.
    pub(super) errors: Vec<Diagnostic>,
    /// Remarks about values without an equivalent.
    pub(super) remarks: Vec<Diagnostic>,
    /// Number of remarks about unknown keys and values. With such keys, the result may have another meaning.
    pub(super) unknown: usize,
}

/// Value with its path.
#[derive(Debug, Clone)]
pub(super) struct View<'n> {
    pub(super) node: &'n Node,
    path: NodePath,
}

/// Pairs of a map, with the pairs that `<<` merges, and without the pairs whose value is null.
#[derive(Debug, Default)]
pub(super) struct Fields<'n> {
    pairs: Vec<(&'n str, View<'n>)>,
}

impl<'n> View<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self { node, path: NodePath::new() }
    }

    /// Returns the value of the first key of a map that meets the condition.
    pub(super) fn find(&self, is_wanted: impl Fn(&str) -> bool) -> Option<Self> {
        let Node::Map(pairs) = self.node else { return None };
        let at = pairs.iter().position(|(key, _)| is_wanted(key))?;
        Some(self.below(at, &pairs[at].1))
    }

    fn below(&self, at: usize, node: &'n Node) -> Self {
        Self { node, path: [self.path.as_slice(), &[at]].concat() }
    }

    /// Returns the scalar as text. Numbers and booleans become the text that these programs would read.
    fn scalar(&self) -> Option<String> {
        match self.node {
            Node::Text(text) | Node::Number(text) => Some(text.clone()),
            Node::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&View<'n>> {
        self.pairs.iter().find(|(name, _)| *name == key).map(|(_, view)| view)
    }

    /// Returns the pairs whose key is not excluded.
    pub(super) fn without(&self, is_excluded: impl Fn(&str) -> bool) -> Self {
        Self { pairs: self.pairs.iter().filter(|(key, _)| !is_excluded(key)).cloned().collect() }
    }

    /// Returns the pairs with the keys for which `name` returns another name.
    pub(super) fn renamed(self, name: impl Fn(&str) -> Option<&'static str>) -> Self {
        Self { pairs: self.pairs.into_iter().map(|(key, view)| (name(key).unwrap_or(key), view)).collect() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'n str, View<'n>)> {
        self.pairs.iter()
    }

    /// Adds the pairs of a map. If a key occurs twice in the map, the later pair is used. A pair of the map itself
    /// takes precedence over a merged pair.
    fn add(&mut self, map: &View<'n>, depth: usize) {
        let Node::Map(pairs) = map.node else { return };
        let mut own: Vec<(&'n str, View<'n>)> = Vec::new();
        for (at, (key, node)) in pairs.iter().enumerate() {
            own.retain(|(name, _)| name != key);
            own.push((key, map.below(at, node)));
        }
        let (merged, own): (Vec<_>, Vec<_>) = own.into_iter().partition(|(key, _)| *key == "<<");
        for (key, view) in own {
            if !self.pairs.iter().any(|(name, _)| *name == key) {
                self.pairs.push((key, view));
            }
        }
        for (_, view) in merged.into_iter().filter(|_| depth > 0) {
            match view.node {
                Node::List(maps) => {
                    maps.iter().enumerate().for_each(|(at, one)| self.add(&view.below(at, one), depth - 1))
                }
                _ => self.add(&view, depth - 1),
            }
        }
    }
}

impl Reading {
    /// Adds an error: a value that the other program would refuse.
    pub(super) fn add_error(&mut self, view: &View<'_>, message: impl std::fmt::Display) {
        self.errors.push(Diagnostic::new(&view.path, Part::Value, message));
    }

    /// Adds a remark about a value without an equivalent, and returns the remark as a comment.
    pub(super) fn add_remark(&mut self, view: &View<'_>, message: impl Into<String>) -> String {
        let message = message.into();
        self.remarks.push(Diagnostic::new(&view.path, Part::Value, &message));
        message
    }

    /// Returns the pairs of a map. Null is a map without pairs.
    pub(super) fn fields<'n>(&mut self, view: &View<'n>, what: &str) -> Fields<'n> {
        let mut fields = Fields::default();
        match view.node {
            Node::Map(_) => fields.add(view, 8),
            Node::Null => {}
            _ => self.add_error(view, format!("{what} must be a map of keys")),
        }
        fields.pairs.retain(|(_, view)| *view.node != Node::Null);
        fields
    }

    /// Returns the items of a list.
    pub(super) fn items<'n>(&mut self, view: &View<'n>, what: &str) -> Vec<View<'n>> {
        match view.node {
            Node::List(items) => items.iter().enumerate().map(|(at, node)| view.below(at, node)).collect(),
            Node::Null => Vec::new(),
            _ => {
                self.add_error(view, format!("{what} must be a list"));
                Vec::new()
            }
        }
    }

    /// Returns the text of a value. If the value is not a scalar, adds an error and returns an empty text.
    pub(super) fn text(&mut self, view: &View<'_>, what: &str) -> String {
        let text = view.scalar();
        if text.is_none() {
            self.add_error(view, format!("{what} must be text"));
        }
        text.unwrap_or_default()
    }

    /// Returns the text of a key; `None` if the key is missing or the text is empty.
    pub(super) fn text_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let text = self.text(fields.get(key)?, &format!("`{key}`"));
        (!text.is_empty()).then_some(text)
    }

    /// Returns the texts of a key's list.
    pub(super) fn texts_of(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        let Some(view) = fields.get(key) else { return Vec::new() };
        let items = self.items(view, &format!("`{key}`"));
        items.iter().map(|item| self.text(item, &format!("an item of `{key}`"))).collect()
    }

    /// Returns the boolean of a key. Accepts the words of YAML 1.1 that Go's libraries read as booleans.
    pub(super) fn bool_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let view = fields.get(key)?;
        let word = view.scalar().unwrap_or_default().to_ascii_lowercase();
        let value = match word.as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        };
        if value.is_none() {
            self.add_error(view, format!("`{key}` must be true or false"));
        }
        value
    }

    /// Returns the number of a key.
    pub(super) fn number_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<f64> {
        let view = fields.get(key)?;
        let number = match view.node {
            Node::Number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        };
        if number.is_none() {
            self.add_error(view, format!("`{key}` must be a number"));
        }
        number
    }

    /// Adds a remark about an unknown value that may change the copied content, and returns the remark as a comment.
    pub(super) fn add_unknown(&mut self, view: &View<'_>, message: impl Into<String>) -> String {
        self.unknown += 1;
        self.add_remark(view, message)
    }

    /// Adds a remark about an unknown key, and returns the remark as a comment.
    pub(super) fn add_unknown_key(&mut self, key: &str, view: &View<'_>, owner: &str) -> String {
        self.add_unknown(view, format!("{} is not a known key of {owner}: skipped", quoted_key(key)))
    }

    /// Adds remarks about the keys that are not in `known`, and returns the remarks as comments.
    pub(super) fn add_unknown_keys(&mut self, fields: &Fields<'_>, known: &[&str], owner: &str) -> Vec<String> {
        let others = fields.iter().filter(|(key, _)| !known.contains(key));
        others.map(|(key, view)| self.add_unknown_key(key, view, owner)).collect()
    }
}

/// Quotes a key for a comment. Hides a key that may contain a secret, for example because of a missing space.
fn quoted_key(key: &str) -> String {
    let is_word = key.len() <= 40 && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if is_word { format!("`{key}`") } else { "this key".to_owned() }
}

/// Quotes a text for a comment. Hides a text that may contain a secret.
pub(super) fn quoted(text: &str) -> String {
    if may_be_secret(text) {
        return "***".to_owned();
    }
    let cut: String = text.chars().take(MAX_QUOTED).collect();
    if cut.len() < text.len() { format!("`{cut}…`") } else { format!("`{cut}`") }
}
