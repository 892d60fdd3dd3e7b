//! Credentials for Amazon's registries. Amazon's registry service returns the password of a registry in the response to
//! a signed request (`GetAuthorizationToken`). `keys` finds the access keys, and `sign` signs the request.

mod keys;
mod profile;
mod sign;

use std::time::Duration;

use base64::Engine as _;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use self::sign::Post;
use super::login::{CloudLogin, Login, usable_time};
use super::service_request::{CloudAnswer, ServiceClients};
use crate::oci::RegistryHost;
use crate::registry::Aws;
use crate::registry::auth::error::AuthError;
use crate::registry::flavor::ecr::AWS_DOMAINS;

/// Service of Amazon that issues the passwords of registries.
#[derive(Debug, PartialEq)]
struct Service {
    /// Name of the service in signatures.
    name: &'static str,
    /// Value of the header `x-amz-target`: the name of the operation (the service's API reference, "Common request
    /// headers").
    target: &'static str,
    region: String,
    endpoint: Url,
}

/// Authorization of a registry. The service for private registries returns a list with one authorization. The service
/// for public registries returns one authorization without a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Authorizations {
    List(Vec<Authorization>),
    One(Authorization),
}

/// Password of a registry, and the end of the password's lifetime. The type does not implement `Debug`, because `Debug`
/// output would show the password.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: String,
    /// End of the lifetime, in seconds since 1970.
    expires_at: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationAnswer {
    authorization_data: Authorizations,
}

/// Returns the login of a registry.
pub(super) async fn login(aws: &Aws, host: &RegistryHost, clients: &ServiceClients) -> Result<CloudLogin, AuthError> {
    let service = service(aws, host)?;
    let keys = keys::find(aws, &service.region, clients).await?;
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", service.target)];
    let post = Post { url: &service.endpoint, headers: &headers, body: "{}" };
    let request = post.signed(&clients.authority, &keys, &service.region, service.name, chrono::Utc::now())?;
    let answer = clients.send(request, &service.endpoint, &[]).await?.require_success(code)?;
    let authorization = match answer.json::<AuthorizationAnswer>()?.authorization_data {
        Authorizations::One(authorization) => Some(authorization),
        Authorizations::List(list) => list.into_iter().next(),
    };
    let authorization = authorization.ok_or_else(|| answer.unusable("without a token"))?;
    let remaining = authorization.expires_at - chrono::Utc::now().timestamp_millis() as f64 / 1000.0;
    let remaining = Duration::try_from_secs_f64(remaining.min(86_400.0)).unwrap_or_default();
    Ok(CloudLogin { login: read_login(&authorization, &answer)?, usable_for: usable_time(remaining), name: keys.name })
}

fn read_login(authorization: &Authorization, answer: &CloudAnswer) -> Result<Login, AuthError> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(&authorization.authorization_token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) =
        text.as_deref().and_then(|text| text.split_once(':')).ok_or_else(|| answer.unusable("without a password"))?;
    Ok(Login::Password { username: username.to_owned(), password: SecretString::from(password) })
}

/// Determines the service that issues the password of a registry, from the host name of the registry and the settings.
fn service(aws: &Aws, host: &RegistryHost) -> Result<Service, AuthError> {
    let public = matches!(host.name(), "public.ecr.aws" | "ecr-public.aws.com");
    let (name, target) = if public {
        ("ecr-public", "SpencerFrontendService.GetAuthorizationToken")
    } else {
        ("ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
    };
    let known = if public {
        Some(("us-east-1", "api.ecr-public.us-east-1.amazonaws.com".to_owned()))
    } else {
        region_and_api_host(host.name())
    };
    let from_environment = || aws.variables.get("AWS_REGION").or_else(|| aws.variables.get("AWS_DEFAULT_REGION"));
    let region = aws.region.as_deref().or(known.as_ref().map(|(region, _)| *region)).or_else(from_environment);
    let region = region.ok_or_else(|| {
        AuthError::denied(format!("the host name {} contains no AWS region: set `region` under `aws`", host.name()))
    })?;
    // The region becomes a part of a URL, so only safe characters are allowed.
    if !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(AuthError::denied("the region contains characters other than lower-case letters, digits and `-`"));
    }
    let endpoint = match (&aws.endpoint, known) {
        (Some(endpoint), _) => Ok(endpoint.clone()),
        (None, Some((known_region, endpoint))) if known_region == region => format!("https://{endpoint}/").parse(),
        (None, _) => format!("https://api.ecr.{region}.{}/", domain(region)).parse(),
    };
    let endpoint = endpoint.map_err(|_| AuthError::denied("the region does not form a valid address"))?;
    Ok(Service { name, target, region: region.to_owned(), endpoint })
}

/// Returns the region in the host name of a registry, and the API host of this region ("Amazon ECR endpoints and
/// quotas").
fn region_and_api_host(host: &str) -> Option<(&str, String)> {
    let (account, rest) = host.split_once('.')?;
    if account.is_empty() || !account.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let classic = |prefix: &str| {
        let (region, domain) = rest.strip_prefix(prefix)?.split_once('.')?;
        AWS_DOMAINS.contains(&domain).then_some((region, domain))
    };
    let dual = |prefix: &str| rest.strip_prefix(prefix)?.strip_suffix(".on.aws").filter(|region| !region.contains('.'));
    if let Some((region, domain)) = classic("dkr.ecr.") {
        return Some((region, format!("api.ecr.{region}.{domain}")));
    }
    if let Some((region, domain)) = classic("dkr.ecr-fips.") {
        return Some((region, format!("ecr-fips.{region}.{domain}")));
    }
    if let Some(region) = dual("dkr-ecr.") {
        return Some((region, format!("ecr.{region}.api.aws")));
    }
    let region = dual("dkr-ecr-fips.")?;
    Some((region, format!("ecr-fips.{region}.api.aws")))
}

fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else if region.starts_with("eusc-") {
        "amazonaws.eu"
    } else {
        "amazonaws.com"
    }
}

/// Returns the error code of a refusal in JSON or XML, such as `ExpiredTokenException`.
fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(alias = "code", alias = "Code", rename = "__type")]
        code: String,
    }
    if let Ok(Refusal { code }) = serde_json::from_slice(body) {
        return Some(code.rsplit('#').next().unwrap_or_default().to_owned());
    }
    element(std::str::from_utf8(body).ok()?, "Code").map(str::to_owned)
}

/// Returns the text of the first XML element with this name. The function does not decode XML escapes, because the
/// needed values contain no escapes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Variables;

    fn aws(region: Option<&str>, variables: &[(&str, &str)]) -> Aws {
        let environment =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Aws {
            region: region.map(str::to_owned),
            profile: None,
            endpoint: None,
            sts: None,
            imds: "http://127.0.0.1:1".parse().unwrap(),
            variables: Variables::from_environment(&environment),
        }
    }

    #[test]
    fn region_and_service_follow_from_the_host_name() {
        for (host, name, region, endpoint) in [
            ("1.dkr.ecr.eu-west-1.amazonaws.com", "ecr", "eu-west-1", "https://api.ecr.eu-west-1.amazonaws.com/"),
            (
                "1.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "ecr",
                "cn-north-1",
                "https://api.ecr.cn-north-1.amazonaws.com.cn/",
            ),
            ("1.dkr.ecr-fips.us-east-2.amazonaws.com", "ecr", "us-east-2", "https://ecr-fips.us-east-2.amazonaws.com/"),
            ("1.dkr-ecr.us-east-2.on.aws", "ecr", "us-east-2", "https://ecr.us-east-2.api.aws/"),
            ("1.dkr-ecr-fips.us-east-2.on.aws", "ecr", "us-east-2", "https://ecr-fips.us-east-2.api.aws/"),
            ("public.ecr.aws", "ecr-public", "us-east-1", "https://api.ecr-public.us-east-1.amazonaws.com/"),
        ] {
            let service = service(&aws(None, &[("AWS_REGION", "us-west-1")]), &host.parse().unwrap()).unwrap();
            assert_eq!((service.name, service.region.as_str(), service.endpoint.as_str()), (name, region, endpoint));
        }
    }

    #[test]
    fn custom_host_name_requires_an_explicit_valid_region() {
        for host in ["images.example", "1.dkr.ecr.eu-west-1.evil.example", "x.dkr.ecr.eu-west-1.amazonaws.com"] {
            let host: RegistryHost = host.parse().unwrap();
            let error = service(&aws(None, &[]), &host).unwrap_err();
            let expected = format!("the host name {} contains no AWS region: set `region` under `aws`", host.name());
            assert_eq!(error.detail, expected);
            let set = service(&aws(Some("cn-north-1"), &[("AWS_REGION", "eu-west-1")]), &host).unwrap();
            assert_eq!(set.endpoint.as_str(), "https://api.ecr.cn-north-1.amazonaws.com.cn/");
            let from_environment = service(&aws(None, &[("AWS_REGION", "eu-west-1")]), &host).unwrap();
            assert!(service(&aws(None, &[("AWS_REGION", "x.evil.example/")]), &host).is_err());
            assert_eq!(from_environment.endpoint.as_str(), "https://api.ecr.eu-west-1.amazonaws.com/");
        }
    }

    #[test]
    fn refusal_code_is_parsed_from_json_or_xml() {
        for (body, expected) in [
            (r#"{"__type":"com.amazon#ExpiredTokenException","message":"x"}"#, Some("ExpiredTokenException")),
            (r#"{"code":"NoRole","message":"x"}"#, Some("NoRole")),
            ("<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>", Some("AccessDenied")),
            ("nothing", None),
        ] {
            assert_eq!(code(body.as_bytes()).as_deref(), expected);
        }
    }
}
