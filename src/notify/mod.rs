//! Outgoing notifications by webhook: the body of a message, its signature, and one attempt to deliver the message. The
//! module `daemon` decides which events cause a message, and when a failed delivery is repeated.

mod body;
mod options;
mod post;
mod sign;

pub use body::{Body, Change, Data, List, RunFacts, Withheld};
pub use options::{Address, AddressError, Event, EventError, Notify, Receiver, SigningKey, SigningKeyError, Webhook};
pub use post::{Message, Post, Refusal};
