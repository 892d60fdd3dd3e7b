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

/// Quotes of a word processor. YAML reads these characters as ordinary text.
const CURLY_QUOTES: [char; 6] = ['“', '”', '„', '‘', '’', '‚'];

/// Parses a size: `64MiB`, `100MB` or plain bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    read_size(text).ok_or_else(|| match suggest_sizes(text).as_slice() {
        [] => format!("{text:?} is not a size: write bytes, or a whole number with kB, MB, GB, KiB, MiB, GiB or TiB"),
        sizes => format!("{text:?} is not a size: write {}", sizes.join(" or ")),
    })
}

fn read_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Returns the valid sizes that an invalid size may mean: `128MB` and `128MiB` for `128M`, `1536MiB` for `1.5GiB`.
fn suggest_sizes(text: &str) -> Vec<String> {
    let Some((thousandths, unit)) = split_number(text) else { return Vec::new() };
    let lower = unit.to_ascii_lowercase();
    let mut letters = lower.strip_suffix('b').unwrap_or(&lower).chars();
    let prefix = letters.next();
    let systems: &[(&str, u64)] = match letters.as_str() {
        "i" => &[("iB", 1 << 10)],
        "" if lower.ends_with('b') => &[("B", 1000)],
        "" => &[("B", 1000), ("iB", 1 << 10)],
        _ => return Vec::new(),
    };
    let Some(power) = prefix.and_then(|prefix| "kmgt".find(prefix)) else { return Vec::new() };
    let number = |base: u64| {
        // A fraction of a unit is a whole number of the next smaller unit.
        if thousandths.is_multiple_of(1000) {
            return Some((thousandths / 1000, power));
        }
        let smaller = thousandths.checked_mul(base)?;
        Some((smaller / 1000, power.checked_sub(1)?)).filter(|_| smaller.is_multiple_of(1000))
    };
    let size = |(unit, base): &(&str, u64)| {
        let (number, power) = number(*base)?;
        let prefix = if *unit == "B" { ["k", "M", "G", "T"] } else { ["K", "M", "G", "T"] }[power];
        Some(format!("{number}{prefix}{unit}")).filter(|size| read_size(size).is_some())
    };
    systems.iter().filter_map(size).collect()
}

/// Splits a number with at most three decimal places from its unit. Returns the number in thousandths.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = format!("{fraction:0<3}");
    let whole = whole.parse::<u64>().ok()?.checked_mul(1000)?;
    Some((whole.checked_add(fraction.parse().ok().filter(|_| fraction.len() == 3)?)?, unit.trim()))
}

/// Parses a bandwidth in bytes per second: `100MiB/s`.
pub(crate) fn parse_bandwidth(text: &str) -> Result<u64, String> {
    let read = text.strip_suffix("/s").and_then(|amount| read_size(amount.trim_end()));
    read.ok_or_else(|| match (bits_to_bytes(text), suggest_bandwidths(text).as_slice()) {
        (Some(bytes), _) => format!("{text:?} counts bits, and a bandwidth counts bytes: write {bytes}/s"),
        (None, []) => format!("{text:?} is not a bandwidth: write bytes per second, like 100MiB/s"),
        (None, rates) => format!("{text:?} is not a bandwidth: write {}", rates.join(" or ")),
    })
}

/// Returns the valid bandwidths that an invalid bandwidth may mean: `50MB/s` for `50MB`.
fn suggest_bandwidths(text: &str) -> Vec<String> {
    let amount = text.strip_suffix("/s").unwrap_or(text).trim_end();
    let is_size = read_size(amount).is_some() && !amount.ends_with(|c: char| c.is_ascii_digit());
    let sizes = if is_size { vec![amount.to_owned()] } else { suggest_sizes(amount) };
    sizes.into_iter().map(|size| format!("{size}/s")).collect()
}

/// Returns the bytes of a number of bits, in decimal units: `12500kB` for `100Mbit/s`.
fn bits_to_bytes(text: &str) -> Option<String> {
    let (thousandths, unit) = split_number(text)?;
    let (prefix, rest) = unit.split_at_checked(1)?;
    if !["bit", "bits", "bit/s", "bits/s", "bps", "b/s"].contains(&rest) {
        return None;
    }
    let factor = 1000_u64.pow(u32::try_from("kmgt".find(&prefix.to_ascii_lowercase())?).ok()?);
    let bytes = thousandths.checked_mul(factor)? / 8;
    let (unit, factor) = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("B", 1)]
        .into_iter()
        .find(|(_, factor)| bytes.is_multiple_of(*factor))?;
    Some(format!("{}{unit}", bytes / factor))
}

/// Returns true if a text begins or ends with a quote of a word processor.
pub(crate) fn has_curly_quotes(text: &str) -> bool {
    text.starts_with(CURLY_QUOTES) || text.ends_with(CURLY_QUOTES)
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
        let message = |text: &str| parse_size(text).unwrap_err();
        assert_eq!(message("128M"), r#""128M" is not a size: write 128MB or 128MiB"#);
        assert_eq!(message("64mib"), r#""64mib" is not a size: write 64MiB"#);
        assert_eq!(message("1.5GiB"), r#""1.5GiB" is not a size: write 1536MiB"#);
        assert!(message("64xB").ends_with("write bytes, or a whole number with kB, MB, GB, KiB, MiB, GiB or TiB"));
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
        for (bad, remedy) in [
            ("100MiB", "is not a bandwidth: write 100MiB/s"),
            ("50M/s", "is not a bandwidth: write 50MB/s or 50MiB/s"),
            ("100Mbit/s", "counts bits, and a bandwidth counts bytes: write 12500kB/s"),
            ("1gbps", "counts bits, and a bandwidth counts bytes: write 125MB/s"),
            ("100MiB/min", "is not a bandwidth: write bytes per second, like 100MiB/s"),
            ("fast", "is not a bandwidth: write bytes per second, like 100MiB/s"),
            ("/s", "is not a bandwidth: write bytes per second, like 100MiB/s"),
        ] {
            assert_eq!(parse_bandwidth(bad), Err(format!("{bad:?} {remedy}")));
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
