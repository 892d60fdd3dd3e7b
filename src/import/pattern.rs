//! Translation of regular expressions over tags into patterns, which always match whole tags. Go's syntax (RE2) is
//! almost the same; an expression that transship's own parser refuses is not translated.

use super::page::escape_variables;
use crate::config::may_be_secret;
use crate::oci::Tag;
use crate::plan::{Pattern, RepositoryPattern};

/// Translates an expression of regsync. regsync adds `^` and `$` without a group, so `a|b` matches every tag that
/// begins with `a` or ends with `b`.
pub(super) fn translate_anchored(expression: &str) -> Option<String> {
    if has_branches(expression) {
        return validated(format!("re:.*(?:^{expression}$).*"));
    }
    let inner = expression.strip_prefix('^').unwrap_or(expression);
    translate_whole_tag(strip_end_anchor(inner).unwrap_or(inner))
}

/// Translates an expression of skopeo, which matches anywhere in a tag.
pub(super) fn translate_unanchored(expression: &str) -> Option<String> {
    if has_branches(expression) || expression.starts_with("(?") {
        return validated(format!("re:.*(?:{expression}).*"));
    }
    let (before, inner) = expression.strip_prefix('^').map_or((".*", expression), |inner| ("", inner));
    let (inner, behind) = strip_end_anchor(inner).map_or((inner, ".*"), |inner| (inner, ""));
    if before.is_empty() && behind.is_empty() {
        translate_whole_tag(inner)
    } else {
        validated(format!("re:{before}{inner}{behind}"))
    }
}

/// Translates an expression of regsync or dregsy over whole names of repositories. Both add `^` and `$` without a
/// group.
pub(super) fn translate_repositories(expression: &str) -> Option<String> {
    if has_branches(expression) {
        return validated_repositories(format!("re:.*(?:^{expression}$).*"));
    }
    let inner = expression.strip_prefix('^').unwrap_or(expression);
    let inner = strip_end_anchor(inner).unwrap_or(inner);
    match as_literal(inner) {
        Some(name) => validated_repositories(name),
        None if inner == ".*" => Some("*".to_owned()),
        None => validated_repositories(format!("re:{inner}")),
    }
}

/// Returns the pattern in transship's syntax if transship's own parser accepts it.
pub(super) fn validated_repositories(pattern: String) -> Option<String> {
    let good = pattern.parse::<RepositoryPattern>().is_ok() && !may_be_secret(&pattern);
    good.then(|| escape_variables(&pattern))
}

/// Returns a literal tag in transship's syntax.
pub(super) fn as_tag(text: &str) -> Option<String> {
    text.parse::<Tag>().ok().map(|tag| tag.to_string())
}

/// Returns the only text that an expression without operators matches: a tag, or a repository such as `library/redis`.
pub(super) fn as_literal(expression: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = expression.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => text.push(rest.next().filter(|c| matches!(c, '.' | '-' | '_' | '/'))?),
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/') => text.push(c),
            _ => return None,
        }
    }
    (!text.is_empty()).then_some(text)
}

fn translate_whole_tag(expression: &str) -> Option<String> {
    match as_literal(expression) {
        Some(tag) => validated(tag),
        None if expression == ".*" => Some("*".to_owned()),
        None => validated(format!("re:{expression}")),
    }
}

fn validated(pattern: String) -> Option<String> {
    let good = pattern.parse::<Pattern>().is_ok() && !may_be_secret(&pattern);
    good.then(|| escape_variables(&pattern))
}

/// Removes a `$` at the end, unless it is escaped.
fn strip_end_anchor(expression: &str) -> Option<&str> {
    let inner = expression.strip_suffix('$')?;
    let escapes = inner.len() - inner.trim_end_matches('\\').len();
    escapes.is_multiple_of(2).then_some(inner)
}

/// Returns true if there is a `|` outside of groups, classes and escapes.
fn has_branches(expression: &str) -> bool {
    let (mut depth, mut class) = (0_usize, false);
    let mut characters = expression.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            ']' if class => class = false,
            _ if class => {}
            '[' => {
                class = true;
                // A bracket directly after the opening bracket is a member of the class.
                characters.next_if_eq(&'^');
                characters.next_if_eq(&']');
            }
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn simple_expressions_become_simple_patterns() {
        for (expression, pattern) in [
            ("latest", "latest"),
            (r"3\.12", "3.12"),
            (".*", "*"),
            (r"3\.\d+", r"re:3\.\d+"),
            (r"^v1$", "v1"),
            ("a|b", "re:.*(?:^a|b$).*"),
            ("(a|b)", "re:(a|b)"),
            ("[|]", "re:[|]"),
            (r"a\|b", r"re:a\|b"),
        ] {
            assert_eq!(translate_anchored(expression).as_deref(), Some(pattern), "{expression}");
        }
        for (expression, pattern) in [
            (r"^1\.13\.[12]-alpine-perl$", r"re:1\.13\.[12]-alpine-perl"),
            ("^v", "re:v.*"),
            ("slim$", "re:.*slim"),
            ("^v1$", "v1"),
            ("v1", "re:.*v1.*"),
            ("^a|b$", "re:.*(?:^a|b$).*"),
            ("(?i)RC", "re:.*(?:(?i)RC).*"),
        ] {
            assert_eq!(translate_unanchored(expression).as_deref(), Some(pattern), "{expression}");
        }
        assert_eq!(translate_anchored("("), None);
        assert_eq!(translate_unanchored(r"\Qa.b\E"), None, "Go's quotation is not supported");
    }

    proptest! {
        /// Asserts that both expressions match the same tags, over a small alphabet.
        #[test]
        fn translated_expression_matches_the_same_tags(
            expression in r"(\^)?([ab1]|\.|\[ab\]|\(a\|b\)|\||a\*|\\\.|b\$){1,5}(\$)?",
            tags in proptest::collection::vec("[ab1][ab1.]{0,4}", 1..20),
        ) {
            let anchored = (Regex::new(&format!("^{expression}$")), translate_anchored(&expression));
            let unanchored = (Regex::new(&expression), translate_unanchored(&expression));
            for (theirs, ours) in [anchored, unanchored] {
                let (Ok(theirs), Some(ours)) = (theirs, ours) else { continue };
                // In the file, `$$` stands for `$`.
                let ours = if ours.contains("$$") || ours.contains("${") { ours.replace("$$", "$") } else { ours };
                let ours: Pattern = ours.parse().unwrap();
                for tag in &tags {
                    let (is_match, tag) = (theirs.is_match(tag), tag.parse().unwrap());
                    prop_assert_eq!(is_match, ours.matches(&tag), "{} {} {}", expression, ours, tag);
                }
            }
        }
    }
}
