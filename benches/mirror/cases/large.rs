//! Case `big-blob`: a copy of one large blob, compared with two `curl` processes and a pipe. The registries have no
//! meter, because the meter would limit the speed on a machine with two cores.

use std::process::Command;
use std::time::Duration;

use crate::Bench;
use crate::corpus::{self, Corpus};
use crate::counts::Counts;
use crate::registries::Registry;
use crate::report::{Figure, Report};
use crate::stage::Run;
use crate::tools::{self, Job, Tool, Usage};

pub(super) fn big_blob(bench: &Bench) -> anyhow::Result<Report> {
    let size: u64 = if bench.options.quick { 256 << 20 } else { 4 << 30 };
    let source = bench.filled(corpus::big_blob(size))?;
    let mut report = Report::new("big-blob");
    for round in 1..=bench.options.rounds {
        for tool in ["curl", "transship"] {
            // Each run uses a new target, so the disk contains at most two copies of the blob.
            let target = Registry::start(&bench.storage)?;
            let (usage, missing) = match tool {
                "curl" => (curl(&source.registry, &target, &source.corpus)?, Vec::new()),
                _ => transship(bench, &source.registry, &target, &source.corpus)?,
            };
            let (source, targets) = (Counts::default(), vec![Counts::default()]);
            let run = Run {
                tool: tool.into(),
                round,
                usage,
                registries_cpu: Duration::ZERO,
                meters_cpu: Duration::ZERO,
                source,
                targets,
                missing,
            };
            crate::report::progress(&run);
            report.runs.push(run);
        }
    }
    let rate = report.ratio("curl", "transship", |run| run.usage.wall.as_secs_f64());
    let peak = report.median("transship", |run| run.usage.peak_mib);
    report.figures = vec![Figure::time("rate / curl's", rate, 0.85).at_least()];
    report.notes.push(format!("{} MiB; peak {peak:.0} MiB; without meters", size >> 20));
    Ok(report)
}

fn transship(
    bench: &Bench,
    source: &Registry,
    target: &Registry,
    corpus: &Corpus,
) -> anyhow::Result<(Usage, Vec<String>)> {
    let folder = tempfile::tempdir()?;
    let usage = Tool::Transship.run(&Job {
        source: source.address().to_string(),
        targets: vec![target.address().to_string()],
        corpus,
        concurrent: bench.options.concurrent,
        folder: folder.path(),
        ca: None,
    })?;
    Ok((usage, bench.wait(target.missing(corpus, Tool::Transship.renames()))?))
}

/// Copies the blob with two `curl` processes: one reads the blob, and one writes the blob into an upload. The measured
/// memory is the memory of the shell.
fn curl(source: &Registry, target: &Registry, corpus: &Corpus) -> anyhow::Result<Usage> {
    const SCRIPT: &str = r#"set -e
location=$(curl -sf -o /dev/null -D - -X POST "http://$TARGET/v2/$NAME/blobs/uploads/" \
  | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
case $location in /*) location="http://$TARGET$location" ;; esac
curl -sf "http://$SOURCE/v2/$NAME/blobs/$DIGEST" \
  | curl -sf -T - -X PUT -H 'Content-Type: application/octet-stream' "$location&digest=$DIGEST"
"#;
    let repository = &corpus.repositories[0];
    let largest = corpus.blobs.iter().max_by_key(|(_, blob)| blob.size).map(|(digest, _)| digest.as_str());
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).env("NAME", &repository.name).env("DIGEST", largest.unwrap_or_default());
    command.env("SOURCE", source.address().to_string()).env("TARGET", target.address().to_string());
    command.env_remove("http_proxy").env_remove("all_proxy").env_remove("ALL_PROXY");
    let usage = tools::measure(command)?;
    anyhow::ensure!(usage.failure.is_none(), "{}", usage.failure.unwrap_or_default());
    Ok(usage)
}
