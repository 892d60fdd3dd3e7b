//! Tags of referrers: the specification's fallback tag and the tags of cosign.

use super::{Digest, Tag};

/// Returns the fallback tag of `subject`: `sha256-<hex>` (distribution-spec, "Referrers Tag Schema"). A registry
/// without the referrers API stores the list of referrers under this tag.
#[must_use]
pub fn referrers_tag(subject: &Digest) -> Tag {
    // The specification truncates the encoded part at 64 characters; a sha512 digest has 128 characters.
    let mut hex = subject.hex();
    hex.truncate(64);
    format!("{}-{hex}", subject.algorithm()).parse().expect("a digest makes a valid tag")
}

/// Returns the tags under which cosign stores signatures, attestations and SBOMs of `subject`.
#[must_use]
pub fn signature_tags(subject: &Digest) -> [Tag; 3] {
    let tag = referrers_tag(subject);
    ["sig", "att", "sbom"].map(|suffix| format!("{tag}.{suffix}").parse().expect("a digest makes a valid tag"))
}

/// Returns true if a tag has the form of a fallback tag: an algorithm, `-` and 64 lower-case hex digits. Some tools
/// store images under such tags too.
#[must_use]
pub fn has_form_of_referrers_tag(tag: &Tag) -> bool {
    let hex = Digest::ALGORITHMS.iter().find_map(|name| tag.as_str().strip_prefix(name)?.strip_prefix('-'));
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

/// Returns true if the tag is long enough to contain the hex digits of a digest. An example is `sha256-<64 hex>.sig`.
/// This check is a cheap filter for long lists of tags.
#[must_use]
pub fn may_name_a_digest(tag: &Tag) -> bool {
    tag.as_str().len() > 64
}

/// Tag that was parsed as a fallback tag or as one of cosign's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureTag {
    /// `sha256-<64 hex>`: the specification's fallback tag for the referrers of this subject.
    Referrers(Digest),
    /// `sha256-<64 hex>.sig`, `.att` or `.sbom`: a tag of cosign for this subject.
    Cosign(Digest),
}

impl SignatureTag {
    /// Parses `sha256-<64 hex>` and `sha256-<64 hex>.sig`, `.att`, `.sbom`, and the same forms of `blake3`. Returns
    /// `None` for any other tag. Also returns `None` for a fallback tag with `sha512`, which has only half of the
    /// digest's digits.
    #[must_use]
    pub fn read(tag: &Tag) -> Option<Self> {
        let (algorithm, hex) = tag.as_str().split_once('-')?;
        let (hex, suffix) = hex.split_once('.').map_or((hex, None), |(hex, suffix)| (hex, Some(suffix)));
        let subject: Digest = format!("{algorithm}:{hex}").parse().ok()?;
        match suffix {
            None => Some(Self::Referrers(subject)),
            Some("sig" | "att" | "sbom") => Some(Self::Cosign(subject)),
            Some(_) => None,
        }
    }

    /// Returns the digest of the subject.
    #[must_use]
    pub fn subject(&self) -> Digest {
        match self {
            Self::Referrers(subject) | Self::Cosign(subject) => *subject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_of_any_digest_algorithm_may_name_digest() {
        for digest in [Digest::of(b"x"), format!("sha512:{}", "a".repeat(128)).parse().unwrap()] {
            let tags = signature_tags(&digest).into_iter().chain([referrers_tag(&digest)]);
            assert!(tags.into_iter().all(|tag| may_name_a_digest(&tag)));
        }
        assert!(!may_name_a_digest(&"v1.2.3".parse().unwrap()));
    }

    #[test]
    fn tags_of_a_subject_parse_back_to_it() {
        let subject = Digest::of(b"image");
        assert_eq!(SignatureTag::read(&referrers_tag(&subject)), Some(SignatureTag::Referrers(subject)));
        for tag in signature_tags(&subject) {
            assert_eq!(SignatureTag::read(&tag), Some(SignatureTag::Cosign(subject)));
        }
        for ordinary in ["latest", "sha256-abc", "sha256-abc.sig"] {
            assert_eq!(SignatureTag::read(&ordinary.parse().unwrap()), None);
        }
    }

    #[test]
    fn referrers_tags_of_all_algorithms_match_the_form() {
        for like in [Digest::of(b""), Digest::Sha512([7; 64]), Digest::Blake3([7; 32])] {
            let tag = referrers_tag(&like.same_algorithm_of(b"image"));
            assert!(has_form_of_referrers_tag(&tag), "{tag}");
        }
        for ordinary in ["latest", "sha256-abc", "md5-d41d8cd98f00b204e9800998ecf8427e"] {
            assert!(!has_form_of_referrers_tag(&ordinary.parse().unwrap()), "{ordinary}");
        }
        let signature = &signature_tags(&Digest::of(b"image"))[0];
        assert!(!has_form_of_referrers_tag(signature));
    }
}
