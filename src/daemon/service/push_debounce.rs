//! Debounce of push events, by entry. Each push is kept for a moment, since a push of one tag is often followed by
//! more: one run then covers them all.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::TagFilter;

/// Time from the first push of an entry until its run is due. A further push does not restart it, so a storm of pushes
/// never delays the run.
const DELAY: Duration = Duration::from_secs(1);

/// Entries that received pushes.
#[derive(Debug, Default)]
pub(crate) struct PushDebounce(BTreeMap<String, (Instant, Option<TagFilter>)>);

impl PushDebounce {
    /// Adds pushed tags; `None` if the tags cannot be named. Returns true if the entry was there already.
    pub(crate) fn add(&mut self, entry: String, only: Option<TagFilter>, now: Instant) -> bool {
        let known = self.0.remove(&entry);
        let was_there = known.is_some();
        let gathered = match known {
            Some((since, gathered)) => (since, TagFilter::union(gathered, only)),
            None => (now, only),
        };
        self.0.insert(entry, gathered);
        was_there
    }

    /// Removes and returns the entries whose moment is over.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(String, Option<TagFilter>)> {
        let is_due = |since: &Instant| now.duration_since(*since) >= DELAY;
        let due: Vec<String> =
            self.0.iter().filter(|(_, (since, _))| is_due(since)).map(|(entry, _)| entry.clone()).collect();
        due.into_iter()
            .filter_map(|entry| self.0.remove_entry(&entry))
            .map(|(entry, (_, only))| (entry, only))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(tag: &str) -> Option<TagFilter> {
        Some(TagFilter::from_tag("app".parse().unwrap(), tag.parse().unwrap()))
    }

    #[test]
    fn pushes_within_the_delay_are_one_run() {
        let mut debounce = PushDebounce::default();
        let start = Instant::now();
        assert!(!debounce.add("a".into(), tag("v1"), start));
        assert!(debounce.add("a".into(), tag("v2"), start + DELAY / 2));
        assert!(!debounce.add("b".into(), tag("v1"), start + DELAY / 2));
        assert_eq!(debounce.due(start + DELAY - Duration::from_millis(1)), []);
        assert_eq!(debounce.due(start + DELAY), [("a".into(), TagFilter::union(tag("v1"), tag("v2")))]);
        assert_eq!(debounce.due(start + DELAY), []);
        assert_eq!(debounce.due(start + 2 * DELAY), [("b".into(), tag("v1"))]);
    }
}
