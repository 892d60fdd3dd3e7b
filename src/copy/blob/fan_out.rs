//! Fan-out: one read feeds several targets, and a slow target does not delay the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::read;
use super::stragglers::{Lane, OwnRead};
use crate::oci::Descriptor;
use crate::store::{ByteStream, ErrorKind, Source, Step, StoreError};

/// Number of pieces that may be queued for one target: at most 1 MiB.
const QUEUE: usize = 16;

/// Maximum size of a queued piece, in bytes. Larger pieces of the source are split.
const PIECE: usize = 64 * 1024;

/// Minimum time per blob that targets which have sent everything wait for a target whose queue is full. After that they
/// wait for half of the time that the read takes. A target that is about as fast as the others needs less.
const MIN_WAIT: Duration = Duration::from_millis(300);

/// Interval at which the feed checks which targets wait.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

type Piece = Result<Bytes, StoreError>;

/// Stream of one target, created by [`split`].
pub(crate) struct Branch {
    pub(crate) bytes: ByteStream,
    pub(crate) standing: BranchStatus,
}

/// State of a stream in comparison with the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct BranchStatus(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    fell_behind: AtomicBool,
    was_left: AtomicBool,
}

impl BranchStatus {
    /// Returns true if the stream ended with an error because its target fell behind and no slot for a separate read
    /// was free.
    pub(crate) fn was_left(&self) -> bool {
        self.0.was_left.load(Ordering::Relaxed)
    }

    fn fell_behind(&self) -> bool {
        self.0.fell_behind.load(Ordering::Relaxed)
    }
}

/// Origin of a branch's bytes.
enum Feed {
    /// The shared read.
    Shared(mpsc::Receiver<Piece>),
    /// A separate read.
    Own(ByteStream),
    /// No further bytes: the branch ended with an error.
    Over,
}

struct Branching {
    feed: Feed,
    source: Arc<dyn Source>,
    blob: Descriptor,
    offset: u64,
    lane: Option<Arc<Lane>>,
    /// Permission for the separate read, from when the target fell behind.
    place: Option<OwnRead>,
    standing: BranchStatus,
}

/// Reads `blob` once and passes its bytes to one stream for each lane. If a stream falls behind or is removed from the
/// shared read, it continues with a separate read from its position, provided that its lane has a slot for one.
pub(crate) fn split(source: &Arc<dyn Source>, blob: &Descriptor, lanes: Vec<Option<Arc<Lane>>>) -> Vec<Branch> {
    if lanes.len() < 2 {
        return lanes.iter().map(|_| read_alone(source, blob)).collect();
    }
    let (fed, branches): (Vec<_>, Vec<_>) = lanes
        .into_iter()
        .map(|lane| {
            let (queue, pieces) = mpsc::channel(QUEUE);
            let standing = BranchStatus::default();
            let branching = Branching {
                feed: Feed::Shared(pieces),
                source: source.clone(),
                blob: blob.clone(),
                offset: 0,
                lane: lane.clone(),
                place: None,
                standing: standing.clone(),
            };
            let fed = Fed { queue, lane, waited: Duration::ZERO, standing: standing.clone() };
            (fed, Branch { bytes: branching.into_stream(), standing })
        })
        .unzip();
    tokio::spawn(feed(read::read(source.clone(), blob.clone(), 0), fed).in_current_span());
    branches
}

/// Starts a read for one target.
pub(crate) fn read_alone(source: &Arc<dyn Source>, blob: &Descriptor) -> Branch {
    Branch { bytes: read::read(source.clone(), blob.clone(), 0), standing: BranchStatus::default() }
}

/// Target that the shared read feeds.
struct Fed {
    queue: mpsc::Sender<Piece>,
    lane: Option<Arc<Lane>>,
    /// Time that others have waited for the target.
    waited: Duration,
    standing: BranchStatus,
}

/// Feeds the targets. The feed ends when the read ends, or when all targets have ended, even if the read hangs.
async fn feed(read: ByteStream, mut fed: Vec<Fed>) {
    let mut read = read.flat_map(|piece| stream::iter(split_piece(piece)));
    let began = Instant::now();
    while !fed.is_empty() {
        let piece = tokio::select! {
            piece = read.next() => piece,
            () = wait_until_all_closed(&fed) => None,
        };
        let Some(piece) = piece else { return };
        let mut at = 0;
        while at < fed.len() {
            if send_piece(&mut fed, at, &piece, began).await {
                at += 1;
            } else {
                fed.remove(at);
            }
        }
        if piece.is_err() {
            return;
        }
    }
}

/// Passes a piece to one of the targets. Returns false if the target must not be fed any more: it has gone, or fell
/// behind.
async fn send_piece(fed: &mut [Fed], at: usize, piece: &Piece, began: Instant) -> bool {
    let queue = fed[at].queue.clone();
    if let Ok(room) = queue.try_reserve() {
        room.send(piece.clone());
        return true;
    }
    loop {
        if fed[at].lane.as_ref().is_some_and(|lane| lane.is_behind()) {
            fed[at].standing.0.fell_behind.store(true, Ordering::Relaxed);
            return false;
        }
        match tokio::time::timeout(CHECK_INTERVAL, queue.reserve()).await {
            Ok(Ok(room)) => {
                room.send(piece.clone());
                return true;
            }
            Ok(Err(_)) => return false,
            Err(_) => {}
        }
        let somebody_waits = fed.iter().enumerate().any(|(other, fed)| other != at && fed.is_drained());
        if somebody_waits {
            let target = &mut fed[at];
            target.waited += CHECK_INTERVAL;
            if target.waited > MIN_WAIT.max(began.elapsed() / 2)
                && let Some(lane) = &target.lane
            {
                lane.mark_behind("it took the bytes too slowly");
            }
        }
    }
}

async fn wait_until_all_closed(fed: &[Fed]) {
    for target in fed {
        target.queue.closed().await;
    }
}

impl Fed {
    /// Returns true if the target has sent all bytes that it received.
    fn is_drained(&self) -> bool {
        self.queue.capacity() == self.queue.max_capacity()
    }
}

fn split_piece(piece: Result<Bytes, StoreError>) -> Vec<Result<Bytes, StoreError>> {
    let mut pieces = Vec::new();
    let rest = piece.map(|mut bytes| {
        while bytes.len() > PIECE {
            pieces.push(Ok(bytes.split_to(PIECE)));
        }
        bytes
    });
    pieces.push(rest);
    pieces
}

impl Branching {
    fn into_stream(self) -> ByteStream {
        stream::unfold(self, |mut branch| async move { branch.next().await.map(|piece| (piece, branch)) }).boxed()
    }

    async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Err(error) = self.start_own_read_if_behind() {
                self.feed = Feed::Over;
                return Some(Err(error));
            }
            match &mut self.feed {
                Feed::Shared(pieces) => match pieces.recv().await {
                    Some(piece) => {
                        self.offset += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
                        return Some(piece);
                    }
                    None if self.offset == self.blob.size => return None,
                    None => self.feed = Feed::Own(read::read(self.source.clone(), self.blob.clone(), self.offset)),
                },
                Feed::Own(read) => return read.next().await,
                Feed::Over => return None,
            }
        }
    }

    /// Starts a separate read once the target fell behind. Queued pieces hold memory, so the target sends them only if
    /// there is a slot to read the rest.
    fn start_own_read_if_behind(&mut self) -> Result<(), StoreError> {
        if let Some(lane) = &self.lane
            && self.place.is_none()
            && self.standing.fell_behind()
            && !self.standing.was_left()
        {
            self.place = lane.try_own_read(self.blob.size);
            if self.place.is_none() {
                self.standing.0.was_left.store(true, Ordering::Relaxed);
                let detail = "the target is slower than its siblings, and the blob will be sent to it separately";
                let (place, kind) = (self.source.place(), ErrorKind::Unavailable);
                return Err(StoreError::new(place, Step::ReadBlob, self.blob.digest, kind, detail));
            }
        }
        Ok(())
    }
}
