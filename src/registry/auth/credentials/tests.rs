//! Tests of the sources of credentials, with files and programs in a temporary folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::{Login, Programs, Source};
use crate::registry::{Credentials, DockerConfig};

/// Folder with files and programs. The search path of programs is this folder, `/usr/bin` and `/bin`.
struct CredentialFolder(TempDir);

impl CredentialFolder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Writes a shell script that appends a line to the file `runs` at each run.
    fn program(&self, name: &str, script: &str) {
        let runs = self.path("runs");
        let path = self.file(name, &format!("#!/bin/sh\necho run >> '{}'\n{script}\n", runs.display()));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
    }

    fn programs(&self) -> Programs {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        Programs { path: Some(path.into()), ..Programs::default() }
    }

    fn source(&self, host: &str, credentials: Credentials) -> Source {
        Source::new(host.parse().unwrap(), Some(credentials), self.programs())
    }

    /// Returns a source that reads a `config.json` with this text.
    fn docker(&self, host: &str, text: &str) -> Source {
        let files = vec![self.file("config.json", text)];
        self.source(host, Credentials::DockerConfig(DockerConfig { files, required: false, namespace: None }))
    }
}

/// Returns the login as a text: `user:password`, `token:…`, `access:…` or `nobody`.
fn shown(login: Option<&Login>) -> String {
    match login {
        None => "nobody".to_owned(),
        Some(Login::Password { username, password }) => format!("{username}:{}", password.expose_secret()),
        Some(Login::Token(token)) => format!("token:{}", token.expose_secret()),
        Some(Login::Access(token)) => format!("access:{}", token.expose_secret()),
    }
}

async fn login(source: &Source) -> Result<String, String> {
    source.login().await.map(|login| shown(login.as_ref())).map_err(|error| error.detail)
}

#[tokio::test]
async fn registry_entry_is_found_in_docker_and_podman_spelling() {
    // The logins are `a:secret`, `b:se:cret` and `wrong:wrong`.
    let text = r#"{"auths": {
        "https://index.docker.io/v1/": {"auth": "YTpzZWNyZXQ="},
        "a.example/team": {"auth": "d3Jvbmc6d3Jvbmc="},
        "https://a.example/v2/": {"auth": "Yjpz\u005a\u0054pjcmV0"},
        "localhost:5000": {"username": "c", "password": "plain", "email": "x"},
        "id.example": {"auth": "YTpzZWNyZXQ=", "identitytoken": "idt"},
        "access.example": {"auth": "YTpzZWNyZXQ=", "registrytoken": "act"},
        "empty.example": {},
        "only.example/team": {"auth": "d3Jvbmc6d3Jvbmc="}
    }, "HttpHeaders": {"User-Agent": "x"}, "credHelpers": null}"#;
    let folder = CredentialFolder::new();
    for (host, expected) in [
        ("docker.io", "a:secret"),
        ("a.example", "b:se:cret"),
        ("localhost:5000", "c:plain"),
        ("localhost:5001", "nobody"),
        ("id.example", "token:idt"),
        ("access.example", "access:act"),
        ("empty.example", "nobody"),
        ("only.example", "nobody"),
    ] {
        assert_eq!(login(&folder.docker(host, text)).await.unwrap(), expected, "{host}");
    }
}

#[tokio::test]
async fn longest_podman_namespace_takes_precedence_over_host() {
    // The logins are `a:secret`, `b:se:cret` and `wrong:wrong`.
    let text = r#"{"auths": {
        "a.example": {"auth": "YTpzZWNyZXQ="},
        "a.example/team": {"auth": "d3Jvbmc6d3Jvbmc="},
        "a.example/team/app/": {"username": "deep", "password": "one"},
        "a.example/teams": {"username": "never", "password": "this"},
        "a.example/empty": {},
        "b.example/team": {"username": "b", "password": "two"},
        "docker.io/library/nginx": {"username": "hub", "password": "three"}
    }, "credHelpers": {"c.example/team": "not-asked"}}"#;
    let folder = CredentialFolder::new();
    for (host, name, expected) in [
        ("a.example", "team/app", "deep:one"),
        ("a.example", "team/app/inner", "deep:one"),
        ("a.example", "team/other", "wrong:wrong"),
        ("a.example", "team", "wrong:wrong"),
        ("a.example", "teamwork", "a:secret"),
        ("a.example", "empty/x", "a:secret"),
        ("b.example", "team/x", "b:two"),
        ("b.example", "x", "nobody"),
        ("docker.io", "library/nginx", "hub:three"),
        ("docker.io", "library/redis", "nobody"),
        // A helper has logins only for whole hosts, not for namespaces.
        ("c.example", "team/x", "nobody"),
    ] {
        let source = folder.docker(host, text);
        let below = source.namespaced(&name.parse().unwrap());
        let source = match below {
            Some(credentials) => folder.source(host, credentials),
            None => source,
        };
        assert_eq!(login(&source).await.unwrap(), expected, "{host}/{name}");
    }
}

#[tokio::test]
async fn namespace_in_second_file_yields_to_first_matching_file() {
    let folder = CredentialFolder::new();
    let files = vec![
        folder.file("docker.json", r#"{"auths": {"a.example": {"username": "a", "password": "one"}}}"#),
        folder.file("podman.json", r#"{"auths": {"a.example/team": {"username": "b", "password": "two"}}}"#),
        folder.path("none.json"),
    ];
    let config = DockerConfig { files, required: false, namespace: None };
    let source = folder.source("a.example", Credentials::DockerConfig(config));
    let below = source.namespaced(&"team/x".parse().unwrap()).unwrap();
    // Like podman, the source uses the first file with an entry for the host or the namespace.
    assert_eq!(login(&folder.source("a.example", below)).await.unwrap(), "a:one");
}

#[tokio::test]
async fn auth_without_padding_or_with_line_breaks_is_decoded() {
    let folder = CredentialFolder::new();
    for auth in ["YTpzZWNyZXQ=", "YTpzZWNyZXQ", r"YTpz\nZWNy\nZXQ=\n", " YTpzZWNyZXQ= "] {
        let text = format!(r#"{{"auths": {{"a.example": {{"auth": "{auth}"}}}}}}"#);
        assert_eq!(login(&folder.docker("a.example", &text)).await.unwrap(), "a:secret", "{auth}");
    }
}

#[tokio::test]
async fn helper_is_queried_with_every_spelling_of_the_host() {
    let folder = CredentialFolder::new();
    let known = r#"read host; [ "$host" = https://a.example ] || { echo 'credentials not found'; exit 1; }"#;
    let answer = r#"echo '{"Username": "me", "Secret": "s"}'"#;
    folder.program("docker-credential-old", &format!("{known}; {answer}"));
    let text = r#"{"auths": {"https://a.example": {}, "https://b.example": {}}, "credsStore": "old"}"#;
    assert_eq!(login(&folder.docker("a.example", text)).await.unwrap(), "me:s");
    assert_eq!(folder.runs(), 2);
    assert_eq!(login(&folder.docker("c.example", text)).await.unwrap(), "nobody");
    assert_eq!(folder.runs(), 3, "no request for another host");
}

#[tokio::test]
async fn broken_file_is_named_and_its_content_withheld() {
    let folder = CredentialFolder::new();
    let path = folder.path("config.json").display().to_string();
    let unreadable = ": an `auth` is not a user name and password in base64";
    for (text, expected) in [
        ("{\"auths\": {\n\"a.example\": \"hunter2\"}}", ": not a valid docker configuration (line 2, column 22)"),
        ("hunter2", ": not a valid docker configuration (line 1, column 1)"),
        (r#"{"auths": {"a.example": {"auth": "aHVudGVyMg=="}}}"#, unreadable),
        (r#"{"auths": {"a.example": {"auth": "hunter2"}}}"#, unreadable),
        (
            r#"{"credsStore": "../x"}"#,
            ": the name of the credential helper contains characters other than letters, digits, `.`, `_` and `-`",
        ),
    ] {
        assert_eq!(login(&folder.docker("a.example", text)).await, Err(format!("{path}{expected}")), "{text}");
    }
    assert_eq!(login(&folder.docker("a.example", " \n")).await.unwrap(), "nobody");
}

#[tokio::test]
async fn missing_file_is_anonymous_unless_it_is_required() {
    let folder = CredentialFolder::new();
    let by = |required| {
        let files = vec![folder.path("none.json"), folder.file("file", "").join("beneath.json")];
        folder.source("a.example", Credentials::DockerConfig(DockerConfig { files, required, namespace: None }))
    };
    let source = by(false);
    assert_eq!(login(&source).await.unwrap(), "nobody");
    assert_eq!(source.identity(), "anonymous");
    let expected =
        format!("{} cannot be read: No such file or directory (os error 2)", folder.path("none.json").display());
    assert_eq!(login(&by(true)).await, Err(expected));
}

#[tokio::test]
async fn second_file_is_used_if_first_has_no_login() {
    let folder = CredentialFolder::new();
    let files = vec![
        folder.file("docker.json", r#"{"auths": {"a.example": {}, "b.example": {"auth": "YTpzZWNyZXQ="}}}"#),
        folder.file(
            "podman.json",
            r#"{"auths": {"a.example": {"auth": "YjpzZWNyZXQ="}, "b.example": {"auth": "eDp4"}}}"#,
        ),
    ];
    let by = |host: &str| {
        folder.source(
            host,
            Credentials::DockerConfig(DockerConfig { files: files.clone(), required: false, namespace: None }),
        )
    };
    assert_eq!(login(&by("a.example")).await.unwrap(), "b:secret");
    assert_eq!(login(&by("b.example")).await.unwrap(), "a:secret");
}

#[test]
fn default_file_paths_match_docker_and_podman() {
    let found = |known: &[(&str, &str)]| {
        let environment = |name: &str| known.iter().find(|(is, _)| *is == name).map(|(_, text)| (*text).to_owned());
        DockerConfig::from_environment(&environment).map(|config| config.files)
    };
    let all = [("DOCKER_CONFIG", "/d"), ("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/r/auth.json")];
    assert_eq!(found(&all).unwrap(), ["/d/config.json", "/r/auth.json"].map(PathBuf::from));
    assert_eq!(found(&all[1..2]).unwrap(), [PathBuf::from("/h/.docker/config.json")]);
    assert_eq!(found(&[("HOME", ""), ("DOCKER_CONFIG", "")]), None);
    let podman = [all[1], ("XDG_RUNTIME_DIR", "/x")];
    let places = ["/h/.docker/config.json", "/x/containers/auth.json"];
    assert_eq!(found(&podman).unwrap(), places.map(PathBuf::from));
    assert_eq!(found(&[all[2], podman[1]]).unwrap(), [PathBuf::from("/r/auth.json")]);
}

#[tokio::test]
async fn changed_docker_config_is_read_again() {
    let folder = CredentialFolder::new();
    let source = folder.docker("a.example", r#"{"auths": {"a.example": {"auth": "YTpzZWNyZXQ="}}}"#);
    assert_eq!(login(&source).await.unwrap(), "a:secret");
    assert_eq!(source.identity(), "a");
    folder.file("config.json", r#"{"auths": {"a.example": {"identitytoken": "idt"}}}"#);
    assert_eq!(login(&source).await.unwrap(), "token:idt");
    assert_eq!(source.identity(), "docker config");
}

#[tokio::test]
async fn registry_helper_precedes_default_helper_and_file_entry() {
    let folder = CredentialFolder::new();
    folder.program(
        "docker-credential-one",
        r#"read host; echo "{\"ServerURL\": \"$host\", \"Username\": \"$host\", \"Secret\": \"one\"}""#,
    );
    folder.program("docker-credential-all", "echo 'credentials not found in native keychain'; exit 1");
    let text = r#"{"credHelpers": {"a.example": "one", "docker.io": "one"}, "credsStore": "all",
        "auths": {"a.example": {"auth": "eDp4"}, "b.example": {"auth": "YTpzZWNyZXQ="}}}"#;
    for (host, expected) in [
        ("a.example", "a.example:one"),
        ("docker.io", "https://index.docker.io/v1/:one"),
        ("b.example", "a:secret"),
        ("c.example", "nobody"),
    ] {
        assert_eq!(login(&folder.docker(host, text)).await.unwrap(), expected, "{host}");
    }
}

#[tokio::test]
async fn program_output_is_shared_until_its_file_changes() {
    let folder = CredentialFolder::new();
    folder.program("docker-credential-one", r#"echo '{"Username": "me", "Secret": "s"}'"#);
    let source = folder.docker("a.example", r#"{"credsStore": "one"}"#);
    for found in join_all((0..16).map(|_| login(&source))).await {
        assert_eq!(found.unwrap(), "me:s");
    }
    assert_eq!(folder.runs(), 1);
    let file = fs::File::options().write(true).open(folder.path("config.json")).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(5)).unwrap();
    login(&source).await.unwrap();
    assert_eq!(folder.runs(), 2);
}

fn helper(name: &str) -> Credentials {
    Credentials::Helper { name: name.to_owned(), env: Vec::new() }
}

fn command(line: &[&str], username: Option<&str>) -> Credentials {
    let line = line.iter().map(|word| (*word).to_owned()).collect();
    Credentials::Command { line, username: username.map(str::to_owned), env: Vec::new() }
}

#[tokio::test]
async fn helper_yields_a_user_identity_token_or_nobody() {
    let folder = CredentialFolder::new();
    folder.program(
        "docker-credential-user",
        r#"[ "$1" = get ] && echo '{"ServerURL":"a","Username":"me","Secret":"s"}'"#,
    );
    folder.program("docker-credential-token", r#"echo '{"ServerURL":"a","Username":"<token>","Secret":"s"}'"#);
    folder.program("docker-credential-none", "echo 'credentials not found in native keychain'; exit 1");
    folder.program("docker-credential-empty", r#"echo '{"ServerURL":"a","Username":"","Secret":""}'"#);
    for (name, expected, identity) in [
        ("user", "me:s", "me"),
        ("token", "token:s", "helper token"),
        ("none", "nobody", "helper none"),
        ("empty", "nobody", "helper empty"),
    ] {
        let source = folder.source("a.example", helper(name));
        assert_eq!(source.identity(), format!("helper {name}"));
        assert_eq!(login(&source).await.unwrap(), expected);
        assert_eq!(source.identity(), identity);
    }
}

#[tokio::test]
async fn failing_helper_is_named_and_its_output_withheld() {
    let folder = CredentialFolder::new();
    folder.program("docker-credential-fails", "echo hunter2; echo hunter2 >&2; exit 3");
    folder.program("docker-credential-talks", "echo 'Username hunter2'");
    folder.program("docker-credential-floods", "head -c 70000 /dev/zero");
    for (name, expected) in [
        ("fails", "failed (exit status: 3)"),
        ("talks", "printed something other than credentials"),
        ("floods", "printed more than 65536 bytes"),
        ("missing", "is not installed, or not in PATH"),
    ] {
        let error = login(&folder.source("a.example", helper(name))).await.unwrap_err();
        assert_eq!(error, format!("the credential helper docker-credential-{name} {expected}"));
    }
}

#[tokio::test]
async fn program_beyond_its_time_limit_is_killed() {
    let folder = CredentialFolder::new();
    let pid = folder.path("pid");
    folder.program("docker-credential-slow", &format!("echo $$ > '{}'; exec sleep 600", pid.display()));
    let programs = Programs { limit: Duration::from_secs(1), ..folder.programs() };
    let source = Source::new("a.example".parse().unwrap(), Some(helper("slow")), programs);
    let error = login(&source).await.unwrap_err();
    assert_eq!(error, "the credential helper docker-credential-slow did not end within 1s");
    // If the machine is slow, the program may not have written the file before its time limit.
    let Ok(pid) = fs::read_to_string(pid) else { return };
    let is_there = || fs::read_to_string(format!("/proc/{}/comm", pid.trim())).is_ok_and(|name| name.trim() == "sleep");
    while is_there() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn command_output_is_a_password_login_or_token() {
    let folder = CredentialFolder::new();
    for (printed, username, expected) in
        [("se:cret\n", Some("me"), "me:se:cret"), ("you:se:cret\r\n", None, "you:se:cret"), ("idt", None, "token:idt")]
    {
        let source = folder.source("a.example", command(&["printf", printed], username));
        assert_eq!(login(&source).await.unwrap(), expected);
    }
    assert_eq!(folder.source("a.example", command(&["x"], Some("me"))).identity(), "me");
    assert_eq!(folder.source("a.example", command(&["x"], None)).identity(), "command");
    for (line, expected) in [
        (&["false", "hunter2"][..], "the command false failed (exit status: 1)"),
        (&["printf", ""], "the command printf did not print exactly one line"),
        (&["printf", "hunter2\nhunter2\n"], "the command printf did not print exactly one line"),
        (&["printf", "\\377"], "the command printf printed something other than UTF-8 text"),
        (&["no-such-program"], "the command no-such-program is not installed, or not in PATH"),
    ] {
        assert_eq!(login(&folder.source("a.example", command(line, None))).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn refused_login_is_queried_again_after_a_pause() {
    let folder = CredentialFolder::new();
    let secret = folder.file("secret", "old");
    folder.program("print", &format!("cat '{}'", secret.display()));
    let source = folder.source("a.example", command(&["print"], Some("me")));
    let old = source.login().await.unwrap().unwrap();
    fs::write(&secret, "new").unwrap();
    // The first query was only a moment ago, so the client does not query the source a second time.
    assert_eq!(source.login_after_refusal(&old).await.unwrap(), None);
    assert_eq!(folder.runs(), 1);
    source.age_answer().await;
    let all = join_all((0..8).map(|_| source.login_after_refusal(&old))).await;
    assert!(all.into_iter().all(|login| shown(login.unwrap().as_ref()) == "me:new"));
    assert_eq!(folder.runs(), 2);
}

#[tokio::test]
async fn failing_program_runs_once_for_concurrent_callers() {
    let folder = CredentialFolder::new();
    folder.program("fail", "sleep 0.3; exit 1");
    let source = folder.source("a.example", command(&["fail"], None));
    let all = join_all((0..8).map(|_| login(&source))).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(folder.runs(), 1);
}
