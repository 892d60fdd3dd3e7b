//! Blob endpoints: GET with ranges, HEAD, DELETE, and the storage that a GET may be redirected to.

use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use bytes::Bytes;
use transship::oci::Digest;

use super::faults::Fault;
use super::log::InProgress;
use super::route::ReceivedRequest;
use super::transmit::{self, Pace};
use super::wire::Wire;
use super::{Shared, answer, quirks};

/// Answers a request for a blob.
pub(super) fn answer(shared: &Shared, repository: &str, digest: &str, request: ReceivedRequest) -> Response {
    let Ok(digest) = digest.parse::<Digest>() else {
        return transmit::counted(answer::error(400, "DIGEST_INVALID", digest), request.progress);
    };
    let unknown = || answer::error(404, "BLOB_UNKNOWN", &digest.to_string());
    let collected = shared.faults.has(&Fault::BlobCollected(digest));
    let found = shared.store.blob(repository, &digest);
    let response = match (request.method, found) {
        (Method::DELETE, _) if shared.faults.has(&Fault::NoDelete) => answer::not_allowed(),
        (Method::DELETE, Some(_)) => {
            shared.store.remove_blob(repository, &digest);
            answer::empty(202, &[])
        }
        (Method::HEAD, Some(blob)) => answer::empty(200, &about(&digest, blob.len())),
        (Method::GET, Some(blob)) if !collected => {
            let to = |fault: &Fault| if let Fault::BlobRedirectTo(to) = fault { Some(to.clone()) } else { None };
            if let Some(to) = shared.faults.find(to) {
                return transmit::counted(answer::empty(307, &[("location", to)]), request.progress);
            }
            if !shared.faults.has(&Fault::BlobRedirect) {
                return send(shared, &digest, blob, &request.headers, request.progress);
            }
            let location =
                format!("http://{}/storage/{repository}/{digest}?signature=of-the-storage", shared.storage_host);
            answer::empty(307, &[("location", location)])
        }
        (Method::GET | Method::HEAD | Method::DELETE, _) => unknown(),
        _ => answer::not_allowed(),
    };
    transmit::counted(response, request.progress)
}

/// Answers for the storage behind a redirect: another origin. It refuses a request with `Authorization`, and one
/// without the query that was signed for it.
pub(super) async fn storage(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(_): ConnectInfo<Wire>,
    request: axum::extract::Request,
) -> Response {
    let path = request.uri().path();
    let progress = shared.log.begin("storage", request.method(), path, request.headers());
    let found =
        path.strip_prefix("/storage/").and_then(|rest| rest.rsplit_once('/')).and_then(|(repository, digest)| {
            let digest: Digest = digest.parse().ok()?;
            Some((digest, shared.store.blob(repository, &digest)?))
        });
    let address = request.uri().to_string();
    let echoed = quirks::echo(&shared, progress.entry.kind(), request.headers(), &address);
    let response = if let Some(echoed) = echoed {
        echoed
    } else if request.headers().contains_key(header::AUTHORIZATION) {
        answer::with(400, &[], "<Error><Code>InvalidArgument</Code>Only one auth mechanism allowed</Error>")
    } else if request.uri().query() != Some("signature=of-the-storage") {
        answer::with(403, &[], "<Error><Code>SignatureDoesNotMatch</Code></Error>")
    } else if let Some((digest, blob)) = found {
        return send(&shared, &digest, blob, request.headers(), progress);
    } else {
        answer::with(404, &[], "<Error><Code>NoSuchKey</Code></Error>")
    };
    transmit::counted(response, progress)
}

fn about(digest: &Digest, length: usize) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/octet-stream".into()),
        ("content-length", length.to_string()),
        ("docker-content-digest", digest.to_string()),
        ("accept-ranges", "bytes".into()),
    ]
}

/// Sends the part of a blob that `Range` requests.
fn send(shared: &Shared, digest: &Digest, mut blob: Bytes, headers: &HeaderMap, progress: InProgress) -> Response {
    if shared.faults.has(&Fault::BlobBytesWrong(*digest)) {
        let mut wrong = blob.to_vec();
        if let Some(last) = wrong.last_mut() {
            *last ^= 1;
        }
        blob = wrong.into();
    }
    let whole = blob.len();
    let range = match shared.faults.has(&Fault::BlobRangesIgnored) {
        true => "",
        false => answer::text(headers, header::RANGE),
    };
    let (status, mut stated) = match read_range(range, whole) {
        Range::Whole => (200, about(digest, whole)),
        Range::Part(first, last) => {
            blob = blob.slice(first..=last);
            let mut stated = about(digest, blob.len());
            stated.push(("content-range", format!("bytes {first}-{last}/{whole}")));
            (206, stated)
        }
        Range::Outside => {
            let stated = [("content-range", format!("bytes */{whole}"))];
            return transmit::counted(answer::empty(416, &stated), progress);
        }
    };
    let pace = Pace { bandwidth: shared.faults.bandwidth(), break_after: shared.faults.blob_get_breaks(blob.len()) };
    progress.entry.answered(status);
    stated.dedup();
    answer::with(status, &stated, transmit::body(blob, pace, progress))
}

enum Range {
    Whole,
    Part(usize, usize),
    Outside,
}

/// Parses one range of bytes (RFC 9110, 14.2). Ignores anything else, which the RFC allows.
fn read_range(text: &str, length: usize) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-')) else {
        return Range::Whole;
    };
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), _) if first >= length => Range::Outside,
        (Ok(first), Ok(last)) if last >= first => Range::Part(first, last.min(length - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Range::Part(first, length - 1),
        (Err(_), Ok(tail)) if first.is_empty() && tail > 0 && length > 0 => {
            Range::Part(length.saturating_sub(tail), length - 1)
        }
        _ => Range::Whole,
    }
}
