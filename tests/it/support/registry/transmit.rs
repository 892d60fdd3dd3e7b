//! Transfer of bodies in both directions: counted, slowed down, or broken off.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::log::InProgress;
use super::route::ReceivedRequest;
use super::{Shared, answer};

const PIECE: usize = 64 * 1024;

/// Speed and end of a body that is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Bytes per second.
    pub(super) bandwidth: Option<u64>,
    /// Number of bytes after which the connection breaks.
    pub(super) break_after: Option<usize>,
}

/// Returns a body of these bytes. The request stays in progress until all bytes are sent.
pub(super) fn body(bytes: Bytes, pace: Pace, progress: InProgress) -> Body {
    let end = pace.break_after.unwrap_or(usize::MAX).min(bytes.len());
    let piece = pace.bandwidth.map_or(PIECE, |rate| PIECE.min((rate / 20).max(1) as usize));
    let pieces = stream::unfold((0, progress), move |(at, progress)| {
        let bytes = bytes.clone();
        async move {
            if at == end {
                // This wait lets the connection flush the previous pieces.
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

/// Counts a response in the log and states its length. The body must be complete in memory.
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

/// Reads a request's body piece by piece into `take`. Returns false if the body broke off because of a fault or the
/// client.
pub(super) async fn receive(
    shared: &Shared,
    request: &ReceivedRequest,
    body: Body,
    mut take: impl FnMut(&Bytes),
) -> bool {
    let length = answer::text(&request.headers, header::CONTENT_LENGTH).parse().unwrap_or(usize::MAX);
    let mut left = shared.faults.upload_breaks(length);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let Ok(mut piece) = piece else { return false };
        wait_for(piece.len(), shared.faults.bandwidth()).await;
        if let Some(left) = &mut left {
            piece.truncate(*left);
            *left -= piece.len();
        }
        request.progress.entry.received(piece.len());
        take(&piece);
        if left == Some(0) {
            request.wire.break_off();
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
