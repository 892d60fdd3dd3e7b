//! Format of times and of lists of problems in every JSON output of the program. `docs/reference/json.md` documents the
//! fields.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// Formats a time by RFC 3339, in UTC with milliseconds: `2026-11-21T03:00:00.000Z`.
pub(crate) fn format_instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Serializes a time in the format of [`format_instant`], for `#[serde(serialize_with)]`.
pub(crate) fn instant<S: Serializer>(instant: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_instant(*instant))
}

/// Serializes an optional time in the format of [`format_instant`], for `#[serde(serialize_with)]`.
pub(crate) fn optional_instant<S: Serializer>(
    instant: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => serializer.serialize_some(&format_instant(*instant)),
        None => serializer.serialize_none(),
    }
}

/// Conversion of an optional text to a JSON list and back, for `#[serde(with)]` at fields with the name `problems`.
pub(crate) mod one_as_list {
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Serializes the text as a list with at most one item.
    pub(crate) fn serialize<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(text)
    }

    /// Returns the first item of the list.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
        Ok(Vec::<String>::deserialize(deserializer)?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Forms {
        #[serde(serialize_with = "instant")]
        started: DateTime<Utc>,
        #[serde(serialize_with = "optional_instant")]
        ended: Option<DateTime<Utc>>,
        #[serde(serialize_with = "optional_instant")]
        none: Option<DateTime<Utc>>,
        #[serde(with = "one_as_list")]
        problems: Option<String>,
    }

    #[test]
    fn instants_have_three_digits_whatever_their_precision() {
        let started = "2026-11-21T03:00:00.123456789Z".parse().unwrap();
        let ended = Some("2026-11-21T03:00:00Z".parse().unwrap());
        let forms = Forms { started, ended, none: None, problems: None };
        let expected = r#"{"started":"2026-11-21T03:00:00.123Z","ended":"2026-11-21T03:00:00.000Z","none":null"#;
        assert_eq!(serde_json::to_string(&forms).unwrap(), format!("{expected},\"problems\":[]}}"));
    }

    #[test]
    fn problem_is_a_list_and_parses_back_unchanged() {
        let started = "2026-11-21T03:00:00Z".parse().unwrap();
        let forms = Forms { started, ended: None, none: None, problems: Some("denied".to_owned()) };
        let json = serde_json::to_string(&forms).unwrap();
        assert!(json.ends_with(r#""problems":["denied"]}"#), "{json}");
        assert_eq!(serde_json::from_str::<Forms>(&json).unwrap(), forms);
    }
}
