//! Programs whose configurations can be imported.

/// Program whose configuration the import reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// regclient's regsync, version 1.
    Regsync,
    /// The YAML of `skopeo sync --src yaml`.
    Skopeo,
    /// The images of image-syncer, with or without authentication.
    ImageSyncer,
    /// dregsy.
    Dregsy,
    /// The `sync` extension of zot.
    Zot,
}

impl Program {
    /// Returns the name of the program for `--from`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Regsync => "regsync",
            Self::Skopeo => "skopeo",
            Self::ImageSyncer => "image-syncer",
            Self::Dregsy => "dregsy",
            Self::Zot => "zot",
        }
    }

    /// Returns true if the configuration of the program contains no target.
    pub(super) fn needs_target(self) -> bool {
        matches!(self, Self::Skopeo | Self::Zot)
    }

    /// Returns true if the program reads credentials from a separate file.
    pub(super) fn has_auth_file(self) -> bool {
        matches!(self, Self::ImageSyncer | Self::Zot)
    }
}
