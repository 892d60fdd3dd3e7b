//! Writes the example images: `cargo run --example make_images -- examples/images`.
//!
//! The program reads no clock and no network, so each run writes the same bytes. The program uses no code of transship,
//! so the example images can test transship.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

mod content;
mod pack;

#[expect(clippy::print_stderr, reason = "the program prints only its error")]
fn main() -> ExitCode {
    match write_images() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make_images: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_images() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: make_images FOLDER")?;
    let folder = Path::new(&folder);
    if folder.exists() && !folder.join("oci-layout").exists() {
        return Err(format!("{} exists and is not an image layout: name another folder", folder.display()).into());
    }
    let blobs = folder.join("blobs");
    if blobs.exists() {
        fs::remove_dir_all(&blobs)?;
    }
    for (name, bytes) in content::layout()? {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}
