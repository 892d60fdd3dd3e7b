//! Search for leaked secrets: verbatim, and in the forms that they take on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::site::Site;

/// Length of the pieces of a longer secret that are searched for too, in case it was truncated.
const PIECE: usize = 32;

/// Asserts that none of the secrets (by name) is in any of the places (by name): not verbatim, not escaped as JSON or
/// in a URL, not in hex, not in base64, alone or after a user name, and no long piece of it.
#[track_caller]
pub fn assert_absent(secrets: &[(&str, &str)], places: &[(&str, &[u8])]) {
    assert!(!secrets.is_empty() && !places.is_empty(), "there must be secrets and places");
    for (secret, text) in secrets {
        assert!(text.len() >= 6, "{secret} is too short to search for");
        for (form, bytes) in forms(text) {
            for (place, content) in places {
                let at = find(content, &bytes);
                let around = |at: usize| {
                    let context = &content[at.saturating_sub(200)..(at + bytes.len() + 40).min(content.len())];
                    String::from_utf8_lossy(context).into_owned()
                };
                assert!(at.is_none(), "{secret} is in {place} ({form}): {}", at.map(around).unwrap_or_default());
            }
        }
    }
}

/// Returns the bytes of a site's journal: the file and the write-ahead log beside it. Panics if they are too few.
pub fn journal(site: &Site) -> Vec<u8> {
    let files = ["journal.db", "journal.db-wal"];
    let bytes: Vec<u8> = files.iter().filter_map(|name| std::fs::read(site.path(name)).ok()).flatten().collect();
    assert!(bytes.len() > 1000, "the journal is missing or too small");
    bytes
}

/// Returns the forms in which a secret may be written.
fn forms(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let escaped: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let json = serde_json::to_string(text).expect("a text");
    let mut forms = vec![
        ("verbatim", text.into()),
        ("escaped for a URL", escaped.into_bytes()),
        ("escaped as JSON", json.trim_matches('"').into()),
        ("in hex", hex::encode(text).into_bytes()),
    ];
    // The secret may begin at any of three positions of a base64 group. Skip the characters that also encode
    // neighbours.
    for skipped in 0..3 {
        let bytes = [&b"xx"[..skipped], text.as_bytes()].concat();
        let (from, cut) = (skipped * 4 / 3 + usize::from(skipped > 0), usize::from(!bytes.len().is_multiple_of(3)));
        for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.push(("in base64", encoded.as_bytes()[from..encoded.len() - cut].to_vec()));
        }
    }
    if text.len() > 2 * PIECE && text.is_ascii() {
        let middle = text.len() / 2;
        forms.extend([
            ("its beginning", text[..PIECE].into()),
            ("its middle", text[middle - PIECE / 2..middle + PIECE / 2].into()),
            ("its end", text[text.len() - PIECE..].into()),
        ]);
    }
    forms
}

fn find(content: &[u8], bytes: &[u8]) -> Option<usize> {
    // Searching for the first byte alone is fast.
    let (first, rest) = bytes.split_first()?;
    let mut from = 0;
    while let Some(at) = content[from..].iter().position(|byte| byte == first) {
        let begin = from + at;
        if content[begin + 1..].starts_with(rest) {
            return Some(begin);
        }
        from = begin + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_found_in_every_form() {
        let secret = "c4nary/with+signs and \"quotes\"";
        let seen = |content: String| {
            let content = format!("before {content} after");
            std::panic::catch_unwind(|| assert_absent(&[("it", secret)], &[("log", content.as_bytes())])).is_err()
        };
        let base64 = |text: String| STANDARD_NO_PAD.encode(text);
        for content in [
            secret.to_owned(),
            serde_json::to_string(secret).unwrap(),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            base64(secret.to_owned()),
            base64(format!("a:{secret}")),
            base64(format!("me:{secret}")),
            base64(format!("you:{secret}:x")),
            hex::encode(secret),
        ] {
            assert!(seen(content.clone()), "{content}");
        }
        assert!(!seen("c4nary".to_owned()));
    }

    #[test]
    fn piece_of_a_long_secret_is_found() {
        let secret: String = (0..100).map(|i| char::from(b'a' + (i * 7 % 26) as u8)).collect();
        for piece in [&secret[..40], &secret[30..70], &secret[60..]] {
            let search = || assert_absent(&[("it", &secret)], &[("log", piece.as_bytes())]);
            assert!(std::panic::catch_unwind(search).is_err(), "{piece}");
        }
    }
}
