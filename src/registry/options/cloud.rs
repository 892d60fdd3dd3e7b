//! Cloud identities from the configuration: Azure, Amazon and Google.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::registry::Secret;

/// An identity of Entra, and the addresses of the services that issue tokens for the identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Azure {
    /// Identity to use.
    pub identity: AzureIdentity,
    /// Address of the instance metadata service.
    pub imds: Url,
    /// Address of Entra.
    pub authority: Url,
}

/// Identity at Azure.
#[derive(Debug, Clone, PartialEq)]
pub enum AzureIdentity {
    /// Managed identity of this machine. If a machine has several identities, the client id selects one identity.
    Managed {
        /// Client id; `None` is the machine's own identity.
        client_id: Option<String>,
    },
    /// Workload identity. A token of the Kubernetes cluster proves this identity.
    Workload {
        /// Client id of the application.
        client_id: String,
        /// Id of the tenant of the application.
        tenant_id: String,
        /// The federated token of the cluster.
        token: Secret,
    },
    /// Application with a secret.
    Application {
        /// Client id of the application.
        client_id: String,
        /// Id of the tenant of the application.
        tenant_id: String,
        /// Secret of the application; never shown.
        client_secret: Secret,
    },
    /// Application with a certificate.
    Certified {
        /// Client id of the application.
        client_id: String,
        /// Id of the tenant of the application.
        tenant_id: String,
        /// File with the certificate, in PEM form; read at each use.
        certificate: PathBuf,
        /// File with the application's private RSA key, in PEM form. The key can be in the file `certificate`.
        key: PathBuf,
    },
}

/// An identity of Amazon, and the addresses of the services that provide passwords for its registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Aws {
    /// Region of the registry. If `None`, the client takes the region from the host name, or else from the environment.
    pub region: Option<String>,
    /// Name of a profile in Amazon's profile files. If `None`, the client tries all sources of credentials, one after
    /// another.
    pub profile: Option<String>,
    /// Address of the registry service's API. `None` is the region's API.
    pub endpoint: Option<Url>,
    /// Address of the security token service. `None` is the service of the region.
    pub sts: Option<Url>,
    /// Address of the instance metadata service.
    pub imds: Url,
    /// Variables of the environment.
    pub variables: Variables,
}

/// An identity of Google, and the address of the service that issues tokens for the machine's identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Gcp {
    /// File with a service account's key; read at each use. `None` is the service account of this machine.
    pub key: Option<PathBuf>,
    /// Address of the metadata server.
    pub metadata: Url,
}

/// Environment variables that Amazon's own tools use. `Debug` shows only the names of the variables.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<&'static str, SecretString>);

impl Variables {
    /// Names of the variables ("AWS SDKs and Tools Reference Guide").
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

    /// Reads the non-empty variables of this environment.
    #[must_use]
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let value = |name: &'static str| Some((name, environment(name).filter(|text| !text.is_empty())?.into()));
        Self(Self::NAMES.into_iter().filter_map(value).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(Self::NAMES.contains(&name), "{name} is among the names that are read");
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
