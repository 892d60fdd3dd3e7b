//! Limits in force at one registry. Each limit comes from the configuration, a profile or the defaults.

use super::concurrency::DEFAULT_CONCURRENT;
use crate::oci::RegistryHost;
use crate::registry::{Bandwidth, Bucket, Flavor, LimitProfile, LimitSetting, Limits, Rate};

/// Origin of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration sets the limit, or sets that there is no limit.
    Set,
    /// The profile sets the limit.
    Profile,
    /// The host name of the registry, or its `kind`, implies the profile.
    Known,
    /// The limit is the default.
    Default,
}

/// Limit in force, with its origin.
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
    /// Profile. If the configuration does not set a limit, the limit of the profile applies.
    pub profile: InForce<&'static LimitProfile>,
    /// Rates in the order of [`Bucket::ALL`].
    rates: [InForce<Rate>; Bucket::ALL.len()],
    /// Bandwidth in bytes per second, by the time of day; `None` is no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Maximum number of requests in flight; never `None`.
    pub concurrent: InForce<usize>,
}

impl LimitsInForce {
    /// Returns the rate of a bucket.
    #[must_use]
    pub fn rate(&self, bucket: Bucket) -> InForce<Rate> {
        self.rates[bucket as usize]
    }
}

impl<T> LimitSetting<T> {
    fn resolve(self, otherwise: Option<T>, origin: Origin) -> InForce<T> {
        match (self, otherwise) {
            (Self::Set(value), _) => InForce { value: Some(value), origin: Origin::Set },
            (Self::Unlimited, _) => InForce { value: None, origin: Origin::Set },
            (Self::Default, Some(value)) => InForce { value: Some(value), origin },
            (Self::Default, None) => InForce { value: None, origin: Origin::Default },
        }
    }
}

impl Limits {
    /// Returns the limits in force at this host. `flavor` is the configured flavour of the registry, if any.
    #[must_use]
    pub fn in_force(&self, host: &RegistryHost, flavor: Option<&'static Flavor>) -> LimitsInForce {
        let profile = self.profile.resolve(Flavor::resolve(host, flavor).limits, Origin::Known);
        let rate = |bucket| {
            let by_profile = profile.value.and_then(|profile| profile.rate(bucket));
            self.figure(bucket).resolve(by_profile, Origin::Profile)
        };
        let in_flight = self.concurrent.resolve(profile.value.and_then(|profile| profile.concurrent), Origin::Profile);
        let concurrent = match in_flight.value {
            Some(_) => in_flight,
            None => InForce { value: Some(DEFAULT_CONCURRENT), origin: Origin::Default },
        };
        LimitsInForce { profile, rates: Bucket::ALL.map(rate), bandwidth: self.bandwidth.clone(), concurrent }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn in_force(limits: &Limits, host: &str) -> LimitsInForce {
        limits.in_force(&host.parse().unwrap(), None)
    }

    fn with_profile(profile: &'static LimitProfile) -> Limits {
        Limits { profile: LimitSetting::Set(profile), ..Limits::default() }
    }

    #[test]
    fn configured_figure_overrides_the_profile() {
        let rate = Rate { count: 500, per: Duration::from_secs(60) };
        let limits = Limits {
            writes: LimitSetting::Set(rate),
            reads: LimitSetting::Unlimited,
            concurrent: LimitSetting::Set(7),
            ..with_profile(LimitProfile::ACR_PREMIUM)
        };
        let limits = in_force(&limits, "a.azurecr.io");
        assert_eq!(limits.profile, InForce { value: Some(LimitProfile::ACR_PREMIUM), origin: Origin::Set });
        assert_eq!(limits.rate(Bucket::Writes), InForce { value: Some(rate), origin: Origin::Set });
        assert_eq!(limits.rate(Bucket::Reads), InForce { value: None, origin: Origin::Set });
        assert_eq!(limits.rate(Bucket::ReferrerLists).origin, Origin::Profile);
        assert_eq!(limits.rate(Bucket::Uploads), InForce { value: None, origin: Origin::Default });
        assert_eq!(limits.concurrent, InForce { value: Some(7), origin: Origin::Set });
    }

    #[test]
    fn known_host_has_its_profile_unless_unlimited() {
        let profile = |limits: &Limits| in_force(limits, "quay.io");
        assert_eq!(
            profile(&Limits::default()).profile,
            InForce { value: Some(LimitProfile::QUAY), origin: Origin::Known }
        );
        assert_eq!(profile(&Limits::default()).concurrent, InForce { value: Some(8), origin: Origin::Profile });
        let unlimited = profile(&Limits { profile: LimitSetting::Unlimited, ..Limits::default() });
        assert_eq!(unlimited.profile, InForce { value: None, origin: Origin::Set });
        assert_eq!(unlimited.concurrent, InForce { value: Some(32), origin: Origin::Default });
        let plenty = profile(&Limits { concurrent: LimitSetting::Unlimited, ..Limits::default() });
        assert_eq!(plenty.concurrent, InForce { value: Some(32), origin: Origin::Default });
    }
}
