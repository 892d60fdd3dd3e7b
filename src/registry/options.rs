//! What can be set for one registry, after the configuration has been read.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Aws, Azure, Bandwidth, Bucket, Figure, Gcp, Profile, Transport};
use crate::oci::RepositoryName;

/// How to speak to one registry. The default is anonymous HTTPS without limits.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who to be. `None` is anonymous.
    pub credentials: Option<Credentials>,
    /// Speak HTTP instead of HTTPS. Never guessed.
    pub plain_http: bool,
    /// What the registry is, where the host's name does not tell: behind a domain of one's own. `None` goes by the name.
    pub kind: Option<Kind>,
    /// What the registry may be asked for at most.
    pub limits: Limits,
    /// How blobs are sent to it.
    pub upload: Uploads,
    /// The largest manifest that is read, in bytes, 8 MiB at most. `None` is 4 MiB.
    pub max_manifest: Option<u64>,
    /// How connections are made.
    pub transport: Transport,
}

impl Options {
    /// How a registry is spoken to that no configuration names: as who docker's configuration of this environment says.
    #[must_use]
    pub fn unlisted(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let credentials = DockerConfig::of(environment).map(Credentials::DockerConfig);
        Self { credentials, ..Self::default() }
    }
}

/// Whose registry it is, as far as that changes how it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Azure Container Registry: takes blobs in chunks, and has a tag listing of its own that tells digests.
    Acr,
    /// Amazon's: takes blobs in chunks.
    Ecr,
    /// Google's, both of them: their tag listing tells digests.
    Google,
    /// GitHub's: takes short chunks only.
    Ghcr,
    /// Nothing beyond the distribution specification.
    Plain,
}

/// A text that is not a [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of registry: expected acr, ecr, google, ghcr or plain")]
pub struct KindError(String);

impl Kind {
    /// All kinds, as they are written.
    pub const NAMES: [&'static str; 5] = ["acr", "ecr", "google", "ghcr", "plain"];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Acr => "acr",
            Self::Ecr => "ecr",
            Self::Google => "google",
            Self::Ghcr => "ghcr",
            Self::Plain => "plain",
        })
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        match text {
            "acr" => Ok(Self::Acr),
            "ecr" => Ok(Self::Ecr),
            "google" => Ok(Self::Google),
            "ghcr" => Ok(Self::Ghcr),
            "plain" => Ok(Self::Plain),
            _ => Err(KindError(text.to_owned())),
        }
    }
}

/// How blobs are sent to one registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uploads {
    /// In one piece or in chunks.
    pub mode: UploadMode,
    /// The bytes of a chunk, 64 MiB at most. `None` goes by the kind of the registry, and is 8 MiB where that says nothing.
    pub chunk: Option<u64>,
}

/// Whether the bytes of a blob go in one piece or in chunks (distribution-spec, "Pushing blobs").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UploadMode {
    /// As the kind of the registry is known to take them, and the other way where it turns out that it does not.
    #[default]
    Auto,
    /// In one piece.
    Monolithic,
    /// In chunks.
    Chunked,
}

/// A text that is not an [`UploadMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a way to upload: expected auto, monolithic or chunked")]
pub struct UploadModeError(String);

impl UploadMode {
    /// All modes, as they are written.
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

/// Who to be at a registry, and where that is said.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    /// Nobody, whatever this machine knows.
    Anonymous,
    /// A user name and its password.
    Password {
        /// The user name; may be shown.
        username: String,
        /// The password or token; never shown.
        password: Secret,
    },
    /// An identity token, or refresh token: the registry's token service gives access tokens for it.
    Token(Secret),
    /// What `docker login` and its kin left on this machine.
    DockerConfig(DockerConfig),
    /// What docker's credential helper of this name says: the program `docker-credential-NAME`.
    Helper {
        /// The last part of the program's name.
        name: String,
        /// Variables that it gets beside those that every program gets.
        env: Vec<(String, Secret)>,
    },
    /// What a command prints.
    Command {
        /// The program and its arguments: one at least.
        line: Vec<String>,
        /// With a user name the output is the password; without, `USER:PASSWORD`, or an identity token where there is no
        /// colon.
        username: Option<String>,
        /// Variables that it gets beside those that every program gets.
        env: Vec<(String, Secret)>,
    },
    /// An identity of Entra's, for Azure Container Registry.
    Azure(Azure),
    /// An identity at Amazon's, for Elastic Container Registry.
    Aws(Aws),
    /// An identity at Google's, for Artifact Registry.
    Gcp(Gcp),
}

impl Credentials {
    /// Whether a cloud is asked over the network.
    pub(crate) fn are_by_cloud(&self) -> bool {
        matches!(self, Self::Azure(_) | Self::Aws(_) | Self::Gcp(_))
    }
}

/// Files in the form of docker's `config.json`, which podman's `auth.json` has too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// The first of them that knows a registry counts.
    pub files: Vec<PathBuf>,
    /// Whether it is an error that one is not there.
    pub required: bool,
    /// The namespace whose entry counts before that of the whole registry (containers-auth.json(5)). `None` is the registry.
    pub namespace: Option<RepositoryName>,
}

impl DockerConfig {
    /// Where docker and podman have it, by this environment: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`,
    /// then `$REGISTRY_AUTH_FILE`, else `$XDG_RUNTIME_DIR/containers/auth.json` (containers-auth.json(5)). `None` where the environment tells of no place.
    #[must_use]
    pub fn of(environment: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let place = |name: &str| environment(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        let docker = place("DOCKER_CONFIG").or_else(|| Some(place("HOME")?.join(".docker")));
        let docker = docker.map(|folder| folder.join("config.json"));
        let podman = || Some(place("XDG_RUNTIME_DIR")?.join("containers/auth.json"));
        let files: Vec<PathBuf> = docker.into_iter().chain(place("REGISTRY_AUTH_FILE").or_else(podman)).collect();
        (!files.is_empty()).then_some(Self { files, required: false, namespace: None })
    }
}

/// A secret and where it is. `Debug` shows no content.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Known already: written in the file or taken from the environment.
    Value(SecretString),
    /// In a file, read when it is needed; one trailing line break is not part of it.
    File(PathBuf),
}

impl PartialEq for Secret {
    /// Known secrets by what they are, files by their path.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Value(_), Self::File(_)) | (Self::File(_), Self::Value(_)) => false,
        }
    }
}

impl Eq for Secret {}

/// The limits of one registry as they are set, shared by all entries. What holds in the end is
/// [`in_force`](Limits::in_force).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Whose figures hold where none is set. Unsaid, the registry's own where its host tells.
    pub profile: Figure<Profile>,
    /// All requests.
    pub requests: Figure<Rate>,
    /// Reads.
    pub reads: Figure<Rate>,
    /// Writes.
    pub writes: Figure<Rate>,
    /// Writes that open an upload.
    pub uploads: Figure<Rate>,
    /// Deletions.
    pub deletes: Figure<Rate>,
    /// Reads by the referrers API.
    pub referrer_lists: Figure<Rate>,
    /// Bytes a second of bodies, in both directions together, by the time of day. `None` is unlimited.
    pub bandwidth: Option<Bandwidth>,
    /// Requests in flight.
    pub concurrent: Figure<usize>,
    /// How many reads of a window are left to others where the registry counts them (Docker Hub).
    pub keep: u64,
}

impl Limits {
    /// What is set for a bucket.
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

    /// The same, to be set.
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

/// So many in such a time: `600/min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/min", self.count),
            3600 => write!(f, "{}/h", self.count),
            _ => write!(f, "{} in {}", self.count, humantime::format_duration(self.per)),
        }
    }
}
