//! One read that feeds several targets, without letting a slow one hold the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::reading;
use crate::oci::Descriptor;
use crate::store::{ByteStream, Source, StoreError};

/// Pieces that wait for one target: at most 1 MiB.
const QUEUE: usize = 16;

/// The largest piece that is queued. Whatever the source gives at once is cut down to it.
const PIECE: usize = 64 * 1024;

/// How long, over one blob, the others wait for a target whose queue is full. After that it reads on by itself.
const PATIENCE: Duration = Duration::from_millis(500);

/// One of the streams that come out of a [`split`].
enum Branch {
    /// Fed by the shared read.
    Fed { queue: mpsc::Receiver<Result<Bytes, StoreError>>, source: Arc<dyn Source>, blob: Descriptor, offset: u64 },
    /// Fell behind and reads by itself.
    Alone(ByteStream),
}

/// Reads `blob` once and gives its bytes to `count` streams. A stream that falls behind, or that the shared read
/// was dropped from, goes on with a read of its own from where it stands.
pub(super) fn split(source: &Arc<dyn Source>, blob: &Descriptor, count: usize) -> Vec<ByteStream> {
    if count == 1 {
        return vec![reading::read(source.clone(), blob.clone(), 0)];
    }
    let (queues, branches): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| {
            let (sender, queue) = mpsc::channel(QUEUE);
            (sender, branch(Branch::Fed { queue, source: source.clone(), blob: blob.clone(), offset: 0 }))
        })
        .unzip();
    tokio::spawn(feed(reading::read(source.clone(), blob.clone(), 0), queues));
    branches
}

/// Ends when the read ends or when nobody listens any more, even if the read hangs.
async fn feed(read: ByteStream, queues: Vec<mpsc::Sender<Result<Bytes, StoreError>>>) {
    let mut read = read.flat_map(|piece| stream::iter(cut(piece)));
    let mut fed: Vec<(mpsc::Sender<_>, Duration)> = queues.into_iter().map(|queue| (queue, PATIENCE)).collect();
    while !fed.is_empty() {
        let piece = tokio::select! {
            piece = read.next() => piece,
            () = deserted(&fed) => None,
        };
        let Some(piece) = piece else { return };
        let mut still = Vec::with_capacity(fed.len());
        for (queue, patience) in fed {
            if let Some(patience) = give(&queue, piece.clone(), patience).await {
                still.push((queue, patience));
            }
        }
        fed = still;
        if piece.is_err() {
            return;
        }
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

async fn deserted<T>(fed: &[(mpsc::Sender<T>, Duration)]) {
    for (queue, _) in fed {
        queue.closed().await;
    }
}

/// Gives a piece to one target and returns the patience that is left, `None` when it is dropped.
async fn give<T>(queue: &mpsc::Sender<T>, piece: T, patience: Duration) -> Option<Duration> {
    let piece = match queue.try_send(piece) {
        Ok(()) => return Some(patience),
        Err(mpsc::error::TrySendError::Closed(_)) => return None,
        Err(mpsc::error::TrySendError::Full(piece)) => piece,
    };
    let started = tokio::time::Instant::now();
    match tokio::time::timeout(patience, queue.send(piece)).await {
        Ok(Ok(())) => Some(patience.saturating_sub(started.elapsed())),
        Ok(Err(_)) | Err(_) => None,
    }
}

fn branch(branch: Branch) -> ByteStream {
    stream::unfold(branch, |mut branch| async move {
        loop {
            match &mut branch {
                Branch::Fed { queue, source, blob, offset } => match queue.recv().await {
                    Some(piece) => {
                        *offset += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
                        return Some((piece, branch));
                    }
                    None if *offset == blob.size => return None,
                    None => branch = Branch::Alone(reading::read(source.clone(), blob.clone(), *offset)),
                },
                Branch::Alone(read) => {
                    let piece = read.next().await?;
                    return Some((piece, branch));
                }
            }
        }
    })
    .boxed()
}
