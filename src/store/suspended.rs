//! An upload that did not end, for another process to go on with: where it is, how far it came, and the hash of that.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::oci::Digester;

/// How much of a blob an upload has.
#[derive(Debug, Clone)]
pub struct Standing {
    /// So many bytes from its beginning.
    pub stored: u64,
    /// Their hash so far.
    pub hashed: Digester,
}

/// An upload that waits for the rest of its bytes.
#[derive(Clone)]
pub struct Suspended {
    /// Where, in the endpoint's own words.
    pub session: String,
    /// The part of the blob that is there for certain.
    pub standing: Standing,
    /// The part that is there if the endpoint took the chunk that was about to be sent: it may have all of it, a part,
    /// or nothing. `None` where no chunk was.
    pub ahead: Option<Standing>,
}

impl fmt::Debug for Suspended {
    /// Without the session: its address may hold more than is for others to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suspended({} bytes)", self.standing.stored)
    }
}

/// Who is told how far an upload came, as often as the endpoint acknowledges some of it.
pub type Progress = Arc<dyn Fn(Suspended) -> BoxFuture<'static, ()> + Send + Sync>;
