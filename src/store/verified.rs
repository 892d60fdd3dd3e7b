//! Bytes whose end is not given out before their digest is known to be right.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::{ByteStream, ErrorKind, Progress, Standing, Step, StoreError, Suspended};
use crate::oci::{Descriptor, Digest, Digester};

/// A stream of a blob's bytes that hashes them as they pass and keeps the last piece back until length and digest are proven.
///
/// Content that is wrong therefore always ends with an error instead of its last piece: whoever sends these
/// bytes on cannot complete an upload of them, whatever the receiver would accept. This is the only type
/// that [`Upload::send`](super::Upload::send) takes.
pub struct Verified {
    inner: ByteStream,
    blob: Descriptor,
    place: String,
    state: State,
    progress: Option<Progress>,
    /// The hash of all before the piece that is held back, and of all before the one that was given out last; while somebody is
    /// told of the progress.
    hashed: [Option<Digester>; 2],
}

enum State {
    Flowing {
        digester: Digester,
        held: Option<Bytes>,
        received: u64,
    },
    /// Ends with this, which nobody has been told yet.
    Failed(StoreError),
    Ended,
}

impl Verified {
    /// Wraps the bytes of `blob` from its start, read from `place` (for the error).
    #[must_use]
    pub fn new(inner: ByteStream, blob: Descriptor, place: &str) -> Self {
        let beginning = Standing { stored: 0, hashed: Digester::like(&blob.digest) };
        Self::going_on(inner, blob, place, beginning)
    }

    /// Wraps the bytes of `blob` from where an upload of it stands.
    #[must_use]
    pub fn going_on(inner: ByteStream, blob: Descriptor, place: &str, standing: Standing) -> Self {
        let Standing { stored, hashed } = standing;
        let state = State::Flowing { digester: hashed, held: None, received: stored };
        Self { inner, blob, place: place.to_owned(), state, progress: None, hashed: [None, None] }
    }

    /// Tells somebody how far the upload came.
    #[must_use]
    pub fn telling(self, progress: Option<Progress>) -> Self {
        Self { progress, ..self }
    }

    /// True if somebody wants to know how far the upload came.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.progress.is_some()
    }

    /// The hash of all that was given out before the last piece; `None` where nobody wants to know.
    #[must_use]
    pub fn hashed_before_last(&self) -> Option<&Digester> {
        self.hashed[1].as_ref()
    }

    /// Tells whoever wants to know that the endpoint has so much.
    pub fn tell(&self, left: Suspended) -> impl Future<Output = ()> + Send + use<> {
        let told = self.progress.as_ref().map(|progress| progress(left));
        async move {
            if let Some(told) = told {
                told.await;
            }
        }
    }

    /// How many bytes a complete stream gives.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// The digest that a complete stream has.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.blob.digest
    }

    /// Waits for the first piece, or for what is there instead. Who sends these bytes through a request of its own has
    /// something to send then, and does not hold its place among the requests while it waits for the source.
    pub async fn begun(&mut self) {
        std::future::poll_fn(|cx| self.poll_begun(cx)).await;
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while matches!(self.state, State::Flowing { held: None, .. }) && !self.is_complete() {
            match ready!(self.inner.poll_next_unpin(cx)) {
                Some(Ok(piece)) => drop(self.take_in(piece)),
                Some(Err(error)) => self.fail(error),
                None => break,
            }
        }
        Poll::Ready(())
    }

    /// Takes in a piece, and gives out the one before.
    fn take_in(&mut self, piece: Bytes) -> Option<Bytes> {
        let State::Flowing { digester, held, received } = &mut self.state else { return None };
        if piece.is_empty() {
            return None;
        }
        if self.progress.is_some() {
            let before = self.hashed[0].replace(digester.clone());
            self.hashed[1] = before;
        }
        *received += piece.len() as u64;
        digester.update(&piece);
        let previous = held.replace(piece);
        if *received > self.blob.size {
            self.fail(self.corrupt(format!("more than the {} bytes of its descriptor", self.blob.size)));
            return None;
        }
        if *received == self.blob.size {
            // All bytes are here: the source is let go now, not when they have been sent.
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
                    if let Some(previous) = this.take_in(piece) {
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
        let (digester, held, received) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Flowing { digester, held, received } => {
                self.hashed[1] = self.hashed[0].take();
                (digester, held, received)
            }
            State::Failed(error) => return Some(Err(error)),
            State::Ended => return None,
        };
        if received != self.blob.size {
            return Some(Err(self.corrupt(format!("{received} bytes instead of {}", self.blob.size))));
        }
        let actual = digester.finish();
        if actual != self.blob.digest {
            return Some(Err(self.corrupt(format!("the bytes hash to {actual}"))));
        }
        held.map(Ok)
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
    async fn right_bytes_pass_whole() {
        assert_eq!(pass(&["ab", "", "cd"], "abcd").await, (vec!["ab".into(), "cd".into()], None));
        assert_eq!(pass(&[], "").await, (vec![], None));
    }

    #[tokio::test]
    async fn the_last_piece_of_wrong_bytes_never_comes_out() {
        let digest = Digest::of(b"abcd");
        let (out, error) = pass(&["ab", "cX"], "abcd").await;
        assert_eq!(out, ["ab"]);
        let actual = Digest::of(b"abcX");
        assert_eq!(error.unwrap(), format!("h/r: reading blob {digest}: the bytes hash to {actual}"));
        let (out, error) = pass(&["ab"], "abcd").await;
        assert_eq!(out, Vec::<Bytes>::new());
        assert_eq!(error.unwrap(), format!("h/r: reading blob {digest}: 2 bytes instead of 4"));
        let (_, error) = pass(&["ab", "cde"], "abcd").await;
        assert!(error.unwrap().ends_with("more than the 4 bytes of its descriptor"));
    }

    async fn gone_on(sent: &str, rest: &[&'static str], content: &str) -> (Vec<Bytes>, Option<String>) {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(content.as_bytes()), content.len() as u64);
        let mut hashed = Digester::like(&blob.digest);
        hashed.update(sent.as_bytes());
        let standing = Standing { stored: sent.len() as u64, hashed };
        let rest: Vec<_> = rest.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        collect(Verified::going_on(stream::iter(rest).boxed(), blob, "h/r", standing)).await
    }

    #[tokio::test]
    async fn what_goes_on_is_proven_as_a_whole() {
        assert_eq!(gone_on("ab", &["cd", "ef"], "abcdef").await, (vec!["cd".into(), "ef".into()], None));
        let (out, error) = gone_on("aX", &["cd", "ef"], "abcdef").await;
        assert_eq!(out, ["cd"], "the last piece stays back where what was sent before is wrong");
        assert!(error.unwrap().ends_with(&format!("the bytes hash to {}", Digest::of(b"aXcdef"))));
        let (out, error) = gone_on("ab", &["cd"], "abcdef").await;
        assert_eq!((out, error.unwrap().ends_with("4 bytes instead of 6")), (vec![], true));
    }

    #[tokio::test]
    async fn the_hash_before_the_last_piece_that_was_given_out_is_told_to_whoever_wants_to_know() {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(b"abcdef"), 6);
        let pieces = ["ab", "cd", "ef"].map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let nobody: Progress = std::sync::Arc::new(|_| Box::pin(async {}));
        let mut verified = Verified::new(stream::iter(pieces).boxed(), blob, "h/r").telling(Some(nobody));
        for before in ["", "ab", "abcd"] {
            verified.next().await.unwrap().unwrap();
            let hashed = verified.hashed_before_last().unwrap().clone().finish();
            assert_eq!(hashed, Digest::of(before.as_bytes()), "{before}");
        }
    }

    #[tokio::test]
    async fn the_source_is_let_go_when_the_last_byte_is_here() {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(b"abcd"), 4);
        let source = std::sync::Arc::new(());
        let held = source.clone();
        let pieces = stream::iter(["ab", "cd"]).map(move |piece| {
            let _held = &held;
            Ok(Bytes::from_static(piece.as_bytes()))
        });
        let mut verified = Verified::new(pieces.boxed(), blob, "h/r");
        verified.begun().await;
        assert_eq!(std::sync::Arc::strong_count(&source), 2);
        assert_eq!(verified.next().await.unwrap().unwrap(), "ab");
        assert_eq!(std::sync::Arc::strong_count(&source), 1);
        assert_eq!(verified.next().await.unwrap().unwrap(), "cd");
        assert!(verified.next().await.is_none());
    }

    #[tokio::test]
    async fn a_source_that_fails_before_its_first_piece_fails_the_stream() {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(b"abcd"), 4);
        let error = StoreError::new("h/r", Step::ReadBlob, blob.digest, ErrorKind::Unavailable, "gone");
        let mut verified = Verified::new(stream::iter([Err(error)]).boxed(), blob, "h/r");
        verified.begun().await;
        assert!(verified.next().await.unwrap().unwrap_err().to_string().ends_with("gone"));
        assert!(verified.next().await.is_none());
    }
}
