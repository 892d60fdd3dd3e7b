//! The ways of uploading against Debian's `docker-registry` (distribution 2.8).

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tempfile::TempDir;

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
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"{address}\"}}\n",
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
async fn blobs_arrive_held_streamed_and_in_chunks() {
    let debian = Debian::start().await;
    for (mode, name) in [(UploadMode::Monolithic, "one/piece"), (UploadMode::Chunked, "in/chunks")] {
        let options = Options { upload: Uploads { mode, chunk: Some(70_000) }, ..plain() };
        let registry = Registry::with_tempo(debian.host.parse().unwrap(), options, quick()).unwrap();
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
