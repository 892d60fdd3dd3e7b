//! Challenges in `WWW-Authenticate` (RFC 9110, section 11.6.1): the authentication that a registry requires. This file
//! only parses challenges; the module `auth` reacts to challenges.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Authentication challenge: a scheme in lower case, and the parameters of the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the value of a parameter. `name` is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Returns all challenges of a response. Each header can contain several challenges.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| Reader { rest: value }.challenges()).collect()
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn challenges(mut self) -> Vec<Challenge> {
        let mut found: Vec<Challenge> = Vec::new();
        loop {
            self.skip(|c| c == ',' || c.is_whitespace());
            let word = self.read_word();
            if word.is_empty() {
                // End of the text, or a character that is not allowed here.
                let mut rest = self.rest.chars();
                if rest.next().is_none() {
                    return found;
                }
                self.rest = rest.as_str();
                continue;
            }
            self.skip(char::is_whitespace);
            match (self.rest.strip_prefix('='), found.last_mut()) {
                (Some(after), Some(challenge)) => {
                    self.rest = after;
                    self.skip(char::is_whitespace);
                    let value = self.read_value();
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                }
                _ => found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() }),
            }
        }
    }

    fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(unwanted);
    }

    fn read_word(&mut self) -> &'a str {
        let end =
            self.rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '"')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Reads a quoted string or a bare word. Removes the escapes of a quoted string.
    fn read_value(&mut self) -> String {
        let Some(quoted) = self.rest.strip_prefix('"') else { return self.read_word().to_owned() };
        let mut value = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                other => value.push(other),
            }
        }
        self.rest = chars.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Vec<Challenge> {
        let pairs = values.iter().map(|value| (WWW_AUTHENTICATE, value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        challenges(&headers)
    }

    #[test]
    fn bearer_challenge_keeps_commas_within_quotes() {
        let found =
            read(&[r#"Bearer realm="https://a/token?x=1,2",service="s \"q\"", scope="repository:a/b:pull,push""#]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].get("realm"), Some("https://a/token?x=1,2"));
        assert_eq!(found[0].get("service"), Some(r#"s "q""#));
        assert_eq!(found[0].get("scope"), Some("repository:a/b:pull,push"));
    }

    #[test]
    fn all_challenges_are_read_from_one_or_many_headers() {
        for values in [
            &["Basic realm=\"r\", BEARER Realm = https://a/t , service=s"][..],
            &["Basic realm=r", "Bearer realm=\"https://a/t\",service=\"s\""],
        ] {
            let found = read(values);
            assert_eq!(found.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(), ["basic", "bearer"]);
            assert_eq!(found[1].get("realm"), Some("https://a/t"));
            assert_eq!(found[1].get("service"), Some("s"));
        }
    }

    #[test]
    fn malformed_challenges_end_without_panic() {
        for value in ["", ",,,", "=", "\"", "Negotiate YWJj==", "Bearer realm=\"open", "Bearer =\"\\"] {
            read(&[value]);
        }
        assert_eq!(read(&["Negotiate YWJj==, Basic realm=\"r\""]).last().unwrap().scheme, "basic");
    }
}
