//! Which rows `history` and `evidence` show.

use super::units::When;
use crate::oci::Digest;

/// The filters that `history` and `evidence` share. What is not given does not restrict.
#[derive(Debug, Clone, clap::Args)]
pub struct Filter {
    /// Only this entry
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Only this repository, or this tag or digest of it, at either side
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Only this digest
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<Digest>,
    /// Only from then on: how long ago (7d), a date or a moment
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Only until then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,
    /// At most so many, the latest
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub limit: usize,
}
