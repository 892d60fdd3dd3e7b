//! What is known of a registry by its kind: the one place that knows hosts by name, Docker Hub's apart.

use super::manner::Way;
use super::{Kind, Profile};
use crate::oci::RegistryHost;

impl Kind {
    /// What a host's name alone tells.
    pub(crate) fn of(host: &RegistryHost) -> Self {
        let name = host.name();
        let ends_with = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends_with(&[".azurecr.io", ".azurecr.cn", ".azurecr.us"]) {
            Self::Acr
        } else if ends_with(&[".amazonaws.com", ".amazonaws.com.cn"]) {
            Self::Ecr
        } else if name == "gcr.io" || ends_with(&[".gcr.io", ".pkg.dev"]) {
            Self::Google
        } else {
            Self::Plain
        }
    }

    /// How the bytes of an upload go, as far as the kind tells.
    pub(crate) fn upload(self) -> Way {
        match self {
            // A PUT of more than about 20 MB is answered 413.
            Self::Acr => Way::Chunks(4 * 1024 * 1024),
            Self::Ecr => Way::Chunks(8 * 1024 * 1024),
            // Google's take no chunks.
            Self::Google | Self::Plain => Way::Whole,
        }
    }

    /// The least length of a chunk, the last one apart.
    pub(crate) fn least_chunk(self) -> usize {
        match self {
            // Smaller parts are refused: they become parts of S3.
            Self::Ecr => 5 * 1024 * 1024,
            Self::Acr | Self::Google | Self::Plain => 1,
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
            (Kind::Plain, "ghcr.io") => Some(Self::Ghcr),
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
            ("gcr.io", Kind::Google),
            ("eu.gcr.io", Kind::Google),
            ("europe-docker.pkg.dev", Kind::Google),
            ("ghcr.io", Kind::Plain),
            ("notgcr.io", Kind::Plain),
            ("azurecr.io.evil.example", Kind::Plain),
        ] {
            assert_eq!(Kind::of(&host.parse().unwrap()), kind, "{host}");
        }
    }

    #[test]
    fn blobs_go_in_chunks_where_a_registry_wants_them() {
        assert_eq!(Kind::Acr.upload(), Way::Chunks(4 * 1024 * 1024));
        assert_eq!(Kind::Ecr.upload(), Way::Chunks(8 * 1024 * 1024));
        assert_eq!([Kind::Google, Kind::Plain].map(Kind::upload), [Way::Whole; 2]);
    }

    #[test]
    fn kinds_print_as_they_are_written() {
        for name in Kind::NAMES {
            assert_eq!(name.parse::<Kind>().unwrap().to_string(), name);
        }
        assert_eq!(
            "azure".parse::<Kind>().unwrap_err().to_string(),
            r#""azure" is not a kind of registry: expected acr, ecr, google or plain"#
        );
    }
}
