//! What the working commands share: from a configuration to an engine and errands, and progress while they run.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::exit::Failure;
use super::progress::{Progress, REFRESH};
use super::start::Context;
use super::{configuration, output};
use crate::config::Config;
use crate::copy::Copier;
use crate::daemon::{Endpoints, Engine, Errand, Front, Happening, RunReport, Stop};
use crate::journal::{Journal, Trigger};

/// An engine by this configuration.
pub(super) fn engine(config: &Config, journal: Option<Journal>) -> Engine {
    Engine {
        copier: Copier::new(config.daemon.memory),
        endpoints: Arc::new(Endpoints::new(config.registries.clone())),
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
    };
    Ok(entries.iter().filter(|entry| is_chosen(entry.name.clone())).map(errand).collect())
}

/// Runs the entries, some at once, and shows progress on a terminal. After an interruption none is begun. The reports
/// are in the order of the errands.
pub(super) async fn run_all(engine: &Engine, errands: &[Errand], at_once: usize, context: &Context) -> Vec<RunReport> {
    let stop = Stop { now: context.interrupted.clone(), ..Stop::default() };
    let (front, happenings) = Front::new();
    let begun = stream::iter(errands).take_until(stop.now.cancelled());
    let work = async {
        let front = front;
        begun.map(|errand| engine.run(errand, &front, &stop)).buffered(at_once).collect().await
    };
    let (reports, ()) = futures_util::join!(work, draw_on(context, happenings));
    reports
}

/// Draws what happens, on a terminal, until the last sender has gone. Elsewhere the log tells enough.
pub(super) async fn draw_on(context: &Context, mut happenings: mpsc::Receiver<(String, Happening)>) {
    if !output::draws() {
        while happenings.recv().await.is_some() {}
        return;
    }
    let mut progress = Progress::new(context.bars.clone());
    let mut tick = interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => progress.refresh(),
            happening = happenings.recv() => match happening {
                Some((_, Happening::Transfer(event))) => progress.event(&event),
                Some((_, Happening::Tag(_))) => {}
                None => break,
            },
        }
    }
    progress.end_all();
}
