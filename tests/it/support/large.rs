//! Image with one large layer, written directly into the storage of Debian's registry, so that no upload is needed.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use transship::oci::{Digest, Digester};

/// Block size; each block of the layer differs.
const BLOCK: u64 = 1024 * 1024;

/// Writes a sparse layer of `size` bytes, in which each MiB begins with its number, followed by zeros. Returns its
/// digest.
fn write_layer(file: &Path, size: u64) -> Digest {
    let mut layer = File::create_new(file).expect("a new file in a temporary folder");
    layer.set_len(size).expect("a sparse file");
    for number in 0..size / BLOCK {
        layer.seek(SeekFrom::Start(number * BLOCK)).expect("a place in a file");
        layer.write_all(&number.to_be_bytes()).expect("room for some pages");
    }
    digest_of(file)
}

/// Returns the digest of a file of any length.
pub fn digest_of(file: &Path) -> Digest {
    let mut digester = Digester::like(&Digest::of(b""));
    let mut file = File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        match file.read(&mut buffer).expect("the file can be read") {
            0 => return digester.finish(),
            length => digester.update(&buffer[..length]),
        }
    }
}

/// Returns the path of a blob in the storage of Debian's registry.
pub fn blob_path(storage: &Path, digest: Digest) -> PathBuf {
    let hex = digest.hex();
    storage.join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

/// Writes an image with one layer of `size` bytes into the storage of a registry, without its manifest. Returns the
/// manifest, which the test pushes by the API, and the digest of the layer.
pub fn put(storage: &Path, repository: &str, size: u64) -> (String, Digest) {
    let new = storage.join("new-layer");
    let layer = write_layer(&new, size);
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.to_string()]},
    });
    let config = config.to_string();
    fs::write(storage.join("new-config"), &config).expect("a temporary file");
    let of_config = Digest::of(config.as_bytes());
    for (digest, from) in [(layer, new), (of_config, storage.join("new-config"))] {
        let place = blob_path(storage, digest);
        fs::create_dir_all(place.parent().expect("it is in a folder")).expect("a folder of the storage");
        fs::rename(from, place).expect("a file of the storage");
        let links = storage.join("data/docker/registry/v2/repositories").join(repository).join("_layers/sha256");
        fs::create_dir_all(links.join(digest.hex())).expect("a folder of the storage");
        fs::write(links.join(digest.hex()).join("link"), digest.to_string()).expect("a file of the storage");
    }
    let media_type = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type("manifest.v1+json"),
        "config": {"mediaType": media_type("config.v1+json"), "digest": of_config.to_string(), "size": config.len()},
        "layers": [{"mediaType": media_type("layer.v1.tar"), "digest": layer.to_string(), "size": size}],
    });
    (manifest.to_string(), layer)
}
