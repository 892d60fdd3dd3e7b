//! One read that feeds several targets, without letting a slow one hold the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::lane::{Lane, OwnRead};
use super::reading;
use crate::oci::Descriptor;
use crate::store::{ByteStream, ErrorKind, Source, Step, StoreError};

/// Pieces that wait for one target: at most 1 MiB.
const QUEUE: usize = 16;

/// The largest piece that is queued. Whatever the source gives at once is cut down to it.
const PIECE: usize = 64 * 1024;

/// How long, over one blob, others that have sent all they were given wait at least for a target whose queue is full. Beyond
/// that they wait for it for half of the time that the read takes, which a target of about their own speed does not use up.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often is looked who waits for whom.
const LOOK: Duration = Duration::from_millis(20);

type Piece = Result<Bytes, StoreError>;

/// One of the streams that come out of a [`split`].
pub(super) struct Branch {
    pub(super) bytes: ByteStream,
    pub(super) standing: Standing,
}

/// How a stream stands beside the others.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    fell_behind: AtomicBool,
    was_left: AtomicBool,
}

impl Standing {
    /// Whether the stream ended, by an error, because its target fell behind and there was no place for a read of its own.
    pub(super) fn was_left(&self) -> bool {
        self.0.was_left.load(Ordering::Relaxed)
    }

    fn fell_behind(&self) -> bool {
        self.0.fell_behind.load(Ordering::Relaxed)
    }
}

/// Where a branch has its bytes from.
enum Feed {
    /// The shared read.
    Shared(mpsc::Receiver<Piece>),
    /// A read of its own.
    Own(ByteStream),
    /// It ended with an error.
    Over,
}

struct Branching {
    feed: Feed,
    source: Arc<dyn Source>,
    blob: Descriptor,
    offset: u64,
    lane: Option<Arc<Lane>>,
    /// Of its own read, from when it fell behind.
    place: Option<OwnRead>,
    standing: Standing,
}

/// Reads `blob` once and gives its bytes to one stream for each lane. A stream that falls behind, or that the shared read
/// was dropped from, goes on with a read of its own from where it stands, if its lane has a place for that.
pub(super) fn split(source: &Arc<dyn Source>, blob: &Descriptor, lanes: Vec<Option<Arc<Lane>>>) -> Vec<Branch> {
    if lanes.len() < 2 {
        return lanes.iter().map(|_| alone(source, blob)).collect();
    }
    let (fed, branches): (Vec<_>, Vec<_>) = lanes
        .into_iter()
        .map(|lane| {
            let (queue, pieces) = mpsc::channel(QUEUE);
            let standing = Standing::default();
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
    tokio::spawn(feed(reading::read(source.clone(), blob.clone(), 0), fed).in_current_span());
    branches
}

/// A read for one target.
pub(super) fn alone(source: &Arc<dyn Source>, blob: &Descriptor) -> Branch {
    Branch { bytes: reading::read(source.clone(), blob.clone(), 0), standing: Standing::default() }
}

/// A target that is fed.
struct Fed {
    queue: mpsc::Sender<Piece>,
    lane: Option<Arc<Lane>>,
    /// How long others have waited for it.
    waited: Duration,
    standing: Standing,
}

/// Ends when the read ends or when nobody listens any more, even if the read hangs.
async fn feed(read: ByteStream, mut fed: Vec<Fed>) {
    let mut read = read.flat_map(|piece| stream::iter(cut(piece)));
    let began = Instant::now();
    while !fed.is_empty() {
        let piece = tokio::select! {
            piece = read.next() => piece,
            () = deserted(&fed) => None,
        };
        let Some(piece) = piece else { return };
        let mut at = 0;
        while at < fed.len() {
            if give(&mut fed, at, &piece, began).await {
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

/// Gives one of the targets a piece. `false` when it is to be fed no more: it has gone, or fell behind.
async fn give(fed: &mut [Fed], at: usize, piece: &Piece, began: Instant) -> bool {
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
        match tokio::time::timeout(LOOK, queue.reserve()).await {
            Ok(Ok(room)) => {
                room.send(piece.clone());
                return true;
            }
            Ok(Err(_)) => return false,
            Err(_) => {}
        }
        let somebody_waits = fed.iter().enumerate().any(|(other, fed)| other != at && fed.is_hungry());
        if somebody_waits {
            let target = &mut fed[at];
            target.waited += LOOK;
            if target.waited > PATIENCE.max(began.elapsed() / 2)
                && let Some(lane) = &target.lane
            {
                lane.fall_behind("it took the bytes too slowly");
            }
        }
    }
}

async fn deserted(fed: &[Fed]) {
    for target in fed {
        target.queue.closed().await;
    }
}

impl Fed {
    /// Whether it has sent all that it was given.
    fn is_hungry(&self) -> bool {
        self.queue.capacity() == self.queue.max_capacity()
    }
}

fn cut(piece: Result<Bytes, StoreError>) -> Vec<Result<Bytes, StoreError>> {
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
            if let Err(error) = self.look_behind() {
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
                    None => self.feed = Feed::Own(reading::read(self.source.clone(), self.blob.clone(), self.offset)),
                },
                Feed::Own(read) => return read.next().await,
                Feed::Over => return None,
            }
        }
    }

    /// Once it fell behind, what is queued is sent only if there is a place for a read of the rest: it holds memory.
    fn look_behind(&mut self) -> Result<(), StoreError> {
        if let Some(lane) = &self.lane
            && self.place.is_none()
            && self.standing.fell_behind()
            && !self.standing.was_left()
        {
            self.place = lane.try_own_read(self.blob.size);
            if self.place.is_none() {
                self.standing.0.was_left.store(true, Ordering::Relaxed);
                let detail = "the target is slower than its siblings, and will be sent the blob by itself";
                let (place, kind) = (self.source.place(), ErrorKind::Unavailable);
                return Err(StoreError::new(place, Step::ReadBlob, self.blob.digest, kind, detail));
            }
        }
        Ok(())
    }
}
