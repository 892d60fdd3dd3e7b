//! Suggestions for error messages. If a source does not have a tag, this module finds tags of the source with a similar
//! name, such as `1.2.0` for `1.2.1`.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::OnceCell;

use crate::oci::Tag;
use crate::store::{Source, TagEntry};

/// Maximum number of suggested tags in a message.
const MAX_NEAR: usize = 3;

/// Maximum number of names that are read from the list of a source.
const MAX_LISTED: usize = 10_000;

/// Time limit of the list. The list only improves an error message, so the run does not wait for a slow source.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Tags of a source. The module lists the source at most once, at the first missing tag.
#[derive(Debug, Default)]
pub(crate) struct NearTags(OnceCell<Vec<Tag>>);

impl NearTags {
    /// Returns a clause for an error message with the tags of the source that are most similar to `missing`. Returns an
    /// empty text if no tag is similar, or if the source cannot be listed.
    pub(crate) async fn describe_near(&self, source: &dyn Source, missing: &Tag) -> String {
        let names = self.0.get_or_init(|| list_names(source)).await;
        describe(&find_near(missing, names))
    }
}

/// Returns the tags of a source: at most [`MAX_LISTED`] names, received within [`LIST_TIMEOUT`].
async fn list_names(source: &dyn Source) -> Vec<Tag> {
    let mut names = Vec::new();
    let list = async {
        let mut entries = source.tags().take(MAX_LISTED);
        while let Some(entry) = entries.next().await {
            match entry {
                Ok(TagEntry::Tag(tag, _) | TagEntry::Locked(tag, _)) => names.push(tag),
                Ok(TagEntry::Unusable(_) | TagEntry::Skipped(_)) => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot list the tags to name those near to a missing tag");
                    return;
                }
            }
        }
    };
    // After the time limit, the function returns the names that the source has sent so far.
    let _ = tokio::time::timeout(LIST_TIMEOUT, list).await;
    names
}

/// Returns a clause such as `; the nearest tag is v1`. If `near` is empty, returns an empty text.
fn describe(near: &[Tag]) -> String {
    let names: Vec<&str> = near.iter().map(Tag::as_str).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => format!("; the nearest tag is {only}"),
        [first @ .., last] => format!("; the nearest tags are {} and {last}", first.join(", ")),
    }
}

/// Returns at most [`MAX_NEAR`] tags that are similar to `missing`, the most similar tag first.
fn find_near(missing: &Tag, names: &[Tag]) -> Vec<Tag> {
    let mut ranked: Vec<(Distance, &Tag)> =
        names.iter().filter_map(|name| Some((distance(missing.as_str(), name.as_str())?, name))).collect();
    ranked.sort();
    ranked.into_iter().map(|(_, name)| name.clone()).take(MAX_NEAR).collect()
}

/// Distance between two names. The variants are in ascending order of distance.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    /// The names contain the same numbers, such as `v1.2.3` and `1.2.3`. The value is the number of edits between the
    /// names, here 1.
    SameNumbers(usize),
    /// The names differ only in their numbers, such as `1.2.3` and `1.2.4`. The values are the differences of the
    /// numbers, here 0, 0 and 1.
    Version(Vec<u64>),
    /// The names are similar as text. The value is the number of edits between the names.
    Text(usize),
}

/// Returns the distance between two names, or `None` if the names are not similar.
fn distance(wanted: &str, name: &str) -> Option<Distance> {
    let edits = strsim::osa_distance(wanted, name);
    let ((form, numbers), (name_form, name_numbers)) = (split_numbers(wanted), split_numbers(name));
    if !numbers.is_empty() && numbers == name_numbers && edits <= 2 {
        return Some(Distance::SameNumbers(edits));
    }
    if !numbers.is_empty() && form == name_form {
        let differences = numbers.iter().zip(&name_numbers).map(|(a, b)| a.abs_diff(*b));
        return Some(Distance::Version(differences.collect()));
    }
    (edits <= wanted.chars().count().div_ceil(4)).then_some(Distance::Text(edits))
}

/// Splits a name into its form and its numbers: `v1.20` gives `v#.#` and the numbers 1 and 20. If a number is too large
/// for `u64`, as in a commit hash, returns the whole name and no numbers.
fn split_numbers(name: &str) -> (String, Vec<u64>) {
    let (mut form, mut numbers) = (String::new(), Vec::new());
    let mut rest = name;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (digits, after) = number.split_at(end);
        let Ok(number) = digits.parse() else { return (name.to_owned(), Vec::new()) };
        form.push_str(before);
        form.push('#');
        numbers.push(number);
        rest = after;
    }
    form.push_str(rest);
    (form, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(missing: &str, names: &[&str]) -> Vec<String> {
        let names: Vec<Tag> = names.iter().map(|name| name.parse().unwrap()).collect();
        find_near(&missing.parse().unwrap(), &names).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nearest_versions_of_the_same_form_come_first() {
        let names = ["1.0.0", "1.1.0", "1.2.0", "1.2.0-slim", "2.0.0", "latest"];
        assert_eq!(near("1.2.1", &names), ["1.2.0", "1.1.0", "1.0.0"]);
        assert_eq!(near("1.3.0-slim", &names), ["1.2.0-slim"]);
        assert_eq!(near("v1.1.0", &names)[0], "1.1.0", "the prefix is the mistake");
    }

    #[test]
    fn misspelt_word_is_found_and_foreign_word_is_not() {
        let names = ["latest", "stable", "1.0"];
        assert_eq!(near("latets", &names), ["latest"]);
        assert_eq!(near("nightly", &names), Vec::<String>::new());
    }

    #[test]
    fn clause_names_up_to_three_tags() {
        let tags: Vec<Tag> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
        assert_eq!(describe(&tags), "; the nearest tags are a, b and c");
        assert_eq!(describe(&tags[..1]), "; the nearest tag is a");
        assert_eq!(describe(&[]), "");
    }
}
