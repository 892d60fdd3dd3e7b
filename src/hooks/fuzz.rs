//! The fuzz target of push events.

use super::payload;
use crate::config::Receiver;

/// Reads one body as an event for this receiver.
pub(crate) fn push_event(receiver: &Receiver, data: &[u8]) {
    if let Ok(told) = payload::read(receiver, None, data) {
        assert!(told.pushes.len() <= data.len(), "an event names more pushes than it has bytes");
    }
}
