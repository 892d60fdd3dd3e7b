//! Support of the integration tests: servers, programs, images.

pub mod canary;
pub mod chromium;
pub mod clock;
pub mod cloud;
pub mod front;
pub mod gate;
pub mod http;
pub mod images;
pub mod large;
pub mod programs;
pub mod receiver;
pub mod registry;
pub mod rust_source;
pub mod site;
pub mod systemd;
pub mod terminal;
pub mod token_server;
