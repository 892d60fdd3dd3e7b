//! Lines of a run's summary for the tags that have a problem. Tags with the same problem at the same target share one
//! line, and a second line lists these tags. The lines contain shortened digests; `--json` prints whole digests.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use crate::cli::output::units;
use crate::oci::Digest;
use crate::sync::{TagOutcome, TagReport};

/// Maximum number of tags that the second line of a group lists.
const MAX_NAMED: usize = 20;

/// Returns the lines for all tags that failed, conflict, or were held or blocked. If another tag keeps the previous
/// digest of a replaced tag, also returns a line for the replaced tag. The order of the groups is the order of their
/// first tags.
pub(super) fn format_problems(tags: &[TagReport]) -> Vec<String> {
    let mut groups: Vec<Vec<&TagReport>> = Vec::new();
    let mut places: HashMap<(Discriminant<TagOutcome>, String), usize> = HashMap::new();
    for tag in tags {
        match tag.failure_class() {
            None => groups.push(vec![tag]),
            Some(class) => {
                let place = *places.entry((discriminant(&tag.outcome), class)).or_insert(groups.len());
                match groups.get_mut(place) {
                    Some(group) => group.push(tag),
                    None => groups.push(vec![tag]),
                }
            }
        }
    }
    groups.iter().flat_map(|group| format_group(group)).collect()
}

fn format_group(group: &[&TagReport]) -> Vec<String> {
    let Some(first) = group.first() else { return Vec::new() };
    if group.len() == 1 {
        return format_line(first, &tag_or_digest(first), detail(first)).into_iter().collect();
    }
    let Some(line) = format_line(first, &format!("{} tags", group.len()), shared_detail(group)) else {
        return Vec::new();
    };
    let named: Vec<String> = group.iter().take(MAX_NAMED).map(|tag| tag_or_digest(tag)).collect();
    let further = group.len() - named.len();
    let further = if further > 0 { format!(" and {further} more (--json has all)") } else { String::new() };
    vec![line, format!("  {}{further}", named.join(", "))]
}

/// Returns the line for one tag or for a group of tags. Returns `None` if the outcome needs no line.
fn format_line(tag: &TagReport, subject: &str, detail: String) -> Option<String> {
    let target = &tag.target;
    match &tag.outcome {
        TagOutcome::Held { .. } => Some(format!("held {subject} at {target}: {detail}")),
        TagOutcome::Blocked { .. } => Some(format!("blocked {subject} at {target}: {detail}")),
        TagOutcome::Failed { .. } => Some(format!("failed {subject} at {target}: {detail}")),
        TagOutcome::Conflict { .. } => Some(format!("conflict of {subject} at {target}: {detail}")),
        TagOutcome::Replaced { previous, kept_as: Some(under) } => {
            Some(format!("{subject} at {target}: {} is kept as {under}", previous.short()))
        }
        // The summary contains one line for all deferred tags.
        TagOutcome::Deferred { .. }
        | TagOutcome::Copied
        | TagOutcome::Replaced { kept_as: None, .. }
        | TagOutcome::Unchanged => None,
    }
}

/// Returns the name of the tag. For a copy without a tag, returns the shortened digest, such as `@0123456789ab`.
pub(super) fn tag_or_digest(tag: &TagReport) -> String {
    units::tag_or_digest(tag.tag.as_ref(), tag.source_tag.as_ref(), tag.source_digest.or(tag.digest))
}

/// Returns the reason of a problem.
fn detail(tag: &TagReport) -> String {
    let reason = match &tag.outcome {
        TagOutcome::Held { reason } | TagOutcome::Blocked { reason } => reason,
        TagOutcome::Failed { message, .. } => message,
        TagOutcome::Conflict { entries } => {
            return match entries.as_slice() {
                [entry] => format!("the entry {entry} gives this name to several tags"),
                entries => format!("the entries {} claim it for different sources", entries.join(" and ")),
            };
        }
        _ => return String::new(),
    };
    shorten_digests(reason)
}

/// Returns the reason that all tags of a group share. Replaces words that differ between the tags, such as digests, by
/// `…`.
fn shared_detail(group: &[&TagReport]) -> String {
    let mut details = group.iter().map(|tag| detail_without_names(tag));
    let Some(first) = details.next() else { return String::new() };
    let mut words: Vec<String> = first.split(' ').map(str::to_owned).collect();
    for other in details {
        for (word, other) in words.iter_mut().zip(other.split(' ')) {
            if word != other {
                *word = mask(word);
            }
        }
    }
    // A masked name before a masked digest contains no information.
    words.join(" ").replace(" … (…)", "")
}

/// Replaces a word by `…`, and keeps the punctuation around the word.
fn mask(word: &str) -> String {
    let bare = word.trim_matches(['(', ')', ':', ',', ';']);
    word.replacen(bare, "…", 1)
}

/// Returns the reason of a problem, for a line that describes several tags. Omits the tag or digest of the failed step.
/// Omits the name of the target, because the line already contains this name.
fn detail_without_names(tag: &TagReport) -> String {
    let reason = detail(tag);
    let reason = reason.strip_prefix(&format!("target {}: ", tag.target)).unwrap_or(&reason);
    match &tag.outcome {
        TagOutcome::Failed { step: Some(step), subject: Some(subject), .. } => {
            let subject = shorten_digests(subject);
            reason.replacen(&format!("{step} {subject}: "), &format!("{step}: "), 1)
        }
        TagOutcome::Conflict { .. } => reason.replacen(" claim it ", " claim them ", 1),
        _ => reason.to_owned(),
    }
}

/// Shortens each digest in a text to its algorithm and its first twelve digits: `sha256:0123456789ab…`.
pub(super) fn shorten_digests(text: &str) -> String {
    let is_outside = |c: char| !c.is_ascii_alphanumeric() && c != ':';
    let shorten = |word: &str| {
        let bare = word.trim_end_matches(':');
        let digest: Digest = bare.parse().ok()?;
        Some(format!("{}:{}…{}", digest.algorithm(), digest.short(), &word[bare.len()..]))
    };
    let mut shortened = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_outside) {
        let word = piece.trim_end_matches(is_outside);
        shortened.push_str(shorten(word).as_deref().unwrap_or(word));
        shortened.push_str(&piece[word.len()..]);
    }
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_text_are_shortened_to_twelve_digits() {
        let digest = Digest::of(b"x");
        let text = format!("reading blob {digest}: got ({digest}), not h/r@{digest}; sha256:ab: no digest");
        let short = format!("sha256:{}…", digest.short());
        let expected = format!("reading blob {short}: got ({short}), not h/r@{short}; sha256:ab: no digest");
        assert_eq!(shorten_digests(&text), expected);
    }
}
