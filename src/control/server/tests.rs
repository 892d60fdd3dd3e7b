//! Tests of the control socket's server with clients that are idle, are slow, disconnect or violate the protocol.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::message::{Action, EntryResult, PauseOptions, Reply, ResumeOptions, TriggerOptions};
use super::super::routes::MAX_BODY;
use super::super::{Client, ClientError};
use super::*;

struct Running {
    path: PathBuf,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    /// Request that was executed last.
    executed: Arc<parking_lot::Mutex<Option<Request>>>,
    _folder: tempfile::TempDir,
}

/// Time limit that no test reaches.
const NO_LIMIT: Duration = Duration::from_secs(3600);
/// Time limit for steps that need almost no time.
const SOON: Duration = Duration::from_secs(20);

/// Starts a server that replies `queued` about each entry. A run of the entry `slow` never ends.
async fn start(within: Duration) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let socket = Socket::bind(&path).await.unwrap();
    let shutdown = CancellationToken::new();
    let executed = Arc::new(parking_lot::Mutex::new(None));
    let record = executed.clone();
    let handle = move |request: Request| {
        *record.lock() = Some(request.clone());
        async move {
            let response = Response::new(StatusCode::ACCEPTED, EntryResult::Queued);
            match (request.entry.as_str(), request.action) {
                ("slow", _) => response.then(std::future::pending()),
                (_, Action::Trigger(TriggerOptions { wait: true })) => response.then(async { EntryResult::Resumed }),
                _ => response,
            }
        }
    };
    let handler: Handler = Arc::new(move |request| handle(request).boxed());
    let names: EntryNames = Arc::new(|| vec!["slow".to_owned(), "x".repeat(100_000)]);
    let task = tokio::spawn(serve_within(socket, handler, names, shutdown.clone(), within));
    Running { path, shutdown, task, executed, _folder: folder }
}

fn trigger(entry: &str) -> Request {
    Request { entry: entry.to_owned(), action: Action::Trigger(TriggerOptions { wait: false }) }
}

async fn replies(path: &Path, request: &Request) -> Vec<Reply> {
    let mut client = Client::connect(path, request).await.unwrap();
    let mut replies = Vec::new();
    while let Some(reply) = client.next(Some(SOON)).await.unwrap() {
        replies.push(reply);
    }
    replies
}

/// Sends bytes, and returns all bytes that the server sends before the end of the connection.
async fn response_to(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut response = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut response)).await.unwrap();
    String::from_utf8(response).unwrap()
}

/// Returns the status and the body of the response to a POST of this body.
async fn post(path: &Path, route: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let response = response_to(
        path,
        format!("POST {route} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes(),
    )
    .await;
    status_and_body(&response)
}

fn status_and_body(response: &str) -> (u16, String) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {response}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn is_closed(stream: &mut UnixStream) -> bool {
    matches!(tokio::time::timeout(SOON, stream.read(&mut [0; 64])).await, Ok(Ok(0) | Err(_)))
}

fn queued(entry: &str) -> Reply {
    Reply::Entry { entry: entry.into(), result: EntryResult::Queued }
}

fn refused(error: &str) -> String {
    format!("{{\"reason\":\"{error}\"}}\n")
}

#[tokio::test]
async fn each_action_reaches_the_handler_with_its_options() {
    let server = start(NO_LIMIT).await;
    let until = Some("2026-11-21T19:15:00Z".parse().unwrap());
    for action in [
        Action::Trigger(TriggerOptions { wait: false }),
        Action::Pause(PauseOptions { until }),
        Action::Resume(ResumeOptions {}),
    ] {
        let request = Request { entry: "a".into(), action };
        assert_eq!(replies(&server.path, &request).await, [queued("a")]);
        assert_eq!(server.executed.lock().take(), Some(request));
    }
}

#[tokio::test]
async fn odd_names_of_entries_reach_the_handler_unchanged() {
    let server = start(NO_LIMIT).await;
    for name in ["..", ".", "a/b", "a?wait=1#x", "50 %", "%2e", "ä\n\"\u{0}"] {
        assert_eq!(replies(&server.path, &trigger(name)).await, [queued(name)]);
    }
}

#[tokio::test]
async fn absent_body_means_default_options() {
    let server = start(NO_LIMIT).await;
    let response = response_to(&server.path, b"POST /entries/a/trigger HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status_and_body(&response), (202, "{\"entry\":\"a\",\"result\":\"queued\"}\n".into()));
    assert!(response.contains("\r\ncontent-type: application/json\r\n"), "{response}");
    assert_eq!(server.executed.lock().take(), Some(trigger("a")));
}

#[tokio::test]
async fn end_of_a_run_follows_as_a_second_line() {
    let server = start(NO_LIMIT).await;
    let request = Request { entry: "a".into(), action: Action::Trigger(TriggerOptions { wait: true }) };
    let ended = Reply::Entry { entry: "a".into(), result: EntryResult::Resumed };
    assert_eq!(replies(&server.path, &request).await, [queued("a"), ended]);
    let body = "POST /entries/a/trigger HTTP/1.0\r\nContent-Length: 13\r\n\r\n{\"wait\":true}";
    let response = response_to(&server.path, body.as_bytes()).await;
    assert!(response.contains("\r\ncontent-type: application/x-ndjson\r\n"), "{response}");
}

#[tokio::test]
async fn invalid_requests_are_refused_and_block_no_other_client() {
    let server = start(NO_LIMIT).await;
    let post = |route: &'static str, body: &'static str| post(&server.path, route, body);
    let unknown = "there is no route /erase: the routes are /entries, /entries/ENTRY/trigger, /entries/ENTRY/pause and \
                   /entries/ENTRY/resume";
    assert_eq!(post("/erase", "").await, (404, refused(unknown)));
    let query = "the request has a query: send options as JSON in the body";
    assert_eq!(post("/entries/a/trigger?wait=true", "").await, (400, refused(query)));
    let (status, body) = post("/entries/a/trigger", "hello").await;
    assert_eq!((status, body), (400, refused("cannot parse the request: expected value at line 1 column 1")));
    let (status, body) = post("/entries/a/trigger", "{\"until\":null}").await;
    assert!(status == 400 && body.starts_with("{\"reason\":\"cannot parse the request: unknown field"), "{body}");
    let (status, body) = post("/entries/%FF/trigger", "").await;
    assert!(status == 400 && body.starts_with("{\"reason\":\"cannot parse the request: "), "{body}");
    let response = response_to(&server.path, b"GET /entries/a/trigger HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let method = "the route /entries accepts only GET, and the other routes of the control socket accept only POST";
    assert_eq!(status_and_body(&response), (405, refused(method)));
    assert!(response.contains("\r\nallow: POST\r\n"), "{response}");
    let response = response_to(&server.path, b"{\"command\":\"trigger\"}\n").await;
    assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{response}");
    assert_eq!(*server.executed.lock(), None);
    assert_eq!(replies(&server.path, &trigger("a")).await, [queued("a")]);
}

#[tokio::test]
async fn request_beyond_its_bounds_is_refused_unexecuted() {
    let server = start(NO_LIMIT).await;
    let too_long = (413, refused("the request's body is longer than 65536 bytes"));
    assert_eq!(post(&server.path, "/entries/a/trigger", &" ".repeat(MAX_BODY + 1)).await, too_long);
    let declared = b"POST /entries/a/trigger HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n";
    let unsent = response_to(&server.path, &[&declared[..], &[b' '; MAX_BODY + 1]].concat()).await;
    assert_eq!(status_and_body(&unsent), too_long);
    let head = format!("POST /entries/{}/trigger HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 << 10));
    let response = response_to(&server.path, head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 4"), "{response}");
    assert_eq!(*server.executed.lock(), None);
    let longest = format!("{{}}{}", " ".repeat(MAX_BODY - 2));
    assert_eq!(post(&server.path, "/entries/a/trigger", &longest).await.0, 202);
}

#[tokio::test]
async fn slow_client_is_disconnected_in_time() {
    let server = start(Duration::from_millis(50)).await;
    let mut idle = UnixStream::connect(&server.path).await.unwrap();
    let mut slow = UnixStream::connect(&server.path).await.unwrap();
    slow.write_all(b"POST /entries/a/tri").await.unwrap();
    assert!(is_closed(&mut idle).await && is_closed(&mut slow).await);
    let half = b"POST /entries/a/trigger HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"wait\"";
    let late = (408, refused("the request's body is incomplete after 50ms"));
    assert_eq!(status_and_body(&response_to(&server.path, half).await), late);
    assert_eq!(*server.executed.lock(), None);
}

#[tokio::test]
async fn host_and_origin_of_a_request_have_no_effect() {
    let server = start(NO_LIMIT).await;
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let host = elsewhere.local_addr().unwrap();
    for target in ["/entries/a/trigger".to_owned(), format!("http://{host}/entries/a/trigger")] {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 0\r\n\r\n");
        let response = response_to(&server.path, request.as_bytes()).await;
        assert_eq!(status_and_body(&response).0, 202, "{response}");
        assert!(!response.contains("access-control"), "{response}");
    }
    let connected = elsewhere.accept().map_err(|error| error.kind());
    assert_eq!(connected.unwrap_err(), io::ErrorKind::WouldBlock, "the server connects to no host");
}

#[tokio::test]
async fn idle_clients_displace_neither_new_nor_waiting_clients() {
    let server = start(NO_LIMIT).await;
    let mut waiting = Client::connect(&server.path, &trigger("slow")).await.unwrap();
    assert_eq!(waiting.next(Some(SOON)).await.unwrap(), Some(queued("slow")));
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(UnixStream::connect(&server.path).await.unwrap());
    }
    assert_eq!(replies(&server.path, &trigger("b")).await, [queued("b")]);
    assert!(is_closed(&mut idle[0]).await, "the oldest idle connection was closed");
    let silence = waiting.next(Some(Duration::from_millis(50))).await.unwrap_err();
    assert!(silence.to_string().contains("has not answered"), "{silence}");
}

#[tokio::test]
async fn clients_beyond_the_limit_of_waiting_are_refused() {
    let server = start(NO_LIMIT).await;
    let mut waiting = Vec::new();
    for _ in 0..BOUNDS.answered.unwrap() {
        let mut client = Client::connect(&server.path, &trigger("slow")).await.unwrap();
        assert_eq!(client.next(Some(SOON)).await.unwrap(), Some(queued("slow")));
        waiting.push(client);
    }
    let crowded = "too many clients wait for responses: try again later";
    assert_eq!(replies(&server.path, &trigger("a")).await, [Reply::Refused { error: crowded.into() }]);
    assert_eq!(post(&server.path, "/entries/a/trigger", "").await, (503, refused(crowded)));
    // A client that disconnects frees a slot.
    waiting.clear();
    let end = tokio::time::Instant::now() + SOON;
    while replies(&server.path, &trigger("a")).await != [queued("a")] {
        assert!(tokio::time::Instant::now() < end);
    }
}

#[tokio::test]
async fn shutdown_closes_connections_and_removes_the_socket() {
    let server = start(NO_LIMIT).await;
    let mut idle = UnixStream::connect(&server.path).await.unwrap();
    let mut waiting = Client::connect(&server.path, &trigger("slow")).await.unwrap();
    assert_eq!(waiting.next(Some(SOON)).await.unwrap(), Some(queued("slow")));
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(is_closed(&mut idle).await);
    assert_eq!(waiting.next(Some(SOON)).await.unwrap(), None, "a waiting client gets no further reply");
    assert!(!server.path.exists());
    let absent = Client::connect(&server.path, &trigger("a")).await.unwrap_err();
    assert!(matches!(absent, ClientError::Absent { .. }), "{absent}");
}

#[tokio::test]
async fn names_of_the_entries_are_listed_even_if_the_list_is_long() {
    let running = start(NO_LIMIT).await;
    let names = Client::list_entries(&running.path, SOON).await.unwrap();
    assert_eq!((names[0].as_str(), names[1].len()), ("slow", 100_000));
    assert!(matches!(
        Client::list_entries(Path::new("/nonexistent/control.sock"), SOON).await,
        Err(ClientError::Absent { .. })
    ));
}
