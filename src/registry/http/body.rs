//! Request body with the bytes of a blob. Its bandwidth is limited, its bytes are counted, and a stall is detected. The
//! body stores the source's own error, since an HTTP client only reports that the body failed.

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

/// Body that can be sent once.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Option<reqwest::Body>,
    watch: Watch,
}

/// Handle to the state of a body while the HTTP client owns it.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Mutex<BodyState>>);

struct BodyState {
    /// Source of the bytes. `None` once the request is over, so that nothing is read from the source without need.
    bytes: Option<Verified>,
    failure: Option<StoreError>,
    /// Number of bytes that the HTTP client has received.
    taken: u64,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    /// The next piece has not arrived yet. The source controls how long that may take.
    Awaiting,
    /// The registry has received a piece and has not requested another.
    Handed(Instant),
    /// The last piece has been sent.
    Ended(Instant),
}

impl Outgoing {
    pub(crate) fn new(bytes: Verified, sender: &Arc<Sender>, tenant: Tenant) -> Self {
        let phase = Phase::Handed(Instant::now());
        let watch = Watch(Arc::new(Mutex::new(BodyState { bytes: Some(bytes), failure: None, taken: 0, phase })));
        let (sender, progress) = (Arc::clone(sender), watch.clone());
        let paced = Pieces(watch.clone()).then(move |piece| {
            let (sender, progress) = (Arc::clone(&sender), progress.clone());
            async move {
                let piece = piece?;
                sender.wait_for_bandwidth(tenant, piece.len()).await;
                sender.meter.sent(piece.len());
                progress.set_phase(Phase::Handed(Instant::now()));
                Ok::<Bytes, BrokenOff>(piece)
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
    /// Resolves if the registry has accepted no byte for `idle`, or has not answered for `commit` after the last byte.
    pub(crate) async fn stalled(&self, idle: Duration, commit: Duration) -> String {
        loop {
            let (deadline, detail) = match self.with_state(|state| state.phase) {
                Phase::Awaiting => (Instant::now() + idle, None),
                Phase::Handed(since) => (since + idle, Some(("accepted no more bytes for", idle))),
                Phase::Ended(since) => (since + commit, Some(("did not answer after the last byte for", commit))),
            };
            match detail {
                Some((what, time)) if deadline <= Instant::now() => {
                    return format!("the registry {what} {}", humantime::format_duration(time));
                }
                _ => tokio::time::sleep_until(deadline).await,
            }
        }
    }

    /// Starts the clock of the request: its earlier waits do not count as a stall.
    pub(crate) fn start_request(&self) {
        self.set_phase(Phase::Handed(Instant::now()));
    }

    /// Stops reading the source. Returns the source's error if it ended the body.
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
struct BrokenOff;

struct Pieces(Watch);

impl Stream for Pieces {
    type Item = Result<Bytes, BrokenOff>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.with_state(|state| {
            state.phase = Phase::Awaiting;
            let Some(bytes) = &mut state.bytes else { return Poll::Ready(Some(Err(BrokenOff))) };
            match bytes.poll_next_unpin(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    state.taken += piece.len() as u64;
                    Poll::Ready(Some(Ok(piece)))
                }
                Poll::Ready(Some(Err(error))) => {
                    state.failure = Some(error);
                    Poll::Ready(Some(Err(BrokenOff)))
                }
                Poll::Ready(None) => {
                    state.phase = Phase::Ended(Instant::now());
                    Poll::Ready(None)
                }
            }
        })
    }
}
