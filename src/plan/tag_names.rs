//! Names of tags at the target: a template for all tags of an entry, and names of single tags.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::oci::{NameError, SignatureTag, Tag};

/// Placeholder of a template for the tag at the source.
const PLACEHOLDER: &str = "{tag}";

/// Names of an entry's tags at the target. The default keeps every name.
///
/// - If `renamed` contains a tag, the tag gets the name in `renamed`.
/// - If there is a template, each tag that is not in `renamed` gets the name that the template makes.
/// - The template does not apply to the tag of a signature (`sha256-<hex>.sig`) or of a list of referrers
///   (`sha256-<hex>`), because these names contain the digest of the image.
///
/// ```
/// use transship::oci::Tag;
/// use transship::plan::TagNames;
///
/// let names = TagNames {
///     template: Some("mirror-{tag}".parse()?),
///     renamed: [("1.2.0".parse()?, "stable".parse()?)].into(),
/// };
/// assert_eq!(*names.target_tag(&"1.2.0".parse()?)?, "stable".parse::<Tag>()?);
/// assert_eq!(*names.target_tag(&"1.1.0".parse()?)?, "mirror-1.1.0".parse::<Tag>()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagNames {
    /// Template for all tags that are not in `renamed`; `None` keeps their names.
    pub template: Option<TagTemplate>,
    /// Names at the target, by the tag at the source.
    pub renamed: BTreeMap<Tag, Tag>,
}

/// Template of a name, such as `mirror-{tag}`. `{tag}` occurs once and stands for the tag at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTemplate {
    before: String,
    after: String,
}

/// Error of parsing a [`TagTemplate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagTemplateError {
    /// A text without the placeholder. Every tag would get this name.
    #[error(
        "{0:?} gives every tag the same name: write {PLACEHOLDER} for the tag at the source, like \"mirror-{{tag}}\""
    )]
    NoPlaceholder(String),
    /// A text with several placeholders.
    #[error("{0:?} has {PLACEHOLDER} several times: write {PLACEHOLDER} once")]
    SeveralPlaceholders(String),
    /// A text with characters that no tag can contain.
    #[error(
        "{0:?} makes no valid tag: a tag has up to 128 letters, digits, `_`, `.` and `-`, and does not begin \
        with `.` or `-`"
    )]
    NoTag(String),
}

/// Error of naming a tag: the template makes an invalid tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the template {template:?} gives the tag {tag} an invalid name: {reason}")]
pub struct TagNameError {
    template: String,
    tag: Tag,
    reason: NameError,
}

impl TagNames {
    /// Returns true if every tag keeps its name.
    #[must_use]
    pub fn keeps_every_name(&self) -> bool {
        self.template.is_none() && self.renamed.is_empty()
    }

    /// Returns the name of a tag at the target.
    ///
    /// # Errors
    /// [`TagNameError`] if the template makes an invalid tag, for example a tag that is too long.
    pub fn target_tag<'t>(&'t self, tag: &'t Tag) -> Result<Cow<'t, Tag>, TagNameError> {
        if let Some(name) = self.renamed.get(tag) {
            return Ok(Cow::Borrowed(name));
        }
        match &self.template {
            Some(template) if SignatureTag::read(tag).is_none() => {
                let named = template.apply(tag.as_str()).parse();
                named.map(Cow::Owned).map_err(|reason| TagNameError {
                    template: template.to_string(),
                    tag: tag.clone(),
                    reason,
                })
            }
            _ => Ok(Cow::Borrowed(tag)),
        }
    }

    /// Groups `tags` by their names at the target. Returns only the names that several tags would get, each with these
    /// tags. Ignores a tag whose name at the target would be invalid.
    #[must_use]
    pub fn shared_names<'t>(&self, tags: impl IntoIterator<Item = &'t Tag>) -> BTreeMap<Tag, Vec<Tag>> {
        if self.keeps_every_name() {
            return BTreeMap::new();
        }
        let mut by_name: BTreeMap<Tag, Vec<Tag>> = BTreeMap::new();
        for tag in tags {
            if let Ok(name) = self.target_tag(tag) {
                by_name.entry(name.into_owned()).or_default().push(tag.clone());
            }
        }
        by_name.retain(|_, tags| tags.len() > 1);
        by_name
    }

    /// Returns the tags at the source that would get this name.
    #[must_use]
    pub fn source_tags(&self, name: &Tag) -> Vec<Tag> {
        let renamed = self.renamed.iter().filter(|(_, target)| *target == name).map(|(tag, _)| tag.clone());
        let (before, after) = self.fixed_parts();
        let inner = name.as_str().strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        let others = [inner.and_then(|inner| inner.parse().ok()), Some(name.clone())].into_iter().flatten();
        let others = others
            .filter(|tag| !self.renamed.contains_key(tag) && self.target_tag(tag).is_ok_and(|found| *found == *name));
        renamed.chain(others).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// If the templates prove that `self` and `other` never give the same name, returns false. Otherwise returns true.
    #[must_use]
    pub fn may_meet(&self, other: &Self) -> bool {
        if !self.renamed.is_empty() || !other.renamed.is_empty() {
            return true;
        }
        let ((before, after), (other_before, other_after)) = (self.fixed_parts(), other.fixed_parts());
        (before.starts_with(other_before) || other_before.starts_with(before))
            && (after.ends_with(other_after) || other_after.ends_with(after))
    }
}

impl TagNames {
    /// Returns the texts before and after `{tag}` in the template; empty without a template.
    fn fixed_parts(&self) -> (&str, &str) {
        self.template.as_ref().map_or(("", ""), |template| (template.before.as_str(), template.after.as_str()))
    }
}

impl TagTemplate {
    fn apply(&self, tag: &str) -> String {
        format!("{}{tag}{}", self.before, self.after)
    }
}

impl FromStr for TagTemplate {
    type Err = TagTemplateError;

    fn from_str(text: &str) -> Result<Self, TagTemplateError> {
        let (before, after) =
            text.split_once(PLACEHOLDER).ok_or_else(|| TagTemplateError::NoPlaceholder(text.to_owned()))?;
        if after.contains(PLACEHOLDER) {
            return Err(TagTemplateError::SeveralPlaceholders(text.to_owned()));
        }
        let template = Self { before: before.to_owned(), after: after.to_owned() };
        // Tests the template with a tag of the minimum length, one character.
        match template.apply("0").parse::<Tag>() {
            Ok(_) => Ok(template),
            Err(_) => Err(TagTemplateError::NoTag(text.to_owned())),
        }
    }
}

impl fmt::Display for TagTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.apply(PLACEHOLDER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, referrers_tag, signature_tags};

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn names(template: Option<&str>, renamed: &[(&str, &str)]) -> TagNames {
        TagNames {
            template: template.map(|text| text.parse().unwrap()),
            renamed: renamed.iter().map(|(from, to)| (tag(from), tag(to))).collect(),
        }
    }

    #[test]
    fn single_name_takes_precedence_over_template() {
        let names = names(Some("mirror-{tag}"), &[("1.2.0", "stable")]);
        assert_eq!(*names.target_tag(&tag("1.2.0")).unwrap(), tag("stable"));
        assert_eq!(*names.target_tag(&tag("1.1.0")).unwrap(), tag("mirror-1.1.0"));
        assert!(TagNames::default().keeps_every_name() && !names.keeps_every_name());
    }

    #[test]
    fn tag_made_of_a_digest_keeps_its_name() {
        let names = names(Some("mirror-{tag}"), &[]);
        let [signature, ..] = signature_tags(&Digest::of(b"image"));
        for reserved in [signature, referrers_tag(&Digest::of(b"image"))] {
            assert_eq!(*names.target_tag(&reserved).unwrap(), reserved);
        }
    }

    #[test]
    fn name_that_is_too_long_is_an_error_with_the_tag() {
        let names = names(Some("mirror-{tag}"), &[]);
        let long = "x".repeat(128);
        let error = names.target_tag(&tag(&long)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the template \"mirror-{{tag}}\" gives the tag {long} an invalid name: ")));
    }

    #[test]
    fn name_of_several_tags_lists_these_tags() {
        let names = names(None, &[("a", "x"), ("b", "x")]);
        let tags = [tag("a"), tag("b"), tag("c")];
        assert_eq!(names.shared_names(&tags), BTreeMap::from([(tag("x"), vec![tag("a"), tag("b")])]));
        assert_eq!(names.shared_names(&tags[1..]), BTreeMap::new());
    }

    #[test]
    fn source_tags_of_a_name_are_those_that_get_it() {
        let found = |names: TagNames, name: &str| -> Vec<String> {
            names.source_tags(&tag(name)).iter().map(Tag::to_string).collect()
        };
        assert_eq!(found(names(None, &[("latest", "stable")]), "stable"), ["latest", "stable"]);
        assert_eq!(found(names(None, &[("latest", "stable")]), "latest"), [""; 0]);
        assert_eq!(found(names(Some("m-{tag}"), &[("a", "m-b")]), "m-b"), ["a", "b"]);
        assert_eq!(found(names(Some("m-{tag}"), &[]), "x"), [""; 0]);
    }

    #[test]
    fn names_with_different_prefixes_never_meet() {
        let meet = |one: Option<&str>, other: Option<&str>| names(one, &[]).may_meet(&names(other, &[]));
        assert!(!meet(Some("a-{tag}"), Some("b-{tag}")) && !meet(Some("{tag}-a"), Some("{tag}-b")));
        assert!(meet(Some("a-{tag}"), None) && meet(None, None) && meet(Some("a-{tag}"), Some("a-b-{tag}")));
        assert!(names(Some("a-{tag}"), &[("x", "b-y")]).may_meet(&names(Some("b-{tag}"), &[])));
    }

    #[test]
    fn malformed_template_error_states_the_remedy() {
        let message = |text: &str| text.parse::<TagTemplate>().unwrap_err().to_string();
        assert_eq!(
            message("v1"),
            "\"v1\" gives every tag the same name: write {tag} for the tag at the source, like \"mirror-{tag}\""
        );
        assert_eq!(message("{tag}-{tag}"), "\"{tag}-{tag}\" has {tag} several times: write {tag} once");
        assert!(message("-{tag}").starts_with("\"-{tag}\" makes no valid tag: "));
        assert!(message("a/{tag}").starts_with("\"a/{tag}\" makes no valid tag: "));
        assert_eq!("mirror-{tag}".parse::<TagTemplate>().unwrap().to_string(), "mirror-{tag}");
    }
}
