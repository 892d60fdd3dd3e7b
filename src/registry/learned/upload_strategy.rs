//! Upload strategy of a registry: at first the configured strategy, else that of its flavour. The strategy then changes
//! with the registry's answers. Nothing is sent from here.

use std::collections::VecDeque;
use std::sync::Once;

use parking_lot::{Mutex, MutexGuard};

use crate::oci::Digest;
use crate::registry::Flavor;
use crate::registry::options::{UploadMode, Uploads};

/// Maximum length of a chunk, in bytes: each upload in flight holds one in memory.
pub(crate) const MAX_CHUNK: usize = 64 * 1024 * 1024;

/// Lengths to try after a chunk that was too large: the maximum of GHCR, and the default maximum of nginx. If a body is
/// no longer than the last of these lengths, it is not refused for its length alone.
const SMALLER: [usize; 2] = [4 * 1024 * 1024, 1024 * 1024];

/// Maximum number of interrupted blobs that are remembered.
const MOST_BROKEN: usize = 64;

/// Form in which the bytes of a session are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadMethod {
    /// One PUT with all bytes.
    Whole,
    /// PATCHes of this many bytes, then an empty PUT.
    Chunks(usize),
}

/// Strategy of one registry, shared by all of its uploads: each upload uses the facts that the others have learned.
#[derive(Debug)]
pub(crate) struct UploadStrategy {
    /// False if the operator has configured whether blobs are sent in chunks.
    learns: bool,
    /// True if the flavour of the registry is known to store the content that it reports as stored.
    is_known: bool,
    known: Mutex<Learnt>,
    /// Guard that logs once that uploads at this registry do not outlive the process.
    unkept: Once,
}

#[derive(Debug)]
struct Learnt {
    in_chunks: bool,
    /// True if chunks are used only because blobs in one piece were interrupted.
    is_a_guess: bool,
    /// Blobs whose upload in one piece was interrupted, the oldest first.
    broke_off: VecDeque<Digest>,
    /// Blobs whose chunks were accepted but not joined, the latest last, each with true if it has been sent in one
    /// piece since.
    not_joined: VecDeque<(Digest, bool)>,
    chunk: usize,
    /// Minimum length that the registry accepts, except for the last chunk.
    least: usize,
    whole_was_refused: bool,
    chunks_were_refused: bool,
    /// True if the registry has had a blob with a wrong length.
    had_wrong_length: bool,
    /// True if a blob that was sent in several chunks was found complete.
    chunks_arrived: bool,
}

impl UploadStrategy {
    pub(crate) fn new(flavor: &Flavor, uploads: Uploads) -> Self {
        let configured = uploads.chunk.map(|chunk| usize::try_from(chunk).unwrap_or(MAX_CHUNK).clamp(1, MAX_CHUNK));
        let known = Learnt {
            in_chunks: match uploads.mode {
                UploadMode::Auto => flavor.uploads.in_chunks,
                UploadMode::Monolithic => false,
                UploadMode::Chunked => true,
            },
            chunk: configured.unwrap_or(flavor.uploads.chunk),
            least: flavor.uploads.min_chunk,
            is_a_guess: false,
            broke_off: VecDeque::new(),
            not_joined: VecDeque::new(),
            whole_was_refused: false,
            chunks_were_refused: false,
            had_wrong_length: false,
            chunks_arrived: false,
        };
        Self {
            learns: uploads.mode == UploadMode::Auto,
            is_known: flavor.uploads.is_known_to_store,
            known: Mutex::new(known),
            unkept: Once::new(),
        }
    }

    /// Returns the form in which the next upload is sent.
    pub(crate) fn current_method(&self) -> UploadMethod {
        let known = self.lock();
        if known.in_chunks { UploadMethod::Chunks(known.chunk.max(known.least)) } else { UploadMethod::Whole }
    }

    /// Returns the number of bytes that each upload holds in memory.
    pub(crate) fn memory_per_upload(&self) -> u64 {
        match self.current_method() {
            UploadMethod::Chunks(chunk) => chunk as u64,
            UploadMethod::Whole => 0,
        }
    }

    /// Records the minimum length of a chunk that the registry stated.
    ///
    /// # Errors
    /// The length, if it is more than an upload may hold in memory.
    pub(crate) fn learn_min_chunk(&self, least: usize) -> Result<(), usize> {
        let mut known = self.lock();
        if least > MAX_CHUNK {
            return if known.in_chunks { Err(least) } else { Ok(()) };
        }
        known.least = known.least.max(least);
        Ok(())
    }

    /// Records that the registry refused a body of this length as too large. Returns true if chunks should be tried.
    pub(crate) fn learn_whole_is_refused(&self, length: u64) -> bool {
        let mut known = self.lock();
        if !self.learns || known.chunks_were_refused || length <= SMALLER[1] as u64 {
            return false;
        }
        (known.in_chunks, known.whole_was_refused) = (true, true);
        true
    }

    /// Records that an upload in one piece was interrupted. After the second interruption of a blob, blobs are sent in
    /// chunks: the registry may have closed the connection before its response that the body is too large was read, and
    /// an interrupted chunk can resume.
    pub(crate) fn learn_whole_was_interrupted(&self, blob: Digest, length: u64) {
        let mut known = self.lock();
        if !self.learns || known.in_chunks || known.chunks_were_refused || length <= SMALLER[1] as u64 {
            return;
        }
        if known.broke_off.contains(&blob) {
            (known.in_chunks, known.is_a_guess) = (true, true);
            known.broke_off.clear();
            return;
        }
        known.broke_off.push_back(blob);
        if known.broke_off.len() > MOST_BROKEN {
            known.broke_off.pop_front();
        }
    }

    /// Records that the registry refused a chunk, the first or a later one, as a chunk. Returns true if one piece
    /// should be tried. If the registry is known to accept chunks, the refusal of a later one proves nothing.
    pub(crate) fn learn_chunks_are_refused(&self, first: bool) -> bool {
        let mut known = self.lock();
        if !self.learns || known.whole_was_refused || !(first || known.is_a_guess) {
            return false;
        }
        (known.in_chunks, known.chunks_were_refused) = (false, true);
        true
    }

    /// Records that the registry accepted all chunks of a blob but did not join them. Returns true if the blob should
    /// be sent in one piece: once for each blob, even if the operator has configured chunks, since chunks have failed.
    /// Returns false if the registry has refused one piece.
    pub(crate) fn learn_chunks_failed(&self, blob: Digest) -> bool {
        let mut known = self.lock();
        if known.whole_was_refused || known.not_joined.iter().any(|(other, _)| *other == blob) {
            return false;
        }
        known.not_joined.push_back((blob, false));
        if known.not_joined.len() > MOST_BROKEN {
            known.not_joined.pop_front();
        }
        true
    }

    /// Returns true if a blob should be sent in one piece now because its chunks were not joined. Returns true once per
    /// blob.
    pub(crate) fn take_single_piece_retry(&self, blob: &Digest) -> bool {
        let mut known = self.lock();
        let waiting = known.not_joined.iter_mut().find(|(other, was_sent)| other == blob && !was_sent);
        waiting.map(|(_, was_sent)| *was_sent = true).is_some()
    }

    /// Records that such a blob arrived in one piece: the chunks were the cause of the failure.
    pub(crate) fn learn_one_piece_arrived(&self, blob: &Digest) {
        let mut known = self.lock();
        known.not_joined.retain(|(other, _)| other != blob);
        if self.learns && !known.whole_was_refused {
            (known.in_chunks, known.chunks_were_refused) = (false, true);
        }
    }

    /// Returns true if a blob that the registry reports as stored, after this number of chunks, should be looked up.
    /// Some registries have stored only the last chunk (Artifactory). A body in one piece is hashed as it is sent, so
    /// it is looked up only if the registry has had a wrong length before. At a registry of a known flavour, one lookup
    /// is enough.
    pub(crate) fn needs_verification(&self, chunks: u32) -> bool {
        let known = self.lock();
        known.had_wrong_length || (chunks > 1 && !(self.is_known && known.chunks_arrived))
    }

    /// Records that a blob that was sent in several chunks was found complete.
    pub(crate) fn learn_chunks_arrived(&self) {
        self.lock().chunks_arrived = true;
    }

    /// Records that the registry has had a blob with a wrong length.
    pub(crate) fn record_wrong_length(&self) {
        self.lock().had_wrong_length = true;
    }

    /// Records that the registry did not join chunks. Returns true if one piece should be tried.
    pub(crate) fn learn_chunks_are_lost(&self) -> bool {
        let mut known = self.lock();
        known.had_wrong_length = true;
        if !self.learns || known.whole_was_refused {
            return false;
        }
        (known.in_chunks, known.chunks_were_refused) = (false, true);
        true
    }

    /// Records that a chunk of this length was too large. Returns true if a smaller one should be tried.
    pub(crate) fn learn_chunk_is_too_large(&self, length: usize) -> bool {
        let mut known = self.lock();
        let smaller = SMALLER.into_iter().find(|smaller| *smaller < length && *smaller >= known.least);
        match smaller {
            Some(smaller) => {
                known.chunk = known.chunk.min(smaller);
                true
            }
            None => false,
        }
    }

    /// Logs once per registry that a later process cannot resume a chunked upload.
    pub(crate) fn log_once_that_uploads_restart(&self, place: &str) {
        self.unkept.call_once(|| {
            tracing::info!(
                place,
                "uploads in chunks restart after an interruption at this registry: \
                 the session URL is at another host, or may contain a key"
            );
        });
    }

    fn lock(&self) -> MutexGuard<'_, Learnt> {
        self.known.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn strategy(flavor: &Flavor, mode: UploadMode, chunk: Option<usize>) -> UploadStrategy {
        UploadStrategy::new(flavor, Uploads { mode, chunk: chunk.map(|chunk| chunk as u64) })
    }

    fn auto(flavor: &Flavor) -> UploadStrategy {
        strategy(flavor, UploadMode::Auto, None)
    }

    #[test]
    fn only_auto_mode_follows_the_registry_kind() {
        use UploadMode::{Auto, Chunked, Monolithic};
        for (flavor, mode, chunk, way) in [
            (Flavor::ACR, Auto, None, UploadMethod::Chunks(4 * MIB)),
            (Flavor::ACR, Auto, Some(16 * MIB), UploadMethod::Chunks(16 * MIB)),
            (Flavor::ACR, Monolithic, None, UploadMethod::Whole),
            (Flavor::ECR, Auto, None, UploadMethod::Chunks(8 * MIB)),
            // Amazon ECR refuses parts of less than 5 MiB, whatever is configured.
            (Flavor::ECR, Chunked, Some(MIB), UploadMethod::Chunks(5 * MIB)),
            (Flavor::GOOGLE, Auto, Some(MIB), UploadMethod::Whole),
            (Flavor::GENERIC, Auto, None, UploadMethod::Whole),
            (Flavor::GENERIC, Chunked, None, UploadMethod::Chunks(8 * MIB)),
            (Flavor::GHCR, Auto, None, UploadMethod::Whole),
            (Flavor::GHCR, Chunked, None, UploadMethod::Chunks(4 * MIB)),
            (Flavor::GENERIC, Chunked, Some(3), UploadMethod::Chunks(3)),
        ] {
            assert_eq!(strategy(flavor, mode, chunk).current_method(), way, "{flavor} {mode} {chunk:?}");
        }
    }

    #[test]
    fn refusal_changes_the_mode_once_and_never_back() {
        let plain = auto(Flavor::GENERIC);
        assert!(plain.learn_whole_is_refused(2 * MIB as u64));
        assert_eq!(plain.current_method(), UploadMethod::Chunks(8 * MIB));
        // A concurrent upload gets the same result.
        assert!(plain.learn_whole_is_refused(2 * MIB as u64));
        assert!(!plain.learn_chunks_are_refused(true));
        assert_eq!(plain.current_method(), UploadMethod::Chunks(8 * MIB));

        let acr = auto(Flavor::ACR);
        assert!(acr.learn_chunks_are_refused(true));
        assert_eq!(acr.current_method(), UploadMethod::Whole);
        assert!(!acr.learn_whole_is_refused(2 * MIB as u64));
        assert_eq!(acr.current_method(), UploadMethod::Whole);
    }

    #[test]
    fn second_interruption_enables_chunks_and_a_refusal_disables_them() {
        let plain = auto(Flavor::GENERIC);
        let [one, two] = [Digest::of(b"one"), Digest::of(b"two")];
        let length = 2 * MIB as u64;
        plain.learn_whole_was_interrupted(one, length);
        plain.learn_whole_was_interrupted(two, length);
        assert_eq!(plain.current_method(), UploadMethod::Whole, "each blob was interrupted once");
        plain.learn_whole_was_interrupted(one, length);
        assert_eq!(plain.current_method(), UploadMethod::Chunks(8 * MIB));
        assert!(plain.learn_chunks_are_refused(false));
        plain.learn_whole_was_interrupted(one, length);
        plain.learn_whole_was_interrupted(one, length);
        assert_eq!(plain.current_method(), UploadMethod::Whole);
        assert!(!auto(Flavor::ACR).learn_chunks_are_refused(false));
    }

    #[test]
    fn refused_body_too_small_for_chunks_stays_refused() {
        assert!(!auto(Flavor::GENERIC).learn_whole_is_refused(MIB as u64));
    }

    #[test]
    fn chunks_shrink_to_the_minimum_of_the_registry() {
        let plain = strategy(Flavor::GENERIC, UploadMode::Auto, Some(16 * MIB));
        plain.learn_whole_is_refused(100 * MIB as u64);
        for smaller in [4 * MIB, MIB] {
            let UploadMethod::Chunks(length) = plain.current_method() else { panic!() };
            assert!(plain.learn_chunk_is_too_large(length));
            assert_eq!(plain.current_method(), UploadMethod::Chunks(smaller));
        }
        assert!(!plain.learn_chunk_is_too_large(MIB));

        let ecr = auto(Flavor::ECR);
        assert!(!ecr.learn_chunk_is_too_large(8 * MIB));
        assert_eq!(ecr.current_method(), UploadMethod::Chunks(8 * MIB));
    }

    #[test]
    fn configured_mode_learns_nothing() {
        let whole = strategy(Flavor::GENERIC, UploadMode::Monolithic, None);
        assert!(!whole.learn_whole_is_refused(100 * MIB as u64));
        let chunked = strategy(Flavor::GENERIC, UploadMode::Chunked, None);
        assert!(!chunked.learn_chunks_are_refused(true));
        assert_eq!(
            (whole.current_method(), chunked.current_method()),
            (UploadMethod::Whole, UploadMethod::Chunks(8 * MIB))
        );
        // The client still learns the length of a chunk.
        assert!(chunked.learn_chunk_is_too_large(8 * MIB));
        assert_eq!(chunked.current_method(), UploadMethod::Chunks(4 * MIB));
    }

    #[test]
    fn too_large_minimum_chunk_is_an_error_for_chunks() {
        assert_eq!(auto(Flavor::GENERIC).learn_min_chunk(MAX_CHUNK + 1), Ok(()));
        assert_eq!(auto(Flavor::ACR).learn_min_chunk(MAX_CHUNK + 1), Err(MAX_CHUNK + 1));
        let acr = auto(Flavor::ACR);
        acr.learn_min_chunk(16 * MIB).unwrap();
        acr.learn_min_chunk(MIB).unwrap();
        assert_eq!(acr.current_method(), UploadMethod::Chunks(16 * MIB));
        assert_eq!((acr.memory_per_upload(), auto(Flavor::GENERIC).memory_per_upload()), (16 * MIB as u64, 0));
    }
}
