//! What can be set of the identities that clouds give, after the configuration has been read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::registry::Secret;

/// An identity of Entra's, and where it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Azure {
    /// Who to be.
    pub identity: AzureIdentity,
    /// The instance metadata service.
    pub imds: Url,
    /// Entra's own address.
    pub authority: Url,
}

/// Who to be at Azure.
#[derive(Debug, Clone, PartialEq)]
pub enum AzureIdentity {
    /// The machine that this runs on, or the one of its identities with this client id.
    Managed {
        /// `None` is the machine's own.
        client_id: Option<String>,
    },
    /// What a cluster vouches for.
    Workload {
        /// The application.
        client_id: String,
        /// Its directory.
        tenant_id: String,
        /// The cluster's word for it.
        token: Secret,
    },
    /// An application with a secret.
    Application {
        /// The application.
        client_id: String,
        /// Its directory.
        tenant_id: String,
        /// Never shown.
        client_secret: Secret,
    },
    /// An application with a certificate.
    Certified {
        /// The application.
        client_id: String,
        /// Its directory.
        tenant_id: String,
        /// The file with the certificate, in PEM form; read at each use.
        certificate: PathBuf,
        /// The file with its private key, in PEM form: an RSA key. It may be the same.
        key: PathBuf,
    },
}

/// An identity at Amazon's, and where its registries' passwords are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Aws {
    /// The region of the registry. `None` goes by the host's name, then by the environment.
    pub region: Option<String>,
    /// Who to be, of those in the profile files. `None` asks every source in turn.
    pub profile: Option<String>,
    /// The API of the registry service. `None` is the region's.
    pub endpoint: Option<Url>,
    /// The security token service. `None` is the region's.
    pub sts: Option<Url>,
    /// The instance metadata service.
    pub imds: Url,
    /// What the environment says.
    pub variables: Variables,
}

/// An identity at Google's, and where it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Gcp {
    /// The file with a service account's key; read at each use. `None` is the service account of this machine.
    pub key: Option<PathBuf>,
    /// The metadata server.
    pub metadata: Url,
}

/// The environment's variables by which Amazon's own tools go. `Debug` shows their names alone.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<&'static str, SecretString>);

impl Variables {
    /// All that are looked at, by the names that Amazon gives them ("AWS SDKs and Tools Reference Guide").
    const NAMES: [&str; 17] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "HOME",
    ];

    /// Those of this environment that say something.
    #[must_use]
    pub fn of(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let said = |name: &'static str| Some((name, environment(name).filter(|text| !text.is_empty())?.into()));
        Self(Self::NAMES.into_iter().filter_map(said).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(Self::NAMES.contains(&name), "{name} is looked at");
        self.0.get(name).map(|text| text.expose_secret())
    }
}

impl PartialEq for Variables {
    fn eq(&self, other: &Self) -> bool {
        Self::NAMES.iter().all(|name| self.get(name) == other.get(name))
    }
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
