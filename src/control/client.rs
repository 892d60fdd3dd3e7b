//! Client of the control socket: sends a request to the daemon and reads its answers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::wire::{Answer, Request, encode_line, read_line};

/// Time limit for the daemon to accept a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connection over which a request was sent and its answers arrive.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody listens at it.
    #[error("no daemon listens at {}", path.display())]
    Absent {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The permissions of the socket's file refuse this user.
    #[error(
        "only the owner and the group of the control socket {} may use it: run this as one of them, or as root",
        path.display()
    )]
    Forbidden {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("the daemon at {}: {source}", path.display())]
    Broken {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The daemon does not answer in time.
    #[error("the daemon at {} has not answered for {}", path.display(), humantime::format_duration(*within))]
    Silent {
        /// Path of the socket.
        path: PathBuf,
        /// Time that was waited.
        within: Duration,
    },
}

impl Client {
    /// Sends a request to the daemon that listens at `path`. [`Client::next`] returns the answers.
    ///
    /// # Errors
    /// [`ClientError`] if the request could not be sent.
    pub async fn send(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let broken = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::Absent { path: path.to_owned() },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path: path.to_owned() },
            _ => ClientError::Broken { path: path.to_owned(), source },
        };
        let ask = async {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(&encode_line(request)).await?;
            Ok(stream)
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, ask).await {
            Ok(Ok(stream)) => Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) }),
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(ClientError::Silent { path: path.to_owned(), within: REQUEST_TIMEOUT }),
        }
    }

    /// Returns the next answer, or `None` after the last one. Waits without limit if `within` is `None`.
    ///
    /// # Errors
    /// [`ClientError::Silent`] if no answer comes in time, [`ClientError::Broken`] if the connection fails or an
    /// answer is invalid.
    pub async fn next(&mut self, within: Option<Duration>) -> Result<Option<Answer>, ClientError> {
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        let line = match within {
            None => read_line(&mut self.stream).await,
            Some(within) => tokio::time::timeout(within, read_line(&mut self.stream))
                .await
                .map_err(|_| ClientError::Silent { path: self.path.clone(), within })?,
        };
        let Some(line) = line.map_err(broken)? else { return Ok(None) };
        serde_json::from_slice(&line).map(Some).map_err(|error| broken(error.into()))
    }
}
