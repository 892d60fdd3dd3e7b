//! Tests of the Kubernetes manifests against the schemas of Kubernetes and against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{file, run, text};
use crate::support::programs::transship_command;

const FOLDER: &str = "packaging/kubernetes";

/// File for kustomize, which is not applied to the cluster.
const KUSTOMIZATION: &str = "kustomization.yaml";

/// Example that must be edited before it is applied.
const EXAMPLE: &str = "secret.example.yaml";

fn read(name: &str) -> Value {
    serde_yaml::from_str(&text(&format!("{FOLDER}/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the manifests by file name.
fn manifests() -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(file(FOLDER)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let found: BTreeMap<_, _> =
        names.filter(|name| name != KUSTOMIZATION).map(|name| (name.clone(), read(&name))).collect();
    assert!(found.len() >= 6, "{:?}", found.keys());
    found
}

#[test]
fn every_manifest_conforms_to_the_kubernetes_schemas() {
    for name in manifests().keys() {
        let path: PathBuf = file(FOLDER).join(name);
        let mut command = Command::new("kubernetes-validate");
        let judged = run(command.arg("--strict").arg(path)).expect_success();
        assert!(judged.stdout.contains("passed for resource"), "{name}: {}{}", judged.stdout, judged.stderr);
    }
}

#[test]
fn kustomization_applies_every_manifest_except_the_example() {
    let resources = read(KUSTOMIZATION)["resources"].as_array().unwrap().clone();
    let applied: BTreeSet<&str> = resources.iter().filter_map(Value::as_str).collect();
    let manifests = manifests();
    let expected: BTreeSet<&str> = manifests.keys().map(String::as_str).filter(|name| *name != EXAMPLE).collect();
    assert_eq!(applied, expected);
    for (name, manifest) in &manifests {
        assert_eq!(manifest["metadata"]["name"], "transship", "{name}");
        assert_eq!(manifest["metadata"]["namespace"], Value::Null, "{name}");
        assert_eq!(manifest["metadata"]["labels"], json!({"app.kubernetes.io/name": "transship"}), "{name}");
    }
}

#[test]
fn pod_has_its_files_and_minimal_privileges() {
    let deployment = read("deployment.yaml");
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]),
        (&1.into(), &json!({"type": "Recreate"}))
    );
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["automountServiceAccountToken"], &pod["securityContext"]["runAsNonRoot"]),
        (&false.into(), &true.into())
    );
    let container = &pod["containers"][0];
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], expected);

    let volumes = pod["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].clone());
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert_eq!(volumes.collect::<Vec<_>>(), mounts.iter().map(|mount| mount["name"].clone()).collect::<Vec<_>>());
    let mounted: BTreeSet<&str> = mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    for variable in container["env"].as_array().unwrap() {
        assert!(mounted.contains(variable["value"].as_str().unwrap()), "{variable}");
    }
    let image = text("packaging/container/Containerfile");
    let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
    assert!(image.contains(&format!("\nUSER {user}:{user}\n")), "the image has the same user");
    assert_eq!(container["ports"], json!([{"name": "status", "containerPort": 9180}]));
    for (probe, path) in [("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "status"}), "{probe}");
    }
    let monitor: Value = serde_yaml::from_str(&text("packaging/prometheus/podmonitor.yaml")).unwrap();
    let scraped = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&scraped["port"], &scraped["path"]), (&json!("status"), &json!("/metrics")));
    let credentials = &scraped["authorization"]["credentials"];
    assert_eq!(credentials["name"], read(EXAMPLE)["metadata"]["name"]);
    assert!(read(EXAMPLE)["stringData"][credentials["key"].as_str().unwrap()].is_string());
    assert_eq!(monitor["spec"]["selector"], deployment["spec"]["selector"]);
}

#[test]
fn configuration_in_the_manifest_is_valid() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sync.yaml");
    std::fs::write(&path, read("configmap.yaml")["data"]["sync.yaml"].as_str().unwrap()).unwrap();
    for (name, secret) in read(EXAMPLE)["stringData"].as_object().unwrap() {
        std::fs::write(folder.path().join(name), secret.as_str().unwrap()).unwrap();
    }
    let mut command = transship_command(&["check", "--config", path.to_str().unwrap()]);
    let checked = run(command.env("CREDENTIALS_DIRECTORY", folder.path())).expect_success().stdout;
    assert!(checked.ends_with("valid, 0 entries, 1 warning\n"), "{checked}");
}
