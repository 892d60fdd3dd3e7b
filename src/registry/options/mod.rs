//! Options of one registry, as parsed from the configuration.

pub(super) mod bandwidth;
pub(super) mod cloud;
pub(super) mod mirror;
pub(super) mod pace;
pub(super) mod token_service;
pub(super) mod transport;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Aws, Azure, Bandwidth, Bucket, Figure, Flavor, Gcp, LimitProfile, Rate, Transport};
use crate::oci::RepositoryName;

/// Options of one registry. The default is anonymous HTTPS without limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Credentials. `None` is anonymous.
    pub credentials: Option<Credentials>,
    /// True if HTTP is used instead of HTTPS. The program never infers this setting.
    pub plain_http: bool,
    /// Flavour of the registry, for a registry at a custom domain whose name does not imply the flavour (`kind` in
    /// `sync.yaml`). If `None`, the host's name decides.
    pub flavor: Option<&'static Flavor>,
    /// Limits of the requests to the registry.
    pub limits: Limits,
    /// Form in which blobs are uploaded.
    pub upload: Uploads,
    /// Maximum length of a manifest, in bytes, 8 MiB at most. `None` is 4 MiB.
    pub max_manifest: Option<u64>,
    /// Options of the connections.
    pub transport: Transport,
}

impl Options {
    /// Returns the options of a registry that the configuration does not name. The credentials are those of docker's
    /// configuration in this environment.
    #[must_use]
    pub fn unlisted(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let credentials = DockerConfig::from_environment(environment).map(Credentials::DockerConfig);
        Self { credentials, ..Self::default() }
    }
}

/// Options of blob uploads to one registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uploads {
    /// Form of an upload: one piece or chunks.
    pub mode: UploadMode,
    /// Length of a chunk in bytes, 64 MiB at most. `None` is the length of the registry's flavour, or 8 MiB if the
    /// flavour has no length of its own.
    pub chunk: Option<u64>,
}

/// Form of a blob upload: one piece or chunks (distribution-spec, "Pushing blobs").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UploadMode {
    /// Form that the flavour of the registry is known to accept. After the registry has refused this form, the other
    /// form.
    #[default]
    Auto,
    /// One piece.
    Monolithic,
    /// Chunks.
    Chunked,
}

/// Error of a text that is not an [`UploadMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an upload mode: expected auto, monolithic or chunked")]
pub struct UploadModeError(String);

impl UploadMode {
    /// Names of all modes, as they are written in `sync.yaml`.
    pub const NAMES: [&'static str; 3] = ["auto", "monolithic", "chunked"];
}

impl fmt::Display for UploadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Monolithic => "monolithic",
            Self::Chunked => "chunked",
        })
    }
}

impl FromStr for UploadMode {
    type Err = UploadModeError;

    fn from_str(text: &str) -> Result<Self, UploadModeError> {
        match text {
            "auto" => Ok(Self::Auto),
            "monolithic" => Ok(Self::Monolithic),
            "chunked" => Ok(Self::Chunked),
            _ => Err(UploadModeError(text.to_owned())),
        }
    }
}

/// Credentials for a registry, or the source of these credentials.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    /// No credentials, even if this machine stores credentials for the registry.
    Anonymous,
    /// A user name and its password.
    Password {
        /// User name; may be shown.
        username: String,
        /// Password or token; never shown.
        password: Secret,
    },
    /// Identity token or refresh token: the registry's token service issues access tokens for it.
    Token(Secret),
    /// Credentials that `docker login` and similar programs stored on this machine.
    DockerConfig(DockerConfig),
    /// Credentials from docker's credential helper of this name: the program `docker-credential-NAME`.
    Helper {
        /// Last part of the program's name.
        name: String,
        /// Environment variables for this program, in addition to those that every program gets.
        env: Vec<(String, Secret)>,
    },
    /// Credentials from the output of a command.
    Command {
        /// Program and its arguments: at least one element.
        line: Vec<String>,
        /// User name. If it is set, the output is the password. Otherwise the output is `USER:PASSWORD`, or an identity
        /// token if it has no colon.
        username: Option<String>,
        /// Environment variables for this program, in addition to those that every program gets.
        env: Vec<(String, Secret)>,
    },
    /// Identity of Microsoft Entra, for Azure Container Registry.
    Azure(Azure),
    /// Identity of AWS, for Elastic Container Registry.
    Aws(Aws),
    /// Identity of Google Cloud, for Artifact Registry.
    Gcp(Gcp),
}

impl Credentials {
    /// Returns true if the credentials come from a cloud service over the network.
    pub(crate) fn are_from_cloud(&self) -> bool {
        matches!(self, Self::Azure(_) | Self::Aws(_) | Self::Gcp(_))
    }
}

/// Credential files in the format of docker's `config.json`, which podman's `auth.json` shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Files in order; the first one that has an entry for a registry applies.
    pub files: Vec<PathBuf>,
    /// True if a missing file is an error.
    pub required: bool,
    /// Namespace whose entry takes precedence over the entry of the whole registry (containers-auth.json(5)). `None`
    /// uses the entry of the whole registry.
    pub namespace: Option<RepositoryName>,
}

impl DockerConfig {
    /// Returns the files that docker and podman use in this environment: `$DOCKER_CONFIG/config.json`, else
    /// `~/.docker/config.json`; then `$REGISTRY_AUTH_FILE`, else `$XDG_RUNTIME_DIR/containers/auth.json`
    /// (containers-auth.json(5)). `None` if the environment names no location.
    #[must_use]
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let path = |name: &str| environment(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        let docker = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
        let docker = docker.map(|folder| folder.join("config.json"));
        let podman = || Some(path("XDG_RUNTIME_DIR")?.join("containers/auth.json"));
        let files: Vec<PathBuf> = docker.into_iter().chain(path("REGISTRY_AUTH_FILE").or_else(podman)).collect();
        (!files.is_empty()).then_some(Self { files, required: false, namespace: None })
    }
}

/// Secret and its location. `Debug` shows no content.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Known secret: written in the file or taken from the environment.
    Value(SecretString),
    /// File that contains the secret. The file is read each time the secret is needed. Line breaks at the end of the
    /// file are not part of the secret.
    File(PathBuf),
}

impl PartialEq for Secret {
    /// Compares known secrets by their content, and files by their path.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Value(_), Self::File(_)) | (Self::File(_), Self::Value(_)) => false,
        }
    }
}

impl Eq for Secret {}

/// Configured limits of one registry, shared by all entries. [`in_force`](Limits::in_force) returns the resulting
/// limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Profile whose figures apply if a figure is not configured. Without a configured profile, the profile that the
    /// flavour or the name of the host implies applies.
    pub profile: Figure<&'static LimitProfile>,
    /// Rate of all requests.
    pub requests: Figure<Rate>,
    /// Rate of reads.
    pub reads: Figure<Rate>,
    /// Rate of writes.
    pub writes: Figure<Rate>,
    /// Rate of writes that open an upload.
    pub uploads: Figure<Rate>,
    /// Rate of deletions.
    pub deletes: Figure<Rate>,
    /// Rate of reads of the referrers API.
    pub referrer_lists: Figure<Rate>,
    /// Bandwidth in bytes per second, for bodies in both directions together, by the time of day. `None` is unlimited.
    pub bandwidth: Option<Bandwidth>,
    /// Maximum number of requests in flight.
    pub concurrent: Figure<usize>,
    /// Number of pulls per window that are reserved for other users of the quota, if the registry counts pulls (Docker
    /// Hub).
    pub reserve_pulls: u64,
}

impl Limits {
    /// Returns the configured figure of a bucket.
    #[must_use]
    pub fn figure(&self, bucket: Bucket) -> Figure<Rate> {
        match bucket {
            Bucket::Requests => self.requests,
            Bucket::Reads => self.reads,
            Bucket::Writes => self.writes,
            Bucket::Uploads => self.uploads,
            Bucket::Deletes => self.deletes,
            Bucket::ReferrerLists => self.referrer_lists,
        }
    }

    /// Returns a mutable reference to the configured figure of a bucket.
    pub fn figure_mut(&mut self, bucket: Bucket) -> &mut Figure<Rate> {
        match bucket {
            Bucket::Requests => &mut self.requests,
            Bucket::Reads => &mut self.reads,
            Bucket::Writes => &mut self.writes,
            Bucket::Uploads => &mut self.uploads,
            Bucket::Deletes => &mut self.deletes,
            Bucket::ReferrerLists => &mut self.referrer_lists,
        }
    }
}
