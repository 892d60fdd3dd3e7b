//! Options of one registry, as the configuration states them.

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

use super::{Aws, Azure, Bandwidth, Bucket, Flavor, Gcp, LimitProfile, LimitSetting, Rate, Transport};
use crate::oci::RepositoryName;

/// Options of one registry. By default, the client uses anonymous HTTPS without limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Credentials. `None` means anonymous access.
    pub credentials: Option<Credentials>,
    /// True if the client uses HTTP instead of HTTPS.
    pub plain_http: bool,
    /// Flavour of a registry at a custom domain (`kind` in `sync.yaml`). If `None`, the host name determines the
    /// flavour.
    pub flavor: Option<&'static Flavor>,
    /// Limits of the requests to the registry.
    pub limits: Limits,
    /// Options of blob uploads.
    pub upload: Uploads,
    /// Maximum length of a manifest in bytes, at most 8 MiB. `None` means 4 MiB.
    pub max_manifest: Option<u64>,
    /// Options of the connections.
    pub transport: Transport,
}

impl Options {
    /// Returns the options of a registry that the configuration does not name. The credentials come from the files of
    /// docker's configuration. `environment` returns the value of an environment variable.
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
    /// Length of a chunk in bytes, at most 64 MiB. If `None`, the flavour of the registry determines the length, by
    /// default 8 MiB.
    pub chunk: Option<u64>,
}

/// Form of a blob upload: one piece or chunks (distribution-spec, "Pushing blobs").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UploadMode {
    /// The form that the flavour of the registry prefers. If the registry refuses this form, the client uses the other
    /// form.
    #[default]
    Auto,
    /// One piece.
    Monolithic,
    /// Chunks.
    Chunked,
}

/// Error for a text that names no [`UploadMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an upload mode: expected auto, monolithic or chunked")]
pub struct UploadModeError(String);

impl UploadMode {
    /// Names of all modes in `sync.yaml`.
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

/// Credentials for a registry, or the source of the credentials.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    /// No credentials, even if this machine stores credentials for the registry.
    Anonymous,
    /// A user name and its password.
    Password {
        /// User name. Messages can show the user name.
        username: String,
        /// Password or token. Messages never show this secret.
        password: Secret,
    },
    /// Identity token or refresh token. The registry's token service issues access tokens in exchange for this token.
    Token(Secret),
    /// Credentials that `docker login` and similar programs stored on this machine.
    DockerConfig(DockerConfig),
    /// Credentials from a credential helper of docker: the program `docker-credential-NAME`.
    Helper {
        /// NAME in the name of the program.
        name: String,
        /// Additional environment variables for this program.
        env: Vec<(String, Secret)>,
    },
    /// Credentials from the output of a command.
    Command {
        /// Program and its arguments: at least one element.
        line: Vec<String>,
        /// User name. If `Some`, the command prints the password. If `None`, the command prints `USER:PASSWORD`, or an
        /// identity token without a colon.
        username: Option<String>,
        /// Additional environment variables for this program.
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

/// Credential files in the format of docker's `config.json`. Podman's `auth.json` has the same format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Files in order of precedence. The first file with an entry for a registry applies.
    pub files: Vec<PathBuf>,
    /// True if a missing file is an error.
    pub required: bool,
    /// Namespace of a repository, such as `team/app`. An entry for this namespace takes precedence over the entry for
    /// the whole registry (containers-auth.json(5)). If `None`, the entry for the whole registry applies.
    pub namespace: Option<RepositoryName>,
}

impl DockerConfig {
    /// Returns the files that docker and podman use (containers-auth.json(5)). `environment` returns the value of an
    /// environment variable. The files are:
    ///
    /// - `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`
    /// - `$REGISTRY_AUTH_FILE`, else `$XDG_RUNTIME_DIR/containers/auth.json`
    ///
    /// Returns `None` if the environment contains none of these variables.
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

/// Secret, or the file that contains the secret. `Debug` does not show the secret.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Secret in the configuration itself.
    Value(SecretString),
    /// Secret from an environment variable. The configuration parser has already read the variable.
    Variable {
        /// Name of the variable. Messages may show the name.
        name: String,
        /// Value of the variable. Messages never show the value.
        value: SecretString,
    },
    /// Path of a file that contains the secret. Each use of the secret reads the file. Line breaks at the end of the
    /// file are not part of the secret.
    File(PathBuf),
}

impl PartialEq for Secret {
    /// Compares two secrets by their content, and two files by their path. A file never equals a secret.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => a == b,
            _ => match (self.known(), other.known()) {
                (Some(a), Some(b)) => a.expose_secret() == b.expose_secret(),
                _ => false,
            },
        }
    }
}

impl Secret {
    /// Returns the secret. Returns `None` if the secret is in a file.
    #[must_use]
    pub fn known(&self) -> Option<&SecretString> {
        match self {
            Self::Value(value) | Self::Variable { value, .. } => Some(value),
            Self::File(_) => None,
        }
    }
}

impl Eq for Secret {}

/// Configured limits of one registry. All entries share these limits. [`in_force`](Limits::in_force) completes the
/// limits from the profile and the defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Profile: a named set of limits. The limits of the profile apply if the configuration does not set a limit. If
    /// the configuration sets no profile, the flavour or the host name determines the profile.
    pub profile: LimitSetting<&'static LimitProfile>,
    /// Rate of all requests.
    pub requests: LimitSetting<Rate>,
    /// Rate of reads.
    pub reads: LimitSetting<Rate>,
    /// Rate of writes.
    pub writes: LimitSetting<Rate>,
    /// Rate of writes that open an upload.
    pub uploads: LimitSetting<Rate>,
    /// Rate of deletions.
    pub deletes: LimitSetting<Rate>,
    /// Rate of reads of the referrers API.
    pub referrer_lists: LimitSetting<Rate>,
    /// Bandwidth in bytes per second, by the time of day. Uploads and downloads share this bandwidth. `None` means
    /// unlimited.
    pub bandwidth: Option<Bandwidth>,
    /// Maximum number of requests in flight.
    pub concurrent: LimitSetting<usize>,
    /// Number of pulls per window that transship leaves to other users of the pull quota. Applies only if the registry
    /// counts pulls (Docker Hub).
    pub reserve_pulls: u64,
}

impl Limits {
    /// Returns the configured rate of a bucket.
    #[must_use]
    pub fn figure(&self, bucket: Bucket) -> LimitSetting<Rate> {
        match bucket {
            Bucket::Requests => self.requests,
            Bucket::Reads => self.reads,
            Bucket::Writes => self.writes,
            Bucket::Uploads => self.uploads,
            Bucket::Deletes => self.deletes,
            Bucket::ReferrerLists => self.referrer_lists,
        }
    }

    /// Returns a mutable reference to the configured rate of a bucket.
    pub fn figure_mut(&mut self, bucket: Bucket) -> &mut LimitSetting<Rate> {
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
