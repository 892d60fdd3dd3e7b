//! Copies an image with its referrers (signatures, SBOMs) to another registry, and prints the progress.
//!
//! ```sh
//! cargo run --example copy_image -- docker.io/library/alpine:3.20 registry.example/mirror/alpine:3.20
//! cargo run --example copy_image -- docker.io/library/alpine:3.20 localhost:5000/alpine:3.20 \
//!     --plain-http localhost:5000
//! ```
//!
//! The program uses the credentials in docker's configuration.

use std::io::{self, Write as _, stdout};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use transship::copy::event::{Event, Transfer};
use transship::copy::{Batch, Contents, Copier, CopyJob, Previous, Rules};
use transship::oci::{ManifestRef, Reference};
use transship::registry::{Options, Registry, Repository};
use transship::store::Source as _;

const USAGE: &str = "usage: copy_image SOURCE TARGET:TAG [--plain-http HOST]...";

/// Maximum memory for transfer buffers, in bytes.
const MEMORY: u64 = 64 << 20;

/// Time between two progress lines of a running transfer.
const REFRESH: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, flags @ ..] = &arguments[..] else { anyhow::bail!(USAGE) };
    let plain_http = plain_http_hosts(flags)?;
    let (source, target): (Reference, Reference) = (source.parse()?, target.parse()?);
    let reference = source.manifest().context("SOURCE names no tag and no digest")?;
    let tag = target.tag.clone().context(USAGE)?;

    // The program resolves the tag to a digest once, and then copies the content by digest.
    let (source, target) = (open(source, &plain_http)?, open(target, &plain_http)?.for_writing());
    let (from, to) = (source.place().to_owned(), target.place().to_owned());
    let digest = source.resolve(&reference).await?.with_context(|| format!("{from} has no {reference}"))?.digest;
    let previous = target.resolve(&ManifestRef::Tag(tag.clone())).await?.map(|descriptor| descriptor.digest);
    if previous == Some(digest) {
        writeln!(stdout(), "{to}:{tag} is {digest} already")?;
        return Ok(());
    }

    let rules = Rules { referrers: true, ..Rules::default() };
    let targets = vec![(0, previous.map(|digest| Previous { digest, under: None }))];
    let job = CopyJob { reference, digest, tag: Some(tag.clone()), targets };
    let (events, received) = mpsc::channel(64);
    let destinations = vec![(Arc::new(target) as _, Contents::Unknown)];
    let batch = Batch::new(&Copier::new(MEMORY), Arc::new(source), destinations, rules, None, events);
    for (_, result) in show_progress(batch.copy(job), received).await? {
        let arrival = result?;
        writeln!(stdout(), "copied {digest} from {from} to {to}:{tag}: {} bytes", arrival.bytes)?;
        for left in arrival.left_behind {
            writeln!(stdout(), "left behind: {}: {}", left.what, left.reason)?;
        }
    }
    Ok(())
}

/// Returns the hosts of all `--plain-http` options.
fn plain_http_hosts(flags: &[String]) -> anyhow::Result<Vec<&str>> {
    let mut hosts = Vec::new();
    for flag in flags.chunks(2) {
        match flag {
            [name, host] if name == "--plain-http" => hosts.push(host.as_str()),
            _ => anyhow::bail!(USAGE),
        }
    }
    Ok(hosts)
}

/// Opens a repository. The function sends no requests.
fn open(reference: Reference, plain_http: &[&str]) -> anyhow::Result<Repository> {
    let Reference { repository, .. } = reference;
    let plain_http = plain_http.contains(&repository.host.as_str());
    let options = Options { plain_http, ..Options::unlisted(&|name| std::env::var(name).ok()) };
    Ok(Registry::new(repository.host, options)?.repository(repository.name))
}

/// Awaits a copy and prints the progress: one line for each finished transfer, and once per second one line for each
/// running transfer.
async fn show_progress<T>(copy: impl Future<Output = T>, mut events: mpsc::Receiver<Event>) -> io::Result<T> {
    let mut copy = std::pin::pin!(copy);
    let mut running: Vec<Arc<Transfer>> = Vec::new();
    let mut ticks = tokio::time::interval(REFRESH);
    let result = loop {
        tokio::select! {
            result = &mut copy => break result,
            Some(event) = events.recv() => show_event(event, &mut running)?,
            _ = ticks.tick() => for transfer in &running {
                writeln!(stdout(), "{}: {} of {} bytes", transfer.digest.short(), transfer.position(), transfer.size)?;
            },
        }
    };
    // The channel can still contain the last events of the copy.
    while let Ok(event) = events.try_recv() {
        show_event(event, &mut running)?;
    }
    Ok(result)
}

/// Updates the list of running transfers. If a transfer has finished or failed, prints a line.
fn show_event(event: Event, running: &mut Vec<Arc<Transfer>>) -> io::Result<()> {
    match event {
        Event::TransferStarted(transfer) => running.push(transfer),
        Event::TransferFinished(ended) => {
            running.retain(|transfer| !Arc::ptr_eq(transfer, &ended));
            writeln!(stdout(), "{}: sent {} bytes", ended.digest.short(), ended.size)?;
        }
        Event::TransferFailed(ended, reason) => {
            running.retain(|transfer| !Arc::ptr_eq(transfer, &ended));
            writeln!(stdout(), "{}: failed: {reason}", ended.digest.short())?;
        }
        // The copy also writes signatures and lists of referrers, which need no progress line.
        Event::SignatureArrived(_) | Event::AuxiliaryTagWritten(_) => {}
    }
    Ok(())
}
