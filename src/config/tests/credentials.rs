//! Tests of cloud identities, from keys and from environment variables.

use super::support::read;
use crate::config::parse;
use crate::registry::{AzureIdentity, Credentials, Secret};

#[test]
fn an_identity_of_azure_is_a_word_or_keys() {
    let azure = |written: &str| {
        let text =
            format!("{{version: 1, sync: [], registries: {{a.example: {{credentials: {{azure: {written}}}}}}}}}");
        let config = read(&text).map_err(|problems| problems.to_string())?;
        match config.registries.into_values().next().and_then(|options| options.credentials) {
            Some(Credentials::Azure(azure)) => Ok(azure),
            other => Err(format!("{other:?}")),
        }
    };
    let managed = |client_id: Option<&str>| AzureIdentity::Managed { client_id: client_id.map(str::to_owned) };
    let plain = azure("managed_identity").unwrap();
    assert_eq!((&plain.identity, plain.imds.as_str()), (&managed(None), "http://169.254.169.254/"));
    assert_eq!(plain.authority.as_str(), "https://login.microsoftonline.com/");
    assert_eq!(azure("{}").unwrap(), plain);
    let mine = azure("{client_id: mine, imds: 'http://127.0.0.1:1'}").unwrap();
    assert_eq!((mine.identity, mine.imds.as_str()), (managed(Some("mine")), "http://127.0.0.1:1/"));
    let token = Secret::File("/run/secrets/token".into());
    let workload = AzureIdentity::Workload { client_id: "id".into(), tenant_id: "id".into(), token };
    assert_eq!(azure("workload_identity").unwrap().identity, workload);
    let pem = "tests/config/credentials/azure.pem";
    let certified = AzureIdentity::Certified {
        client_id: "a".into(),
        tenant_id: "b".into(),
        certificate: pem.into(),
        key: pem.into(),
    };
    assert_eq!(azure(&format!("{{client_id: a, tenant_id: b, certificate: {pem}}}")).unwrap().identity, certified);
    for (wrong, message) in [
        ("hunter2", "expected managed_identity, workload_identity or a map"),
        (
            "{client_secret: hunter2}",
            "an application needs client_id, tenant_id, and either client_secret or certificate",
        ),
        ("{client_id: a, tenant_id: ../b, client_secret: hunter2}", "a tenant_id has only letters"),
        ("{imds: 'http://me:hunter2@h'}", "expected an address like"),
        ("{authority: 'http://login.example'}", "use https"),
        ("{client_sekret: hunter2}", "unknown key `client_sekret` under `azure`"),
    ] {
        let problems = azure(wrong).unwrap_err();
        assert!(problems.contains(message) && !problems.contains("hunter2"), "{problems}");
    }
}

/// Reads the credentials in a text. `variables` is the whole environment.
fn read_credentials(written: &str, variables: &[(&str, &str)]) -> Result<Credentials, String> {
    let environment = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let text = format!(
        "{{version: 1, daemon: {{journal: j}}, sync: [], registries: {{a.example: {{credentials: {written}}}}}}}"
    );
    let config = parse("sync.yaml", &text, &environment).map_err(|problems| problems.to_string())?;
    let credentials = config.registries.into_values().next().and_then(|options| options.credentials);
    credentials.ok_or_else(|| "nobody".to_owned())
}

#[test]
fn authority_from_the_environment_requires_tls() {
    let authority = |host: &str| {
        let variables = [
            ("AZURE_CLIENT_ID", "id"),
            ("AZURE_TENANT_ID", "id"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/run/secrets/token"),
            ("AZURE_AUTHORITY_HOST", host),
        ];
        match read_credentials("{azure: workload_identity}", &variables)? {
            Credentials::Azure(azure) => Ok(azure.authority.to_string()),
            other => Err(format!("{other:?}")),
        }
    };
    assert_eq!(authority("").as_deref(), Ok("https://login.microsoftonline.com/"));
    assert_eq!(authority("https://login.microsoftonline.us/").as_deref(), Ok("https://login.microsoftonline.us/"));
    assert_eq!(authority("http://127.0.0.1:1/").as_deref(), Ok("http://127.0.0.1:1/"));
    let refused = authority("http://login.example/").unwrap_err();
    let why = "the environment variable AZURE_AUTHORITY_HOST: transship sends secrets to this address: use https";
    assert!(refused.contains(why), "{refused}");
}

#[test]
fn an_identity_of_google_follows_the_variables_of_googles_own_tools() {
    let gcp = |written: &str, variables: &[(&str, &str)]| match read_credentials(written, variables)? {
        Credentials::Gcp(gcp) => Ok((gcp.key.map(|path| path.display().to_string()), gcp.metadata.to_string())),
        other => Err(format!("{other:?}")),
    };
    let both = [("GOOGLE_APPLICATION_CREDENTIALS", "/run/key.json"), ("GCE_METADATA_HOST", "127.0.0.1:9")];
    let plain = "http://metadata.google.internal/".to_owned();
    assert_eq!(gcp("{gcp: {}}", &[]), Ok((None, plain)));
    assert_eq!(gcp("{gcp: {}}", &both), Ok((Some("/run/key.json".into()), "http://127.0.0.1:9/".into())));
    let metadata = "{gcp: {metadata: 'http://169.254.169.254'}}";
    assert_eq!(gcp(metadata, &both), Ok((None, "http://169.254.169.254/".into())));
    let far = gcp("{gcp: {}}", &[("GCE_METADATA_HOST", "metadata.example")]).unwrap_err();
    assert!(far.contains("the environment variable GCE_METADATA_HOST: a metadata service returns secrets"), "{far}");
}

#[test]
fn an_identity_of_amazon_keeps_the_variables_and_shows_none() {
    let secret = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("PATH", "/bin")];
    let found = read_credentials("{aws: {}}", &secret).unwrap();
    let shown = format!("{found:?}");
    assert!(shown.contains(r#"variables: {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}"#), "{shown}");
    assert_eq!(found, read_credentials("{aws: {}}", &secret[..2]).unwrap());
    assert_ne!(found, read_credentials("{aws: {}}", &secret[..1]).unwrap());
}
