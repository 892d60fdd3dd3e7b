//! Lower bound (floor) of the measurements: a client that knows all digests, verifies nothing, and sends only
//! unavoidable requests. The floor runs as a separate process, like the measured tools.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::corpus::{Corpus, Manifest, Repository};

/// First argument of a process that runs as the floor.
pub(crate) const ARGUMENT: &str = "--floor-of";

/// Input of the floor process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    /// Address of the source, `HOST:PORT`.
    pub(crate) source: String,
    pub(crate) targets: Vec<String>,
    /// Maximum number of concurrent requests to each registry.
    pub(crate) parallel: usize,
    pub(crate) corpus: Corpus,
}

/// Reads the input from a file and copies the corpus.
pub(crate) fn perform(file: &Path) -> anyhow::Result<()> {
    let work: Work = serde_json::from_slice(&std::fs::read(file)?)?;
    // A single thread is fast enough, and uses less CPU time than several threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Floor::new(work).run())
}

struct Floor {
    client: Client<HttpConnector, Body>,
    source: Host,
    targets: Vec<Host>,
    corpus: Corpus,
    /// For each blob, one channel for each target. The value becomes true when the target has received the blob.
    arrived: HashMap<String, Vec<watch::Sender<bool>>>,
}

struct Host {
    name: String,
    permits: Semaphore,
}

impl Floor {
    fn new(work: Work) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let host = |name: &String| Host { name: name.clone(), permits: Semaphore::new(work.parallel) };
        let targets: Vec<Host> = work.targets.iter().map(host).collect();
        let arrived = |digest: &String| (digest.clone(), targets.iter().map(|_| watch::Sender::new(false)).collect());
        let arrived = work.corpus.blobs.keys().map(arrived).collect();
        Arc::new(Self { client, source: host(&work.source), targets, corpus: work.corpus, arrived })
    }

    async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let mut jobs = JoinSet::new();
        let mut homes: HashMap<String, String> = HashMap::new();
        for repository in &self.corpus.repositories {
            for digest in &repository.blobs {
                homes.entry(digest.clone()).or_insert_with(|| repository.name.clone());
            }
        }
        // The floor copies large blobs first. At the end of the run, only small transfers remain.
        let mut blobs: Vec<(String, String)> = homes.clone().into_iter().collect();
        blobs.sort_by_key(|(digest, _)| std::cmp::Reverse(self.corpus.blobs[digest].size));
        for (digest, home) in blobs {
            let floor = self.clone();
            jobs.spawn(async move { floor.copy_blob(&home, &digest).await.with_context(|| format!("blob {digest}")) });
        }
        let homes = Arc::new(homes);
        for at in 0..self.corpus.repositories.len() {
            let (floor, homes) = (self.clone(), homes.clone());
            jobs.spawn(async move {
                let repository = &floor.corpus.repositories[at];
                floor.repository(repository, &homes).await.with_context(|| repository.name.clone())
            });
        }
        while let Some(ended) = jobs.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Reads a blob once, and writes the blob to all targets.
    async fn copy_blob(&self, home: &str, digest: &str) -> anyhow::Result<()> {
        let opened = try_join_all(self.targets.iter().map(|target| self.open(target, home, digest)));
        let size = self.corpus.blobs[digest].size;
        let read = async {
            let permit = self.source.permits.acquire().await?;
            let request =
                self.request(&self.source, Method::GET, &format!("{home}/blobs/{digest}")).body(Body::empty())?;
            Ok::<_, anyhow::Error>((expect(self.client.request(request).await?, StatusCode::OK)?, permit))
        };
        let (locations, (answer, permit)) = futures_util::future::try_join(opened, read).await?;
        let bodies = split(answer, self.targets.len());
        let sends = self.targets.iter().zip(locations).zip(bodies).map(|((target, location), body)| async move {
            let _permit = target.permits.acquire().await?;
            let put = Request::put(location).header(CONTENT_LENGTH, size).body(body)?;
            finish(self.client.request(put).await?, StatusCode::CREATED).await
        });
        try_join_all(sends).await?;
        drop(permit);
        for sender in &self.arrived[digest] {
            sender.send_replace(true);
        }
        Ok(())
    }

    /// Opens an upload, and returns the URL for the PUT request.
    async fn open(&self, target: &Host, repository: &str, digest: &str) -> anyhow::Result<String> {
        let _permit = target.permits.acquire().await?;
        let post = self.request(target, Method::POST, &format!("{repository}/blobs/uploads/"));
        let answer = self.client.request(post.header(CONTENT_LENGTH, 0).body(Body::empty())?).await?;
        let location = answer.headers().get(LOCATION).context("an upload without a Location")?.to_str()?.to_owned();
        finish(answer, StatusCode::ACCEPTED).await?;
        let base = if location.starts_with('/') { format!("http://{}", target.name) } else { String::new() };
        let join = if location.contains('?') { '&' } else { '?' };
        Ok(format!("{base}{location}{join}digest={digest}"))
    }

    /// Mounts the blobs that other repositories already have, and writes the manifests of the repository.
    async fn repository(&self, repository: &Repository, homes: &HashMap<String, String>) -> anyhow::Result<()> {
        let manifests = try_join_all(repository.manifests.iter().map(|manifest| self.manifest(repository, manifest)));
        let manifests: HashMap<&str, Bytes> =
            repository.manifests.iter().map(|manifest| manifest.digest.as_str()).zip(manifests.await?).collect();
        let writes = (0..self.targets.len()).map(|at| self.write(at, repository, homes, &manifests));
        try_join_all(writes).await.map(|_| ())
    }

    async fn manifest(&self, repository: &Repository, manifest: &Manifest) -> anyhow::Result<Bytes> {
        let _permit = self.source.permits.acquire().await?;
        let path = format!("{}/manifests/{}", repository.name, manifest.digest);
        let get = self.request(&self.source, Method::GET, &path).header(ACCEPT, &manifest.media_type);
        let answer = expect(self.client.request(get.body(Body::empty())?).await?, StatusCode::OK)?;
        Ok(axum::body::to_bytes(Body::new(answer.into_body()), 1 << 24).await?)
    }

    async fn write(
        &self,
        at: usize,
        repository: &Repository,
        homes: &HashMap<String, String>,
        manifests: &HashMap<&str, Bytes>,
    ) -> anyhow::Result<()> {
        let blobs: HashMap<&str, watch::Sender<bool>> =
            repository.blobs.iter().map(|digest| (digest.as_str(), watch::Sender::new(false))).collect();
        let written: HashMap<&str, watch::Sender<bool>> =
            repository.manifests.iter().map(|manifest| (manifest.digest.as_str(), watch::Sender::new(false))).collect();
        let places = repository.blobs.iter().map(|digest| async {
            wait(&self.arrived[digest][at]).await?;
            if homes[digest] != repository.name {
                self.mount(&self.targets[at], &repository.name, digest, &homes[digest]).await?;
            }
            blobs[digest.as_str()].send_replace(true);
            Ok(())
        });
        let puts = repository.puts();
        let puts = puts.iter().map(|(manifest, reference)| {
            let (blobs, written) = (&blobs, &written);
            async move {
                for needed in &manifest.needs {
                    if let Some(there) = blobs.get(needed.as_str()).or_else(|| written.get(needed.as_str())) {
                        wait(there).await?;
                    }
                }
                let bytes = manifests[manifest.digest.as_str()].clone();
                self.put(&self.targets[at], &repository.name, reference, &manifest.media_type, bytes).await?;
                written[manifest.digest.as_str()].send_replace(true);
                Ok::<_, anyhow::Error>(())
            }
        });
        futures_util::future::try_join(try_join_all(places), try_join_all(puts)).await.map(|_| ())
    }

    async fn mount(&self, target: &Host, repository: &str, digest: &str, from: &str) -> anyhow::Result<()> {
        let _permit = target.permits.acquire().await?;
        let path = format!("{repository}/blobs/uploads/?mount={digest}&from={from}");
        let post = self.request(target, Method::POST, &path).header(CONTENT_LENGTH, 0).body(Body::empty())?;
        finish(self.client.request(post).await?, StatusCode::CREATED).await
    }

    async fn put(&self, target: &Host, name: &str, reference: &str, kind: &str, bytes: Bytes) -> anyhow::Result<()> {
        let _permit = target.permits.acquire().await?;
        let put =
            self.request(target, Method::PUT, &format!("{name}/manifests/{reference}")).header(CONTENT_TYPE, kind);
        let put = put.header(CONTENT_LENGTH, bytes.len()).body(Body::from(bytes))?;
        finish(self.client.request(put).await?, StatusCode::CREATED).await
    }

    fn request(&self, host: &Host, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}/v2/{path}", host.name))
    }
}

/// Splits a response body into one body for each target.
fn split(answer: Response<Incoming>, targets: usize) -> Vec<Body> {
    let body = Body::new(answer.into_body());
    if targets == 1 {
        return vec![body];
    }
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..targets).map(|_| mpsc::channel::<Bytes>(8)).unzip();
    tokio::spawn(async move {
        let mut stream = body.into_data_stream();
        // If the read fails, each target receives an incomplete body.
        while let Some(Ok(piece)) = stream.next().await {
            for sender in &senders {
                let _ = sender.send(piece.clone()).await;
            }
        }
    });
    let body = |mut receiver: mpsc::Receiver<Bytes>| {
        let pieces = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        Body::from_stream(pieces.map(Ok::<_, std::convert::Infallible>))
    };
    receivers.into_iter().map(body).collect()
}

async fn wait(there: &watch::Sender<bool>) -> anyhow::Result<()> {
    there.subscribe().wait_for(|there| *there).await?;
    Ok(())
}

fn expect(answer: Response<Incoming>, status: StatusCode) -> anyhow::Result<Response<Incoming>> {
    ensure!(answer.status() == status, "answered {} instead of {status}", answer.status());
    Ok(answer)
}

/// Reads a response to its end, so that the client can reuse the connection.
async fn finish(answer: Response<Incoming>, status: StatusCode) -> anyhow::Result<()> {
    let answer = expect(answer, status)?;
    let mut body = Body::new(answer.into_body()).into_data_stream();
    while body.next().await.transpose()?.is_some() {}
    Ok(())
}
