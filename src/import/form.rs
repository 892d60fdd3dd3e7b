//! Programs whose configurations can be imported.

/// Program whose configuration is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
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

impl Form {
    /// Returns the name of the program, as in `--from`.
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

    /// Returns true if the file names no target.
    pub(super) fn needs_target(self) -> bool {
        matches!(self, Self::Skopeo | Self::Zot)
    }

    /// Returns true if the program reads its credentials from another file.
    pub(super) fn has_auth_file(self) -> bool {
        matches!(self, Self::ImageSyncer | Self::Zot)
    }
}
