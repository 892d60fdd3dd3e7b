//! The bytes of a blob on their way into a request: paced, counted, watched for a standstill, and with the source's own
//! error kept aside, since an HTTP client only knows that the body failed.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;

use super::{Party, Registry};
use crate::store::{StoreError, Verified};

/// A body that can be sent once.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Option<reqwest::Body>,
    watch: Watch,
}

/// What is known of a body while the HTTP client has it.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Mutex<State>>);

struct State {
    /// Gone once the request is over: nothing is read from the source for nobody.
    bytes: Option<Verified>,
    failure: Option<StoreError>,
    /// How many bytes have been given out.
    given: u64,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    /// The next piece is not here yet. How long that may take is the source's affair.
    Awaiting,
    /// The registry has been given a piece and has not asked for another.
    Handed(Instant),
    /// The last piece is out.
    Ended(Instant),
}

impl Outgoing {
    pub(crate) fn new(bytes: Verified, registry: &Arc<Registry>, party: Party) -> Self {
        let phase = Phase::Handed(Instant::now());
        let watch = Watch(Arc::new(Mutex::new(State { bytes: Some(bytes), failure: None, given: 0, phase })));
        let (registry, progress) = (Arc::clone(registry), watch.clone());
        let paced = Pieces(watch.clone()).then(move |piece| {
            let (registry, progress) = (Arc::clone(&registry), progress.clone());
            async move {
                let piece = piece?;
                registry.meter.throttled(registry.pace.spend(party, piece.len()).await);
                registry.meter.sent(piece.len());
                progress.enter(Phase::Handed(Instant::now()));
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
    /// Resolves when the registry has taken no byte for `idle`, or not answered `commit` after the last one.
    pub(crate) async fn stalled(&self, idle: Duration, commit: Duration) -> String {
        loop {
            let (deadline, detail) = match self.with(|state| state.phase) {
                Phase::Awaiting => (Instant::now() + idle, None),
                Phase::Handed(since) => (since + idle, Some(("took no more bytes for", idle))),
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

    /// The request begins now: what it waited for until here was no standstill.
    pub(crate) fn begin(&self) {
        self.enter(Phase::Handed(Instant::now()));
    }

    /// Ends the reading, and gives the source's error if that is what ended it.
    pub(crate) fn close(&self) -> Option<StoreError> {
        self.with(|state| {
            state.bytes = None;
            state.failure.take()
        })
    }

    /// How many bytes the HTTP client has been given.
    pub(crate) fn given(&self) -> u64 {
        self.with(|state| state.given)
    }

    fn enter(&self, phase: Phase) {
        self.with(|state| state.phase = phase);
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Makes the HTTP client break the request off.
#[derive(Debug, thiserror::Error)]
#[error("the source of the bytes failed")]
struct BrokenOff;

struct Pieces(Watch);

impl Stream for Pieces {
    type Item = Result<Bytes, BrokenOff>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.with(|state| {
            state.phase = Phase::Awaiting;
            let Some(bytes) = &mut state.bytes else { return Poll::Ready(Some(Err(BrokenOff))) };
            match bytes.poll_next_unpin(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    state.given += piece.len() as u64;
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
