//! Setup (stage) of a measurement: a source and targets, each with a meter, and a folder for the configuration and the
//! journal.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;

use crate::Bench;
use crate::corpus::Corpus;
use crate::counts::Counts;
use crate::meter::{Meter, Setup};
use crate::registries::Registry;
use crate::tools::{Job, Tool, Usage, own_cpu, seconds};

/// Setup with its own targets. Several setups may share a source.
pub(crate) struct Stage<'a> {
    bench: &'a Bench,
    pub(crate) source: Meter,
    source_process: u32,
    pub(crate) targets: Vec<Target>,
    folder: TempDir,
    /// Certificate of the authority, if the meters use TLS.
    pub(crate) ca: Option<PathBuf>,
}

pub(crate) struct Target {
    pub(crate) registry: Registry,
    pub(crate) meter: Meter,
}

/// Result of one run of a tool, with the counts of the meters.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) tool: String,
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) usage: Usage,
    /// CPU time that the registries used during the run.
    #[serde(serialize_with = "seconds")]
    pub(crate) registries_cpu: Duration,
    /// CPU time that the meters used during the run.
    #[serde(serialize_with = "seconds")]
    pub(crate) meters_cpu: Duration,
    pub(crate) source: Counts,
    pub(crate) targets: Vec<Counts>,
    /// Tags that are absent or wrong at a target.
    pub(crate) missing: Vec<String>,
}

impl Run {
    pub(crate) fn requests(&self) -> u64 {
        self.source.total() + self.targets.iter().map(Counts::total).sum::<u64>()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.source.connections + self.targets.iter().map(|target| target.connections).sum::<u64>()
    }

    pub(crate) fn written(&self) -> u64 {
        self.targets.iter().map(|target| target.bytes_written).sum()
    }

    /// Returns the number of blob transfers that repeat an earlier transfer.
    pub(crate) fn duplicates(&self) -> u64 {
        self.source.duplicate("blob GET") + self.targets.iter().map(|target| target.duplicate("blob PUT")).sum::<u64>()
    }

    pub(crate) fn is_good(&self) -> bool {
        self.usage.failure.is_none() && self.missing.is_empty()
    }
}

impl<'a> Stage<'a> {
    /// Starts a meter for `source`. For each item of `targets`, starts an empty registry with a meter.
    pub(crate) fn new(bench: &'a Bench, source: &Registry, before: Setup, targets: Vec<Setup>) -> anyhow::Result<Self> {
        let target = |setup| {
            let registry = Registry::start(&bench.storage)?;
            Ok(Target { meter: Meter::start(registry.address(), setup)?, registry })
        };
        Ok(Self {
            bench,
            source: Meter::start(source.address(), before)?,
            source_process: source.process(),
            targets: targets.into_iter().map(target).collect::<anyhow::Result<_>>()?,
            folder: tempfile::Builder::new().prefix("transship-bench-").tempdir()?,
            ca: None,
        })
    }

    /// Creates a setup with one target. The source and the target have the same round-trip time.
    pub(crate) fn simple(bench: &'a Bench, source: &Registry, round_trip: Duration) -> anyhow::Result<Self> {
        let setup = Setup { round_trip, ..Setup::default() };
        Self::new(bench, source, setup.clone(), vec![setup])
    }

    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        self.source.set_round_trip(round_trip);
        self.targets.iter().for_each(|target| target.meter.set_round_trip(round_trip));
    }

    /// Runs a tool, and then checks the content of the targets.
    pub(crate) fn run(&self, tool: &Tool, round: usize, corpus: &Corpus) -> anyhow::Result<Run> {
        let mut run = self.run_unchecked(tool, round, corpus)?;
        for target in &self.targets {
            run.missing.extend(self.bench.wait(target.registry.missing(corpus, tool.renames()))?);
        }
        crate::report::progress(&run);
        Ok(run)
    }

    pub(crate) fn run_unchecked(&self, tool: &Tool, round: usize, corpus: &Corpus) -> anyhow::Result<Run> {
        self.source.take();
        self.targets.iter().for_each(|target| drop(target.meter.take()));
        let (registries, meters) = (self.registries_cpu()?, own_cpu("self")?);
        let usage = tool.run(&Job {
            source: self.source.host(),
            targets: self.targets.iter().map(|target| target.meter.host()).collect(),
            corpus,
            concurrent: self.bench.options.concurrent,
            folder: self.folder.path(),
            ca: self.ca.clone(),
        })?;
        Ok(Run {
            tool: tool.name().to_owned(),
            round,
            usage,
            registries_cpu: self.registries_cpu()?.saturating_sub(registries),
            meters_cpu: own_cpu("self")?.saturating_sub(meters),
            source: self.source.take(),
            targets: self.targets.iter().map(|target| target.meter.take()).collect(),
            missing: Vec::new(),
        })
    }

    fn registries_cpu(&self) -> anyhow::Result<Duration> {
        let targets = self.targets.iter().map(|target| target.registry.process());
        targets.chain([self.source_process]).map(|process| own_cpu(&process.to_string())).sum()
    }
}
