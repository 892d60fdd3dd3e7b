//! Command `transship check`: reads the configuration and reports all problems. The command sends no requests.

use std::path::PathBuf;

use clap::ValueHint;
use serde::Serialize;

use crate::cli::context::configuration;
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::writer::Output;
use crate::config::{Config, Problems, Warning};

/// Arguments of `transship check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Configuration file [default: the file that --config names, or its default]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Output of `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: String,
    entries: Vec<&'a str>,
    problems: Vec<ProblemLine<'a>>,
    /// Number of problems that the report omits because `problems` is full.
    more_problems: usize,
    /// Warnings about settings that are allowed but not recommended.
    warnings: Vec<Warning>,
}

/// Problem of the configuration. If the problem concerns the whole file, line and column are 0.
#[derive(Debug, Serialize)]
struct ProblemLine<'a> {
    /// File with the problem: the configuration or an included file.
    file: &'a str,
    line: usize,
    column: usize,
    text: &'a str,
    remedy: Option<&'a str>,
}

impl Check {
    pub(crate) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let path = self.file.clone().map_or_else(|| configuration::find(&context.global), Ok)?;
        let file = path.display().to_string();
        self.print_result(&file, configuration::read(&path), &mut context.output)
    }

    fn print_result(&self, file: &str, read: Result<Config, Problems>, output: &mut Output) -> Result<Exit, Failure> {
        if self.json {
            output.json(&Report::new(file, &read))?;
            return Ok(if read.is_ok() { Exit::Ok } else { Exit::Usage });
        }
        let config = read.map_err(Failure::usage)?;
        let of_settings = settings_warnings(&config);
        of_settings.iter().try_for_each(|warning| output.counts_line(format!("{file}: warning: {warning}")))?;
        config.warnings.iter().try_for_each(|warning| output.outcome_line(format!("warning: {warning}")))?;
        let entries = count(config.entries.len(), "entry", "entries");
        let warnings = of_settings.len() + config.warnings.len();
        output.line(match warnings {
            0 => format!("{file}: all is well, {entries}"),
            _ => format!("{file}: valid, {entries}, {}", count(warnings, "warning", "warnings")),
        })?;
        Ok(Exit::Ok)
    }
}

fn count(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Returns the warnings that concern no line of the file: certificates that are not verified, and a configuration
/// without entries.
fn settings_warnings(config: &Config) -> Vec<Warning> {
    let warning = |text| Warning { entry: None, text, remedy: None };
    let no_entries = config.entries.is_empty().then(|| Warning {
        entry: None,
        text: "the configuration has no entries, so transship copies nothing".to_owned(),
        remedy: Some("write a list of entries under `sync`".to_owned()),
    });
    config.unverified().into_iter().map(warning).chain(no_entries).collect()
}

impl<'a> Report<'a> {
    fn new(file: &str, read: &'a Result<Config, Problems>) -> Self {
        let warnings = read.as_ref().map(|config| [settings_warnings(config), config.warnings.clone()].concat());
        let warnings = warnings.unwrap_or_default();
        let file = file.to_owned();
        let mut report = Report { file, entries: Vec::new(), problems: Vec::new(), more_problems: 0, warnings };
        match read {
            Ok(config) => report.entries = config.entries.iter().map(|entry| entry.name.as_str()).collect(),
            Err(problems) => {
                let lines = problems.as_slice().iter().map(|problem| ProblemLine {
                    file: &problem.file,
                    line: problem.line,
                    column: problem.column,
                    text: &problem.message,
                    remedy: problem.hint.as_deref(),
                });
                report.problems = lines.collect();
                report.more_problems = problems.more();
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;

    fn checked(json: bool, text: &str) -> (Result<Exit, (Exit, String)>, String) {
        let buffer = OutputBuffer::default();
        let read = crate::config::parse("sync.yaml", text, &|_| Some("/tmp".into()));
        let exit = Check { file: None, json }.print_result("sync.yaml", read, &mut buffer.output());
        (exit.map_err(|failure| (failure.exit(), failure.to_string())), buffer.text())
    }

    const GOOD: &str = "version: 1\nsync:\n  - {name: api, source: h.example/a, target: t.example/a}\n";
    const BAD: &str = "version: 1\nsync:\n  - {name: api, sorce: h.example/a, target: t.example/a}\n";

    #[test]
    fn valid_configuration_is_reported_in_one_line() {
        assert_eq!(checked(false, GOOD), (Ok(Exit::Ok), "sync.yaml: all is well, 1 entry\n".into()));
    }

    #[test]
    fn inadvisable_setting_is_reported_as_a_warning() {
        let text = format!("{GOOD}registries: {{h.example: {{tls: {{insecure_skip_verify: true}}}}}}\n");
        let warning = "h.example: the certificate of the server is not verified (tls.insecure_skip_verify): anyone on \
                       the network path can read the credentials and change the images";
        let expected = format!("sync.yaml: warning: {warning}\nsync.yaml: valid, 1 entry, 1 warning\n");
        assert_eq!(checked(false, &text), (Ok(Exit::Ok), expected));
        let json: serde_json::Value = serde_json::from_str(&checked(true, &text).1).unwrap();
        assert_eq!(json["warnings"], serde_json::json!([{"entry": null, "text": warning, "remedy": null}]));
    }

    #[test]
    fn configuration_without_entries_causes_a_warning() {
        let (exit, printed) = checked(false, "version: 1\nsync: []\n");
        let expected = "sync.yaml: warning: the configuration has no entries, so transship copies nothing: write a \
                        list of entries under `sync`\nsync.yaml: valid, 0 entries, 1 warning\n";
        assert_eq!((exit, printed.as_str()), (Ok(Exit::Ok), expected));
        let json: serde_json::Value = serde_json::from_str(&checked(true, "version: 1\nsync: []\n").1).unwrap();
        assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn json_output_names_the_file_of_each_problem() {
        let folder = tempfile::tempdir().unwrap();
        let (main, part) = (folder.path().join("sync.yaml"), folder.path().join("a.yaml"));
        std::fs::write(&main, "version: 1\ninclude: a.yaml\nsync: [{name: a, sorce: h/x, target: h.e/x}]\n").unwrap();
        std::fs::write(&part, "sync:\n  - {name: b, source: h.example/b, tagret: t.example/b}\n").unwrap();
        let buffer = OutputBuffer::default();
        let read = crate::config::load(&main, &|_| Some("/tmp".into()));
        Check { file: None, json: true }.print_result(&main.to_string_lossy(), read, &mut buffer.output()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&buffer.text()).unwrap();
        let places = json["problems"].as_array().unwrap().iter().map(|problem| (&problem["file"], &problem["line"]));
        let expected = [(main, 3), (part, 2)].map(|(file, line)| (file.display().to_string().into(), line.into()));
        assert_eq!(places.collect::<Vec<_>>(), expected.iter().map(|(file, line)| (file, line)).collect::<Vec<_>>());
    }

    #[test]
    fn problems_exit_with_2_and_name_their_place() {
        let (exit, printed) = checked(false, BAD);
        let (code, message) = exit.unwrap_err();
        assert_eq!((code, printed.as_str()), (Exit::Usage, ""));
        assert!(message.starts_with("sync.yaml:3:"), "{message}");
    }

    #[test]
    fn json_output_has_line_and_column_of_problems() {
        let (exit, printed) = checked(true, BAD);
        assert_eq!(exit, Ok(Exit::Usage));
        let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!((&json["problems"][0]["line"], &json["problems"][0]["file"]), (&3.into(), &"sync.yaml".into()));
        assert!(json["problems"][0]["text"].is_string() && json["problems"][0]["remedy"].is_string(), "{json}");
        let (exit, printed) = checked(true, GOOD);
        assert_eq!(exit, Ok(Exit::Ok));
        let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!((&json["entries"][0], &json["problems"]), (&"api".into(), &serde_json::json!([])));
    }
}
