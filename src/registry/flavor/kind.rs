//! Properties of registries by their kind. This is the one file that knows registries by host name, except Docker Hub.

use crate::oci::RegistryHost;
use crate::registry::options::DEFAULT_CHUNK;
use crate::registry::{Kind, Profile};

/// Domains of Amazon's services, except those that also answer over IPv6 (`on.aws`).
pub(crate) const AMAZONS: [&str; 3] = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"];

/// Returns true if `name` is the host of a private Amazon ECR registry, also through a VPC endpoint. Other hosts below
/// these domains may belong to anybody. `public.ecr.aws` does not count: the special rules are about writing, and most
/// of its users only read.
fn is_amazon_ecr(name: &str) -> bool {
    let classic = AMAZONS.iter().any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    (classic && (name.contains(".dkr.ecr.") || name.contains(".dkr.ecr-fips.")))
        || (name.ends_with(".on.aws") && (name.contains(".dkr-ecr.") || name.contains(".dkr-ecr-fips.")))
}

impl Kind {
    /// Returns the kind that the host's name implies.
    pub(crate) fn from_host(host: &RegistryHost) -> Self {
        let name = host.name();
        let ends_with = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends_with(&[".azurecr.io", ".azurecr.cn", ".azurecr.us"]) {
            Self::Acr
        } else if is_amazon_ecr(name) {
            Self::Ecr
        } else if name == "gcr.io" || ends_with(&[".gcr.io", ".pkg.dev"]) {
            Self::Google
        } else if name == "ghcr.io" {
            Self::Ghcr
        } else {
            Self::Plain
        }
    }

    /// Returns true if a request for push access may create a repository that does not exist yet.
    pub(crate) fn creates_repositories_on_request(self, host: &RegistryHost) -> bool {
        match self {
            Self::Ecr => true,
            Self::Plain => host.name() == "quay.io",
            Self::Acr | Self::Google | Self::Ghcr => false,
        }
    }

    /// Returns true if this kind of registry needs the bytes of an upload in chunks.
    pub(crate) fn wants_chunks(self) -> bool {
        match self {
            // Azure Container Registry answers a PUT of more than about 20 MB with 413.
            Self::Acr | Self::Ecr => true,
            // Google Artifact Registry accepts no chunks, and GHCR is reported to accept only a single one.
            Self::Google | Self::Ghcr | Self::Plain => false,
        }
    }

    /// Returns the default length of a chunk.
    pub(crate) fn chunk(self) -> usize {
        match self {
            // GHCR answers longer chunks with 416.
            Self::Acr | Self::Ghcr => 4 * 1024 * 1024,
            Self::Ecr | Self::Google | Self::Plain => DEFAULT_CHUNK,
        }
    }

    /// Returns the minimum length of a chunk other than the last.
    pub(crate) fn least_chunk(self) -> usize {
        match self {
            // Amazon ECR refuses shorter chunks: they become parts of an S3 upload.
            Self::Ecr => 5 * 1024 * 1024,
            Self::Acr | Self::Google | Self::Ghcr | Self::Plain => 1,
        }
    }
}

impl Profile {
    /// Returns the profile whose limits apply if none is configured: by the host's name, or by the kind if one is
    /// configured. `None` for Azure Container Registry, since nothing reveals the tier.
    pub(crate) fn from_host(host: &RegistryHost, kind: Option<Kind>) -> Option<Self> {
        match (kind.unwrap_or_else(|| Kind::from_host(host)), host.name()) {
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
    fn profile_is_known_by_host_name_or_kind() {
        for (host, kind, profile) in [
            ("docker.io", None, Some(Profile::DockerHub)),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", None, Some(Profile::Ecr)),
            ("ghcr.io", None, Some(Profile::Ghcr)),
            ("quay.io", None, Some(Profile::Quay)),
            ("gcr.io", None, Some(Profile::Gar)),
            ("europe-docker.pkg.dev", None, Some(Profile::Gar)),
            // The tier is not known.
            ("prod.azurecr.io", None, None),
            ("a.example", None, None),
            ("a.example", Some(Kind::Ecr), Some(Profile::Ecr)),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", Some(Kind::Plain), None),
        ] {
            assert_eq!(Profile::from_host(&host.parse().unwrap(), kind), profile, "{host}");
        }
    }

    #[test]
    fn kind_is_known_by_the_host_name() {
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
            // Hosts of Amazon's customers.
            ("ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", Kind::Plain),
            ("x1.lambda-url.us-east-1.on.aws", Kind::Plain),
            ("1.dkr.ecr.eu-west-1.evilamazonaws.com", Kind::Plain),
            // It is read like any other registry; an operator that pushes there may set `kind: ecr`.
            ("public.ecr.aws", Kind::Plain),
            ("gcr.io", Kind::Google),
            ("eu.gcr.io", Kind::Google),
            ("europe-docker.pkg.dev", Kind::Google),
            ("ghcr.io", Kind::Ghcr),
            ("notgcr.io", Kind::Plain),
            ("azurecr.io.evil.example", Kind::Plain),
        ] {
            assert_eq!(Kind::from_host(&host.parse().unwrap()), kind, "{host}");
        }
    }

    #[test]
    fn registries_that_create_repositories_on_request_are_known() {
        let makes = |host: &str| {
            let host = host.parse().unwrap();
            Kind::from_host(&host).creates_repositories_on_request(&host)
        };
        assert!(makes("1.dkr.ecr.eu-west-1.amazonaws.com") && makes("quay.io"));
        assert!(["prod.azurecr.io", "ghcr.io", "gcr.io", "docker.io", "a.example"].iter().all(|host| !makes(host)));
    }

    #[test]
    fn blobs_are_chunked_where_the_kind_wants_it() {
        let chunks = |kind: Kind| (kind.wants_chunks(), kind.chunk() >> 20);
        assert_eq!([Kind::Acr, Kind::Ecr].map(chunks), [(true, 4), (true, 8)]);
        assert_eq!([Kind::Google, Kind::Ghcr, Kind::Plain].map(chunks), [(false, 8), (false, 4), (false, 8)]);
    }

    #[test]
    fn kinds_display_as_they_are_parsed() {
        for name in Kind::NAMES {
            assert_eq!(name.parse::<Kind>().unwrap().to_string(), name);
        }
        assert_eq!(
            "azure".parse::<Kind>().unwrap_err().to_string(),
            r#""azure" is not a kind of registry: expected acr, ecr, google, ghcr or plain"#
        );
    }
}
