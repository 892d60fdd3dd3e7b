//! Bytes of one file of a layout: a file in a folder, a part of an archive, or bytes in memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::fault::Fault;

/// Bytes of one file. Reading does not use the file position of the operating system, so several readers can share the
/// file.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Part of an open file.
    Stored {
        /// The open file.
        file: Arc<File>,
        /// Position of the first byte within the file.
        start: u64,
        /// Number of bytes.
        length: u64,
    },
    /// Bytes in memory.
    Memory(Bytes),
}

impl Content {
    /// Returns the content of a whole file of `length` bytes.
    pub(super) fn from_file(file: File, length: u64) -> Self {
        Self::Stored { file: Arc::new(file), start: 0, length }
    }

    /// Returns the number of bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Stored { length, .. } => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Reads bytes at `offset` into `buffer`, and returns the number of bytes. 0 means the end of the content. If the
    /// file was truncated after it was opened, the content ends early.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let remaining = usize::try_from(self.length().saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(remaining);
        let buffer = &mut buffer[..wanted];
        match self {
            _ if wanted == 0 => Ok(0),
            Self::Stored { file, start, .. } => file.read_at(buffer, start + offset),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                buffer.copy_from_slice(&bytes[start..start + wanted]);
                Ok(wanted)
            }
        }
    }

    /// Returns a reader of all bytes.
    pub(super) fn reader(&self) -> impl Read + '_ {
        Reader { content: self, offset: 0 }
    }

    /// Returns all bytes. If the content is longer than `limit` bytes, returns an error.
    pub(super) fn read_up_to(&self, limit: u64, path: &Path) -> Result<Vec<u8>, Fault> {
        let actual = self.length();
        if actual > limit {
            return Err(Fault::TooLarge { path: path.to_owned(), actual, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(actual).unwrap_or_default());
        self.reader().read_to_end(&mut bytes).map_err(Fault::io("read", path))?;
        Ok(bytes)
    }
}

/// Reader with its own position.
struct Reader<'a> {
    content: &'a Content,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
