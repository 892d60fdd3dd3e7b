//! Synonyms of keys from other programs or from plain English. Each section defines its synonyms.

/// Name that a user could write instead of a key.
#[derive(Debug)]
pub(crate) struct Synonym {
    /// Name in lower case. A hyphen is written as `_`.
    pub(crate) written: &'static str,
    /// Key that has the same meaning. If the file contains the synonym, the reader does not report the key as missing.
    pub(crate) key: &'static str,
    /// Remedy, if the values of the synonym differ from the values of the key.
    hint: Option<&'static str>,
}

impl Synonym {
    /// Creates a synonym with the same values as the key.
    pub(crate) const fn new(written: &'static str, key: &'static str) -> Self {
        Self { written, key, hint: None }
    }

    /// Adds a remedy, for a synonym whose values differ from the values of the key.
    pub(crate) const fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub(crate) fn remedy(&self) -> String {
        self.hint.map_or_else(|| format!("write `{}`", self.key), str::to_owned)
    }
}
