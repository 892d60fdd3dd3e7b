//! Command `transship copy SOURCE TARGET`: copies one tag, one digest or all tags, without an entry of a `sync.yaml`.
//! The journal records the copy as a run of an entry with a reserved name. A configuration cannot use this name.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;

use super::plan;
use crate::cli::context::connection::Connection;
use crate::cli::context::flag_hints::name_flags;
use crate::cli::context::invocation::Context;
use crate::cli::context::location::{ContentLocation, TargetLocation};
use crate::cli::context::runner;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::summary;
use crate::config::{Entry, EntryCredentials, EntryName};
use crate::copy::Copier;
use crate::journal::{COPY, Journal, JournalError, Trigger};
use crate::oci::{ManifestRef, Platform, RegistryHost, Tag};
use crate::plan::{Action, ForeignLayers, Overwrite, RepositorySelection, Selection, TagNames};
use crate::schedule::Schedule;
use crate::store::Side;
use crate::sync::{
    AccessContext, Endpoints, Engine, EntryPreview, RunReport, RunRequest, SingleCopy, TagOutcome, preview,
    preview_copy,
};

/// Maximum size of the buffers of all transfers together, in bytes: the default of `daemon.memory`.
const MEMORY: u64 = 128 << 20;
/// End of the error message for a source layout with several tags.
const ALL_TAGS_REMEDY: &str = ", or copy all with --all-tags";

/// Arguments of `transship copy`.
#[derive(Debug, clap::Args)]
pub struct Copy {
    /// Source: [host/]repository[:TAG], oci-layout:PATH[:TAG] or oci-archive:PATH[:TAG]; without :TAG or @DIGEST, the
    /// tag `latest`
    #[arg(value_name = "SOURCE")]
    pub source: ContentLocation,
    /// Target: host/repository[:TAG], oci-layout:PATH[:TAG] or oci-archive:PATH[:TAG] [default: the source's tag]
    #[arg(value_name = "TARGET")]
    pub target: TargetLocation,
    /// Copy all tags of the repository, or of all repositories of HOST/PREFIX/**
    #[arg(long)]
    pub all_tags: bool,
    /// Show the changes that the copy would make, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Move a tag that has another digest at the target
    #[arg(long)]
    pub force: bool,
    /// Copy only these platforms of an index, as a new index; a list with commas, or repeated
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
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
        self.check_all_tags()?;
        let named = [self.source_host(), self.target.0.repository.host()];
        let (endpoints, journal) = self.connection.endpoints_and_journal(&named, context)?;
        let single = self
            .choose_single(&endpoints)
            .await
            .map_err(|failure| failure.name_flags(self.host_with_flags(Side::Source)))?;
        let journal = if self.no_journal || self.dry_run { None } else { open_journal(journal)? };
        let engine = Engine { copier: Copier::new(MEMORY), endpoints, journal };
        if self.dry_run {
            return self.print_preview(&engine, single.as_ref(), context).await;
        }
        let title = self.title(single.as_ref());
        let report = self.run(&engine, single, context).await?;
        if self.json {
            context.output.json(&report)?;
        } else {
            let named = RunReport { entry: title, ..report.clone() };
            summary::print(&named, &mut context.output)?;
        }
        Ok(summary::exit(&[report]))
    }

    /// Returns an error if SOURCE, TARGET and `--all-tags` do not fit together, for example `ubuntu:24.04 --all-tags`.
    fn check_all_tags(&self) -> Result<(), Failure> {
        let (source, target) = (&self.source, &self.target.0);
        let message = match (source.repository.is_tree(), target.repository.is_tree()) {
            (true, false) => format!("{source} names several repositories: write the target with /** too"),
            (false, true) => format!("{target} names several repositories: write the source with /** too"),
            (true, true) if !self.all_tags => format!("{source} names several repositories: add --all-tags"),
            _ if self.all_tags && source.manifest.is_some() => {
                format!("{source} is one manifest, and --all-tags copies a repository: remove one of the two")
            }
            _ if self.all_tags && target.manifest.is_some() => {
                format!("{target} is one tag, and --all-tags copies several: name the repository alone")
            }
            _ => return Ok(()),
        };
        Err(Failure::usage(anyhow!(message)))
    }

    /// Returns the copy of one manifest, or `None` with `--all-tags`.
    async fn choose_single(&self, endpoints: &Endpoints) -> Result<Option<SingleCopy>, Failure> {
        if self.all_tags {
            return Ok(None);
        }
        let source = endpoints.source(&self.source.repository, AccessContext::default())?;
        let reference = self.source.choose_manifest(source.as_ref(), ALL_TAGS_REMEDY).await?;
        self.single(&reference).map(Some)
    }

    /// Prints the changes that the copy would make.
    async fn print_preview(
        &self,
        engine: &Engine,
        single: Option<&SingleCopy>,
        context: &mut Context,
    ) -> Result<Exit, Failure> {
        let request = self.request();
        let preview = match single {
            Some(single) => preview_copy(engine, &request, single).await,
            None => preview(engine, &request).await,
        };
        let preview = self.name_preview_flags(preview);
        if self.json {
            context.output.json(&preview)?;
        } else {
            let named = EntryPreview { entry: self.title(single), ..preview.clone() };
            plan::print(&named, false, &mut context.output)?;
        }
        let mut tags = preview.pairs.iter().flat_map(|pair| &pair.tags);
        Ok(match preview.has_failures() {
            true => Exit::Failed,
            false if tags.any(|tag| matches!(tag.action, Some(Action::Block { .. }))) => Exit::Withheld,
            false => Exit::Ok,
        })
    }

    /// Copies the manifest in `single`. If `single` is `None`, copies every tag of the source.
    async fn run(&self, engine: &Engine, single: Option<SingleCopy>, context: &Context) -> Result<RunReport, Failure> {
        let request = self.request();
        let reports = match single {
            Some(single) => vec![runner::copy(engine, request, single, context).await],
            None => runner::run_all(engine, &[request], 1, context).await,
        };
        let report = reports.into_iter().next().ok_or_else(|| anyhow!("interrupted before the run started"))?;
        Ok(self.name_report_flags(report))
    }

    /// Returns the source and the chosen manifest as text, such as `docker.io/library/alpine:latest`.
    fn title(&self, single: Option<&SingleCopy>) -> String {
        let manifest = single.map(|single| single.reference.clone());
        ContentLocation { repository: self.source.repository.clone(), manifest }.to_string()
    }

    fn source_host(&self) -> Option<&RegistryHost> {
        self.source.repository.host()
    }

    /// Returns the registry of a side, if messages about this registry name flags.
    fn host_with_flags(&self, side: Side) -> Option<&RegistryHost> {
        self.connection.host_with_flags(match side {
            Side::Source => self.source_host(),
            Side::Target => self.target.0.repository.host(),
        })
    }

    /// Replaces configuration keys by flags in the message of a failed tag (see [`name_flags`]).
    fn name_outcome_flags(&self, outcome: &mut TagOutcome) {
        if let TagOutcome::Failed { side, message, .. } = outcome {
            *message = name_flags(message, self.host_with_flags(side.unwrap_or(Side::Source)));
        }
    }

    fn name_report_flags(&self, mut report: RunReport) -> RunReport {
        report.tags.iter_mut().for_each(|tag| self.name_outcome_flags(&mut tag.outcome));
        report.problems.iter_mut().for_each(|problem| *problem = self.name_problem_flags(problem));
        report
    }

    fn name_preview_flags(&self, mut preview: EntryPreview) -> EntryPreview {
        let tags = preview.pairs.iter_mut().flat_map(|pair| &mut pair.tags);
        tags.filter_map(|tag| tag.failure.as_mut()).for_each(|failure| self.name_outcome_flags(failure));
        preview.problems.iter_mut().for_each(|problem| *problem = self.name_problem_flags(problem));
        preview
    }

    /// Replaces configuration keys by flags in the message of a problem. A problem of the target begins with `target `.
    fn name_problem_flags(&self, problem: &str) -> String {
        let is_target = problem.starts_with("target ");
        name_flags(problem, self.host_with_flags(if is_target { Side::Target } else { Side::Source }))
    }

    fn request(&self) -> RunRequest {
        let entry = Arc::new(self.entry());
        RunRequest { entries: Arc::new(vec![entry.clone()]), entry, trigger: Trigger::Manual, only: None }
    }

    fn entry(&self) -> Entry {
        Entry {
            name: EntryName::reserved(COPY),
            source: self.source.repository.clone(),
            targets: vec![self.target.0.repository.clone()],
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
            overwrite: if self.force { Overwrite::Always } else { Overwrite::Unforced },
            notify: Vec::new(),
        }
    }

    fn wanted_platforms(&self) -> Option<Vec<Platform>> {
        (!self.platforms.is_empty()).then(|| self.platforms.clone())
    }

    /// Returns the tag to write: the tag of TARGET, or the tag of the source if TARGET has no tag. If TARGET has no tag
    /// and the source is a digest, returns `None`.
    fn tag(&self, reference: &ManifestRef) -> Result<Option<Tag>, Failure> {
        match (&self.target.0.manifest, reference) {
            (Some(ManifestRef::Tag(tag)), _) | (None, ManifestRef::Tag(tag)) => Ok(Some(tag.clone())),
            (None, ManifestRef::Digest(_)) => Ok(None),
            (Some(ManifestRef::Digest(digest)), _) => Err(Failure::usage(anyhow!(
                "the target names the digest {digest}, which cannot be chosen: name a tag or nothing"
            ))),
        }
    }

    /// Returns the [`SingleCopy`] of a tag or a digest. Refuses a digest with `--platform`.
    fn single(&self, reference: &ManifestRef) -> Result<SingleCopy, Failure> {
        if self.wanted_platforms().is_some() && matches!(reference, ManifestRef::Digest(_)) {
            return Err(Failure::usage(anyhow!(
                "--platform creates a new index, whose digest differs from {reference}: name a tag"
            )));
        }
        Ok(SingleCopy { reference: reference.clone(), tag: self.tag(reference)?, again: self.again })
    }
}

/// Opens the journal. If this user has no writable journal, logs a warning and returns `None`. The copy then runs
/// without a record. Any other problem of the journal is an error.
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
mod tests;
