//! Section `timeouts` of a registry: time limits of requests.

use crate::config::keys::table::{DURATION, Table, key};
use crate::config::reader::{Reader, Value};
use crate::registry::Timeouts;

/// Maximum of a timeout, in seconds: one hour.
pub(crate) const MAX_WAIT: u64 = 3600;

pub(crate) static TIMEOUTS: Table = Table {
    place: "under `timeouts`",
    groups: &[&[
        key("connect", DURATION, "Time limit for a new connection, including TLS.", r#""5s""#).with_default(r#""15s""#),
        key("idle", DURATION, "Maximum time without a byte within a blob.", r#""2m""#).with_default(r#""1m""#),
        key("header", DURATION, "Time limit until a response starts.", r#""2m""#).with_default(r#""1m""#),
    ]],
    required: &[],
};

/// Reads the section. If the value is not a map, returns `None`.
pub(crate) fn read_timeouts(reader: &Reader<'_>, value: &Value<'_>) -> Option<Timeouts> {
    let fields = reader.fields(value, &TIMEOUTS)?;
    let read = |key| fields.get(key).and_then(|value| reader.duration(value, 1..=MAX_WAIT));
    let timeouts = Timeouts { connect: read("connect"), idle: read("idle"), header: read("header") };
    fields.assert_all_read();
    Some(timeouts)
}
