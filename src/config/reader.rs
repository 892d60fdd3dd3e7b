//! Reader of nodes as text, numbers, lists and maps of known keys. The reader records all problems, and does not stop
//! at the first problem. The sections interpret the keys.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::diagnostics::diagnostic::{Diagnostic, Part};
use super::diagnostics::unknown_key::unknown_key;
use super::diagnostics::warning::WarningDraft;
use super::keys::nearest::find_nearest;
use super::keys::schema::Schema;
use super::keys::secret_text::swallows_secret;
use super::keys::table::{Key, MAX_ITEMS, Shape, Table};
use super::yaml::expand::{Environment, expand};
use super::yaml::node::{Node, Path};
use super::yaml::scalar;

/// Node and the path to it.
#[derive(Debug, Clone)]
pub(super) struct Value<'n> {
    pub(super) node: &'n Node,
    pub(super) path: Path,
}

/// Value that was read, and its place.
pub(super) type Placed<'n, T> = (T, Value<'n>);

/// Reader of the tree of a configuration.
pub(super) struct Reader<'e> {
    pub(super) environment: Environment<'e>,
    schema: &'static Schema,
    problems: RefCell<Vec<Diagnostic>>,
    /// Settings that are valid but not advisable.
    warnings: RefCell<Vec<WarningDraft>>,
}

/// Map of known keys.
pub(super) struct Fields<'n> {
    table: &'static Table,
    values: Vec<(&'static Key, Value<'n>)>,
    /// Known keys of which the file probably contains a misspelling. The reader does not report them as missing.
    meant: Vec<&'static str>,
    /// Keys that the section requested. A known key that the section never requests is a bug in the section.
    requested: RefCell<Vec<&'static str>>,
}

impl<'n> Value<'n> {
    fn child(&self, at: usize, node: &'n Node) -> Self {
        let mut path = self.path.clone();
        path.push(at);
        Self { node, path }
    }

    /// Returns the pairs of a map, and no pairs for any other node.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'n str, Value<'n>)> {
        let pairs = if let Node::Map(pairs) = self.node { pairs.as_slice() } else { &[] };
        pairs.iter().enumerate().map(|(at, (key, node))| (key.as_str(), self.child(at, node)))
    }

    fn items(&self) -> Option<Vec<Value<'n>>> {
        let Node::List(items) = self.node else { return None };
        Some(items.iter().enumerate().map(|(at, node)| self.child(at, node)).collect())
    }
}

impl<'e> Reader<'e> {
    /// Creates a reader of files of this schema.
    pub(super) fn new(environment: Environment<'e>, schema: &'static Schema) -> Self {
        Self { environment, schema, problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// Returns the schema of the files.
    pub(super) fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// Returns all problems and all warnings.
    pub(super) fn finish(self) -> (Vec<Diagnostic>, Vec<WarningDraft>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }

    /// Records a warning about a value that works but is not advisable.
    pub(super) fn warn(&self, value: &Value<'_>, message: impl Display) {
        self.add_warning(None, Diagnostic::new(&value.path, Part::Value, message));
    }

    /// Records a warning about an entry, with a remedy.
    pub(super) fn add_warning(&self, entry: Option<String>, found: Diagnostic) {
        self.warnings.borrow_mut().push(WarningDraft { entry, found });
    }

    /// Records a problem.
    pub(super) fn add_problem(&self, found: Diagnostic) {
        self.problems.borrow_mut().push(found);
    }

    /// Records a problem with a value.
    pub(super) fn refuse(&self, value: &Value<'_>, message: impl Display) {
        self.add_problem(Diagnostic::new(&value.path, Part::Value, message));
    }

    pub(super) fn refuse_with_hint(&self, value: &Value<'_>, message: impl Display, hint: impl Display) {
        self.add_problem(Diagnostic::new(&value.path, Part::Value, message).with_hint(hint));
    }

    /// Returns the content of `result`, or records its error as a problem of `value`.
    pub(super) fn accept<T, E: Display>(&self, value: &Value<'_>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.refuse(value, error)).ok()
    }

    /// Reads a map with the keys of `table`. Records every unknown, duplicate or missing key as a problem. A null value
    /// counts as an empty map if no key is required.
    pub(super) fn fields<'n>(&self, value: &Value<'n>, table: &'static Table) -> Option<Fields<'n>> {
        self.fields_with_hints(value, table, |_| None)
    }

    /// Reads a map like [`Reader::fields`]. `hint_for` returns the hint for a missing key.
    pub(super) fn fields_with_hints<'n>(
        &self,
        value: &Value<'n>,
        table: &'static Table,
        hint_for: impl Fn(&str) -> Option<String>,
    ) -> Option<Fields<'n>> {
        match value.node {
            Node::Map(_) => {}
            Node::Null if table.required.is_empty() => {}
            _ => {
                let names: Vec<&str> = table.keys().map(|key| key.name).take(4).collect();
                self.refuse_type(value, &format!("a map of keys like {}", names.join(", ")));
                return None;
            }
        }
        let mut values: Vec<(&'static Key, Value<'n>)> = Vec::new();
        let mut meant = Vec::new();
        for (name, child) in value.pairs() {
            let Some(key) = table.find(name) else {
                let synonym = self.schema.find_synonym(table, name).map(|synonym| synonym.key);
                meant.extend(synonym.or_else(|| find_nearest(name, table.keys().map(|key| key.name))));
                self.add_problem(unknown_key(self.schema, table, name, child.node, &child.path));
                continue;
            };
            match values.iter().find(|(known, _)| known.name == name) {
                Some((_, first)) => self.add_problem(
                    Diagnostic::new(&child.path, Part::Key, format!("duplicate key `{name}`"))
                        .with_first(&first.path, Part::Key),
                ),
                None => values.push((key, child)),
            }
        }
        let fields = Fields { table, values, meant, requested: RefCell::default() };
        for name in table.required.iter().filter(|name| !fields.has(name)) {
            let missing = Diagnostic::new(&value.path, Part::Value, format!("`{name}` is missing {}", table.place));
            let hint = match table.find(name).map(|key| &key.shape) {
                Some(Shape::Exactly(number)) => Some(format!("begin with `{name}: {number}`")),
                _ => hint_for(name),
            };
            self.add_problem(match hint {
                Some(hint) => missing.with_hint(hint),
                None => missing,
            });
        }
        Some(fields)
    }

    /// Reads the text of a value, with `${NAME}` expanded. `expected` describes the value in messages: "a tag pattern".
    pub(super) fn text(&self, value: &Value<'_>, expected: &str) -> Option<String> {
        match value.node {
            Node::Text(text) if swallows_secret(text) => {
                self.refuse_with_hint(value, "this text contains other keys", "check the quotes");
                None
            }
            Node::Text(text) if scalar::has_curly_quotes(text) => {
                let message = "the text has curly quotes, which YAML reads as a part of the text";
                self.refuse_with_hint(value, message, "write straight quotes, `\"` or `'`");
                None
            }
            Node::Text(text) => self.accept(value, expand(text, self.environment)),
            _ => {
                self.refuse_non_text(value, expected);
                None
            }
        }
    }

    /// Reads a text that can only be one of a few words, so that no quotes turn another value into a valid text.
    pub(super) fn word_text(&self, value: &Value<'_>, expected: &str) -> Option<String> {
        if matches!(value.node, Node::Bool(_) | Node::Number(_)) {
            self.refuse_type(value, expected);
            return None;
        }
        self.text(value, expected)
    }

    /// Reads and parses the text of a value.
    pub(super) fn parsed<T>(&self, value: &Value<'_>, expected: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        self.parsed_with_hints(value, expected, |_| None)
    }

    /// Reads and parses the text of a value. `hint_for` returns the hint for a text that cannot be parsed.
    pub(super) fn parsed_with_hints<T>(
        &self,
        value: &Value<'_>,
        expected: &str,
        hint_for: impl Fn(&str) -> Option<String>,
    ) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.text(value, expected)?;
        let error = match text.parse() {
            Ok(parsed) => return Some(parsed),
            Err(error) => error,
        };
        let comment = || text.contains('#').then(|| "for a comment, write a space before `#`".to_owned());
        match hint_for(&text).or_else(comment) {
            Some(hint) => self.refuse_with_hint(value, error, hint),
            None => self.refuse(value, error),
        }
        None
    }

    /// Reads and parses the text of a value. Returns the parsed value with its place.
    pub(super) fn placed<'n, T>(&self, value: &Value<'n>, expected: &str) -> Option<Placed<'n, T>>
    where
        T: FromStr<Err: Display>,
    {
        Some((self.parsed(value, expected)?, value.clone()))
    }

    /// Reads one of `words`. If the text is similar to one of the words, the hint suggests that word.
    pub(super) fn word<T>(&self, value: &Value<'_>, words: &[&'static str]) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.word_text(value, &list_words(words))?;
        let read: Result<T, _> = text.parse();
        match (&read, find_nearest(&text, words.iter().copied())) {
            (Err(error), Some(near)) => self.refuse_with_hint(value, error, format!("did you mean `{near}`?")),
            (Err(error), None) => self.refuse(value, error),
            (Ok(_), _) => {}
        }
        read.ok()
    }

    /// Reads the path of a local file or folder.
    pub(super) fn path(&self, value: &Value<'_>, expected: &str) -> Option<PathBuf> {
        let text = self.text(value, expected)?;
        if text.is_empty() {
            self.refuse(value, format!("expected {expected}, found an empty text"));
            return None;
        }
        if scalar::is_url(&text) {
            // The message does not repeat the text: the text may contain a password.
            let hint = "write only the path, like /var/lib/transship/journal.db";
            self.refuse_with_hint(
                value,
                format!("expected {expected}, found a URL: only local files are supported"),
                hint,
            );
            return None;
        }
        Some(text.into())
    }

    /// Reads the items of a list, or a single text as a list of one.
    pub(super) fn texts<'n>(&self, value: &Value<'n>, expected: &str) -> Option<Vec<Value<'n>>> {
        match value.node {
            Node::Text(_) => Some(vec![value.clone()]),
            _ => self.items(value, expected),
        }
    }

    /// Reads the items of a list of texts. A single text is refused.
    pub(super) fn listed_texts<'n>(&self, value: &Value<'n>, expected: &str) -> Option<Vec<Value<'n>>> {
        if matches!(value.node, Node::Text(_)) {
            self.refuse_type_with_hint(value, expected, "write the text in brackets: `[…]`");
            return None;
        }
        self.items(value, expected)
    }

    /// Reads the items of a list. The number of items is limited, because some checks compare all items with each
    /// other.
    pub(super) fn items<'n>(&self, value: &Value<'n>, expected: &str) -> Option<Vec<Value<'n>>> {
        let Some(items) = value.items() else {
            self.refuse_type(value, expected);
            return None;
        };
        if items.len() as u64 > MAX_ITEMS {
            self.refuse(value, format!("this list has {} items, and at most {MAX_ITEMS} are allowed", items.len()));
            return None;
        }
        Some(items)
    }

    /// Reads `true` or `false`.
    pub(super) fn bool(&self, value: &Value<'_>) -> Option<bool> {
        match (value.node, self.expanded(value)?.as_deref()) {
            (Node::Bool(value), _) => Some(*value),
            (_, Some("true")) => Some(true),
            (_, Some("false")) => Some(false),
            (Node::Text(text), None) if matches!(&*text.to_ascii_lowercase(), "yes" | "on" | "true") => {
                self.refuse_with_hint(value, format!("expected true or false, found {text:?}"), "write `true`");
                None
            }
            (Node::Text(text), None) if matches!(&*text.to_ascii_lowercase(), "no" | "off" | "false") => {
                self.refuse_with_hint(value, format!("expected true or false, found {text:?}"), "write `false`");
                None
            }
            _ => {
                self.refuse_type(value, "true or false");
                None
            }
        }
    }

    /// Reads a whole number within bounds.
    fn integer(&self, value: &Value<'_>, min: u64, max: u64) -> Option<u64> {
        let expected = format!("a whole number from {min} to {max}");
        let text = match (value.node, self.expanded(value)?) {
            (Node::Number(text), _) => text.clone(),
            (_, Some(text)) => text,
            (Node::Text(text), None) if text.parse::<u64>().is_ok() => {
                self.refuse_type_with_hint(value, &expected, format!("write {text} without quotes"));
                return None;
            }
            _ => {
                self.refuse_type(value, &expected);
                return None;
            }
        };
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.refuse(value, format!("expected {expected}, found {text}"));
        }
        number
    }

    /// Reads a number of bytes, at least `minimum`.
    pub(super) fn size(&self, value: &Value<'_>, minimum: u64) -> Option<u64> {
        let text = match value.node {
            Node::Number(text) => text.clone(),
            _ => self.text(value, "a size like 128MiB")?,
        };
        let size = self.accept(value, scalar::parse_size(&text))?;
        self.at_least(value, &text, size, minimum, "")
    }

    /// Reads a number of bytes per second, at least `minimum`.
    pub(super) fn bandwidth(&self, value: &Value<'_>, minimum: u64) -> Option<u64> {
        let text = match value.node {
            Node::Number(text) => text.clone(),
            _ => self.text(value, "a bandwidth like 100MiB/s")?,
        };
        let size = self.accept(value, scalar::parse_bandwidth(&text))?;
        self.at_least(value, &text, size, minimum, "/s")
    }

    fn at_least(&self, value: &Value<'_>, text: &str, size: u64, minimum: u64, per: &str) -> Option<u64> {
        if size < minimum {
            self.refuse(value, format!("{text:?} is too small: the minimum is {}{per}", scalar::format_size(minimum)));
        }
        (size >= minimum).then_some(size)
    }

    /// Reads a duration within bounds, which are in seconds.
    pub(super) fn duration(&self, value: &Value<'_>, bounds: RangeInclusive<u64>) -> Option<Duration> {
        if let Node::Number(number) = value.node {
            let message = format!("expected a duration with its unit, found {number}");
            self.refuse_with_hint(value, message, format!("write {number}s, {number}m or {number}h"));
            return None;
        }
        let text = self.text(value, "a duration like 30s")?;
        let duration = self.accept(value, scalar::parse_duration(&text))?;
        let [least, most] = [*bounds.start(), *bounds.end()].map(Duration::from_secs);
        if (least..=most).contains(&duration) {
            return Some(duration);
        }
        let [least, most] = [least, most].map(|bound| humantime::format_duration(bound).to_string());
        self.refuse(value, format!("{text:?} is out of range: write a duration from {least} to {most}"));
        None
    }

    /// Expands a `${NAME}` that is written instead of a number or a boolean. The inner `None` means that the value has
    /// no `${NAME}`. The outer `None` means that the reader recorded a problem.
    #[expect(clippy::option_option, reason = "the outer `None` means that a problem was recorded")]
    fn expanded(&self, value: &Value<'_>) -> Option<Option<String>> {
        match value.node {
            Node::Text(text) if text.contains("${") => self.accept(value, expand(text, self.environment)).map(Some),
            _ => Some(None),
        }
    }

    /// Records that the value is of another type than `expected`. The message does not repeat text: misplaced text may
    /// be a secret.
    pub(super) fn refuse_type(&self, value: &Value<'_>, expected: &str) {
        self.add_problem(mismatch(value, expected));
    }

    /// Records that the value is of another type than `expected`, with a remedy.
    pub(super) fn refuse_type_with_hint(&self, value: &Value<'_>, expected: &str, hint: impl Display) {
        self.add_problem(mismatch(value, expected).with_hint(hint));
    }

    /// Records that the value is not text, although it may have been meant as text.
    fn refuse_non_text(&self, value: &Value<'_>, expected: &str) {
        let (kind, written) = match value.node {
            Node::Bool(value) => ("boolean", value.to_string()),
            Node::Number(number) => ("number", number.clone()),
            _ => return self.refuse_type(value, expected),
        };
        let message = format!("expected {expected}, found the {kind} {written}");
        self.refuse_with_hint(value, message, format!("quote the value: \"{written}\""));
    }
}

fn mismatch(value: &Value<'_>, expected: &str) -> Diagnostic {
    let found = |found: &str| Diagnostic::new(&value.path, Part::Value, format!("expected {expected}, found {found}"));
    match value.node {
        Node::Null => found("nothing").with_hint("write a value, or remove the key"),
        Node::Bool(value) => found(&format!("the boolean {value}")),
        Node::Number(_) => found("a number"),
        Node::Text(_) => found("text"),
        Node::List(_) => found("a list"),
        Node::Map(_) => found("a map"),
        // The message does not repeat the tag: a password may begin with `!`.
        Node::Tagged(_) => {
            found("a YAML tag").with_hint("YAML tags are not supported: quote text that begins with `!`")
        }
    }
}

/// Lists words for a message: `a, b or c`.
pub(super) fn list_words(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

impl<'n> Fields<'n> {
    /// Returns the value of a key of the table.
    pub(super) fn get(&self, name: &'static str) -> Option<&Value<'n>> {
        debug_assert!(self.table.find(name).is_some(), "{name} is not in the table");
        self.requested.borrow_mut().push(name);
        self.values.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// Returns the whole number of a key, within the bounds of the table. Also returns `None` if the number is invalid;
    /// the reader records that problem.
    pub(super) fn integer(&self, reader: &Reader<'_>, name: &'static str) -> Option<usize> {
        let value = self.get(name)?;
        let Some(Shape::Integer { min, max }) = self.table.find(name).map(|key| &key.shape) else {
            debug_assert!(false, "{name} is no whole number in the table");
            return None;
        };
        usize::try_from(reader.integer(value, *min, *max)?).ok()
    }

    /// Returns true if a key is present, or an unknown key was probably meant to be this key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.meant.contains(&name) || self.values.iter().any(|(key, _)| key.name == name)
    }

    /// Asserts that the section requested all keys. A section that returns early, because the other keys no longer
    /// matter, does not call this function.
    pub(super) fn assert_all_read(&self) {
        let requested = self.requested.borrow();
        debug_assert!(self.table.keys().all(|key| requested.contains(&key.name)), "not all are read: {:?}", self.table);
    }
}
