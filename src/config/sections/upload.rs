//! Section `upload` under a registry: the form of blob uploads.

use std::ops::RangeInclusive;

use crate::config::keys::table::{Shape, Table, key};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::scalar;
use crate::registry::{UploadMode, Uploads};

/// Bounds of a chunk, in bytes.
pub(crate) const CHUNK: RangeInclusive<u64> = 1 << 20..=64 << 20;

pub(crate) static UPLOAD: Table = Table {
    place: "under `upload`",
    groups: &[&[
        key(
            "mode",
            Shape::Word(&UploadMode::NAMES),
            "In one piece (monolithic), in chunks (chunked), or as the registry is known to take them and the other \
             way where it turns out that it does not (auto).",
            r#""chunked""#,
        )
        .with_default(r#""auto""#),
        key(
            "chunk",
            Shape::Size,
            "The length of a chunk, 1MiB to 64MiB; each upload in flight holds one in memory. Default: 4MiB for Azure, \
             else 8MiB.",
            r#""16MiB""#,
        ),
    ]],
    required: &[],
};

/// Reads the form of blob uploads. Returns `None` if the value is no map.
pub(crate) fn read_upload(reader: &Reader<'_>, value: &Value<'_>) -> Option<Uploads> {
    let fields = reader.fields(value, &UPLOAD)?;
    let mode = fields.get("mode").and_then(|value| {
        let text = reader.text(value, "auto, monolithic or chunked")?;
        reader.accept(value, text.parse::<UploadMode>())
    });
    let mode = mode.unwrap_or_default();
    let chunk = fields.get("chunk").and_then(|value| {
        let size = reader.size(value, *CHUNK.start())?;
        if size > *CHUNK.end() {
            let most = scalar::format_size(*CHUNK.end());
            reader.refuse(value, format!("{} is too much: {most} at most", scalar::format_size(size)));
        } else if mode == UploadMode::Monolithic {
            reader.refuse(value, "there are no chunks with `mode: monolithic`");
        }
        Some(size)
    });
    fields.assert_all_read();
    Some(Uploads { mode, chunk })
}
