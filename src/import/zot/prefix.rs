//! Translation of a `prefix` of zot, a glob over names of repositories in the syntax of the Go library doublestar, into
//! patterns of `repositories`.

use super::super::pattern::validated_repositories;

/// Repositories that a `prefix` selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prefix {
    /// One repository.
    One(String),
    /// Repositories that a pattern matches.
    Many {
        /// Part of the prefix before the first segment with a wildcard; empty for none.
        base: String,
        /// Patterns over whole names; none for every repository.
        patterns: Vec<String>,
    },
}

/// Translates a prefix; `None` if it has no equivalent.
pub(super) fn translate_prefix(prefix: &str) -> Option<Prefix> {
    // zot ignores one slash at the start.
    let glob = prefix.strip_prefix('/').unwrap_or(prefix);
    if !glob.contains(['*', '?', '[', '{', '\\']) {
        return (!glob.is_empty()).then(|| Prefix::One(glob.to_owned()));
    }
    let segments: Vec<&str> = glob.split('/').collect();
    let is_plain = |segment: &&&str| !segment.contains(['*', '?', '[', '{', '\\']);
    let base = segments.iter().take_while(is_plain).copied().collect::<Vec<_>>().join("/");
    let patterns = match &segments[..] {
        ["**"] => Vec::new(),
        // The glob also matches the repository with the name before the stars.
        [.., "**"] if !base.is_empty() && segments.len() == base.split('/').count() + 1 => {
            vec![base.clone(), format!("{base}/*")]
        }
        _ => vec![format!("re:{}", to_expression(&segments)?)],
    };
    let patterns = patterns.into_iter().map(validated_repositories).collect::<Option<Vec<_>>>()?;
    Some(Prefix::Many { base, patterns })
}

/// Returns a regular expression over whole names. In the glob, `**` matches any number of segments, also none.
fn to_expression(segments: &[&str]) -> Option<String> {
    let mut expression = String::new();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        match *segment {
            "**" if at == 0 && !is_last => expression.push_str("(?:.*/)?"),
            "**" if is_last => {
                let slash = expression.pop().filter(|last| *last == '/')?;
                expression.push_str(&format!("(?:{slash}.*)?"));
            }
            "**" => expression.push_str("(?:.*/)?"),
            segment => {
                translate_segment(segment, &mut expression)?;
                if !is_last {
                    expression.push('/');
                }
            }
        }
    }
    Some(expression)
}

fn translate_segment(segment: &str, expression: &mut String) -> Option<()> {
    let mut depth = 0;
    for c in segment.chars() {
        match c {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '{' => {
                depth += 1;
                expression.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                expression.push(')');
            }
            ',' if depth > 0 => expression.push('|'),
            '[' | ']' | '\\' => return None,
            c => expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    (depth == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RepositoryPattern;

    #[test]
    fn prefix_becomes_patterns_that_match_the_same_names() {
        let names = ["repo1", "repo1/a", "repo1/a/b", "repo12", "x/repo1", "x/y/app", "team/app", "team/app-x"];
        for (prefix, expected) in [
            ("**", &names[..]),
            ("/repo1/**", &["repo1", "repo1/a", "repo1/a/b"]),
            ("repo1/*", &["repo1/a"]),
            ("/repo1*", &["repo1", "repo12"]),
            ("**/repo1", &["repo1", "x/repo1"]),
            ("x/**/app", &["x/y/app"]),
            ("{team,x}/**", &["x/repo1", "x/y/app", "team/app", "team/app-x"]),
            ("team/app?x", &["team/app-x"]),
        ] {
            let Some(Prefix::Many { patterns, .. }) = translate_prefix(prefix) else { panic!("{prefix}") };
            let patterns: Vec<RepositoryPattern> =
                patterns.iter().map(|pattern| pattern.replace("$$", "$").parse().unwrap()).collect();
            let is_match = |name: &&str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name));
            assert_eq!(names.iter().copied().filter(is_match).collect::<Vec<_>>(), expected, "{prefix} {patterns:?}");
        }
        assert_eq!(translate_prefix("/repo2/repo"), Some(Prefix::One("repo2/repo".into())));
        for other in ["repo[12]", "{a", "a\\*", "/"] {
            assert_eq!(translate_prefix(other), None, "{other}");
        }
    }
}
