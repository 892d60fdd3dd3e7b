//! Regular expressions over tags, from the meaning that they have elsewhere into our patterns, which are about whole tags. Go's
//! syntax (RE2) is ours but for little; what our own reader refuses is not translated.

use super::page::plain;
use crate::config::may_not_be_told;
use crate::plan::Pattern;

/// regsync puts `^` before and `$` behind an expression, without a group: `a|b` begins with a or ends with b there.
pub(super) fn between_anchors(expression: &str) -> Option<String> {
    if has_branches(expression) {
        return checked(format!("re:.*(?:^{expression}$).*"));
    }
    let inner = expression.strip_prefix('^').unwrap_or(expression);
    whole(without_end(inner).unwrap_or(inner))
}

/// skopeo looks for an expression anywhere in a tag.
pub(super) fn anywhere(expression: &str) -> Option<String> {
    if has_branches(expression) || expression.starts_with("(?") {
        return checked(format!("re:.*(?:{expression}).*"));
    }
    let (before, inner) = expression.strip_prefix('^').map_or((".*", expression), |inner| ("", inner));
    let (inner, behind) = without_end(inner).map_or((inner, ".*"), |inner| (inner, ""));
    if before.is_empty() && behind.is_empty() { whole(inner) } else { checked(format!("re:{before}{inner}{behind}")) }
}

/// Whether these expressions are one tag each, and all of them are about repositories as a whole: `library/redis`.
pub(super) fn literal(expression: &str) -> Option<String> {
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

fn whole(expression: &str) -> Option<String> {
    match literal(expression) {
        Some(tag) => checked(tag),
        None if expression == ".*" => Some("*".to_owned()),
        None => checked(format!("re:{expression}")),
    }
}

fn checked(pattern: String) -> Option<String> {
    let good = pattern.parse::<Pattern>().is_ok() && !may_not_be_told(&pattern);
    good.then(|| plain(&pattern))
}

/// Without a `$` at its end that is no escaped one.
fn without_end(expression: &str) -> Option<&str> {
    let inner = expression.strip_suffix('$')?;
    let escapes = inner.len() - inner.trim_end_matches('\\').len();
    escapes.is_multiple_of(2).then_some(inner)
}

/// Whether there is a `|` outside of groups, classes and escapes.
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
                // A bracket right behind the opening one is a member.
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
            assert_eq!(between_anchors(expression).as_deref(), Some(pattern), "{expression}");
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
            assert_eq!(anywhere(expression).as_deref(), Some(pattern), "{expression}");
        }
        assert_eq!(between_anchors("("), None);
        assert_eq!(anywhere(r"\Qa.b\E"), None, "Go's quotation is unknown here");
    }

    proptest! {
        /// Both expressions over a small alphabet, asked about the same tags as in the other program.
        #[test]
        fn a_translated_expression_takes_the_same_tags(
            expression in r"(\^)?([ab1]|\.|\[ab\]|\(a\|b\)|\||a\*|\\\.|b\$){1,5}(\$)?",
            tags in proptest::collection::vec("[ab1][ab1.]{0,4}", 1..20),
        ) {
            let anchored = Regex::new(&format!("^{expression}$"));
            let loose = Regex::new(&expression);
            for (theirs, ours) in [(anchored, between_anchors(&expression)), (loose, anywhere(&expression))] {
                let (Ok(theirs), Some(ours)) = (theirs, ours) else { continue };
                // In the file a `$$` is a `$`.
                let ours = if ours.contains("$$") || ours.contains("${") { ours.replace("$$", "$") } else { ours };
                let ours: Pattern = ours.parse().unwrap();
                for tag in &tags {
                    prop_assert_eq!(theirs.is_match(tag), ours.matches(&tag.parse().unwrap()), "{} {} {}", expression, ours, tag);
                }
            }
        }
    }
}
