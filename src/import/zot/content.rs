//! Translation of the contents of a registry: repositories, their names at the target, and their tags. For each
//! repository, the first content whose `prefix` matches applies.

use super::super::draft::{Draft, Entry};
use super::super::ends::set_ends;
use super::super::pattern::translate_unanchored;
use super::super::reading::{Fields, Reading, View, quoted};
use super::super::treatment::unsupported_keys;
use super::keys;
use super::prefix::{Prefix, translate_prefix};
use super::upstream::{Upstream, fold};
use crate::plan::RepositoryPattern;

/// Tags that zot reads as versions (Masterminds/semver, loose form).
const VERSIONS: &str = r"re:v?[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?";

/// Adds an entry for each content. A registry without contents is never polled.
pub(super) fn add_contents(
    view: &View<'_>,
    fields: &Fields<'_>,
    upstream: &Upstream<'_>,
    draft: &mut Draft,
    reading: &mut Reading,
) {
    let contents = fields.get("content").map(|view| reading.items(view, "`content`")).unwrap_or_default();
    if contents.is_empty() {
        let mut entry = upstream.entry.clone();
        let host = upstream.host.in_reference();
        set_ends(&mut entry, &format!("{host}/**"), &format!("{}/**", upstream.target.place()));
        if entry.skipped.is_none() {
            entry.skip("zot never polls a registry without `content`");
        }
        return add_entry(draft, entry, view, reading);
    }
    let mut earlier: Vec<Prefix> = Vec::new();
    for view in contents {
        let fields = fold(reading.fields(&view, "a content"), &keys::CONTENT);
        let mut entry = upstream.entry.clone();
        let unknown = reading.unknown;
        entry.comments.extend(unsupported_keys(&fields, &[&keys::CONTENT], "a content", reading));
        let Some(written) = reading.text_of(&fields, "prefix") else {
            reading.add_error(&view, "a content needs `prefix`");
            continue;
        };
        let prefix = translate_prefix(&written);
        match &prefix {
            Some(prefix) => {
                set_repositories(&mut entry, prefix, &fields, upstream, reading);
                exclude_earlier(&mut entry, prefix, &earlier);
            }
            None => {
                set_ends(&mut entry, &format!("{}/**", upstream.host.in_reference()), "");
                entry.skip(format!("the prefix {} cannot be translated", quoted(&written)));
            }
        }
        if let Some(tags) = fields.get("tags") {
            set_tags(&mut entry, tags, reading);
        }
        if reading.unknown > unknown {
            entry.skip("the content has an unknown key, which may change the copied content");
        }
        earlier.extend(prefix);
        add_entry(draft, entry, &view, reading);
    }
}

fn add_entry(draft: &mut Draft, entry: Entry, view: &View<'_>, reading: &mut Reading) {
    if let Some(reason) = draft.add(entry) {
        let _ = reading.add_remark(view, format!("skipped an entry: {reason}"));
    }
}

/// Translates the repositories and their names at the target.
fn set_repositories(
    entry: &mut Entry,
    prefix: &Prefix,
    fields: &Fields<'_>,
    upstream: &Upstream<'_>,
    reading: &mut Reading,
) {
    let host = upstream.host.in_reference();
    let destination = reading.text_of(fields, "destination").unwrap_or_default();
    let strips = reading.bool_of(fields, "stripPrefix").unwrap_or(false);
    let below: Vec<&str> =
        [upstream.target.place(), destination.trim_matches('/')].into_iter().filter(|part| !part.is_empty()).collect();
    let place = below.join("/");
    match prefix {
        Prefix::One(name) if strips => set_ends(entry, &format!("{host}/{name}"), &place),
        Prefix::One(name) => set_ends(entry, &format!("{host}/{name}"), &format!("{place}/{name}")),
        Prefix::Many { patterns, base } if !strips || base.is_empty() => {
            set_ends(entry, &format!("{host}/**"), &format!("{place}/**"));
            entry.repositories = patterns.clone();
            let starts_with_text = base.is_empty() && patterns.iter().any(|pattern| !pattern.starts_with("re:[^/]*"));
            if strips && starts_with_text {
                entry.skip("`stripPrefix` removes a part of each name, and has no equivalent for this prefix");
            }
        }
        Prefix::Many { patterns, base } => {
            set_ends(entry, &format!("{host}/{base}/**"), &format!("{place}/**"));
            if *patterns == [base.clone(), format!("{base}/*")] {
                entry.comments.push(format!(
                    "zot also copies the repository {base} itself, to {place}: write an entry if it exists."
                ));
            } else {
                entry.skip("`stripPrefix` removes a part of each name, and has no equivalent for this prefix");
            }
        }
    }
}

/// Excludes the repositories of earlier contents, which zot prefers.
fn exclude_earlier(entry: &mut Entry, prefix: &Prefix, earlier: &[Prefix]) {
    let below = |pattern: &String| match prefix {
        Prefix::Many { base, .. } if entry.source.ends_with(&format!("{base}/**")) && !base.is_empty() => {
            pattern.strip_prefix(&format!("{base}/")).map(str::to_owned)
        }
        _ => Some(pattern.clone()),
    };
    for other in earlier {
        match (prefix, other) {
            (Prefix::One(name), Prefix::One(other)) if name != other => {}
            (Prefix::One(name), Prefix::Many { patterns, .. }) if !matches(patterns, name) => {}
            (Prefix::One(_), _) => return entry.skip("an earlier content has this repository"),
            (Prefix::Many { patterns, .. }, Prefix::One(other)) if matches(patterns, other) => {
                let pattern = below(other);
                entry.excluded_repositories.extend(pattern);
            }
            (Prefix::Many { .. }, Prefix::One(_)) => {}
            (_, Prefix::Many { patterns, .. }) if patterns.is_empty() => {
                return entry.skip("an earlier content has these repositories");
            }
            (Prefix::Many { base, .. }, Prefix::Many { base: other, patterns }) if may_meet(base, other) => {
                if entry.source.ends_with(&format!("{base}/**")) && !base.is_empty() {
                    return entry.skip("an earlier content may have some of these repositories");
                }
                entry.excluded_repositories.extend(patterns.iter().cloned());
            }
            _ => {}
        }
    }
}

fn matches(patterns: &[String], name: &str) -> bool {
    let is_match = |pattern: &String| {
        pattern.replace("$$", "$").parse::<RepositoryPattern>().is_ok_and(|pattern| pattern.matches(name))
    };
    patterns.is_empty() || patterns.iter().any(is_match)
}

/// Returns true unless the names of two prefixes begin with different text.
fn may_meet(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn set_tags(entry: &mut Entry, view: &View<'_>, reading: &mut Reading) {
    let fields = fold(reading.fields(view, "`tags`"), &keys::TAGS);
    entry.comments.extend(unsupported_keys(&fields, &[&keys::TAGS], "`tags`", reading));
    let is_empty = fields.get("regex").is_some_and(|view| reading.text(view, "`regex`").is_empty());
    if is_empty {
        entry.skip("an empty `regex` selects no tag");
    }
    for (key, is_include) in [("regex", true), ("excludeRegex", false)] {
        let Some(expression) = reading.text_of(&fields, key) else { continue };
        match translate_unanchored(&expression) {
            Some(pattern) if is_include => entry.include.push(pattern),
            Some(pattern) => entry.exclude.push(pattern),
            None => entry.skip(format!("the regular expression {} cannot be translated", quoted(&expression))),
        }
    }
    if reading.bool_of(&fields, "semver") == Some(true) {
        if entry.include.is_empty() {
            entry.include.push(VERSIONS.to_owned());
        } else {
            entry.semver = Some("*".to_owned());
            entry.comments.push("With `semver`, zot includes pre-releases; transship does not.".into());
        }
    }
}
