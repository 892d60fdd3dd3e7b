//! Tests of the Helm chart. Helm lints and renders it, and the schemas of Kubernetes judge the result.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{file, run, text};
use crate::support::programs::{Output, transship};

const CHART: &str = "packaging/helm/transship";

/// Values of the shortest installation.
const SHORTEST: &str = "secret: {data: {status-token: 0123456789abcdef}}\n";

/// Values that use every option of the chart.
const FULL: &str = r#"
image: {repository: registry.example.com/transship, tag: "1.2", pullPolicy: Always}
imagePullSecrets: [{name: pull}]
configuration: "version: 1\nsync: []\n"
secret: {existing: vault}
persistence: {existingClaim: "", size: 20Gi, storageClass: fast}
serviceAccount: {create: true, name: mirror, annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::1:role/mirror"}}
service: {type: LoadBalancer, port: 80}
pushEvents: {enabled: true, port: 9181}
networkPolicy: {enabled: true, from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
serviceMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}}
resources: {limits: {memory: 1Gi}}
terminationGracePeriodSeconds: 90
podLabels: {azure.workload.identity/use: "true"}
podAnnotations: {example.com/owner: platform}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
"#;

/// Runs a command of Helm on the chart with these values.
fn helm(command: &[&str], values: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("values.yaml");
    std::fs::write(&path, values).unwrap();
    run(Command::new("helm").args(command).arg(file(CHART)).arg("--values").arg(path))
}

/// Renders the chart, and returns the text of each object.
fn render_text(release: &str, values: &str) -> Vec<String> {
    let rendered = helm(&["template", "--namespace", "mirrors", release], values).expect_success().stdout;
    rendered.split("---\n").filter(|document| !document.trim().is_empty()).map(str::to_owned).collect()
}

/// Renders the chart, and returns the objects by kind.
fn render(release: &str, values: &str) -> BTreeMap<String, Value> {
    let mut objects = BTreeMap::new();
    for document in render_text(release, values) {
        let object: Value = serde_yaml::from_str(&document).unwrap_or_else(|error| panic!("{error}: {document}"));
        assert!(objects.insert(kind(&document), object).is_none(), "two objects of one kind: {document}");
    }
    objects
}

fn kind(document: &str) -> String {
    document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_else(|| panic!("{document}")).to_owned()
}

#[test]
fn strict_lint_finds_no_problem_in_the_chart() {
    for values in [SHORTEST, FULL] {
        let report = helm(&["lint", "--strict"], values).expect_success();
        assert!(!report.stdout.contains("[WARNING]") && !report.stdout.contains("[ERROR]"), "{}", report.stdout);
    }
    let report = helm(&["lint", "--strict"], &format!("{SHORTEST}replicas: 2\n"));
    assert!(!report.status.success() && report.stdout.contains("'replicas' not allowed"), "{report:?}");
}

#[test]
fn rendered_objects_match_the_schemas_of_kubernetes() {
    let folder = TempDir::new().unwrap();
    let mut kinds = BTreeSet::new();
    for values in [SHORTEST, FULL] {
        for document in render_text("mirror", values) {
            let kind = kind(&document);
            kinds.insert(kind.clone());
            // Kubernetes has no schema for the objects of the Prometheus operator.
            if kind == "ServiceMonitor" {
                continue;
            }
            let path = folder.path().join(format!("{kind}.yaml"));
            std::fs::write(&path, document).unwrap();
            let judged = run(Command::new("kubernetes-validate").arg("--strict").arg(path)).expect_success();
            assert!(judged.stdout.contains("passed for resource"), "{kind}: {}{}", judged.stdout, judged.stderr);
        }
    }
    let expected =
        "ConfigMap Deployment NetworkPolicy PersistentVolumeClaim Secret Service ServiceAccount ServiceMonitor";
    assert_eq!(kinds, expected.split(' ').map(str::to_owned).collect());
}

#[test]
fn shortest_installation_equals_the_plain_manifests() {
    let plain =
        |name: &str| -> Value { serde_yaml::from_str(&text(&format!("packaging/kubernetes/{name}.yaml"))).unwrap() };
    let objects = render("transship", SHORTEST);
    let mut pod = objects["Deployment"]["spec"]["template"]["spec"].clone();
    let mut expected = plain("deployment")["spec"]["template"]["spec"].clone();
    assert_eq!(pod["containers"][0]["image"], "registry.example.com/transship:0.1.0");
    for container in [&mut pod["containers"][0], &mut expected["containers"][0]] {
        let container = container.as_object_mut().unwrap();
        container.remove("image");
        container.remove("imagePullPolicy");
    }
    assert_eq!(pod, expected);
    for field in ["replicas", "strategy"] {
        assert_eq!(objects["Deployment"]["spec"][field], plain("deployment")["spec"][field]);
    }
    assert_eq!(objects["ConfigMap"]["data"], plain("configmap")["data"]);
    assert_eq!(objects["PersistentVolumeClaim"]["spec"], plain("persistentvolumeclaim")["spec"]);
    assert_eq!(objects["NetworkPolicy"]["spec"]["ingress"], plain("networkpolicy")["spec"]["ingress"]);
    assert_eq!(objects["Service"]["spec"]["ports"], plain("service")["spec"]["ports"]);
    assert_eq!(objects["ServiceAccount"]["automountServiceAccountToken"], false);
    assert_eq!(objects["Secret"]["data"], json!({"status-token": "MDEyMzQ1Njc4OWFiY2RlZg=="}));
    assert!(!objects.contains_key("ServiceMonitor"));
}

#[test]
fn every_value_of_the_chart_reaches_its_object() {
    let objects = render("mirror", FULL);
    let deployment = &objects["Deployment"];
    let (pod, labels) =
        (&deployment["spec"]["template"]["spec"], &deployment["spec"]["template"]["metadata"]["labels"]);
    for (kind, object) in &objects {
        let expected = if kind == "ServiceAccount" { "mirror" } else { "mirror-transship" };
        assert_eq!(object["metadata"]["name"], expected, "{kind}");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], "mirror", "{kind}");
    }
    assert!(!objects.contains_key("Secret"), "the secret exists already");
    let container = &pod["containers"][0];
    assert_eq!(
        (&container["image"], &container["imagePullPolicy"]),
        (&json!("registry.example.com/transship:1.2"), &json!("Always"))
    );
    assert_eq!(container["resources"]["limits"], json!({"memory": "1Gi"}));
    assert_eq!(container["ports"][1], json!({"name": "push-events", "containerPort": 9181}));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!((&pod["serviceAccountName"], &pod["terminationGracePeriodSeconds"]), (&json!("mirror"), &json!(90)));
    assert_eq!(pod["volumes"][1]["secret"]["secretName"], "vault");
    assert_eq!(
        (&pod["nodeSelector"], &pod["tolerations"]),
        (&json!({"kubernetes.io/os": "linux"}), &json!([{"key": "dedicated", "operator": "Exists"}]))
    );
    assert!(pod["affinity"]["nodeAffinity"].is_object());
    assert_eq!(labels["azure.workload.identity/use"], "true");
    assert_eq!(deployment["spec"]["template"]["metadata"]["annotations"], json!({"example.com/owner": "platform"}));
    assert_eq!(objects["ConfigMap"]["data"]["sync.yaml"], "version: 1\nsync: []\n");
    let claim = &objects["PersistentVolumeClaim"];
    assert_eq!(
        (&claim["spec"]["storageClassName"], &claim["spec"]["resources"]["requests"]["storage"]),
        (&json!("fast"), &json!("20Gi"))
    );
    assert_eq!(claim["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
    let service = &objects["Service"]["spec"];
    assert_eq!((&service["type"], &service["ports"][0]["port"]), (&json!("LoadBalancer"), &json!(80)));
    assert_eq!(service["ports"][1]["targetPort"], "push-events");
    let policy = &objects["NetworkPolicy"]["spec"]["ingress"][0];
    assert_eq!((&policy["ports"][1]["port"], policy["from"].as_array().unwrap().len()), (&json!("push-events"), 1));
    let monitor = &objects["ServiceMonitor"];
    let plain: Value = serde_yaml::from_str(&text("packaging/prometheus/podmonitor.yaml")).unwrap();
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["selector"]);
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["relabelings"], plain["spec"]["podMetricsEndpoints"][0]["relabelings"]);
    assert_eq!(endpoint["authorization"]["credentials"], json!({"name": "vault", "key": "status-token"}));
}

#[test]
fn installation_without_a_token_is_refused_with_the_remedy() {
    let refused = helm(&["template", "mirror"], "{}\n");
    assert!(!refused.status.success() && refused.stderr.contains("set secret.data.status-token"), "{refused:?}");
    let both = helm(&["template", "mirror"], "secret: {existing: vault, data: {status-token: abcdef}}\n");
    assert!(!both.status.success() && both.stderr.contains("are both set: set one of them"), "{both:?}");
}

#[test]
fn chart_has_the_version_of_the_program_and_a_schema_for_each_value() {
    let read = |name: &str| -> Value { serde_yaml::from_str(&text(&format!("{CHART}/{name}"))).unwrap() };
    let chart = read("Chart.yaml");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
    );
    let (schema, values) = (read("values.schema.json"), read("values.yaml"));
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
    let mut known = keys(&schema["properties"]);
    assert!(known.remove("global"), "Helm adds this value for charts of charts");
    assert_eq!(keys(&values), known);
    for (name, value) in values.as_object().unwrap() {
        let properties = &schema["properties"][name]["properties"];
        if properties.is_object() {
            assert_eq!(keys(value), keys(properties), "{name}");
        }
    }
    let full: Value = serde_yaml::from_str(FULL).unwrap();
    assert_eq!(keys(&full), keys(&values), "the test uses every value");
}

#[test]
fn every_command_of_the_notes_exists() {
    let notes = text(&format!("{CHART}/templates/NOTES.txt"));
    let mut seen = 0;
    for line in notes.lines() {
        let Some((_, arguments)) = line.split_once("/usr/bin/transship ") else { continue };
        let arguments: Vec<&str> = arguments.split(' ').chain(["--help"]).collect();
        assert_eq!(transship(&arguments).code(), 0, "{line}");
        seen += 1;
    }
    assert_eq!(seen, 2, "{notes}");
}
