//! Reads a `sync.yaml` and prints the changes that a run would make. The program changes nothing.
//!
//! ```sh
//! cargo run --example plan_entry -- examples/quickstart.yaml
//! cargo run --example plan_entry -- sync.yaml alpine
//! ```

use std::io::{Write as _, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use transship::plan::Action;
use transship::registry::Options;
use transship::sync::{Engine, EntryPreview, RunRequest, TagOutcome, preview};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("usage: plan_entry FILE [ENTRY]")?;
    let name = arguments.next();
    let environment = |name: &str| std::env::var(name).ok();

    // If the configuration is invalid, the error contains all problems with their lines.
    let config = transship::config::load(Path::new(&file), &environment)?;
    let engine = Engine::new(&config, Options::unlisted(&environment), None);
    let mut requests = RunRequest::manual(&config);
    if let Some(name) = name {
        requests.retain(|request| request.entry.name.as_str() == name);
        anyhow::ensure!(!requests.is_empty(), "{file} has no entry {name}");
    }
    let mut failed = false;
    for request in &requests {
        let preview = preview(&engine, request).await;
        print(&preview)?;
        failed |= preview.has_failures();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the planned changes of one entry to standard output, and the failures to standard error.
fn print(preview: &EntryPreview) -> anyhow::Result<()> {
    let entry = &preview.entry;
    if !preview.has_changes() {
        writeln!(stdout(), "{entry}: nothing to copy")?;
    }
    for tag in preview.pairs.iter().flat_map(|pair| &pair.tags) {
        let target = &tag.target;
        let name = tag.tag.as_ref().map_or_else(|| "a digest without tag".to_owned(), ToString::to_string);
        match &tag.action {
            Some(Action::Copy) => writeln!(stdout(), "{entry}: copy {name} to {target}")?,
            Some(Action::Replace { previous } | Action::ReplaceKeeping { previous, .. }) => {
                writeln!(stdout(), "{entry}: replace {name} at {target}, which is {} now", previous.short())?;
            }
            // The target already has the tag, or a rule forbids the change.
            Some(_) => {}
            None => match &tag.failure {
                Some(TagOutcome::Failed { message, .. }) => writeln!(stderr(), "{entry}: {name}: {message}")?,
                other => writeln!(stderr(), "{entry}: {name} at {target} cannot be planned: {other:?}")?,
            },
        }
    }
    for problem in &preview.problems {
        writeln!(stderr(), "{entry}: {problem}")?;
    }
    Ok(())
}
