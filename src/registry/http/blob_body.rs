//! Body of a response with a blob. A read of the body counts the bytes, waits for the bandwidth limit, and detects a
//! stall.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::describe_interruption;
use super::sender::Sender;
use crate::fair_queue::Tenant;
use crate::registry::limits::concurrency::Permit;

/// Body of a response with a blob. When the caller drops the body, the body releases the permit of the request.
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
    /// Returns the reason if the body ends too early, or if no byte arrives within the idle time limit.
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
