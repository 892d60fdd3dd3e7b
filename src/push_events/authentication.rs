//! Authentication of push events by the receiver's secret. A refusal gives no reason, because a reason would help an
//! attacker to guess the secret.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use http::{HeaderMap, header};

use crate::config::HookKind;

/// GitHub's header: `sha256=` and the HMAC of the body in hex (docs.github.com, "Validating webhook deliveries").
const SIGNATURE: &str = "x-hub-signature-256";

/// Proof of the sender's identity, from the head of a request.
#[derive(Debug)]
pub(super) enum Proof {
    /// The head contains the secret of the receiver.
    Secret,
    /// The head contains this signature. [`Self::is_valid`] compares the signature with the HMAC of the body.
    Signed([u8; 32]),
}

/// Returns the proof of the sender in the head of a request, or `None` if there is no valid proof. Without a proof, the
/// caller need not read the body.
///
/// The secret comes in `Authorization`:
/// - as a bearer token, or
/// - without a scheme, which is an option of Harbor.
///
/// Docker Hub cannot set a header. For Docker Hub only, the address may contain the secret as `?token=`.
///
/// Only GitHub signs the body. For other kinds of receivers, the function ignores a signature.
pub(super) fn proof(kind: HookKind, secret: &str, headers: &HeaderMap, query: Option<&str>) -> Option<Proof> {
    if let Some(signature) = headers.get(SIGNATURE).filter(|_| kind == HookKind::Ghcr) {
        let digits = signature.to_str().ok()?.strip_prefix("sha256=")?;
        let mut signature = [0; 32];
        return hex::decode_to_slice(digits, &mut signature).ok().map(|()| Proof::Signed(signature));
    }
    let presented = match headers.get(header::AUTHORIZATION) {
        Some(header) => {
            let text = header.to_str().ok()?;
            let bearer = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            bearer.map_or(text, |(_, token)| token.trim_start()).to_owned()
        }
        None if kind == HookKind::DockerHub => {
            let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
            pairs.find(|(name, _)| name == "token")?.1.into_owned()
        }
        None => return None,
    };
    verify_slices_are_equal(presented.as_bytes(), secret.as_bytes()).ok().map(|()| Proof::Secret)
}

impl Proof {
    /// Returns true if the proof is valid for this body.
    pub(super) fn is_valid(&self, secret: &str, body: &[u8]) -> bool {
        match self {
            Self::Secret => true,
            Self::Signed(signature) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body, signature).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";

    fn authenticates(kind: HookKind, head: Option<(&'static str, &str)>, query: Option<&str>, body: &[u8]) -> bool {
        let headers = head.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        proof(kind, SECRET, &headers.into_iter().collect(), query).is_some_and(|proof| proof.is_valid(SECRET, body))
    }

    #[test]
    fn signature_is_valid_only_for_the_signed_body() {
        // The example in GitHub's documentation.
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |value: &str, body: &[u8]| authenticates(HookKind::Ghcr, Some((SIGNATURE, value)), None, body);
        assert!(signed(good, b"Hello, World!"));
        assert!(!signed(good, b"Hello, World?"));
        assert!(!signed(&good.replace('7', "8"), b"Hello, World!"));
        for bad in ["", "sha256=", "sha256=xx", &good[7..], &good[..40]] {
            assert!(!signed(bad, b"Hello, World!"), "{bad}");
        }
    }

    #[test]
    fn token_in_address_is_accepted_for_docker_hub_only() {
        let shown = |kind, value: &str| authenticates(kind, Some(("authorization", value)), None, b"");
        for value in [format!("Bearer {SECRET}"), format!("bearer {SECRET}"), format!("bearer   {SECRET}")] {
            assert!(shown(HookKind::Distribution, &value), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "Bearer nothing", &SECRET[1..], &format!("Basic {SECRET}")] {
            assert!(!shown(HookKind::Distribution, value), "{value}");
        }
        let query = "a=b&token=It%27s+a+Secret+to+Everybody";
        assert!(authenticates(HookKind::DockerHub, None, Some(query), b""));
        assert!(!authenticates(HookKind::DockerHub, None, Some("token=no"), b""));
        assert!(!authenticates(HookKind::Harbor, None, Some(query), b""));
        assert!(!authenticates(HookKind::DockerHub, None, None, b""));
    }
}
