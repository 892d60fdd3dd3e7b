//! Fan-out: one read of a blob from the source feeds several targets. A slow target does not delay the other targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::read;
use super::stragglers::{ProgressTracker, SeparateReadPermit};
use crate::oci::Descriptor;
use crate::store::{ByteStream, ErrorKind, Source, Step, StoreError};

/// Maximum number of pieces in the queue of one target. A full queue contains at most 1 MiB.
const MAX_QUEUED_PIECES: usize = 16;

/// Maximum size of a queued piece, in bytes. The feed splits larger pieces.
const MAX_PIECE: usize = 64 * 1024;

/// Limit for the time that other targets wait for a slow target during the read of one blob. If the read takes longer
/// than 600 ms, the limit is half of the time since the start of the read. After the limit, the slow target falls
/// behind and no longer uses the shared read.
const MIN_WAIT: Duration = Duration::from_millis(300);

/// Interval at which the feed checks whether fast targets wait for a slow target.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

type Piece = Result<Bytes, StoreError>;

/// Stream of one target, created by [`split`].
pub(crate) struct Branch {
    pub(crate) bytes: ByteStream,
    pub(crate) status: BranchStatus,
}

/// State of a branch: records whether its target fell behind, and whether its stream ended with an error for this
/// reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct BranchStatus(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    fell_behind: AtomicBool,
    was_interrupted: AtomicBool,
}

impl BranchStatus {
    /// Returns true if the target fell behind and no permit for a separate read was free. The stream then ended with an
    /// error.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.0.was_interrupted.load(Ordering::Relaxed)
    }

    fn fell_behind(&self) -> bool {
        self.0.fell_behind.load(Ordering::Relaxed)
    }
}

/// Read that provides the bytes of a branch.
enum Feed {
    /// The shared read.
    Shared(mpsc::Receiver<Piece>),
    /// A separate read.
    Separate(ByteStream),
    /// No read, because the branch ended with an error.
    Ended,
}

struct BranchReader {
    feed: Feed,
    source: Arc<dyn Source>,
    blob: Descriptor,
    offset: u64,
    tracker: Option<Arc<ProgressTracker>>,
    /// Permit of the separate read. `None` until the target falls behind.
    permit: Option<SeparateReadPermit>,
    status: BranchStatus,
}

/// Reads `blob` once and passes the bytes to one stream for each target. `trackers` has one item for each target.
/// - If a target falls behind and has a free permit for a separate read, its stream continues with a separate read from
///   the current position.
/// - If a target falls behind and all its permits for separate reads are taken, its stream ends with an error.
/// - If the shared read ends too early without an error, each stream continues with a separate read.
pub(crate) fn split(
    source: &Arc<dyn Source>,
    blob: &Descriptor,
    trackers: Vec<Option<Arc<ProgressTracker>>>,
) -> Vec<Branch> {
    if trackers.len() < 2 {
        return trackers.iter().map(|_| read_alone(source, blob)).collect();
    }
    let (targets, branches): (Vec<_>, Vec<_>) = trackers
        .into_iter()
        .map(|tracker| {
            let (queue, pieces) = mpsc::channel(MAX_QUEUED_PIECES);
            let status = BranchStatus::default();
            let reader = BranchReader {
                feed: Feed::Shared(pieces),
                source: source.clone(),
                blob: blob.clone(),
                offset: 0,
                tracker: tracker.clone(),
                permit: None,
                status: status.clone(),
            };
            let fed = FedTarget { queue, tracker, waited: Duration::ZERO, status: status.clone() };
            (fed, Branch { bytes: reader.into_stream(), status })
        })
        .unzip();
    tokio::spawn(feed(read::read(source.clone(), blob.clone(), 0), targets).in_current_span());
    branches
}

pub(crate) fn read_alone(source: &Arc<dyn Source>, blob: &Descriptor) -> Branch {
    Branch { bytes: read::read(source.clone(), blob.clone(), 0), status: BranchStatus::default() }
}

/// Target that the shared read feeds.
struct FedTarget {
    queue: mpsc::Sender<Piece>,
    tracker: Option<Arc<ProgressTracker>>,
    /// Time for which other targets of the shared read have waited for this target.
    waited: Duration,
    status: BranchStatus,
}

/// Passes each piece of the read to all targets. Returns when the read ends, or when no target needs more pieces.
async fn feed(read: ByteStream, mut targets: Vec<FedTarget>) {
    let mut read = read.flat_map(|piece| stream::iter(split_piece(piece)));
    let started = Instant::now();
    while !targets.is_empty() {
        let piece = tokio::select! {
            piece = read.next() => piece,
            () = wait_until_all_closed(&targets) => None,
        };
        let Some(piece) = piece else { return };
        let mut index = 0;
        while index < targets.len() {
            if send_piece(&mut targets, index, &piece, started).await {
                index += 1;
            } else {
                targets.remove(index);
            }
        }
        if piece.is_err() {
            return;
        }
    }
}

/// Passes a piece to one of the targets. Returns false if the target needs no more pieces, because its stream was
/// dropped or the target fell behind.
async fn send_piece(targets: &mut [FedTarget], index: usize, piece: &Piece, started: Instant) -> bool {
    let queue = targets[index].queue.clone();
    if let Ok(slot) = queue.try_reserve() {
        slot.send(piece.clone());
        return true;
    }
    loop {
        if targets[index].tracker.as_ref().is_some_and(|tracker| tracker.is_behind()) {
            targets[index].status.0.fell_behind.store(true, Ordering::Relaxed);
            return false;
        }
        match tokio::time::timeout(CHECK_INTERVAL, queue.reserve()).await {
            Ok(Ok(slot)) => {
                slot.send(piece.clone());
                return true;
            }
            Ok(Err(_)) => return false,
            Err(_) => {}
        }
        let sibling_waits = targets.iter().enumerate().any(|(other, target)| other != index && target.is_drained());
        if sibling_waits {
            let target = &mut targets[index];
            target.waited += CHECK_INTERVAL;
            if target.waited > MIN_WAIT.max(started.elapsed() / 2)
                && let Some(tracker) = &target.tracker
            {
                tracker.mark_behind("the target took the bytes too slowly");
            }
        }
    }
}

async fn wait_until_all_closed(targets: &[FedTarget]) {
    for target in targets {
        target.queue.closed().await;
    }
}

impl FedTarget {
    /// Returns true if the queue of the target is empty.
    fn is_drained(&self) -> bool {
        self.queue.capacity() == self.queue.max_capacity()
    }
}

fn split_piece(piece: Result<Bytes, StoreError>) -> Vec<Result<Bytes, StoreError>> {
    let mut pieces = Vec::new();
    let rest = piece.map(|mut bytes| {
        while bytes.len() > MAX_PIECE {
            pieces.push(Ok(bytes.split_to(MAX_PIECE)));
        }
        bytes
    });
    pieces.push(rest);
    pieces
}

impl BranchReader {
    fn into_stream(self) -> ByteStream {
        stream::unfold(self, |mut branch| async move { branch.next().await.map(|piece| (piece, branch)) }).boxed()
    }

    async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Err(error) = self.acquire_permit_if_behind() {
                self.feed = Feed::Ended;
                return Some(Err(error));
            }
            match &mut self.feed {
                Feed::Shared(pieces) => match pieces.recv().await {
                    Some(piece) => {
                        self.offset += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
                        return Some(piece);
                    }
                    None if self.offset == self.blob.size => return None,
                    None => self.feed = Feed::Separate(read::read(self.source.clone(), self.blob.clone(), self.offset)),
                },
                Feed::Separate(read) => return read.next().await,
                Feed::Ended => return None,
            }
        }
    }

    /// If the target has fallen behind, acquires the permit for a separate read. If no permit is free, returns an
    /// error. The caller then drops the queued pieces, so the pieces occupy no memory while the target waits for a
    /// permit.
    fn acquire_permit_if_behind(&mut self) -> Result<(), StoreError> {
        if let Some(tracker) = &self.tracker
            && self.permit.is_none()
            && self.status.fell_behind()
            && !self.status.was_interrupted()
        {
            self.permit = tracker.try_separate_read(self.blob.size);
            if self.permit.is_none() {
                self.status.0.was_interrupted.store(true, Ordering::Relaxed);
                let detail = "the target is slower than the other targets: transship reads the blob again for this \
                    target";
                let (place, kind) = (self.source.place(), ErrorKind::Unavailable);
                return Err(StoreError::new(place, Step::ReadBlob, self.blob.digest, kind, detail));
            }
        }
        Ok(())
    }
}
