//! Profiles of well-known registries' limits, and the limits in force at one registry: the configured figures, those of
//! a profile, and the origin of each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::oci::RegistryHost;
use crate::registry::{Bandwidth, Bucket, Figure, Kind, Limits, Profile, Rate};

/// Default number of requests in flight.
pub(crate) const DEFAULT_CONCURRENT: usize = 32;

impl Bucket {
    /// All buckets, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Reads, Self::Writes, Self::Uploads, Self::Deletes, Self::ReferrerLists];

    /// Returns the bucket's key in `sync.yaml`.
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

/// Error of a text that is not a [`Profile`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a profile: expected one of {}", Profile::NAMES.join(", "))]
pub struct ProfileError {
    text: String,
}

impl Profile {
    /// Names of all profiles, as they are written in `sync.yaml`.
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

    /// Returns the profile's rate of a bucket.
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

    /// Returns the profile's maximum of requests in flight.
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

/// Origin of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration sets the figure, or lifts the limit.
    Set,
    /// The profile has the figure.
    Profile,
    /// The registry is known by its host name, or by its `kind`.
    Known,
    /// The figure is the default.
    Default,
}

/// Figure in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce<T> {
    /// Value; `None` is no limit.
    pub value: Option<T>,
    /// Origin of the value.
    pub origin: Origin,
}

/// Limits in force at one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsInForce {
    /// Profile whose figures apply where none is configured.
    pub profile: InForce<Profile>,
    /// Rates in the order of [`Bucket::ALL`].
    rates: [InForce<Rate>; Bucket::ALL.len()],
    /// Bandwidth in bytes per second, by the time of day; `None` is no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Maximum number of requests in flight: always a figure, and [`Origin::Default`] if it is the client's own.
    pub concurrent: InForce<usize>,
}

impl LimitsInForce {
    /// Returns the rate of a bucket.
    #[must_use]
    pub fn rate(&self, bucket: Bucket) -> InForce<Rate> {
        self.rates[bucket as usize]
    }
}

impl<T> Figure<T> {
    fn resolve(self, otherwise: Option<T>, origin: Origin) -> InForce<T> {
        match (self, otherwise) {
            (Self::Set(value), _) => InForce { value: Some(value), origin: Origin::Set },
            (Self::Lifted, _) => InForce { value: None, origin: Origin::Set },
            (Self::Unsaid, Some(value)) => InForce { value: Some(value), origin },
            (Self::Unsaid, None) => InForce { value: None, origin: Origin::Default },
        }
    }
}

impl Limits {
    /// Returns the limits in force at this host. `kind` is the kind of the registry, if one is configured.
    #[must_use]
    pub fn in_force(&self, host: &RegistryHost, kind: Option<Kind>) -> LimitsInForce {
        let profile = self.profile.resolve(Profile::from_host(host, kind), Origin::Known);
        let rate = |bucket| {
            let by_profile = profile.value.and_then(|profile| profile.rate(bucket));
            self.figure(bucket).resolve(by_profile, Origin::Profile)
        };
        let in_flight = self.concurrent.resolve(profile.value.and_then(Profile::concurrent), Origin::Profile);
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
    fn profiles_display_as_they_are_parsed() {
        for name in Profile::NAMES {
            assert_eq!(name.parse::<Profile>().unwrap().to_string(), name);
        }
        assert_eq!(
            "acr".parse::<Profile>().unwrap_err().to_string(),
            concat!(
                r#""acr" is not a profile: expected one of "#,
                "docker-hub, acr-basic, acr-standard, acr-premium, ecr, ghcr, gar, quay"
            )
        );
    }

    #[test]
    fn buckets_are_listed_in_order_of_their_number() {
        assert!(Bucket::ALL.iter().enumerate().all(|(at, bucket)| *bucket as usize == at));
    }

    #[test]
    fn profile_has_the_rates_that_its_registry_states() {
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
    fn configured_figure_overrides_the_profile() {
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
    fn known_host_has_its_profile_unless_lifted() {
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
