//! Table of all flavours, and the flavour of a host.

use std::str::FromStr;

use crate::oci::RegistryHost;
use crate::registry::Flavor;

/// Error of a text that is not a value of `kind` in `sync.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a kind of registry: expected {}", Flavor::kinds_text())]
pub struct FlavorError {
    text: String,
}

impl Flavor {
    /// All flavours.
    pub(crate) const ALL: [&'static Self; 7] =
        [Self::ACR, Self::ECR, Self::GOOGLE, Self::GHCR, Self::DOCKER_HUB, Self::QUAY, Self::GENERIC];

    /// Values of `kind` in `sync.yaml`.
    pub const KINDS: [&'static str; count_kinds()] = {
        let mut kinds = [""; count_kinds()];
        let (mut at, mut found) = (0, 0);
        while at < Self::ALL.len() {
            if Self::ALL[at].is_kind {
                kinds[found] = Self::ALL[at].name;
                found += 1;
            }
            at += 1;
        }
        kinds
    };

    /// Returns the values of `kind` as a text: `acr, ecr or plain`.
    pub(crate) fn kinds_text() -> String {
        match Self::KINDS.as_slice() {
            [others @ .., last] => format!("{} or {last}", others.join(", ")),
            [] => String::new(),
        }
    }

    /// Returns the flavour that the host's name implies.
    pub(crate) fn from_host(host: &RegistryHost) -> &'static Self {
        let has_pattern = |flavor: &&Self| flavor.hosts.iter().any(|pattern| pattern.matches(host));
        Self::ALL.into_iter().find(has_pattern).unwrap_or(Self::GENERIC)
    }

    /// Returns the flavour of a registry. If the host is the fixed host of a single service, such as `quay.io`, ignores
    /// `configured`. If the operator configured no flavour, returns the flavour that the host's name implies.
    pub(crate) fn resolve(host: &RegistryHost, configured: Option<&'static Self>) -> &'static Self {
        let by_host = Self::from_host(host);
        configured.filter(|_| by_host.is_kind).unwrap_or(by_host)
    }
}

const fn count_kinds() -> usize {
    let (mut at, mut count) = (0, 0);
    while at < Flavor::ALL.len() {
        if Flavor::ALL[at].is_kind {
            count += 1;
        }
        at += 1;
    }
    count
}

impl FromStr for &'static Flavor {
    type Err = FlavorError;

    fn from_str(text: &str) -> Result<Self, FlavorError> {
        let named = Flavor::ALL.into_iter().find(|flavor| flavor.is_kind && flavor.name == text);
        named.ok_or_else(|| FlavorError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::registry::LimitProfile;
    use crate::registry::flavor::definition::HostPattern;
    use crate::registry::learned::upload_strategy::MAX_CHUNK;
    use crate::store::Step;

    fn from_host(host: &str) -> &'static Flavor {
        Flavor::from_host(&host.parse().unwrap())
    }

    /// Returns examples of hosts that match a pattern.
    fn example_hosts(pattern: HostPattern) -> Vec<String> {
        match pattern {
            HostPattern::Host(name) => vec![name.to_owned()],
            HostPattern::Name(name) => vec![name.to_owned(), format!("{name}:5000")],
            HostPattern::Below(domain) => vec![format!("a.{domain}"), format!("a.b.{domain}:5000")],
            HostPattern::Part { part, domains } => {
                domains.iter().map(|domain| format!("1{part}eu-west-1.{domain}")).collect()
            }
        }
    }

    #[test]
    fn each_flavor_has_a_unique_name_and_unique_hosts() {
        let names: BTreeSet<_> = Flavor::ALL.iter().map(|flavor| flavor.name).collect();
        assert_eq!(names.len(), Flavor::ALL.len(), "{names:?}");
        for flavor in Flavor::ALL {
            assert_eq!(flavor.hosts.is_empty(), flavor == Flavor::GENERIC, "{flavor}");
            for host in flavor.hosts.iter().flat_map(|pattern| example_hosts(*pattern)) {
                let host: RegistryHost = host.parse().unwrap();
                let has_host = |other: &&&Flavor| other.hosts.iter().any(|pattern| pattern.matches(&host));
                let names: Vec<_> = Flavor::ALL.iter().filter(has_host).map(|flavor| flavor.name).collect();
                assert_eq!(names, [flavor.name], "{host}");
            }
        }
    }

    #[test]
    fn each_field_of_each_flavor_is_valid() {
        let is_text = |text: &str| !text.is_empty() && !text.ends_with('.') && !text.contains("  ");
        for flavor in Flavor::ALL {
            let Flavor { uploads, hints, .. } = flavor;
            assert!(1 <= uploads.min_chunk && uploads.min_chunk <= uploads.chunk && uploads.chunk <= MAX_CHUNK);
            assert!(flavor.api_host.is_none_or(|host| host.parse::<RegistryHost>().is_ok()), "{flavor}");
            if let Some(keys) = flavor.credential_keys {
                assert!(keys.hosts.iter().any(|host| keys.written.contains(host)), "{flavor}");
            }
            assert!(flavor.mount_requirement.is_none_or(is_text), "{flavor}");
            assert!(flavor.pull_quota_window.is_none_or(|window| !window.is_zero()), "{flavor}");
            assert!(flavor.limits.is_none_or(|limits| LimitProfile::ALL.contains(&limits)), "{flavor}");
            assert!(is_text(hints.missing_repository), "{flavor}");
            assert!(hints.denied.is_none_or(|hint| is_text(hint(Step::BeginUpload))), "{flavor}");
            let soft_deletion = hints.soft_deletion;
            assert!(soft_deletion.is_none_or(|hints| is_text(hints.stated) && is_text(hints.possible)), "{flavor}");
        }
    }

    #[test]
    fn limits_are_known_by_host_name_or_kind() {
        for (host, kind, limits) in [
            ("docker.io", None, Some(LimitProfile::DOCKER_HUB)),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", None, Some(LimitProfile::ECR)),
            ("ghcr.io", None, Some(LimitProfile::GHCR)),
            ("quay.io", None, Some(LimitProfile::QUAY)),
            ("gcr.io", None, Some(LimitProfile::GAR)),
            ("europe-docker.pkg.dev", None, Some(LimitProfile::GAR)),
            // The client does not know the tier of the registry.
            ("prod.azurecr.io", None, None),
            ("a.example", None, None),
            ("a.example", Some(Flavor::ECR), Some(LimitProfile::ECR)),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", Some(Flavor::GENERIC), None),
            ("quay.io", Some(Flavor::GENERIC), Some(LimitProfile::QUAY)),
            ("docker.io", Some(Flavor::GENERIC), Some(LimitProfile::DOCKER_HUB)),
        ] {
            assert_eq!(Flavor::resolve(&host.parse().unwrap(), kind).limits, limits, "{host}");
        }
    }

    #[test]
    fn flavor_is_known_by_the_host_name() {
        for (host, flavor) in [
            ("prod.azurecr.io", Flavor::ACR),
            ("prod.azurecr.cn", Flavor::ACR),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", Flavor::ECR),
            ("1.dkr.ecr.cn-north-1.amazonaws.com.cn", Flavor::ECR),
            ("1.dkr.ecr-fips.us-east-2.amazonaws.com", Flavor::ECR),
            ("1.dkr.ecr.eusc-de-east-1.amazonaws.eu", Flavor::ECR),
            ("1.dkr-ecr.us-east-2.on.aws", Flavor::ECR),
            ("1.dkr-ecr-fips.us-east-2.on.aws", Flavor::ECR),
            ("vpce-0a1-b2.dkr.ecr.eu-west-1.vpce.amazonaws.com", Flavor::ECR),
            // Hosts that belong to Amazon's customers.
            ("ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", Flavor::GENERIC),
            ("x1.lambda-url.us-east-1.on.aws", Flavor::GENERIC),
            ("1.dkr.ecr.eu-west-1.evilamazonaws.com", Flavor::GENERIC),
            // An operator that pushes to this registry can set `kind: ecr`.
            ("public.ecr.aws", Flavor::GENERIC),
            ("gcr.io", Flavor::GOOGLE),
            ("eu.gcr.io", Flavor::GOOGLE),
            ("europe-docker.pkg.dev", Flavor::GOOGLE),
            ("ghcr.io", Flavor::GHCR),
            ("notgcr.io", Flavor::GENERIC),
            ("azurecr.io.evil.example", Flavor::GENERIC),
            ("docker.io", Flavor::DOCKER_HUB),
            ("docker.io:5000", Flavor::GENERIC),
            ("quay.io", Flavor::QUAY),
            ("quay.io:8443", Flavor::QUAY),
        ] {
            assert_eq!(from_host(host), flavor, "{host}");
        }
    }

    #[test]
    fn registries_that_create_repositories_on_request_are_known() {
        let creates = |host: &str| from_host(host).creates_repositories_on_request;
        assert!(creates("1.dkr.ecr.eu-west-1.amazonaws.com") && creates("quay.io"));
        assert!(["prod.azurecr.io", "ghcr.io", "gcr.io", "docker.io", "a.example"].iter().all(|host| !creates(host)));
    }

    #[test]
    fn blobs_are_chunked_where_the_flavor_wants_it() {
        let chunks = |flavor: &Flavor| (flavor.uploads.in_chunks, flavor.uploads.chunk >> 20);
        assert_eq!([Flavor::ACR, Flavor::ECR].map(chunks), [(true, 4), (true, 8)]);
        let others = [Flavor::GOOGLE, Flavor::GHCR, Flavor::GENERIC, Flavor::QUAY, Flavor::DOCKER_HUB];
        assert_eq!(others.map(chunks), [(false, 8), (false, 4), (false, 8), (false, 8), (false, 8)]);
    }

    #[test]
    fn kinds_display_as_they_are_parsed() {
        assert_eq!(Flavor::KINDS, ["acr", "ecr", "google", "ghcr", "plain"]);
        for kind in Flavor::KINDS {
            assert_eq!(kind.parse::<&Flavor>().unwrap().to_string(), kind);
        }
        for wrong in ["azure", "quay"] {
            let expected = format!("{wrong:?} is not a kind of registry: expected acr, ecr, google, ghcr or plain");
            assert_eq!(wrong.parse::<&Flavor>().unwrap_err().to_string(), expected);
        }
    }
}
