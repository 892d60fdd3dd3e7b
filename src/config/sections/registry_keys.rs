//! Keys of one registry in `sync.yaml`, a part of the table of [`crate::config::keys`].

use super::cloud_keys::{AWS, GCP};
use crate::config::keys::{ANY, DURATION, Key, Shape, Table, Way, key, with_default};
use crate::registry::{Flavor, LimitProfile, UploadMode};

/// Pattern of the last part of a credential helper's name.
const HELPER: &str = "^[a-zA-Z0-9._-]+$";

pub(crate) static REGISTRY: Table = Table {
    place: "under a registry",
    groups: &[
        &[
            key(
                "credentials",
                Shape::OneOf(&CREDENTIALS, CREDENTIAL_WAYS),
                "Who to be, in one of several ways. Default: as docker's configuration of this machine says \
                 ($DOCKER_CONFIG/config.json, else ~/.docker/config.json, then $REGISTRY_AUTH_FILE, else podman's), \
                 else nobody.",
                "",
            ),
            with_default(
                key("plain_http", Shape::Bool, "Speak HTTP instead of HTTPS; it is never guessed.", "true"),
                "false",
            ),
            key(
                "kind",
                Shape::Word(&Flavor::KINDS),
                "Whose registry it is, where the host's name does not tell, as behind a domain of your own: acr \
                 (Azure), ecr \
             (Amazon), google, ghcr (GitHub), or plain. Default: by the name.",
                r#""acr""#,
            ),
            key(
                "limits",
                Shape::Map(&LIMITS),
                "What the registry is asked for at most, by all entries together, in turn. Default: by `profile`.",
                "",
            ),
            with_default(
                key(
                    "max_manifest",
                    Shape::Size,
                    "The largest manifest that is read from the registry, 4MiB to 8MiB; larger ones are refused.",
                    r#""8MiB""#,
                ),
                r#""4MiB""#,
            ),
            key("upload", Shape::Map(&UPLOAD), "How blobs are sent to the registry. Default: as it takes them.", ""),
        ],
        TRANSPORT,
    ],
    required: &[],
};

/// Keys of a registry that concern connections.
const TRANSPORT: &[Key] = &[
    key("tls", Shape::Map(&TLS), "Whom to believe, and who to be, where the system's authorities are not enough.", ""),
    with_default(
        key("http1_only", Shape::Bool, "Offer no HTTP/2, for servers and proxies that are at odds with it.", "true"),
        "false",
    ),
    key(
        "proxy",
        Shape::Text { pattern: "^(none|https?://.+)$" },
        "The proxy to go through: http://HOST:PORT, http://USER:PASSWORD@HOST:PORT (percent-encoded, never shown), \
         or none. \
         Default: what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.",
        r#""http://proxy.example.com:3128""#,
    ),
    key(
        "path_prefix",
        Shape::Text { pattern: "^/[A-Za-z0-9._~/-]+$" },
        "What stands before /v2/ in the addresses of the API, where a registry is not at the top of its host.",
        r#""/artifactory/api/docker/images""#,
    ),
    key(
        "token_service",
        Shape::Text { pattern: "^[^@ ]+$" },
        "The token service that may get the credentials wherever it is: HOST, HOST:PORT or its address. Without it, \
         a service \
         that the registry names gets none where it is at a private address and the registry is not, nor on another \
         host than \
         the registry's by plain HTTP.",
        r#""auth.example.com""#,
    ),
    key("timeouts", Shape::Map(&TIMEOUTS), "How long to wait, each from 1s to 1h.", ""),
    key(
        "mirrors",
        Shape::Texts { filled: false },
        "Where manifests and blobs are read first, in this order, each HOST or HOST/PREFIX (the prefix goes before the \
         repository's name), 8 at most; what none of them has is read here. Tags are always asked for here. How to \
         speak to \
         a mirror stands under its own host, but for `mirrors` there, which count for who reads from that host itself.",
        r#"["mirror.example.com:5000", "harbor.example.com/hub-proxy"]"#,
    ),
];

pub(crate) static TIMEOUTS: Table = Table {
    place: "under `timeouts`",
    groups: &[&[
        with_default(key("connect", DURATION, "For a connection, with TLS.", r#""5s""#), r#""15s""#),
        with_default(key("idle", DURATION, "Without a single byte in the midst of a blob.", r#""2m""#), r#""1m""#),
        with_default(key("header", DURATION, "For an answer to begin.", r#""2m""#), r#""1m""#),
    ]],
    required: &[],
};

pub(crate) static TLS: Table = Table {
    place: "under `tls`",
    groups: &[&[
        key(
            "ca",
            ANY,
            "A PEM file with authorities that are believed beside the system's.",
            r#""/etc/transship/ca.pem""#,
        ),
        key(
            "certificate",
            ANY,
            "A PEM file with a certificate to show to servers that ask for one.",
            r#""/etc/transship/me.pem""#,
        ),
        key(
            "key",
            ANY,
            "The PEM file with its private key. Default: in the file of the certificate.",
            r#""/etc/transship/me.key""#,
        ),
        with_default(
            key(
                "insecure_skip_verify",
                Shape::Bool,
                "Believe whoever answers, as this registry, its token service or its storage: credentials may be \
                 stolen and \
                 images changed on their way. Each start warns of it.",
                "true",
            ),
            "false",
        ),
    ]],
    required: &[],
};

pub(crate) static CREDENTIALS: Table = Table {
    place: "under `credentials`",
    groups: &[&[
        key("username", ANY, "The user name; it may be shown.", r#""mirror-bot""#),
        key(
            "password",
            Shape::Secret,
            "The password or token: text, {env: NAME} or {file: PATH}; it is never shown.",
            r#"{"file": "/run/secrets/registry"}"#,
        ),
        key(
            "token",
            Shape::Secret,
            "An identity token (or refresh token) for the registry's token service, instead of a user name and a \
             password: text, {env: NAME} or {file: PATH}; it is never shown.",
            r#"{"env": "REGISTRY_TOKEN"}"#,
        ),
        key(
            "docker_config",
            ANY,
            "A file like docker's config.json or podman's auth.json: its auths, credHelpers and credsStore.",
            r#""/etc/transship/config.json""#,
        ),
        key(
            "helper",
            Shape::Text { pattern: HELPER },
            "A credential helper of docker's, by the last part of its name: `ecr-login` runs \
             docker-credential-ecr-login.",
            r#""ecr-login""#,
        ),
        key(
            "command",
            Shape::List,
            "A program and its arguments that print the password of `username`; without it USER:PASSWORD, or an \
             identity \
             token where there is no colon. It has 30 s.",
            r#"["pass", "show", "registry"]"#,
        ),
        key(
            "env",
            Shape::Secrets,
            "Variables for the helper or the command beside PATH, HOME, DOCKER_CONFIG and those of proxies and \
             clouds, which are \
             all that it gets of this environment: each text, {env: NAME} or {file: PATH}; no value is ever shown.",
            r#"{"VAULT_TOKEN": {"file": "/run/secrets/vault"}}"#,
        ),
        key(
            "azure",
            Shape::WordOr(&AZURE_WORDS, &AZURE),
            "An identity of Entra's for Azure Container Registry: managed_identity, workload_identity (by the \
             variables that \
             its webhook sets), or a map: with client_secret or certificate an application, else a managed identity.",
            r#""managed_identity""#,
        ),
        key(
            "aws",
            Shape::Map(&AWS),
            "An identity at Amazon's, for Elastic Container Registry: `{}` is who this machine is, as Amazon's own \
             tools find \
             out.",
            "{}",
        ),
        key(
            "gcp",
            Shape::Map(&GCP),
            "An identity at Google's, for Artifact Registry: `{}` is the service account of this machine, or of \
             $GOOGLE_APPLICATION_CREDENTIALS.",
            "{}",
        ),
        key("anonymous", Shape::Bool, "Nobody: `true`, or not there.", "true"),
    ]],
    required: &[],
};

/// Ways to write credentials; the first one applies if no key identifies a way.
pub(crate) const CREDENTIAL_WAYS: &[Way] = &[
    Way { required: &["username", "password"], optional: &[] },
    Way { required: &["token"], optional: &[] },
    Way { required: &["docker_config"], optional: &[] },
    Way { required: &["helper"], optional: &["env"] },
    Way { required: &["command"], optional: &["username", "env"] },
    Way { required: &["azure"], optional: &[] },
    Way { required: &["aws"], optional: &[] },
    Way { required: &["gcp"], optional: &[] },
    Way { required: &["anonymous"], optional: &[] },
];

/// Identities at Azure that need no further keys.
pub(crate) const AZURE_WORDS: [&str; 2] = ["managed_identity", "workload_identity"];

pub(crate) static AZURE: Table = Table {
    place: "under `azure`",
    groups: &[&[
        key(
            "client_id",
            ANY,
            "The application; without client_secret and certificate, which of the machine's identities.",
            r#""00000000-0000-0000-0000-000000000000""#,
        ),
        key("tenant_id", ANY, "The directory of the application.", r#""00000000-0000-0000-0000-000000000000""#),
        key(
            "client_secret",
            Shape::Secret,
            "The application's secret; it is never shown.",
            r#"{"env": "AZURE_SECRET"}"#,
        ),
        key(
            "certificate",
            ANY,
            "A PEM file with the application's certificate, instead of a secret.",
            r#""/etc/transship/azure.pem""#,
        ),
        key(
            "key",
            ANY,
            "The PEM file with its private key, an RSA key. Default: in the file of the certificate.",
            r#""/etc/transship/azure.key""#,
        ),
        with_default(
            key(
                "authority",
                ANY,
                "Entra's address, another one in sovereign clouds.",
                r#""https://login.microsoftonline.us""#,
            ),
            r#""https://login.microsoftonline.com""#,
        ),
        with_default(
            key("imds", ANY, "The address of the instance metadata service.", r#""http://127.0.0.1:8080""#),
            r#""http://169.254.169.254""#,
        ),
    ]],
    required: &[],
};

pub(crate) static LIMITS: Table = Table {
    place: "under `limits`",
    groups: &[&[
        key(
            "profile",
            Shape::Word(&PROFILES),
            "The figures of a well-known registry, for whatever is not set here. Default: by the host's name or the \
             kind, but for Azure's, whose tier they do not tell.",
            r#""acr-premium""#,
        ),
        key("requests", RATE, "All requests in a time: 10/s, 600/min, 5000/h, or none.", r#""600/min""#),
        key("reads", RATE, "The requests that read.", r#""1000/min""#),
        key(
            "writes",
            RATE,
            "The requests that write; those that delete too, where `deletes` has no figure.",
            r#""100/min""#,
        ),
        key("uploads", RATE, "The writes that begin an upload or mount a blob.", r#""10/s""#),
        key("deletes", RATE, "The requests that delete a manifest.", r#""100/min""#),
        key("referrer_lists", RATE, "The reads by the referrers API, which count among `reads` too.", r#""250/min""#),
        key(
            "bandwidth",
            BANDWIDTH,
            "Bytes a second, both directions together: a rate, or windows of the day, of which the first \
             that holds counts.",
            r#"[{"rate": "50MiB/s", "between": "08:00-18:00"}, {"rate": "200MiB/s"}]"#,
        ),
        key("concurrent", Shape::Integer { min: 1, max: 1000 }, "Requests in flight.", "32"),
        with_default(
            key(
                "reserve_pulls",
                Shape::Integer { min: 0, max: 1_000_000 },
                "Pulls of each window that are left to people, where the registry counts pulls (Docker Hub).",
                "20",
            ),
            "0",
        ),
    ]],
    required: &[],
};

/// Names of the profiles, and the word for no profile.
static PROFILES: [&str; LimitProfile::NAMES.len() + 1] = {
    let mut words = ["none"; LimitProfile::NAMES.len() + 1];
    let mut at = 0;
    while at < LimitProfile::NAMES.len() {
        words[at] = LimitProfile::NAMES[at];
        at += 1;
    }
    words
};

const RATE: Shape = Shape::Text { pattern: "^(none|[0-9]+ */ *(s|min|h))$" };

const BYTES_A_SECOND: &str = "^[0-9]+ *(B|kB|KB|KiB|MB|MiB|GB|GiB|TiB)? */s$";

pub(crate) const BANDWIDTH: Shape = Shape::TextOrMaps { pattern: BYTES_A_SECOND, keys: &WINDOW };

pub(crate) static WINDOW: Table = Table {
    place: "in a window of `bandwidth`",
    groups: &[&[
        key("rate", Shape::Text { pattern: BYTES_A_SECOND }, "Bytes a second.", r#""50MiB/s""#),
        key(
            "between",
            Shape::Text { pattern: "^[0-9]{1,2}:[0-9]{2} *- *[0-9]{1,2}:[0-9]{2}$" },
            "From one time of day to another, over midnight too. Default: always.",
            r#""08:00-18:00""#,
        ),
        with_default(
            key("timezone", ANY, "The time zone of `between`, by its name.", r#""Europe/Berlin""#),
            r#""UTC""#,
        ),
    ]],
    required: &["rate"],
};

pub(crate) static UPLOAD: Table = Table {
    place: "under `upload`",
    groups: &[&[
        with_default(
            key(
                "mode",
                Shape::Word(&UploadMode::NAMES),
                "In one piece (monolithic), in chunks (chunked), or as the registry is known to take them and the \
                 other way where it turns out that it does not (auto).",
                r#""chunked""#,
            ),
            r#""auto""#,
        ),
        key(
            "chunk",
            Shape::Size,
            "The length of a chunk, 1MiB to 64MiB; each upload in flight holds one in memory. Default: 4MiB for Azure, \
             else 8MiB.",
            r#""16MiB""#,
        ),
    ]],
    required: &[],
};
