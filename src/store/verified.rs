//! Bytes whose end is not given out before their digest is known to be right.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::{ByteStream, ErrorKind, Step, StoreError};
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
}

enum State {
    Flowing { digester: Digester, held: Option<Bytes>, received: u64 },
    Ended,
}

impl Verified {
    /// Wraps the bytes of `blob` from its start, read from `place` (for the error).
    #[must_use]
    pub fn new(inner: ByteStream, blob: Descriptor, place: &str) -> Self {
        let digester = Digester::like(&blob.digest);
        Self { inner, blob, place: place.to_owned(), state: State::Flowing { digester, held: None, received: 0 } }
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
        loop {
            let State::Flowing { digester, held, received } = &mut this.state else { return Poll::Ready(None) };
            let complete = *received == this.blob.size && (held.is_some() || this.blob.size == 0);
            let next = if complete { None } else { ready!(this.inner.poll_next_unpin(cx)) };
            match next {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    *received += piece.len() as u64;
                    if *received > this.blob.size {
                        this.state = State::Ended;
                        let error = this.corrupt(format!("more than the {} bytes of its descriptor", this.blob.size));
                        return Poll::Ready(Some(Err(error)));
                    }
                    digester.update(&piece);
                    if let Some(previous) = held.replace(piece) {
                        return Poll::Ready(Some(Ok(previous)));
                    }
                }
                Some(Err(error)) => {
                    this.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(this.end()),
            }
        }
    }
}

impl Verified {
    fn end(&mut self) -> Option<Result<Bytes, StoreError>> {
        let State::Flowing { digester, held, received } = std::mem::replace(&mut self.state, State::Ended) else {
            return None;
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
    use futures_util::stream;

    use super::*;
    use crate::oci::MediaType;

    async fn pass(pieces: &[&'static str], content: &str) -> (Vec<Bytes>, Option<String>) {
        let blob = Descriptor::new(MediaType::new("x"), Digest::of(content.as_bytes()), content.len() as u64);
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let mut verified = Verified::new(stream::iter(pieces).boxed(), blob, "h/r");
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
}
