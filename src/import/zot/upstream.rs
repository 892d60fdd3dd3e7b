//! Registry of zot's `sync` extension, and its keys in any case.

use super::super::draft::Entry;
use super::super::reading::Fields;
use super::super::skopeo::Destination;
use super::super::treatment::TreatedKey;
use crate::oci::RegistryHost;

/// Registry whose contents are translated.
pub(super) struct Upstream<'t> {
    pub(super) host: RegistryHost,
    pub(super) target: &'t Destination,
    /// Entry with the keys that all contents share.
    pub(super) entry: Entry,
}

/// Renames the fields to the names in the table. The case of a name is ignored.
pub(super) fn fold<'n>(fields: Fields<'n>, table: &'static [TreatedKey]) -> Fields<'n> {
    fields.renamed(|key| table.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(key)))
}
