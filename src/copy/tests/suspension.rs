//! Tests of suspended uploads that another copy resumes.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::content::{bytes, image};
use super::memory::{Behaviour, Fault, Op};
use super::*;
use crate::copy::event::{Event, Transfer};
use crate::copy::{BatchContext, Suspension, UploadSessionStore};
use crate::oci::{Digest, Digester};
use crate::store::{ErrorKind, UploadSession};

const CHUNK: usize = 4096;
const SIZE: u64 = 100_000;

#[derive(Debug, Default)]
struct MemoryUploadStore {
    saved: Mutex<HashMap<(String, Digest), UploadSession>>,
    recalled: Mutex<Vec<Digest>>,
}

#[async_trait]
impl UploadSessionStore for MemoryUploadStore {
    async fn recall(&self, target: &str, blob: Digest) -> Option<UploadSession> {
        self.recalled.lock().unwrap().push(blob);
        self.saved.lock().unwrap().get(&(target.to_owned(), blob)).cloned()
    }

    async fn save(&self, target: &str, blob: Digest, session: UploadSession) {
        self.saved.lock().unwrap().insert((target.to_owned(), blob), session);
    }

    async fn forget(&self, target: &str, blob: Digest) {
        self.saved.lock().unwrap().remove(&(target.to_owned(), blob));
    }
}

impl MemoryUploadStore {
    /// Returns the number of stored bytes of each saved upload.
    fn stored(&self) -> Vec<u64> {
        self.saved.lock().unwrap().values().map(|session| session.confirmed.stored).collect()
    }
}

/// Source with a large layer, targets with chunked uploads, and the store of upload progress.
struct Scene {
    source: Arc<Registry>,
    from: Arc<Repository>,
    targets: Vec<Arc<Registry>>,
    to: Vec<Arc<Repository>>,
    layer: Descriptor,
    image: Manifest,
    upload_store: Arc<MemoryUploadStore>,
}

impl Scene {
    fn new(targets: usize) -> Self {
        let source = Registry::new("src");
        let from = source.repository("app");
        let layer = from.put_blob(bytes(1, SIZE as usize));
        let image = image(&from.put_blob("{}"), &[&layer]);
        from.put_manifest(&image, Some("v1"));
        let behaviour = Behaviour { chunk: CHUNK, ..Behaviour::default() };
        let targets: Vec<_> = (0..targets).map(|at| Registry::with(&format!("t{at}"), behaviour)).collect();
        let to = targets.iter().map(|target| target.repository("app")).collect();
        Self { source, from, targets, to, layer, image, upload_store: Arc::default() }
    }

    /// Creates a batch with the first `targets` targets and a new copier, as a new process does.
    fn batch(&self, targets: usize, suspension: &Suspension, contents: Contents) -> Arc<Batch> {
        self.batch_with_events(targets, suspension, contents, mpsc::channel(1).0)
    }

    fn batch_with_events(
        &self,
        targets: usize,
        suspension: &Suspension,
        contents: Contents,
        events: mpsc::Sender<Event>,
    ) -> Arc<Batch> {
        let targets = self.to[..targets].iter().map(|to| (to.clone() as Arc<dyn Target>, contents)).collect();
        let upload_store: Arc<dyn UploadSessionStore> = self.upload_store.clone();
        let batch_context =
            BatchContext { upload_store: Some(upload_store), suspension: suspension.clone(), ..events.into() };
        let source = self.from.clone() as Arc<dyn Source>;
        Batch::new(&Copier::new(64 * MIB), source, targets, Rules::default(), None, batch_context)
    }

    /// Copies to the first target until the copy is suspended within the layer.
    async fn suspend_upload(&self) {
        self.source.always_at(Op::Blob, self.layer.digest, Fault::Slow(Duration::from_secs(1)));
        let suspension = Suspension::default();
        let batch = self.batch(1, &suspension, Contents::Unknown);
        let job = job("v1", &self.image, 1);
        let copying = tokio::spawn(async move { batch.copy(job).await });
        tokio::time::sleep(Duration::from_secs(30)).await;
        suspension.suspend().await;
        let (_, outcome) = within(copying).await.unwrap().remove(0);
        assert!(outcome.unwrap_err().to_string().ends_with("interrupted"));
        self.source.heal();
    }

    fn layer_reads(&self) -> Vec<u64> {
        let digest = self.layer.digest.to_string();
        self.source.calls(Op::Blob).iter().filter(|call| call.subject == digest).map(|call| call.offset).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn suspended_upload_ends_after_chunk_and_next_copy_resumes() {
    for contents in [Contents::Unknown, Contents::Nothing] {
        let scene = Scene::new(1);
        scene.suspend_upload().await;
        let stored = scene.upload_store.stored();
        assert!(stored.len() == 1 && stored[0] > 0 && stored[0].is_multiple_of(CHUNK as u64), "{stored:?}");
        assert_eq!(scene.to[0].tag("v1"), None);

        let batch = scene.batch(1, &Suspension::default(), contents);
        let arrival = arrivals(within(batch.copy(job("v1", &scene.image, 1))).await).remove(0);
        assert_eq!(scene.layer_reads(), [0, stored[0]]);
        assert!(arrival.bytes >= SIZE, "the evidence counts all bytes: {arrival:?}");
        assert!(scene.to[0].holds_blob(&scene.layer));
        assert_eq!(scene.upload_store.stored(), Vec::<u64>::new(), "finished uploads are removed from the store");
    }
}

#[tokio::test(start_paused = true)]
async fn one_target_resumes_while_another_gets_whole_blob() {
    let scene = Scene::new(2);
    scene.suspend_upload().await;
    let stored = scene.upload_store.stored()[0];
    let batch = scene.batch(2, &Suspension::default(), Contents::Unknown);
    arrivals(within(batch.copy(job("v1", &scene.image, 2))).await);
    let mut reads = scene.layer_reads().split_off(1);
    reads.sort_unstable();
    assert_eq!(reads, [0, stored]);
    assert!(scene.to.iter().all(|to| to.holds_blob(&scene.layer) && to.tag("v1").is_some()));
}

#[tokio::test(start_paused = true)]
async fn resumed_upload_with_wrong_digest_restarts() {
    let scene = Scene::new(1);
    scene.suspend_upload().await;
    for session in scene.upload_store.saved.lock().unwrap().values_mut() {
        session.confirmed.hashed = Digester::like(&scene.layer.digest);
    }
    let batch = scene.batch(1, &Suspension::default(), Contents::Unknown);
    arrivals(within(batch.copy(job("v1", &scene.image, 1))).await);
    assert_eq!(scene.layer_reads().len(), 3);
    assert_eq!(scene.layer_reads()[2], 0);
    assert_eq!((scene.targets[0].count(Op::Resume), scene.to[0].holds_blob(&scene.layer)), (1, true));
}

#[tokio::test(start_paused = true)]
async fn blob_within_one_chunk_is_never_resumed() {
    let scene = Scene::new(1);
    let batch = scene.batch(1, &Suspension::default(), Contents::Unknown);
    arrivals(within(batch.copy(job("v1", &scene.image, 1))).await);
    assert_eq!(*scene.upload_store.recalled.lock().unwrap(), [scene.layer.digest]);
    assert_eq!(scene.targets[0].count(Op::Resume), 0);
}

#[tokio::test(start_paused = true)]
async fn refused_resume_restarts_in_same_run() {
    for kind in [ErrorKind::Refused, ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::Unsupported, ErrorKind::Invalid]
    {
        let scene = Scene::new(1);
        scene.suspend_upload().await;
        scene.targets[0].once_at(Op::Send, scene.layer.digest, Fault::Fail(kind));
        let batch = scene.batch(1, &Suspension::default(), Contents::Unknown);
        arrivals(within(batch.copy(job("v1", &scene.image, 1))).await);
        assert_eq!(scene.layer_reads().last(), Some(&0), "{kind:?}");
        assert_eq!((scene.targets[0].count(Op::Resume), scene.to[0].holds_blob(&scene.layer)), (1, true));
    }
}

#[tokio::test(start_paused = true)]
async fn refused_resume_is_forgotten_even_if_restart_fails() {
    let scene = Scene::new(1);
    scene.suspend_upload().await;
    scene.targets[0].always_at(Op::Send, scene.layer.digest, Fault::Fail(ErrorKind::Refused));
    let batch = scene.batch(1, &Suspension::default(), Contents::Unknown);
    let (_, outcome) = within(batch.copy(job("v1", &scene.image, 1))).await.remove(0);
    assert!(outcome.unwrap_err().to_string().ends_with("made to fail"));
    assert_eq!(scene.upload_store.stored(), Vec::<u64>::new());
    let sends = scene.targets[0].count_at(Op::Send, scene.layer.digest);
    assert_eq!(sends, 3, "one by the interrupted process, one for the rest, and one from the start");
}

#[tokio::test(start_paused = true)]
async fn bytes_of_earlier_process_count_as_progress_not_as_sent() {
    let scene = Scene::new(1);
    scene.suspend_upload().await;
    let stored = scene.upload_store.stored()[0];
    let (events, mut received) = mpsc::channel(64);
    let batch = scene.batch_with_events(1, &Suspension::default(), Contents::Unknown, events);
    arrivals(within(batch.copy(job("v1", &scene.image, 1))).await);
    drop(batch);
    let mut transfers: Vec<Arc<Transfer>> = Vec::new();
    while let Some(event) = received.recv().await {
        if let Event::TransferFinished(transfer) = event {
            transfers.push(transfer);
        }
    }
    let transfer = transfers.iter().find(|transfer| transfer.digest == scene.layer.digest).unwrap();
    assert_eq!((transfer.sent(), transfer.position()), (SIZE - stored, SIZE));
}
