//! Request body with the bytes of a blob. The body counts the bytes, waits for the bandwidth limit, and detects a
//! stall. If the source of the bytes fails, the body stores the error of the source, because the HTTP client reports
//! only that the body failed.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::sender::Sender;
use crate::registry::Tenant;
use crate::store::{StoreError, Verified};

/// Request body with the bytes of a blob. The client can send the body only once.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Option<reqwest::Body>,
    watch: Watch,
}

/// Handle to the state of a body while the HTTP client owns the body.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Mutex<BodyState>>);

struct BodyState {
    /// Source of the bytes; `None` after the end of the request.
    bytes: Option<Verified>,
    /// Error of the source, if the source failed.
    failure: Option<StoreError>,
    /// Number of bytes that the HTTP client has received.
    taken: u64,
    phase: Phase,
}

/// Progress of a body, for the detection of a stall.
#[derive(Clone, Copy)]
enum Phase {
    /// The HTTP client waits for the next piece of the source. The source has its own time limits.
    WaitingForSource,
    /// The HTTP client received a piece at this time, and has not requested the next piece.
    Sending(Instant),
    /// The HTTP client reached the end of the body at this time.
    Complete(Instant),
}

impl Outgoing {
    pub(crate) fn new(bytes: Verified, sender: &Arc<Sender>, tenant: Tenant) -> Self {
        let phase = Phase::Sending(Instant::now());
        let watch = Watch(Arc::new(Mutex::new(BodyState { bytes: Some(bytes), failure: None, taken: 0, phase })));
        let (sender, progress) = (Arc::clone(sender), watch.clone());
        let paced = Pieces(watch.clone()).then(move |piece| {
            let (sender, progress) = (Arc::clone(&sender), progress.clone());
            async move {
                let piece = piece?;
                sender.wait_for_bandwidth(tenant, piece.len()).await;
                sender.meter.sent(piece.len());
                progress.set_phase(Phase::Sending(Instant::now()));
                Ok::<Bytes, SourceFailed>(piece)
            }
        });
        Self { body: Some(reqwest::Body::wrap_stream(paced)), watch }
    }

    pub(crate) fn take(&mut self) -> Option<reqwest::Body> {
        self.body.take()
    }

    pub(crate) fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl Watch {
    /// Waits until the upload stalls. Returns the error message. An upload stalls in these cases:
    ///
    /// - The registry accepts no byte for the duration `idle`.
    /// - The registry sends no answer for the duration `commit` after the last byte.
    pub(crate) async fn stalled(&self, idle: Duration, commit: Duration) -> String {
        loop {
            let (deadline, detail) = match self.with_state(|state| state.phase) {
                Phase::WaitingForSource => (Instant::now() + idle, None),
                Phase::Sending(since) => (since + idle, Some(("accepted no more bytes for", idle))),
                Phase::Complete(since) => (since + commit, Some(("has not answered since the last byte for", commit))),
            };
            match detail {
                Some((failure, time)) if deadline <= Instant::now() => {
                    return format!("the registry {failure} {}", humantime::format_duration(time));
                }
                _ => tokio::time::sleep_until(deadline).await,
            }
        }
    }

    /// Starts the stall timer. The time before this call does not count as a stall.
    pub(crate) fn start_request(&self) {
        self.set_phase(Phase::Sending(Instant::now()));
    }

    /// Stops reading the source. Returns the error of the source, if the source failed.
    pub(crate) fn close(&self) -> Option<StoreError> {
        self.with_state(|state| {
            state.bytes = None;
            state.failure.take()
        })
    }

    /// Returns the number of bytes that the HTTP client has received.
    pub(crate) fn bytes_taken(&self) -> u64 {
        self.with_state(|state| state.taken)
    }

    fn set_phase(&self, phase: Phase) {
        self.with_state(|state| state.phase = phase);
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut BodyState) -> T) -> T {
        act(&mut self.0.lock())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Error that makes the HTTP client abort the request.
#[derive(Debug, thiserror::Error)]
#[error("the source of the bytes failed")]
struct SourceFailed;

/// Stream of the pieces of the source. Each poll of the stream updates the state of the body.
struct Pieces(Watch);

impl Stream for Pieces {
    type Item = Result<Bytes, SourceFailed>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.with_state(|state| {
            state.phase = Phase::WaitingForSource;
            let Some(bytes) = &mut state.bytes else { return Poll::Ready(Some(Err(SourceFailed))) };
            match bytes.poll_next_unpin(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    state.taken += piece.len() as u64;
                    Poll::Ready(Some(Ok(piece)))
                }
                Poll::Ready(Some(Err(error))) => {
                    state.failure = Some(error);
                    Poll::Ready(Some(Err(SourceFailed)))
                }
                Poll::Ready(None) => {
                    state.phase = Phase::Complete(Instant::now());
                    Poll::Ready(None)
                }
            }
        })
    }
}
