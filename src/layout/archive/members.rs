//! Index of a tar file: the position of each regular file. The code reads the headers one by one, and does not read the
//! content.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tar::{EntryType, Header, PaxExtensions};

use crate::layout::fault::Fault;

/// Name of the file that lists the images.
pub(super) const INDEX: &str = "index.json";
/// Size of a header, in bytes. Content is padded to a multiple of this size.
pub(super) const BLOCK: u64 = 512;
/// Maximum number of files in an archive. The limit bounds the memory.
const MAX_MEMBERS: usize = 400_000;
/// Maximum size of the content of an extension header, in bytes.
const MAX_EXTENSION: u64 = 64 << 10;
/// First bytes of the files of each compression format, with the command that decompresses such a file.
const COMPRESSIONS: [(&[u8], &str); 4] =
    [(&[0x1f, 0x8b], "gunzip"), (&[0x28, 0xb5, 0x2f, 0xfd], "unzstd"), (b"BZh", "bunzip2"), (b"\xfd7zXZ", "unxz")];

/// Position of the content of a regular file within a tar file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Position of the first byte.
    pub(super) start: u64,
    /// Number of bytes.
    pub(super) length: u64,
}

/// Member of a tar file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    /// Regular file.
    File(Span),
    /// Link or device, which transship does not read.
    Other,
    /// Member with an invalid name, such as `../x` or a name that is not UTF-8. In [`Members`], replacement characters
    /// stand for the invalid bytes.
    Unnamed,
}

/// Members of a tar file by name, without folders. If several members have the same name, the last member counts, as
/// with `tar -x`.
pub(super) type Members = HashMap<String, Member>;

/// Reads the members of a tar file of `length` bytes. `path` is for messages.
pub(super) fn read_members(file: &File, length: u64, path: &Path) -> Result<Members, Fault> {
    let damaged = |reason: String| Fault::Shape { path: path.to_owned(), reason };
    let mut members = Members::new();
    let (mut offset, mut extension) = (0, Extension::default());
    while offset < length {
        let mut block = [0; BLOCK as usize];
        if length - offset < BLOCK {
            return Err(damaged(no_header(file, offset)));
        }
        file.read_exact_at(&mut block, offset).map_err(Fault::io("read", path))?;
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let header = Header::from_byte_slice(&block);
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(damaged(no_header(file, offset)));
        }
        let kind = header.entry_type();
        let size = match extension.size.filter(|_| !is_extension(kind)) {
            Some(size) => size,
            None => header.entry_size().map_err(|error| damaged(format!("its header at byte {offset}: {error}")))?,
        };
        let start = offset + BLOCK;
        let size = if has_content(kind) { size } else { 0 };
        let end = size.checked_next_multiple_of(BLOCK).and_then(|padded| start.checked_add(padded));
        let Some(end) = end.filter(|_| start + size <= length) else {
            return Err(damaged(format!("the file is truncated: its member at byte {offset} is incomplete")));
        };
        if is_extension(kind) {
            if size > MAX_EXTENSION {
                return Err(damaged(format!("its header at byte {offset} is larger than {MAX_EXTENSION} bytes")));
            }
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            file.read_exact_at(&mut bytes, start).map_err(Fault::io("read", path))?;
            extension.read(kind, &bytes);
        } else {
            let name = extension.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
            extension = Extension::default();
            if !kind.is_dir() {
                let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous);
                let member = if is_file { Member::File(Span { start, length: size }) } else { Member::Other };
                let named = normalize_name(&name).map(|name| (name, member));
                let lossy = || (String::from_utf8_lossy(&name).into_owned(), Member::Unnamed);
                members.extend([named.unwrap_or_else(lossy)]);
            }
            if members.len() > MAX_MEMBERS {
                return Err(damaged(format!("the archive has more than {MAX_MEMBERS} files")));
            }
        }
        offset = end;
    }
    Ok(members)
}

/// Name and size from extension headers. These values replace the values in the header of the next member.
#[derive(Debug, Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extension {
    /// Takes the name or the size from the content of an extension header.
    fn read(&mut self, kind: EntryType, bytes: &[u8]) {
        if kind == EntryType::GNULongName {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            self.name = Some(bytes[..end].to_vec());
        } else if kind == EntryType::XHeader {
            for record in PaxExtensions::new(bytes).flatten() {
                match record.key_bytes() {
                    b"path" => self.name = Some(record.value_bytes().to_vec()),
                    // If the size is not a number, the caller reports the member because of the excessive size.
                    b"size" => {
                        self.size = Some(record.value().ok().and_then(|size| size.parse().ok()).unwrap_or(u64::MAX));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Returns true for an extension header. Its content applies to the next member or to all later members.
fn is_extension(kind: EntryType) -> bool {
    use EntryType::{GNULongLink, GNULongName, XGlobalHeader, XHeader};
    matches!(kind, GNULongLink | GNULongName | XGlobalHeader | XHeader)
}

/// Returns true if content follows the header of a member of this kind. A link, for example, has no content, even if
/// the header states a size.
fn has_content(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    !matches!(kind, Block | Char | Directory | Fifo | Link | Symlink)
}

/// Returns the checksum of a header. The sum counts the bytes of the checksum field as spaces.
fn checksum(block: &[u8; BLOCK as usize]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}

/// Returns the name without `./`. Returns `None` for an empty name, a name with `..`, and a name that is not text.
fn normalize_name(name: &[u8]) -> Option<String> {
    if name.contains(&0) {
        return None;
    }
    let parts: Vec<&str> =
        std::str::from_utf8(name).ok()?.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

/// Returns the error message for a position without a valid header.
fn no_header(file: &File, offset: u64) -> String {
    let mut magic = [0; 6];
    let read = file.read_at(&mut magic, offset).unwrap_or_default();
    match COMPRESSIONS.iter().find(|(first, _)| offset == 0 && magic[..read].starts_with(first)) {
        Some((_, command)) => format!("the file is compressed: decompress it first, with `{command}`"),
        None if offset == 0 => "the file is not a tar archive".to_owned(),
        None => format!("the archive is damaged at byte {offset}: there is no header"),
    }
}
