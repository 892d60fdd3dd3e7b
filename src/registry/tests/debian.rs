//! Tests of the upload modes against Debian's `docker-registry` (distribution 2.8).

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use super::resume;
use super::scripted::{blob, noise, plain, quick, session, verified};
use crate::oci::{Digest, ManifestRef};
use crate::registry::Registry;
use crate::registry::{Options, UploadMode, Uploads};
use crate::store::{ErrorKind, Source as _, Target as _};

struct Debian {
    process: Child,
    host: String,
    _storage: TempDir,
}

impl Debian {
    async fn start() -> Self {
        let storage = TempDir::new().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = storage.path().join("config.yml");
        let data = storage.path().join("data");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
             http: {{addr: \"{address}\"}}\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: apt-get install docker-registry");
        let mut debian = Self { process, host: address.to_string(), _storage: storage };
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(debian.process.try_wait().unwrap().is_none(), "docker-registry ended at once");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        debian
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn blobs_arrive_buffered_streamed_and_in_chunks() {
    let debian = Debian::start().await;
    for (mode, name) in [(UploadMode::Monolithic, "one/piece"), (UploadMode::Chunked, "in/chunks")] {
        let options = Options { upload: Uploads { mode, chunk: Some(70_000) }, ..plain() };
        let registry = Registry::with_retry_policy(debian.host.parse().unwrap(), options, quick()).unwrap();
        let repository = registry.repository(name.parse().unwrap());
        for size in [0, 1, 128 * 1024, 128 * 1024 + 1, 210_000, 3_000_000] {
            let content = noise(size);
            session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
            assert!(repository.has_blob(&blob(&content)).await.unwrap(), "{size}");
            let pieces: Vec<Bytes> = repository.blob(&blob(&content), 0).await.unwrap().try_collect().await.unwrap();
            assert!(pieces.concat() == content, "{size}");
        }
        let missing = ManifestRef::Tag("none".parse().unwrap());
        assert_eq!(repository.delete(&missing).await.unwrap_err().kind, ErrorKind::Unsupported);
        repository.delete(&ManifestRef::Digest(Digest::of(b"none"))).await.unwrap();
    }
}

/// Forwards connections to `to`, and cuts off the first connection that has sent `after` bytes.
async fn relay(to: String, after: u64) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut has_broken = false;
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = tokio::net::TcpStream::connect(&to).await.unwrap();
            let (from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let limit = if has_broken { u64::MAX } else { after };
            let mut limited = from_client.take(limit);
            if !has_broken {
                // Before the cut, the relay forwards one connection at a time.
                has_broken = tokio::io::copy(&mut limited, &mut to_server).await.unwrap_or(0) == after;
                back.abort();
                continue;
            }
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut limited, &mut to_server).await;
                back.abort();
            });
        }
    });
    host
}

#[tokio::test]
async fn interrupted_chunk_leaves_upload_that_resumes_or_restarts() {
    let debian = Debian::start().await;
    let upload = Uploads { mode: UploadMode::Chunked, chunk: Some(200_000) };
    let host = relay(debian.host.clone(), 100_000).await;
    let registry = Registry::with_retry_policy(host.parse().unwrap(), Options { upload, ..plain() }, quick()).unwrap();
    let repository = registry.repository("in/chunks".parse().unwrap());
    let content = noise(500_000);
    // The registry drops a session if the number of stored bytes differs from the number in the session's `Location`.
    // Before the registry notices the difference, the upload can resume.
    if let Err(error) = session(&repository, &content).await.unwrap().send(verified(&content)).await {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
    }
    assert!(repository.has_blob(&blob(&content)).await.unwrap());
}

#[tokio::test]
async fn another_client_resumes_upload_left_between_chunks() {
    let debian = Debian::start().await;
    let upload = Uploads { mode: UploadMode::Chunked, chunk: Some(100_000) };
    let client = || {
        let registry =
            Registry::with_retry_policy(debian.host.parse().unwrap(), Options { upload, ..plain() }, quick());
        registry.unwrap().repository("in/chunks".parse().unwrap())
    };
    let content = noise(500_000);
    let record = resume::interrupt_upload(&client(), &content, 300_000).await.unwrap();
    assert_eq!(record.confirmed.stored, 300_000);
    resume::resume_upload_rest(&client(), &content, &record).await.unwrap();
    let pieces: Vec<Bytes> = client().blob(&blob(&content), 0).await.unwrap().try_collect().await.unwrap();
    assert!(pieces.concat() == content);
}
