//! Definition of a flavour: one field for each difference between registries.

use std::fmt;
use std::time::Duration;

use crate::oci::RegistryHost;
use crate::registry::LimitProfile;
use crate::store::Step;

/// Flavour of a registry: all differences that affect requests to the registry, or messages about the registry.
/// [`Flavor::GENERIC`] has the defaults. The other constants override some fields.
pub struct Flavor {
    /// Unique name. If [`Self::is_kind`] is true, the name is a value of `kind` in `sync.yaml`.
    pub(crate) name: &'static str,
    /// True if registries of the flavour may have custom domains. `kind` in `sync.yaml` may then name the flavour.
    /// False if the flavour is a single service with a fixed host.
    pub(crate) is_kind: bool,
    /// Hosts that have the flavour.
    pub(crate) hosts: &'static [HostPattern],
    /// Host of the API. `None` means the registry's own host.
    pub(crate) api_host: Option<&'static str>,
    /// Keys of the registry's credentials. `None` means the registry's own host.
    pub(crate) credential_keys: Option<CredentialKeys>,
    /// Form in which the registry accepts blobs.
    pub(crate) uploads: FlavorUploads,
    /// True if a HEAD of a blob is cheaper than the start of an upload. False if both requests cost the same.
    pub(crate) prefers_head: bool,
    /// Requirement of the registry for mounts, as a message for the log. `None` means no requirement.
    pub(crate) mount_requirement: Option<&'static str>,
    /// True if a request for push access may create a repository that does not exist yet.
    pub(crate) creates_repositories_on_request: bool,
    /// True if new content on one replica reaches the other replicas only after a delay.
    pub(crate) replicas_lag: bool,
    /// True if the registry adds digests to the tag list of distribution-spec.
    pub(crate) tag_list_has_digests: bool,
    /// True if the registry also has Azure's tag list, which includes digests.
    pub(crate) has_azure_tag_list: bool,
    /// False if the registry is known to have no catalog of repositories.
    pub(crate) has_catalog: bool,
    /// Length of the window in which the registry counts pulls, if the headers of the registry state no length. `None`
    /// means that the registry is not known to count pulls.
    pub(crate) pull_quota_window: Option<Duration>,
    /// Limits that apply if no profile is configured. `None` means that no limits of the registry are known.
    pub(crate) limits: Option<&'static LimitProfile>,
    /// Hints in the messages of errors.
    pub(crate) hints: FlavorHints,
}

/// Pattern of a registry's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// This host, on the default port.
    Host(&'static str),
    /// This name, on any port.
    Name(&'static str),
    /// All names below this domain.
    Below(&'static str),
    /// All names that contain `part`, below one of these domains.
    Part {
        /// Part of the name.
        part: &'static str,
        /// Domains.
        domains: &'static [&'static str],
    },
}

/// Keys of a registry's credentials in docker's configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CredentialKeys {
    /// Key that docker itself writes. Credential helpers get this key too.
    pub(crate) written: &'static str,
    /// Hosts that identify the registry in other keys, in order of precedence.
    pub(crate) hosts: &'static [&'static str],
}

/// Form in which a registry accepts blobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlavorUploads {
    /// True if the registry needs uploads in chunks.
    pub(crate) in_chunks: bool,
    /// Default length of a chunk, in bytes.
    pub(crate) chunk: usize,
    /// Minimum length of a chunk, in bytes. The last chunk may be shorter.
    pub(crate) min_chunk: usize,
    /// True if the registry is known to store all content that the registry reports as stored. One check then proves
    /// that the registry assembles chunks.
    pub(crate) is_known_to_store: bool,
}

/// Hints in the messages of errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlavorHints {
    /// Hint about a step that the registry denies (401 or 403).
    pub(crate) denied: Option<fn(Step) -> &'static str>,
    /// Hint about an upload into a repository that does not exist (404).
    pub(crate) missing_repository: &'static str,
    /// Hints about a manifest whose digest is soft-deleted.
    pub(crate) soft_deletion: Option<SoftDeletionHints>,
}

/// Hints about a manifest that a registry refuses because its digest is soft-deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoftDeletionHints {
    /// Hint for a refusal that names the soft deletion.
    pub(crate) stated: &'static str,
    /// Hint for a refusal that may have another reason.
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
