//! Which tags of a repository an entry is about, and why.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use semver::Version;

use super::version::version_of;
use super::{Pattern, VersionRange};
use crate::oci::{Digest, SignatureTag, Tag};

/// The choice of tags. The default chooses every tag.
///
/// A tag is chosen when an `include` matches it (or there is none), no `exclude` does, its version is in `semver`, and
/// it is among the `newest` of what is left.
///
/// Two kinds of tags stand for other content. The specification's fallback list of referrers (`sha256-<hex>`) is never
/// chosen: it is written anew for its subject. Cosign's tags (`sha256-<hex>.sig`) are chosen like any other, but with
/// `semver` or `newest`, which say nothing about them, they are out by themselves and follow their subject; they never
/// count for `at_least`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Patterns of which one must match; empty means every tag.
    pub include: Vec<Pattern>,
    /// Patterns of which none may match.
    pub exclude: Vec<Pattern>,
    /// The range in which a tag's version must be; a tag without a version is out.
    pub semver: Option<VersionRange>,
    /// How many of the newest tags stay: by version, then, for tags without one, by name, both downwards.
    pub newest: Option<usize>,
    /// Fewer tags and pinned digests than this are a [`Shortfall`].
    pub at_least: Option<usize>,
}

/// What a [`Selection`] chose of some tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// The chosen tags, in the order in which they were given.
    pub tags: Vec<Tag>,
    /// The pinned digests.
    pub digests: Vec<Digest>,
    /// One verdict for each tag that was given.
    pub verdicts: Vec<Verdict>,
    /// Set where fewer were found than `at_least` wants.
    pub shortfall: Option<Shortfall>,
}

/// Why a tag is in or out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// The tag.
    pub tag: Tag,
    /// Whether it is in.
    pub chosen: bool,
    /// The reason, as a person reads it behind "in:" or "out:".
    pub why: String,
}

/// Fewer were found than `at_least` wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the selection found {found}, but `at_least` wants {wanted}")]
pub struct Shortfall {
    /// How many tags and pinned digests were chosen, signatures left out.
    pub found: usize,
    /// How many there must be.
    pub wanted: usize,
}

impl Selected {
    /// The selection itself, or the error that it is too small.
    ///
    /// # Errors
    /// [`Shortfall`] where fewer were found than `at_least` wants.
    pub fn enough(self) -> Result<Self, Shortfall> {
        self.shortfall.map_or(Ok(self), Err)
    }
}

impl Selection {
    /// Chooses among `tags`. A tag that is given twice is looked at once.
    #[must_use]
    pub fn select(&self, tags: Vec<Tag>) -> Selected {
        let mut seen = HashSet::new();
        let mut judged: Vec<(Tag, Result<String, String>)> = tags
            .into_iter()
            .filter(|tag| seen.insert(tag.clone()))
            .map(|tag| {
                let judgement = self.judge(&tag);
                (tag, judgement)
            })
            .collect();
        if let Some(newest) = self.newest {
            keep_newest(&mut judged, newest);
        }
        let digests = self.pinned();
        let counted = |tag: &Tag| SignatureTag::read(tag).is_none();
        let chosen = || judged.iter().filter(|(_, judgement)| judgement.is_ok()).map(|(tag, _)| tag);
        let found = chosen().filter(|tag| counted(tag)).count() + digests.len();
        Selected {
            tags: chosen().cloned().collect(),
            digests,
            shortfall: self.at_least.filter(|wanted| found < *wanted).map(|wanted| Shortfall { found, wanted }),
            verdicts: judged.into_iter().map(Verdict::from).collect(),
        }
    }

    /// The tags that the includes name, when they name tags and digests only and nothing else depends on what there
    /// is: then nothing has to be listed. An exclude may still take some of them away.
    #[must_use]
    pub fn literals(&self) -> Option<Vec<&Tag>> {
        if self.include.is_empty() || self.semver.is_some() || self.newest.is_some() {
            return None;
        }
        let named = self.include.iter().all(|pattern| pattern.literal().is_some() || pattern.digest().is_some());
        named.then(|| self.include.iter().filter_map(Pattern::literal).collect())
    }

    /// The pinned digests, each once.
    fn pinned(&self) -> Vec<Digest> {
        let unwanted: BTreeSet<Digest> = self.exclude.iter().filter_map(Pattern::digest).collect();
        let mut seen = unwanted;
        self.include.iter().filter_map(Pattern::digest).filter(|digest| seen.insert(*digest)).collect()
    }

    /// All but `newest`, which depends on the other tags: the reason why a tag is in, or why it is out.
    fn judge(&self, tag: &Tag) -> Result<String, String> {
        match SignatureTag::read(tag) {
            Some(SignatureTag::Referrers(subject)) => {
                return Err(format!("the referrers list of {subject}, which follows its subject"));
            }
            Some(SignatureTag::Cosign(subject)) if self.semver.is_some() || self.newest.is_some() => {
                return Err(format!("a signature of {subject}, which follows its subject"));
            }
            _ => {}
        }
        let mut why = match self.include.iter().find(|pattern| pattern.matches(tag)) {
            Some(pattern) => format!("included by {:?}", pattern.to_string()),
            None if self.include.is_empty() => "every tag is included".to_owned(),
            None => return Err("no include matches it".into()),
        };
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.matches(tag)) {
            return Err(format!("excluded by {:?}", pattern.to_string()));
        }
        if let Some(range) = &self.semver {
            why.push_str(&format!(", {}", within(range, tag)?));
        }
        Ok(why)
    }
}

fn within(range: &VersionRange, tag: &Tag) -> Result<String, String> {
    match version_of(tag) {
        None => Err("it has no version".into()),
        Some(version) if range.holds(&version) => Ok(format!("version {version} is in \"{range}\"")),
        Some(version) if !version.pre.is_empty() => {
            Err(format!("version {version} is a pre-release that \"{range}\" does not name"))
        }
        Some(version) => Err(format!("version {version} is outside \"{range}\"")),
    }
}

/// Versions before names, each from the greatest down; tags of one version by name upwards, the plain one first.
fn age(tag: &Tag) -> (Reverse<Option<Version>>, Option<Tag>, Reverse<Option<Tag>>) {
    match version_of(tag) {
        Some(version) => (Reverse(Some(version)), Some(tag.clone()), Reverse(None)),
        None => (Reverse(None), None, Reverse(Some(tag.clone()))),
    }
}

fn keep_newest(judged: &mut [(Tag, Result<String, String>)], newest: usize) {
    let mut left: Vec<usize> = (0..judged.len()).filter(|at| judged[*at].1.is_ok()).collect();
    left.sort_by_cached_key(|at| age(&judged[*at].0));
    for (place, at) in left.into_iter().enumerate() {
        let judgement = &mut judged[at].1;
        match judgement {
            Ok(why) if place < newest => why.push_str(&format!(", number {} of the newest {newest}", place + 1)),
            _ => *judgement = Err(format!("not among the newest {newest}")),
        }
    }
}

impl From<(Tag, Result<String, String>)> for Verdict {
    fn from((tag, judgement): (Tag, Result<String, String>)) -> Self {
        let chosen = judgement.is_ok();
        Self { tag, chosen, why: judgement.unwrap_or_else(|why| why) }
    }
}
