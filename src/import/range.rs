//! Translation of version ranges of other programs into `semver`. All programs agree on ranges of releases, but differ
//! in the meaning of a suffix: see docs/how-to/migrate.md.

use super::page::escape_variables;
use crate::plan::VersionRange;

/// Range in transship's syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) text: String,
    /// True if the range names a pre-release. Other rules for pre-releases apply to such a range.
    pub(super) names_prerelease: bool,
}

/// One comparison of a range.
struct Comparison<'t> {
    operator: &'t str,
    version: &'t str,
}

/// Translates a range of regsync: comparisons that are separated by spaces and must all hold. A missing part of a
/// version is 0.
pub(super) fn translate_regsync(range: &str) -> Option<Range> {
    let mut ours: Vec<String> = Vec::new();
    for part in range.split_whitespace() {
        let Comparison { operator, version } = split_comparison(part)?;
        let (numbers, suffix) = split_version(version)?;
        let [major, minor, patch] = three_numbers(&numbers)?;
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
    validated(ours)
}

/// Translates ranges of skopeo, in the syntax of a Go library (Masterminds/semver 3): alternatives that are separated
/// by `||`. An alternative has comparisons that are separated by commas or spaces and must all hold. Returns one range
/// for each alternative.
pub(super) fn translate_skopeo(ranges: &str) -> Option<Vec<Range>> {
    ranges.split("||").map(|range| validated(translate_comparisons(range)?)).collect()
}

/// Translates ranges of dregsy, in the syntax of a Go library (blang/semver): alternatives that are separated by `||`.
/// An alternative has comparisons of whole versions that must all hold. Returns one range for each alternative.
pub(super) fn translate_dregsy(ranges: &str) -> Option<Vec<Range>> {
    ranges.split("||").map(translate_whole_versions).collect()
}

fn translate_whole_versions(range: &str) -> Option<Range> {
    let mut ours = Vec::new();
    let mut operator = String::new();
    for word in range.split_whitespace() {
        let joined = std::mem::take(&mut operator) + word;
        let version = joined.trim_start_matches(['<', '>', '=', '!']);
        if version.is_empty() {
            operator = joined;
            continue;
        }
        let operator = match &joined[..joined.len() - version.len()] {
            "" | "=" | "==" => "=",
            known @ ("<" | ">" | "<=" | ">=") => known,
            _ => return None,
        };
        let (numbers, suffix) = split_version(version).filter(|(numbers, _)| numbers.len() == 3)?;
        ours.push(format!("{operator}{}.{}.{}{suffix}", numbers[0], numbers[1], numbers[2]));
    }
    validated(ours).filter(|range| operator.is_empty() && range.text != "*")
}

fn translate_comparisons(range: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = range.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect();
    let mut ours = Vec::new();
    let mut rest = words.as_slice();
    while let [word, behind @ ..] = rest {
        let Comparison { operator, version } = split_comparison(word)?;
        let (version, behind) = match (version, behind) {
            ("", [version, behind @ ..]) => (*version, behind),
            (version, behind) => (version, behind),
        };
        rest = behind;
        if let ("", ["-", to, behind @ ..]) = (operator, behind) {
            ours.extend([translate_comparison(">=", version)?, translate_comparison("<=", to)?].into_iter().flatten());
            rest = behind;
        } else {
            ours.extend(translate_comparison(operator, version)?);
        }
    }
    Some(ours)
}

/// Translates one comparison. Returns `Some(None)` if the comparison holds for every version.
#[expect(clippy::option_option, reason = "an unknown comparison and an empty one are two results")]
fn translate_comparison(operator: &str, version: &str) -> Option<Option<String>> {
    let without_any = version.trim_end_matches(".*").trim_end_matches(".x").trim_end_matches(".X");
    let cut = without_any.len() < version.len();
    if matches!(without_any, "*" | "x" | "X") {
        return matches!(operator, "" | "=" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^").then_some(None);
    }
    let (numbers, suffix) = split_version(without_any)?;
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

fn split_comparison(word: &str) -> Option<Comparison<'_>> {
    let version = word.trim_start_matches(['<', '>', '=', '!', '~', '^']);
    let operator = &word[..word.len() - version.len()];
    let known = ["", "=", "!=", "<", ">", "<=", ">=", "=<", "=>", "~", "~>", "^"];
    known.contains(&operator).then_some(Comparison { operator, version })
}

/// Splits a version into its numbers and its pre-release with the leading `-`. Ignores a build after `+`.
fn split_version(version: &str) -> Option<(Vec<u64>, &str)> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let version = version.split('+').next().unwrap_or_default();
    let (numbers, suffix) = version.split_at(version.find('-').unwrap_or(version.len()));
    let numbers: Option<Vec<u64>> = numbers
        .split('.')
        .map(|number| number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok()).flatten())
        .collect();
    Some((numbers?, suffix))
}

fn three_numbers(numbers: &[u64]) -> Option<[u64; 3]> {
    let more = numbers.get(3..).unwrap_or_default();
    more.iter().all(|number| *number == 0).then(|| [0, 1, 2].map(|at| numbers.get(at).copied().unwrap_or(0)))
}

fn validated(comparisons: Vec<String>) -> Option<Range> {
    let text = if comparisons.is_empty() { "*".to_owned() } else { comparisons.join(", ") };
    text.parse::<VersionRange>().ok()?;
    Some(Range { names_prerelease: text.contains('-'), text: escape_variables(&text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regsync_ranges_get_all_three_numbers() {
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
            assert_eq!(translate_regsync(theirs).map(|range| range.text).as_deref(), Some(ours), "{theirs}");
        }
        for bad in ["1.x", ">=1.0 || <0.5", "a", "1.2.3.4", "^18446744073709551615.0.0"] {
            assert_eq!(translate_regsync(bad), None, "{bad}");
        }
    }

    #[test]
    fn dregsy_ranges_need_whole_versions() {
        for (theirs, ours) in [
            (">=1.31.0 <1.31.9", ">=1.31.0, <1.31.9"),
            (" >= 1.0.0", ">=1.0.0"),
            ("1.2.3", "=1.2.3"),
            ("==1.2.3-rc.1", "=1.2.3-rc.1"),
        ] {
            let read = translate_dregsy(theirs).unwrap();
            assert_eq!(read.iter().map(|range| range.text.as_str()).collect::<Vec<_>>(), [ours], "{theirs}");
        }
        assert_eq!(translate_dregsy("<1.0.0 || >=2.0.0").map(|ranges| ranges.len()), Some(2));
        for bad in ["", ">=1.0", "!=1.2.3", "1.x", "^1.0.0", ">=", "1.0.0 ||"] {
            assert_eq!(translate_dregsy(bad), None, "{bad}");
        }
    }

    #[test]
    fn skopeo_ranges_keep_meaning_of_missing_numbers() {
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
            let read = translate_skopeo(theirs).unwrap();
            assert_eq!(read.iter().map(|range| range.text.as_str()).collect::<Vec<_>>(), [ours], "{theirs}");
        }
        let two: Vec<String> =
            translate_skopeo("<1.0 || >=2, <3").unwrap().into_iter().map(|range| range.text).collect();
        assert_eq!(two, ["<1.0", ">=2, <3"]);
        assert!(translate_skopeo(">=1.0.0-rc.1").unwrap()[0].names_prerelease);
        for bad in ["!=1.2.3", "foo", "1.2.3.4", "1 2 -", ">"] {
            assert_eq!(translate_skopeo(bad), None, "{bad}");
        }
    }
}
