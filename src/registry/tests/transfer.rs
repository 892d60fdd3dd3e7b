//! Tests of transfers of manifests and blobs in both directions.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::scripted::{Server, answer, blob, noise, plain, quick, refusal, session, verified};
use crate::oci::{Digest, Manifest, ManifestRef, MediaType};
use crate::registry::Registry;
use crate::registry::http::retry::RetryPolicy;
use crate::registry::{Options, UploadMode, Uploads};
use crate::store::{ErrorKind, ReferrerLink, Source as _, Step, StoreError, Target as _, UploadStart, Verified};

const IMAGE: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

fn v1() -> ManifestRef {
    ManifestRef::Tag("v1".parse().unwrap())
}

fn image() -> Manifest {
    Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), IMAGE.into())
}

#[tokio::test]
async fn complete_head_answer_needs_no_get() {
    let digest = image().digest().to_string();
    let server = Server::start(move |request| {
        assert_eq!(request.header("accept"), Some(format!("{}, */*", MediaType::ACCEPTED.join(", ")).as_str()));
        answer(200, &[("content-type", MediaType::OCI_MANIFEST), ("docker-content-digest", &digest)], IMAGE)
    })
    .await;
    assert_eq!(server.repository().resolve(&v1()).await.unwrap(), Some(image().descriptor()));
    assert_eq!(server.lines(), ["HEAD /v2/a/b/manifests/v1"]);
}

#[tokio::test]
async fn head_without_digest_or_support_needs_a_get() {
    for status in [200, 405] {
        let server = Server::start(move |request| {
            let status = if request.method == "HEAD" { status } else { 200 };
            answer(status, &[("content-type", MediaType::OCI_MANIFEST)], IMAGE)
        })
        .await;
        assert_eq!(server.repository().resolve(&v1()).await.unwrap(), Some(image().descriptor()));
        assert_eq!(server.lines(), ["HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/manifests/v1"]);
    }
}

#[tokio::test]
async fn manifest_with_wrong_digest_is_corrupt_naming_both() {
    let other = Digest::of(b"other");
    let server = Server::start(move |_| answer(200, &[("docker-content-digest", &other.to_string())], IMAGE)).await;
    let repository = server.repository();
    let actual = image().digest();
    let error = repository.manifest(&v1()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert_eq!(error.detail, format!("the registry states the digest {other}, but the bytes have the digest {actual}"));
    let error = repository.manifest(&other.into()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}/a/b: reading manifest {other}: the bytes hash to {actual}", server.host));
    // The client checks the response to a request by digest against this digest, and ignores the header.
    assert_eq!(repository.manifest(&actual.into()).await.unwrap().digest(), actual);
}

#[tokio::test]
async fn oversized_manifest_is_rejected_by_its_limit() {
    let server = Server::start(|_| answer(200, &[], vec![b' '; 4 * 1024 * 1024 + 1])).await;
    let error = server.repository().manifest(&v1()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Invalid, "the answer is larger than 4194304 bytes"));
    assert_eq!(server.lines().len(), 1);
    let more = Options { max_manifest: Some(8 * 1024 * 1024), ..plain() };
    let repository = server.registry_as(more).repository("a/b".parse().unwrap());
    assert_eq!(repository.manifest(&v1()).await.unwrap().bytes().len(), 4 * 1024 * 1024 + 1);
}

#[tokio::test]
async fn missing_content_of_pushed_manifest_is_distinguished() {
    for (code, kind) in [("MANIFEST_BLOB_UNKNOWN", ErrorKind::MissingContent), ("TAG_INVALID", ErrorKind::Refused)] {
        let server = Server::start(move |_| refusal(400, code)).await;
        let error = server.repository().push_manifest(&image(), None).await.unwrap_err();
        assert_eq!(error.kind, kind);
    }
    let other = Digest::of(b"other");
    let server = Server::start(move |_| answer(201, &[("docker-content-digest", &other.to_string())], "")).await;
    let error = server.repository().push_manifest(&image(), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn manifest_put_with_other_success_is_verified() {
    let manifest = image();
    let head_answer = |digest: Digest| {
        let digest = digest.to_string();
        answer(200, &[("content-type", MediaType::OCI_MANIFEST), ("docker-content-digest", &digest)], IMAGE)
    };
    let put = |status, head: axum::response::Response| {
        let head = std::sync::Mutex::new(Some(head));
        let manifest = manifest.clone();
        async move {
            let server = Server::start(move |request| match request.method.as_str() {
                "PUT" => answer(status, &[("content-type", "text/html")], "<html>hello</html>"),
                _ => head.lock().unwrap().take().expect("one HEAD"),
            });
            let server = server.await;
            let outcome = server.repository().push_manifest(&manifest, Some(&"v1".parse().unwrap())).await;
            (outcome.map_err(|error| error.to_string()), server.count("HEAD"))
        }
    };
    assert_eq!(put(201, refusal(404, "MANIFEST_UNKNOWN")).await, (Ok(ReferrerLink::Listed), 0));
    assert_eq!(put(200, head_answer(manifest.digest())).await, (Ok(ReferrerLink::Listed), 1));
    // If the identity can write but cannot read, the client trusts the success.
    assert_eq!(put(202, refusal(403, "DENIED")).await, (Ok(ReferrerLink::Listed), 1));
    for head in [refusal(404, "MANIFEST_UNKNOWN"), head_answer(Digest::of(b"other"))] {
        let (outcome, heads) = put(200, head).await;
        let error = outcome.unwrap_err();
        assert!(
            error.ends_with("the registry answered 200 OK instead of 201 and does not have the manifest"),
            "{error}"
        );
        assert_eq!(heads, 1);
    }
}

#[tokio::test]
async fn referrer_counts_as_listed_with_oci_subject_header() {
    let subject = Digest::of(b"subject");
    let config = format!(r#"{{"mediaType":"a/b","digest":"{subject}","size":7}}"#);
    let body = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"subject":{config}}}"#);
    let referrer = Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), body.into());
    for (headers, link) in [(&[("oci-subject", "x")][..], ReferrerLink::Listed), (&[][..], ReferrerLink::Unlisted)] {
        let server = Server::start(move |_| answer(201, headers, "")).await;
        assert_eq!(server.repository().push_manifest(&referrer, None).await.unwrap(), link);
        assert_eq!(server.repository().push_manifest(&image(), None).await.unwrap(), ReferrerLink::Listed);
    }
}

async fn read(server: &Server, content: &[u8], offset: u64) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = server.repository().blob(&blob(content), offset).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn blob_range_is_honoured_ignored_or_wrong() {
    let content = noise(10_000);
    let body = content.clone();
    let ignores = Server::start(move |_| answer(200, &[], body.clone())).await;
    assert_eq!(read(&ignores, &content, 7777).await.unwrap(), content[7777..]);
    assert_eq!(ignores.requests()[0].header("range"), Some("bytes=7777-"));

    let body = content.clone();
    let honours =
        Server::start(move |_| answer(206, &[("content-range", "bytes 7777-9999/10000")], body[7777..].to_vec())).await;
    assert_eq!(read(&honours, &content, 7777).await.unwrap(), content[7777..]);

    for status in [400, 416] {
        let body = content.clone();
        let refuses = Server::start(move |request| match request.header("range") {
            Some(_) => answer(status, &[], ""),
            None => answer(200, &[], body.clone()),
        })
        .await;
        assert_eq!(read(&refuses, &content, 7777).await.unwrap(), content[7777..]);
    }

    let body = content.clone();
    let restarts = Server::start(move |_| answer(206, &[("content-range", "bytes 0-9999/10000")], body.clone())).await;
    assert_eq!(read(&restarts, &content, 7777).await.unwrap(), content[7777..]);

    let wrong = Server::start(|_| answer(206, &[("content-range", "bytes 5-9999/10000")], "")).await;
    assert_eq!(
        read(&wrong, &content, 7777).await.unwrap_err().detail,
        "requested the bytes from 7777 on, the registry sent \"bytes 5-9999/10000\""
    );
}

#[tokio::test]
async fn blob_is_read_without_content_decoding() {
    let content = noise(10_000);
    let body = content.clone();
    // The client ignores the stated encoding: decoded content would have a different digest.
    let server = Server::start(move |_| answer(200, &[("content-encoding", "gzip")], body.clone())).await;
    assert_eq!(read(&server, &content, 0).await.unwrap(), content);
    assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn stalled_or_interrupted_blob_read_names_the_blob() {
    let content = noise(10_000);
    let still = Server::start(|_| {
        let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"half"))]).chain(stream::pending());
        answer(200, &[("content-length", "10000")], Body::from_stream(pieces))
    })
    .await;
    let policy = RetryPolicy { idle: Duration::from_millis(200), ..quick() };
    let registry = Registry::with_retry_policy(still.host.parse().unwrap(), plain(), policy).unwrap();
    let stream = registry.repository("a/b".parse().unwrap()).blob(&blob(&content), 0).await.unwrap();
    let pieces: Vec<_> = stream.collect().await;
    assert_eq!(pieces.len(), 2);
    let error = pieces[1].as_ref().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}/a/b: reading blob {}: after 4 bytes: received no more bytes for 200ms",
            still.host,
            Digest::of(&content)
        )
    );

    let breaks = Server::start(|_| {
        let pieces = [Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("gone"))];
        answer(200, &[("content-length", "10000")], Body::from_stream(stream::iter(pieces)))
    })
    .await;
    let error = read(&breaks, &content, 0).await.unwrap_err();
    assert_eq!((error.kind, error.step), (ErrorKind::Unavailable, Step::ReadBlob));
}

fn uploads() -> impl Fn(&super::scripted::Received) -> axum::response::Response {
    |request| match request.method.as_str() {
        "POST" => answer(202, &[("location", "/session")], ""),
        "PATCH" => answer(202, &[("location", &format!("/session?n={}", request.nth))], ""),
        _ => answer(201, &[], ""),
    }
}

#[tokio::test]
async fn streamed_upload_returns_the_error_of_its_source() {
    let server = Server::start(uploads()).await;
    let content = noise(400_000);
    let failed = StoreError::new("elsewhere/x", Step::ReadBlob, "", ErrorKind::Unavailable, "the source broke off");
    let pieces = vec![Ok(Bytes::from(content[..300_000].to_vec())), Ok(Bytes::from_static(b"x")), Err(failed)];
    let session = session(&server.repository(), &content).await.unwrap();
    let error =
        session.send(Verified::new(stream::iter(pieces).boxed(), blob(&content), "elsewhere/x")).await.unwrap_err();
    assert_eq!((error.place.as_str(), error.detail.as_str()), ("elsewhere/x", "the source broke off"));
}

#[tokio::test]
async fn wrong_bytes_never_complete_an_upload_request() {
    let server = Server::start(uploads()).await;
    let content = noise(400_000);
    let mut wrong = content.clone();
    wrong[399_999] ^= 1;
    let pieces: Vec<_> = wrong.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let session = session(&server.repository(), &content).await.unwrap();
    let error =
        session.send(Verified::new(stream::iter(pieces).boxed(), blob(&content), "elsewhere/x")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(server.requests().iter().all(|request| request.body.len() < content.len()));
}

#[tokio::test]
async fn upload_fails_when_registry_stops_reading() {
    // The server opens the session, and then reads nothing from any connection.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            if open.is_empty() {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    socket.read_buf(&mut head).await.unwrap();
                }
                let answer = b"HTTP/1.1 202 Accepted\r\nlocation: /session\r\ncontent-length: 0\r\n\r\n";
                socket.write_all(answer).await.unwrap();
            }
            open.push(socket);
        }
    });
    let policy = RetryPolicy { idle: Duration::from_millis(300), attempts: 1, ..quick() };
    let registry = Registry::with_retry_policy(host.parse().unwrap(), plain(), policy).unwrap();
    let content = noise(20_000_000);
    let session = session(&registry.repository("a/b".parse().unwrap()), &content).await.unwrap();
    let error = session.send(verified(&content)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (ErrorKind::Unavailable, "the registry accepted no more bytes for 300ms")
    );
    task.abort();
}

fn chunked(chunk: u64) -> Options {
    Options { upload: Uploads { mode: UploadMode::Chunked, chunk: Some(chunk) }, ..plain() }
}

#[tokio::test]
async fn chunks_follow_each_location_and_minimum_length() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => answer(202, &[("location", "/session?n=0"), ("oci-chunk-min-length", "100000")], ""),
        "PATCH" => {
            let last = request.header("content-range").unwrap().split_once('-').unwrap().1;
            let location = format!("/session?n={}", request.nth);
            answer(
                if request.nth == 1 { 201 } else { 202 },
                &[("location", &location), ("range", &format!("0-{last}"))],
                "",
            )
        }
        "HEAD" => answer(200, &[("content-length", "250000")], ""),
        _ => answer(201, &[], ""),
    })
    .await;
    let registry = server.registry_as(chunked(5000));
    let content = noise(250_000);
    let session = session(&registry.repository("a/b".parse().unwrap()), &content).await.unwrap();
    session.send(verified(&content)).await.unwrap();
    let requests = server.requests();
    let digest = Digest::of(&content).to_string().replace(':', "%3A");
    assert_eq!(
        server.lines()[1..],
        [
            "PATCH /session?n=0".to_owned(),
            "PATCH /session?n=1".to_owned(),
            "PATCH /session?n=2".to_owned(),
            format!("PUT /session?n=3&digest={digest}"),
            format!("HEAD /v2/a/b/blobs/{}", Digest::of(&content)),
        ]
    );
    let ranges: Vec<_> = requests[1..4].iter().map(|request| request.header("content-range").unwrap()).collect();
    assert_eq!(ranges, ["0-99999", "100000-199999", "200000-249999"]);
    let lengths: Vec<_> = requests[1..5].iter().map(|request| request.header("content-length").unwrap()).collect();
    assert_eq!(lengths, ["100000", "100000", "50000", "0"]);
    assert_eq!(requests[1..4].iter().flat_map(|request| request.body.to_vec()).collect::<Vec<_>>(), content);
}

#[tokio::test]
async fn successful_chunk_counts_as_stored_despite_its_range() {
    // The stated ranges:
    //
    // * no range;
    // * the range of the first chunk, as at Amazon;
    // * only the range of the last chunk;
    // * one byte too many;
    // * a part of the chunk;
    // * invalid ranges, or ranges that are too small.
    let ranges =
        [None, Some("0-99999"), Some("LENGTH"), Some("OVER"), Some("0-120000"), Some("bytes=0-0"), Some("?"), Some("")];
    for (at, stated) in ranges.into_iter().enumerate() {
        let status = [202, 201, 204, 200][at % 4];
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => answer(202, &[("location", "/session")], ""),
            "PATCH" => {
                let (first, last) = request.header("content-range").unwrap().split_once('-').unwrap();
                let (first, last) = (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap());
                match stated {
                    None => answer(status, &[], ""),
                    Some("LENGTH") => answer(status, &[("range", &format!("0-{}", last - first))], ""),
                    Some("OVER") => answer(status, &[("range", &format!("0-{}", last + 1))], ""),
                    Some(stated) => answer(status, &[("range", stated)], ""),
                }
            }
            "HEAD" => answer(200, &[("content-length", "250000")], ""),
            _ => answer(201, &[], ""),
        })
        .await;
        let content = noise(250_000);
        let repository = server.registry_as(chunked(100_000)).repository("a/b".parse().unwrap());
        session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
        let requests = server.requests();
        let sent: Vec<_> = requests.iter().filter_map(|request| request.header("content-range")).collect();
        assert_eq!(sent, ["0-99999", "100000-199999", "200000-249999"], "{stated:?}");
        assert_eq!((server.count("POST"), server.count("GET")), (1, 0), "{stated:?}");
    }
}

/// Starts a server that accepts every chunk. `chunked_status` is the status of a commit after chunks, and `whole` the
/// status of a commit in one piece.
async fn not_joining(chunked_status: u16, whole: u16) -> Server {
    Server::start(move |request| match request.method.as_str() {
        "POST" => answer(202, &[("location", "/session")], ""),
        "PATCH" => answer(202, &[], ""),
        "PUT" if request.body.is_empty() => refusal(chunked_status, "DIGEST_INVALID"),
        "PUT" if whole < 300 => answer(whole, &[], ""),
        "PUT" => refusal(whole, "DIGEST_INVALID"),
        _ => answer(404, &[], ""),
    })
    .await
}

#[tokio::test]
async fn unassembled_chunks_cause_one_upload_in_one_piece() {
    for chunked_status in [400, 409, 416, 422, 500, 502] {
        let server = not_joining(chunked_status, 201).await;
        let content = noise(250_000);
        let repository = server.registry_as(chunked(100_000)).repository("a/b".parse().unwrap());
        let error = session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.detail.ends_with("; the blob is sent again in one piece"), "{error}");
        session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
        assert_eq!((server.count("PATCH"), server.count("PUT")), (3, 2), "{chunked_status}");
        assert_eq!(server.requests().last().unwrap().body, content);
    }
    // If the upload in one piece fails too, the upload of the blob fails. The client does not return to chunks.
    let server = not_joining(400, 400).await;
    let content = noise(250_000);
    let repository = server.registry_as(chunked(100_000)).repository("a/b".parse().unwrap());
    for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt, ErrorKind::Corrupt] {
        let error = session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
    }
    assert_eq!((server.count("PATCH"), server.count("PUT")), (6, 3));
}

#[tokio::test]
async fn refused_later_chunk_causes_upload_in_one_piece() {
    for range in [None, Some("0-99999"), Some("0-0")] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => answer(202, &[("location", "/session")], ""),
            "PATCH" if request.header("content-range") == Some("0-99999") => answer(202, &[], ""),
            "PATCH" => answer(416, range.map(|range| ("range", range)).as_slice(), ""),
            _ => answer(201, &[], ""),
        })
        .await;
        let content = noise(250_000);
        let repository = server.registry_as(chunked(100_000)).repository("a/b".parse().unwrap());
        let error = session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap_err();
        assert!(error.is_transient() && error.detail.ends_with("in one piece"), "{error}");
        session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
        assert_eq!((server.count("PATCH"), server.count("PUT")), (2, 1), "{range:?}");
    }
}

#[tokio::test]
async fn misstated_range_is_ignored_after_an_interrupted_chunk() {
    let server = Server::start(|request| match (request.method.as_str(), request.header("content-range")) {
        ("POST", _) => answer(202, &[("location", "/session")], ""),
        ("PATCH", Some("200000-249999")) => answer(502, &[], ""),
        ("PATCH", _) => answer(202, &[("range", "0-99999")], ""),
        _ => answer(204, &[("range", "0-199999")], ""),
    })
    .await;
    let content = noise(250_000);
    let repository = server.registry_as(chunked(100_000)).repository("a/b".parse().unwrap());
    let error = session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap_err();
    assert_eq!((error.kind, server.count("GET"), server.count("PATCH")), (ErrorKind::Unavailable, 0, 3), "{error}");
}

#[tokio::test]
async fn one_stored_byte_per_chunk_ends_the_upload() {
    let stored = std::sync::atomic::AtomicUsize::new(0);
    let one_more = move |request: &super::scripted::Received| match request.method.as_str() {
        "PATCH" if request.nth > 20 => refusal(400, "ENOUGH"),
        "PATCH" => answer(500, &[], ""),
        "GET" => {
            let last = stored.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            answer(204, &[("range", &format!("0-{last}"))], "")
        }
        "POST" => answer(202, &[("location", "/session")], ""),
        _ => answer(201, &[], ""),
    };
    let (server, content) = (Server::start(one_more).await, noise(250_000));
    let repository = server.registry_as(chunked(100_000)).repository("a/b".parse().unwrap());
    let error = session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap_err();
    assert_eq!((server.count("PATCH"), error.kind), (4, ErrorKind::Unavailable), "{error}");
}

#[tokio::test]
async fn wrong_session_after_interrupted_chunk_restarts_in_chunks() {
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" => answer(202, &[("location", "/session")], ""),
        "PATCH" if request.nth == 1 => answer(502, &[], ""),
        "PATCH" => answer(202, &[], ""),
        "GET" => answer(204, &[("range", "0-0")], ""),
        _ => refusal(400, "DIGEST_INVALID"),
    })
    .await;
    let content = noise(250_000);
    let repository = server.registry_as(chunked(200_000)).repository("a/b".parse().unwrap());
    let error = session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap_err();
    assert_eq!((error.kind, server.count("PATCH"), server.count("GET")), (ErrorKind::Unavailable, 3, 1));
    assert!(!error.detail.contains("in one piece"), "the interruption is the cause: {error}");
}

#[tokio::test]
async fn failed_chunk_commit_is_repeated_while_session_exists() {
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" => answer(202, &[("location", "/session")], ""),
        "PATCH" => answer(202, &[], ""),
        "GET" => answer(204, &[("range", "0-249999")], ""),
        "PUT" if request.nth < 8 => answer(502, &[], ""),
        "PUT" => answer(201, &[], ""),
        _ => answer(404, &[], ""),
    })
    .await;
    let content = noise(250_000);
    let repository = server.registry_as(chunked(100_000)).repository("a/b".parse().unwrap());
    session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
    assert_eq!((server.count("PATCH"), server.count("PUT"), server.count("GET")), (3, 3, 2));
}

#[tokio::test]
async fn commit_with_other_digest_is_verified_by_head() {
    for (is_present, arrives) in [(true, true), (false, false)] {
        let other = Digest::of(b"other").to_string();
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => answer(202, &[("location", "/session")], ""),
            "PUT" => answer(201, &[("docker-content-digest", &other)], ""),
            _ => answer(if is_present { 200 } else { 404 }, &[("content-length", "1000")], ""),
        })
        .await;
        let content = noise(1000);
        let sent = session(&server.repository(), &content).await.unwrap().send(verified(&content)).await;
        assert_eq!(sent.is_ok(), arrives);
        assert_eq!(sent.err().map(|error| error.kind), (!arrives).then_some(ErrorKind::Corrupt));
    }
}

#[tokio::test]
async fn session_of_a_failed_mount_is_used() {
    let server = Server::start(uploads()).await;
    let content = noise(100);
    let started = server.repository().begin_upload(&blob(&content), Some(&"c/d".parse().unwrap())).await.unwrap();
    let UploadStart::Session(session) = started else { panic!("mounted") };
    session.send(verified(&content)).await.unwrap();
    assert_eq!((server.count("POST"), server.count("PUT /session?digest=")), (1, 1));
}

#[tokio::test]
async fn refused_mount_is_followed_by_a_session() {
    let server = Server::start(|request| match request.path.contains("mount=") {
        true => refusal(403, "DENIED"),
        false if request.method == "HEAD" => answer(404, &[], ""),
        false => answer(202, &[("location", "/session")], ""),
    })
    .await;
    let (from, repository) = ("c/d".parse().unwrap(), server.repository());
    for _ in 0..2 {
        let UploadStart::Session(session) = repository.begin_upload(&blob(b"x"), Some(&from)).await.unwrap() else {
            panic!("mounted")
        };
        session.cancel().await;
    }
    let digest = Digest::of(b"x").to_string().replace(':', "%3A");
    assert_eq!(
        server.lines(),
        [
            format!("POST /v2/a/b/blobs/uploads/?mount={digest}&from=c%2Fd"),
            format!("HEAD /v2/a/b/blobs/{}", Digest::of(b"x")),
            "POST /v2/a/b/blobs/uploads/".to_owned(),
            "DELETE /session".to_owned(),
            // The next upload does not try the mount.
            format!("HEAD /v2/a/b/blobs/{}", Digest::of(b"x")),
            "POST /v2/a/b/blobs/uploads/".to_owned(),
            "DELETE /session".to_owned(),
        ]
    );
}

#[tokio::test]
async fn blob_is_looked_up_after_a_refused_mount() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => answer(200, &[("content-length", "1")], "x"),
        _ => refusal(401, "DENIED"),
    })
    .await;
    let started = server.repository().begin_upload(&blob(b"x"), Some(&"c/d".parse().unwrap())).await.unwrap();
    assert!(matches!(started, UploadStart::Mounted));
}

#[tokio::test]
async fn refusal_before_the_last_byte_is_reported() {
    // The server answers after the request head and reads no body, like a proxy with a limit.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        for answer in [
            "HTTP/1.1 202 Accepted\r\nlocation: /session\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ] {
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                socket.read_buf(&mut head).await.unwrap();
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        socket
    });
    let registry = Registry::with_retry_policy(host.parse().unwrap(), plain(), quick()).unwrap();
    let content = noise(20_000_000);
    let session = session(&registry.repository("a/b".parse().unwrap()), &content).await.unwrap();
    let error = session.send(verified(&content)).await.unwrap_err();
    let detail = "413 Payload Too Large: large blobs are sent in chunks from now on";
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unavailable, detail));
    drop(task.await.unwrap());
}
