//! Platforms (image-spec, "Image Index Property Descriptions"): operating system, architecture and variant of an image.

use std::fmt;
use std::str::FromStr;

/// Operating system, architecture and optional variant: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// The operating system as a value of `GOOS`: `linux`, `windows`.
    pub os: String,
    /// The architecture as a value of `GOARCH`: `amd64`, `arm64`.
    pub architecture: String,
    /// The variant: `v7`, `v8`; `None` if the image states no variant.
    pub variant: Option<String>,
    /// The version of Windows: `10.0.20348.2113`.
    pub os_version: Option<String>,
}

/// Error of parsing a [`Platform`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: expected os/architecture or os/architecture/variant, like linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// Returns true if `wanted` selects an image of this platform. If `wanted` has no variant, every variant matches.
    #[must_use]
    pub fn is_wanted_by(&self, wanted: &Platform) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none()
                || self.variant == wanted.variant
                || (self.variant.is_none() && wanted.is_default_variant()))
    }

    /// Returns true for the default variant of the architecture: `arm64` alone means `arm64/v8`, and `arm` alone means
    /// `arm/v7`.
    fn is_default_variant(&self) -> bool {
        matches!((self.architecture.as_str(), self.variant.as_deref()), ("arm64", Some("v8")) | ("arm", Some("v7")))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|p| part(p)) {
            return Err(PlatformError(text.to_owned()));
        }
        Ok(Self {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            variant: parts.get(2).map(|v| (*v).to_owned()),
            os_version: None,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl serde::Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn wanted_platform_without_variant_matches_every_variant() {
        assert!(platform("linux/arm64/v8").is_wanted_by(&platform("linux/arm64")));
        assert!(platform("linux/arm/v6").is_wanted_by(&platform("linux/arm")));
        assert!(!platform("linux/arm/v6").is_wanted_by(&platform("linux/arm/v7")));
        assert!(platform("linux/arm64").is_wanted_by(&platform("linux/arm64/v8")));
        assert!(!platform("windows/amd64").is_wanted_by(&platform("linux/amd64")));
    }

    #[test]
    fn malformed_platform_text_is_rejected() {
        for bad in ["linux", "linux/", "a/b/c/d", "Linux/amd64", ""] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
        assert_eq!(platform("linux/arm/v7").to_string(), "linux/arm/v7");
    }
}
