//! How a registry takes the bytes of an upload: as configured, else as its kind is known for, and then as it has shown.
//! Nothing is sent from here.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::Kind;
use super::options::{UploadMode, Uploads};
use crate::oci::Digest;

/// The length of a chunk where nobody says otherwise.
pub(crate) const DEFAULT_CHUNK: usize = 8 * 1024 * 1024;

/// The largest chunk: each upload in flight holds one in memory.
pub(crate) const MAX_CHUNK: usize = 64 * 1024 * 1024;

/// What is tried instead of a chunk that was too large: what GHCR takes at most, and what nginx lets through unless it is
/// told otherwise. A body no longer than the last is not refused for its length alone.
const SMALLER: [usize; 2] = [4 * 1024 * 1024, 1024 * 1024];

/// How many blobs that broke off are remembered.
const MOST_BROKEN: usize = 64;

/// How the bytes of a session go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One PUT with all bytes.
    Whole,
    /// PATCHes of this many bytes, then an empty PUT.
    Chunks(usize),
}

/// The way of one registry, which all of its uploads share: what one of them learns, none finds out again.
#[derive(Debug)]
pub(crate) struct Manner {
    /// What the operator has chosen stays: whether there are chunks.
    learns: bool,
    /// Whether the kind of registry is known to store what it says that it stored.
    is_known: bool,
    known: Mutex<Known>,
    /// Logs once that uploads at this registry do not outlive the process.
    unkept: Once,
}

#[derive(Debug)]
struct Known {
    in_chunks: bool,
    /// Whether that is only because blobs broke off in one piece.
    is_a_guess: bool,
    /// Blobs that broke off in one piece, the latest last.
    broke_off: VecDeque<Digest>,
    /// Blobs whose chunks were taken and not put together, the latest last, and whether they were sent in one piece
    /// since.
    not_joined: VecDeque<(Digest, bool)>,
    chunk: usize,
    /// The least that the registry takes, the last chunk apart.
    least: usize,
    whole_was_refused: bool,
    chunks_were_refused: bool,
    /// Whether it had a blob in another length than it should have.
    lied: bool,
    /// Whether a blob that went in several chunks was found whole.
    chunks_arrived: bool,
}

impl Manner {
    pub(crate) fn new(kind: Kind, uploads: Uploads) -> Self {
        let configured = uploads.chunk.map(|chunk| usize::try_from(chunk).unwrap_or(MAX_CHUNK).clamp(1, MAX_CHUNK));
        let known = Known {
            in_chunks: match uploads.mode {
                UploadMode::Auto => kind.wants_chunks(),
                UploadMode::Monolithic => false,
                UploadMode::Chunked => true,
            },
            chunk: configured.unwrap_or_else(|| kind.chunk()),
            least: kind.least_chunk(),
            is_a_guess: false,
            broke_off: VecDeque::new(),
            not_joined: VecDeque::new(),
            whole_was_refused: false,
            chunks_were_refused: false,
            lied: false,
            chunks_arrived: false,
        };
        Self {
            learns: uploads.mode == UploadMode::Auto,
            is_known: kind != Kind::Plain,
            known: Mutex::new(known),
            unkept: Once::new(),
        }
    }

    /// The way that the next upload goes.
    pub(crate) fn way(&self) -> Way {
        let known = self.known();
        if known.in_chunks { Way::Chunks(known.chunk.max(known.least)) } else { Way::Whole }
    }

    /// How many bytes each upload holds in memory.
    pub(crate) fn holds(&self) -> u64 {
        match self.way() {
            Way::Chunks(chunk) => chunk as u64,
            Way::Whole => 0,
        }
    }

    /// Takes in the least length of a chunk that the registry has stated.
    ///
    /// # Errors
    /// That length, when it is more than is held in memory.
    pub(crate) fn learn_least(&self, least: usize) -> Result<(), usize> {
        let mut known = self.known();
        if least > MAX_CHUNK {
            return if known.in_chunks { Err(least) } else { Ok(()) };
        }
        known.least = known.least.max(least);
        Ok(())
    }

    /// Takes in that a body of this length was refused for its length. Whether chunks are to be tried.
    pub(crate) fn learn_whole_is_refused(&self, length: u64) -> bool {
        let mut known = self.known();
        if !self.learns || known.chunks_were_refused || length <= SMALLER[1] as u64 {
            return false;
        }
        (known.in_chunks, known.whole_was_refused) = (true, true);
        true
    }

    /// Takes in that a blob broke off in the midst of one piece. The second time blobs go in chunks: it may be that the
    /// answer that it is too large got lost, since the connection was closed behind it, and what breaks off goes on there.
    pub(crate) fn learn_whole_broke_off(&self, blob: Digest, length: u64) {
        let mut known = self.known();
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

    /// Takes in that a chunk, the first or a later one, was refused as a chunk. Whether one piece is to be tried: where chunks
    /// are known to be taken, a later one says nothing of that.
    pub(crate) fn learn_chunks_are_refused(&self, first: bool) -> bool {
        let mut known = self.known();
        if !self.learns || known.whole_was_refused || !(first || known.is_a_guess) {
            return false;
        }
        (known.in_chunks, known.chunks_were_refused) = (false, true);
        true
    }

    /// Takes in that the registry took all chunks of a blob, and did not put them together. Whether the blob is to be
    /// sent in one piece: once, whatever the operator has chosen, for chunks have brought nothing; never where one
    /// piece was refused.
    pub(crate) fn learn_chunks_failed(&self, blob: Digest) -> bool {
        let mut known = self.known();
        if known.whole_was_refused || known.not_joined.iter().any(|(other, _)| *other == blob) {
            return false;
        }
        known.not_joined.push_back((blob, false));
        if known.not_joined.len() > MOST_BROKEN {
            known.not_joined.pop_front();
        }
        true
    }

    /// True if a blob goes in one piece now since its chunks were not put together. The answer is yes once.
    pub(crate) fn takes_one_piece_now(&self, blob: &Digest) -> bool {
        let mut known = self.known();
        let waiting = known.not_joined.iter_mut().find(|(other, was_sent)| other == blob && !was_sent);
        waiting.map(|(_, was_sent)| *was_sent = true).is_some()
    }

    /// Takes in that such a blob arrived in one piece: chunks were what was wrong.
    pub(crate) fn learn_one_piece_arrived(&self, blob: &Digest) {
        let mut known = self.known();
        known.not_joined.retain(|(other, _)| other != blob);
        if self.learns && !known.whole_was_refused {
            (known.in_chunks, known.chunks_were_refused) = (false, true);
        }
    }

    /// Whether a blob that is said to be stored, and went in so many chunks, is to be looked for. Some have stored the last
    /// chunk alone (Artifactory); a body in one piece is hashed as it is, unless there was a lie already. A registry of a known
    /// kind proves it once.
    pub(crate) fn is_to_be_proven(&self, chunks: u32) -> bool {
        let known = self.known();
        known.lied || (chunks > 1 && !(self.is_known && known.chunks_arrived))
    }

    /// Takes in that a blob which went in several chunks was found whole.
    pub(crate) fn learn_chunks_arrive(&self) {
        self.known().chunks_arrived = true;
    }

    /// Takes in that the registry has a blob in another length than it should have.
    pub(crate) fn learn_it_lies(&self) {
        self.known().lied = true;
    }

    /// Takes in that chunks were not put together. Whether one piece is to be tried.
    pub(crate) fn learn_chunks_are_lost(&self) -> bool {
        let mut known = self.known();
        known.lied = true;
        if !self.learns || known.whole_was_refused {
            return false;
        }
        (known.in_chunks, known.chunks_were_refused) = (false, true);
        true
    }

    /// Takes in that a chunk of this length was too large. Whether a smaller one is to be tried.
    pub(crate) fn learn_chunk_is_too_large(&self, length: usize) -> bool {
        let mut known = self.known();
        let smaller = SMALLER.into_iter().find(|smaller| *smaller < length && *smaller >= known.least);
        match smaller {
            Some(smaller) => {
                known.chunk = known.chunk.min(smaller);
                true
            }
            None => false,
        }
    }

    /// Logs, once for a registry, that an upload in chunks cannot be resumed by a later process.
    pub(crate) fn say_once_that_sessions_are_not_kept(&self, place: &str) {
        self.unkept.call_once(|| {
            tracing::info!(
                place,
                "uploads in chunks restart after an interruption here: the address of a session is elsewhere, or holds what may be a key"
            );
        });
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn manner(kind: Kind, mode: UploadMode, chunk: Option<usize>) -> Manner {
        Manner::new(kind, Uploads { mode, chunk: chunk.map(|chunk| chunk as u64) })
    }

    fn auto(kind: Kind) -> Manner {
        manner(kind, UploadMode::Auto, None)
    }

    #[test]
    fn auto_goes_by_the_kind_and_a_chosen_mode_by_nothing_else() {
        use UploadMode::{Auto, Chunked, Monolithic};
        for (kind, mode, chunk, way) in [
            (Kind::Acr, Auto, None, Way::Chunks(4 * MIB)),
            (Kind::Acr, Auto, Some(16 * MIB), Way::Chunks(16 * MIB)),
            (Kind::Acr, Monolithic, None, Way::Whole),
            (Kind::Ecr, Auto, None, Way::Chunks(8 * MIB)),
            // Parts of less than 5 MiB are refused there, whatever is written.
            (Kind::Ecr, Chunked, Some(MIB), Way::Chunks(5 * MIB)),
            (Kind::Google, Auto, Some(MIB), Way::Whole),
            (Kind::Plain, Auto, None, Way::Whole),
            (Kind::Plain, Chunked, None, Way::Chunks(8 * MIB)),
            (Kind::Ghcr, Auto, None, Way::Whole),
            (Kind::Ghcr, Chunked, None, Way::Chunks(4 * MIB)),
            (Kind::Plain, Chunked, Some(3), Way::Chunks(3)),
        ] {
            assert_eq!(manner(kind, mode, chunk).way(), way, "{kind} {mode} {chunk:?}");
        }
    }

    #[test]
    fn a_refusal_changes_the_way_once_and_never_back() {
        let plain = auto(Kind::Plain);
        assert!(plain.learn_whole_is_refused(2 * MIB as u64));
        assert_eq!(plain.way(), Way::Chunks(8 * MIB));
        // Another upload of the same moment is told the same.
        assert!(plain.learn_whole_is_refused(2 * MIB as u64));
        assert!(!plain.learn_chunks_are_refused(true));
        assert_eq!(plain.way(), Way::Chunks(8 * MIB));

        let acr = auto(Kind::Acr);
        assert!(acr.learn_chunks_are_refused(true));
        assert_eq!(acr.way(), Way::Whole);
        assert!(!acr.learn_whole_is_refused(2 * MIB as u64));
        assert_eq!(acr.way(), Way::Whole);
    }

    #[test]
    fn a_blob_that_breaks_off_twice_makes_chunks_and_a_refused_chunk_one_piece_for_good() {
        let plain = auto(Kind::Plain);
        let [one, two] = [Digest::of(b"one"), Digest::of(b"two")];
        let length = 2 * MIB as u64;
        plain.learn_whole_broke_off(one, length);
        plain.learn_whole_broke_off(two, length);
        assert_eq!(plain.way(), Way::Whole, "each once");
        plain.learn_whole_broke_off(one, length);
        assert_eq!(plain.way(), Way::Chunks(8 * MIB));
        assert!(plain.learn_chunks_are_refused(false));
        plain.learn_whole_broke_off(one, length);
        plain.learn_whole_broke_off(one, length);
        assert_eq!(plain.way(), Way::Whole);
        assert!(!auto(Kind::Acr).learn_chunks_are_refused(false));
    }

    #[test]
    fn a_body_too_small_to_be_cut_up_is_refused_for_good() {
        assert!(!auto(Kind::Plain).learn_whole_is_refused(MIB as u64));
    }

    #[test]
    fn chunks_become_smaller_down_to_what_the_registry_takes() {
        let plain = manner(Kind::Plain, UploadMode::Auto, Some(16 * MIB));
        plain.learn_whole_is_refused(100 * MIB as u64);
        for smaller in [4 * MIB, MIB] {
            let Way::Chunks(length) = plain.way() else { panic!() };
            assert!(plain.learn_chunk_is_too_large(length));
            assert_eq!(plain.way(), Way::Chunks(smaller));
        }
        assert!(!plain.learn_chunk_is_too_large(MIB));

        let ecr = auto(Kind::Ecr);
        assert!(!ecr.learn_chunk_is_too_large(8 * MIB));
        assert_eq!(ecr.way(), Way::Chunks(8 * MIB));
    }

    #[test]
    fn what_is_configured_learns_nothing() {
        let whole = manner(Kind::Plain, UploadMode::Monolithic, None);
        assert!(!whole.learn_whole_is_refused(100 * MIB as u64));
        let chunked = manner(Kind::Plain, UploadMode::Chunked, None);
        assert!(!chunked.learn_chunks_are_refused(true));
        assert_eq!((whole.way(), chunked.way()), (Way::Whole, Way::Chunks(8 * MIB)));
        // How long a chunk may be is the registry's affair all the same.
        assert!(chunked.learn_chunk_is_too_large(8 * MIB));
        assert_eq!(chunked.way(), Way::Chunks(4 * MIB));
    }

    #[test]
    fn a_least_length_that_no_memory_has_is_an_error_where_it_counts() {
        assert_eq!(auto(Kind::Plain).learn_least(MAX_CHUNK + 1), Ok(()));
        assert_eq!(auto(Kind::Acr).learn_least(MAX_CHUNK + 1), Err(MAX_CHUNK + 1));
        let acr = auto(Kind::Acr);
        acr.learn_least(16 * MIB).unwrap();
        acr.learn_least(MIB).unwrap();
        assert_eq!(acr.way(), Way::Chunks(16 * MIB));
        assert_eq!((acr.holds(), auto(Kind::Plain).holds()), (16 * MIB as u64, 0));
    }
}
