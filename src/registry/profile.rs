//! What is known of the limits of well-known registries, and what is in force at one: the figures that were set, those of a
//! profile, and where each comes from.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::permits::DEFAULT_CONCURRENT;
use super::{Bandwidth, Bucket, Figure, Kind, Limits, Profile, Rate};
use crate::oci::RegistryHost;

impl Bucket {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Reads, Self::Writes, Self::Uploads, Self::Deletes, Self::ReferrerLists];

    /// Its key in `sync.yaml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Uploads => "uploads",
            Self::Deletes => "deletes",
            Self::ReferrerLists => "referrer_lists",
        }
    }
}

/// A text that is not a [`Profile`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a profile: expected one of {}", Profile::NAMES.join(", "))]
pub struct ProfileError {
    text: String,
}

impl Profile {
    /// All profiles, as they are written.
    pub const NAMES: [&'static str; 8] =
        ["docker-hub", "acr-basic", "acr-standard", "acr-premium", "ecr", "ghcr", "gar", "quay"];

    const ALL: [Self; 8] = [
        Self::DockerHub,
        Self::AcrBasic,
        Self::AcrStandard,
        Self::AcrPremium,
        Self::Ecr,
        Self::Ghcr,
        Self::Gar,
        Self::Quay,
    ];

    /// Its figure for a bucket.
    #[must_use]
    pub fn rate(self, bucket: Bucket) -> Option<Rate> {
        use Bucket::{Deletes, Reads, ReferrerLists, Requests, Uploads, Writes};
        let a_minute = |count| Some(Rate { count, per: Duration::from_secs(60) });
        match (self, bucket) {
            (Self::AcrBasic | Self::AcrStandard, Reads) => a_minute(5_000),
            (Self::AcrBasic | Self::AcrStandard, Writes) => a_minute(1_000),
            (Self::AcrBasic | Self::AcrStandard, Deletes) => a_minute(500),
            (Self::AcrBasic | Self::AcrStandard, ReferrerLists) => a_minute(250),
            (Self::AcrPremium, Reads) => a_minute(10_000),
            (Self::AcrPremium, Writes | Deletes) => a_minute(2_000),
            (Self::AcrPremium, ReferrerLists) => a_minute(1_000),
            (Self::Ecr, Uploads) => Some(Rate { count: 10, per: Duration::from_secs(1) }),
            (Self::Ghcr, Reads) => a_minute(44_000),
            (Self::Ghcr, Writes) => a_minute(2_000),
            (Self::Gar, Requests) => a_minute(60_000),
            (Self::Gar, Writes | Deletes) => a_minute(18_000),
            _ => None,
        }
    }

    /// Its figure for requests in flight.
    #[must_use]
    pub fn concurrent(self) -> Option<usize> {
        match self {
            Self::DockerHub => Some(16),
            Self::Quay => Some(8),
            _ => None,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::NAMES[*self as usize])
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let named = Self::ALL.into_iter().zip(Self::NAMES).find(|(_, name)| *name == text);
        named.map(|(profile, _)| profile).ok_or_else(|| ProfileError { text: text.to_owned() })
    }
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was set (or lifted).
    Set,
    /// The profile has it.
    Profile,
    /// The registry is known by its host's name, or by its `kind`.
    Known,
    /// Nobody says anything.
    Default,
}

/// A figure in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce<T> {
    /// `None` is no limit.
    pub value: Option<T>,
    /// Who says so.
    pub origin: Origin,
}

/// All limits in force at one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsInForce {
    /// Whose figures hold where none is set.
    pub profile: InForce<Profile>,
    /// As in [`Bucket::ALL`].
    rates: [InForce<Rate>; Bucket::ALL.len()],
    /// Bytes a second, by the time of day; `None` is no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Requests in flight: always a figure, and [`Origin::Default`] where it is the client's own.
    pub concurrent: InForce<usize>,
}

impl LimitsInForce {
    /// The rate of a bucket.
    #[must_use]
    pub fn rate(&self, bucket: Bucket) -> InForce<Rate> {
        self.rates[bucket as usize]
    }
}

impl<T> Figure<T> {
    fn over(self, otherwise: Option<T>, origin: Origin) -> InForce<T> {
        match (self, otherwise) {
            (Self::Set(value), _) => InForce { value: Some(value), origin: Origin::Set },
            (Self::Lifted, _) => InForce { value: None, origin: Origin::Set },
            (Self::Unsaid, Some(value)) => InForce { value: Some(value), origin },
            (Self::Unsaid, None) => InForce { value: None, origin: Origin::Default },
        }
    }
}

impl Limits {
    /// What is in force by these at this host, which is of this kind if one was set.
    #[must_use]
    pub fn in_force(&self, host: &RegistryHost, kind: Option<Kind>) -> LimitsInForce {
        let profile = self.profile.over(Profile::of(host, kind), Origin::Known);
        let rate = |bucket| {
            let by_profile = profile.value.and_then(|profile| profile.rate(bucket));
            self.figure(bucket).over(by_profile, Origin::Profile)
        };
        let in_flight = self.concurrent.over(profile.value.and_then(Profile::concurrent), Origin::Profile);
        let concurrent = match in_flight.value {
            Some(_) => in_flight,
            None => InForce { value: Some(DEFAULT_CONCURRENT), origin: Origin::Default },
        };
        LimitsInForce { profile, rates: Bucket::ALL.map(rate), bandwidth: self.bandwidth.clone(), concurrent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_force(limits: &Limits, host: &str) -> LimitsInForce {
        limits.in_force(&host.parse().unwrap(), None)
    }

    fn named(profile: Profile) -> Limits {
        Limits { profile: Figure::Set(profile), ..Limits::default() }
    }

    #[test]
    fn profiles_print_as_they_are_written() {
        for name in Profile::NAMES {
            assert_eq!(name.parse::<Profile>().unwrap().to_string(), name);
        }
        assert_eq!(
            "acr".parse::<Profile>().unwrap_err().to_string(),
            "\"acr\" is not a profile: expected one of docker-hub, acr-basic, acr-standard, acr-premium, ecr, ghcr, gar, quay"
        );
    }

    #[test]
    fn buckets_stand_where_their_number_says() {
        assert!(Bucket::ALL.iter().enumerate().all(|(at, bucket)| *bucket as usize == at));
    }

    #[test]
    fn the_figures_of_a_profile_are_those_that_its_registry_states() {
        let figures = |profile: Profile| {
            let limits = in_force(&named(profile), "a.example");
            let rates =
                Bucket::ALL.map(|bucket| limits.rate(bucket).value.map_or("-".to_owned(), |rate| rate.to_string()));
            (rates.join(" "), limits.concurrent.value.unwrap_or_default())
        };
        for (profile, rates, concurrent) in [
            (Profile::DockerHub, "- - - - - -", 16),
            (Profile::AcrBasic, "- 5000/min 1000/min - 500/min 250/min", 32),
            (Profile::AcrStandard, "- 5000/min 1000/min - 500/min 250/min", 32),
            (Profile::AcrPremium, "- 10000/min 2000/min - 2000/min 1000/min", 32),
            (Profile::Ecr, "- - - 10/s - -", 32),
            (Profile::Ghcr, "- 44000/min 2000/min - - -", 32),
            (Profile::Gar, "60000/min - 18000/min - 18000/min -", 32),
            (Profile::Quay, "- - - - - -", 8),
        ] {
            assert_eq!(figures(profile), (rates.to_owned(), concurrent), "{profile}");
        }
    }

    #[test]
    fn what_is_set_goes_over_the_profile_and_none_lifts_it() {
        let rate = Rate { count: 500, per: Duration::from_secs(60) };
        let limits = Limits {
            writes: Figure::Set(rate),
            reads: Figure::Lifted,
            concurrent: Figure::Set(7),
            ..named(Profile::AcrPremium)
        };
        let limits = in_force(&limits, "a.azurecr.io");
        assert_eq!(limits.profile, InForce { value: Some(Profile::AcrPremium), origin: Origin::Set });
        assert_eq!(limits.rate(Bucket::Writes), InForce { value: Some(rate), origin: Origin::Set });
        assert_eq!(limits.rate(Bucket::Reads), InForce { value: None, origin: Origin::Set });
        assert_eq!(limits.rate(Bucket::ReferrerLists).origin, Origin::Profile);
        assert_eq!(limits.rate(Bucket::Uploads), InForce { value: None, origin: Origin::Default });
        assert_eq!(limits.concurrent, InForce { value: Some(7), origin: Origin::Set });
    }

    #[test]
    fn a_known_host_has_its_profile_unless_it_is_lifted() {
        let profile = |limits: &Limits| in_force(limits, "quay.io");
        assert_eq!(profile(&Limits::default()).profile, InForce { value: Some(Profile::Quay), origin: Origin::Known });
        assert_eq!(profile(&Limits::default()).concurrent, InForce { value: Some(8), origin: Origin::Profile });
        let lifted = profile(&Limits { profile: Figure::Lifted, ..Limits::default() });
        assert_eq!(lifted.profile, InForce { value: None, origin: Origin::Set });
        assert_eq!(lifted.concurrent, InForce { value: Some(32), origin: Origin::Default });
        let plenty = profile(&Limits { concurrent: Figure::Lifted, ..Limits::default() });
        assert_eq!(plenty.concurrent, InForce { value: Some(32), origin: Origin::Default });
    }
}
