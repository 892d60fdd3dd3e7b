//! Section `credentials.gcp`: an identity at Google Cloud.

use super::secret::check_readable;
use super::service_address::{check_metadata_address, read_address};
use crate::config::keys::table::{ANY, SafeForm, Table, key};
use crate::config::reader::{Reader, Value};
use crate::registry::Gcp;

const METADATA: &str = "http://metadata.google.internal";

pub(crate) static GCP: Table = Table {
    place: "under `gcp`",
    groups: &[&[
        key(
            "key",
            ANY,
            "JSON file with the key of a service account. Default: $GOOGLE_APPLICATION_CREDENTIALS, else the \
             metadata server of this machine.",
            r#""/etc/transship/gcp.json""#,
        )
        .safe_as(SafeForm::Path),
        key(
            "metadata",
            ANY,
            "Address of the metadata server. Default: $GCE_METADATA_HOST, else http://metadata.google.internal.",
            r#""http://169.254.169.254""#,
        ),
    ]],
    required: &[],
};

/// Reads the section. If the reader recorded a problem, returns `None`.
pub(crate) fn read_gcp(reader: &Reader<'_>, value: &Value<'_>) -> Option<Gcp> {
    let fields = reader.fields(value, &GCP)?;
    let variable = |name: &str| (reader.environment)(name).filter(|text| !text.is_empty());
    let file = |value: &Value<'_>| {
        let file = reader.path(value, "the path of a service account's key")?;
        reader.accept(value, check_readable(&file))?;
        Some(file)
    };
    let key = match fields.get("key") {
        Some(value) => file(value).map(Some),
        // If the map has `metadata`, the variable `GOOGLE_APPLICATION_CREDENTIALS` is ignored.
        None if fields.has("metadata") => Some(None),
        None => Some(variable("GOOGLE_APPLICATION_CREDENTIALS").map(Into::into)),
    };
    let metadata = match (fields.get("metadata"), variable("GCE_METADATA_HOST")) {
        (Some(value), _) => read_address(reader, value, check_metadata_address),
        (None, Some(host)) => {
            let describe = |reason| format!("the environment variable GCE_METADATA_HOST: {reason}");
            reader.accept(value, check_metadata_address(&format!("http://{host}")).map_err(describe))
        }
        (None, None) => reader.accept(value, check_metadata_address(METADATA)),
    };
    fields.assert_all_read();
    Some(Gcp { key: key?, metadata: metadata? })
}
