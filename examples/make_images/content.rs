//! Content of the example layout: two versions of an image, a signature, an SBOM and a chart.
//!
//! The keys of every JSON object are in alphabetical order. The bytes are therefore the same with and without the
//! feature `preserve_order` of `serde_json`.

use std::collections::BTreeMap;
use std::error::Error;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::pack::{Item, gzip, program, tar};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CREATED: &str = "2024-01-01T00:00:00Z";
const PLATFORMS: [&str; 2] = ["amd64", "arm64"];

/// Signature of [`SIGNED`]. The private key was deleted. README.md describes the creation of the signature.
const SIGNATURE: &str = include_str!("cosign.sig");
/// Payload of the signature.
const SIGNED: &str = include_str!("cosign.payload");

/// Returns the files of the layout, by path.
pub(super) fn layout() -> Result<BTreeMap<String, Vec<u8>>> {
    let mut blobs = Blobs::default();
    let old = image(&mut blobs, "1.0.0")?;
    let new = image(&mut blobs, "1.1.0")?;
    let signature = signature(&mut blobs, &new)?;
    let sbom = sbom(&mut blobs, &new);
    let chart = chart(&mut blobs)?;

    let signature_tag = format!("{}.sig", digest_of(&new).replace(':', "-"));
    let manifests = [
        named(&old, "1.0.0"),
        named(&new, "1.1.0"),
        named(&new, "latest"),
        named(&signature, &signature_tag),
        named(&chart, "chart-0.1.0"),
        sbom,
    ];
    let index = json!({"manifests": manifests, "mediaType": INDEX, "schemaVersion": 2});
    let mut files = blobs.0;
    files.insert("index.json".to_owned(), format!("{index:#}\n").into());
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    Ok(files)
}

/// Blobs of the layout, by path.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds a blob, and returns its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let hex = sha256(&bytes);
        let descriptor = json!({"digest": format!("sha256:{hex}"), "mediaType": media_type, "size": bytes.len()});
        self.0.insert(format!("blobs/sha256/{hex}"), bytes);
        descriptor
    }

    fn add_json(&mut self, media_type: &str, value: &Value) -> Value {
        self.add(media_type, value.to_string().into())
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn digest_of(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap_or_default()
}

fn with(descriptor: &Value, key: &str, value: Value) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor[key] = value;
    let sorted: BTreeMap<String, Value> = descriptor.as_object().cloned().unwrap_or_default().into_iter().collect();
    sorted.into_iter().collect()
}

fn named(descriptor: &Value, name: &str) -> Value {
    with(descriptor, "annotations", json!({"org.opencontainers.image.ref.name": name}))
}

/// Adds an image for two platforms. All versions and platforms share the first two layers.
fn image(blobs: &mut Blobs, version: &str) -> Result<Value> {
    let mut manifests = Vec::new();
    for architecture in PLATFORMS {
        let hello = program(architecture, &format!("hello {version} on linux/{architecture}\n"))?;
        let layers = [
            ("base files", tar(&base())?),
            ("licence", tar(&licence())?),
            ("hello", tar(&[Item { name: "hello", mode: 0o755, bytes: &hello }])?),
        ];
        let mut described = Vec::new();
        for (_, layer) in &layers {
            described.push(blobs.add(LAYER, gzip(layer)?));
        }
        let diff_ids: Vec<String> = layers.iter().map(|(_, layer)| format!("sha256:{}", sha256(layer))).collect();
        let history: Vec<Value> =
            layers.iter().map(|(what, _)| json!({"created": CREATED, "created_by": what})).collect();
        let config = blobs.add_json(
            CONFIG,
            &json!({
                "architecture": architecture,
                "config": {
                    "Entrypoint": ["/hello"],
                    "Labels": {"org.opencontainers.image.version": version},
                    "User": "65534:65534",
                    "WorkingDir": "/",
                },
                "created": CREATED,
                "history": history,
                "os": "linux",
                "rootfs": {"diff_ids": diff_ids, "type": "layers"},
            }),
        );
        let body = json!({"config": config, "layers": described, "mediaType": MANIFEST, "schemaVersion": 2});
        let manifest = blobs.add_json(MANIFEST, &body);
        manifests.push(with(&manifest, "platform", json!({"architecture": architecture, "os": "linux"})));
    }
    let annotations = json!({
        "org.opencontainers.image.created": CREATED,
        "org.opencontainers.image.title": "hello",
        "org.opencontainers.image.version": version,
    });
    let body = json!({"annotations": annotations, "manifests": manifests, "mediaType": INDEX, "schemaVersion": 2});
    Ok(blobs.add_json(INDEX, &body))
}

fn base() -> [Item<'static>; 5] {
    let os_release = b"NAME=\"Hello\"\nID=hello\nPRETTY_NAME=\"Hello, an example of transship\"\n";
    [
        Item { name: "etc/", mode: 0o755, bytes: b"" },
        Item { name: "etc/os-release", mode: 0o644, bytes: os_release },
        Item {
            name: "etc/passwd",
            mode: 0o644,
            bytes: b"root:x:0:0:root:/:/hello\nnobody:x:65534:65534:nobody:/:/hello\n",
        },
        Item { name: "etc/group", mode: 0o644, bytes: b"root:x:0:\nnogroup:x:65534:\n" },
        Item { name: "tmp/", mode: 0o1777, bytes: b"" },
    ]
}

fn licence() -> [Item<'static>; 5] {
    let folder = |name| Item { name, mode: 0o755, bytes: b"" };
    [
        folder("usr/"),
        folder("usr/share/"),
        folder("usr/share/licenses/"),
        folder("usr/share/licenses/hello/"),
        Item { name: "usr/share/licenses/hello/LICENSE", mode: 0o644, bytes: include_bytes!("../../LICENSE") },
    ]
}

/// Adds a signature in the form of cosign 2: an image manifest whose layer is the signed payload (cosign, "Signature
/// spec").
fn signature(blobs: &mut Blobs, subject: &Value) -> Result<Value> {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": "registry.example/hello"},
            "image": {"docker-manifest-digest": digest_of(subject)},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string();
    if payload != SIGNED {
        return Err(format!(
            "the images have changed, and cosign.sig does not match them: sign this payload again: {payload}"
        )
        .into());
    }
    let diff_id = format!("sha256:{}", sha256(payload.as_bytes()));
    let layer = blobs.add("application/vnd.dev.cosign.simplesigning.v1+json", payload.into());
    let layer = with(&layer, "annotations", json!({"dev.cosignproject.cosign/signature": SIGNATURE.trim()}));
    let never = "0001-01-01T00:00:00Z";
    let config = blobs.add_json(
        CONFIG,
        &json!({
            "architecture": "", "config": {}, "created": never, "history": [{"created": never}], "os": "",
            "rootfs": {"diff_ids": [diff_id], "type": "layers"},
        }),
    );
    let body = json!({"config": config, "layers": [layer], "mediaType": MANIFEST, "schemaVersion": 2});
    Ok(blobs.add_json(MANIFEST, &body))
}

/// Adds an SBOM whose subject is the image. The SBOM has no tag.
fn sbom(blobs: &mut Blobs, subject: &Value) -> Value {
    const SPDX: &str = "application/spdx+json";
    let document = json!({
        "SPDXID": "SPDXRef-DOCUMENT",
        "creationInfo": {"created": CREATED, "creators": ["Tool: make_images"]},
        "dataLicense": "CC0-1.0",
        "documentNamespace": format!("https://example.invalid/spdx/hello/{}", digest_of(subject)),
        "name": "hello 1.1.0",
        "packages": [{
            "SPDXID": "SPDXRef-hello",
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "Apache-2.0",
            "licenseDeclared": "Apache-2.0",
            "name": "hello",
            "versionInfo": "1.1.0",
        }],
        "relationships": [{
            "relatedSpdxElement": "SPDXRef-hello",
            "relationshipType": "DESCRIBES",
            "spdxElementId": "SPDXRef-DOCUMENT",
        }],
        "spdxVersion": "SPDX-2.3",
    });
    let layer = blobs.add_json(SPDX, &document);
    let config = blobs.add_json("application/vnd.oci.empty.v1+json", &json!({}));
    let body = json!({
        "annotations": {"org.opencontainers.image.created": CREATED},
        "artifactType": SPDX,
        "config": config,
        "layers": [layer],
        "mediaType": MANIFEST,
        "schemaVersion": 2,
        "subject": subject,
    });
    let manifest = blobs.add_json(MANIFEST, &body);
    with(&manifest, "artifactType", SPDX.into())
}

/// Adds a Helm chart that runs the image as a job.
fn chart(blobs: &mut Blobs) -> Result<Value> {
    let metadata = "apiVersion: v2\nname: hello\nversion: 0.1.0\nappVersion: 1.1.0\ndescription: Says hello \
        once\ntype: application\n";
    let values = "image: registry.example/hello:1.1.0\n";
    let job = r#"apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: hello
          image: {{ .Values.image | quote }}
"#;
    let item = |name, bytes| Item { name, mode: 0o644, bytes };
    let archive = tar(&[
        item("hello/Chart.yaml", metadata.as_bytes()),
        item("hello/values.yaml", values.as_bytes()),
        item("hello/templates/job.yaml", job.as_bytes()),
    ])?;
    let layer = blobs.add("application/vnd.cncf.helm.chart.content.v1.tar+gzip", gzip(&archive)?);
    let config = blobs.add_json(
        "application/vnd.cncf.helm.config.v1+json",
        &json!({
            "apiVersion": "v2", "appVersion": "1.1.0", "description": "Says hello once", "name": "hello",
            "type": "application", "version": "0.1.0",
        }),
    );
    let annotations = json!({"org.opencontainers.image.title": "hello", "org.opencontainers.image.version": "0.1.0"});
    let body = json!({
        "annotations": annotations, "config": config, "layers": [layer], "mediaType": MANIFEST, "schemaVersion": 2,
    });
    Ok(blobs.add_json(MANIFEST, &body))
}
