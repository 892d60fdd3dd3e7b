//! Command `transship copy SOURCE TARGET`: copies one tag, one digest or one repository, without an entry of a
//! `sync.yaml`. The journal records the copy as a run of an entry with a reserved name, which no configuration can use.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;

use crate::cli::context::connection::Connection;
use crate::cli::context::invocation::Context;
use crate::cli::context::location::ContentLocation;
use crate::cli::context::runner;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::summary;
use crate::config::{Entry, EntryCredentials, EntryName};
use crate::copy::Copier;
use crate::journal::{COPY, Journal, JournalError, Trigger};
use crate::oci::{ManifestRef, Platform, Tag};
use crate::plan::{ForeignLayers, Overwrite, RepositorySelection, Selection, TagNames};
use crate::schedule::Schedule;
use crate::sync::{Engine, RunReport, RunRequest, SingleCopy};

/// Maximum total size of the buffers of transfers in flight, in bytes. Equal to the default of `daemon.memory`.
const MEMORY: u64 = 128 << 20;

/// Arguments of `transship copy`.
#[derive(Debug, clap::Args)]
pub struct Copy {
    /// Source: a repository, or one manifest with :TAG or @DIGEST
    #[arg(value_name = "SOURCE")]
    pub source: ContentLocation,
    /// Target: a repository, optionally with the :TAG to write [default: the source's tag]
    #[arg(value_name = "TARGET")]
    pub target: ContentLocation,
    /// Copy only these platforms of an index, as a new index; may be repeated
    #[arg(long = "platform", value_name = "OS/ARCH")]
    pub platforms: Vec<Platform>,
    /// Do not copy referrers (signatures, SBOMs)
    #[arg(long)]
    pub no_referrers: bool,
    /// Also copy foreign layers: layers that a manifest refers to by URL
    #[arg(long)]
    pub foreign_layers: bool,
    /// Look for referrers again, even if the target already has the manifest
    #[arg(long, conflicts_with = "no_referrers")]
    pub again: bool,
    /// Do not record the run and its evidence in the journal
    #[arg(long)]
    pub no_journal: bool,
    /// Connection options.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Copy {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let (endpoints, journal) = self.connection.endpoints_and_journal(context)?;
        let single = self.source.manifest.as_ref().map(|reference| self.single(reference)).transpose()?;
        if single.is_none() && self.target.manifest.is_some() {
            let (source, target) = (&self.source, &self.target);
            return Err(Failure::usage(anyhow!(
                "{source} is a whole repository, but {target} is a single tag: name a tag in both or in neither"
            )));
        }
        let journal = if self.no_journal { None } else { open_journal(journal)? };
        let engine = Engine { copier: Copier::new(MEMORY), endpoints, journal };
        let report = self.run(&engine, single, context).await?;
        if self.json {
            context.output.json(&report)?;
        } else {
            let named = RunReport { entry: self.source.to_string(), ..report.clone() };
            summary::print(&named, &mut context.output)?;
        }
        Ok(summary::exit(&[report]))
    }

    /// Copies the manifest `single` or, if it is `None`, every tag of the repository as a run of an entry does.
    async fn run(&self, engine: &Engine, single: Option<SingleCopy>, context: &Context) -> Result<RunReport, Failure> {
        let entry = Arc::new(self.entry());
        let request =
            RunRequest { entries: Arc::new(vec![entry.clone()]), entry, trigger: Trigger::Manual, only: None };
        let reports = match single {
            Some(single) => vec![runner::copy(engine, request, single, context).await],
            None => runner::run_all(engine, &[request], 1, context).await,
        };
        Ok(reports.into_iter().next().ok_or_else(|| anyhow!("interrupted before the run started"))?)
    }

    fn entry(&self) -> Entry {
        Entry {
            name: EntryName::reserved(COPY),
            source: self.source.repository.endpoint(),
            targets: vec![self.target.repository.endpoint()],
            credentials: EntryCredentials::default(),
            repositories: RepositorySelection::default(),
            selection: Selection::default(),
            names: TagNames::default(),
            platforms: self.wanted_platforms(),
            referrers: !self.no_referrers,
            foreign_layers: if self.foreign_layers { ForeignLayers::Copy } else { ForeignLayers::Skip },
            schedule: Schedule::Never,
            on_start: false,
            timezone: chrono_tz::UTC,
            jitter: std::time::Duration::ZERO,
            timeout: None,
            overwrite: Overwrite::Always,
            notify: Vec::new(),
        }
    }

    fn wanted_platforms(&self) -> Option<Vec<Platform>> {
        (!self.platforms.is_empty()).then(|| self.platforms.clone())
    }

    /// Returns the tag to write: the target's tag, or else the source's tag. Returns `None` for a digest that is copied
    /// without a tag.
    fn tag(&self, reference: &ManifestRef) -> Result<Option<Tag>, Failure> {
        match (&self.target.manifest, reference) {
            (Some(ManifestRef::Tag(tag)), _) | (None, ManifestRef::Tag(tag)) => Ok(Some(tag.clone())),
            (None, ManifestRef::Digest(_)) => Ok(None),
            (Some(ManifestRef::Digest(digest)), _) => Err(Failure::usage(anyhow!(
                "the target has the digest {digest}, which the source determines: name a tag or only the repository"
            ))),
        }
    }

    /// Returns the copy of the one manifest that the arguments name.
    fn single(&self, reference: &ManifestRef) -> Result<SingleCopy, Failure> {
        if self.wanted_platforms().is_some() && matches!(reference, ManifestRef::Digest(_)) {
            return Err(Failure::usage(anyhow!(
                "--platform creates a new index, whose digest differs from {reference}: name a tag"
            )));
        }
        Ok(SingleCopy { reference: reference.clone(), tag: self.tag(reference)?, again: self.again })
    }
}

/// Opens the journal. Returns `None` and logs a warning if this user has no writable journal, for example because the
/// home folder is read-only. The copy then runs without a record. Any other problem of the journal is an error, because
/// earlier records may be lost.
fn open_journal(path: Option<PathBuf>) -> Result<Option<Journal>, Failure> {
    let Some(path) = path else {
        tracing::warn!("this copy is not recorded: STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set");
        return Ok(None);
    };
    match Journal::open(&path) {
        Ok(journal) => Ok(Some(journal)),
        Err(error @ (JournalError::ReadOnly { .. } | JournalError::Open { .. } | JournalError::NoFolder { .. })) => {
            tracing::warn!(%error, "this copy is not recorded, neither as a run nor as evidence");
            Ok(None)
        }
        Err(error) => Err(anyhow!("{error}; to copy without a record, use --no-journal").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tags::tests::layout_of;
    use super::*;
    use crate::cli::context::invocation::tests::context;
    use crate::layout::Layout;
    use crate::oci::Digest;
    use crate::store::{Side, Source as _};
    use crate::sync::TagOutcome;

    fn copy(source: &str, target: &str) -> Copy {
        Copy {
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            platforms: Vec::new(),
            no_referrers: false,
            foreign_layers: false,
            again: false,
            no_journal: true,
            connection: Connection::default(),
            json: false,
        }
    }

    async fn outcome(copy: &Copy) -> Result<Vec<TagOutcome>, String> {
        let copied = async {
            let single = copy.source.manifest.as_ref().map(|reference| copy.single(reference)).transpose()?;
            let engine = Engine { copier: Copier::new(MEMORY), endpoints: Arc::default(), journal: None };
            copy.run(&engine, single, &context()).await
        };
        let report = copied.await.map_err(|failure: Failure| failure.to_string())?;
        Ok(report.tags.into_iter().map(|tag| tag.outcome).collect())
    }

    async fn digest(path: &Path, tag: &str) -> Option<Digest> {
        let reference = ManifestRef::Tag(tag.parse().unwrap());
        Layout::open(path).resolve(&reference).await.unwrap().map(|descriptor| descriptor.digest)
    }

    #[tokio::test]
    async fn tag_is_copied_once_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        layout_of(&from, &["v1", "v2"]).await;
        let place = |path: &Path, tag: &str| format!("oci-layout:{}:{tag}", path.display());
        let first = copy(&place(&from, "v1"), &place(&to, "stable"));
        assert_eq!(outcome(&first).await, Ok(vec![TagOutcome::Copied]));
        assert_eq!(digest(&to, "stable").await, digest(&from, "v1").await);
        assert_eq!(digest(&to, "v1").await, None);
        assert_eq!(outcome(&first).await, Ok(vec![TagOutcome::Unchanged]));
        let previous = digest(&from, "v1").await.unwrap();
        let moved = outcome(&copy(&place(&from, "v2"), &place(&to, "stable"))).await;
        assert_eq!(moved, Ok(vec![TagOutcome::Replaced { previous, kept_as: None }]));
    }

    #[tokio::test]
    async fn digest_is_copied_without_tag_and_repository_with_all() {
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
    async fn contradictory_arguments_are_refused_before_any_copy() {
        let digest = Digest::of(b"x");
        let message = async |source: &str, target: &str, platforms: &[&str]| {
            let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
            let copy = Copy { platforms, ..copy(source, target) };
            copy.perform(&mut context()).await.unwrap_err().to_string()
        };
        let whole = "error: h.example/a is a whole repository, but t.example/a:v1 is a single tag: \
                     name a tag in both or in neither";
        assert_eq!(message("h.example/a", "t.example/a:v1", &[]).await, whole);
        let written = message("h.example/a:v1", &format!("t.example/a@{digest}"), &[]).await;
        assert!(written.ends_with("which the source determines: name a tag or only the repository"), "{written}");
        let pinned = message(&format!("h.example/a@{digest}"), "t.example/a", &["linux/amd64"]).await;
        assert!(
            pinned.starts_with("error: --platform creates a new index, whose digest differs from sha256:"),
            "{pinned}"
        );
    }

    #[tokio::test]
    async fn missing_source_tag_is_a_failure_of_the_source() {
        let folder = tempfile::tempdir().unwrap();
        layout_of(folder.path(), &["v1"]).await;
        let place = format!("oci-layout:{}", folder.path().display());
        let target = format!("oci-layout:{}/to", folder.path().display());
        let outcomes = outcome(&copy(&format!("{place}:v2"), &target)).await.unwrap();
        let [TagOutcome::Failed { side: Some(Side::Source), message, .. }] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(*message, format!("source {place}: there is no v2; the nearest tag is v1"));
    }
}
