//! `transship copy SOURCE TARGET`: one tag, one digest or one repository, without a `sync.yaml` and without a journal.

use std::sync::Arc;

use anyhow::anyhow;
use chrono::Utc;
use tokio::sync::mpsc;

use super::exit::{Exit, Failure};
use super::open::Connection;
use super::place::Place;
use super::start::Context;
use super::{summary, work};
use crate::config::{Entry, EntryCredentials};
use crate::copy::event::{Arrival, BlobCounts};
use crate::copy::{Batch, Contents, Copier, Order, Rules};
use crate::daemon::{Behalf, Endpoints, Engine, Errand, Happening, RunOutcome, RunReport, TagOutcome, TagReport};
use crate::journal::Trigger;
use crate::oci::{Digest, ManifestRef, Platform, Tag};
use crate::plan::{Overwrite, Selection};
use crate::schedule::Schedule;
use crate::store::{ErrorKind, Side, Source, Target};

/// The ceiling for buffers of transfers in flight, in bytes: the default of `daemon.memory`.
const MEMORY: u64 = 128 << 20;

/// The arguments of `transship copy`.
#[derive(Debug, clap::Args)]
pub struct Copy {
    /// From where: a repository, or one manifest with :TAG or @DIGEST
    #[arg(value_name = "SOURCE")]
    pub source: Place,
    /// To where: a repository; with :TAG the tag to write there, by default the source's
    #[arg(value_name = "TARGET")]
    pub target: Place,
    /// Only these platforms of an index, which becomes a new index; may be repeated
    #[arg(long = "platform", value_name = "OS/ARCH")]
    pub platforms: Vec<Platform>,
    /// Leave behind what refers to it (signatures, SBOMs)
    #[arg(long)]
    pub no_referrers: bool,
    /// How to reach them.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Copy {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let endpoints = self.connection.endpoints(context)?;
        let report = match &self.source.manifest {
            Some(reference) => self.one(reference, &endpoints, context).await?,
            None => self.repository(endpoints, context).await?,
        };
        if self.json {
            context.output.json(&report)?;
        } else {
            summary::print(&report, &mut context.output)?;
        }
        Ok(summary::exit(&[report]))
    }

    /// Copies every tag of a repository, as an entry would.
    async fn repository(&self, endpoints: Arc<Endpoints>, context: &Context) -> Result<RunReport, Failure> {
        if self.target.manifest.is_some() {
            let (source, target) = (&self.source, &self.target);
            return Err(Failure::usage(anyhow!(
                "{source} is a whole repository, {target} one tag: name a tag of both or of none"
            )));
        }
        let entry = Arc::new(self.entry()?);
        let engine = Engine { copier: Copier::new(MEMORY), endpoints, journal: None };
        let errand = Errand { entries: Arc::new(vec![entry.clone()]), entry, trigger: Trigger::Hand, only: None };
        let reports = work::run_all(&engine, &[errand], 1, context).await;
        let report = reports.into_iter().next().ok_or_else(|| anyhow!("interrupted before it began"))?;
        Ok(RunReport { entry: self.source.to_string(), ..report })
    }

    fn entry(&self) -> Result<Entry, Failure> {
        Ok(Entry {
            name: "copy".parse()?,
            source: self.source.home.endpoint(),
            targets: vec![self.target.home.endpoint()],
            credentials: EntryCredentials::default(),
            selection: Selection::default(),
            platforms: self.wanted_platforms(),
            referrers: !self.no_referrers,
            schedule: Schedule::Never,
            on_start: false,
            timezone: chrono_tz::UTC,
            jitter: std::time::Duration::ZERO,
            timeout: None,
            overwrite: Overwrite::Always,
            notify: Vec::new(),
        })
    }

    fn wanted_platforms(&self) -> Option<Vec<Platform>> {
        (!self.platforms.is_empty()).then(|| self.platforms.clone())
    }

    /// The tag to write: the one that the target names, else the source's. A digest may go without a tag.
    fn tag(&self, reference: &ManifestRef) -> Result<Option<Tag>, Failure> {
        match (&self.target.manifest, reference) {
            (Some(ManifestRef::Tag(tag)), _) | (None, ManifestRef::Tag(tag)) => Ok(Some(tag.clone())),
            (None, ManifestRef::Digest(_)) => Ok(None),
            (Some(ManifestRef::Digest(digest)), _) => Err(Failure::usage(anyhow!(
                "the target names the digest {digest}: a digest is not written, name a tag or none"
            ))),
        }
    }

    /// Copies one manifest with all that it reaches.
    async fn one(
        &self,
        reference: &ManifestRef,
        endpoints: &Endpoints,
        context: &Context,
    ) -> Result<RunReport, Failure> {
        if self.wanted_platforms().is_some() && matches!(reference, ManifestRef::Digest(_)) {
            return Err(Failure::usage(anyhow!(
                "--platform makes a new index with another digest than {reference}: name a tag"
            )));
        }
        let tag = self.tag(reference)?;
        let errand = Single {
            source: endpoints.source(&self.source.home.endpoint(), Behalf::default())?,
            target: endpoints.target(&self.target.home.endpoint(), Behalf::default())?,
            reference: reference.clone(),
            tag,
            rules: Rules { platforms: self.wanted_platforms(), referrers: !self.no_referrers },
        };
        let started = Utc::now();
        let tag = tokio::select! {
            tag = errand.copy(context) => Some(tag),
            () = context.interrupted.cancelled() => None,
        };
        let outcome = match &tag {
            None => RunOutcome::Interrupted,
            Some(tag) if tag.outcome.is_failure() => RunOutcome::Failed,
            Some(tag) if matches!(tag.outcome, TagOutcome::Postponed { .. }) => RunOutcome::Postponed,
            Some(_) => RunOutcome::Succeeded,
        };
        let tags = tag.into_iter().collect();
        let entry = self.source.to_string();
        Ok(RunReport { entry, run: None, started, ended: Utc::now(), outcome, tags, problems: Vec::new() })
    }
}

/// One manifest on its way.
struct Single {
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    reference: ManifestRef,
    tag: Option<Tag>,
    rules: Rules,
}

impl Single {
    async fn copy(&self, context: &Context) -> TagReport {
        match self.transfer(context).await {
            Ok(report) => report,
            Err(failure) => self.report(None, failure),
        }
    }

    async fn transfer(&self, context: &Context) -> Result<TagReport, TagOutcome> {
        let digest = self.wanted().await?;
        let there = self.there(digest).await?;
        // Another index than the source's is only known after it has been made.
        if there == Some(digest) && self.rules.platforms.is_none() && !self.rules.referrers {
            return Ok(self.report(Some(digest), TagOutcome::Kept));
        }
        let arrival = self.send(digest, context).await?;
        let outcome = match there {
            Some(previous) if previous == arrival.digest => TagOutcome::Kept,
            Some(previous) => TagOutcome::Replaced { previous, kept_as: None },
            None => TagOutcome::Copied,
        };
        let (blobs, bytes) = (arrival.blobs, arrival.bytes);
        Ok(TagReport { source_digest: Some(digest), blobs, bytes, ..self.report(Some(arrival.digest), outcome) })
    }

    /// The digest that the source has.
    async fn wanted(&self) -> Result<Digest, TagOutcome> {
        let found = self.source.resolve(&self.reference).await;
        match found.map_err(|error| TagOutcome::failed_at(Side::Source, &error))? {
            Some(descriptor) => Ok(descriptor.digest),
            None => Err(TagOutcome::Failed {
                side: Some(Side::Source),
                step: Some(crate::store::Step::Resolve),
                subject: Some(self.reference.to_string()),
                message: format!("source {}: there is no {}", self.source.place(), self.reference),
            }),
        }
    }

    /// What the target has in its place.
    async fn there(&self, digest: Digest) -> Result<Option<Digest>, TagOutcome> {
        let reference = self.tag.clone().map_or(ManifestRef::Digest(digest), ManifestRef::Tag);
        match self.target.resolve(&reference).await {
            Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
            // Some registries deny reads of a repository that the push would make: its own answer decides.
            Err(error) if error.kind == ErrorKind::Denied => {
                tracing::debug!(%error, "what the target has may not be read: the push is tried");
                Ok(None)
            }
            Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
        }
    }

    async fn send(&self, digest: Digest, context: &Context) -> Result<Arrival, TagOutcome> {
        let (events, mut happened) = mpsc::channel(256);
        let (front, happenings) = mpsc::channel(256);
        let copy = async {
            let (copier, targets) = (Copier::new(MEMORY), vec![(self.target.clone(), Contents::Unknown)]);
            let batch = Batch::new(&copier, self.source.clone(), targets, self.rules.clone(), None, events);
            let (reference, tag) = (self.reference.clone(), self.tag.clone());
            batch.copy(Order { reference, digest, tag, targets: vec![(0, None)] }).await
        };
        let forward = async {
            let front = front;
            while let Some(event) = happened.recv().await {
                let _ = front.send((String::new(), Happening::Transfer(event))).await;
            }
        };
        let (outcomes, (), ()) = futures_util::join!(copy, forward, work::draw_on(context.bars.clone(), happenings));
        match outcomes.into_iter().next() {
            Some((_, Ok(arrival))) => Ok(arrival),
            Some((_, Err(error))) => Err(TagOutcome::failed(&error)),
            None => Err(TagOutcome::failed(&crate::copy::CopyError::Interrupted)),
        }
    }

    fn report(&self, digest: Option<Digest>, outcome: TagOutcome) -> TagReport {
        TagReport {
            source: self.source.place().to_owned(),
            target: self.target.place().to_owned(),
            tag: self.tag.clone(),
            digest,
            source_digest: digest,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::start::tests::context;
    use super::super::tags::tests::layout_of;
    use super::*;
    use crate::layout::Layout;

    fn copy(source: &str, target: &str) -> Copy {
        Copy {
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            platforms: Vec::new(),
            no_referrers: false,
            connection: Connection::default(),
            json: false,
        }
    }

    async fn outcome(copy: &Copy) -> Result<Vec<TagOutcome>, String> {
        let endpoints = Arc::new(Endpoints::default());
        let report = match &copy.source.manifest {
            Some(reference) => copy.one(reference, &endpoints, &context()).await,
            None => copy.repository(endpoints, &context()).await,
        };
        Ok(report.map_err(|failure| failure.to_string())?.tags.into_iter().map(|tag| tag.outcome).collect())
    }

    async fn digest(path: &Path, tag: &str) -> Option<Digest> {
        let reference = ManifestRef::Tag(tag.parse().unwrap());
        Layout::open(path).resolve(&reference).await.unwrap().map(|descriptor| descriptor.digest)
    }

    #[tokio::test]
    async fn a_tag_is_copied_under_another_name_once() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        layout_of(&from, &["v1", "v2"]).await;
        let place = |path: &Path, tag: &str| format!("oci-layout:{}:{tag}", path.display());
        let first = copy(&place(&from, "v1"), &place(&to, "stable"));
        assert_eq!(outcome(&first).await, Ok(vec![TagOutcome::Copied]));
        assert_eq!(digest(&to, "stable").await, digest(&from, "v1").await);
        assert_eq!(digest(&to, "v1").await, None);
        assert_eq!(outcome(&first).await, Ok(vec![TagOutcome::Kept]));
        let previous = digest(&from, "v1").await.unwrap();
        let moved = outcome(&copy(&place(&from, "v2"), &place(&to, "stable"))).await;
        assert_eq!(moved, Ok(vec![TagOutcome::Replaced { previous, kept_as: None }]));
    }

    #[tokio::test]
    async fn a_digest_is_copied_without_a_tag_and_a_repository_with_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let layout = layout_of(&from, &["v1", "v2"]).await;
        let v1 = digest(&from, "v1").await.unwrap();
        let (from, target) = (format!("oci-layout:{}", from.display()), format!("oci-layout:{}", to.display()));
        assert_eq!(outcome(&copy(&format!("{from}@{v1}"), &target)).await, Ok(vec![TagOutcome::Copied]));
        assert!(Layout::open(&to).resolve(&ManifestRef::Digest(v1)).await.unwrap().is_some());
        assert_eq!(digest(&to, "v1").await, None);
        assert_eq!(outcome(&copy(&from, &target)).await, Ok(vec![TagOutcome::Copied, TagOutcome::Copied]));
        assert_eq!(digest(&to, "v1").await, Some(v1));
        drop(layout);
    }

    #[tokio::test]
    async fn what_cannot_be_meant_is_refused_before_anything_moves() {
        let digest = Digest::of(b"x");
        let message = async |source: &str, target: &str, platforms: &[&str]| {
            let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
            outcome(&Copy { platforms, ..copy(source, target) }).await.unwrap_err()
        };
        let whole = "error: h.example/a is a whole repository, t.example/a:v1 one tag: name a tag of both or of none";
        assert_eq!(message("h.example/a", "t.example/a:v1", &[]).await, whole);
        let written = message("h.example/a:v1", &format!("t.example/a@{digest}"), &[]).await;
        assert!(written.ends_with("a digest is not written, name a tag or none"), "{written}");
        let pinned = message(&format!("h.example/a@{digest}"), "t.example/a", &["linux/amd64"]).await;
        assert!(pinned.starts_with("error: --platform makes a new index with another digest than sha256:"), "{pinned}");
    }

    #[tokio::test]
    async fn a_tag_that_the_source_lacks_is_a_failure_of_the_source() {
        let folder = tempfile::tempdir().unwrap();
        layout_of(folder.path(), &["v1"]).await;
        let place = format!("oci-layout:{}", folder.path().display());
        let target = format!("oci-layout:{}/to", folder.path().display());
        let outcomes = outcome(&copy(&format!("{place}:v2"), &target)).await.unwrap();
        let [TagOutcome::Failed { side: Some(Side::Source), message, .. }] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(*message, format!("source {place}: there is no v2"));
    }
}
