//! Formats of sizes, durations and times for people, and a parser of times.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use indicatif::HumanDuration;

use crate::oci::{Digest, SignatureTag, Tag};

/// Returns a size such as `12.3 MiB`. A size below one KiB is exact.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // A floating-point number would round 1023.99 up to "1024.0".
    let (mut unit, mut divisor) = (0, 1024_u64);
    while count / divisor >= 1024 && unit + 1 < UNITS.len() {
        unit += 1;
        divisor *= 1024;
    }
    let tenths = u128::from(count) * 10 / u128::from(divisor);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Returns a duration such as `1h 2m 3s`. Below ten seconds, the duration has tenths. Below one second, the unit is
/// milliseconds.
pub(crate) fn span(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    if duration < Duration::from_secs(10) {
        return format!("{}.{}s", duration.as_secs(), duration.subsec_millis() / 100);
    }
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// Returns the duration from one time to a later one.
pub(crate) fn between(start: DateTime<Utc>, end: DateTime<Utc>) -> String {
    span((end - start).to_std().unwrap_or_default())
}

/// Returns a time such as `2026-11-21T03:00:00Z`.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns `in 7m` or `3m ago`. The page of the daemon shows times in the same form.
pub(crate) fn distance(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match (at - now).num_seconds() {
        0 => "now".to_owned(),
        1.. => format!("in {}", rounded(at, now)),
        _ => format!("{} ago", rounded(at, now)),
    }
}

/// Returns the duration between two times in one unit, rounded.
fn rounded(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (at - now).num_seconds().unsigned_abs();
    format!("{:#}", HumanDuration(Duration::from_secs(seconds)))
}

/// Form of times in sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// RFC 3339, for programs and files.
    Exact,
    /// Distance from this time, for people.
    RelativeTo(DateTime<Utc>),
}

impl Times {
    /// Returns `2026-11-21T03:00:00Z` or `3m ago`.
    pub(crate) fn show(self, at: DateTime<Utc>) -> String {
        match self {
            Self::Exact => moment(at),
            Self::RelativeTo(now) => distance(at, now),
        }
    }

    /// Returns `since 2026-11-21T03:00:00Z` or `for 3m`.
    pub(crate) fn since(self, at: DateTime<Utc>) -> String {
        match self {
            Self::Exact => format!("since {}", moment(at)),
            Self::RelativeTo(now) => format!("for {}", rounded(at.min(now), now)),
        }
    }

    /// Returns `until 2026-11-21T03:00:00Z` or `for another 3m`.
    pub(crate) fn until(self, at: DateTime<Utc>) -> String {
        match self {
            Self::Exact => format!("until {}", moment(at)),
            Self::RelativeTo(now) => format!("for another {}", rounded(at.max(now), now)),
        }
    }

    /// Returns a text such as `paused since 2026-11-21T03:00:00Z, until 2026-11-22T03:00:00Z`, or `paused for 3m, for
    /// another 1d`. A pause without an end has no second part.
    pub(crate) fn pause(self, since: DateTime<Utc>, until: Option<DateTime<Utc>>) -> String {
        let until = until.map(|until| format!(", {}", self.until(until))).unwrap_or_default();
        format!("paused {}{until}", self.since(since))
    }
}

/// Returns the name of a tag, with the name at the source if the two names differ. Without a tag, returns the shortened
/// digest, such as `@sha256:0123456789ab`, or `?` if the digest is unknown.
pub(crate) fn tag_or_digest(tag: Option<&Tag>, source_tag: Option<&Tag>, digest: Option<Digest>) -> String {
    match (tag, source_tag, digest) {
        (Some(name), Some(from), _) => format!("{name} (from {from})"),
        (Some(name), None, _) => name.to_string(),
        (None, _, Some(digest)) => format!("@{}", digest.short()),
        (None, _, None) => "?".to_owned(),
    }
}

/// Returns a tag for a table. In the tag of a signature, the digest is shortened.
pub(crate) fn tag_name(tag: &Tag) -> String {
    match SignatureTag::read(tag) {
        None => tag.to_string(),
        Some(signature) => {
            let (subject, name) = (signature.subject(), tag.as_str());
            let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
            let dot = if suffix.is_empty() { "" } else { "." };
            format!("{}-{}…{dot}{suffix}", subject.algorithm(), subject.short())
        }
    }
}

/// Time in the form that a person writes: a duration before now, a day, or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Duration before now, such as `7d`, `2h 30m` or `1 hour ago`.
    Ago(Duration),
    /// Midnight (UTC) of a day, this number of days before today: `today`, `yesterday`.
    DaysAgo(u32),
    /// Date (midnight in UTC) or time (RFC 3339).
    At(DateTime<Utc>),
}

impl When {
    /// Returns the time, relative to `now`.
    pub(crate) fn resolve(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::DaysAgo(days) => {
                let day = now.date_naive().checked_sub_days(chrono::Days::new(days.into()));
                day.unwrap_or(NaiveDate::MIN).and_time(chrono::NaiveTime::MIN).and_utc()
            }
            Self::Ago(ago) => {
                let ago = chrono::TimeDelta::from_std(ago).unwrap_or(chrono::TimeDelta::MAX);
                now.checked_sub_signed(ago).unwrap_or(DateTime::<Utc>::MIN_UTC)
            }
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "today" => return Ok(Self::DaysAgo(0)),
            "yesterday" => return Ok(Self::DaysAgo(1)),
            _ => {}
        }
        if let Ok(date) = text.parse::<NaiveDate>() {
            return Ok(Self::At(date.and_time(chrono::NaiveTime::MIN).and_utc()));
        }
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(at.to_utc()));
        }
        let duration = text.strip_suffix("ago").map_or(text, str::trim_end);
        humantime::parse_duration(duration).map(Self::Ago).map_err(|_| {
            "expected a duration before now (1h, 7d, \"2 days ago\"), today, yesterday, a date (2026-11-21) or a time \
             (2026-11-21T03:00:00Z)"
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_rounded_up() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1023.9 KiB"), (u64::MAX, "16383.9 PiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations_are_shown_in_useful_precision() {
        assert_eq!(span(Duration::from_micros(14_900)), "14ms");
        assert_eq!(span(Duration::from_millis(1290)), "1.2s");
        assert_eq!(span(Duration::from_millis(3_723_900)), "1h 2m 3s");
    }

    #[test]
    fn times_are_relative_for_people_and_exact_for_programs() {
        let at = |minute: u32| format!("2026-11-21T03:{minute:02}:00Z").parse::<DateTime<Utc>>().unwrap();
        let relative = Times::RelativeTo(at(10));
        assert_eq!([at(3), at(10), at(17)].map(|time| relative.show(time)), ["7m ago", "now", "in 7m"]);
        assert_eq!(relative.pause(at(3), Some(at(40))), "paused for 7m, for another 30m");
        let exact = "paused since 2026-11-21T03:03:00Z, until 2026-11-21T03:40:00Z";
        assert_eq!(
            (Times::Exact.pause(at(3), Some(at(40))).as_str(), relative.pause(at(3), None).as_str()),
            (exact, "paused for 7m")
        );
        assert_eq!(Times::Exact.show(at(3)), "2026-11-21T03:03:00Z");
    }

    #[test]
    fn signature_tag_is_shortened_in_tables() {
        let subject = crate::oci::Digest::of(b"x");
        let [signature, ..] = crate::oci::signature_tags(&subject);
        assert_eq!(tag_name(&signature), format!("sha256-{}….sig", subject.short()));
        assert_eq!(tag_name(&crate::oci::referrers_tag(&subject)), format!("sha256-{}…", subject.short()));
        assert_eq!(tag_name(&"3.12-slim".parse().unwrap()), "3.12-slim");
    }

    #[test]
    fn time_is_written_as_duration_day_or_timestamp() {
        let now: DateTime<Utc> = "2026-11-21T03:00:00Z".parse().unwrap();
        for (text, at) in [
            ("7d", "2026-11-14T03:00:00Z"),
            ("2h 30m", "2026-11-21T00:30:00Z"),
            ("1 hour ago", "2026-11-21T02:00:00Z"),
            ("2days ago", "2026-11-19T03:00:00Z"),
            ("today", "2026-11-21T00:00:00Z"),
            ("Yesterday", "2026-11-20T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T12:00:00+02:00", "2026-11-01T10:00:00Z"),
        ] {
            assert_eq!(moment(text.parse::<When>().unwrap().resolve(now)), at, "{text}");
        }
        for bad in ["tomorrow", "ago", "yesterday ago", "5"] {
            let refused = bad.parse::<When>().unwrap_err();
            assert!(refused.starts_with("expected a duration before now (1h, 7d"), "{bad}: {refused}");
        }
        assert_eq!(When::Ago(Duration::MAX).resolve(now), DateTime::<Utc>::MIN_UTC);
    }
}
