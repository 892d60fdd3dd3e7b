//! Registry of zot's `sync` extension, from which the contents are read, and its keys without regard to their case.

use super::super::draft::Entry;
use super::super::reading::Fields;
use super::super::skopeo::Destination;
use super::super::treatment::TreatedKey;
use crate::oci::RegistryHost;

/// Registry of the extension, whose contents are translated.
pub(super) struct Upstream<'t> {
    pub(super) host: RegistryHost,
    pub(super) target: &'t Destination,
    /// Entry with the keys that all contents share.
    pub(super) entry: Entry,
}

/// Returns the fields under the names of the table, without regard to upper and lower case.
pub(super) fn fold<'n>(fields: Fields<'n>, table: &'static [TreatedKey]) -> Fields<'n> {
    fields.renamed(|key| table.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(key)))
}
