//! What the registry can be told to do wrong, or merely differently. Each is a fact about some real registry.

use std::sync::Mutex;
use std::time::Duration;

use transship::oci::Digest;

/// Something that the registry does from now on.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// GET of this blob answers bytes of the right length and wrong content.
    BlobBytesWrong(Digest),
    /// GET of this blob answers 404, and a manifest that needs it is refused, while HEAD still says 200: it was
    /// collected as garbage behind a cache.
    BlobCollected(Digest),
    /// GET of a blob breaks the connection after so many bytes, so many times.
    BlobGetBreaks { after: usize, times: usize },
    /// GET of a blob gives all of it, whatever range is asked for.
    BlobRangesIgnored,
    /// GET of a blob is redirected to another origin, which answers 400 to a request with `Authorization`.
    BlobRedirect,
    /// HEAD and GET by tag state this `Docker-Content-Digest`.
    TagDigestWrong(Digest),
    /// HEAD and GET of a manifest state no `Docker-Content-Digest`.
    TagDigestMissing,
    /// The body of a tag list ends in the middle.
    TagListCut,
    /// The second page of a tag list answers 500.
    TagPageFails,
    /// Each page of a tag list links to itself.
    TagPagesLoop,
    /// A tag list holds this name too, whatever the grammar says.
    TagListHas(String),
    /// A tag list lacks this name, though the tag is there: distribution 3.1 on S3 leaves tags out.
    TagListLacks(String),
    /// No list has a `Link`: a proxy drops it.
    LinksDropped,
    /// A list that is asked for more names than this is answered 400 `PAGINATION_NUMBER_INVALID`.
    PageSizeLimit(usize),
    /// The tag is locked: Azure's own list says so, and a PUT of it is answered 405.
    TagLocked(String),
    /// `referrers` is answered with this status, so many times; 200 is a page of HTML.
    ReferrersAnswered { status: u16, times: usize },
    /// GET of a fallback tag, `sha256-<hex>`, is answered with this status.
    FallbackTagAnswered(u16),
    /// Tag lists tell digests, as Google's do.
    TagListWithDigests,
    /// There is a tag listing as Azure's registries have it, under `/acr/v1`.
    AcrTagList,
    /// The n-th PUT of a manifest from now on (1 is the next) answers 500, and so do all after it.
    ManifestPutFails { nth: usize },
    /// PUT of a manifest under this tag or digest answers 500.
    ManifestPutFailsFor(String),
    /// PUT of a manifest is carried out, and its answer waits until the fault is gone.
    ManifestPutAnswerHeld,
    /// The same, of manifests alone whose path has this in it.
    ManifestPutAnswerHeldFor(&'static str),
    /// A tag that exists cannot be made to point elsewhere: 409.
    ImmutableTags,
    /// The next requests are answered 429.
    TooManyRequests { next: usize, retry_after: Option<u64> },
    /// The next requests are answered 503, with a page of HTML.
    Unavailable { next: usize },
    /// A body of an upload breaks off after so many bytes, so many times.
    UploadBreaks { after: usize, times: usize },
    /// An upload of more bytes than this in one body is answered 413.
    UploadBodyLimit(usize),
    /// The connection is closed at an upload of more bytes than this in one body: as if it had been answered 413, unread.
    UploadBodyCut(usize),
    /// An upload body without a `Content-Length` is answered 411.
    UploadNeedsLength,
    /// Opening an upload states this `OCI-Chunk-Min-Length`.
    ChunkMinimum(usize),
    /// PATCH is answered 405.
    NoChunks,
    /// PATCH of more bytes than this is answered 416, without a `Range`.
    ChunkLimit(usize),
    /// PATCH stores so many bytes of its body, if it has as many, and is answered 500, so many times.
    ChunkFails { stores: usize, times: usize },
    /// PATCH waits, before its body is read, where the session has at least so many bytes; when faults are switched off, its
    /// connection breaks.
    ChunksHeld { after: usize },
    /// PATCH is not answered where the session has at least so many bytes then; it keeps so many of the chunk's. When
    /// faults are switched off, its connection breaks.
    ChunkAnswersHeld { after: usize, keeps: usize },
    /// A session that has at least so many bytes is forgotten, so many times.
    SessionForgotten { after: usize, times: usize },
    /// The PUT that ends an upload stores the blob, and the connection breaks before it is answered, so many times.
    CommitCut { times: usize },
    /// No mount happens: 202 and a session.
    MountRefused,
    /// `Location` and `Link` are relative. (Otherwise `Location` is absolute.)
    RelativeLocation,
    /// `_catalog` is answered 404.
    NoCatalog,
    /// DELETE is answered 405.
    NoDelete,
    /// A blob that came in several chunks is stored as the last of them alone, and answered 201: Artifactory did so.
    KeepsLastChunk,
    /// PATCH is answered 201, as Amazon's registries do.
    ChunkCreated,
    /// PUT of a manifest is answered without a `Location`.
    NoManifestLocation,
    /// Only blobs that a manifest refers to are mounted.
    MountsCommittedOnly,
    /// An upload to a repository that is not there is answered 404 `NAME_UNKNOWN`.
    RepositoriesMustExist,
    /// An upload to a repository that is not there is answered 401, as Harbor does where there is no such project.
    ProjectsMustExist,
    /// GET and HEAD of what is in a repository that is not there are answered with this status, as Quay, Harbor and GitHub do.
    UnknownDenied(u16),
    /// A tag that exists cannot be written, with the same digest neither: 400.
    TagsWrittenOnce,
    /// A name of more than two parts is answered 400.
    NamesOfTwoParts,
    /// A manifest with foreign layers is answered with this status.
    ForeignLayersRefused(u16),
    /// A manifest of Docker's is answered 415, without a body.
    OciOnly,
    /// A manifest is said to lack blobs, whatever is there, so many times.
    ReplicaLags { times: usize },
    /// The tag `sha256-<hex>` answers with the image of that digest.
    FallbackTagIsTheImage,
    /// A token for more scopes than this is answered 431.
    ScopeLimit(usize),
    /// 429 comes as plain text.
    PlainTextRefusals,
    /// GET and HEAD of a manifest are answered 403, with 9 MB of HTML.
    HugeRefusals,
    /// Requests of this kind, named as in the log, are answered with this status, and with all that was sent: credentials,
    /// query and path, in the error's message.
    Echoes(&'static str, u16),
    /// Tokens that are given out begin with this.
    TokensBegin(&'static str),
    /// The `Location` of an upload has this signature in its query, without which a chunk or a commit is refused.
    UploadSignature(&'static str),
    /// GET of a blob is redirected to this address.
    BlobRedirectTo(String),
    /// Requests of this kind, named as in the log, wait until faults are switched off.
    Held(&'static str),
    /// Each answer waits this long.
    Delay(Duration),
    /// A body moves at most so many bytes a second, in either direction.
    Bandwidth(u64),
    /// Requests of this kind, named as in the log, whose path has this in it are answered with this status: a success with a page for
    /// people, anything else with an error in its envelope.
    Answers { kind: &'static str, path: &'static str, status: u16 },
    /// The n-th request from now on (1 is the next) comes to harm, and no other.
    Nth { nth: usize, harm: Harm },
}

/// The harm that comes to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It is answered with this status, in the error envelope, and nothing is done.
    Status(u16),
    /// Its connection breaks, and nothing is done.
    Reset,
    /// It is done, and its connection breaks before it is answered.
    Unanswered,
    /// It is done, and the connection breaks in the middle of its answer's body.
    CutAnswer,
    /// It is answered 200 with a page for people, and nothing is done.
    Page,
    /// It is answered 200 with an empty body, and nothing is done.
    Nothing,
    /// It waits until faults are switched off, and is done then.
    Held,
    /// It is done, and its answer waits until faults are switched off.
    HeldAnswer,
}

/// The kind of request under which the one that [`Harm::Held`] came to is held.
pub(super) const NTH: &str = "the n-th request";

/// The faults that are on.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

/// What becomes of a fault that was asked for.
enum Then {
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

    /// The first fault of which `read` makes something.
    pub(super) fn find<T>(&self, read: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.0.lock().unwrap().iter().find_map(read)
    }

    /// The same for a fault that wears off.
    fn use_up<T>(&self, read: impl Fn(&Fault) -> Option<(T, Then)>) -> Option<T> {
        let mut faults = self.0.lock().unwrap();
        let (at, (found, then)) = faults.iter().enumerate().find_map(|(at, fault)| Some((at, read(fault)?)))?;
        match then {
            Then::Stays => {}
            Then::Becomes(fault) => faults[at] = fault,
            Then::Goes => drop(faults.remove(at)),
        }
        Some(found)
    }

    /// The status and the `Retry-After` that the next request gets instead of its answer.
    pub(super) fn turned_away(&self) -> Option<(u16, Option<u64>)> {
        self.use_up(|fault| match *fault {
            Fault::TooManyRequests { next, retry_after } => {
                let rest = Fault::TooManyRequests { next: next.saturating_sub(1), retry_after };
                Some(((429, retry_after), one_less(next, rest)))
            }
            Fault::Unavailable { next } => {
                Some(((503, None), one_less(next, Fault::Unavailable { next: next.saturating_sub(1) })))
            }
            _ => None,
        })
    }

    /// After how many bytes the GET of a blob of this length breaks. A shorter one does not use the fault up.
    pub(super) fn blob_get_breaks(&self, length: usize) -> Option<usize> {
        self.use_up(|fault| match *fault {
            Fault::BlobGetBreaks { after, times } if after < length => {
                let rest = Fault::BlobGetBreaks { after, times: times.saturating_sub(1) };
                Some((after, one_less(times, rest)))
            }
            _ => None,
        })
    }

    /// After how many bytes an upload's body of this length breaks. A shorter one does not use the fault up.
    pub(super) fn upload_breaks(&self, length: usize) -> Option<usize> {
        if self.find(|fault| matches!(fault, Fault::UploadBodyCut(limit) if length > *limit).then_some(())).is_some() {
            return Some(0);
        }
        self.use_up(|fault| match *fault {
            Fault::UploadBreaks { after, times } if after < length => {
                let rest = Fault::UploadBreaks { after, times: times.saturating_sub(1) };
                Some((after, one_less(times, rest)))
            }
            _ => None,
        })
    }

    /// How many bytes a PATCH stores that fails.
    pub(super) fn chunk_fails(&self) -> Option<usize> {
        self.use_up(|fault| match *fault {
            Fault::ChunkFails { stores, times } => {
                Some((stores, one_less(times, Fault::ChunkFails { stores, times: times.saturating_sub(1) })))
            }
            _ => None,
        })
    }

    /// Whether a session of so many bytes is forgotten.
    pub(super) fn session_forgotten(&self, length: usize) -> bool {
        let forgotten = self.use_up(|fault| match *fault {
            Fault::SessionForgotten { after, times } if length >= after => {
                Some(((), one_less(times, Fault::SessionForgotten { after, times: times.saturating_sub(1) })))
            }
            _ => None,
        });
        forgotten.is_some()
    }

    /// Whether the answer to this commit is cut off.
    pub(super) fn commit_cut(&self) -> bool {
        let cut = self.use_up(|fault| match *fault {
            Fault::CommitCut { times } => {
                Some(((), one_less(times, Fault::CommitCut { times: times.saturating_sub(1) })))
            }
            _ => None,
        });
        cut.is_some()
    }

    /// The status of the next answer of the referrers API, where it is an odd one.
    pub(super) fn referrers_answered(&self) -> Option<u16> {
        self.use_up(|fault| match *fault {
            Fault::ReferrersAnswered { status, times } => {
                let rest = Fault::ReferrersAnswered { status, times: times.saturating_sub(1) };
                Some((status, one_less(times, rest)))
            }
            _ => None,
        })
    }

    /// Whether this PUT of a manifest meets a replica that lags.
    pub(super) fn replica_lags(&self) -> bool {
        let lags = self.use_up(|fault| match *fault {
            Fault::ReplicaLags { times } => {
                Some(((), one_less(times, Fault::ReplicaLags { times: times.saturating_sub(1) })))
            }
            _ => None,
        });
        lags.is_some()
    }

    /// The harm that comes to this request, if any does.
    pub(super) fn harm(&self) -> Option<Harm> {
        self.use_up(|fault| match *fault {
            Fault::Nth { nth, harm } if nth > 1 => Some((None, Then::Becomes(Fault::Nth { nth: nth - 1, harm }))),
            Fault::Nth { harm: harm @ (Harm::Held | Harm::HeldAnswer), .. } => {
                Some((Some(harm), Then::Becomes(Fault::Held(NTH))))
            }
            Fault::Nth { harm, .. } => Some((Some(harm), Then::Goes)),
            _ => None,
        })?
    }

    /// Whether this PUT of a manifest fails.
    pub(super) fn manifest_put_fails(&self, reference: &str) -> bool {
        let for_it =
            self.find(|fault| matches!(fault, Fault::ManifestPutFailsFor(name) if name == reference).then_some(()));
        let counted = self.use_up(|fault| match *fault {
            Fault::ManifestPutFails { nth } if nth > 1 => {
                Some((false, Then::Becomes(Fault::ManifestPutFails { nth: nth - 1 })))
            }
            Fault::ManifestPutFails { .. } => Some((true, Then::Stays)),
            _ => None,
        });
        for_it.is_some() || counted == Some(true)
    }

    /// Waits while answers to requests of this kind are held.
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

    /// Waits while chunks are held that come to a session of so many bytes. Whether it had to.
    pub(super) async fn hold_chunk(&self, length: usize) -> bool {
        let held = |fault: &Fault| matches!(fault, Fault::ChunksHeld { after } if length >= *after).then_some(());
        let has_to_wait = self.find(held).is_some();
        while self.find(held).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        has_to_wait
    }

    /// Number of bytes of a chunk that a session of this length keeps whose answer is held.
    pub(super) fn chunk_answer_held(&self, length: usize) -> Option<usize> {
        self.find(|fault| match *fault {
            Fault::ChunkAnswersHeld { after, keeps } if length >= after => Some(keeps),
            _ => None,
        })
    }

    /// Waits until faults are switched off.
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

fn one_less(count: usize, rest: Fault) -> Then {
    if count > 1 { Then::Becomes(rest) } else { Then::Goes }
}
