//! Server of the control socket. No client, slow or hostile, can block the daemon or other clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::wire::{Answer, Request, encode_line, read_line};
use super::{Said, Socket};
use crate::listen::{self, Bounds, Slot};

/// Bounds of connections. A client that waits for an answer may wait for the end of a run, so one client more than
/// these is refused.
const BOUNDS: Bounds = Bounds { waiting: 64, answered: Some(64), checked: 0, grace: Duration::from_millis(25) };
/// Time limit for a client to send its request, and to read each answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest number of answers that wait for a client to read them.
const UNREAD: usize = 16;

/// Channel for the answers to one request.
#[derive(Debug)]
pub struct Replies(mpsc::Sender<Answer>);

impl Replies {
    /// Sends an answer about an entry. Waits for a slow client to read. Does nothing after the client has
    /// disconnected.
    pub async fn send(&self, entry: &str, said: Said) {
        let _ = self.0.send(Answer::Entry { entry: entry.to_owned(), said }).await;
    }
}

/// Serves requests until `shutdown`, then ends within a second. `work` executes a request. It is dropped when the
/// client disconnects. Dropping the future closes every connection.
pub async fn serve<W, F>(socket: Socket, work: W, shutdown: CancellationToken)
where
    W: Fn(Request, Replies) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    serve_within(socket, work, shutdown, CLIENT_TIMEOUT).await;
}

async fn serve_within<W, F>(socket: Socket, work: W, shutdown: CancellationToken, within: Duration)
where
    W: Fn(Request, Replies) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let work = Arc::new(work);
    listen::serve(socket, BOUNDS, shutdown, |stream, slot| attend(stream, slot, work.clone(), within)).await;
}

impl listen::Accept for Socket {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves one client, from its request to the last answer.
async fn attend<W, F>(mut stream: UnixStream, slot: Slot, work: Arc<W>, within: Duration)
where
    W: Fn(Request, Replies) -> F,
    F: Future<Output = ()>,
{
    let Ok(caller) = stream.peer_cred() else { return };
    let (uid, pid) = (caller.uid(), caller.pid());
    let request = match read_request(&mut stream, within).await {
        None => return,
        Some(Ok(request)) => request,
        Some(Err(error)) => {
            tracing::warn!(uid, pid, error, "refused a request at the control socket");
            return refuse(stream, error, within).await;
        }
    };
    if !slot.try_start_answer() {
        tracing::warn!(uid, pid, "refused a request at the control socket: too many clients wait for answers");
        return refuse(stream, "too many clients wait for answers: try again later".into(), within).await;
    }
    let entries = request.entries().join(", ");
    tracing::info!(uid, pid, entries, "{} requested at the control socket", request.word());
    let (sender, replies) = mpsc::channel(UNREAD);
    write_answers(stream, work(request, Replies(sender)), replies, within).await;
}

/// Returns the request of a new client, or the reason why it is invalid. Returns `None` if the client disconnected or
/// sent nothing.
async fn read_request(stream: &mut UnixStream, within: Duration) -> Option<Result<Request, String>> {
    match tokio::time::timeout(within, read_line(&mut BufReader::new(stream))).await {
        Ok(Ok(Some(line))) => Some(Request::parse(&line)),
        Ok(Err(error)) => Some(Err(format!("cannot parse the request: {error}"))),
        Ok(Ok(None)) | Err(_) => None,
    }
}

/// Writes answers as they come, until the work is done, the client does not read in time, or the client disconnects.
async fn write_answers(
    stream: UnixStream,
    work: impl Future<Output = ()>,
    mut replies: mpsc::Receiver<Answer>,
    within: Duration,
) {
    let (mut reading, mut writing) = stream.into_split();
    let work = async {
        work.await;
        Some(())
    };
    let write = async {
        while let Some(answer) = replies.recv().await {
            tokio::time::timeout(within, writing.write_all(&encode_line(&answer))).await.ok()?.ok()?;
        }
        Some(())
    };
    let done = async {
        tokio::pin!(work, write);
        tokio::select! {
            _ = &mut work => { let _ = write.await; }
            written = &mut write => if written.is_some() { let _ = work.await; },
        }
    };
    tokio::select! {
        () = done => {}
        // A client sends nothing after its request, so any input or an end of input ends the connection.
        _ = reading.read_u8() => {}
    }
}

async fn refuse(mut stream: UnixStream, error: String, within: Duration) {
    let answer = encode_line(&Answer::Refused { error });
    let _ = tokio::time::timeout(within, stream.write_all(&answer)).await;
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Client;
    use super::super::wire::LINE_AT_MOST;
    use super::*;

    struct Running {
        path: PathBuf,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
        _folder: tempfile::TempDir,
    }

    /// Time limit that no test reaches.
    const PATIENT: Duration = Duration::from_secs(3600);
    /// Generous time limit for something immediate.
    const SOON: Duration = Duration::from_secs(20);

    /// Starts a server that answers `queued` for each entry and never answers for the entry `slow`.
    async fn start(within: Duration) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let socket = Socket::bind(&path).await.unwrap();
        let shutdown = CancellationToken::new();
        let work = |request: Request, replies: Replies| async move {
            for entry in request.entries() {
                if entry == "slow" {
                    std::future::pending::<()>().await;
                }
                replies.send(entry, Said::Queued).await;
            }
        };
        let task = tokio::spawn(serve_within(socket, work, shutdown.clone(), within));
        Running { path, shutdown, task, _folder: folder }
    }

    fn trigger(entries: &[&str]) -> Request {
        Request::Trigger { entries: entries.iter().map(|entry| (*entry).to_owned()).collect(), wait: false }
    }

    async fn answers(path: &std::path::Path, request: &Request) -> Vec<Answer> {
        let mut client = Client::send(path, request).await.unwrap();
        let mut answers = Vec::new();
        while let Some(answer) = client.next(Some(SOON)).await.unwrap() {
            answers.push(answer);
        }
        answers
    }

    /// Returns the server's response to these bytes, up to the end of the connection.
    async fn response_to(path: &std::path::Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        // The server may end the connection during the write.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut said = Vec::new();
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await.unwrap();
        String::from_utf8(said).unwrap()
    }

    async fn is_ended(stream: &mut UnixStream) -> bool {
        matches!(tokio::time::timeout(SOON, stream.read(&mut [0; 64])).await, Ok(Ok(0) | Err(_)))
    }

    fn queued(entry: &str) -> Answer {
        Answer::Entry { entry: entry.into(), said: Said::Queued }
    }

    #[tokio::test]
    async fn request_is_answered_for_each_entry() {
        let server = start(PATIENT).await;
        assert_eq!(answers(&server.path, &trigger(&["a", "b"])).await, [queued("a"), queued("b")]);
    }

    #[tokio::test]
    async fn invalid_requests_are_refused_and_block_no_other_client() {
        let server = start(PATIENT).await;
        let said = response_to(&server.path, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(said.starts_with(r#"{"error":"cannot parse the request: "#), "{said}");
        let said = response_to(&server.path, br#"{"command":"trig"#).await;
        assert_eq!(said, "{\"error\":\"cannot parse the request: the line is incomplete\"}\n");
        let said = response_to(&server.path, &vec![b' '; LINE_AT_MOST + 1]).await;
        assert_eq!(said, "{\"error\":\"cannot parse the request: a line is longer than 65536 bytes\"}\n");
        assert_eq!(response_to(&server.path, b"").await, "");
        assert_eq!(answers(&server.path, &trigger(&["a"])).await, [queued("a")]);
    }

    #[tokio::test]
    async fn client_without_a_request_is_disconnected_in_time() {
        let server = start(Duration::from_millis(50)).await;
        let mut idle = UnixStream::connect(&server.path).await.unwrap();
        idle.write_all(b"{").await.unwrap();
        assert!(is_ended(&mut idle).await);
    }

    #[tokio::test]
    async fn idle_clients_displace_neither_new_nor_waiting_clients() {
        let server = start(PATIENT).await;
        let mut waiting = Client::send(&server.path, &trigger(&["a", "slow"])).await.unwrap();
        assert_eq!(waiting.next(Some(SOON)).await.unwrap(), Some(queued("a")));
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(UnixStream::connect(&server.path).await.unwrap());
        }
        assert_eq!(answers(&server.path, &trigger(&["b"])).await, [queued("b")]);
        assert!(is_ended(&mut idle[0]).await, "the oldest was ended");
        let silence = waiting.next(Some(Duration::from_millis(50))).await.unwrap_err();
        assert!(silence.to_string().contains("has not answered"), "{silence}");
    }

    #[tokio::test]
    async fn clients_beyond_the_limit_of_waiting_are_refused() {
        let server = start(PATIENT).await;
        let mut waiting = Vec::new();
        for _ in 0..BOUNDS.answered.unwrap() {
            let mut client = Client::send(&server.path, &trigger(&["a", "slow"])).await.unwrap();
            assert_eq!(client.next(Some(SOON)).await.unwrap(), Some(queued("a")));
            waiting.push(client);
        }
        let refused = Answer::Refused { error: "too many clients wait for answers: try again later".into() };
        assert_eq!(answers(&server.path, &trigger(&["a"])).await, [refused]);
        // A client that disconnects frees a slot.
        waiting.clear();
        let end = tokio::time::Instant::now() + SOON;
        while answers(&server.path, &trigger(&["a"])).await != [queued("a")] {
            assert!(tokio::time::Instant::now() < end);
        }
    }

    #[tokio::test]
    async fn shutdown_closes_connections_and_removes_the_socket() {
        let server = start(PATIENT).await;
        let mut idle = UnixStream::connect(&server.path).await.unwrap();
        server.shutdown.cancel();
        server.task.await.unwrap();
        assert!(is_ended(&mut idle).await);
        assert!(!server.path.exists());
    }
}
