//! Content of the configuration files, and of the certificate files that the configuration names. The daemon compares
//! the current content with the content at the last read, to detect edits. Files of secrets are not included, because
//! the daemon reads a secret at each use.

use std::path::PathBuf;

use crate::config::Config;
use crate::oci::Digest;
use crate::registry::Pem;

/// Content of the configuration files and of the certificate files. In a comparison, an unreadable file differs from
/// every readable file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigurationContent {
    /// Digest of the configuration files; `None` if the files cannot be read.
    files: Option<Digest>,
    /// Each certificate file; `None` for a file that cannot be read.
    certificates: Vec<Option<Pem>>,
}

impl ConfigurationContent {
    /// Reads the certificate files that `config` names, and adds `files`, the digest of the configuration files. This
    /// function blocks on disk I/O.
    pub(crate) fn read(files: Option<Digest>, config: &Config) -> Self {
        Self { files, certificates: certificate_files(config).map(|pem| pem.read_again().ok()).collect() }
    }

    /// Replaces the certificates by the certificates in `config`. The next comparison then detects certificate files
    /// that changed after `config` was read.
    pub(crate) fn with_certificates_of(self, config: &Config) -> Self {
        Self { certificates: certificate_files(config).cloned().map(Some).collect(), ..self }
    }

    /// Replaces the digest of the configuration files.
    pub(crate) fn with_files(self, files: Option<Digest>) -> Self {
        Self { files, ..self }
    }
}

/// Returns the paths of the certificate files that a configuration names.
pub(crate) fn certificate_paths(config: &Config) -> impl Iterator<Item = PathBuf> {
    certificate_files(config).map(|pem| pem.path().to_owned())
}

fn certificate_files(config: &Config) -> impl Iterator<Item = &Pem> {
    config.registries.values().flat_map(|options| options.transport.tls.files())
}
