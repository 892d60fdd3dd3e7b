//! Error for a name that no entry has.

/// Maximum length of a name for which the error suggests a similar name, in bytes.
const COMPARED: usize = 64;
/// Maximum number of names that the error lists.
const LISTED: usize = 20;

/// Error for a name that no entry has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no entry {name:?}{remedy}")]
pub struct UnknownEntry {
    name: String,
    remedy: String,
}

impl UnknownEntry {
    /// Creates the error. If one of `names` is similar, the error suggests this name. If not, the error lists the
    /// names.
    #[must_use]
    pub fn new(name: &str, names: &[&str]) -> Self {
        let remedy = match find_near(name, names) {
            _ if names.is_empty() => ": the configuration has no entries".to_owned(),
            Some(near) => format!(": did you mean {near:?}?"),
            None => {
                format!("; the entries are {}{}", names[..names.len().min(LISTED)].join(", "), count_more(names.len()))
            }
        };
        Self { name: name.chars().take(COMPARED).collect(), remedy }
    }
}

fn find_near<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    if name.len() > COMPARED {
        return None;
    }
    let distance = |other: &str| strsim::damerau_levenshtein(other, name);
    let nearest = names.iter().map(|other| (distance(other), *other)).min_by_key(|(distance, _)| *distance);
    nearest.filter(|(distance, _)| *distance <= 1 + name.len() / 4).map(|(_, other)| other)
}

fn count_more(count: usize) -> String {
    if count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_name_gets_a_guess_or_a_bounded_list() {
        let message = |name: &str, names: &[&str]| UnknownEntry::new(name, names).to_string();
        assert_eq!(message("x", &[]), r#"there is no entry "x": the configuration has no entries"#);
        assert_eq!(message("appp", &["api", "app"]), r#"there is no entry "appp": did you mean "app"?"#);
        assert_eq!(message("x", &["api", "app"]), r#"there is no entry "x"; the entries are api, app"#);
        let many = message(&"x".repeat(100_000), &["entry"; 500]);
        assert!(many.ends_with(", entry and 480 more") && many.len() < 300, "{many}");
    }
}
