//! Opens what `tags` and `inspect` read: a layout on disk, or a repository with the options that the configuration has for its
//! registry, if there is one.

use std::sync::Arc;

use super::exit::Failure;
use super::place::{Home, Place};
use super::start::Context;
use crate::layout::Layout;
use crate::store::Source;

/// How registries are spoken to by the commands that need no `sync.yaml`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// Speak HTTP to this registry, as `plain_http` does in the configuration; may be repeated
    #[arg(long, value_name = "HOST")]
    pub plain_http: Vec<crate::oci::RegistryHost>,
}

/// Opens a place for reading.
pub(super) fn source(place: &Place, _connection: &Connection, _context: &Context) -> Result<Arc<dyn Source>, Failure> {
    match &place.home {
        Home::Layout(path) => Ok(Layout::open(path)),
        Home::Registry(_) => Err(anyhow::anyhow!("not yet").into()),
    }
}
