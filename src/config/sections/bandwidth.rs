//! Value of the key `bandwidth`: one rate, or several rates by time of day.

use super::timezone::read_timezone;
use crate::config::keys::table::{ANY, Shape, Table, key};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::registry::{Bandwidth, Window};

/// Minimum bandwidth, in bytes per second.
pub(crate) const MIN_BANDWIDTH: u64 = 1 << 10;

const BYTES_A_SECOND: &str = "^[0-9]+ *(B|kB|KB|KiB|MB|MiB|GB|GiB|TiB)? */s$";

pub(crate) const BANDWIDTH: Shape = Shape::TextOrMaps { pattern: BYTES_A_SECOND, keys: &WINDOW };

pub(crate) static WINDOW: Table = Table {
    place: "in a window of `bandwidth`",
    groups: &[&[
        key("rate", Shape::Text { pattern: BYTES_A_SECOND }, "Bytes per second.", r#""50MiB/s""#),
        key(
            "between",
            Shape::Text { pattern: "^[0-9]{1,2}:[0-9]{2} *- *[0-9]{1,2}:[0-9]{2}$" },
            "Period of the day in which the window applies. A period may cross midnight. Default: always.",
            r#""08:00-18:00""#,
        ),
        key("timezone", ANY, "Time zone of `between`, by its IANA name.", r#""Europe/Berlin""#)
            .with_default(r#""UTC""#),
    ]],
    required: &["rate"],
};

/// Reads a rate, one time window, or a list of time windows.
pub(crate) fn read_bandwidth(reader: &Reader<'_>, value: &Value<'_>) -> Option<Bandwidth> {
    match value.node {
        Node::Map(_) => Some(Bandwidth::new(vec![read_window(reader, value)?])),
        Node::List(_) => read_windows(reader, value),
        _ => reader.bandwidth(value, MIN_BANDWIDTH).map(Bandwidth::always),
    }
}

fn read_windows(reader: &Reader<'_>, value: &Value<'_>) -> Option<Bandwidth> {
    let items = reader.items(value, "a list of windows")?;
    if items.is_empty() {
        reader.refuse_with_hint(value, "the list has no windows", "remove `bandwidth` for no limit");
    }
    let windows: Vec<Option<Window>> = items.iter().map(|item| read_window(reader, item)).collect();
    let always = |window: &Option<Window>| window.as_ref().is_some_and(|window| window.between.is_none());
    if let Some(index) = windows.iter().position(always)
        && let Some(unreachable) = items.get(index + 1)
    {
        reader.refuse(
            unreachable,
            "this window never applies: the window before it has no `between`, so that window always applies",
        );
    }
    windows.into_iter().collect::<Option<_>>().map(Bandwidth::new)
}

fn read_window(reader: &Reader<'_>, value: &Value<'_>) -> Option<Window> {
    let fields = reader.fields(value, &WINDOW)?;
    let rate = fields.get("rate").and_then(|value| reader.bandwidth(value, MIN_BANDWIDTH));
    let hours = fields.get("between").map(|value| reader.parsed(value, "times of day like 08:00-18:00"));
    let zone = fields.get("timezone");
    if let (None, Some(zone)) = (&hours, zone) {
        reader.refuse_with_hint(zone, "`timezone` has no effect without `between`", "remove `timezone`");
    }
    let zone = zone.map(|value| read_timezone(reader, value));
    fields.assert_all_read();
    Some(Window {
        rate: rate?,
        between: hours.map_or(Some(None), |hours| hours.map(Some))?,
        timezone: zone.unwrap_or(Some(chrono_tz::Tz::UTC))?,
    })
}
