//! Bodies on their way in and out: counted, slowed down, broken off.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::log::InProgress;
use super::route::Asked;
use super::{Shared, answer};

const PIECE: usize = 64 * 1024;

/// How a body is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Bytes a second.
    pub(super) bandwidth: Option<u64>,
    /// The connection breaks after so many bytes.
    pub(super) break_after: Option<usize>,
}

/// A body of these bytes; the request stays in progress until it is sent.
pub(super) fn body(bytes: Bytes, pace: Pace, progress: InProgress) -> Body {
    let end = pace.break_after.unwrap_or(usize::MAX).min(bytes.len());
    let piece = pace.bandwidth.map_or(PIECE, |rate| PIECE.min((rate / 20).max(1) as usize));
    let pieces = stream::unfold((0, progress), move |(at, progress)| {
        let bytes = bytes.clone();
        async move {
            if at == end {
                // What was given out so far is flushed while this waits.
                pace.break_after?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), (usize::MAX, progress)));
            }
            if at > end {
                return None;
            }
            let next = end.min(at + piece);
            wait_for(next - at, pace.bandwidth).await;
            progress.entry.sent(next - at);
            Some((Ok(bytes.slice(at..next)), (next, progress)))
        }
    });
    Body::from_stream(pieces)
}

/// The response, with its length stated and counted in the log. For bodies that are whole already.
pub(super) fn counted(mut response: Response, progress: InProgress) -> Response {
    progress.entry.answered(response.status().as_u16());
    if let Some(size) = axum::body::HttpBody::size_hint(response.body()).exact() {
        progress.entry.sent(usize::try_from(size).unwrap_or_default());
        if !response.headers().contains_key("content-length") && response.status() != 204 {
            response.headers_mut().insert("content-length", size.into());
        }
    }
    response
}

/// Reads a request's body piece by piece into `take`. `false` when it broke off, by fault or by the client.
pub(super) async fn receive(shared: &Shared, asked: &Asked, body: Body, mut take: impl FnMut(&Bytes)) -> bool {
    let length = answer::text(&asked.headers, header::CONTENT_LENGTH).parse().unwrap_or(usize::MAX);
    let mut left = shared.faults.upload_breaks(length);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let Ok(mut piece) = piece else { return false };
        wait_for(piece.len(), shared.faults.bandwidth()).await;
        if let Some(left) = &mut left {
            piece.truncate(*left);
            *left -= piece.len();
        }
        asked.progress.entry.received(piece.len());
        take(&piece);
        if left == Some(0) {
            asked.wire.break_off();
            return false;
        }
    }
    true
}

async fn wait_for(bytes: usize, bandwidth: Option<u64>) {
    if let Some(rate) = bandwidth {
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
    }
}
