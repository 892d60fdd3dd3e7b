//! What is known of a registry by its kind: the one place that knows hosts by name, Docker Hub's apart.

use super::manner::DEFAULT_CHUNK;
use super::{Kind, Profile};
use crate::oci::RegistryHost;

/// The domains of Amazon's services, but for those by IPv6 too (`on.aws`).
pub(crate) const AMAZONS: [&str; 3] = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"];

/// Whether a name is that of a private registry of Amazon's, also by way of a VPC endpoint. Other hosts below these domains are
/// anybody's. `public.ecr.aws` is none: what is special is how they are written to, and of that one most are readers.
fn is_amazons(name: &str) -> bool {
    let classic = AMAZONS.iter().any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    (classic && (name.contains(".dkr.ecr.") || name.contains(".dkr.ecr-fips.")))
        || (name.ends_with(".on.aws") && (name.contains(".dkr-ecr.") || name.contains(".dkr-ecr-fips.")))
}

impl Kind {
    /// What a host's name alone tells.
    pub(crate) fn of(host: &RegistryHost) -> Self {
        let name = host.name();
        let ends_with = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends_with(&[".azurecr.io", ".azurecr.cn", ".azurecr.us"]) {
            Self::Acr
        } else if is_amazons(name) {
            Self::Ecr
        } else if name == "gcr.io" || ends_with(&[".gcr.io", ".pkg.dev"]) {
            Self::Google
        } else if name == "ghcr.io" {
            Self::Ghcr
        } else {
            Self::Plain
        }
    }

    /// Whether to ask for the right to push may make a repository that is not there yet.
    pub(crate) fn makes_repositories_when_asked(self, host: &RegistryHost) -> bool {
        match self {
            Self::Ecr => true,
            Self::Plain => host.name() == "quay.io",
            Self::Acr | Self::Google | Self::Ghcr => false,
        }
    }

    /// Whether the bytes of an upload go in chunks, as far as the kind tells.
    pub(crate) fn wants_chunks(self) -> bool {
        match self {
            // Azure's answer a PUT of more than about 20 MB with 413.
            Self::Acr | Self::Ecr => true,
            // Google's take no chunks, and some say that GitHub's takes one alone.
            Self::Google | Self::Ghcr | Self::Plain => false,
        }
    }

    /// The length of a chunk where nobody says otherwise.
    pub(crate) fn chunk(self) -> usize {
        match self {
            // GitHub's answers longer ones with 416.
            Self::Acr | Self::Ghcr => 4 * 1024 * 1024,
            Self::Ecr | Self::Google | Self::Plain => DEFAULT_CHUNK,
        }
    }

    /// The least length of a chunk, the last one apart.
    pub(crate) fn least_chunk(self) -> usize {
        match self {
            // Smaller parts are refused: they become parts of S3.
            Self::Ecr => 5 * 1024 * 1024,
            Self::Acr | Self::Google | Self::Ghcr | Self::Plain => 1,
        }
    }
}

impl Profile {
    /// Whose limits hold where none are named: by the host's name, or by the kind where one was set. None at Azure's, since
    /// nothing tells their tier.
    pub(crate) fn of(host: &RegistryHost, kind: Option<Kind>) -> Option<Self> {
        match (kind.unwrap_or_else(|| Kind::of(host)), host.name()) {
            (Kind::Acr, _) => None,
            (Kind::Ecr, _) => Some(Self::Ecr),
            (Kind::Google, _) => Some(Self::Gar),
            (Kind::Plain, _) if host.is_docker_hub() => Some(Self::DockerHub),
            (Kind::Ghcr, _) => Some(Self::Ghcr),
            (Kind::Plain, "quay.io") => Some(Self::Quay),
            (Kind::Plain, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_registry_are_known_by_its_hosts_name_or_by_its_kind() {
        for (host, kind, profile) in [
            ("docker.io", None, Some(Profile::DockerHub)),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", None, Some(Profile::Ecr)),
            ("ghcr.io", None, Some(Profile::Ghcr)),
            ("quay.io", None, Some(Profile::Quay)),
            ("gcr.io", None, Some(Profile::Gar)),
            ("europe-docker.pkg.dev", None, Some(Profile::Gar)),
            // Its tier is not known.
            ("prod.azurecr.io", None, None),
            ("a.example", None, None),
            ("a.example", Some(Kind::Ecr), Some(Profile::Ecr)),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", Some(Kind::Plain), None),
        ] {
            assert_eq!(Profile::of(&host.parse().unwrap(), kind), profile, "{host}");
        }
    }

    #[test]
    fn a_kind_is_known_by_the_hosts_name() {
        for (host, kind) in [
            ("prod.azurecr.io", Kind::Acr),
            ("prod.azurecr.cn", Kind::Acr),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", Kind::Ecr),
            ("1.dkr.ecr.cn-north-1.amazonaws.com.cn", Kind::Ecr),
            ("1.dkr.ecr-fips.us-east-2.amazonaws.com", Kind::Ecr),
            ("1.dkr.ecr.eusc-de-east-1.amazonaws.eu", Kind::Ecr),
            ("1.dkr-ecr.us-east-2.on.aws", Kind::Ecr),
            ("1.dkr-ecr-fips.us-east-2.on.aws", Kind::Ecr),
            ("vpce-0a1-b2.dkr.ecr.eu-west-1.vpce.amazonaws.com", Kind::Ecr),
            // Somebody's own.
            ("ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", Kind::Plain),
            ("x1.lambda-url.us-east-1.on.aws", Kind::Plain),
            ("1.dkr.ecr.eu-west-1.evilamazonaws.com", Kind::Plain),
            // It is read as any other; who pushes there may set `kind: ecr`.
            ("public.ecr.aws", Kind::Plain),
            ("gcr.io", Kind::Google),
            ("eu.gcr.io", Kind::Google),
            ("europe-docker.pkg.dev", Kind::Google),
            ("ghcr.io", Kind::Ghcr),
            ("notgcr.io", Kind::Plain),
            ("azurecr.io.evil.example", Kind::Plain),
        ] {
            assert_eq!(Kind::of(&host.parse().unwrap()), kind, "{host}");
        }
    }

    #[test]
    fn registries_that_make_repositories_when_asked_are_known() {
        let makes = |host: &str| {
            let host = host.parse().unwrap();
            Kind::of(&host).makes_repositories_when_asked(&host)
        };
        assert!(makes("1.dkr.ecr.eu-west-1.amazonaws.com") && makes("quay.io"));
        assert!(["prod.azurecr.io", "ghcr.io", "gcr.io", "docker.io", "a.example"].iter().all(|host| !makes(host)));
    }

    #[test]
    fn blobs_go_in_chunks_where_a_registry_wants_them() {
        let chunks = |kind: Kind| (kind.wants_chunks(), kind.chunk() >> 20);
        assert_eq!([Kind::Acr, Kind::Ecr].map(chunks), [(true, 4), (true, 8)]);
        assert_eq!([Kind::Google, Kind::Ghcr, Kind::Plain].map(chunks), [(false, 8), (false, 4), (false, 8)]);
    }

    #[test]
    fn kinds_print_as_they_are_written() {
        for name in Kind::NAMES {
            assert_eq!(name.parse::<Kind>().unwrap().to_string(), name);
        }
        assert_eq!(
            "azure".parse::<Kind>().unwrap_err().to_string(),
            r#""azure" is not a kind of registry: expected acr, ecr, google, ghcr or plain"#
        );
    }
}
