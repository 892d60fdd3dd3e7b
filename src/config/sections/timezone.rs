//! Value of the key `timezone`.

use chrono_tz::Tz;

use crate::config::keys::nearest::find_nearest;
use crate::config::reader::{Reader, Value};

/// Reads a time zone. If the reader recorded a problem, returns `None`.
pub(crate) fn read_timezone(reader: &Reader<'_>, value: &Value<'_>) -> Option<Tz> {
    let text = reader.text(value, "a time zone like Europe/Berlin")?;
    if let Ok(zone) = text.parse() {
        return Some(zone);
    }
    let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let city =
        |name: &&str| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&text.replace(' ', "_")));
    let message = format!("{text:?} is not a time zone");
    match names().find(city).or_else(|| find_nearest(&text, names())) {
        Some(near) => reader.refuse_with_hint(value, message, format!("did you mean `{near}`?")),
        None => reader.refuse_with_hint(value, message, "write a name like UTC or Europe/Berlin"),
    }
    None
}
