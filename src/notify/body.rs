//! What a message says, field by field as `docs/notifications.md` describes it. Everything in it is bounded.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Event;
use crate::oci::{Digest, Tag};

/// The version of the form.
const VERSION: u32 = 1;

/// How many things a list names. What there is beyond is counted.
const LISTED: usize = 100;

/// How many characters of a text are told.
const LONGEST_TEXT: usize = 2000;

/// The whole body.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Body<'a> {
    /// The version of the form, 1. It grows when a field goes or means something else; fields that are added leave it.
    version: u32,
    /// What happened.
    #[serde(rename = "type")]
    #[cfg_attr(test, schemars(with = "Event"))]
    event: &'static str,
    /// When it happened.
    timestamp: DateTime<Utc>,
    /// All of it in one sentence.
    text: String,
    /// What it is about.
    data: &'a Data<'a>,
}

impl<'a> Body<'a> {
    /// What is told of an event that happened at `timestamp`; `text` is all of it in one sentence.
    #[must_use]
    pub fn new(event: Event, timestamp: DateTime<Utc>, text: &str, data: &'a Data<'a>) -> Self {
        Self { version: VERSION, event: event.word(), timestamp, text: shortened(text), data }
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Nothing in it refuses to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What it is about.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Data<'a> {
    /// The entry; absent where it is about the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<&'a str>,
    /// The configuration's file, where it is about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// The entry's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The entry's targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<List<String>>,
    /// The run at whose end this is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunFacts>,
    /// What went wrong, of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<List<String>>,
    /// When the failure was told, or would have been, of a recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<DateTime<Utc>>,
    /// What changed, of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<List<Change>>,
    /// What is held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<List<Held>>,
}

/// The first of many, and how many more there are.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct List<T> {
    /// The first 100.
    items: Vec<T>,
    /// How many there are beyond those.
    more: usize,
}

impl<T> List<T> {
    /// Of all of these.
    pub fn of(all: impl IntoIterator<Item = T>) -> Self {
        let mut all = all.into_iter();
        let items: Vec<T> = all.by_ref().take(LISTED).collect();
        Self { items, more: all.count() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.items.len() + self.more
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.items.first()
    }
}

impl List<String> {
    /// Of all of these, each shortened.
    pub fn of_texts<'t>(all: impl IntoIterator<Item = &'t str>) -> Self {
        Self::of(all.into_iter().map(shortened))
    }
}

/// A run that ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunFacts {
    /// Its number in the journal; absent where it could not be recorded.
    pub id: Option<i64>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it was over.
    pub ended: DateTime<Utc>,
    /// How it ended, in the journal's words.
    pub outcome: &'static str,
    /// What became of its tags, by the words for that.
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, u64>"))]
    pub counts: serde_json::Value,
    /// The bytes that it sent.
    pub bytes: u64,
}

/// A tag, or a pinned digest, that changed at a target.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    /// The source repository.
    pub source: String,
    /// The target repository.
    pub target: String,
    /// The tag; absent for a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub tag: Option<Tag>,
    /// The digest that the target has now.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub digest: Option<Digest>,
    /// The digest at the source: another one where an index was derived for some platforms.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub source_digest: Option<Digest>,
    /// The digest that the tag stood for before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub previous: Option<Digest>,
    /// The tag under which that one was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub kept_as: Option<Tag>,
}

/// A tag that is held back.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Held {
    /// The source repository.
    pub source: String,
    /// The target repository.
    pub target: String,
    /// The tag; absent for a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub tag: Option<Tag>,
    /// The digest that the target is to have, as far as that is known.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub digest: Option<Digest>,
    /// `refused` by a rule, `blocked` by a lock of the target, or `postponed` by the limit of its source.
    pub outcome: &'static str,
    /// Which rule or limit, in words.
    pub reason: String,
    /// When it is looked at again, where it is postponed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_and_texts_are_cut_and_what_is_left_out_is_counted() {
        let texts = vec!["x".repeat(3 * LONGEST_TEXT); 250];
        let list = List::of_texts(texts.iter().map(String::as_str));
        assert_eq!((list.items.len(), list.more, list.count()), (100, 150, 250));
        assert_eq!(list.items[0].chars().count(), LONGEST_TEXT + 1);
        let data = Data { entry: Some("app"), problems: Some(list), ..Data::default() };
        let body = Body::new(Event::Failure, DateTime::UNIX_EPOCH, &"ü".repeat(5000), &data).json();
        assert!(body.len() < 300_000, "{}", body.len());
    }

    #[test]
    fn a_body_has_the_envelope_of_the_standard() {
        let data = Data { entry: Some("app"), ..Data::default() };
        let body = Body::new(Event::Recovery, DateTime::UNIX_EPOCH, "app is well again", &data).json();
        assert_eq!(
            body,
            r#"{"version":1,"type":"recovery","timestamp":"1970-01-01T00:00:00Z","text":"app is well again","data":{"entry":"app"}}"#
        );
    }
}
