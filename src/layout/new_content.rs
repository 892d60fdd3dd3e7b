//! Content that is being written: a temporary file of a layout in a folder, or a region of an archive.

use bytes::Bytes;

use super::archive::Region;
use super::fault::Fault;
use super::temporary::Temporary;

/// Unverified content. Dropping the value discards the content.
#[derive(Debug)]
pub(super) enum NewContent {
    /// Temporary file in the folder of blobs.
    File(Temporary),
    /// Region of an archive's new file.
    Region(Region),
}

impl NewContent {
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Fault> {
        match self {
            Self::File(file) => file.write(pieces),
            Self::Region(region) => region.write(pieces),
        }
    }
}
