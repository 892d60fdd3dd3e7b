//! Definition of a flavour: one field for each difference between registries.

use std::fmt;
use std::time::Duration;

use crate::oci::RegistryHost;
use crate::registry::LimitProfile;
use crate::store::Step;

/// Kind of registry. Each field describes a difference between registries. [`Flavor::GENERIC`] has the defaults. The
/// other constants override some fields.
pub struct Flavor {
    /// Unique name. If [`Self::is_kind`] is true, the name is a value of `kind` in `sync.yaml`.
    pub(crate) name: &'static str,
    /// True if a registry of the flavour can have any host name. The operator can then set `kind` in `sync.yaml` to the
    /// flavour's name. False if the flavour is a single service with a fixed host.
    pub(crate) is_kind: bool,
    /// Patterns of the hosts that have the flavour.
    pub(crate) hosts: &'static [HostPattern],
    /// Host of the API. `None` means the registry's own host.
    pub(crate) api_host: Option<&'static str>,
    /// Keys of the registry's credentials in docker's configuration. `None` means that the key is the registry's own
    /// host.
    pub(crate) credential_keys: Option<CredentialKeys>,
    /// Properties of uploads to the registry.
    pub(crate) uploads: FlavorUploads,
    /// True if the registry limits upload starts more strictly than HEAD requests. The client then sends a HEAD request
    /// for a blob before the client starts an upload of the blob.
    pub(crate) prefers_head: bool,
    /// Log message about the conditions under which the registry mounts blobs. `None` means that the registry has no
    /// special conditions.
    pub(crate) mount_requirement: Option<&'static str>,
    /// True if the start of an upload, or a request for a push token, can create a repository that does not exist yet.
    pub(crate) creates_repositories_on_request: bool,
    /// True if new content on one replica reaches the other replicas only after a delay.
    pub(crate) replicas_lag: bool,
    /// True if the registry adds digests to the tag list of distribution-spec.
    pub(crate) tag_list_has_digests: bool,
    /// True if the registry also has Azure's tag list, which includes digests.
    pub(crate) has_azure_tag_list: bool,
    /// False if the registry has no catalog of repositories.
    pub(crate) has_catalog: bool,
    /// Length of the window in which the registry counts pulls. If the headers of the registry state a length, that
    /// length applies instead. `None` means that the client does not know a pull limit of the registry.
    pub(crate) pull_quota_window: Option<Duration>,
    /// Limits of the registry. If the operator configured a profile, that profile applies instead. `None` means that
    /// the client knows no limits of the registry.
    pub(crate) limits: Option<&'static LimitProfile>,
    /// Hints in error messages.
    pub(crate) hints: FlavorHints,
}

/// Pattern of a registry's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// This host, on the default port.
    Host(&'static str),
    /// This name, on any port.
    Name(&'static str),
    /// All names below this domain: for example, `prod.azurecr.io` is below `azurecr.io`.
    Below(&'static str),
    /// All names that contain `part` and are below one of `domains`: for example, `1.dkr.ecr.eu-west-1.amazonaws.com`.
    Part { part: &'static str, domains: &'static [&'static str] },
}

/// Keys of a registry's credentials in docker's configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CredentialKeys {
    /// Key that docker writes. The client also passes this key to credential helpers.
    pub(crate) written: &'static str,
    /// Hosts that identify the registry in keys of docker's configuration, in order of precedence.
    pub(crate) hosts: &'static [&'static str],
}

/// Properties of uploads to a registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlavorUploads {
    /// True if the registry needs uploads in chunks.
    pub(crate) in_chunks: bool,
    /// Default length of a chunk, in bytes.
    pub(crate) chunk: usize,
    /// Minimum length of a chunk, in bytes. The last chunk can be shorter.
    pub(crate) min_chunk: usize,
    /// True if registries of the flavour reliably store all chunks. If true, the client checks uploads in several
    /// chunks only until one check has succeeded. If false, the client checks every upload in several chunks.
    pub(crate) is_known_to_store: bool,
}

/// Hints in error messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlavorHints {
    /// Function that returns a hint about a step that the registry denies (401 or 403).
    pub(crate) denied: Option<fn(Step) -> &'static str>,
    /// Hint about an upload into a repository that does not exist (404).
    pub(crate) missing_repository: &'static str,
    /// Hints about a manifest whose digest is soft-deleted.
    pub(crate) soft_deletion: Option<SoftDeletionHints>,
}

/// Hints about a manifest that a registry refuses because the digest is soft-deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoftDeletionHints {
    /// Hint for a refusal whose text mentions the soft deletion.
    pub(crate) stated: &'static str,
    /// Hint for a refusal whose text does not mention the soft deletion.
    pub(crate) possible: &'static str,
}

impl HostPattern {
    /// Returns true if the host matches the pattern.
    pub(super) fn matches(self, host: &RegistryHost) -> bool {
        let name = host.name();
        let is_below = |domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        match self {
            Self::Host(whole) => host.as_str() == whole,
            Self::Name(whole) => name == whole,
            Self::Below(domain) => is_below(domain),
            Self::Part { part, domains } => name.contains(part) && domains.iter().any(|domain| is_below(domain)),
        }
    }
}

impl PartialEq for Flavor {
    /// Compares the names, which are unique.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Flavor {}

impl fmt::Debug for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flavor({})", self.name)
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}
