//! Stream of a blob's bytes. A separate blocking call reads each slice.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::ErrorContext;
use super::calls::Calls;
use super::content::Content;
use super::fault::Fault;
use crate::oci::Descriptor;
use crate::store::{ByteStream, Step};

/// Maximum number of bytes in a slice. A stream buffers one slice.
const SLICE: u64 = 512 << 10;

/// Streams a blob from `offset` to the end. The caller has checked the length of the file. If the file is truncated
/// during the read, the stream ends early, and [`Verified`](crate::store::Verified) reports the missing bytes.
pub(super) fn stream_blob(
    opened: (Content, PathBuf),
    blob: &Descriptor,
    offset: u64,
    context: ErrorContext,
    calls: Calls,
) -> ByteStream {
    let (content, path) = opened;
    let digest = blob.digest;
    let start = Reading { content, path, offset, remaining: blob.size - offset };
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
    content: Content,
    path: PathBuf,
    offset: u64,
    remaining: u64,
}

impl Reading {
    fn next(mut self) -> Result<Option<(Bytes, Self)>, Fault> {
        let mut slice = vec![0; usize::try_from(self.remaining.min(SLICE)).unwrap_or_default()];
        let read = self.content.read_at(&mut slice, self.offset).map_err(Fault::io("read", &self.path))?;
        slice.truncate(read);
        if slice.is_empty() {
            return Ok(None);
        }
        self.offset += slice.len() as u64;
        self.remaining -= slice.len() as u64;
        Ok(Some((slice.into(), self)))
    }
}
