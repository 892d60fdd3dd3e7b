//! Translation of `tags` of a mapping. A tag is copied if a verbatim tag, a range or a regular expression selects it;
//! `keep:` then removes tags, except verbatim ones. Each part that cannot be joined with another becomes an entry.

use super::super::pattern::{as_tag, translate_anchored};
use super::super::range::translate_dregsy;
use super::super::reading::quoted;
use crate::oci::{Digest, Tag};
use crate::plan::VersionRange;

/// Tags that one entry selects.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct TagSet {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) semver: Option<String>,
    pub(super) newest: Option<usize>,
    pub(super) comments: Vec<String>,
}

/// Rules of `tags`, by their kind.
#[derive(Default)]
struct Rules {
    verbatim: Vec<String>,
    ranges: Vec<String>,
    expressions: Vec<Filter>,
    keep: Vec<Filter>,
    newest: Option<usize>,
}

/// Regular expression, which after `!` selects the tags that it does not match.
struct Filter {
    /// Pattern in transship's syntax.
    pattern: String,
    is_inverted: bool,
}

/// Returns the tags of each entry, at least one set. With the Docker relay, a digest without a tag gets a tag of its
/// own.
///
/// # Errors
/// Returns the reason if the tags have no equivalent.
pub(super) fn translate_tags(tags: &[String], uses_docker: bool) -> Result<Vec<TagSet>, String> {
    let Rules { verbatim, ranges, expressions, keep, newest } = read_rules(tags)?;
    let (unwanted, wanted): (Vec<Filter>, Vec<Filter>) = keep.into_iter().partition(|filter| filter.is_inverted);
    let mut wanted = wanted.into_iter().map(|filter| filter.pattern);
    let (keep, exclude) = (wanted.next(), unwanted.into_iter().map(|filter| filter.pattern).collect::<Vec<_>>());
    if wanted.next().is_some() {
        return Err("several `keep:` must match one tag".to_owned());
    }
    let kept = TagSet { include: keep.iter().cloned().collect(), exclude, ..TagSet::default() };
    let mut sets = Vec::new();
    for range in &ranges {
        for range in translate_dregsy(range).ok_or_else(|| format!("the range {} has no equivalent", quoted(range)))? {
            let comments = vec![
                "dregsy includes pre-releases within the range and orders `1.2.3-slim` before `1.2.3`; transship \
                 does not."
                    .to_owned(),
            ];
            sets.push(TagSet { semver: Some(range.text), comments, ..kept.clone() });
        }
    }
    for Filter { pattern, is_inverted } in expressions {
        match (is_inverted, &keep) {
            (true, _) => {
                let exclude = [vec![pattern], kept.exclude.clone()].concat();
                sets.push(TagSet { exclude, ..kept.clone() });
            }
            (false, None) => sets.push(TagSet { include: vec![pattern], ..kept.clone() }),
            (false, Some(_)) => return Err("`regex:` and `keep:` must both match a tag".to_owned()),
        }
    }
    if sets.is_empty() && verbatim.is_empty() {
        sets.push(kept);
    }
    if let Some(newest) = newest {
        limit_count(&mut sets, &verbatim, newest)?;
    }
    if !verbatim.is_empty() {
        let include = verbatim.iter().map(|tag| translate_verbatim(tag, uses_docker)).collect::<Result<_, _>>()?;
        sets.push(TagSet { include, ..TagSet::default() });
    }
    Ok(sets)
}

fn read_rules(tags: &[String]) -> Result<Rules, String> {
    let mut rules = Rules::default();
    for tag in tags.iter().map(|tag| tag.trim()) {
        if let Some(range) = tag.strip_prefix("semver:") {
            rules.ranges.push(range.trim().to_owned());
        } else if let Some(expression) = tag.strip_prefix("regex:") {
            rules.expressions.push(read_filter(expression)?);
        } else if let Some(expression) = tag.strip_prefix("keep:") {
            match read_count(expression) {
                Some(count) => rules.newest = Some(count),
                None => rules.keep.push(read_filter(expression)?),
            }
        } else {
            rules.verbatim.push(tag.to_owned());
        }
    }
    Ok(rules)
}

fn read_filter(expression: &str) -> Result<Filter, String> {
    let expression = expression.trim();
    let (expression, is_inverted) = expression.strip_prefix('!').map_or((expression, false), |inner| (inner, true));
    let pattern = translate_anchored(expression)
        .ok_or_else(|| format!("the expression {} cannot be translated", quoted(expression)))?;
    Ok(Filter { pattern, is_inverted })
}

/// Reads `keep: latest 5`.
fn read_count(expression: &str) -> Option<usize> {
    let words: Vec<&str> = expression.split_ascii_whitespace().collect();
    let ["latest", count] = words.as_slice() else { return None };
    expression.starts_with(char::is_whitespace).then(|| count.parse().ok().filter(|count| *count > 0)).flatten()
}

/// Sets the maximum number of tags. dregsy counts only versions, and counts them in all parts together.
fn limit_count(sets: &mut [TagSet], verbatim: &[String], newest: usize) -> Result<(), String> {
    let every: VersionRange = ">=0.0.0-0".parse().map_err(|_| "no range".to_owned())?;
    let is_version = |tag: &String| tag.parse::<Tag>().is_ok_and(|tag| every.contains(&tag));
    match sets {
        [set] if set.semver.is_some() && !verbatim.iter().any(is_version) => {
            set.newest = Some(newest);
            Ok(())
        }
        _ => Err("`keep: latest` counts the versions of several rules together".to_owned()),
    }
}

/// Returns the digest of a verbatim tag, if it has one.
pub(super) fn find_digest(tag: &str) -> Option<&str> {
    let digest = tag.split_once('@').map_or(tag, |(_, digest)| digest);
    digest.starts_with("sha256:").then_some(digest)
}

fn translate_verbatim(tag: &str, uses_docker: bool) -> Result<String, String> {
    let invalid = || format!("{} is neither a tag nor a digest", quoted(tag));
    let Some(digest) = find_digest(tag) else { return as_tag(tag).ok_or_else(invalid) };
    let name = tag.split_once('@').map_or("", |(name, _)| name);
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if digest.parse::<Digest>().is_err() || (!name.is_empty() && name.parse::<Tag>().is_err()) {
        return Err(invalid());
    }
    // The Docker relay cannot push a digest without a tag, so dregsy gives it a tag.
    Ok(if name.is_empty() && uses_docker { format!("dregsy-{hex}@{digest}") } else { format!("{name}@{digest}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(tags: &[&str]) -> Result<Vec<TagSet>, String> {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        translate_tags(&tags, false)
            .map(|sets| sets.into_iter().map(|set| TagSet { comments: vec![], ..set }).collect())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn each_kind_of_rule_becomes_a_set_of_tags() {
        let found = sets(&["semver: >=1.31.0 <1.31.9", r"regex: 1\.26\.[0-9]-(glibc|musl)", "regex: !rc.*", "latest"]);
        let expected = vec![
            TagSet { semver: Some(">=1.31.0, <1.31.9".into()), ..TagSet::default() },
            TagSet { include: texts(&[r"re:1\.26\.[0-9]-(glibc|musl)"]), ..TagSet::default() },
            TagSet { exclude: texts(&["re:rc.*"]), ..TagSet::default() },
            TagSet { include: texts(&["latest"]), ..TagSet::default() },
        ];
        assert_eq!(found, Ok(expected));
        assert_eq!(sets(&[]), Ok(vec![TagSet::default()]));
    }

    #[test]
    fn keep_rules_prune_all_but_verbatim_tags() {
        let found = sets(&["latest", "semver: >=2.0.0", "keep: .+-(alpine|buster)", "keep: !.*rc.*"]);
        let expected = vec![
            TagSet {
                include: texts(&["re:.+-(alpine|buster)"]),
                exclude: texts(&["re:.*rc.*"]),
                semver: Some(">=2.0.0".into()),
                ..TagSet::default()
            },
            TagSet { include: texts(&["latest"]), ..TagSet::default() },
        ];
        assert_eq!(found, Ok(expected));
        for several in [&["keep: a.*", "keep: .*b"][..], &["regex: a.*", "keep: .*b"]] {
            assert!(sets(several).is_err(), "{several:?}");
        }
    }

    #[test]
    fn count_of_tags_needs_one_range_of_versions() {
        let found = sets(&["glibc-tests", "semver: >=1.34.0 <=1.36.0", "keep: latest 5"]).unwrap();
        assert_eq!((found[0].newest, found[1].newest), (Some(5), None));
        for other in [&["1.2.3", "semver: >=1.0.0", "keep: latest 5"][..], &["regex: v.*", "keep: latest 5"]] {
            assert!(sets(other).unwrap_err().contains("counts the versions"), "{other:?}");
        }
    }

    #[test]
    fn digest_keeps_its_tag_or_gets_one_from_the_docker_relay() {
        let digest = format!("sha256:{}", "1".repeat(64));
        let include = |tag: &str, docker| translate_tags(&[tag.to_owned()], docker).unwrap()[0].include[0].clone();
        assert_eq!(include(&digest, false), format!("@{digest}"));
        assert_eq!(include(&digest, true), format!("dregsy-{}@{digest}", "1".repeat(64)));
        assert_eq!(include(&format!("v1@{digest}"), true), format!("v1@{digest}"));
        assert!(sets(&["sha256:12"]).is_err() && sets(&["no tag"]).is_err());
    }
}
