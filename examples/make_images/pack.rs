//! Archives, compression and executables. Each function returns the same bytes for the same input.

use std::error::Error;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// Modification time of all files in the archives: 2024-01-01T00:00:00Z.
const CHANGED: u64 = 1_704_067_200;

/// File or folder in an archive. The name of a folder ends with `/`.
pub(super) struct Item<'a> {
    pub(super) name: &'a str,
    pub(super) mode: u32,
    pub(super) bytes: &'a [u8],
}

/// Returns a tar archive. The owner of all files is root, and the modification time is [`CHANGED`].
pub(super) fn tar(items: &[Item<'_>]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut archive = Builder::new(Vec::new());
    for item in items {
        let mut header = Header::new_ustar();
        header.set_path(item.name)?;
        header.set_entry_type(if item.name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(item.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(CHANGED);
        header.set_size(item.bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, item.bytes)?;
    }
    Ok(archive.into_inner()?)
}

/// Returns a gzip stream. The header contains no time, no file name and no operating system.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut stream = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    stream.write_all(bytes)?;
    Ok(stream.finish()?)
}

/// Returns an ELF program for Linux that prints `text` and exits.
pub(super) fn program(architecture: &str, text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let length = u16::try_from(text.len())?;
    let (machine, code) = match architecture {
        "amd64" => (62_u16, amd64_code(length)),
        "arm64" => (183_u16, arm64_code(length)),
        other => return Err(format!("no code for {other}").into()),
    };
    let size = HEADERS + (code.len() + text.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // Type of the segment (1: loadable), and permissions of the segment (5: readable and executable).
    for half in [1_u32, 5] {
        file.extend(half.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(text.as_bytes());
    Ok(file)
}

/// Returns the machine code of `write(1, text, length); exit(0)`. The bytes of `text` must follow the code.
fn amd64_code(length: u16) -> Vec<u8> {
    let [low, high] = length.to_le_bytes();
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0]; // mov eax, 1; mov edi, 1
    code.extend([0x48, 0x8d, 0x35, 16, 0, 0, 0]); // lea rsi, [rip + 16]
    code.extend([0xba, low, high, 0, 0, 0x0f, 0x05]); // mov edx, length; syscall
    code.extend([0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // mov eax, 60; xor edi, edi; syscall
    code
}

/// Returns the machine code of `write(1, text, length); exit(0)`. The bytes of `text` must follow the code.
fn arm64_code(length: u16) -> Vec<u8> {
    let instructions: [u32; 8] = [
        0xd280_0020,                          // mov x0, #1
        0x1000_00e1,                          // adr x1, . + 28
        0xd280_0002 | u32::from(length) << 5, // mov x2, #length
        0xd280_0808,                          // mov x8, #64
        0xd400_0001,                          // svc #0
        0xd280_0000,                          // mov x0, #0
        0xd280_0ba8,                          // mov x8, #93
        0xd400_0001,                          // svc #0
    ];
    instructions.into_iter().flat_map(u32::to_le_bytes).collect()
}
