//! Ranges of versions as other programs write them, in the words of our `semver`. They are one in what a range of releases is,
//! and differ in what a suffix means: see docs/import.md.

use super::page::plain;
use crate::plan::VersionRange;

/// A range in our words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) text: String,
    /// Whether a pre-release is named in it, by which other rules for pre-releases hold.
    pub(super) names_prerelease: bool,
}

/// A comparison of one range.
struct Comparison<'t> {
    operator: &'t str,
    version: &'t str,
}

/// regsync's: comparisons between spaces that must all hold, a missing part of a version being 0.
pub(super) fn regsync(range: &str) -> Option<Range> {
    let mut ours: Vec<String> = Vec::new();
    for part in range.split_whitespace() {
        let Comparison { operator, version } = comparison(part)?;
        let (numbers, suffix) = numbers(version)?;
        let [major, minor, patch] = filled(&numbers)?;
        let [next_major, next_minor, next_patch] = [major, minor, patch].map(|number| number.checked_add(1));
        let below = match operator {
            "^" if major > 0 => Some(format!("<{}.0.0", next_major?)),
            "^" if minor > 0 => Some(format!("<0.{}.0", next_minor?)),
            "^" => Some(format!("<0.0.{}", next_patch?)),
            "~" => Some(format!("<{major}.{}.0", next_minor?)),
            _ => None,
        };
        let operator = match operator {
            "^" | "~" => ">=",
            "" => "=",
            other => other,
        };
        ours.push(format!("{operator}{major}.{minor}.{patch}{suffix}"));
        ours.extend(below);
    }
    checked(ours)
}

/// skopeo's, which are those of a library of Go's (Masterminds/semver 3): alternatives between `||`, in each comparisons between
/// commas or spaces that must all hold. One range for each alternative.
pub(super) fn skopeo(ranges: &str) -> Option<Vec<Range>> {
    ranges.split("||").map(|range| checked(comparisons(range)?)).collect()
}

fn comparisons(range: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = range.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect();
    let mut ours = Vec::new();
    let mut rest = words.as_slice();
    while let [word, behind @ ..] = rest {
        let Comparison { operator, version } = comparison(word)?;
        let (version, behind) = match (version, behind) {
            ("", [version, behind @ ..]) => (*version, behind),
            (version, behind) => (version, behind),
        };
        rest = behind;
        if let ("", ["-", to, behind @ ..]) = (operator, behind) {
            ours.extend([skopeo_comparison(">=", version)?, skopeo_comparison("<=", to)?].into_iter().flatten());
            rest = behind;
        } else {
            ours.extend(skopeo_comparison(operator, version)?);
        }
    }
    Some(ours)
}

/// One comparison; `Some(None)` where it holds for every version.
#[expect(clippy::option_option, reason = "not understood, and nothing to say, are two things")]
fn skopeo_comparison(operator: &str, version: &str) -> Option<Option<String>> {
    let without_any = version.trim_end_matches(".*").trim_end_matches(".x").trim_end_matches(".X");
    let cut = without_any.len() < version.len();
    if matches!(without_any, "*" | "x" | "X") {
        return matches!(operator, "" | "=" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^").then_some(None);
    }
    let (numbers, suffix) = numbers(without_any)?;
    if numbers.len() > 3 || (!suffix.is_empty() && (cut || numbers.len() < 3)) {
        return None;
    }
    let operator = match operator {
        "" => "=",
        "=>" => ">=",
        "=<" => "<=",
        "~>" => "~",
        "!=" => return None,
        other => other,
    };
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    Some(Some(format!("{operator}{}{suffix}", numbers.join("."))))
}

fn comparison(word: &str) -> Option<Comparison<'_>> {
    let version = word.trim_start_matches(['<', '>', '=', '!', '~', '^']);
    let operator = &word[..word.len() - version.len()];
    let known = ["", "=", "!=", "<", ">", "<=", ">=", "=<", "=>", "~", "~>", "^"];
    known.contains(&operator).then_some(Comparison { operator, version })
}

/// The numbers of a version, and its pre-release with the `-` before it. A build behind `+` counts for nothing.
fn numbers(version: &str) -> Option<(Vec<u64>, &str)> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let version = version.split('+').next().unwrap_or_default();
    let (numbers, suffix) = version.split_at(version.find('-').unwrap_or(version.len()));
    let numbers: Option<Vec<u64>> = numbers
        .split('.')
        .map(|number| number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok()).flatten())
        .collect();
    Some((numbers?, suffix))
}

fn filled(numbers: &[u64]) -> Option<[u64; 3]> {
    let more = numbers.get(3..).unwrap_or_default();
    more.iter().all(|number| *number == 0).then(|| [0, 1, 2].map(|at| numbers.get(at).copied().unwrap_or(0)))
}

fn checked(comparisons: Vec<String>) -> Option<Range> {
    let text = if comparisons.is_empty() { "*".to_owned() } else { comparisons.join(", ") };
    text.parse::<VersionRange>().ok()?;
    Some(Range { names_prerelease: text.contains('-'), text: plain(&text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_regsync_name_all_three_numbers() {
        for (theirs, ours) in [
            (">=1.0.0 <2.0.0", ">=1.0.0, <2.0.0"),
            ("^1.2", ">=1.2.0, <2.0.0"),
            ("^0.3.1", ">=0.3.1, <0.4.0"),
            ("^0.0.3", ">=0.0.3, <0.0.4"),
            ("~1.2", ">=1.2.0, <1.3.0"),
            ("1.2", "=1.2.0"),
            (">v1.2-rc.1", ">1.2.0-rc.1"),
            ("<=3", "<=3.0.0"),
        ] {
            assert_eq!(regsync(theirs).map(|range| range.text).as_deref(), Some(ours), "{theirs}");
        }
        for bad in ["1.x", ">=1.0 || <0.5", "a", "1.2.3.4", "^18446744073709551615.0.0"] {
            assert_eq!(regsync(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_of_skopeo_keep_what_a_missing_number_means() {
        for (theirs, ours) in [
            (">= 3.12.0", ">=3.12.0"),
            (">=1.2, <3.0.0", ">=1.2, <3.0.0"),
            (">1.2 <3", ">1.2, <3"),
            ("1.2.x", "=1.2"),
            ("*", "*"),
            (">=1.0 *", ">=1.0"),
            ("1.2 - 3.4.5", ">=1.2, <=3.4.5"),
            ("~1.2.3 ^1", "~1.2.3, ^1"),
            ("~> v2.1", "~2.1"),
            (">=1.0.0-rc.1", ">=1.0.0-rc.1"),
        ] {
            let read = skopeo(theirs).unwrap();
            assert_eq!(read.iter().map(|range| range.text.as_str()).collect::<Vec<_>>(), [ours], "{theirs}");
        }
        let two: Vec<String> = skopeo("<1.0 || >=2, <3").unwrap().into_iter().map(|range| range.text).collect();
        assert_eq!(two, ["<1.0", ">=2, <3"]);
        assert!(skopeo(">=1.0.0-rc.1").unwrap()[0].names_prerelease);
        for bad in ["!=1.2.3", "foo", "1.2.3.4", "1 2 -", ">"] {
            assert_eq!(skopeo(bad), None, "{bad}");
        }
    }
}
