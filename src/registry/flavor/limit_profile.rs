//! Profiles of the limits of well-known registries. The constants are in the files of the flavours.

use std::fmt;
use std::str::FromStr;

use crate::registry::{Bucket, Rate};

/// Limits of a well-known registry, under a name that an operator can configure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitProfile {
    /// Unique name in `sync.yaml`.
    pub(crate) name: &'static str,
    /// Rates by bucket. A bucket without an entry has no limit.
    pub(crate) rates: &'static [(Bucket, Rate)],
    /// Maximum number of requests in flight. `None` means the client's default.
    pub(crate) concurrent: Option<usize>,
}

/// Error of a text that is not the name of a [`LimitProfile`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a profile: expected one of {}", LimitProfile::NAMES.join(", "))]
pub struct LimitProfileError {
    text: String,
}

impl LimitProfile {
    /// All profiles, in display order.
    pub const ALL: [&'static Self; 8] = [
        Self::DOCKER_HUB,
        Self::ACR_BASIC,
        Self::ACR_STANDARD,
        Self::ACR_PREMIUM,
        Self::ECR,
        Self::GHCR,
        Self::GAR,
        Self::QUAY,
    ];

    /// Names of all profiles in `sync.yaml`.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].name;
            at += 1;
        }
        names
    };

    /// Returns the profile's rate of a bucket.
    #[must_use]
    pub fn rate(&self, bucket: Bucket) -> Option<Rate> {
        self.rates.iter().find(|(known, _)| *known == bucket).map(|(_, rate)| *rate)
    }
}

impl fmt::Display for LimitProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for &'static LimitProfile {
    type Err = LimitProfileError;

    fn from_str(text: &str) -> Result<Self, LimitProfileError> {
        let named = LimitProfile::ALL.into_iter().find(|profile| profile.name == text);
        named.ok_or_else(|| LimitProfileError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_display_as_they_are_parsed() {
        for name in LimitProfile::NAMES {
            assert_eq!(name.parse::<&LimitProfile>().unwrap().to_string(), name);
        }
        assert_eq!(
            "acr".parse::<&LimitProfile>().unwrap_err().to_string(),
            concat!(
                r#""acr" is not a profile: expected one of "#,
                "docker-hub, acr-basic, acr-standard, acr-premium, ecr, ghcr, gar, quay"
            )
        );
    }

    #[test]
    fn profile_has_the_rates_that_its_registry_states() {
        let figures = |profile: &LimitProfile| {
            let rate = |bucket| profile.rate(bucket).map_or("-".to_owned(), |rate| rate.to_string());
            (Bucket::ALL.map(rate).join(" "), profile.concurrent)
        };
        for (profile, rates, concurrent) in [
            (LimitProfile::DOCKER_HUB, "- - - - - -", Some(16)),
            (LimitProfile::ACR_BASIC, "- 5000/min 1000/min - 500/min 250/min", None),
            (LimitProfile::ACR_STANDARD, "- 5000/min 1000/min - 500/min 250/min", None),
            (LimitProfile::ACR_PREMIUM, "- 10000/min 2000/min - 2000/min 1000/min", None),
            (LimitProfile::ECR, "- - - 10/s - -", None),
            (LimitProfile::GHCR, "- 44000/min 2000/min - - -", None),
            (LimitProfile::GAR, "60000/min - 18000/min - 18000/min -", None),
            (LimitProfile::QUAY, "- - - - - -", Some(8)),
        ] {
            assert_eq!(figures(profile), (rates.to_owned(), concurrent), "{profile}");
        }
    }
}
