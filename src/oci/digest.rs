//! Content digests (image-spec, "Digests"), and hashers that compute digests.

use std::fmt;
use std::str::FromStr;

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// Digest of some content: an algorithm and lower-case hexadecimal digits.
///
/// - `sha256:` and `blake3:` have 64 digits.
/// - `sha512:` has 128 digits.
///
/// image-spec registers these algorithms ("Registered algorithms"). The parser rejects any other algorithm.
///
/// ```
/// use transship::oci::{Digest, Digester};
///
/// let digest = Digest::of(b"hello\n");
/// let text = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
/// assert_eq!(digest.to_string(), text);
/// assert_eq!(text.parse(), Ok(digest));
///
/// // Hash the pieces of a stream by the algorithm of the expected digest.
/// let mut digester = Digester::like(&digest);
/// [&b"hel"[..], b"lo\n"].iter().for_each(|piece| digester.update(piece));
/// assert_eq!(digester.finish(), digest);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256, the algorithm in common use.
    Sha256([u8; 32]),
    /// SHA-512, optional in the specification.
    Sha512([u8; 64]),
    /// BLAKE3 of 256 bits, optional in the specification.
    Blake3([u8; 32]),
}

/// Error of parsing a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// A text without `algorithm:` before the digits.
    #[error("{0:?} is not a digest: expected sha256:<64 hex digits>")]
    Shape(String),
    /// An algorithm that this crate cannot verify.
    #[error("{0:?} uses a digest algorithm that is not supported: expected sha256, sha512 or blake3")]
    Algorithm(String),
    /// A wrong number of digits, or digits that are upper-case or not hexadecimal.
    #[error("{text:?} is not a digest: {algorithm} takes {expected} lower-case hex digits")]
    Digits {
        /// The whole text.
        text: String,
        /// The algorithm before the colon.
        algorithm: &'static str,
        /// The number of digits that this algorithm requires.
        expected: usize,
    },
}

impl Digest {
    /// Returns the SHA-256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(bytes).into())
    }

    /// Returns the digest of `bytes`, by the algorithm of this digest.
    #[must_use]
    pub fn same_algorithm_of(&self, bytes: &[u8]) -> Self {
        let mut digester = Digester::like(self);
        digester.update(bytes);
        digester.finish()
    }

    /// Names of the supported algorithms.
    pub const ALGORITHMS: [&'static str; 3] = ["sha256", "sha512", "blake3"];

    /// Returns the algorithm's name, one of [`Digest::ALGORITHMS`].
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
            Self::Blake3(_) => "blake3",
        }
    }

    /// Returns the raw hash, 32 or 64 bytes.
    #[must_use]
    pub fn hash(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) | Self::Blake3(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// Returns the hexadecimal digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let bytes = self.hash();
        // This loop runs for every request and every journal row. `hex::encode` needs 50 % more time.
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        hex
    }

    /// Returns the first twelve digits, for display and for derived tag names.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())?;
        f.write_str(":")?;
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = text.split_once(':').ok_or_else(|| DigestError::Shape(text.to_owned()))?;
        match algorithm {
            "sha256" => decode(text, "sha256", digits).map(Self::Sha256),
            "sha512" => decode(text, "sha512", digits).map(Self::Sha512),
            "blake3" => decode(text, "blake3", digits).map(Self::Blake3),
            _ => Err(DigestError::Algorithm(text.to_owned())),
        }
    }
}

fn decode<const N: usize>(text: &str, algorithm: &'static str, digits: &str) -> Result<[u8; N], DigestError> {
    let wrong = || DigestError::Digits { text: text.to_owned(), algorithm, expected: N * 2 };
    if digits.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
    Ok(bytes)
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Incremental hasher that computes a [`Digest`].
#[derive(Clone)]
pub struct Digester(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
    /// Boxed, because this hasher has twenty times the size of the other hashers.
    Blake3(Box<blake3::Hasher>),
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl Digester {
    /// Returns a hasher for the algorithm of `digest`.
    #[must_use]
    pub fn like(digest: &Digest) -> Self {
        Self(match digest {
            Digest::Sha256(_) => State::Sha256(Sha256::new()),
            Digest::Sha512(_) => State::Sha512(Sha512::new()),
            Digest::Blake3(_) => State::Blake3(Box::default()),
        })
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
            State::Blake3(hasher) => drop(hasher.update(bytes)),
        }
    }

    /// Returns the serialised state of the computation, for [`Digester::from_state`]. For BLAKE3, the result is empty,
    /// because the crate `blake3` cannot serialise its state.
    #[must_use]
    pub fn to_state(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(hasher) => hasher.serialize().to_vec(),
            State::Sha512(hasher) => hasher.serialize().to_vec(),
            State::Blake3(_) => Vec::new(),
        }
    }

    /// Restores a computation from the serialised state `saved`, for the algorithm of `digest`. If `saved` is not a
    /// state of this algorithm, returns `None`. For BLAKE3, always returns `None`.
    #[must_use]
    pub fn from_state(digest: &Digest, saved: &[u8]) -> Option<Self> {
        Some(Self(match digest {
            Digest::Sha256(_) => {
                State::Sha256(Sha256::deserialize(<&SerializedState<Sha256>>::try_from(saved).ok()?).ok()?)
            }
            Digest::Sha512(_) => {
                State::Sha512(Sha512::deserialize(<&SerializedState<Sha512>>::try_from(saved).ok()?).ok()?)
            }
            Digest::Blake3(_) => return None,
        }))
    }

    /// Returns the digest of all hashed bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            State::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
            State::Blake3(hasher) => Digest::Blake3(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_prints_in_the_form_it_parses() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
    }

    #[test]
    fn malformed_digest_error_states_the_expected_form() {
        let message = |text: &str| text.parse::<Digest>().unwrap_err().to_string();
        assert_eq!(message("latest"), r#""latest" is not a digest: expected sha256:<64 hex digits>"#);
        assert_eq!(
            message("md5:00"),
            r#""md5:00" uses a digest algorithm that is not supported: expected sha256, sha512 or blake3"#
        );
        assert_eq!(message("sha256:00"), r#""sha256:00" is not a digest: sha256 takes 64 lower-case hex digits"#);
        assert!(EMPTY.to_uppercase().replace("SHA", "sha").parse::<Digest>().is_err());
    }

    #[test]
    fn digester_of_pieces_equals_digest_of_whole() {
        for like in [Digest::of(b""), Digest::Sha512([0; 64]), Digest::Blake3([0; 32])] {
            let mut digester = Digester::like(&like);
            digester.update(b"hel");
            digester.update(b"lo");
            assert_eq!(digester.finish(), like.same_algorithm_of(b"hello"));
        }
    }

    #[test]
    fn saved_digester_resumes_at_the_same_byte() {
        for like in [Digest::of(b""), Digest::Sha512([0; 64])] {
            let text = [7; 1000];
            let mut digester = Digester::like(&like);
            digester.update(&text[..333]);
            let saved = digester.to_state();
            let mut digester = Digester::from_state(&like, &saved).unwrap();
            digester.update(&text[333..]);
            assert_eq!(digester.finish(), like.same_algorithm_of(&text));
            assert!(Digester::from_state(&like, &saved[1..]).is_none());
        }
    }

    #[test]
    fn blake3_digest_matches_the_published_test_vector() {
        let empty = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let digest: Digest = empty.parse().unwrap();
        assert_eq!((digest.to_string().as_str(), digest.same_algorithm_of(b"")), (empty, digest));
        assert_ne!(digest, digest.same_algorithm_of(b"x"));
        let digester = Digester::like(&digest);
        assert!(
            Digester::from_state(&digest, &digester.to_state()).is_none(),
            "so the upload of a BLAKE3 blob always restarts"
        );
    }
}
