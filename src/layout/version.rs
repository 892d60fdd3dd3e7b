//! Version file of a layout, `oci-layout`.

use std::path::Path;

use super::content::Content;
use super::fault::Fault;
use super::folder::Folder;

/// Name of the version file.
pub(super) const VERSION: &str = "oci-layout";
/// Maximum size of the version file, in bytes.
const MAX_VERSION: u64 = 64 << 10;

/// Opens the version file of a layout in a folder; `None` if it does not exist.
pub(super) fn open_version(root: &Folder) -> Result<Option<Content>, Fault> {
    Ok(root.open_file(VERSION)?.map(|(file, length)| Content::from_file(file, length)))
}

/// Returns an error if the version is not 1.0.0. A layout without a version file is accepted, because `skopeo` also
/// accepts such a layout.
pub(super) fn check_version(file: Option<Content>, root: &Path) -> Result<(), Fault> {
    #[derive(serde::Deserialize)]
    struct Version {
        #[serde(rename = "imageLayoutVersion")]
        version: Option<String>,
    }
    let path = root.join(VERSION);
    let Some(file) = file else { return Ok(()) };
    let bytes = file.read_up_to(MAX_VERSION, &path)?;
    let body: Version = serde_json::from_slice(&bytes).map_err(Fault::json(&path))?;
    match body.version.as_deref() {
        Some("1.0.0") => Ok(()),
        version => Err(Fault::Version { path, version: version.unwrap_or_default().to_owned() }),
    }
}
