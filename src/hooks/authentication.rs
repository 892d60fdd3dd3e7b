//! Whether a request comes from who knows the receiver's secret. Nothing here says what was wrong: that would help guessing.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use http::{HeaderMap, header};

use crate::config::HookKind;

/// GitHub's header: `sha256=` and the HMAC of the body in hex (docs.github.com, "Validating webhook deliveries").
const SIGNATURE: &str = "x-hub-signature-256";

/// What a request proves itself by.
#[derive(Debug)]
pub(super) enum Proof {
    /// It has shown the secret.
    Shown,
    /// It is signed, with this; only its body can tell whether rightly.
    Signed([u8; 32]),
}

/// What the head of a request proves; `None` where it proves nothing, so that its body need not be read.
///
/// The secret comes as a bearer token, or alone in `Authorization` as Harbor may be configured to. Docker Hub can send no
/// header of its own: there alone the address may have it, as `?token=`. GitHub signs, and no other does: whoever else sends
/// what looks like a signature has shown nothing.
pub(super) fn proof(kind: HookKind, secret: &str, headers: &HeaderMap, query: Option<&str>) -> Option<Proof> {
    if let Some(signature) = headers.get(SIGNATURE).filter(|_| kind == HookKind::Ghcr) {
        let digits = signature.to_str().ok()?.strip_prefix("sha256=")?;
        let mut signature = [0; 32];
        return hex::decode_to_slice(digits, &mut signature).ok().map(|()| Proof::Signed(signature));
    }
    let shown = match headers.get(header::AUTHORIZATION) {
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
    verify_slices_are_equal(shown.as_bytes(), secret.as_bytes()).ok().map(|()| Proof::Shown)
}

impl Proof {
    /// Whether the body is what was proven.
    pub(super) fn holds(&self, secret: &str, body: &[u8]) -> bool {
        match self {
            Self::Shown => true,
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

    fn holds(kind: HookKind, head: Option<(&'static str, &str)>, query: Option<&str>, body: &[u8]) -> bool {
        let headers = head.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        proof(kind, SECRET, &headers.into_iter().collect(), query).is_some_and(|proof| proof.holds(SECRET, body))
    }

    #[test]
    fn a_signature_holds_for_the_body_that_was_signed() {
        // The example in GitHub's documentation.
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |value: &str, body: &[u8]| holds(HookKind::Ghcr, Some((SIGNATURE, value)), None, body);
        assert!(signed(good, b"Hello, World!"));
        assert!(!signed(good, b"Hello, World?"));
        assert!(!signed(&good.replace('7', "8"), b"Hello, World!"));
        for bad in ["", "sha256=", "sha256=xx", &good[7..], &good[..40]] {
            assert!(!signed(bad, b"Hello, World!"), "{bad}");
        }
    }

    #[test]
    fn a_token_is_taken_from_the_header_and_from_the_address_for_docker_hub_alone() {
        let shown = |kind, value: &str| holds(kind, Some(("authorization", value)), None, b"");
        for value in [format!("Bearer {SECRET}"), format!("bearer {SECRET}"), format!("bearer   {SECRET}")] {
            assert!(shown(HookKind::Distribution, &value), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "Bearer nothing", &SECRET[1..], &format!("Basic {SECRET}")] {
            assert!(!shown(HookKind::Distribution, value), "{value}");
        }
        let query = "a=b&token=It%27s+a+Secret+to+Everybody";
        assert!(holds(HookKind::DockerHub, None, Some(query), b""));
        assert!(!holds(HookKind::DockerHub, None, Some("token=no"), b""));
        assert!(!holds(HookKind::Harbor, None, Some(query), b""));
        assert!(!holds(HookKind::DockerHub, None, None, b""));
    }
}
