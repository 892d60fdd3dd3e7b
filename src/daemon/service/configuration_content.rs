//! Content that a configuration is read from, for comparison: its files, and the certificate files that it names. The
//! files of secrets are not part of it: the daemon reads those when it needs them.

use std::path::PathBuf;

use crate::config::Config;
use crate::oci::Digest;
use crate::registry::Pem;

/// Content of all those files. An unreadable file differs from every readable one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigurationContent {
    files: Option<Digest>,
    certificates: Vec<Option<Pem>>,
}

impl ConfigurationContent {
    /// Reads the current content: `files` of the configuration, and the certificate files that `config` names.
    /// Blocking.
    pub(crate) fn read(files: Option<Digest>, config: &Config) -> Self {
        Self { files, certificates: certificate_files(config).map(|pem| pem.read_again().ok()).collect() }
    }

    /// Replaces the certificates by those that were in use when `config` was read: the next comparison then shows any
    /// certificate that was exchanged since.
    pub(crate) fn with_certificates_of(self, config: &Config) -> Self {
        Self { certificates: certificate_files(config).cloned().map(Some).collect(), ..self }
    }

    /// Replaces the files by those of another time.
    pub(crate) fn with_files(self, files: Option<Digest>) -> Self {
        Self { files, ..self }
    }
}

/// Returns the paths of the certificate files.
pub(crate) fn certificate_paths(config: &Config) -> impl Iterator<Item = PathBuf> {
    certificate_files(config).map(|pem| pem.path().to_owned())
}

fn certificate_files(config: &Config) -> impl Iterator<Item = &Pem> {
    config.registries.values().flat_map(|options| options.transport.tls.files())
}
