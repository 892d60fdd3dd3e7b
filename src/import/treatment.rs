//! Treatment of the keys in another program's configuration. Each program has tables of its keys.

use super::reading::{Fields, Reading};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// The import reads the key, and writes an equivalent or a comment, or skips the entry.
    Read,
    /// The key changes neither the copied content nor the target. The text describes the behaviour of transship for the
    /// user.
    NoEffect(&'static str),
}

pub(super) use Treatment::{NoEffect, Read};

/// Name of a key, and treatment of the key.
pub(super) type TreatedKey = (&'static str, Treatment);

/// Returns comments about keys that have no equivalent, and about unknown keys.
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
