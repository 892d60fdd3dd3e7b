//! Section `credentials` in an entry: the credentials to read and to write with, if they differ from the registry's
//! own. A secret is sent to one registry only, so the file must show unambiguously to which one.

use super::credentials::credentials;
use super::entry::{Draft, Placed};
use crate::config::keys::SIDES;
use crate::config::reader::{Reader, Value};
use crate::config::{Endpoint, EntryCredentials};
use crate::registry::Credentials;

/// Credentials of each side, with their places.
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
pub(crate) fn sides<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Sides<'n> {
    let Some(fields) = reader.fields(value, &SIDES) else { return Sides::default() };
    let side = |name| fields.get(name).and_then(|value| Some((credentials(reader, value)?, value.clone())));
    let sides = Sides { source: side("source"), target: side("target") };
    if value.pairs().next().is_none() {
        reader.wrong(value, "this says nobody: write `source`, `target` or both");
    }
    fields.done();
    sides
}

/// Adds the problems between the credentials of an entry and its endpoints.
pub(crate) fn check(reader: &Reader<'_>, draft: &Draft<'_>) {
    if let (Some((_, value)), Some((source @ Endpoint::Layout(_), _))) = (&draft.credentials.source, &draft.source) {
        reader.wrong(value, asks_nobody("source", source));
    }
    let Some((_, value)) = &draft.credentials.target else { return };
    let targets = || draft.targets.iter().map(|(target, _)| target);
    if let Some(layout) = targets().find(|target| matches!(target, Endpoint::Layout(_))) {
        reader.wrong(value, asks_nobody("target", layout));
        return;
    }
    let mut hosts = targets().filter_map(Endpoint::host);
    let Some(first) = hosts.next() else { return };
    if let Some(other) = hosts.find(|host| *host != first) {
        let message =
            format!("these credentials are for one registry, but there are targets at {first} and at {other}");
        reader.wrong_with_hint(
            value,
            message,
            "write one entry for each registry, or the credentials under `registries`",
        );
    }
}

fn asks_nobody(side: &str, layout: &Endpoint) -> String {
    format!("the {side} {layout} is a folder, which asks for no credentials")
}
