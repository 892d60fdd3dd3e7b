//! Body of a blob that the caller reads. The body limits the bandwidth, counts the bytes and detects a stall.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::describe_interruption;
use super::sender::Sender;
use crate::fair_queue::Tenant;
use crate::registry::limits::concurrency::Permit;

/// Body of a blob. Dropping the body releases the permit of its request.
pub(crate) struct BlobBody {
    sender: Arc<Sender>,
    response: reqwest::Response,
    tenant: Tenant,
    _permit: Permit,
}

impl BlobBody {
    pub(super) fn new(sender: Arc<Sender>, response: reqwest::Response, tenant: Tenant, permit: Permit) -> Self {
        Self { sender, response, tenant, _permit: permit }
    }

    /// Returns the next bytes; `None` at the end.
    ///
    /// # Errors
    /// Returns the reason why the body ended too early.
    pub(crate) async fn next_piece(&mut self) -> Result<Option<Bytes>, String> {
        let idle = self.sender.retry_policy.idle;
        let next = match tokio::time::timeout(idle, self.response.chunk()).await {
            Ok(next) => next.map_err(|error| describe_interruption(&error, self.response.url()).detail().to_owned())?,
            Err(_) => return Err(format!("received no more bytes for {}", humantime::format_duration(idle))),
        };
        if let Some(piece) = &next {
            self.sender.meter.received(piece.len());
            self.sender.wait_for_bandwidth(self.tenant, piece.len()).await;
        }
        Ok(next)
    }
}

impl fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobBody")
    }
}
