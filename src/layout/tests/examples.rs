//! Tests of the committed example images: identical to their program's output, complete, and accepted by skopeo.

use super::*;
use crate::store::Listed;

#[path = "../../../examples/make_images/content.rs"]
mod content;
#[path = "../../../examples/make_images/pack.rs"]
mod pack;

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/images")
}

#[test]
fn committed_images_equal_output_of_their_program() {
    let (committed, made) = (files(&images()), content::layout().unwrap());
    assert_eq!(committed.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    assert!(committed == made, "run: cargo run --example make_images -- examples/images");
    let total: usize = made.values().map(Vec::len).sum();
    assert!(total < 300_000, "{total} bytes");
}

#[tokio::test]
async fn example_images_are_complete_and_share_base_layers() {
    let layout = Layout::open(&images());
    let map = tag_map(&layout).await;
    let signature = format!("sha256-{}.sig", map["1.1.0"].unwrap().hex());
    assert_eq!(map.keys().collect::<Vec<_>>(), ["1.0.0", "1.1.0", "chart-0.1.0", "latest", signature.as_str()]);
    assert_eq!(map["latest"], map["1.1.0"]);

    let mut layers = BTreeMap::<Digest, usize>::new();
    for version in ["1.0.0", "1.1.0"] {
        let index = layout.manifest(&tag(version).into()).await.unwrap();
        let index = index.view().unwrap();
        let platforms: Vec<String> =
            index.manifests().iter().map(|child| child.platform.as_ref().unwrap().to_string()).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
        for child in index.manifests() {
            let image = layout.manifest(&child.digest.into()).await.unwrap();
            for blob in image.view().unwrap().blobs() {
                assert_eq!(Digest::of(&read(&layout, blob, 0).await.unwrap()), blob.digest);
                *layers.entry(blob.digest).or_default() += 1;
            }
        }
    }
    assert_eq!(layers.values().filter(|uses| **uses == 4).count(), 2, "two layers of four images are shared");

    let referrers = layout.referrers(&map["1.1.0"].unwrap(), Listed::Possible).await.unwrap();
    let kinds: Vec<_> = referrers.manifests.iter().map(|one| one.artifact_type.as_deref()).collect();
    assert_eq!(kinds, [Some("application/spdx+json")]);
    for other in ["chart-0.1.0", signature.as_str()] {
        let manifest = layout.manifest(&tag(other).into()).await.unwrap();
        for blob in manifest.view().unwrap().blobs() {
            assert_eq!(Digest::of(&read(&layout, blob, 0).await.unwrap()), blob.digest);
        }
    }
}

#[test]
fn skopeo_copies_both_platforms_to_another_format() {
    let (folder, images) = (tempfile::tempdir().unwrap(), images());
    for architecture in ["amd64", "arm64"] {
        for version in ["1.0.0", "latest"] {
            let from = format!("oci:{}:{version}", images.display());
            let to = format!("docker-archive:{}/{architecture}-{version}.tar:hello:{version}", folder.path().display());
            skopeo::skopeo(&["--override-arch", architecture, "copy", "--quiet", &from, &to]);
            let inspected = skopeo::skopeo(&["--override-arch", architecture, "inspect", &from]);
            let inspected: Value = serde_json::from_slice(&inspected).unwrap();
            assert_eq!(inspected["Architecture"], architecture);
        }
    }
}
