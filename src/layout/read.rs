//! Stream of a blob's bytes. Each slice is read by a separate blocking call.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::ErrorContext;
use super::calls::Calls;
use super::fault::Fault;
use crate::oci::Descriptor;
use crate::store::{ByteStream, Step};

/// Maximum number of bytes per read. A stream buffers one slice.
const SLICE: u64 = 512 << 10;

/// Streams a file that has the blob's length, from `offset` on. If the file is truncated meanwhile, the stream ends
/// early, and [`Verified`](crate::store::Verified) reports the missing bytes.
pub(super) fn stream_blob(
    opened: (File, PathBuf),
    blob: &Descriptor,
    offset: u64,
    context: ErrorContext,
    calls: Calls,
) -> ByteStream {
    let (file, path) = opened;
    let digest = blob.digest;
    let start = Reading { file, path, offset, remaining: blob.size - offset };
    stream::try_unfold(start, move |reading| {
        let (context, calls) = (context.clone(), calls.clone());
        async move {
            if reading.remaining == 0 {
                return Ok(None);
            }
            calls.run(move || reading.next()).await.map_err(context.to_error(Step::ReadBlob, digest))
        }
    })
    .boxed()
}

struct Reading {
    file: File,
    path: PathBuf,
    offset: u64,
    remaining: u64,
}

impl Reading {
    fn next(mut self) -> Result<Option<(Bytes, Self)>, Fault> {
        let wanted = self.remaining.min(SLICE);
        let mut slice = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        self.file.seek(SeekFrom::Start(self.offset)).map_err(Fault::io("read", &self.path))?;
        (&self.file).take(wanted).read_to_end(&mut slice).map_err(Fault::io("read", &self.path))?;
        if slice.is_empty() {
            return Ok(None);
        }
        self.offset += slice.len() as u64;
        self.remaining -= slice.len() as u64;
        Ok(Some((slice.into(), self)))
    }
}
