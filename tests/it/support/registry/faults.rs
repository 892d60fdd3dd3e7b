//! Faults of the registry, and deviations from the specification. Each is a fact about some real registry.

use std::sync::Mutex;
use std::time::Duration;

use transship::oci::Digest;

/// Fault or deviation of the registry, from the moment it is set.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// GET of this blob returns bytes of the right length and wrong content.
    BlobBytesWrong(Digest),
    /// GET of this blob returns 404 and a manifest that needs it is refused, while HEAD still returns 200: a garbage
    /// collection removed the blob behind a cache.
    BlobCollected(Digest),
    /// GET of a blob breaks the connection after `after` bytes, `times` times.
    BlobGetBreaks { after: usize, times: usize },
    /// GET of a blob ignores `Range` and returns the whole blob.
    BlobRangesIgnored,
    /// GET of a blob redirects to another origin, which returns 400 to a request with `Authorization`.
    BlobRedirect,
    /// HEAD and GET by tag state this `Docker-Content-Digest`.
    TagDigestWrong(Digest),
    /// HEAD and GET of a manifest state no `Docker-Content-Digest`.
    TagDigestMissing,
    /// The body of a tag list ends in the middle.
    TagListCut,
    /// The second page of a tag list returns 500.
    TagPageFails,
    /// Each page of a tag list links to itself.
    TagPagesLoop,
    /// A tag list contains this additional name, valid or not.
    TagListHas(String),
    /// A tag list lacks this name, although the tag exists: distribution 3.1 on S3 omits tags.
    TagListLacks(String),
    /// No list has a `Link`: a proxy drops it.
    LinksDropped,
    /// A request for more names than this returns 400 `PAGINATION_NUMBER_INVALID`.
    PageSizeLimit(usize),
    /// The tag is locked: Azure's own list reports the lock, and a PUT of the tag returns 405.
    TagLocked(String),
    /// GET and HEAD of this manifest return 404, although lists of referrers name it: a replica lags.
    ManifestAbsent(String),
    /// `referrers` returns this status, `times` times; 200 comes with a page of HTML.
    ReferrersAnswered { status: u16, times: usize },
    /// GET of a fallback tag, `sha256-<hex>`, returns this status.
    FallbackTagAnswered(u16),
    /// Tag lists contain digests, as Google's do.
    TagListWithDigests,
    /// The registry has the tag listing of Azure's registries, under `/acr/v1`.
    AcrTagList,
    /// The n-th PUT of a manifest from now on (1 is the next) returns 500, and so do all later ones.
    ManifestPutFails { nth: usize },
    /// PUT of a manifest under this tag or digest returns 500.
    ManifestPutFailsFor(String),
    /// PUT of a manifest takes effect, and its response is held until the fault is cleared.
    ManifestPutAnswerHeld,
    /// PUT of a manifest whose path contains this takes effect, and its response is held until the fault is cleared.
    ManifestPutAnswerHeldFor(&'static str),
    /// Moving an existing tag returns 409.
    ImmutableTags,
    /// The next requests return 429.
    TooManyRequests { next: usize, retry_after: Option<u64> },
    /// The next requests return 503, with a page of HTML.
    Unavailable { next: usize },
    /// The registry breaks the connection after `after` bytes of an upload's body, `times` times.
    UploadBreaks { after: usize, times: usize },
    /// An upload of more bytes than this in one body returns 413.
    UploadBodyLimit(usize),
    /// The registry closes the connection at an upload of more bytes than this in one body, as after an unread 413.
    UploadBodyCut(usize),
    /// An upload body without a `Content-Length` returns 411.
    UploadNeedsLength,
    /// The response that opens an upload states this `OCI-Chunk-Min-Length`.
    ChunkMinimum(usize),
    /// PATCH returns 405.
    NoChunks,
    /// PATCH of more bytes than this returns 416, without a `Range`.
    ChunkLimit(usize),
    /// PATCH stores at most `stores` bytes of its body and returns 500, `times` times.
    ChunkFails { stores: usize, times: usize },
    /// PATCH of a session that has at least `after` bytes is held before its body is read. Clearing the faults breaks
    /// the connection of that PATCH.
    ChunksHeld { after: usize },
    /// The response to a PATCH after which the session has at least `after` bytes is held. The session keeps `keeps`
    /// bytes of the chunk. Clearing the faults breaks the connection.
    ChunkAnswersHeld { after: usize, keeps: usize },
    /// The registry drops a session that has at least `after` bytes, `times` times.
    SessionForgotten { after: usize, times: usize },
    /// The PUT that ends an upload stores the blob, but its connection breaks before the response, `times` times.
    CommitCut { times: usize },
    /// A mount never happens: the registry returns 202 and a session.
    MountRefused,
    /// `Location` and `Link` are relative. (Otherwise `Location` is absolute.)
    RelativeLocation,
    /// `_catalog` returns 404.
    NoCatalog,
    /// DELETE returns 405.
    NoDelete,
    /// A blob in several chunks is stored as its last chunk only, with 201, as Artifactory did.
    KeepsLastChunk,
    /// PATCH returns 201, as Amazon's registries do.
    ChunkCreated,
    /// PUT of a manifest returns no `Location`.
    NoManifestLocation,
    /// A mount succeeds only for blobs that a manifest refers to.
    MountsCommittedOnly,
    /// An upload to a missing repository returns 404 `NAME_UNKNOWN`.
    RepositoriesMustExist,
    /// An upload to a missing repository returns 401, as Harbor does for a missing project.
    ProjectsMustExist,
    /// GET and HEAD in a missing repository return this status, as Quay, Harbor and GitHub do.
    UnknownDenied(u16),
    /// Writing an existing tag returns 400, even with the same digest.
    TagsWrittenOnce,
    /// A name of more than two parts returns 400.
    NamesOfTwoParts,
    /// A manifest with foreign layers returns this status.
    ForeignLayersRefused(u16),
    /// A manifest with a Docker media type returns 415, without a body.
    OciOnly,
    /// PUT of a manifest reports missing blobs, whatever exists, `times` times.
    ReplicaLags { times: usize },
    /// The tag `sha256-<hex>` returns the image of that digest.
    FallbackTagIsTheImage,
    /// A token request for more scopes than this returns 431.
    ScopeLimit(usize),
    /// The body of a 429 is plain text.
    PlainTextRefusals,
    /// GET and HEAD of a manifest return 403, with 9 MB of HTML.
    HugeRefusals,
    /// Requests of this kind, named as in the log, return this status. The error's message repeats all that was sent:
    /// credentials, query and path.
    Echoes(&'static str, u16),
    /// Issued tokens begin with this text.
    TokensBegin(&'static str),
    /// The `Location` of an upload has this signature in its query. A chunk or a commit without the signature is
    /// refused.
    UploadSignature(&'static str),
    /// GET of a blob redirects to this address.
    BlobRedirectTo(String),
    /// Requests of this kind, named as in the log, are held until the faults are cleared.
    Held(&'static str),
    /// Each response is delayed by this time.
    Delay(Duration),
    /// Bandwidth of a body in bytes per second, in either direction.
    Bandwidth(u64),
    /// Requests of this kind, named as in the log, whose path contains `path` return this status: a success has a page
    /// of HTML, any other status has an error in its envelope.
    Answers { kind: &'static str, path: &'static str, status: u16 },
    /// The n-th request from now on (1 is the next) suffers this harm, and no other request does.
    Nth { nth: usize, harm: Harm },
}

/// Harm that one request suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The request returns this status, in the error envelope, and has no effect.
    Status(u16),
    /// The connection breaks, and the request has no effect.
    Reset,
    /// The request takes effect, and the connection breaks before the response.
    Unanswered,
    /// The request takes effect, and the connection breaks in the middle of the response's body.
    CutAnswer,
    /// The request returns 200 with a page of HTML, and has no effect.
    Page,
    /// The request returns 200 with an empty body, and has no effect.
    Nothing,
    /// The request is held until the faults are cleared, and takes effect then.
    Held,
    /// The request takes effect, and its response is held until the faults are cleared.
    HeldAnswer,
}

/// Kind under which a request with [`Harm::Held`] is held.
pub(super) const NTH: &str = "the n-th request";

/// Faults that are set.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

/// Fate of a fault after it was used.
enum Fate {
    Stays,
    Becomes(Fault),
    Goes,
}

impl Faults {
    pub(super) fn set(&self, fault: Fault) {
        self.0.lock().unwrap().push(fault);
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(super) fn has(&self, fault: &Fault) -> bool {
        self.0.lock().unwrap().contains(fault)
    }

    /// Returns the first value that `read` returns for a fault.
    pub(super) fn find<T>(&self, read: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.0.lock().unwrap().iter().find_map(read)
    }

    /// Like `find`, for a fault that applies only a number of times.
    fn use_up<T>(&self, read: impl Fn(&Fault) -> Option<(T, Fate)>) -> Option<T> {
        let mut faults = self.0.lock().unwrap();
        let (at, (found, then)) = faults.iter().enumerate().find_map(|(at, fault)| Some((at, read(fault)?)))?;
        match then {
            Fate::Stays => {}
            Fate::Becomes(fault) => faults[at] = fault,
            Fate::Goes => drop(faults.remove(at)),
        }
        Some(found)
    }

    /// Returns the status and the `Retry-After` with which the next request is refused.
    pub(super) fn rate_limit_refusal(&self) -> Option<(u16, Option<u64>)> {
        self.use_up(|fault| match *fault {
            Fault::TooManyRequests { next, retry_after } => {
                let rest = Fault::TooManyRequests { next: next.saturating_sub(1), retry_after };
                Some(((429, retry_after), used_once(next, rest)))
            }
            Fault::Unavailable { next } => {
                Some(((503, None), used_once(next, Fault::Unavailable { next: next.saturating_sub(1) })))
            }
            _ => None,
        })
    }

    /// Returns the number of bytes after which the GET of a blob of this length breaks. A shorter blob does not use the
    /// fault up.
    pub(super) fn blob_get_breaks(&self, length: usize) -> Option<usize> {
        self.use_up(|fault| match *fault {
            Fault::BlobGetBreaks { after, times } if after < length => {
                let rest = Fault::BlobGetBreaks { after, times: times.saturating_sub(1) };
                Some((after, used_once(times, rest)))
            }
            _ => None,
        })
    }

    /// Returns the number of bytes after which an upload's body of this length breaks. A shorter body does not use the
    /// fault up.
    pub(super) fn upload_breaks(&self, length: usize) -> Option<usize> {
        if self.find(|fault| matches!(fault, Fault::UploadBodyCut(limit) if length > *limit).then_some(())).is_some() {
            return Some(0);
        }
        self.use_up(|fault| match *fault {
            Fault::UploadBreaks { after, times } if after < length => {
                let rest = Fault::UploadBreaks { after, times: times.saturating_sub(1) };
                Some((after, used_once(times, rest)))
            }
            _ => None,
        })
    }

    /// Returns the number of bytes that a failing PATCH stores.
    pub(super) fn chunk_fails(&self) -> Option<usize> {
        self.use_up(|fault| match *fault {
            Fault::ChunkFails { stores, times } => {
                Some((stores, used_once(times, Fault::ChunkFails { stores, times: times.saturating_sub(1) })))
            }
            _ => None,
        })
    }

    /// Returns true if the registry drops a session of this length.
    pub(super) fn session_forgotten(&self, length: usize) -> bool {
        let forgotten = self.use_up(|fault| match *fault {
            Fault::SessionForgotten { after, times } if length >= after => {
                Some(((), used_once(times, Fault::SessionForgotten { after, times: times.saturating_sub(1) })))
            }
            _ => None,
        });
        forgotten.is_some()
    }

    /// Returns true if this commit gets no response.
    pub(super) fn commit_cut(&self) -> bool {
        let cut = self.use_up(|fault| match *fault {
            Fault::CommitCut { times } => {
                Some(((), used_once(times, Fault::CommitCut { times: times.saturating_sub(1) })))
            }
            _ => None,
        });
        cut.is_some()
    }

    /// Returns the status of the next response of the referrers API, if a fault sets one.
    pub(super) fn referrers_answered(&self) -> Option<u16> {
        self.use_up(|fault| match *fault {
            Fault::ReferrersAnswered { status, times } => {
                let rest = Fault::ReferrersAnswered { status, times: times.saturating_sub(1) };
                Some((status, used_once(times, rest)))
            }
            _ => None,
        })
    }

    /// Returns true if this PUT of a manifest reaches a replica that lags.
    pub(super) fn replica_lags(&self) -> bool {
        let lags = self.use_up(|fault| match *fault {
            Fault::ReplicaLags { times } => {
                Some(((), used_once(times, Fault::ReplicaLags { times: times.saturating_sub(1) })))
            }
            _ => None,
        });
        lags.is_some()
    }

    /// Returns the harm that this request suffers, if any.
    pub(super) fn harm(&self) -> Option<Harm> {
        self.use_up(|fault| match *fault {
            Fault::Nth { nth, harm } if nth > 1 => Some((None, Fate::Becomes(Fault::Nth { nth: nth - 1, harm }))),
            Fault::Nth { harm: harm @ (Harm::Held | Harm::HeldAnswer), .. } => {
                Some((Some(harm), Fate::Becomes(Fault::Held(NTH))))
            }
            Fault::Nth { harm, .. } => Some((Some(harm), Fate::Goes)),
            _ => None,
        })?
    }

    /// Returns true if this PUT of a manifest fails.
    pub(super) fn manifest_put_fails(&self, reference: &str) -> bool {
        let for_it =
            self.find(|fault| matches!(fault, Fault::ManifestPutFailsFor(name) if name == reference).then_some(()));
        let counted = self.use_up(|fault| match *fault {
            Fault::ManifestPutFails { nth } if nth > 1 => {
                Some((false, Fate::Becomes(Fault::ManifestPutFails { nth: nth - 1 })))
            }
            Fault::ManifestPutFails { .. } => Some((true, Fate::Stays)),
            _ => None,
        });
        for_it.is_some() || counted == Some(true)
    }

    /// Waits while responses to requests of this kind are held.
    pub(super) async fn hold_answer(&self, kind: &str, path: &str) {
        let is_held = |fault: &Fault| match fault {
            Fault::ManifestPutAnswerHeld => Some(()),
            Fault::ManifestPutAnswerHeldFor(part) => path.contains(part).then_some(()),
            _ => None,
        };
        while kind == "manifest PUT" && self.find(is_held).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits while requests of this kind are held.
    pub(super) async fn hold(&self, kind: &str) {
        while self.find(|fault| matches!(fault, Fault::Held(held) if *held == kind).then_some(())).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits while chunks for a session of this length are held. Returns true if it had to wait.
    pub(super) async fn hold_chunk(&self, length: usize) -> bool {
        let held = |fault: &Fault| matches!(fault, Fault::ChunksHeld { after } if length >= *after).then_some(());
        let has_to_wait = self.find(held).is_some();
        while self.find(held).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        has_to_wait
    }

    /// Returns the number of bytes of the chunk that a session of this length keeps, if the response is held.
    pub(super) fn chunk_answer_held(&self, length: usize) -> Option<usize> {
        self.find(|fault| match *fault {
            Fault::ChunkAnswersHeld { after, keeps } if length >= after => Some(keeps),
            _ => None,
        })
    }

    /// Waits until the faults are cleared.
    pub(super) async fn hold_chunk_answer(&self) {
        while self.find(|fault| matches!(fault, Fault::ChunkAnswersHeld { .. }).then_some(())).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        self.find(|fault| if let Fault::Delay(delay) = fault { Some(*delay) } else { None })
    }

    pub(super) fn bandwidth(&self) -> Option<u64> {
        self.find(|fault| if let Fault::Bandwidth(rate) = fault { Some(*rate) } else { None })
    }
}

fn used_once(count: usize, rest: Fault) -> Fate {
    if count > 1 { Fate::Becomes(rest) } else { Fate::Goes }
}
