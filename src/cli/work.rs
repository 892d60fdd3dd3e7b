//! What the working commands share: from a configuration to an engine and errands, and progress while they run.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use indicatif::MultiProgress;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::exit::Failure;
use super::progress::{Progress, REFRESH};
use super::start::Context;
use super::{configuration, output};
use crate::config::Config;
use crate::copy::Copier;
use crate::daemon::{Endpoints, Engine, Errand, Front, Happening, RunReport, Single, Stop};
use crate::journal::{Journal, Trigger};

/// An engine by this configuration.
pub(super) fn engine(config: &Config, journal: Option<Journal>) -> Engine {
    Engine {
        copier: Copier::new(config.daemon.memory),
        endpoints: Arc::new(
            Endpoints::new(config.registries.clone(), configuration::unlisted())
                .within(config.daemon.bandwidth.clone()),
        ),
        journal,
    }
}

/// The chosen entries, to be run by hand.
pub(super) fn errands(config: &Config, names: &[String]) -> Result<Vec<Errand>, Failure> {
    let chosen = configuration::chosen(config, names)?;
    let entries = Arc::new(config.entries.iter().cloned().map(Arc::new).collect::<Vec<_>>());
    let is_chosen = |name| chosen.iter().any(|entry| entry.name == name);
    let errand = |entry: &Arc<crate::config::Entry>| Errand {
        entry: entry.clone(),
        entries: entries.clone(),
        trigger: Trigger::Hand,
        only: None,
    };
    Ok(entries.iter().filter(|entry| is_chosen(entry.name.clone())).map(errand).collect())
}

/// Runs the entries, some at once, and shows progress on a terminal. After an interruption none is begun. The reports
/// are in the order of the errands.
pub(super) async fn run_all(engine: &Engine, errands: &[Errand], at_once: usize, context: &Context) -> Vec<RunReport> {
    let stop = Stop { now: context.interrupted.clone(), ..Stop::default() };
    let (front, happenings) = Front::new();
    let drawing = tokio::spawn(draw_on(context.bars.clone(), happenings));
    let begun = stream::iter(errands).take_until(stop.now.cancelled());
    let reports = begun.map(|errand| run(engine, errand, &front, &stop)).buffered(at_once).collect().await;
    drop(front);
    joined(drawing).await;
    reports
}

/// Copies one manifest, and shows progress on a terminal.
pub(super) async fn copy(engine: &Engine, errand: Errand, single: Single, context: &Context) -> RunReport {
    let stop = Stop { now: context.interrupted.clone(), ..Stop::default() };
    let (front, happenings) = Front::new();
    let drawing = tokio::spawn(draw_on(context.bars.clone(), happenings));
    let engine = engine.clone();
    let report = joined(tokio::spawn(async move { engine.copy(&errand, &single, &front, &stop).await })).await;
    joined(drawing).await;
    report
}

/// Begins one run as the daemon does: on the threads of the runtime, where most of what wakes it happens. The thread of
/// the command is none of them, and each wake-up there costs system calls.
fn run(engine: &Engine, errand: &Errand, front: &Front, stop: &Stop) -> impl Future<Output = RunReport> + use<> {
    let (engine, errand, front, stop) = (engine.clone(), errand.clone(), front.clone(), stop.clone());
    joined(tokio::spawn(async move { engine.run(&errand, &front, &stop).await }))
}

/// The end of work on other threads. A panic there goes on here.
async fn joined<T>(work: JoinHandle<T>) -> T {
    // Nobody aborts it.
    work.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

/// Draws what happens, on a terminal, until the last sender has gone. Elsewhere the log tells enough.
async fn draw_on(bars: MultiProgress, mut happenings: mpsc::Receiver<(String, Happening)>) {
    if !output::draws() {
        while happenings.recv().await.is_some() {}
        return;
    }
    let mut progress = Progress::new(bars);
    let mut tick = interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => progress.refresh(),
            happening = happenings.recv() => match happening {
                Some((_, Happening::Transfer(event))) => progress.event(&event),
                Some((_, Happening::Chosen(_) | Happening::Tag(_))) => {}
                None => break,
            },
        }
    }
    progress.end_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "of the run")]
    async fn a_panic_of_a_run_is_one_of_the_command() {
        joined(tokio::spawn(async { panic!("of the run") })).await
    }
}
