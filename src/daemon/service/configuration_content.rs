//! What a configuration is read from, to be compared: its files, and the files of certificates that it names. Not the
//! files of secrets: those are read when they are needed.

use std::path::PathBuf;

use crate::config::Config;
use crate::oci::Digest;
use crate::registry::Pem;

/// The content of all those files. One that cannot be read is another one than any that could.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    files: Option<Digest>,
    certificates: Vec<Option<Pem>>,
}

impl Content {
    /// As it is now: `files` of the configuration, and those of certificates that `config` names. Blocking.
    pub(crate) fn now(files: Option<Digest>, config: &Config) -> Self {
        Self { files, certificates: pems(config).map(|pem| pem.read_again().ok()).collect() }
    }

    /// With the certificates as they were when `config` was read: what was exchanged since shows in the next comparison.
    pub(crate) fn having_read(self, config: &Config) -> Self {
        Self { certificates: pems(config).cloned().map(Some).collect(), ..self }
    }

    /// With the files as they were at another time.
    pub(crate) fn having_files(self, files: Option<Digest>) -> Self {
        Self { files, ..self }
    }
}

/// The paths of those files of certificates.
pub(crate) fn certificate_paths(config: &Config) -> impl Iterator<Item = PathBuf> {
    pems(config).map(|pem| pem.path().to_owned())
}

fn pems(config: &Config) -> impl Iterator<Item = &Pem> {
    config.registries.values().flat_map(|options| options.transport.tls.files())
}
