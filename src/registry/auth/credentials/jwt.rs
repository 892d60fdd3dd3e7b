//! JSON Web Tokens (RFC 7519). This program signs the tokens with an RSA key, and authenticates to a cloud with the
//! signed tokens (RFC 7523).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::{Value, json};

/// Signature algorithms (RFC 7518, section 3.1).
#[derive(Debug, Clone, Copy)]
pub(super) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

/// Returns a signed token with these claims. The header of the token has the fields `alg` and `typ`, and a third field.
/// `parameter` is the name of the third field, such as `kid`. `value` is the value of the third field. Returns `None`
/// if the key cannot sign.
pub(super) fn signed(
    algorithm: Algorithm,
    (parameter, value): (&str, &str),
    claims: &Value,
    key: &RsaKeyPair,
) -> Option<SecretString> {
    let (name, padding) = match algorithm {
        Algorithm::Rs256 => ("RS256", &RSA_PKCS1_SHA256),
        Algorithm::Ps256 => ("PS256", &RSA_PSS_SHA256),
    };
    let header = json!({"alg": name, "typ": "JWT", parameter: value});
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encoded(&header), encoded(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
    Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
}
