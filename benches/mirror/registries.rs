//! Registries of the benchmark: Debian's `docker-registry`, or the program in the variable `TRANSSHIP_BENCH_REGISTRY`.
//! Each registry has a loopback port and a folder.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use tempfile::TempDir;

use crate::corpus::{Blob, Corpus, Manifest, Repository};

/// Prefix of the registry folders. The process id follows the prefix.
const FOLDER: &str = "transship-bench-";

const DEADLINE: Duration = Duration::from_secs(30);

/// Number of concurrent requests for the upload of a corpus.
const FILL_AT_ONCE: usize = 16;

/// Registry process. Dropping the value ends the process and removes the folder.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    address: SocketAddr,
    storage: TempDir,
    http: reqwest::Client,
}

/// Returns the name or path of the registry program.
pub(crate) fn program() -> String {
    std::env::var("TRANSSHIP_BENCH_REGISTRY").unwrap_or_else(|_| "docker-registry".into())
}

impl Registry {
    /// Starts an empty registry. The registry stores its files in a new folder in `storage`.
    pub(crate) fn start(storage: &Path) -> anyhow::Result<Self> {
        // Another program may use the free port before the registry starts. The function then tries another port.
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(storage)? {
                return Ok(registry);
            }
        }
        bail!("no free port within five attempts")
    }

    fn try_start(storage: &Path) -> anyhow::Result<Option<Self>> {
        let prefix = format!("{FOLDER}{}-", std::process::id());
        let storage = tempfile::Builder::new().prefix(&prefix).tempdir_in(storage)?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let config = storage.path().join("config.yml");
        std::fs::write(&config, configuration(&storage.path().join("data"), address))?;
        let mut command = Command::new(program());
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Environment variables would override the configuration file.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REGISTRY_")) {
            command.env_remove(name);
        }
        let install = || format!("{} cannot be started: apt-get install docker-registry", program());
        let child = command.spawn().with_context(install)?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut registry = Self { child, address, storage, http };
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(address).is_err() {
            if registry.child.try_wait()?.is_some() {
                return Ok(None);
            }
            ensure!(Instant::now() < end, "{} does not listen", program());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(registry.child.try_wait()?.is_none().then_some(registry))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.address)
    }

    pub(crate) async fn fill(&self, corpus: &Corpus) -> anyhow::Result<()> {
        let mut homes = std::collections::BTreeMap::new();
        for repository in &corpus.repositories {
            for digest in &repository.blobs {
                homes.entry(digest.as_str()).or_insert(repository.name.as_str());
            }
        }
        let uploads = homes.iter().map(|(digest, home)| self.upload(home, digest, &corpus.blobs[*digest]));
        run_all(uploads, FILL_AT_ONCE).await?;
        let repositories = corpus.repositories.iter().map(|repository| async {
            let elsewhere = |digest: &&String| homes[digest.as_str()] != repository.name;
            for digest in repository.blobs.iter().filter(elsewhere) {
                self.mount(&repository.name, digest, homes[digest.as_str()]).await?;
            }
            for (manifest, reference) in repository.puts() {
                self.put_manifest(&repository.name, &reference, manifest).await?;
            }
            Ok(())
        });
        run_all(repositories, FILL_AT_ONCE).await
    }

    /// Uploads the content of one repository that the registry does not have. Each blob is uploaded in one request.
    pub(crate) async fn refill(&self, repository: &Repository, corpus: &Corpus) -> anyhow::Result<()> {
        for digest in &repository.blobs {
            let head = self.http.head(self.url(&format!("{}/blobs/{digest}", repository.name))).send().await?;
            if !head.status().is_success() {
                self.upload(&repository.name, digest, &corpus.blobs[digest]).await?;
            }
        }
        for (manifest, reference) in repository.puts() {
            self.put_manifest(&repository.name, &reference, manifest).await?;
        }
        Ok(())
    }

    async fn upload(&self, repository: &str, digest: &str, blob: &Blob) -> anyhow::Result<()> {
        let opened = self.http.post(self.url(&format!("{repository}/blobs/uploads/"))).send().await?;
        let opened = opened.error_for_status()?;
        let location = opened.headers().get(LOCATION).context("an upload without a Location")?.to_str()?;
        let mut url = opened.url().join(location)?;
        url.query_pairs_mut().append_pair("digest", digest);
        let pieces = stream::iter(blob.pieces().map(Ok::<_, std::convert::Infallible>));
        let sent = self.http.put(url).header(CONTENT_LENGTH, blob.size).body(reqwest::Body::wrap_stream(pieces));
        sent.send().await?.error_for_status()?;
        Ok(())
    }

    async fn mount(&self, repository: &str, digest: &str, from: &str) -> anyhow::Result<()> {
        let url = self.url(&format!("{repository}/blobs/uploads/?mount={digest}&from={from}"));
        let status = self.http.post(url).send().await?.status();
        ensure!(status == 201, "a mount of {digest} into {repository} was answered {status}");
        Ok(())
    }

    pub(crate) async fn put_manifest(&self, name: &str, reference: &str, manifest: &Manifest) -> anyhow::Result<()> {
        let url = self.url(&format!("{name}/manifests/{reference}"));
        let put = self.http.put(url).header(CONTENT_TYPE, &manifest.media_type).body(manifest.bytes.clone());
        let answer = put.send().await?;
        let status = answer.status();
        ensure!(status == 201, "{name}:{reference} was answered {status}: {}", answer.text().await?);
        Ok(())
    }

    /// Removes images as a retention rule and a garbage collection do: the manifests, and the blobs from all
    /// repositories. Returns the number of removed blobs.
    pub(crate) async fn collect(&self, corpus: &Corpus, lost: &[(String, Vec<Manifest>)]) -> anyhow::Result<u64> {
        let mut blobs = std::collections::BTreeSet::new();
        for (name, manifest) in lost.iter().flat_map(|(name, all)| all.iter().map(move |manifest| (name, manifest))) {
            let url = self.url(&format!("{name}/manifests/{}", manifest.digest));
            self.http.delete(url).send().await?.error_for_status()?;
            blobs.extend(manifest.needs.iter().filter(|digest| corpus.blobs.contains_key(*digest)));
        }
        for digest in &blobs {
            for repository in corpus.repositories.iter().filter(|repository| repository.blobs.contains(*digest)) {
                let url = self.url(&format!("{}/blobs/{digest}", repository.name));
                self.http.delete(url).send().await?.error_for_status()?;
            }
            let hex = digest.trim_start_matches("sha256:");
            let path = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]);
            std::fs::remove_dir_all(self.storage.path().join(path)).context("the blob's folder")?;
        }
        Ok(blobs.len() as u64)
    }

    /// Returns the tags of a corpus that are absent or wrong at the registry, as `repository:tag` with the actual
    /// digest. Lists of referrers may have another digest, because a tool merges the list of the source with the list
    /// of the target.
    pub(crate) async fn missing(&self, corpus: &Corpus, renamed: fn(&str) -> &str) -> anyhow::Result<Vec<String>> {
        let tags = corpus.repositories.iter().flat_map(|repository| {
            repository.tags.iter().map(move |(tag, digest)| (renamed(&repository.name), tag, digest))
        });
        let checks = tags.map(|(name, tag, digest)| async move {
            let there = self.digest(name, tag).await?;
            let is_list = tag.strip_prefix("sha256-").is_some_and(|hex| hex.len() == 64);
            let good = if is_list { there.is_some() } else { there.as_ref() == Some(digest) };
            Ok::<_, anyhow::Error>(
                (!good).then(|| format!("{name}:{tag} is {}", there.as_deref().unwrap_or("missing"))),
            )
        });
        let found: Vec<Option<String>> = stream::iter(checks).buffer_unordered(FILL_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Returns the digest of a tag or manifest. If the registry does not have the manifest, returns `None`.
    pub(crate) async fn digest(&self, name: &str, reference: &str) -> anyhow::Result<Option<String>> {
        let accept = [crate::corpus::MANIFEST, crate::corpus::INDEX].join(", ");
        let head = self.http.head(self.url(&format!("{name}/manifests/{reference}"))).header("accept", accept);
        let answer = head.send().await?;
        let digest = answer.headers().get("docker-content-digest").filter(|_| answer.status().is_success());
        Ok(digest.and_then(|digest| digest.to_str().ok()).map(str::to_owned))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn run_all<T>(jobs: impl Iterator<Item = T>, at_once: usize) -> anyhow::Result<()>
where
    T: Future<Output = anyhow::Result<()>>,
{
    stream::iter(jobs).buffer_unordered(at_once).try_collect::<Vec<()>>().await.map(|_| ())
}

/// Returns the configuration file. With `relativeurls`, the registry returns relative upload URLs, so uploads also go
/// through the meter.
fn configuration(data: &Path, address: SocketAddr) -> String {
    let storage = format!(
        "{{rootdirectory: {}, maxthreads: 200}}\n  delete: {{enabled: true}}\n  \
         maintenance: {{uploadpurging: {{enabled: false}}}}",
        data.display()
    );
    let http = format!("{{addr: \"{address}\", relativeurls: true}}");
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {storage}\n\
         http: {http}\n"
    )
}

/// Removes the registry folders of benchmark processes that have ended.
pub(crate) fn remove_leftovers(storage: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(storage)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(FOLDER).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Returns the folder for the registries' files. If `/dev/shm` has too little free space, returns the temporary folder.
pub(crate) fn storage(room_needed: u64) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let answer = Command::new("df").args(["--output=avail", "-B1"]).arg(memory).stderr(Stdio::null()).output();
    let free = answer.ok().and_then(|answer| {
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        text.lines().nth(1)?.trim().parse::<u64>().ok()
    });
    if free.is_some_and(|free| free > room_needed) { memory.to_owned() } else { std::env::temp_dir() }
}
