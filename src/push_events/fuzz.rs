//! Fuzz target for the parser of push events.

use super::payload;
use crate::config::Receiver;

/// Parses one body as an event for this receiver.
pub(crate) fn push_event(receiver: &Receiver, data: &[u8]) {
    if let Ok(events) = payload::read(receiver, None, data) {
        assert!(events.pushes.len() <= data.len(), "an event names more pushes than it has bytes");
    }
}
