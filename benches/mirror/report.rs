//! Output of the benchmark: progress lines, tables, and a JSON file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::counts::Counts;
use crate::stage::Run;

/// Results of one case.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) case: &'static str,
    pub(crate) runs: Vec<Run>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) notes: Vec<String>,
}

/// Measured value and its expected limit.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) limit: f64,
    pub(crate) got: f64,
    /// True if `got` must be at most `limit`. False if `got` must be at least `limit`.
    pub(crate) at_most: bool,
    /// True for a count, which is the same on every machine. False for a time.
    pub(crate) is_count: bool,
}

impl Figure {
    pub(crate) fn time(what: impl Into<String>, got: f64, limit: f64) -> Self {
        Self { what: what.into(), limit, got, at_most: true, is_count: false }
    }

    pub(crate) fn count(what: impl Into<String>, got: impl Into<f64>, limit: impl Into<f64>) -> Self {
        Self { what: what.into(), limit: limit.into(), got: got.into(), at_most: true, is_count: true }
    }

    pub(crate) fn at_least(self) -> Self {
        Self { at_most: false, ..self }
    }

    pub(crate) fn is_met(&self) -> bool {
        if self.at_most { self.got <= self.limit } else { self.got >= self.limit }
    }
}

impl Report {
    pub(crate) fn new(case: &'static str) -> Self {
        Self { case, runs: Vec::new(), figures: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn runs_of(&self, tool: &str) -> Vec<&Run> {
        self.runs.iter().filter(|run| run.tool == tool).collect()
    }

    /// Returns the median of a value over all rounds of a tool. If the tool has no runs, the median is NaN, and no
    /// figure is met.
    pub(crate) fn median(&self, tool: &str, value: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs_of(tool).into_iter().map(value).collect())
    }

    /// Returns the median of the ratio of two tools. Each ratio compares two runs of the same round.
    pub(crate) fn ratio(&self, tool: &str, to: &str, value: impl Fn(&Run) -> f64) -> f64 {
        let base = self.runs_of(to);
        let ratio = |run: &&Run| Some(value(run) / value(base.iter().find(|base| base.round == run.round)?));
        median(self.runs_of(tool).iter().filter_map(ratio).collect())
    }

    /// Adds the figures that all cases have.
    pub(crate) fn add_common_figures(&mut self) {
        let ours: Vec<&Run> = self.runs.iter().filter(|run| run.tool.starts_with("transship")).collect();
        if ours.is_empty() {
            return;
        }
        let bad = ours.iter().filter(|run| !run.is_good()).count() as f64;
        let most = ours.iter().map(|run| run.usage.peak_mib).fold(0.0, f64::max);
        self.figures.push(Figure::count("runs that failed or were incomplete", bad, 0));
        let mut memory = Figure::time("peak memory, MiB", most, (crate::tools::MEMORY_MIB + 48) as f64);
        memory.is_count = true;
        self.figures.push(memory);
    }

    pub(crate) fn print(&self) {
        print_line(&format!("\n== {}\n", self.case));
        self.print_runs();
        self.print_requests();
        for figure in &self.figures {
            let (sign, verdict) =
                (if figure.at_most { "<=" } else { ">=" }, if figure.is_met() { "met" } else { "MISSED" });
            print_line(&format!("  {verdict:>6}  {}: {:.2} ({sign} {:.2})", figure.what, figure.got, figure.limit));
        }
        for note in &self.notes {
            print_line(&format!("  note    {note}"));
        }
    }

    fn tools(&self) -> Vec<&str> {
        let mut tools: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !tools.contains(&run.tool.as_str()) {
                tools.push(&run.tool);
            }
        }
        tools
    }

    fn print_runs(&self) {
        if self.runs.is_empty() {
            return;
        }
        print_line(&format!(
            "{:<22}{:>9}{:>9}{:>8}{:>9}{:>9}{:>9}{:>9}{:>7}{:>9}{:>9}{:>6}",
            "medians",
            "wall s",
            "x floor",
            "cpu s",
            "regs cpu",
            "mtrs cpu",
            "peak MiB",
            "requests",
            "conns",
            "read MB",
            "write MB",
            "dup"
        ));
        for tool in self.tools() {
            let median = |value: &dyn Fn(&Run) -> f64| self.median(tool, value);
            let ratio = self.ratio(tool, "floor", |run| run.usage.wall.as_secs_f64());
            print_line(&format!(
                "{tool:<22}{:>9.2}{:>9}{:>8.2}{:>9.2}{:>9.2}{:>9.1}{:>9.0}{:>7.0}{:>9.1}{:>9.1}{:>6.0}",
                median(&|run| run.usage.wall.as_secs_f64()),
                if ratio.is_nan() { "-".into() } else { format!("{ratio:.2}") },
                median(&|run| run.usage.cpu.as_secs_f64()),
                median(&|run| run.registries_cpu.as_secs_f64()),
                median(&|run| run.meters_cpu.as_secs_f64()),
                median(&|run| run.usage.peak_mib),
                median(&|run| run.requests() as f64),
                median(&|run| run.connections() as f64),
                median(&|run| run.source.bytes_read as f64 / 1e6),
                median(&|run| run.written() as f64 / 1e6),
                median(&|run| run.duplicates() as f64),
            ));
        }
    }

    /// Prints the requests at the source and the targets, by kind. The table contains the last run of each tool.
    fn print_requests(&self) {
        let last: Vec<&Run> =
            self.tools().into_iter().filter_map(|tool| self.runs.iter().rfind(|run| run.tool == tool)).collect();
        let Some(sides) = last.first().map(|run| 1 + run.targets.len()) else { return };
        let counts = |run: &'_ Run, side: usize| -> Option<Counts> {
            if side == 0 { Some(run.source.clone()) } else { run.targets.get(side - 1).cloned() }
        };
        for side in 0..sides {
            let name = if side == 0 { "source".to_owned() } else { format!("target {side}") };
            print_line(&format!(
                "{name:<22}{}",
                last.iter().map(|run| format!("{:>14}", short(&run.tool))).collect::<String>()
            ));
            let columns: Vec<Counts> = last.iter().filter_map(|run| counts(run, side)).collect();
            let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            for (at, column) in columns.iter().enumerate() {
                let refused = column.refused.iter().map(|(kind, count)| (format!("  of these {kind}"), count));
                let twice = column.duplicates.iter().map(|(kind, count)| (format!("  twice {kind}"), count));
                let most = [
                    ("most at once".to_owned(), &column.most_at_once),
                    ("new connections".to_owned(), &column.connections),
                ];
                let all = column.requests.iter().map(|(kind, count)| (kind.clone(), count));
                for (row, count) in all.chain(refused).chain(twice).chain(most) {
                    rows.entry(row).or_insert_with(|| vec![0; columns.len()])[at] = *count;
                }
            }
            for (row, values) in rows {
                print_line(&format!(
                    "  {row:<20}{}",
                    values.iter().map(|value| format!("{value:>14}")).collect::<String>()
                ));
            }
        }
    }
}

fn short(name: &str) -> &str {
    name.get(..13).unwrap_or(name)
}

/// Writes all results to a JSON file.
pub(crate) fn write_json(path: &Path, about: &serde_json::Value, reports: &[Report]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let whole = serde_json::json!({"about": about, "cases": reports});
    std::fs::write(path, format!("{whole:#}\n"))?;
    print_line(&format!("\ncomplete results as JSON: {}", path.display()));
    Ok(())
}

/// Prints one line about a finished run.
pub(crate) fn progress(run: &Run) {
    let usage = &run.usage;
    let mut line = format!(
        "  round {} {:<20} {:>7.2} s {:>6.2} s cpu {:>6.1} MiB {:>6} requests",
        run.round,
        run.tool,
        usage.wall.as_secs_f64(),
        usage.cpu.as_secs_f64(),
        usage.peak_mib,
        run.requests()
    );
    if let Some(failure) = &usage.failure {
        line += &format!("  FAILED: {failure}");
    }
    if let Some(first) = run.missing.first() {
        line += &format!("  MISSING: {} tags, such as {first}", run.missing.len());
    }
    print_progress(&line);
}

pub(crate) fn print_progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(crate) fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}
