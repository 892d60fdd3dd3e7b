//! Section `upload` of a registry: settings for uploads of blobs.

use std::ops::RangeInclusive;

use crate::config::keys::table::{Shape, Table, key};
use crate::config::reader::{Reader, Value, list_words};
use crate::config::yaml::scalar;
use crate::registry::{UploadMode, Uploads};

/// Bounds of the chunk size, in bytes.
pub(crate) const CHUNK: RangeInclusive<u64> = 1 << 20..=64 << 20;

pub(crate) static UPLOAD: Table = Table {
    place: "under `upload`",
    groups: &[&[
        key(
            "mode",
            Shape::Word(&UploadMode::NAMES),
            "`monolithic` sends a blob in one piece, `chunked` in chunks. `auto` uses the mode that the registry is \
             known to accept, and the other mode if the first mode fails.",
            r#""chunked""#,
        )
        .with_default(r#""auto""#),
        key(
            "chunk",
            Shape::Size,
            "Length of a chunk, 1MiB to 64MiB. Each upload in flight keeps one chunk in memory. Default: 4MiB for \
             Azure, else 8MiB.",
            r#""16MiB""#,
        ),
    ]],
    required: &[],
};

/// Reads the section. If the value is not a map, returns `None`.
pub(crate) fn read_upload(reader: &Reader<'_>, value: &Value<'_>) -> Option<Uploads> {
    let fields = reader.fields(value, &UPLOAD)?;
    let mode = fields.get("mode").and_then(|value| {
        let text = reader.text(value, &list_words(&UploadMode::NAMES))?;
        reader.accept(value, text.parse::<UploadMode>())
    });
    let mode = mode.unwrap_or_default();
    let chunk = fields.get("chunk").and_then(|value| {
        let size = reader.size(value, *CHUNK.start())?;
        if size > *CHUNK.end() {
            let most = scalar::format_size(*CHUNK.end());
            reader.refuse(value, format!("{} is too large: the maximum is {most}", scalar::format_size(size)));
        } else if mode == UploadMode::Monolithic {
            reader.refuse(value, "`chunk` has no effect with `mode: monolithic`: remove one of the two keys");
        }
        Some(size)
    });
    fields.assert_all_read();
    Some(Uploads { mode, chunk })
}
