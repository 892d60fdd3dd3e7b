//! Groups of failing entries with the same cause. For example, if many entries fail because of one wrong password, the
//! page shows one line.
//!
//! The journal stores the error of a run only as text, in the form `SIDE PLACE: STEP SUBJECT: DETAIL`. This file
//! replaces the names that differ between entries, such as repositories, by `…`. Two errors with the same registry and
//! the same remaining detail have the same cause.

use super::condition::is_failing;
use crate::oci::{Digest, RegistryHost};
use crate::status::{EntryState, Snapshot};

/// Maximum length of a title, in characters. The page also shows the complete error.
const LONGEST_TITLE: usize = 140;

/// Minimum number of digits of a masked number. HTTP status codes are shorter, so the title shows them.
const MASKED_DIGITS: usize = 4;

/// Cause of the failures of one or several entries.
#[derive(Debug)]
pub(super) struct Cause<'s> {
    /// The cause in one line, such as `127.0.0.1:5000 rejects bot`.
    pub(super) title: String,
    /// The entries, the latest failure first.
    pub(super) entries: Vec<&'s EntryState>,
    /// The complete error of one of the entries. `None` if no entry has an error text.
    pub(super) error: Option<&'s str>,
}

/// Groups the failing entries by cause. The cause with the most entries comes first. If two causes have the same number
/// of entries, the cause with the latest failure comes first.
pub(super) fn group_failures(snapshot: &Snapshot) -> Vec<Cause<'_>> {
    let mut failing: Vec<&EntryState> = snapshot.entries.iter().filter(|entry| is_failing(entry)).collect();
    failing.sort_by_key(|entry| std::cmp::Reverse(entry.last_failure));
    let mut causes: Vec<Cause<'_>> = Vec::new();
    for entry in failing {
        let error = entry.last_run.as_ref().and_then(|run| run.error.as_deref());
        let title = build_title(entry, error, snapshot);
        match causes.iter_mut().find(|cause| cause.title == title) {
            Some(cause) => {
                cause.entries.push(entry);
                cause.error = cause.error.or(error);
            }
            None => causes.push(Cause { title, entries: vec![entry], error }),
        }
    }
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.entries.len()));
    causes
}

/// Error of a run, parsed from its text.
struct RunError<'e> {
    /// The registry. `None` if the error names no registry.
    registry: Option<&'e str>,
    /// The cause, without the place and the step.
    detail: &'e str,
}

impl<'e> RunError<'e> {
    fn parse(text: &'e str) -> Self {
        let text = text.trim();
        let without_side = text.strip_prefix("source ").or_else(|| text.strip_prefix("target ")).unwrap_or(text);
        let Some((place, rest)) = without_side.split_once(": ") else {
            return Self { registry: None, detail: text };
        };
        if place.contains(char::is_whitespace) {
            return Self { registry: None, detail: text };
        }
        let host = place.split('/').next().unwrap_or(place);
        let is_registry = (host == "localhost" || host.contains(['.', ':'])) && host.parse::<RegistryHost>().is_ok();
        let registry = is_registry.then_some(host);
        Self { registry, detail: rest.split_once(": ").map_or(rest, |(_, detail)| detail) }
    }

    /// Returns true if the registry or its token service did not accept the credentials.
    fn is_rejected_login(&self) -> bool {
        let has_word = |word: &str| self.detail.split(|c: char| !c.is_alphanumeric()).any(|part| part == word);
        has_word("401") || has_word("UNAUTHORIZED") || self.detail.starts_with("the registry refused ")
    }
}

fn build_title(entry: &EntryState, error: Option<&str>, snapshot: &Snapshot) -> String {
    let Some(error) = error else {
        let outcome = entry.last_run.as_ref().map_or("failed", |run| run.outcome.as_str());
        return format!("the run {}", outcome.replace('_', " "));
    };
    let parsed = RunError::parse(error);
    // A remedy follows the first semicolon. The page shows the remedy in the complete error.
    let cause = parsed.detail.split("; ").next().unwrap_or_default();
    let title = match parsed.registry {
        Some(registry) if parsed.is_rejected_login() => {
            format!("{registry} rejects {}", find_identity(registry, parsed.detail, snapshot))
        }
        Some(registry) => {
            let detail = mask_names(cause, entry);
            if detail.contains(registry) { detail } else { format!("{registry}: {detail}") }
        }
        None => mask_names(cause, entry),
    };
    shorten(&title)
}

/// Returns the identity that the registry rejects. Prefers the identity that the error names. If the error names no
/// identity, and the daemon uses only one identity at the registry, returns this identity.
fn find_identity(registry: &str, detail: &str, snapshot: &Snapshot) -> String {
    let used = snapshot.registries.iter().find(|state| state.registry == registry);
    let identities = used.map_or(&[][..], |state| &state.identities);
    let is_named = |identity: &&String| detail.split([' ', ',', ';']).any(|word| word == identity.as_str());
    match (identities.iter().find(is_named), identities) {
        (Some(named), _) => named.clone(),
        (None, [only]) if only == "anonymous" => "requests without credentials".to_owned(),
        (None, [only]) => only.clone(),
        (None, _) => "the credentials".to_owned(),
    }
}

/// Masks words that can differ between entries with the same cause: digests, paths, repositories and long numbers.
fn mask_names(detail: &str, entry: &EntryState) -> String {
    let repositories: Vec<&str> = std::iter::once(&entry.source)
        .chain(&entry.targets)
        .filter_map(|place| place.split_once('/').map(|(_, repository)| repository.trim_end_matches("/**")))
        .filter(|repository| !repository.is_empty())
        .collect();
    let mask = |word: &str| {
        let bare = word.trim_matches(['(', ')', ':', ',', ';', '"', '`', '.']);
        let is_count = bare.len() >= MASKED_DIGITS && bare.bytes().all(|byte| byte.is_ascii_digit());
        let is_masked = bare.parse::<Digest>().is_ok()
            || bare.starts_with('/')
            || is_count
            || repositories.iter().any(|repository| bare.contains(repository));
        if is_masked { word.replacen(bare, "…", 1) } else { word.to_owned() }
    };
    detail.split_whitespace().map(mask).collect::<Vec<_>>().join(" ")
}

fn shorten(title: &str) -> String {
    match title.char_indices().nth(LONGEST_TITLE) {
        Some((end, _)) => format!("{}…", title[..end].trim_end()),
        None => title.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::{second, working};

    /// Returns a snapshot with one failing entry for each error. The first entry has the latest failure.
    fn failing(errors: &[&str]) -> Snapshot {
        let mut snapshot = working();
        let entry = snapshot.entries.remove(0);
        for (number, error) in errors.iter().enumerate() {
            let mut entry = entry.clone();
            entry.name = format!("app{number}");
            entry.source = format!("127.0.0.1:5000/team/app{number}");
            entry.targets = vec![format!("prod.example/cache/app{number}")];
            entry.last_failure = Some(second(-(number as i64)));
            entry.last_run.as_mut().unwrap().error = Some((*error).to_owned());
            snapshot.entries.push(entry);
        }
        snapshot.registries[0].registry = "127.0.0.1:5000".into();
        snapshot.registries[0].identities = vec!["bot".into()];
        snapshot
    }

    fn titles(snapshot: &Snapshot) -> Vec<(String, usize)> {
        group_failures(snapshot).into_iter().map(|cause| (cause.title, cause.entries.len())).collect()
    }

    #[test]
    fn one_wrong_password_is_one_cause_in_any_wording() {
        let refused =
            "the registry refused bot (password from the file /run/bot): check the user name and the password";
        let first = format!("source 127.0.0.1:5000/team/app0: listing tags: 401 Unauthorized; {refused}");
        let again = format!(
            "source 127.0.0.1:5000/team/app1: listing tags: 401 Unauthorized, UNAUTHORIZED: authentication required; \
             {refused}"
        );
        let resolving = "127.0.0.1:5000/team/app2: resolving v1: 401 Unauthorized";
        let snapshot = failing(&[&first, &again, resolving]);
        assert_eq!(titles(&snapshot), [("127.0.0.1:5000 rejects bot".to_owned(), 3)]);
        assert_eq!(group_failures(&snapshot)[0].error, Some(first.as_str()));
    }

    #[test]
    fn title_contains_the_cause_without_its_remedy() {
        let error = "source 127.0.0.1:5000/team/app0: listing tags: 404 Not Found, NAME_UNKNOWN; check the name";
        assert_eq!(titles(&failing(&[error])), [("127.0.0.1:5000: 404 Not Found, NAME_UNKNOWN".to_owned(), 1)]);
    }

    #[test]
    fn names_that_differ_do_not_separate_one_cause() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let opened = |number: u32| {
            let digest = digest(&number.to_string());
            format!(
                "target prod.example/cache/app{number}: opening an upload of blob {digest}: 405 Method Not Allowed: \
                 prod.example/cache/app{number} has {digest} after 50000{number} bytes"
            )
        };
        let (a, b) = (opened(0), opened(1));
        let title = "prod.example: 405 Method Not Allowed: … has … after … bytes".to_owned();
        assert_eq!(titles(&failing(&[&a, &b])), [(title, 2)]);
    }

    #[test]
    fn different_registries_and_details_are_different_causes() {
        let snapshot = failing(&[
            "source 127.0.0.1:5000/team/app0: listing tags: http://127.0.0.1:5000 refused the connection",
            "source docker.io/team/app1: listing tags: 401 Unauthorized",
            "source 127.0.0.1:5000/team/app2: resolving v1: http://127.0.0.1:5000 refused the connection",
            "the run took longer than its timeout",
        ]);
        let expected = [
            ("http://127.0.0.1:5000 refused the connection", 2),
            ("docker.io rejects the credentials", 1),
            ("the run took longer than its timeout", 1),
        ];
        assert_eq!(titles(&snapshot), expected.map(|(title, count)| (title.to_owned(), count)));
    }

    #[test]
    fn endless_error_has_short_title() {
        let snapshot = failing(&[&"denied ".repeat(1000)]);
        assert!(titles(&snapshot)[0].0.chars().count() <= LONGEST_TITLE + 1);
    }
}
