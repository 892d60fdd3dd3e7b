//! Synonym of a key: a name that other programs, or people, use for the key. The sections supply the synonyms.

/// Name that an operator may write instead of a key of `sync.yaml`.
#[derive(Debug)]
pub(crate) struct Synonym {
    /// Written name, in lower case and with `_` instead of hyphens.
    pub(crate) written: &'static str,
    /// Key that the name means. The reader does not report this key as missing too.
    pub(crate) key: &'static str,
    /// Remedy, if the name and the key take different values.
    hint: Option<&'static str>,
}

impl Synonym {
    /// Creates a synonym whose value has the form that the key takes.
    pub(crate) const fn new(written: &'static str, key: &'static str) -> Self {
        Self { written, key, hint: None }
    }

    /// Returns the synonym with a remedy, for a name whose value has another form than the key takes.
    pub(crate) const fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// Returns the remedy.
    pub(crate) fn remedy(&self) -> String {
        self.hint.map_or_else(|| format!("write `{}`", self.key), str::to_owned)
    }
}
