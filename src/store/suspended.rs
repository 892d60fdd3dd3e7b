//! Resumable uploads: session, stored length and hash state of an unfinished upload, for another process to resume.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::oci::Digester;

/// Stored part of a blob at an upload's endpoint.
#[derive(Debug, Clone)]
pub struct UploadProgress {
    /// The number of bytes from the beginning of the blob.
    pub stored: u64,
    /// The hash state of those bytes.
    pub hashed: Digester,
}

/// Unfinished upload that waits for the rest of its bytes.
#[derive(Clone)]
pub struct UploadSession {
    /// The session's address, in the endpoint's own form.
    pub session: String,
    /// The part of the blob that the endpoint certainly has.
    pub standing: UploadProgress,
    /// The part that the endpoint has if it accepted the chunk that was about to be sent. It may have all, a part or
    /// none of that chunk. `None` if no chunk was about to be sent.
    pub ahead: Option<UploadProgress>,
}

impl fmt::Debug for UploadSession {
    /// Omits the session: its address may contain private data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suspended({} bytes)", self.standing.stored)
    }
}

/// Callback that receives the state of the upload each time the endpoint acknowledges bytes.
pub type ProgressSink = Arc<dyn Fn(UploadSession) -> BoxFuture<'static, ()> + Send + Sync>;
