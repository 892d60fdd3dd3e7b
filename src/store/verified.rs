//! Stream that releases the last piece of a blob only after a check of the blob's length and digest.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::{ByteStream, ErrorKind, ProgressSink, Step, StoreError, UploadProgress, UploadSession};
use crate::oci::{Descriptor, Digest, Digester};

/// Stream of a blob's bytes. The stream hashes the bytes, and withholds the last piece until the length and the digest
/// of the whole blob are verified.
///
/// If the content is wrong, the stream ends with an error and never returns the last piece. So a sender cannot complete
/// an upload of wrong content, even if the target does not check the digest. [`Upload::send`](super::Upload::send)
/// accepts only this type.
pub struct Verified {
    inner: ByteStream,
    blob: Descriptor,
    place: String,
    state: State,
    progress: Option<ProgressSink>,
    /// Hash states of all bytes before the withheld piece, and of all bytes before the piece that was released last.
    /// Both are `None` without a progress callback.
    hashed: [Option<Digester>; 2],
}

enum State {
    Flowing {
        digester: Digester,
        withheld: Option<Bytes>,
        received: u64,
    },
    /// The stream has failed. The next poll returns this error.
    Failed(StoreError),
    Ended,
}

impl Verified {
    /// Wraps a stream of all bytes of `blob`. `place` names the source of the bytes in error messages.
    #[must_use]
    pub fn new(inner: ByteStream, blob: Descriptor, place: &str) -> Self {
        let beginning = UploadProgress { stored: 0, hashed: Digester::like(&blob.digest) };
        Self::resume(inner, blob, place, beginning)
    }

    /// Wraps a stream of the bytes of `blob` after the part that the target has already stored. `confirmed` has the
    /// length and the hash state of the stored part.
    #[must_use]
    pub fn resume(inner: ByteStream, blob: Descriptor, place: &str, confirmed: UploadProgress) -> Self {
        let UploadProgress { stored, hashed } = confirmed;
        let state = State::Flowing { digester: hashed, withheld: None, received: stored };
        Self { inner, blob, place: place.to_owned(), state, progress: None, hashed: [None, None] }
    }

    /// Sets the callback that receives the progress of the upload.
    #[must_use]
    pub fn with_progress(self, progress: Option<ProgressSink>) -> Self {
        Self { progress, ..self }
    }

    /// Returns true if there is a progress callback.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        self.progress.is_some()
    }

    /// Returns the hash state of all bytes before the piece that the stream returned last. Returns `None` without a
    /// progress callback.
    #[must_use]
    pub fn hashed_before_last(&self) -> Option<&Digester> {
        self.hashed[1].as_ref()
    }

    /// Passes the unfinished upload `session` to the progress callback, if there is one.
    pub fn report_progress(&self, session: UploadSession) -> impl Future<Output = ()> + Send + use<> {
        let report = self.progress.as_ref().map(|progress| progress(session));
        async move {
            if let Some(report) = report {
                report.await;
            }
        }
    }

    /// Returns the size of the whole blob in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// Returns the digest of the whole blob.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.blob.digest
    }

    /// Waits until the source sends the first piece, fails or ends. A sender calls this method before the sender
    /// acquires a request permit. So the sender holds no permit while the sender waits for the source.
    pub async fn wait_for_first_piece(&mut self) {
        std::future::poll_fn(|cx| self.poll_first_piece(cx)).await;
    }

    fn poll_first_piece(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while matches!(self.state, State::Flowing { withheld: None, .. }) && !self.is_complete() {
            match ready!(self.inner.poll_next_unpin(cx)) {
                Some(Ok(piece)) => drop(self.accept_piece(piece)),
                Some(Err(error)) => self.fail(error),
                None => break,
            }
        }
        Poll::Ready(())
    }

    /// Withholds this piece, and returns the piece that was withheld before.
    fn accept_piece(&mut self, piece: Bytes) -> Option<Bytes> {
        let State::Flowing { digester, withheld, received } = &mut self.state else { return None };
        if piece.is_empty() {
            return None;
        }
        if self.progress.is_some() {
            let before = self.hashed[0].replace(digester.clone());
            self.hashed[1] = before;
        }
        *received += piece.len() as u64;
        digester.update(&piece);
        let previous = withheld.replace(piece);
        if *received > self.blob.size {
            self.fail(self.corrupt(format!("more than the {} bytes of its descriptor", self.blob.size)));
            return None;
        }
        if *received == self.blob.size {
            // All bytes have arrived, so the stream drops the source now, before the last piece is released.
            self.inner = stream::empty().boxed();
        }
        previous
    }

    fn fail(&mut self, error: StoreError) {
        self.state = State::Failed(error);
        self.inner = stream::empty().boxed();
    }

    fn is_complete(&self) -> bool {
        matches!(&self.state, State::Flowing { received, .. } if *received == self.blob.size)
    }

    fn corrupt(&self, detail: String) -> StoreError {
        StoreError::new(&self.place, Step::ReadBlob, self.blob.digest, ErrorKind::Corrupt, detail)
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({} from {})", self.blob.digest, self.place)
    }
}

impl Stream for Verified {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while matches!(this.state, State::Flowing { .. }) && !this.is_complete() {
            match ready!(this.inner.poll_next_unpin(cx)) {
                Some(Ok(piece)) => {
                    if let Some(previous) = this.accept_piece(piece) {
                        return Poll::Ready(Some(Ok(previous)));
                    }
                }
                Some(Err(error)) => this.fail(error),
                None => break,
            }
        }
        Poll::Ready(this.end())
    }
}

impl Verified {
    fn end(&mut self) -> Option<Result<Bytes, StoreError>> {
        let (digester, withheld, received) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Flowing { digester, withheld, received } => {
                self.hashed[1] = self.hashed[0].take();
                (digester, withheld, received)
            }
            State::Failed(error) => return Some(Err(error)),
            State::Ended => return None,
        };
        if received != self.blob.size {
            return Some(Err(self.corrupt(format!("{received} bytes instead of {}", self.blob.size))));
        }
        let actual = digester.finish();
        if actual != self.blob.digest {
            return Some(Err(self.corrupt(format!("the bytes hash to {actual}; the blob was not stored"))));
        }
        withheld.map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    async fn pass(pieces: &[&'static str], content: &str) -> (Vec<Bytes>, Option<String>) {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(content.as_bytes()), content.len() as u64);
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        collect(Verified::new(stream::iter(pieces).boxed(), blob, "h/r")).await
    }

    async fn collect(mut verified: Verified) -> (Vec<Bytes>, Option<String>) {
        let mut out = Vec::new();
        while let Some(piece) = verified.next().await {
            match piece {
                Ok(piece) => out.push(piece),
                Err(error) => return (out, Some(error.to_string())),
            }
        }
        (out, None)
    }

    #[tokio::test]
    async fn correct_bytes_pass_completely() {
        assert_eq!(pass(&["ab", "", "cd"], "abcd").await, (vec!["ab".into(), "cd".into()], None));
        assert_eq!(pass(&[], "").await, (vec![], None));
    }

    #[tokio::test]
    async fn last_piece_of_wrong_bytes_is_never_released() {
        let digest = Digest::of(b"abcd");
        let (out, error) = pass(&["ab", "cX"], "abcd").await;
        assert_eq!(out, ["ab"]);
        let actual = Digest::of(b"abcX");
        assert_eq!(
            error.unwrap(),
            format!("h/r: reading blob {digest}: the bytes hash to {actual}; the blob was not stored")
        );
        let (out, error) = pass(&["ab"], "abcd").await;
        assert_eq!(out, Vec::<Bytes>::new());
        assert_eq!(error.unwrap(), format!("h/r: reading blob {digest}: 2 bytes instead of 4"));
        let (_, error) = pass(&["ab", "cde"], "abcd").await;
        assert!(error.unwrap().ends_with("more than the 4 bytes of its descriptor"));
    }

    async fn resumed(sent: &str, rest: &[&'static str], content: &str) -> (Vec<Bytes>, Option<String>) {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(content.as_bytes()), content.len() as u64);
        let mut hashed = Digester::like(&blob.digest);
        hashed.update(sent.as_bytes());
        let confirmed = UploadProgress { stored: sent.len() as u64, hashed };
        let rest: Vec<_> = rest.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        collect(Verified::resume(stream::iter(rest).boxed(), blob, "h/r", confirmed)).await
    }

    #[tokio::test]
    async fn resumed_stream_is_verified_as_a_whole() {
        assert_eq!(resumed("ab", &["cd", "ef"], "abcdef").await, (vec!["cd".into(), "ef".into()], None));
        let (out, error) = resumed("aX", &["cd", "ef"], "abcdef").await;
        assert_eq!(out, ["cd"], "the last piece is withheld if an earlier piece was wrong");
        assert!(error.unwrap().contains(&format!("the bytes hash to {};", Digest::of(b"aXcdef"))));
        let (out, error) = resumed("ab", &["cd"], "abcdef").await;
        assert_eq!((out, error.unwrap().ends_with("4 bytes instead of 6")), (vec![], true));
    }

    #[tokio::test]
    async fn followed_stream_has_hash_before_last_released_piece() {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(b"abcdef"), 6);
        let pieces = ["ab", "cd", "ef"].map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let ignored: ProgressSink = std::sync::Arc::new(|_| Box::pin(async {}));
        let mut verified = Verified::new(stream::iter(pieces).boxed(), blob, "h/r").with_progress(Some(ignored));
        for before in ["", "ab", "abcd"] {
            verified.next().await.unwrap().unwrap();
            let hashed = verified.hashed_before_last().unwrap().clone().finish();
            assert_eq!(hashed, Digest::of(before.as_bytes()), "{before}");
        }
    }

    #[tokio::test]
    async fn source_is_released_when_last_byte_arrives() {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(b"abcd"), 4);
        let source = std::sync::Arc::new(());
        let reference = source.clone();
        let pieces = stream::iter(["ab", "cd"]).map(move |piece| {
            let _reference = &reference;
            Ok(Bytes::from_static(piece.as_bytes()))
        });
        let mut verified = Verified::new(pieces.boxed(), blob, "h/r");
        verified.wait_for_first_piece().await;
        assert_eq!(std::sync::Arc::strong_count(&source), 2);
        assert_eq!(verified.next().await.unwrap().unwrap(), "ab");
        assert_eq!(std::sync::Arc::strong_count(&source), 1);
        assert_eq!(verified.next().await.unwrap().unwrap(), "cd");
        assert!(verified.next().await.is_none());
    }

    #[tokio::test]
    async fn source_failing_before_first_piece_fails_the_stream() {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(b"abcd"), 4);
        let error = StoreError::new("h/r", Step::ReadBlob, blob.digest, ErrorKind::Unavailable, "gone");
        let mut verified = Verified::new(stream::iter([Err(error)]).boxed(), blob, "h/r");
        verified.wait_for_first_piece().await;
        assert!(verified.next().await.unwrap().unwrap_err().to_string().ends_with("gone"));
        assert!(verified.next().await.is_none());
    }
}
