//! Values of a foreign tree with the way to them, and what is found there: mistakes, which end the import, and remarks, which
//! become comments too. It knows nothing of what the keys mean.

use crate::config::{Found, Node, NodePath, Part, may_not_be_told};

/// How much of a text a comment repeats, in characters.
const TOLD: usize = 100;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What the other program would refuse, too.
    pub(super) wrong: Vec<Found>,
    /// What has no equal here.
    pub(super) remarks: Vec<Found>,
    /// The number of remarks about something that is not understood, so that the result may mean something else.
    pub(super) unknown: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct View<'n> {
    pub(super) node: &'n Node,
    path: NodePath,
}

/// The pairs of a map, those of `<<` included; one that says nothing is not there.
#[derive(Debug, Default)]
pub(super) struct Fields<'n> {
    pairs: Vec<(&'n str, View<'n>)>,
}

impl<'n> View<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self { node, path: NodePath::new() }
    }

    fn below(&self, at: usize, node: &'n Node) -> Self {
        Self { node, path: [self.path.as_slice(), &[at]].concat() }
    }

    /// The scalar as text: numbers and booleans as they would be read into a text by these programs.
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

    /// Those whose key is not one of these.
    pub(super) fn without(&self, is_left_out: impl Fn(&str) -> bool) -> Self {
        Self { pairs: self.pairs.iter().filter(|(key, _)| !is_left_out(key)).cloned().collect() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'n str, View<'n>)> {
        self.pairs.iter()
    }

    /// Of two pairs with one key the later counts, and any before those that are merged in.
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
    /// Something that the other program would refuse.
    pub(super) fn wrong(&mut self, view: &View<'_>, message: impl std::fmt::Display) {
        self.wrong.push(Found::new(&view.path, Part::Value, message));
    }

    /// Something without an equal; the comment about it.
    pub(super) fn remark(&mut self, view: &View<'_>, message: impl Into<String>) -> String {
        let message = message.into();
        self.remarks.push(Found::new(&view.path, Part::Value, &message));
        message
    }

    /// The pairs of a map. Nothing is a map without pairs.
    pub(super) fn fields<'n>(&mut self, view: &View<'n>, what: &str) -> Fields<'n> {
        let mut fields = Fields::default();
        match view.node {
            Node::Map(_) => fields.add(view, 8),
            Node::Null => {}
            _ => self.wrong(view, format!("expected {what}: a map of keys")),
        }
        fields.pairs.retain(|(_, view)| *view.node != Node::Null);
        fields
    }

    /// The items of a list.
    pub(super) fn items<'n>(&mut self, view: &View<'n>, what: &str) -> Vec<View<'n>> {
        match view.node {
            Node::List(items) => items.iter().enumerate().map(|(at, node)| view.below(at, node)).collect(),
            Node::Null => Vec::new(),
            _ => {
                self.wrong(view, format!("expected {what}: a list"));
                Vec::new()
            }
        }
    }

    /// A text, empty where there is something else.
    pub(super) fn text(&mut self, view: &View<'_>, what: &str) -> String {
        let text = view.scalar();
        if text.is_none() {
            self.wrong(view, format!("expected {what}: a text"));
        }
        text.unwrap_or_default()
    }

    /// A text behind a key, `None` where it is not there or empty.
    pub(super) fn text_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let text = self.text(fields.get(key)?, &format!("`{key}`"));
        (!text.is_empty()).then_some(text)
    }

    /// The texts of a list behind a key.
    pub(super) fn texts_of(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        let Some(view) = fields.get(key) else { return Vec::new() };
        let items = self.items(view, &format!("`{key}`"));
        items.iter().map(|item| self.text(item, &format!("an item of `{key}`"))).collect()
    }

    /// A boolean behind a key, also in the words of YAML 1.1: Go's libraries take those for a boolean.
    pub(super) fn bool_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let view = fields.get(key)?;
        let word = view.scalar().unwrap_or_default().to_ascii_lowercase();
        let value = match word.as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        };
        if value.is_none() {
            self.wrong(view, format!("expected `{key}`: true or false"));
        }
        value
    }

    /// A number behind a key.
    pub(super) fn number_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<f64> {
        let view = fields.get(key)?;
        let number = match view.node {
            Node::Number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        };
        if number.is_none() {
            self.wrong(view, format!("expected `{key}`: a number"));
        }
        number
    }

    /// Something that is not understood, and that may have changed what is copied; the comment about it.
    pub(super) fn unknown(&mut self, view: &View<'_>, message: impl Into<String>) -> String {
        self.unknown += 1;
        self.remark(view, message)
    }

    /// A key that nobody knows; the comment about it.
    pub(super) fn unknown_key(&mut self, key: &str, view: &View<'_>, whose: &str) -> String {
        self.unknown(view, format!("{} is no known key of {whose}: left out", key_told(key)))
    }

    /// The comments about keys that are not among `known`.
    pub(super) fn unknown_keys(&mut self, fields: &Fields<'_>, known: &[&str], whose: &str) -> Vec<String> {
        let others = fields.iter().filter(|(key, _)| !known.contains(key));
        others.map(|(key, view)| self.unknown_key(key, view, whose)).collect()
    }
}

/// A key as a comment may show it: one may have swallowed a secret behind a missing space.
fn key_told(key: &str) -> String {
    let is_word = key.len() <= 40 && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if is_word { format!("`{key}`") } else { "a key here".to_owned() }
}

/// A text as a comment may show it.
pub(super) fn told(text: &str) -> String {
    if may_not_be_told(text) {
        return "***".to_owned();
    }
    let cut: String = text.chars().take(TOLD).collect();
    if cut.len() < text.len() { format!("`{cut}…`") } else { format!("`{cut}`") }
}
