//! Benchmark `cargo bench --bench mirror`: compares transship with other tools and with a lower bound (the floor).
//!
//! Each case starts registries. A proxy (the meter) in front of each registry counts the traffic. Every tool copies the
//! same content. The case verifies the content of the targets, and compares medians with expected figures. RESULTS.md
//! explains the output.

mod cases;
mod corpus;
mod counts;
mod floor;
mod meter;
mod registries;
mod report;
mod stage;
mod tools;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::json;

use corpus::Corpus;
use registries::Registry;
use report::{Report, print_line, print_progress};
use tools::Tool;

/// Measures transship against the floor and against other tools.
#[derive(Debug, clap::Parser)]
struct Options {
    /// Case to run; may be given more than once [default: all]
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Print the names of the cases
    #[arg(long)]
    list: bool,
    /// Number of runs of each tool in each case
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Factor of the corpus's bytes
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Seed of the corpus
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run each case small and once, in under two minutes; slow-third only if named by --case
    #[arg(long)]
    quick: bool,
    /// Exit with 1 if a figure is missed; with --quick, only figures that are counts
    #[arg(long)]
    check: bool,
    /// Skip skopeo in the cases with the whole corpus
    #[arg(long)]
    no_skopeo: bool,
    /// Additional tool: NAME='command with {source} {target} {config}'
    #[arg(long, value_name = "NAME=COMMAND")]
    tool: Vec<String>,
    /// Concurrent requests of transship at each registry
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    concurrent: usize,
    /// Concurrent requests of the floor at each registry [default: the best of 16, 32 and 64]
    #[arg(long, value_name = "COUNT")]
    floor_parallel: Option<usize>,
    /// Folder for the registries' files [default: /dev/shm if it has room, else the temporary folder]
    #[arg(long, value_name = "FOLDER")]
    storage: Option<PathBuf>,
    /// File for the results
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench/mirror.json"))]
    json: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// State for all cases.
struct Bench {
    options: Options,
    runtime: tokio::runtime::Runtime,
    storage: PathBuf,
    others: Vec<Tool>,
    whole: OnceCell<Filled>,
    parallel: OnceCell<usize>,
}

/// Registry that contains a corpus.
struct Filled {
    registry: Registry,
    corpus: Corpus,
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == floor::ARGUMENT) {
        let file = arguments.next().unwrap_or_default();
        return floor::perform(Path::new(&file)).map(|()| ExitCode::SUCCESS);
    }
    let mut options = Options::parse();
    if options.list {
        cases::ALL.iter().for_each(|(name, _)| print_line(name));
        return Ok(ExitCode::SUCCESS);
    }
    if options.quick {
        (options.scale, options.rounds, options.no_skopeo) = (options.scale * 0.1, 1, true);
    }
    Bench::new(options)?.run()
}

impl Bench {
    fn new(options: Options) -> anyhow::Result<Self> {
        let others = options.tool.iter().map(|tool| match tool.split_once('=') {
            Some((name, line)) => Ok(Tool::Other(name.to_owned(), line.to_owned())),
            None => anyhow::bail!("--tool {tool}: write NAME='command'"),
        });
        let others = others.collect::<anyhow::Result<Vec<_>>>()?;
        // In the largest case, the source and the target each store a large blob.
        let room = if options.quick { 2 << 30 } else { 10 << 30 };
        let storage = options.storage.clone().unwrap_or_else(|| registries::storage(room));
        registries::remove_leftovers(&storage)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { options, runtime, storage, others, whole: OnceCell::new(), parallel: OnceCell::new() })
    }

    fn run(&self) -> anyhow::Result<ExitCode> {
        let about = self.about();
        print_line(&format!("{about:#}"));
        let wanted = &self.options.case;
        for name in wanted {
            anyhow::ensure!(cases::ALL.iter().any(|(case, _)| case == name), "unknown case {name}: see --list");
        }
        let mut reports: Vec<Report> = Vec::new();
        let is_default = |name: &str| wanted.is_empty() && !(self.options.quick && name == cases::NOT_QUICK);
        let chosen = |name: &str| is_default(name) || wanted.iter().any(|wanted| wanted == name);
        for (name, case) in cases::ALL.iter().filter(|(name, _)| chosen(name)) {
            print_progress(&format!("{name}:"));
            let mut report = case(self)?;
            report.add_common_figures();
            report.print();
            reports.push(report);
        }
        report::write_json(&self.options.json, &about, &reports)?;
        let judged = |figure: &&report::Figure| figure.is_count || !self.options.quick;
        let missed = reports.iter().flat_map(|report| &report.figures).filter(judged).filter(|figure| !figure.is_met());
        let missed = missed.count();
        print_line(&format!("figures missed: {missed}"));
        Ok(if self.options.check && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Returns information about the machine and the options.
    fn about(&self) -> serde_json::Value {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map(|(_, name)| name.to_owned());
        json!({
            "date": chrono::Utc::now().format("%Y-%m-%d").to_string(),
            "cpu": cpu,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
            "registry": registries::program(),
            "storage": self.storage,
            "scale": self.options.scale,
            "seed": self.options.seed,
            "rounds": self.options.rounds,
        })
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Starts a registry and uploads a corpus.
    fn filled(&self, corpus: Corpus) -> anyhow::Result<Filled> {
        let registry = Registry::start(&self.storage)?;
        self.wait(registry.fill(&corpus))?;
        Ok(Filled { registry, corpus })
    }

    /// Returns the registry with the whole corpus. Cases must not change this registry.
    fn whole(&self) -> anyhow::Result<&Filled> {
        if let Some(filled) = self.whole.get() {
            return Ok(filled);
        }
        let corpus = corpus::registry(self.options.seed, self.options.scale);
        let (blobs, mb) = (corpus.blobs.len(), corpus.bytes() as f64 / 1e6);
        print_progress(&format!(
            "the corpus: {} repositories, {} tags, {blobs} blobs, {mb:.1} MB, {} unavoidable requests",
            corpus.repositories.len(),
            corpus.tags(),
            corpus.unavoidable_requests()
        ));
        let filled = self.filled(corpus)?;
        Ok(self.whole.get_or_init(|| filled))
    }

    /// Returns the floor. The number of concurrent requests is the number that is fastest on this machine.
    fn floor(&self) -> anyhow::Result<Tool> {
        if let Some(parallel) = self.parallel.get() {
            return Ok(Tool::Floor(*parallel));
        }
        let parallel = match (self.options.floor_parallel, self.options.quick) {
            (Some(parallel), _) => parallel,
            (None, true) => 32,
            (None, false) => cases::best_parallel(self)?,
        };
        Ok(Tool::Floor(*self.parallel.get_or_init(|| parallel)))
    }
}
