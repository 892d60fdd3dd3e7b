//! Takes requests from a socket, so that no client, slow or hostile, can hold up the daemon or others.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::wire::{Answer, Request, line, next_line};
use super::{Said, Socket};
use crate::listen::{self, Bounds, Place};

/// Who waits for an answer may have to wait for the end of a run: one more of these is sent away.
const BOUNDS: Bounds = Bounds { asking: 64, answered: Some(64), checked: 0, sure: Duration::from_millis(25) };
/// How long a client may take for its request, and for the reading of each answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Answers that may wait for a client to read.
const UNREAD: usize = 16;

/// Where the answers to one request go.
#[derive(Debug)]
pub struct Replies(mpsc::Sender<Answer>);

impl Replies {
    /// Says something of an entry. Waits while the client reads; does nothing once it has gone.
    pub async fn say(&self, entry: &str, said: Said) {
        let _ = self.0.send(Answer::Entry { entry: entry.to_owned(), said }).await;
    }
}

/// Takes requests until `shutdown`, then ends within a second. `work` does what is asked for; it is dropped when the client
/// goes. Dropping the future closes every connection.
pub async fn serve<W, F>(socket: Socket, work: W, shutdown: CancellationToken)
where
    W: Fn(Request, Replies) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    serve_within(socket, work, shutdown, WITHIN).await;
}

async fn serve_within<W, F>(socket: Socket, work: W, shutdown: CancellationToken, within: Duration)
where
    W: Fn(Request, Replies) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let work = Arc::new(work);
    listen::serve(socket, BOUNDS, shutdown, |stream, place| attend(stream, place, work.clone(), within)).await;
}

impl listen::Accept for Socket {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// One client, from its request to the last answer.
async fn attend<W, F>(mut stream: UnixStream, place: Place, work: Arc<W>, within: Duration)
where
    W: Fn(Request, Replies) -> F,
    F: Future<Output = ()>,
{
    let Ok(caller) = stream.peer_cred() else { return };
    let (uid, pid) = (caller.uid(), caller.pid());
    let request = match ask(&mut stream, within).await {
        None => return,
        Some(Ok(request)) => request,
        Some(Err(error)) => {
            tracing::warn!(uid, pid, error, "a request at the control socket is refused");
            return refuse(stream, error, within).await;
        }
    };
    if !place.be_answered_if_there_is_room() {
        tracing::warn!(uid, pid, "too many clients wait for answers: a request at the control socket is refused");
        return refuse(stream, "too many clients wait for answers already: try again later".into(), within).await;
    }
    let entries = request.entries().join(", ");
    tracing::info!(uid, pid, entries, "{} is asked for at the control socket", request.word());
    let (sender, replies) = mpsc::channel(UNREAD);
    answer(stream, work(request, Replies(sender)), replies, within).await;
}

/// The request of a new client, or why it is none; `None` of one that has gone or is silent.
async fn ask(stream: &mut UnixStream, within: Duration) -> Option<Result<Request, String>> {
    match tokio::time::timeout(within, next_line(&mut BufReader::new(stream))).await {
        Ok(Ok(Some(line))) => Some(Request::read(&line)),
        Ok(Err(error)) => Some(Err(format!("the request is not understood: {error}"))),
        Ok(Ok(None)) | Err(_) => None,
    }
}

/// Writes answers as they come, until the work is done, or the client does not read or has gone.
async fn answer(
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
            tokio::time::timeout(within, writing.write_all(&line(&answer))).await.ok()?.ok()?;
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
        // A client has nothing more to say: this is its end.
        _ = reading.read_u8() => {}
    }
}

async fn refuse(mut stream: UnixStream, error: String, within: Duration) {
    let answer = line(&Answer::Refused { error });
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

    /// No limit that a test could wait for.
    const PATIENT: Duration = Duration::from_secs(3600);
    /// A generous time for what happens at once.
    const SOON: Duration = Duration::from_secs(20);

    /// Says `queued` of each entry; of `slow` nothing, ever.
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
                replies.say(entry, Said::Queued).await;
            }
        };
        let task = tokio::spawn(serve_within(socket, work, shutdown.clone(), within));
        Running { path, shutdown, task, _folder: folder }
    }

    fn trigger(entries: &[&str]) -> Request {
        Request::Trigger { entries: entries.iter().map(|entry| (*entry).to_owned()).collect(), wait: false }
    }

    async fn answers(path: &std::path::Path, request: &Request) -> Vec<Answer> {
        let mut client = Client::ask(path, request).await.unwrap();
        let mut answers = Vec::new();
        while let Some(answer) = client.next(Some(SOON)).await.unwrap() {
            answers.push(answer);
        }
        answers
    }

    /// What the server says to these bytes before it ends the connection.
    async fn said_to(path: &std::path::Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        // It may end while we write.
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
    async fn a_request_is_answered_for_each_entry() {
        let server = start(PATIENT).await;
        assert_eq!(answers(&server.path, &trigger(&["a", "b"])).await, [queued("a"), queued("b")]);
    }

    #[tokio::test]
    async fn garbage_half_a_line_and_a_huge_one_are_refused_and_hold_up_nobody() {
        let server = start(PATIENT).await;
        let said = said_to(&server.path, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(said.starts_with(r#"{"error":"the request is not understood: "#), "{said}");
        let said = said_to(&server.path, br#"{"command":"trig"#).await;
        assert_eq!(said, "{\"error\":\"the request is not understood: half a line\"}\n");
        let said = said_to(&server.path, &vec![b' '; LINE_AT_MOST + 1]).await;
        assert_eq!(said, "{\"error\":\"the request is not understood: a line of more than 65536 bytes\"}\n");
        assert_eq!(said_to(&server.path, b"").await, "");
        assert_eq!(answers(&server.path, &trigger(&["a"])).await, [queued("a")]);
    }

    #[tokio::test]
    async fn a_client_that_asks_for_nothing_is_ended_in_time() {
        let server = start(Duration::from_millis(50)).await;
        let mut idle = UnixStream::connect(&server.path).await.unwrap();
        idle.write_all(b"{").await.unwrap();
        assert!(is_ended(&mut idle).await);
    }

    #[tokio::test]
    async fn idle_clients_lock_nobody_out_and_end_nobody_who_waits_for_an_answer() {
        let server = start(PATIENT).await;
        let mut waiting = Client::ask(&server.path, &trigger(&["a", "slow"])).await.unwrap();
        assert_eq!(waiting.next(Some(SOON)).await.unwrap(), Some(queued("a")));
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(UnixStream::connect(&server.path).await.unwrap());
        }
        assert_eq!(answers(&server.path, &trigger(&["b"])).await, [queued("b")]);
        assert!(is_ended(&mut idle[0]).await, "the oldest was ended");
        let silence = waiting.next(Some(Duration::from_millis(50))).await.unwrap_err();
        assert!(silence.to_string().contains("says nothing"), "{silence}");
    }

    #[tokio::test]
    async fn more_that_wait_than_there_is_room_for_are_sent_away() {
        let server = start(PATIENT).await;
        let mut waiting = Vec::new();
        for _ in 0..BOUNDS.answered.unwrap() {
            let mut client = Client::ask(&server.path, &trigger(&["a", "slow"])).await.unwrap();
            assert_eq!(client.next(Some(SOON)).await.unwrap(), Some(queued("a")));
            waiting.push(client);
        }
        let refused = Answer::Refused { error: "too many clients wait for answers already: try again later".into() };
        assert_eq!(answers(&server.path, &trigger(&["a"])).await, [refused]);
        // Who goes makes room.
        waiting.clear();
        let end = tokio::time::Instant::now() + SOON;
        while answers(&server.path, &trigger(&["a"])).await != [queued("a")] {
            assert!(tokio::time::Instant::now() < end);
        }
    }

    #[tokio::test]
    async fn the_end_closes_connections_and_removes_the_socket() {
        let server = start(PATIENT).await;
        let mut idle = UnixStream::connect(&server.path).await.unwrap();
        server.shutdown.cancel();
        server.task.await.unwrap();
        assert!(is_ended(&mut idle).await);
        assert!(!server.path.exists());
    }
}
