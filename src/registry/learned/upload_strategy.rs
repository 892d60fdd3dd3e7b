//! Upload strategy of a registry: blobs in one piece or in chunks, and the length of a chunk. The configuration or the
//! registry's flavour sets the initial strategy. Later, the registry's responses change the strategy.

use std::collections::VecDeque;
use std::sync::Once;

use parking_lot::{Mutex, MutexGuard};

use crate::oci::Digest;
use crate::registry::Flavor;
use crate::registry::options::{UploadMode, Uploads};

/// Maximum length of a chunk, in bytes. Each upload in flight has one chunk in memory.
pub(crate) const MAX_CHUNK: usize = 64 * 1024 * 1024;

/// Chunk lengths, in bytes, that the client tries after the registry refused a longer chunk: the maximum of GHCR (4
/// MiB), and the default maximum of nginx (1 MiB).
const SMALLER_CHUNKS: [usize; 2] = [4 * 1024 * 1024, 1024 * 1024];

/// Maximum number of blobs for which the client remembers a failed upload.
const MAX_FAILED: usize = 64;

/// Division of the bytes of an upload session into requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadMethod {
    /// One PUT with all bytes.
    Whole,
    /// PATCHes of this many bytes, then an empty PUT.
    Chunks(usize),
}

/// Upload strategy of one registry, shared by all uploads to the registry.
#[derive(Debug)]
pub(crate) struct UploadStrategy {
    /// True if the registry's responses decide between one piece and chunks. False if the operator configured the mode.
    learns: bool,
    /// True if registries of this flavour reliably store all chunks.
    is_known: bool,
    learned: Mutex<LearnedUploads>,
    /// Guard that lets the client log only once that uploads restart.
    restart_log: Once,
}

#[derive(Debug)]
struct LearnedUploads {
    /// True if the client sends blobs in chunks.
    in_chunks: bool,
    /// True if the client uses chunks only because uploads in one piece were interrupted.
    is_a_guess: bool,
    /// Blobs whose upload in one piece was interrupted once, oldest first.
    interrupted: VecDeque<Digest>,
    /// Blobs that the registry lacked after an upload in chunks, although the registry had accepted all chunks; oldest
    /// first. The flag is true after the client has started to send the blob in one piece.
    not_joined: VecDeque<(Digest, bool)>,
    /// Length of a chunk, in bytes.
    chunk: usize,
    /// Minimum length of a chunk that the registry accepts, in bytes. The last chunk can be shorter.
    min_chunk: usize,
    whole_was_refused: bool,
    chunks_were_refused: bool,
    /// True if the registry has reported a stored blob with a wrong length.
    had_wrong_length: bool,
    /// True if the registry had a complete blob after an upload in several chunks.
    chunks_arrived: bool,
}

impl UploadStrategy {
    pub(crate) fn new(flavor: &Flavor, uploads: Uploads) -> Self {
        let configured = uploads.chunk.map(|chunk| usize::try_from(chunk).unwrap_or(MAX_CHUNK).clamp(1, MAX_CHUNK));
        let learned = LearnedUploads {
            in_chunks: match uploads.mode {
                UploadMode::Auto => flavor.uploads.in_chunks,
                UploadMode::Monolithic => false,
                UploadMode::Chunked => true,
            },
            chunk: configured.unwrap_or(flavor.uploads.chunk),
            min_chunk: flavor.uploads.min_chunk,
            is_a_guess: false,
            interrupted: VecDeque::new(),
            not_joined: VecDeque::new(),
            whole_was_refused: false,
            chunks_were_refused: false,
            had_wrong_length: false,
            chunks_arrived: false,
        };
        Self {
            learns: uploads.mode == UploadMode::Auto,
            is_known: flavor.uploads.is_known_to_store,
            learned: Mutex::new(learned),
            restart_log: Once::new(),
        }
    }

    pub(crate) fn current_method(&self) -> UploadMethod {
        let learned = self.lock();
        if learned.in_chunks { UploadMethod::Chunks(learned.chunk.max(learned.min_chunk)) } else { UploadMethod::Whole }
    }

    /// Returns the number of bytes that each upload keeps in memory.
    pub(crate) fn memory_per_upload(&self) -> u64 {
        match self.current_method() {
            UploadMethod::Chunks(chunk) => chunk as u64,
            UploadMethod::Whole => 0,
        }
    }

    /// Records the minimum length of a chunk that the registry stated.
    ///
    /// # Errors
    /// If `min_chunk` exceeds [`MAX_CHUNK`] and the client sends blobs in chunks, returns `min_chunk`.
    pub(crate) fn learn_min_chunk(&self, min_chunk: usize) -> Result<(), usize> {
        let mut learned = self.lock();
        if min_chunk > MAX_CHUNK {
            return if learned.in_chunks { Err(min_chunk) } else { Ok(()) };
        }
        learned.min_chunk = learned.min_chunk.max(min_chunk);
        Ok(())
    }

    /// Records that the registry refused a body of this length as too large. Returns true if the caller should send the
    /// blob in chunks.
    pub(crate) fn learn_whole_is_refused(&self, length: u64) -> bool {
        let mut learned = self.lock();
        if !self.learns || learned.chunks_were_refused || length <= SMALLER_CHUNKS[1] as u64 {
            return false;
        }
        (learned.in_chunks, learned.whole_was_refused) = (true, true);
        true
    }

    /// Records that an upload in one piece was interrupted. After the second interruption of the same blob, the client
    /// sends all blobs in chunks, for two reasons:
    ///
    /// - The registry may have closed the connection because the body was too large.
    /// - An upload in chunks can resume.
    pub(crate) fn learn_whole_was_interrupted(&self, blob: Digest, length: u64) {
        let mut learned = self.lock();
        if !self.learns || learned.in_chunks || learned.chunks_were_refused || length <= SMALLER_CHUNKS[1] as u64 {
            return;
        }
        if learned.interrupted.contains(&blob) {
            (learned.in_chunks, learned.is_a_guess) = (true, true);
            learned.interrupted.clear();
            return;
        }
        learned.interrupted.push_back(blob);
        if learned.interrupted.len() > MAX_FAILED {
            learned.interrupted.pop_front();
        }
    }

    /// Records a refusal of a chunk that can mean that the registry accepts no chunks. `first` is true for the first
    /// chunk of an upload. For a later chunk, the call has an effect only if the client switched to chunks after
    /// interrupted uploads. Returns true if the caller should send the blob in one piece.
    pub(crate) fn learn_chunks_are_refused(&self, first: bool) -> bool {
        let mut learned = self.lock();
        if !self.learns || learned.whole_was_refused || !(first || learned.is_a_guess) {
            return false;
        }
        (learned.in_chunks, learned.chunks_were_refused) = (false, true);
        true
    }

    /// Records that the registry accepted all chunks of a blob, but lacks the whole blob. Returns true if the caller
    /// should send the blob in one piece, even if the operator configured chunks. Returns true at most once for each
    /// blob. If the registry has refused a blob in one piece, returns false.
    pub(crate) fn learn_chunks_failed(&self, blob: Digest) -> bool {
        let mut learned = self.lock();
        if learned.whole_was_refused || learned.not_joined.iter().any(|(other, _)| *other == blob) {
            return false;
        }
        learned.not_joined.push_back((blob, false));
        if learned.not_joined.len() > MAX_FAILED {
            learned.not_joined.pop_front();
        }
        true
    }

    /// If [`Self::learn_chunks_failed`] recorded this blob, returns true to one caller. This caller should send the
    /// blob in one piece.
    pub(crate) fn take_single_piece_retry(&self, blob: &Digest) -> bool {
        let mut learned = self.lock();
        let waiting = learned.not_joined.iter_mut().find(|(other, was_sent)| other == blob && !was_sent);
        waiting.map(|(_, was_sent)| *was_sent = true).is_some()
    }

    /// Records that the upload in one piece succeeded for a blob whose upload in chunks had failed. If the operator
    /// configured no mode, the client sends later blobs in one piece.
    pub(crate) fn learn_one_piece_arrived(&self, blob: &Digest) {
        let mut learned = self.lock();
        learned.not_joined.retain(|(other, _)| other != blob);
        if self.learns && !learned.whole_was_refused {
            (learned.in_chunks, learned.chunks_were_refused) = (false, true);
        }
    }

    /// Returns true if the client should look up a blob after a successful upload in this number of chunks. Some
    /// registries reported a success but stored only the last chunk (Artifactory). The rules are:
    ///
    /// - After several chunks, the client looks up the blob. At a registry of a known flavour, one successful lookup is
    ///   enough for all later blobs.
    /// - After one piece, the client does not look up the blob.
    /// - If the registry has ever reported a wrong length, the client looks up every blob.
    pub(crate) fn needs_verification(&self, chunks: u32) -> bool {
        let learned = self.lock();
        learned.had_wrong_length || (chunks > 1 && !(self.is_known && learned.chunks_arrived))
    }

    pub(crate) fn learn_chunks_arrived(&self) {
        self.lock().chunks_arrived = true;
    }

    pub(crate) fn record_wrong_length(&self) {
        self.lock().had_wrong_length = true;
    }

    /// Records that the registry reported a success after the last chunk, but lacks the whole blob. Returns true if the
    /// caller should send the blob in one piece.
    pub(crate) fn learn_chunks_are_lost(&self) -> bool {
        let mut learned = self.lock();
        learned.had_wrong_length = true;
        if !self.learns || learned.whole_was_refused {
            return false;
        }
        (learned.in_chunks, learned.chunks_were_refused) = (false, true);
        true
    }

    /// Records that the registry refused a chunk of this length as too large. Returns true if the caller should try
    /// smaller chunks.
    pub(crate) fn learn_chunk_is_too_large(&self, length: usize) -> bool {
        let mut learned = self.lock();
        let smaller = SMALLER_CHUNKS.into_iter().find(|smaller| *smaller < length && *smaller >= learned.min_chunk);
        match smaller {
            Some(smaller) => {
                learned.chunk = learned.chunk.min(smaller);
                true
            }
            None => false,
        }
    }

    /// Logs, at most once for each registry, that a later process cannot resume an upload in chunks.
    pub(crate) fn log_once_that_uploads_restart(&self, place: &str) {
        self.restart_log.call_once(|| {
            tracing::info!(
                place,
                "uploads in chunks restart after an interruption at this registry: \
                 the session URL is not stored, because it is at another host or may contain a key"
            );
        });
    }

    fn lock(&self) -> MutexGuard<'_, LearnedUploads> {
        self.learned.lock()
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
        for (flavor, mode, chunk, method) in [
            (Flavor::ACR, Auto, None, UploadMethod::Chunks(4 * MIB)),
            (Flavor::ACR, Auto, Some(16 * MIB), UploadMethod::Chunks(16 * MIB)),
            (Flavor::ACR, Monolithic, None, UploadMethod::Whole),
            (Flavor::ECR, Auto, None, UploadMethod::Chunks(8 * MIB)),
            // Amazon ECR refuses chunks of less than 5 MiB, so the client ignores the configured length.
            (Flavor::ECR, Chunked, Some(MIB), UploadMethod::Chunks(5 * MIB)),
            (Flavor::GOOGLE, Auto, Some(MIB), UploadMethod::Whole),
            (Flavor::GENERIC, Auto, None, UploadMethod::Whole),
            (Flavor::GENERIC, Chunked, None, UploadMethod::Chunks(8 * MIB)),
            (Flavor::GHCR, Auto, None, UploadMethod::Whole),
            (Flavor::GHCR, Chunked, None, UploadMethod::Chunks(4 * MIB)),
            (Flavor::GENERIC, Chunked, Some(3), UploadMethod::Chunks(3)),
        ] {
            assert_eq!(strategy(flavor, mode, chunk).current_method(), method, "{flavor} {mode} {chunk:?}");
        }
    }

    #[test]
    fn refusal_changes_the_mode_once_and_never_back() {
        let plain = auto(Flavor::GENERIC);
        assert!(plain.learn_whole_is_refused(2 * MIB as u64));
        assert_eq!(plain.current_method(), UploadMethod::Chunks(8 * MIB));
        // The refusal of a concurrent upload has the same result.
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
        // Even with a configured mode, the client learns the length of a chunk.
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
