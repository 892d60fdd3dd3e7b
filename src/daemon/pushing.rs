//! Delivery of push events from their port to the loop, as one command for each entry. The module `push_events` finds
//! the entries that read from the pushed repositories. The loop decides when the runs of these entries start.

use async_trait::async_trait;

use super::{Command, Control, Refusal};
use crate::journal::Trigger;
use crate::push_events::{Deliver, Push, Undelivered};
use crate::sync::TagFilter;

#[async_trait]
impl Deliver for Control {
    async fn run(&self, entry: &str, pushes: &[&Push]) -> Result<(), Undelivered> {
        let tag = |push: &&Push| Some(TagFilter::from_tag(push.repository.clone(), push.tag.clone()));
        let Some(only) = pushes.iter().map(tag).reduce(TagFilter::union) else { return Ok(()) };
        let command = Command::Run { entry: entry.to_owned(), trigger: Trigger::PushEvent, only };
        match self.ask(command).await {
            Ok(_) => Ok(()),
            Err(Refusal::Ending) => Err(Undelivered::Ending),
            Err(refusal) => Err(Undelivered::Refused(refusal.to_string())),
        }
    }
}
