//! The other end: asks the daemon at its socket, and reads what it says.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::wire::{Answer, Request, line, next_line};

/// How long the daemon may take to let a request in.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// A request that was made, and whose answers come.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or an abandoned one.
    #[error("no daemon listens at {}", path.display())]
    Absent {
        /// The place.
        path: PathBuf,
    },
    /// The file's permissions keep us out.
    #[error("the control socket {} lets in its owner and its group alone: ask as one of them, or as root", path.display())]
    Forbidden {
        /// The place.
        path: PathBuf,
    },
    /// It went wrong underway.
    #[error("the daemon at {}: {source}", path.display())]
    Broken {
        /// The place.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It answers nothing.
    #[error("the daemon at {} says nothing for {}", path.display(), humantime::format_duration(*within))]
    Silent {
        /// The place.
        path: PathBuf,
        /// For how long.
        within: Duration,
    },
}

impl Client {
    /// Asks the daemon that listens at `path`. The answers are those of [`Client::next`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let broken = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::Absent { path: path.to_owned() },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path: path.to_owned() },
            _ => ClientError::Broken { path: path.to_owned(), source },
        };
        let ask = async {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(&line(request)).await?;
            Ok(stream)
        };
        match tokio::time::timeout(ASK_WITHIN, ask).await {
            Ok(Ok(stream)) => Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) }),
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(ClientError::Silent { path: path.to_owned(), within: ASK_WITHIN }),
        }
    }

    /// The next answer, `None` after the last. Waits for as long as it takes where `within` is not said.
    ///
    /// # Errors
    /// [`ClientError::Silent`], and [`ClientError::Broken`] also for an answer that is none.
    pub async fn next(&mut self, within: Option<Duration>) -> Result<Option<Answer>, ClientError> {
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        let line = match within {
            None => next_line(&mut self.stream).await,
            Some(within) => tokio::time::timeout(within, next_line(&mut self.stream))
                .await
                .map_err(|_| ClientError::Silent { path: self.path.clone(), within })?,
        };
        let Some(line) = line.map_err(broken)? else { return Ok(None) };
        serde_json::from_slice(&line).map(Some).map_err(|error| broken(error.into()))
    }
}
