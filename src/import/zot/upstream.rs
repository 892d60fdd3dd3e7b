//! Registry of zot's `sync` extension, and functions for keys in upper or lower case.

use super::super::draft::Entry;
use super::super::reading::Fields;
use super::super::skopeo::Destination;
use super::super::treatment::TreatedKey;
use crate::oci::RegistryHost;

pub(super) struct Upstream<'t> {
    pub(super) host: RegistryHost,
    pub(super) target: &'t Destination,
    /// Entry with the keys that all contents of the registry share.
    pub(super) entry: Entry,
}

/// Changes each key to its spelling in the table. The comparison ignores upper and lower case.
pub(super) fn fold<'n>(fields: Fields<'n>, table: &'static [TreatedKey]) -> Fields<'n> {
    fields.renamed(|key| table.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(key)))
}
