//! Limits: decoder of `limits` of a registry, and of `bandwidth` there and under `daemon`.

use super::entry::timezone;
use super::registry_keys::{LIMITS, WINDOW};
use crate::config::keys::MIN_BANDWIDTH;
use crate::config::reader::{Fields, Reader, Value, nearest};
use crate::config::yaml::node::Node;
use crate::config::yaml::scalar;
use crate::registry::{Bandwidth, Bucket, Figure, LimitProfile, Limits, Rate, Window};

/// Word that removes a limit.
const NONE: &str = "none";

pub(crate) fn limits(reader: &Reader<'_>, value: &Value<'_>) -> Option<Limits> {
    let fields = reader.fields(value, &LIMITS)?;
    let mut limits = Limits {
        profile: figure(&fields, "profile", |value| profile(reader, value)),
        bandwidth: fields.get("bandwidth").and_then(|value| bandwidth(reader, value)),
        concurrent: fields.integer(reader, "concurrent").map_or(Figure::Unsaid, Figure::Set),
        reserve_pulls: fields.integer(reader, "reserve_pulls").map_or(0, |pulls| pulls as u64),
        ..Limits::default()
    };
    for bucket in Bucket::ALL {
        *limits.figure_mut(bucket) = figure(&fields, bucket.name(), |value| rate(reader, value));
    }
    fields.done();
    Some(limits)
}

/// Reads a figure. For an invalid figure, the reader keeps the problem and the function returns the figure of an absent
/// key.
fn figure<T>(fields: &Fields<'_>, key: &'static str, read: impl FnOnce(&Value<'_>) -> Option<Figure<T>>) -> Figure<T> {
    fields.get(key).and_then(read).unwrap_or_default()
}

fn profile(reader: &Reader<'_>, value: &Value<'_>) -> Option<Figure<&'static LimitProfile>> {
    let text = reader.text(value, "a profile like docker-hub, or none")?;
    if text == NONE {
        return Some(Figure::Lifted);
    }
    let read: Result<&LimitProfile, _> = text.parse();
    if let (Err(error), Some(names)) = (&read, beginning_with(&text)) {
        reader.wrong_with_hint(value, error, format!("did you mean {names}?"));
        return None;
    }
    match (&read, nearest(&text, LimitProfile::NAMES.into_iter())) {
        (Err(error), Some(near)) => reader.wrong_with_hint(value, error, format!("did you mean `{near}`?")),
        (Err(error), None) => reader.wrong(value, error),
        (Ok(_), _) => {}
    }
    read.ok().map(Figure::Set)
}

/// Lists the profiles that begin with `written`, for a hint: `acr` is not a misspelt `ecr`, but the beginning of
/// several names.
fn beginning_with(written: &str) -> Option<String> {
    let begins = |name: &&str| !written.is_empty() && name.starts_with(&written.to_lowercase());
    let names: Vec<String> = LimitProfile::NAMES.into_iter().filter(begins).map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        [others @ .., last] => Some(format!("{} or {last}", others.join(", "))),
    }
}

fn rate(reader: &Reader<'_>, value: &Value<'_>) -> Option<Figure<Rate>> {
    let text = match value.node {
        Node::Number(text) => text.clone(),
        _ => reader.text(value, "a rate like 600/min")?,
    };
    if text == NONE { Some(Figure::Lifted) } else { reader.keep(value, scalar::requests(&text)).map(Figure::Set) }
}

/// Reads a rate, a window, or a list of windows.
pub(crate) fn bandwidth(reader: &Reader<'_>, value: &Value<'_>) -> Option<Bandwidth> {
    match value.node {
        Node::Map(_) => Some(Bandwidth::new(vec![window(reader, value)?])),
        Node::List(_) => windows(reader, value),
        _ => reader.bandwidth(value, MIN_BANDWIDTH).map(Bandwidth::always),
    }
}

fn windows(reader: &Reader<'_>, value: &Value<'_>) -> Option<Bandwidth> {
    let items = reader.items(value, "a list of windows")?;
    if items.is_empty() {
        reader.wrong_with_hint(value, "there is no window in it", "leave `bandwidth` out for no limit");
    }
    let windows: Vec<Option<Window>> = items.iter().map(|item| window(reader, item)).collect();
    let always = |window: &Option<Window>| window.as_ref().is_some_and(|window| window.between.is_none());
    if let Some(at) = windows.iter().position(always)
        && let Some(never) = items.get(at + 1)
    {
        reader.wrong(never, "this window never counts: the one before it is without `between` and always holds");
    }
    windows.into_iter().collect::<Option<_>>().map(Bandwidth::new)
}

fn window(reader: &Reader<'_>, value: &Value<'_>) -> Option<Window> {
    let fields = reader.fields(value, &WINDOW)?;
    let rate = fields.get("rate").and_then(|value| reader.bandwidth(value, MIN_BANDWIDTH));
    let hours = fields.get("between").map(|value| reader.parsed(value, "times of day like 08:00-18:00"));
    let zone = fields.get("timezone");
    if let (None, Some(zone)) = (&hours, zone) {
        reader.wrong_with_hint(zone, "`timezone` says nothing without `between`", "leave it out");
    }
    let zone = zone.map(|value| timezone(reader, value));
    fields.done();
    Some(Window {
        rate: rate?,
        between: hours.map_or(Some(None), |hours| hours.map(Some))?,
        timezone: zone.unwrap_or(Some(chrono_tz::Tz::UTC))?,
    })
}
