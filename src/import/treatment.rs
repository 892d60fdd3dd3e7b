//! Treatment of the keys of another program by an import. The tables of keys are with the translation of each program.

use super::reading::{Fields, Reading};

/// Treatment of a key by an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// The import reads the key, and writes keys of `sync.yaml` or a comment, or skips the entry.
    Read,
    /// The key changes neither the copied content nor its target. The text describes the behaviour of transship.
    NoEffect(&'static str),
}

pub(super) use Treatment::{NoEffect, Read};

/// Key and its treatment.
pub(super) type TreatedKey = (&'static str, Treatment);

/// Returns comments about keys without an equivalent and about unknown keys.
pub(super) fn unsupported_keys(
    fields: &Fields<'_>,
    tables: &[&[TreatedKey]],
    owner: &str,
    reading: &mut Reading,
) -> Vec<String> {
    let mut comments = Vec::new();
    for (key, view) in fields.iter() {
        match tables.iter().copied().flatten().find(|(name, _)| name == key) {
            Some((_, Read)) => {}
            Some((_, NoEffect(instead))) => {
                comments.push(reading.add_remark(view, format!("`{key}` has no equivalent: {instead}")));
            }
            None => comments.push(reading.add_unknown_key(key, view, owner)),
        }
    }
    comments
}
