//! Translation of Go durations, such as `1h30m`, into intervals of `schedule`.

use crate::schedule::Schedule;

/// Returns true for Go's zero duration, which regsync and zot treat like a missing key.
pub(super) fn is_zero_interval(written: &str) -> bool {
    written == "0" || seconds(written) == Some(0.0)
}

/// Returns the schedule if transship's own parser accepts it.
pub(super) fn validated_schedule(schedule: String) -> Option<String> {
    schedule.parse::<Schedule>().is_ok().then_some(schedule)
}

/// Translates a duration; `None` if it has no equivalent. The text is unchanged if transship accepts it. Fractions of a
/// second are dropped.
pub(super) fn translate_duration(duration: &str) -> Option<String> {
    let seconds = seconds(duration)?.floor();
    validated_schedule(format!("every {duration}")).or_else(|| validated_schedule(format!("every {seconds}s")))
}

/// Returns the seconds of a Go duration: `1h30m`, `1.5h`, `90000ms`.
fn seconds(written: &str) -> Option<f64> {
    if written == "0" {
        return Some(0.0);
    }
    let (mut sum, mut rest) = (0.0, written);
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len()));
        let size = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * size;
        rest = behind;
    }
    (!written.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_parsed_like_a_go_duration() {
        let read = |text| translate_duration(text);
        assert_eq!(read("60m").as_deref(), Some("every 60m"));
        assert_eq!(read("1.5h").as_deref(), Some("every 1.5h"));
        assert_eq!(read("90.5s").as_deref(), Some("every 90s"));
        for other in ["60", "1d", "10s", "", "-1h", "800h"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(is_zero_interval("0") && is_zero_interval("0s") && !is_zero_interval("1s"));
    }
}
