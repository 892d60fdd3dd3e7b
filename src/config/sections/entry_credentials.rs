//! Section `credentials` of an entry: credentials for the source and for the targets. For this entry, these credentials
//! replace the credentials of the registries. With credentials for the targets, all targets must be at one registry.

use super::credentials::{CREDENTIAL_ALTERNATIVES, CREDENTIALS, read_credentials};
use crate::config::keys::table::{Shape, Table, key};
use crate::config::model::endpoint::Endpoint;
use crate::config::model::entry::EntryCredentials;
use crate::config::reader::{Placed, Reader, Value};
use crate::registry::Credentials;

/// Keys of `credentials` in an entry. `defaults` has no key `credentials`, because transship would send one secret to
/// the registries of all entries.
pub(crate) static SIDES: Table = Table {
    place: "under an entry's `credentials`",
    groups: &[&[
        key(
            "source",
            Shape::OneOf(&CREDENTIALS, CREDENTIAL_ALTERNATIVES),
            "Credentials for the source, of the same kinds as under a registry.",
            r#"{"username": "reader", "password": {"env": "READER_PASSWORD"}}"#,
        ),
        key(
            "target",
            Shape::OneOf(&CREDENTIALS, CREDENTIAL_ALTERNATIVES),
            "Credentials for the targets. All targets of the entry must then be at one registry.",
            r#"{"username": "writer", "password": {"file": "/run/secrets/writer"}}"#,
        ),
    ]],
    required: &[],
};

/// Credentials for the source and for the targets, with their positions in the configuration.
#[derive(Default)]
pub(crate) struct Sides<'n> {
    source: Option<Placed<'n, Credentials>>,
    target: Option<Placed<'n, Credentials>>,
}

impl From<Sides<'_>> for EntryCredentials {
    fn from(sides: Sides<'_>) -> Self {
        Self { source: sides.source.map(|(side, _)| side), target: sides.target.map(|(side, _)| side) }
    }
}

/// Reads the credentials of both sides.
pub(crate) fn read_sides<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Sides<'n> {
    let Some(fields) = reader.fields(value, &SIDES) else { return Sides::default() };
    let side = |name| fields.get(name).and_then(|value| Some((read_credentials(reader, value)?, value.clone())));
    let sides = Sides { source: side("source"), target: side("target") };
    if value.pairs().next().is_none() {
        reader.refuse(value, "no credentials found: write `source`, `target` or both");
    }
    fields.assert_all_read();
    sides
}

/// Reports credentials for a layout or an archive, and credentials for targets at several registries.
pub(crate) fn check_sides(
    reader: &Reader<'_>,
    sides: &Sides<'_>,
    source: Option<&Endpoint>,
    targets: &[Placed<'_, Endpoint>],
) {
    if let (Some((_, value)), Some(source)) = (&sides.source, source.filter(|source| source.host().is_none())) {
        reader.refuse(value, no_registry("source", source));
    }
    let Some((_, value)) = &sides.target else { return };
    let endpoints = || targets.iter().map(|(target, _)| target);
    if let Some(layout) = endpoints().find(|target| target.host().is_none()) {
        reader.refuse(value, no_registry("target", layout));
        return;
    }
    let mut hosts = endpoints().filter_map(Endpoint::host);
    let Some(first) = hosts.next() else { return };
    if let Some(other) = hosts.find(|host| *host != first) {
        let message =
            format!("these credentials are for one registry, but the entry has targets at {first} and at {other}");
        reader.refuse_with_hint(
            value,
            message,
            "write one entry for each registry, or write the credentials under `registries`",
        );
    }
}

fn no_registry(side: &str, layout: &Endpoint) -> String {
    let kind = if matches!(layout, Endpoint::Archive(_)) { "file" } else { "folder" };
    format!("the {side} {layout} is a {kind} and needs no credentials: remove them")
}
