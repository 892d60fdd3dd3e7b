//! Client of the control socket: sends a request to the daemon and reads its replies.

use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;

use super::message::{EntryList, Reply, Request, read_line};

/// Time limit for the connection to the daemon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size in bytes of the list of entries. A list of 60,000 long names fits.
const MAX_LIST: u64 = 4 << 20;
/// Characters of an entry's name that are percent-encoded in the path of a request. The client also encodes the dot. An
/// entry can have the name `..`, but `..` in a path means the parent folder.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Connection for one request and its replies.
pub struct Client {
    path: PathBuf,
    replies: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    /// Task that drives the connection. If this handle is dropped, the connection closes.
    _connection: AbortOnDropHandle<Result<(), hyper::Error>>,
}

/// Reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or no process listens at the socket.
    #[error("no daemon listens at {}", path.display())]
    Absent {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The permissions of the socket's file refuse this user.
    #[error(
        "only the owner and the group of the control socket {} may use the socket: run the command as one of them, or \
         as root",
        path.display()
    )]
    Forbidden {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("the connection to the daemon at {} failed: {source}", path.display())]
    Broken {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system, or of the parser of replies.
        source: io::Error,
    },
    /// The daemon did not respond in time.
    #[error("the daemon at {} has not answered for {}", path.display(), humantime::format_duration(*within))]
    Silent {
        /// Path of the socket.
        path: PathBuf,
        /// Time for which the client waited.
        within: Duration,
    },
}

impl Client {
    /// Connects to the daemon that listens at `path`. [`Client::next`] sends the request and returns the replies.
    ///
    /// # Errors
    /// [`ClientError`] if the daemon cannot be reached.
    pub async fn connect(path: &Path, request: &Request) -> Result<Self, ClientError> {
        Self::open(path, encode(request)).await
    }

    /// Asks the daemon that listens at `path` for the names of all entries. The names are in the order of the
    /// configuration. `within` is the time limit for the response.
    ///
    /// # Errors
    /// [`ClientError`] if the daemon cannot be reached, or if its response is late or invalid.
    pub async fn list_entries(path: &Path, within: Duration) -> Result<Vec<String>, ClientError> {
        let request = hyper::Request::get("/entries").header(HOST, "localhost").body(Body::empty());
        let client = Self::open(path, request).await?;
        let mut body = Vec::new();
        let mut replies = client.replies.take(MAX_LIST);
        let read = tokio::time::timeout(within, replies.read_to_end(&mut body)).await;
        let broken = |source| ClientError::Broken { path: path.to_owned(), source };
        read.map_err(|_| ClientError::Silent { path: path.to_owned(), within })?.map_err(broken)?;
        let list: EntryList = serde_json::from_slice(&body).map_err(|error| broken(error.into()))?;
        Ok(list.entries)
    }

    async fn open(path: &Path, request: Result<hyper::Request<Body>, hyper::http::Error>) -> Result<Self, ClientError> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::Absent { path: path.to_owned() },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path: path.to_owned() },
            _ => ClientError::Broken { path: path.to_owned(), source },
        };
        let request = request.map_err(|error| fail(io::Error::other(error)))?;
        let connect = async {
            let stream = UnixStream::connect(path).await?;
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok((sender, connection))) => Ok(Self {
                path: path.to_owned(),
                replies: StreamReader::new(send(sender, request)),
                _connection: AbortOnDropHandle::new(tokio::spawn(connection)),
            }),
            Ok(Err(error)) => Err(fail(error)),
            Err(_) => Err(ClientError::Silent { path: path.to_owned(), within: CONNECT_TIMEOUT }),
        }
    }

    /// Returns the next reply, or `None` after the last reply. `within` is the time limit for the reply. If `within` is
    /// `None`, there is no time limit.
    ///
    /// # Errors
    /// [`ClientError::Silent`] if no reply comes in time, [`ClientError::Broken`] if the connection fails or a reply
    /// is invalid.
    pub async fn next(&mut self, within: Option<Duration>) -> Result<Option<Reply>, ClientError> {
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        let line = match within {
            None => read_line(&mut self.replies).await,
            Some(within) => tokio::time::timeout(within, read_line(&mut self.replies))
                .await
                .map_err(|_| ClientError::Silent { path: self.path.clone(), within })?,
        };
        let Some(line) = line.map_err(broken)? else { return Ok(None) };
        serde_json::from_slice(&line).map(Some).map_err(|error| broken(error.into()))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("path", &self.path).finish_non_exhaustive()
    }
}

fn encode(request: &Request) -> Result<hyper::Request<Body>, hyper::http::Error> {
    let entry = utf8_percent_encode(&request.entry, ENCODED);
    hyper::Request::post(format!("/entries/{entry}/{}", request.action.word()))
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(request.action.encode_options()))
}

/// Returns a stream of the bytes of the response's body. When the caller polls the stream for the first time, the
/// stream sends the request.
fn send(mut sender: SendRequest<Body>, request: hyper::Request<Body>) -> BoxStream<'static, io::Result<Bytes>> {
    stream::once(async move { sender.send_request(request).await })
        .map_ok(|response| Body::new(response.into_body()).into_data_stream().map_err(axum::Error::into_inner))
        .map_err(axum::BoxError::from)
        .try_flatten()
        .filter_map(|part| ready(part.map_or_else(|error| connection_error(&*error).map(Err), |bytes| Some(Ok(bytes)))))
        .boxed()
}

/// Returns the operating system's error that ended the connection. If the daemon closed the connection, even in the
/// middle of a response, returns `None`.
fn connection_error(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let http = error.downcast_ref::<hyper::Error>();
    if http.is_some_and(|error| error.is_incomplete_message() || error.is_closed() || error.is_canceled()) {
        return None;
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(system) if system.kind() == io::ErrorKind::UnexpectedEof => None,
        Some(system) => Some(io::Error::new(system.kind(), system.to_string())),
        None => Some(io::Error::other(error.to_string())),
    }
}
