//! Sizes, rates, durations and URLs: parsers from a text to a number in base units or an error message. The parsers
//! handle no YAML and no places.

use std::time::Duration;

use crate::registry::Rate;

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Parses a size: `64MiB`, `100MB` or plain bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    read_size(text).ok_or_else(|| {
        format!("{text:?} is not a size: write bytes, or a whole number with kB, MB, GB, KiB, MiB, GiB or TiB")
    })
}

fn read_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Parses a bandwidth in bytes per second: `100MiB/s`.
pub(crate) fn parse_bandwidth(text: &str) -> Result<u64, String> {
    let read = text.strip_suffix("/s").and_then(|amount| read_size(amount.trim_end()));
    read.ok_or_else(|| format!("{text:?} is not a bandwidth: write bytes per second, like 100MiB/s"))
}

/// Parses a rate of requests: `10/s`, `600/min`, `5000/h`.
pub(crate) fn parse_rate(text: &str) -> Result<Rate, String> {
    let read = || {
        let (count, per) = text.split_once('/')?;
        let seconds = match per.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return None,
        };
        let count = count.trim();
        let count = count.bytes().all(|b| b.is_ascii_digit()).then(|| count.parse::<u32>().ok()).flatten()?;
        (count > 0).then_some(Rate { count, per: Duration::from_secs(seconds) })
    };
    read().ok_or_else(|| format!("{text:?} is not a rate of requests: write a rate like 10/s, 600/min or 5000/h"))
}

/// Parses a duration as humantime reads it: `30s`, `5m`, `1h 30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration: write a number with its unit, like 30s, 5m, 1h 30m or 2d"))
}

/// Formats a size in the form that a person would write.
pub(crate) fn format_size(bytes: u64) -> String {
    let exact = UNITS
        .iter()
        .rev()
        .find(|(name, factor)| name.contains('i') && bytes >= *factor && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{bytes} bytes"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Returns true if a text is probably a URL: the text begins with a scheme and `:/`, or with a scheme that needs no
/// slash.
pub(crate) fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let bare = ["file", "sqlite", "sqlite3", "postgres", "postgresql", "mysql", "mariadb", "jdbc", "data", "unix"];
    is_scheme && (rest.starts_with('/') || bare.contains(&scheme.to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64MiB", 64 << 20),
            ("100MB", 100_000_000),
            ("2 KiB", 2048),
            ("1kB", 1000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5GiB", "64M", "64mib", "99999999999TiB", "1 2"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(format_size(16 << 20), "16MiB");
        assert_eq!(format_size(1500), "1500 bytes");
    }

    #[test]
    fn rates_are_parsed_with_their_period() {
        let rate = |count, seconds| Ok(Rate { count, per: Duration::from_secs(seconds) });
        assert_eq!(parse_rate("10/s"), rate(10, 1));
        assert_eq!(parse_rate("600/min"), rate(600, 60));
        assert_eq!(parse_rate("5000 / h"), rate(5000, 3600));
        for bad in ["", "10", "0/s", "-1/s", "+1/s", "10/day", "x/s", "9999999999/s"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_bandwidth("100MiB/s"), Ok(100 << 20));
        for bad in ["100MiB", "100MiB/min", "fast", "/s"] {
            assert!(parse_bandwidth(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_their_unit() {
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(
            parse_duration("5 parsecs").unwrap_err(),
            r#""5 parsecs" is not a duration: write a number with its unit, like 30s, 5m, 1h 30m or 2d"#
        );
    }
}
