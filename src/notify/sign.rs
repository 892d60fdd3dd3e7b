//! Signature of a message (Standard Webhooks, "Signature scheme").

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};

use super::SigningKey;

/// Returns the value of `webhook-signature` for a message that is sent at `at`: HMAC-SHA256 over the message's id,
/// the time in seconds and the body.
pub(super) fn signature(key: &SigningKey, id: &str, at: DateTime<Utc>, body: &str) -> String {
    let signed = format!("{id}.{}.{body}", at.timestamp());
    format!("v1,{}", STANDARD.encode(hmac::sign(key.key(), signed.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_equals_example_of_standard_webhooks_libraries() {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let at = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
