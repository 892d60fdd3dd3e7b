//! Source and target of an entry: their texts in transship's syntax, and the reasons why an entry cannot have them.

use super::draft::Entry;
use crate::config::{Endpoint, may_be_secret};

/// Sets the source and the target of an entry. Skips the entry if it cannot have them.
pub(super) fn set_ends(entry: &mut Entry, source: &str, target: &str) {
    let ends = [source, target].map(|text| text.parse::<Endpoint>().ok());
    if let [Some(source), Some(target)] = &ends {
        if source.is_same_place(target) {
            entry.skip("the target is the source");
        } else if matches!(source, Endpoint::Tree { .. }) && source.host() == target.host() {
            entry.skip("source and target are in one registry: write an entry for each repository");
        }
    } else {
        entry.skip("the source or the target cannot be translated");
    }
    let shown = |text: &str, end: &Option<Endpoint>| match end {
        Some(end) => end.to_string(),
        None if may_be_secret(text) => "***".to_owned(),
        None => text.to_owned(),
    };
    entry.source = shown(source, &ends[0]);
    entry.target = shown(target, &ends[1]);
}
