//! Verification of Signature Version 4, after "AWS Signature Version 4 for API requests": it computes the expected
//! signature of a request. It shares no code with the program.

use sha2::{Digest as _, Sha256};

use super::ServiceRequest;

/// Signer, and the region and service that were signed for.
pub struct Signed {
    /// Id of the access key.
    pub id: String,
    /// Region.
    pub region: String,
    /// Service.
    pub service: String,
    date: String,
    names: Vec<String>,
    signature: String,
}

/// Parses the `Authorization` of a request.
pub fn read(requested: &ServiceRequest) -> Option<Signed> {
    let rest = requested.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ")?;
    let part = |name: &str| rest.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let scope: Vec<&str> = part("Credential")?.split('/').collect();
    let [id, date, region, service, "aws4_request"] = scope[..] else { return None };
    Some(Signed {
        id: id.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        date: date.to_owned(),
        names: part("SignedHeaders")?.split(';').map(str::to_owned).collect(),
        signature: part("Signature")?.to_owned(),
    })
}

/// Returns true if a request was signed with this secret, at about this time, with every required header.
pub fn is_valid_signature(requested: &ServiceRequest, signed: &Signed, secret: &str) -> bool {
    let time = requested.header("x-amz-date");
    let now = chrono::Utc::now();
    let at = chrono::NaiveDateTime::parse_from_str(time, "%Y%m%dT%H%M%SZ").map(|at| at.and_utc());
    let timely = at.is_ok_and(|at| (now - at).num_minutes().abs() < 5) && time.starts_with(&signed.date);
    let must = requested.headers.keys().filter(|name| *name == "host" || name.starts_with("x-amz-"));
    let covered = must.clone().all(|name| signed.names.contains(name)) && signed.names.is_sorted();
    let headers: String =
        signed.names.iter().map(|name| format!("{name}:{}\n", requested.header(name).trim())).collect();
    let query: Vec<String> = requested.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let canonical = [
        requested.method.as_str(),
        &requested.path,
        &query.join("&"),
        &headers,
        &signed.names.join(";"),
        &hex::encode(Sha256::digest(&requested.body)),
    ]
    .join("\n");
    let scope = format!("{}/{}/{}/aws4_request", signed.date, signed.region, signed.service);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let key = hmac(format!("AWS4{secret}").as_bytes(), &signed.date);
    let key = hmac(&hmac(&hmac(&key, &signed.region), &signed.service), "aws4_request");
    timely && covered && signed.signature == hex::encode(hmac(&key, &text))
}

/// Returns the HMAC (RFC 2104) with a key that is no longer than a block.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    assert!(key.len() <= 64, "a short key");
    let padded = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_matches_the_test_vector_of_rfc_4231() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(hmac(b"Jefe", "what do ya want for nothing?")), expected);
    }
}
