//! Text formats of the metrics: their content types, the choice by `Accept`, and the conversion from OpenMetrics to the
//! Prometheus text format.

/// Text format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus text format 0.0.4, which all scrapers read. It is the default.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// One media range of an `Accept` header with its quality.
struct MediaRange<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    /// Quality in thousandths.
    quality: u16,
}

impl TextFormat {
    /// Returns the format that a client prefers. `accept` is the value of the header `Accept`, empty without it.
    /// A client that prefers neither format, or that names no format of this program, gets the Prometheus text format.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let ranges: Vec<MediaRange<'_>> = accept.split(',').filter_map(MediaRange::parse).collect();
        if Self::OpenMetrics.quality(&ranges) > Self::Prometheus.quality(&ranges) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Returns the value of the header `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns the type, the subtype and the version of the media type.
    fn media_type(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Prometheus => ("text", "plain", "0.0.4"),
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        }
    }

    /// Returns the quality of the most specific range that includes this format (RFC 9110, section 12.5.1), in
    /// thousandths; 0 if no range includes the format.
    fn quality(self, ranges: &[MediaRange<'_>]) -> u16 {
        let including = ranges.iter().filter_map(|range| Some((range.specificity(self)?, range.quality)));
        including.max().map_or(0, |(_, quality)| quality)
    }
}

impl<'a> MediaRange<'a> {
    /// Parses one media range; `None` if the text is not a media range. Parameters other than `version` and `q` do not
    /// change the choice of the format.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self { kind, subtype, version: None, quality: 1000 };
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            match name.trim_end().to_ascii_lowercase().as_str() {
                "version" => range.version = Some(value.trim().trim_matches('"')),
                "q" => range.quality = thousandths(value.trim())?,
                _ => {}
            }
        }
        Some(range)
    }

    /// Returns the precision with which this range includes a format, from 0 for `*/*` to 3 for the type with its
    /// version; `None` if the range does not include the format.
    fn specificity(&self, format: TextFormat) -> Option<u8> {
        let (kind, subtype, version) = format.media_type();
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (ours, "*") if ours.eq_ignore_ascii_case(kind) => Some(1),
            (ours, theirs) if ours.eq_ignore_ascii_case(kind) && theirs.eq_ignore_ascii_case(subtype) => {
                match self.version {
                    None => Some(2),
                    Some(requested) => (requested == version).then_some(3),
                }
            }
            _ => None,
        }
    }
}

/// Parses a quality (RFC 9110, section 12.4.2) into thousandths; `None` if the text is not a quality.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Converts the OpenMetrics text of this program to the Prometheus text format 0.0.4. In that format, the name of a
/// family is the name of its samples, and an info is a gauge. Units and the mark of the end do not exist.
pub(super) fn convert_to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text.extend([line, "\n"]);
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), _, words) => help = words,
            (Some("TYPE"), Some(family), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                if let Some(help) = help.take() {
                    text.extend(["# HELP ", family, suffix, " ", help, "\n"]);
                }
                text.extend(["# TYPE ", family, suffix, " ", kind, "\n"]);
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::TextFormat::{OpenMetrics, Prometheus};
    use super::*;

    #[test]
    fn client_without_preference_gets_the_prometheus_format() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for accept in ["", "*/*", "text/*", browser, "application/json", "application/openmetrics-text, text/plain"] {
            assert_eq!(TextFormat::negotiate(accept), Prometheus, "{accept}");
        }
    }

    #[test]
    fn scraper_gets_the_format_of_highest_quality() {
        for (accept, expected) in [
            // Prometheus 2 and 3, Telegraf, and the Datadog agent.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
                 text/plain;version=0.0.4;q=0.3",
                Prometheus,
            ),
            ("text/plain", Prometheus),
            ("text/plain;version=0.0.4", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=1.000", OpenMetrics),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.501", OpenMetrics),
            ("application/*", OpenMetrics),
        ] {
            assert_eq!(TextFormat::negotiate(accept), expected, "{accept}");
        }
    }

    #[test]
    fn most_specific_range_decides_and_quality_zero_excludes() {
        let accept = "*/*, application/openmetrics-text;version=1.0.0;q=0";
        assert_eq!(TextFormat::negotiate(accept), Prometheus);
        assert_eq!(TextFormat::negotiate("*/*;q=0.9, text/plain;version=0.0.4;q=0.1"), OpenMetrics);
        assert_eq!(TextFormat::negotiate("text/plain;q=0, */*;q=0.1"), OpenMetrics);
    }

    #[test]
    fn unknown_version_or_unreadable_range_is_ignored() {
        for accept in [
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=1.5",
            "application/openmetrics-text;q=0.1234",
            "application/openmetrics-text;q=",
            "application/openmetrics-text;q=high, ;;;, /, nonsense",
        ] {
            assert_eq!(TextFormat::negotiate(accept), Prometheus, "{accept}");
        }
    }

    #[test]
    fn converted_text_has_names_and_types_of_the_prometheus_format() {
        let open_metrics = "# HELP a_build The version.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                            # HELP a_sent_bytes Bytes # sent.\n# TYPE a_sent_bytes counter\n# UNIT a_sent_bytes bytes\n\
                            a_sent_bytes_total{to=\"# TYPE\"} 5\n# HELP a_size Size.\n# TYPE a_size gauge\na_size 3\n\
                            # TYPE a_thing unknown\na_thing 2\n# EOF\n";
        let expected = "# HELP a_build_info The version.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                        # HELP a_sent_bytes_total Bytes # sent.\n# TYPE a_sent_bytes_total counter\n\
                        a_sent_bytes_total{to=\"# TYPE\"} 5\n# HELP a_size Size.\n# TYPE a_size gauge\na_size 3\n\
                        # TYPE a_thing untyped\na_thing 2\n";
        assert_eq!(convert_to_prometheus(open_metrics), expected);
    }
}
