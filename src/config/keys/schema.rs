//! Schema of a whole file: the tables of all its maps, and checks of keys by these tables, also of misspelt and
//! misplaced keys. The sections supply the tables; this module knows no section.

use std::collections::{BTreeMap, BTreeSet};

use super::nearest::find_nearest;
use super::secret_text::{has_form, is_one_word, is_plain, looks_secret, sounds_secret};
use super::synonym::Synonym;
use super::table::{SafeForm, Shape, Table};

/// Schema of a file.
#[derive(Debug)]
pub(crate) struct Schema {
    root: &'static Table,
    /// All tables, each with the secrecy of the maps that have its keys.
    tables: Vec<(&'static Table, Secrecy)>,
    /// Names of the keys that are marked as secret.
    secret_keys: BTreeSet<&'static str>,
    /// Names of the keys in sections with secrets whose value is a map of names that the operator chose.
    maps_of_names: BTreeSet<&'static str>,
    /// Forms of the values that are no secrets, by the name of their key.
    safe_forms: BTreeMap<&'static str, SafeForm>,
    /// Names that other programs use for the keys of a table.
    synonyms: &'static [(&'static Table, &'static [Synonym])],
}

/// Secrecy of a map: the keys and values in it that may be secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Settings that have no secrets.
    Settings,
    /// Section whose values may be secrets: `push_events`, `notify`, `proxy` or `tls`.
    Section,
    /// Map from names that the operator chose to sections with secrets: `push_events.receivers`.
    Names,
    /// Credentials or a webhook, where a key may be the secret itself.
    Credentials,
}

impl Schema {
    /// Creates the schema of files whose top level has the keys of `root`. `tables` lists all tables of the schema. If
    /// several tables have a key, the hint about a misplaced key names the first of these tables. `synonyms` lists the
    /// names that other programs use for the keys of a table.
    pub(crate) fn new(
        root: &'static Table,
        tables: &[&'static Table],
        synonyms: &'static [(&'static Table, &'static [Synonym])],
    ) -> Self {
        let keys = || tables.iter().flat_map(|table| table.keys());
        let mut schema = Self {
            root,
            tables: Vec::new(),
            secret_keys: keys().filter(|key| key.secret).map(|key| key.name).collect(),
            maps_of_names: BTreeSet::new(),
            safe_forms: keys().filter_map(|key| Some((key.name, key.safe_form?))).collect(),
            synonyms,
        };
        // Every secret takes these two keys instead of a text.
        schema.safe_forms.extend([("env", SafeForm::Variable), ("file", SafeForm::Path)]);
        let mut reached = Vec::new();
        schema.reach(root, Secrecy::Settings, &mut reached);
        let secrecy = |table: &'static Table| {
            let found = reached.iter().find(|(other, _)| std::ptr::eq(*other, table));
            found.map_or(Secrecy::Settings, |(_, secrecy)| *secrecy)
        };
        schema.tables = tables.iter().map(|table| (*table, secrecy(table))).collect();
        let sections = schema.tables.iter().filter(|(_, secrecy)| *secrecy == Secrecy::Section);
        let maps = sections.flat_map(|(table, _)| table.keys()).filter(|key| matches!(key.shape, Shape::MapOf(_)));
        schema.maps_of_names = maps.map(|key| key.name).collect();
        schema
    }

    /// Adds a table and the tables below it to `reached`, each with its secrecy.
    fn reach(&self, table: &'static Table, secrecy: Secrecy, reached: &mut Vec<(&'static Table, Secrecy)>) {
        if reached.iter().any(|(other, _)| std::ptr::eq(*other, table)) {
            return;
        }
        reached.push((table, secrecy));
        for key in table.keys() {
            if let Some(below) = key.shape.table() {
                self.reach(below, self.secrecy_below(secrecy, key.name), reached);
            }
        }
    }

    /// Returns the synonym that is written in a map with the keys of `table`. A hyphen counts as `_`.
    pub(crate) fn find_synonym(&self, table: &'static Table, written: &str) -> Option<&'static Synonym> {
        let written = written.to_lowercase().replace('-', "_");
        self.synonyms_of(table).iter().find(|synonym| synonym.written == written)
    }

    /// Returns the synonyms of the keys of `table`.
    pub(crate) fn synonyms_of(&self, table: &'static Table) -> &'static [Synonym] {
        let own = self.synonyms.iter().find(|(other, _)| std::ptr::eq(*other, table));
        own.map_or(&[], |(_, synonyms)| synonyms)
    }

    /// Returns the table of the top level.
    pub(crate) fn root(&self) -> &'static Table {
        self.root
    }

    /// Returns all tables, in the order in which hints prefer them.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &'static Table> {
        self.tables.iter().map(|(table, _)| *table)
    }

    /// Returns the tables of maps without secrets.
    pub(crate) fn tables_of_settings(&self) -> impl Iterator<Item = &'static Table> {
        self.tables.iter().filter(|(_, secrecy)| *secrecy == Secrecy::Settings).map(|(table, _)| *table)
    }

    /// Returns true if any map has the key.
    pub(crate) fn is_known(&self, key: &str) -> bool {
        self.tables().any(|table| table.find(key).is_some())
    }

    /// Returns true if the top level has the key, or has a key with nearly the same name.
    pub(crate) fn is_top_level(&self, key: &str) -> bool {
        find_nearest(key, self.root.keys().map(|key| key.name)).is_some()
    }

    /// Returns the secrecy of the maps with the keys of a table.
    pub(crate) fn secrecy_of(&self, table: &'static Table) -> Secrecy {
        let found = self.tables.iter().find(|(other, _)| std::ptr::eq(*other, table));
        found.map_or(Secrecy::Settings, |(_, secrecy)| *secrecy)
    }

    /// Returns the secrecy of the map that is the value of a key in a map of this secrecy.
    pub(crate) fn secrecy_below(&self, above: Secrecy, key: &str) -> Secrecy {
        if above == Secrecy::Names {
            Secrecy::Section
        } else if above == Secrecy::Section && self.maps_of_names.contains(key) {
            Secrecy::Names
        } else if above == Secrecy::Credentials || sounds_secret(key) {
            Secrecy::Credentials
        } else if above == Secrecy::Section || self.secret_keys.contains(key) {
            Secrecy::Section
        } else {
            Secrecy::Settings
        }
    }

    /// Returns true if a key implies that the values below it may be secrets or may contain secrets.
    pub(crate) fn leads_to_secrets(&self, key: &str) -> bool {
        sounds_secret(key) || self.secret_keys.contains(key)
    }

    /// Returns true if an unknown key can be shown:
    /// - among credentials, if the key nearly matches a known key
    /// - in other sections with secrets, also if the key is a plain word
    /// - elsewhere, if the key is one word
    pub(crate) fn may_show(&self, key: &str, secrecy: Secrecy) -> bool {
        match secrecy {
            Secrecy::Names => is_plain(key),
            Secrecy::Settings => (!sounds_secret(key) || is_one_word(key)) && !self.hides_secret(key),
            Secrecy::Section => self.is_near(key, secrecy) || is_plain(key) && !sounds_secret(key),
            Secrecy::Credentials => self.is_near(key, secrecy),
        }
    }

    /// Returns true if a key nearly matches a key of a map of this secrecy, or is a synonym of such a key. For sections
    /// with secrets, the keys of the maps directly below a section also count.
    fn is_near(&self, key: &str, secrecy: Secrecy) -> bool {
        let own = self.tables.iter().filter(|(_, other)| *other == secrecy).map(|(table, _)| *table);
        let is_synonym = own.clone().any(|table| self.find_synonym(table, key).is_some());
        let sections = own.clone().filter(|_| secrecy == Secrecy::Section);
        let tables = own.chain(sections.flat_map(Table::below));
        let known = tables.flat_map(Table::keys).map(|key| key.name).chain(["env", "file"]);
        is_synonym || find_nearest(key, known).is_some()
    }

    /// Returns true if a scalar has the form that its key takes, and is not a secret: a name, a path, an address. The
    /// key is in credentials or in a section with secrets.
    pub(crate) fn is_harmless(&self, key: &str, text: &str) -> bool {
        !self.hides_secret(text) && has_form(text, self.safe_forms.get(key).copied())
    }

    /// Returns true if a text looks like it contains a secret, at any place.
    pub(crate) fn hides_secret(&self, text: &str) -> bool {
        looks_secret(text) || self.is_swallowed(text)
    }

    /// Returns true if a text is a key joined to its value, because the colon, or the space after the colon, is
    /// missing: `token:VALUE`, `password VALUE`.
    fn is_swallowed(&self, text: &str) -> bool {
        let head = text.split([':', '=', ' ']).next().unwrap_or_default();
        let is_key = !head.is_empty() && head.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        is_key && head.len() < text.trim_end().len() && self.leads_to_secrets(head)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::sections::top_level::SCHEMA;

    #[test]
    fn value_is_shown_only_in_the_form_of_its_key() {
        for (key, good, bad) in [
            ("env", "REGISTRY_PASSWORD", "hunter2"),
            ("file", "/run/secrets/token", "hunter2"),
            ("ca", "certs/ca.pem", "MIIB+x/y=="),
            ("key", "client.key", "Hunter2.x"),
            ("username", "robot", "Hunter2"),
            ("helper", "ecr-login", "hunter2"),
            ("listen", "0.0.0.0:9181", "Hunter2"),
            ("registry", "registry.internal:5000", "me:hunter2@x"),
            ("proxy", "proxy.example:3128", "http://me:hunter2@proxy.example"),
            ("password", "${REGISTRY_PASSWORD}", "hun${TER}2"),
        ] {
            assert!(SCHEMA.is_harmless(key, good), "{key}: {good}");
            assert!(!SCHEMA.is_harmless(key, bad), "{key}: {bad}");
        }
    }

    #[test]
    fn signatures_logins_and_tokens_are_suspected_anywhere() {
        for text in [
            "https://s3.example/x?X-Amz-Signature=abc",
            "h.example/x?sig=abc",
            "ghp_hunter2hunter2",
            "eyJhbGciOiJIUzI1NiJ9",
            "A1b2C3d4E5f6G7h8I9j0",
            "https://me:hunter2@h.example/x",
            "1h api_key: hunter2",
        ] {
            assert!(SCHEMA.hides_secret(text), "{text}");
        }
        for text in
            ["docker.io/library/python", "2.4.1", "*-rc?", "re:v[0-9]+?=x", "0 3 * * *", "a".repeat(64).as_str()]
        {
            assert!(!SCHEMA.hides_secret(text), "{text}");
        }
    }
}
