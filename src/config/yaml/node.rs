//! YAML tree of a file, and the search for the line and column of a node. The tree contains repeated keys, and each
//! number as the text in the file.
//!
//! `serde_yaml` returns places only in errors, so the tree has no places. A problem contains the [`Path`] of a node. To
//! find the place, [`locate`] parses the text again and returns an error at this node.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::complexity;

/// Maximum number of nodes. YAML aliases can repeat nodes, so a small file could contain a very large tree. Ordinary
/// files have far fewer nodes.
const MAX_NODES: usize = 1_000_000;

/// Node of the YAML tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// Null: no value, `null` or `~`.
    Null,
    /// Unquoted `true` or `false`.
    Bool(bool),
    /// Unquoted number as written: `3.10` remains `3.10`.
    Number(String),
    /// Text, with or without quotes.
    Text(String),
    List(Vec<Node>),
    /// Map in the order of the file. A key can occur several times.
    Map(Vec<(String, Node)>),
    /// Value with a YAML tag, such as `!include`.
    Tagged(String),
}

/// Path from the root to a node. Each number is the index of an item in a list or of a key in a map.
pub(crate) type Path = Vec<usize>;

pub(crate) fn read(text: &str) -> Result<Node, serde_yaml::Error> {
    if let Some(reason) = complexity::find_excess(text) {
        return Err(serde::de::Error::custom(reason));
    }
    let budget = Cell::new(MAX_NODES);
    let mut root = Read { budget: &budget }.deserialize(serde_yaml::Deserializer::from_str(text))?;
    Spelling(&mut root).deserialize(serde_yaml::Deserializer::from_str(text))?;
    Ok(root)
}

/// Returns the maximum number of calls of [`locate`] for a text. The result is at most `most`. Each call parses the
/// whole text, so the result is smaller for a larger text.
pub(crate) fn affordable(text: &str, most: usize) -> usize {
    const BYTES: usize = 32 << 20;
    most.min(BYTES / text.len().max(1))
}

/// Returns the line and column of a node or of its key, both counted from 1.
pub(crate) fn locate(text: &str, path: &[usize], key: bool) -> Option<(usize, usize)> {
    let failed = Locate { path, key }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let location = failed.location()?;
    Some((location.line(), location.column()))
}

#[derive(Clone, Copy)]
struct Read<'b> {
    budget: &'b Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Read<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let remaining = self.budget.get().checked_sub(1);
        self.budget.set(remaining.ok_or_else(|| D::Error::custom("more values than a configuration can have"))?);
        deserializer.deserialize_any(self)
    }
}

/// Deserializer seed that reads a map key as text.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain key")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

impl<'de> Visitor<'de> for Read<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            pairs.push((key, map.next_value_seed(self)?));
        }
        Ok(Node::Map(pairs))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (tag, value) = tagged.variant::<String>()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(Node::Tagged(tag))
    }
}

/// Deserializer seed for a second pass, which writes the original text of each number into the tree.
struct Spelling<'n>(&'n mut Node);

impl<'de> DeserializeSeed<'de> for Spelling<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            Node::Number(written) => *written = Key.deserialize(deserializer)?,
            Node::List(_) => deserializer.deserialize_seq(self)?,
            Node::Map(_) => deserializer.deserialize_map(self)?,
            _ => drop(deserializer.deserialize_ignored_any(IgnoredAny)?),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Spelling<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the same YAML once more")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Node::List(items) = self.0 {
            for item in items {
                list.next_element_seed(Spelling(item))?;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Node::Map(pairs) = self.0 {
            for (_, value) in pairs {
                map.next_key::<IgnoredAny>()?;
                map.next_value_seed(Spelling(value))?;
            }
        }
        Ok(())
    }
}

/// Deserializer seed that follows a path and returns an error at the node. The seed skips all other nodes.
struct Locate<'p> {
    path: &'p [usize],
    key: bool,
}

/// Deserializer seed that returns an error at each value.
struct Fail;

impl<'de> DeserializeSeed<'de> for Fail {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // A visitor without methods refuses each value. The error of the parser contains the place.
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Fail {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place of this node")
    }
}

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() { Fail.deserialize(deserializer) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else { return Ok(()) };
        for _ in 0..*first {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Locate { path: rest, key: self.key })?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else { return Ok(()) };
        for _ in 0..*first {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if self.key && rest.is_empty() {
            map.next_key_seed(Fail)?;
        }
        if map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Locate { path: rest, key: self.key })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    #[test]
    fn duplicate_keys_and_the_spelling_of_numbers_survive() {
        let root = read("a: 3.10\nb: [0x1F, '2', on]\na: ~\n").unwrap();
        let number = |text: &str| Node::Number(text.to_owned());
        assert_eq!(
            root,
            Node::Map(vec![
                ("a".into(), number("3.10")),
                ("b".into(), Node::List(vec![number("0x1F"), text("2"), text("on")])),
                ("a".into(), Node::Null),
            ])
        );
    }

    #[test]
    fn every_node_and_key_is_found_again() {
        let yaml = "a:\n  - b: é  # c\n  - {d: x, d: [1, '2']}\ne:\n";
        assert_eq!(locate(yaml, &[0], true), Some((1, 1)));
        assert_eq!(locate(yaml, &[0, 0, 0], true), Some((2, 5)));
        assert_eq!(locate(yaml, &[0, 0, 0], false), Some((2, 8)));
        assert_eq!(locate(yaml, &[0, 1, 1], true), Some((3, 12)));
        assert_eq!(locate(yaml, &[0, 1, 1, 1], false), Some((3, 19)));
        assert_eq!(locate(yaml, &[1], true), Some((4, 1)));
        assert_eq!(locate(yaml, &[9], false), None);
    }

    #[test]
    fn aliases_are_resolved_and_alias_bombs_are_refused() {
        assert_eq!(read("- &a x\n- *a\n").unwrap(), Node::List(vec![text("x"), text("x")]));
        assert!(read("a: &a [*a]\n").is_err());
        let mut bomb = String::from("- &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            bomb += &format!("- &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
        }
        assert!(read(&bomb).is_err());
    }

    #[test]
    fn yaml_tag_becomes_a_tagged_node() {
        assert_eq!(read("!include x").unwrap(), Node::Tagged("include".into()));
    }
}
