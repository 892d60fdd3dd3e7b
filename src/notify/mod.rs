//! Telling others what happened, by webhook: what a message says, how it is signed, and one attempt to bring it. When something
//! is worth a message, and that it is brought again, is for `daemon`.

mod body;
mod options;
mod post;
mod sign;

pub use body::{Body, Change, Data, Held, List, RunFacts};
pub use options::{Address, AddressError, Event, EventError, Notify, Receiver, SigningKey, SigningKeyError, Webhook};
pub use post::{Message, Post, Refusal};
