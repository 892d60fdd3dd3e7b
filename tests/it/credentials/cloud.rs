//! End-to-end tests of cloud identities. With each identity, an image is copied into the cloud's registry by a
//! `sync.yaml`. No issued secret may be in the output, the log, the status or the journal.

use std::sync::Arc;
use std::time::Duration;

use crate::support::canary;
use crate::support::cloud::azure::{self, Azure, Lifetimes};
use crate::support::cloud::gcp::{self, Gcp};
use crate::support::cloud::{Given, Services, aws, aws::Aws};
use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Auth, Fault, Gate, Server, Setup};
use crate::support::site::{Site, parse};

/// Lifetime that exceeds the duration of a test.
const LONG: Duration = Duration::from_secs(3600);
/// Delay of each response of a slow registry. A copy needs more than four authenticated requests in sequence.
const SLOW: Duration = Duration::from_secs(1);
/// Short lifetime. The program uses a credential for half its lifetime, which is shorter than a copy from a slow
/// registry.
const SHORT: Duration = Duration::from_secs(6);

/// Registry of a cloud, and an open registry from which `app` is copied into it.
struct Scene {
    source: Server,
    target: Server,
    given: Given,
}

/// Site with the credentials of one identity.
struct Identity {
    site: Site,
    variables: Vec<(&'static str, String)>,
}

impl Scene {
    fn new(gate: Arc<dyn Gate>, given: &Given) -> Self {
        let source = Server::start();
        let target = Server::with(Setup { auth: Auth::Cloud(gate), ..Setup::default() });
        Self { source, target, given: given.clone() }
    }

    /// Creates a site with these credentials, and a new image to copy.
    fn identity(&self, credentials: &str) -> Identity {
        let site = Site::new();
        let (source, target) = (self.source.host(), self.target.host());
        let registries = format!(
            "\"{source}\": {{plain_http: true}}, \"{target}\": {{plain_http: true, credentials: {credentials}}}"
        );
        let entry = format!("- {{name: app, source: \"{source}/app\", target: \"{target}/app\"}}");
        site.configure_fully("status: \"127.0.0.1:0\"", &registries, &entry);
        images::small(Family::Oci, next_seed()).put(&self.source, "app", Some("v1"));
        Identity { site, variables: vec![("TRANSSHIP_LOG", "trace".to_owned())] }
    }

    /// Runs `once`, which must exit with this code and show no secret. Returns its output.
    #[track_caller]
    fn once(&self, identity: &Identity, code: i32) -> String {
        let output = identity.start(&["once", "--json"]).wait(DEADLINE);
        assert_eq!(output.code(), code, "{}\n{}", output.stdout, output.stderr);
        assert!(output.stderr.contains("TRACE"), "the log is at trace level");
        let journal = canary::journal(&identity.site);
        let places =
            [("stdout", output.stdout.as_bytes()), ("the log", output.stderr.as_bytes()), ("the journal", &journal)];
        self.assert_no_secret(&places);
        output.stdout + &output.stderr
    }

    /// Asserts that no issued secret is in these texts.
    #[track_caller]
    fn assert_no_secret(&self, places: &[(&str, &[u8])]) {
        let given = self.given.secrets();
        let secrets: Vec<(&str, &str)> = given.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        canary::assert_absent(&secrets, places);
    }

    /// Asserts that the status port and the log of a daemon show no secret.
    #[track_caller]
    fn assert_status_has_no_secret(&self, identity: &Identity) {
        let mut daemon = identity.start(&["run"]);
        let address = daemon.ready();
        for path in ["/status", "/metrics", "/"] {
            let (status, body) = http::get(&address, path).unwrap();
            assert_eq!(status, 200);
            self.assert_no_secret(&[(path, body.as_bytes())]);
        }
        daemon.signal("TERM");
        let output = daemon.wait(DEADLINE);
        self.assert_no_secret(&[("stdout", output.stdout.as_bytes()), ("the log", output.stderr.as_bytes())]);
    }
}

/// Returns a new seed for an image on each call.
fn next_seed() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Identity {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Adds a file to the folder, and a variable with its path.
    fn with_file_variable(self, name: &'static str, file: &str, text: &str) -> Self {
        self.site.write(file, text);
        let path = self.site.path(file).display().to_string();
        self.with(name, path)
    }

    /// Adds a file to the folder, which `sync.yaml` names.
    fn with_plain_file(self, file: &str, text: &str) -> Self {
        self.site.write(file, text);
        self
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut command = self.site.command(args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Running::start(&mut command)
    }

    /// Returns the identity at the target in the latest evidence.
    #[track_caller]
    fn evidence(&self) -> String {
        let evidence = self.start(&["evidence", "--json"]).wait(DEADLINE).expect_success();
        parse(&evidence.stdout)[0]["target_identity"].as_str().unwrap().to_owned()
    }
}

/// Realistic lifetimes of Azure's tokens: hours for a refresh token, minutes for an access token.
const PATIENT: Lifetimes = Lifetimes { refresh: 3 * 3600, access: 300, revoke_at: None };

fn azure_scene(lifetimes: Lifetimes) -> (Azure, Scene) {
    let cloud = Azure::start(lifetimes);
    let scene = Scene::new(cloud.registry.clone(), &cloud.given);
    (cloud, scene)
}

/// Returns the credentials of an application with these further keys.
fn application(cloud: &Azure, proof: &str) -> String {
    let (client, tenant, authority) = (azure::CLIENT, azure::TENANT, cloud.services.url("/entra"));
    format!("{{azure: {{client_id: {client}, tenant_id: {tenant}, authority: \"{authority}\", {proof}}}}}")
}

fn managed(cloud: &Azure, more: &str) -> String {
    format!("{{azure: {{imds: \"{}\"{more}}}}}", cloud.services.url("/imds"))
}

#[test]
fn every_azure_identity_authenticates_and_reveals_no_secret() {
    let (cloud, scene) = azure_scene(PATIENT);
    let workload = scene
        .identity("{azure: workload_identity}")
        .with("AZURE_CLIENT_ID", azure::CLIENT)
        .with("AZURE_TENANT_ID", azure::TENANT)
        .with("AZURE_AUTHORITY_HOST", cloud.services.url("/entra"))
        .with_file_variable("AZURE_FEDERATED_TOKEN_FILE", "token", cloud.federated());
    let by_secret = scene.identity(&application(&cloud, "client_secret: {env: SECRET}")).with("SECRET", cloud.secret());
    let certified =
        scene.identity(&application(&cloud, "certificate: me.pem")).with_plain_file("me.pem", &cloud.certificate());
    for (identity, name) in [
        (scene.identity(&managed(&cloud, "")), format!("managed identity {}", azure::CLIENT).as_str()),
        (scene.identity(&managed(&cloud, ", client_id: mine")), "mine"),
        (workload, azure::CLIENT),
        (by_secret, azure::CLIENT),
        (certified, azure::CLIENT),
    ] {
        images::small(Family::Oci, next_seed()).put(&scene.source, "app", Some("v1"));
        let before = cloud.registry.exchanged();
        scene.once(&identity, 0);
        assert_eq!(identity.evidence(), name);
        assert_eq!(cloud.registry.exchanged() - before, 1, "{name}: one refresh token is for all repositories");
        scene.assert_status_has_no_secret(&identity);
    }
}

#[test]
fn wrong_azure_credential_fails_with_code_and_is_hidden() {
    let (cloud, scene) = azure_scene(PATIENT);
    let wrong = scene.given.new_secret("a wrong secret");
    let other = Azure::start(PATIENT);
    let by_secret = scene.identity(&application(&cloud, "client_secret: {env: SECRET}")).with("SECRET", wrong);
    let certified =
        scene.identity(&application(&cloud, "certificate: me.pem")).with_plain_file("me.pem", &other.certificate());
    for identity in [by_secret, certified] {
        let printed = scene.once(&identity, 1);
        assert!(printed.contains("/oauth2/v2.0/token refused: 401 Unauthorized, invalid_client"), "{printed}");
        scene.assert_status_has_no_secret(&identity);
    }
    assert!(scene.target.store().repositories().is_empty());
}

#[test]
fn metadata_service_under_renewal_is_retried() {
    let (cloud, scene) = azure_scene(PATIENT);
    cloud.renew_metadata(&[410, 404, 429, 500]);
    scene.once(&scene.identity(&managed(&cloud, "")), 0);
    assert_eq!(cloud.services.count("GET /imds/metadata/identity/oauth2/token"), 5);
}

#[test]
fn short_lived_azure_tokens_are_renewed_before_expiry() {
    let (cloud, scene) = azure_scene(Lifetimes { refresh: 4, access: 2, revoke_at: None });
    scene.target.set(Fault::Delay(SLOW));
    scene.once(&scene.identity(&managed(&cloud, "")), 0);
    assert!(cloud.registry.exchanged() >= 2, "the refresh token was renewed");
    assert!(cloud.registry.access_tokens() >= 3, "access tokens were renewed");
}

#[test]
fn revoked_azure_access_token_is_renewed_once() {
    let (cloud, scene) = azure_scene(Lifetimes { revoke_at: Some(2 * SLOW), ..PATIENT });
    scene.target.set(Fault::Delay(SLOW));
    scene.once(&scene.identity(&managed(&cloud, "")), 0);
    assert!(cloud.registry.refusals().contains(&"revoked"), "{:?}", cloud.registry.refusals());
    assert_eq!(cloud.registry.exchanged(), 1, "the refresh token was still valid");
}

fn aws_scene(lifetime: Duration, revoke_at: Option<Duration>) -> (Aws, Scene, String) {
    let cloud = Aws::start(lifetime, revoke_at);
    let scene = Scene::new(Arc::new(cloud.passwords.clone()), &cloud.given);
    let keys = format!(
        "region: {}, endpoint: \"{}\", sts: \"{}\", imds: \"{}\"",
        aws::REGION,
        cloud.services.url("/ecr/"),
        cloud.services.url("/sts/"),
        cloud.services.url("")
    );
    (cloud, scene, keys)
}

/// Returns every source of keys, with the expected identity in the evidence.
fn sources(cloud: &Aws, scene: &Scene, keys: &str) -> Vec<(&'static str, Identity, String)> {
    let identity = |more: &str| scene.identity(&format!("{{aws: {{{keys}{more}}}}}"));
    let (id, secret) = cloud.user();
    let (session_id, session_secret, session) = cloud.session();
    let pair = format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let user = format!("access key {id}");
    let taken = format!("[profile mirror]\nrole_arn = {}\nsource_profile = base\nexternal_id = outside\n", aws::ROLE);
    let web = identity("");
    web.site.write("web-token", cloud.web_identity());
    let token = web.site.path("web-token").display().to_string();
    let web_profile = format!("[default]\nrole_arn = {}\nweb_identity_token_file = {token}\n", aws::ROLE);
    let home = identity("");
    std::fs::create_dir_all(home.site.path(".aws")).unwrap();
    std::fs::write(home.site.path(".aws/credentials"), format!("[default]\n{pair}")).unwrap();
    let folder = home.site.folder().display().to_string();
    let by_environment = identity("").with("AWS_ACCESS_KEY_ID", &id).with("AWS_SECRET_ACCESS_KEY", &secret);
    let by_session = identity("")
        .with("AWS_ACCESS_KEY_ID", &session_id)
        .with("AWS_SECRET_ACCESS_KEY", session_secret)
        .with("AWS_SESSION_TOKEN", session);
    let by_named = identity("")
        .with_file_variable("AWS_SHARED_CREDENTIALS_FILE", "credentials", &format!("[default]\n[base]\n{pair}"))
        .with("AWS_PROFILE", "base");
    let by_role = identity(", profile: mirror")
        .with_file_variable("AWS_SHARED_CREDENTIALS_FILE", "credentials", &format!("[base]\n{pair}"))
        .with_file_variable("AWS_CONFIG_FILE", "config", &taken)
        // The configuration takes precedence over the environment.
        .with("AWS_ACCESS_KEY_ID", "AKIANOBODY")
        .with("AWS_SECRET_ACCESS_KEY", "nothing");
    let by_web = identity("").with("AWS_WEB_IDENTITY_TOKEN_FILE", &token).with("AWS_ROLE_ARN", aws::ROLE);
    let by_web_profile = web.with_file_variable("AWS_CONFIG_FILE", "config", &web_profile);
    let by_agent = identity("")
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", cloud.services.url("/agent"))
        .with_file_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "agent-token", cloud.agent());
    let role = aws::ROLE.to_owned();
    vec![
        ("environment", by_environment, user.clone()),
        ("session", by_session, format!("access key {session_id}")),
        ("default profile", home.with("HOME", folder), user.clone()),
        ("named profile", by_named, user),
        ("role of a profile", by_role, role.clone()),
        ("web identity", by_web, role.clone()),
        ("web identity of a profile", by_web_profile, role),
        ("container", by_agent, "the role of this container".to_owned()),
        ("instance", identity(""), "mirror-role".to_owned()),
    ]
}

#[test]
fn every_aws_key_source_authenticates_and_reveals_no_secret() {
    let (cloud, scene, keys) = aws_scene(LONG, None);
    for (source, identity, name) in sources(&cloud, &scene, &keys) {
        images::small(Family::Oci, next_seed()).put(&scene.source, "app", Some("v1"));
        let before = cloud.password_requests();
        scene.once(&identity, 0);
        assert_eq!((identity.evidence(), cloud.password_requests() - before), (name, 1), "{source}");
        scene.assert_status_has_no_secret(&identity);
    }
}

#[test]
fn wrong_aws_key_fails_with_code_and_is_hidden() {
    let (cloud, scene, keys) = aws_scene(LONG, None);
    let wrong = scene.given.new_secret("a wrong secret");
    let identity = scene.identity(&format!("{{aws: {{{keys}}}}}"));
    let identity = identity.with("AWS_ACCESS_KEY_ID", cloud.user().0).with("AWS_SECRET_ACCESS_KEY", wrong);
    let printed = scene.once(&identity, 1);
    assert!(printed.contains("/ecr/ refused: 400 Bad Request, InvalidSignatureException"), "{printed}");
    scene.assert_status_has_no_secret(&identity);
    assert_eq!(cloud.password_requests(), 0);
}

#[test]
fn failing_aws_registry_service_is_retried() {
    let (cloud, scene, keys) = aws_scene(LONG, None);
    cloud.fail(2);
    scene.once(&scene.identity(&format!("{{aws: {{{keys}}}}}")), 0);
    assert_eq!((cloud.services.count("POST /ecr/"), cloud.password_requests()), (3, 1));
}

#[test]
fn short_lived_aws_password_is_renewed_before_expiry() {
    let (cloud, scene, keys) = aws_scene(SHORT, None);
    scene.target.set(Fault::Delay(SLOW));
    scene.once(&scene.identity(&format!("{{aws: {{{keys}}}}}")), 0);
    assert!(cloud.password_requests() >= 2, "the password was requested again");
    assert!(cloud.passwords.refusals().iter().all(|why| why == "nobody"), "{:?}", cloud.passwords.refusals());
}

#[test]
fn revoked_aws_password_is_renewed_once() {
    let (cloud, scene, keys) = aws_scene(LONG, Some(2 * SLOW));
    scene.target.set(Fault::Delay(SLOW));
    scene.once(&scene.identity(&format!("{{aws: {{{keys}}}}}")), 0);
    assert!(cloud.passwords.refusals().iter().any(|why| why == "revoked"), "{:?}", cloud.passwords.refusals());
    assert_eq!(cloud.password_requests(), 2);
}

fn gcp_scene(lifetime: Duration, revoke_at: Option<Duration>) -> (Gcp, Scene, String) {
    let cloud = Gcp::start(lifetime, revoke_at);
    let scene = Scene::new(Arc::new(cloud.passwords.clone()), &cloud.given);
    let metadata = format!("{{gcp: {{metadata: \"{}\"}}}}", cloud.services.url(""));
    (cloud, scene, metadata)
}

#[test]
fn every_google_identity_authenticates_and_reveals_no_secret() {
    let (cloud, scene, metadata) = gcp_scene(LONG, None);
    let host = cloud.services.url("").trim_start_matches("http://").to_owned();
    let machine = "service account of this machine";
    for (identity, name) in [
        (scene.identity(&metadata), machine),
        (scene.identity("{gcp: {}}").with("GCE_METADATA_HOST", host), machine),
        (scene.identity("{gcp: {key: key.json}}").with_plain_file("key.json", &cloud.key_file()), gcp::EMAIL),
        (
            scene.identity("{gcp: {}}").with_file_variable(
                "GOOGLE_APPLICATION_CREDENTIALS",
                "key.json",
                &cloud.key_file(),
            ),
            gcp::EMAIL,
        ),
    ] {
        images::small(Family::Oci, next_seed()).put(&scene.source, "app", Some("v1"));
        scene.once(&identity, 0);
        assert_eq!(identity.evidence(), name);
        scene.assert_status_has_no_secret(&identity);
    }
}

#[test]
fn wrong_google_key_fails_with_code_and_is_hidden() {
    let (cloud, scene, _) = gcp_scene(LONG, None);
    let other = Gcp::start(LONG, None);
    let uri = |cloud: &Gcp| cloud.services.url("/token");
    let wrong = other.key_file().replace(&uri(&other), &uri(&cloud));
    let far = cloud.key_file().replace(&uri(&cloud), "http://token.example/");
    let person = cloud.key_file().replace("service_account", "authorized_user");
    for (file, why) in [
        (wrong, "/token refused: 400 Bad Request, invalid_grant"),
        (far, "`token_uri`, http://token.example/, does not use TLS"),
        (person, "`type` is not service_account, the only supported type"),
        ("{".to_owned(), "the file is not the key of a service account"),
    ] {
        let identity = scene.identity("{gcp: {key: key.json}}").with_plain_file("key.json", &file);
        let printed = scene.once(&identity, 1);
        assert!(printed.contains(why), "{printed}");
        scene.assert_status_has_no_secret(&identity);
    }
}

#[test]
fn google_token_is_renewed_before_expiry_and_after_refusal() {
    for (lifetime, revoke_at) in [(SHORT, None), (LONG, Some(2 * SLOW))] {
        let (cloud, scene, metadata) = gcp_scene(lifetime, revoke_at);
        scene.target.set(Fault::Delay(SLOW));
        scene.once(&scene.identity(&metadata), 0);
        let requested = cloud.services.lines().len();
        assert!(requested >= 2, "{:?}", cloud.services.lines());
        let refusals = cloud.passwords.refusals();
        assert_eq!(refusals.iter().any(|why| why == "revoked"), revoke_at.is_some(), "{refusals:?}");
        assert!(!refusals.iter().any(|why| why == "over"), "{refusals:?}");
    }
}

#[test]
fn redirect_of_a_cloud_service_is_not_followed() {
    let elsewhere = Services::start(|_| (200, Vec::new(), "{}".to_owned()));
    let there = elsewhere.url("/");
    let pointing = Services::start(move |_| (307, vec![("location", there.clone())], String::new()));
    let (cloud, scene) = azure_scene(PATIENT);
    let (client, tenant) = (azure::CLIENT, azure::TENANT);
    let by_secret = format!(
        "{{azure: {{client_id: {client}, tenant_id: {tenant}, client_secret: {{env: SECRET}}, authority: \"{}\"}}}}",
        pointing.url("")
    );
    let managed = format!("{{azure: {{imds: \"{}\"}}}}", pointing.url(""));
    let amazon = format!("{{aws: {{region: r, endpoint: \"{}\"}}}}", pointing.url("/ecr/"));
    let google = format!("{{gcp: {{metadata: \"{}\"}}}}", pointing.url(""));
    for credentials in [by_secret, managed, amazon, google] {
        let identity = scene.identity(&credentials).with("SECRET", cloud.secret());
        let identity = identity.with("AWS_ACCESS_KEY_ID", "AKIA").with("AWS_SECRET_ACCESS_KEY", cloud.secret());
        let printed = scene.once(&identity, 1);
        assert!(printed.contains("refused: 307 Temporary Redirect"), "{printed}");
    }
    assert!(pointing.lines().len() >= 4);
    assert_eq!(elsewhere.lines(), Vec::<String>::new());
}
