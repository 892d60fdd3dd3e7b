//! Synonyms of keys: names of the same settings in other programs or in plain English. The sections supply the
//! synonyms.

/// Name that an operator may write instead of a key.
#[derive(Debug)]
pub(crate) struct Synonym {
    /// Name in lower case and with `_` instead of hyphens.
    pub(crate) written: &'static str,
    /// Key with the meaning of the name. The reader does not report this key as missing.
    pub(crate) key: &'static str,
    /// Remedy, if the name takes other values than the key.
    hint: Option<&'static str>,
}

impl Synonym {
    /// Creates a synonym that takes the same values as the key.
    pub(crate) const fn new(written: &'static str, key: &'static str) -> Self {
        Self { written, key, hint: None }
    }

    /// Returns the synonym with a remedy, for a name that takes other values than the key.
    pub(crate) const fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub(crate) fn remedy(&self) -> String {
        self.hint.map_or_else(|| format!("write `{}`", self.key), str::to_owned)
    }
}
