//! Body of a notification. `docs/reference/notifications.md` describes its fields. Every field has a maximum length.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Event;
use crate::oci::{Digest, Tag};

/// Version of the body's format.
const VERSION: u32 = 2;

/// Maximum number of items in a list. If a list has more items, the body contains only the number of the remaining
/// items.
const MAX_ITEMS: usize = 100;

/// Maximum number of characters in a text. A longer text is truncated.
const MAX_TEXT: usize = 2000;

/// Body of a notification.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Body<'a> {
    /// Version of the format: 2. The version increases when a field is removed or changes its meaning. Added fields do
    /// not change the version.
    version: u32,
    /// Type of the event.
    #[serde(rename = "type")]
    #[cfg_attr(test, schemars(with = "Event"))]
    event: &'static str,
    /// Time of the event.
    timestamp: DateTime<Utc>,
    /// Summary of the event in one sentence.
    text: String,
    /// Details of the event.
    data: &'a Data<'a>,
}

impl<'a> Body<'a> {
    /// Returns the body for an event that happened at `timestamp`. `text` summarizes the event in one sentence.
    #[must_use]
    pub fn new(event: Event, timestamp: DateTime<Utc>, text: &str, data: &'a Data<'a>) -> Self {
        Self { version: VERSION, event: event.word(), timestamp, text: shortened(text), data }
    }

    /// Returns the body as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Every value in the body can be serialized.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Details of an event.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Data<'a> {
    /// Name of the entry. Absent for events about the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<&'a str>,
    /// Path of the configuration file, for events about the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// Source of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Targets of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<List<String>>,
    /// Run whose end caused this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunFacts>,
    /// Problems of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<List<String>>,
    /// For a recovery: the time at which the failure began. If the receiver requests failures, the `timestamp` of the
    /// notification about the failure is the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<DateTime<Utc>>,
    /// Changed tags, for a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<List<Change>>,
    /// Tags that a rule, a lock or a limit withholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withheld: Option<List<Withheld>>,
}

/// First items of a list, and the number of remaining items.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct List<T> {
    /// First 100 items.
    items: Vec<T>,
    /// Number of items after the first 100.
    more: usize,
}

impl<T> List<T> {
    /// Creates a list from the first items, and counts the remaining items.
    pub fn from_items(all: impl IntoIterator<Item = T>) -> Self {
        let mut all = all.into_iter();
        let items: Vec<T> = all.by_ref().take(MAX_ITEMS).collect();
        Self { items, more: all.count() }
    }

    /// Returns the number of all items, including the items after the first 100.
    #[must_use]
    pub fn count(&self) -> usize {
        self.items.len() + self.more
    }

    /// Returns the first item.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.items.first()
    }
}

impl List<String> {
    /// Creates a list from texts, and shortens each text.
    pub fn from_texts<'t>(all: impl IntoIterator<Item = &'t str>) -> Self {
        Self::from_items(all.into_iter().map(shortened))
    }
}

/// Run that has ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunFacts {
    /// Number of the run in the journal. `None` if the journal could not record the run.
    pub id: Option<i64>,
    /// Start of the run.
    pub started: DateTime<Utc>,
    /// End of the run.
    pub ended: DateTime<Utc>,
    /// Outcome of the run: `succeeded`, `failed`, `deferred`, `interrupted` or `timed_out`.
    pub outcome: &'static str,
    /// Number of tags per outcome.
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, u64>"))]
    pub counts: serde_json::Value,
    /// Number of bytes sent.
    pub bytes: u64,
}

/// Tag or pinned digest that changed at a target.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    /// Source repository.
    pub source: String,
    /// Target repository.
    pub target: String,
    /// Tag. Absent for a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub tag: Option<Tag>,
    /// Digest that the target has now.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub digest: Option<Digest>,
    /// Digest at the source. If only some platforms of an index were copied, the digest at the target is different.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub source_digest: Option<Digest>,
    /// Digest of the tag before the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub previous: Option<Digest>,
    /// Tag under which the previous digest was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub kept_as: Option<Tag>,
}

/// Tag that a rule, a lock or a limit withholds.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Withheld {
    /// Source repository.
    pub source: String,
    /// Target repository.
    pub target: String,
    /// Tag. Absent for a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub tag: Option<Tag>,
    /// Digest that the target should get. `None` if this digest is unknown.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub digest: Option<Digest>,
    /// Outcome: `held` by a rule that may allow the tag later, `blocked` by a rule or by a lock of the target, or
    /// `deferred` by the pull limit of the source.
    pub outcome: &'static str,
    /// Rule, lock or limit that withholds the tag, in words.
    pub reason: String,
    /// For a deferred tag: the time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_the_rest_counted() {
        let texts = vec!["x".repeat(3 * MAX_TEXT); 250];
        let list = List::from_texts(texts.iter().map(String::as_str));
        assert_eq!((list.items.len(), list.more, list.count()), (100, 150, 250));
        assert_eq!(list.items[0].chars().count(), MAX_TEXT + 1);
        let data = Data { entry: Some("app"), problems: Some(list), ..Data::default() };
        let body = Body::new(Event::Failure, DateTime::UNIX_EPOCH, &"ü".repeat(5000), &data).json();
        assert!(body.len() < 300_000, "{}", body.len());
    }

    #[test]
    fn body_has_the_envelope_of_standard_webhooks() {
        let data = Data { entry: Some("app"), ..Data::default() };
        let body = Body::new(Event::Recovery, DateTime::UNIX_EPOCH, "app succeeds again", &data).json();
        assert_eq!(
            body,
            concat!(
                r#"{"version":2,"type":"recovery","timestamp":"1970-01-01T00:00:00Z","#,
                r#""text":"app succeeds again","data":{"entry":"app"}}"#
            )
        );
    }
}
