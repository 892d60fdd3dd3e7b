//! Translation of regsync's `schedule` and `interval`. regsync parses both with the library robfig/cron 3. That library
//! accepts a step after one value (`5/15`), `?` for `*`, and a time zone before the expression. The intervals of the
//! library are Go durations.

use super::super::duration::translate_duration;
use super::super::duration::validated_schedule;

/// Schedule in transship's syntax.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) schedule: String,
    pub(super) timezone: Option<String>,
}

/// Maximum value of each field. A step after a single value (`5/15`) runs up to the maximum.
const FIELD_MAXIMA: [&str; 5] = ["59", "23", "31", "12", "6"];

/// Translates a `schedule`; `None` if it has no equivalent.
pub(super) fn translate_cron(written: &str) -> Option<Timing> {
    let (timezone, expression) = split_timezone(written);
    if timezone.is_some_and(|zone| zone.parse::<chrono_tz::Tz>().is_err()) {
        return None;
    }
    let schedule = match expression.strip_prefix("@every ") {
        Some(duration) => translate_duration(duration)?,
        None => validated_schedule(translate_fields(expression)?)?,
    };
    Some(Timing { schedule, timezone: timezone.map(str::to_owned) })
}

/// Translates an `interval`; `None` if it has no equivalent.
pub(super) fn translate_interval(written: &str) -> Option<Timing> {
    Some(Timing { schedule: translate_duration(written)?, timezone: None })
}

/// Splits off the time zone: `TZ=Europe/Berlin 0 3 * * *`.
fn split_timezone(written: &str) -> (Option<&str>, &str) {
    let zoned = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| written.strip_prefix(prefix)?.split_once(' '));
    zoned.map_or((None, written), |(zone, expression)| (Some(zone), expression.trim_start()))
}

fn translate_fields(expression: &str) -> Option<String> {
    if expression.starts_with('@') {
        return Some(expression.to_owned());
    }
    let written: Vec<&str> = expression.split_ascii_whitespace().collect();
    if written.len() != FIELD_MAXIMA.len() {
        return None;
    }
    let fields = written.iter().zip(FIELD_MAXIMA).enumerate().map(|(at, (field, last))| {
        let items: Option<Vec<String>> = field.split(',').map(|one| translate_item(one, last, at == 4)).collect();
        let items = items?;
        // One `*` makes the whole field `*`.
        Some(if items.iter().any(|one| one == "*") { "*".to_owned() } else { items.join(",") })
    });
    let fields: Option<Vec<String>> = fields.collect();
    fields.map(|fields| fields.join(" "))
}

fn translate_item(item: &str, last: &str, is_weekday: bool) -> Option<String> {
    let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
    let range = if range == "?" { "*" } else { range };
    // The library has no weekday 7.
    if is_weekday && range.split('-').any(|day| day == "7") {
        return None;
    }
    Some(match step {
        None | Some("1") if range.contains(['*', '-']) => range.to_owned(),
        None => range.to_owned(),
        Some(step) if range.contains(['*', '-']) => format!("{range}/{step}"),
        Some(step) => format!("{range}-{last}/{step}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translated_cron_expression_keeps_its_firing_times() {
        for (theirs, ours) in [
            ("15 02 * * *", "15 02 * * *"),
            ("5/15 * * * *", "5-59/15 * * * *"),
            ("0 3 ? * ?", "0 3 * * *"),
            ("0 3 */1 * MON", "0 3 * * MON"),
            ("0 3 *,5 * *", "0 3 * * *"),
            ("0 0-12/3,20/2 * 1-3 1/2", "0 0-12/3,20-23/2 * 1-3 1-6/2"),
            ("@daily", "@daily"),
            ("@every 1h30m", "every 1h30m"),
            ("@every 90000ms", "every 90000ms"),
        ] {
            assert_eq!(translate_cron(theirs).map(|timing| timing.schedule).as_deref(), Some(ours), "{theirs}");
        }
        for other in ["0 0 3 * * *", "0 3 * * 7", "@reboot", "@every 30s", "@every day", "TZ=Nowhere 0 3 * * *", "soon"]
        {
            assert_eq!(translate_cron(other), None, "{other}");
        }
        let zoned = translate_cron("CRON_TZ=Europe/Berlin 30 4 * * 1-5");
        assert_eq!(zoned.and_then(|timing| timing.timezone).as_deref(), Some("Europe/Berlin"));
    }
}
