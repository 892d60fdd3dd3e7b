//! Debounce of push events, by entry. After the first push for an entry, the loop waits for a second before the loop
//! queues a run. The run then covers all pushes of this second.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::TagFilter;

/// Time from the first push of an entry until its run is queued. Later pushes do not extend this time.
const DELAY: Duration = Duration::from_secs(1);

/// Waiting pushes by entry: the time of the first push, and the pushed tags.
#[derive(Debug, Default)]
pub(crate) struct PushDebounce(BTreeMap<String, (Instant, Option<TagFilter>)>);

impl PushDebounce {
    /// Adds pushed tags of an entry; `None` means all tags of the entry. Returns true if pushes of the entry were
    /// waiting already.
    pub(crate) fn add(&mut self, entry: String, only: Option<TagFilter>, now: Instant) -> bool {
        let earlier = self.0.remove(&entry);
        let was_waiting = earlier.is_some();
        let waiting = match earlier {
            Some((since, tags)) => (since, TagFilter::union(tags, only)),
            None => (now, only),
        };
        self.0.insert(entry, waiting);
        was_waiting
    }

    /// Removes and returns the entries whose wait has ended, with the pushed tags.
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
