//! State of an unfinished upload for a later process: session, stored length and hash state.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::oci::Digester;

/// Part of a blob that the endpoint of an upload has stored.
#[derive(Debug, Clone)]
pub struct UploadProgress {
    /// The number of bytes from the beginning of the blob.
    pub stored: u64,
    /// The hash state of those bytes.
    pub hashed: Digester,
}

/// Unfinished upload that a later process can resume.
#[derive(Clone)]
pub struct UploadSession {
    /// The session's address, in the endpoint's own form.
    pub session: String,
    /// The part of the blob that the endpoint has confirmed.
    pub confirmed: UploadProgress,
    /// The part of the blob up to the end of the next chunk. The endpoint may have stored all, a part or nothing of
    /// that chunk. `None` if there is no next chunk.
    pub ahead: Option<UploadProgress>,
}

impl fmt::Debug for UploadSession {
    /// Omits the address of the session, because the address can contain private data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadSession({} bytes)", self.confirmed.stored)
    }
}

/// Callback that receives the state of the upload each time the endpoint acknowledges bytes.
pub type ProgressSink = Arc<dyn Fn(UploadSession) -> BoxFuture<'static, ()> + Send + Sync>;
