//! Remedies in error messages of the commands without a `sync.yaml`. Such a message names a flag in place of a
//! configuration key. If a key has no flag, the message contains the position of the key in `sync.yaml`.

use crate::oci::RegistryHost;

/// Keys of a registry that have no flag, in the notation of error messages.
const KEYS_WITHOUT_FLAG: [&str; 3] = ["`tls.ca`", "`tls.certificate`", "`path_prefix`"];

/// Replaces the key `plain_http` in a message by the flag `--plain-http`. After a key without a flag, adds the position
/// of the key in `sync.yaml`. If `host` is `None`, returns the message unchanged.
pub(crate) fn name_flags(message: &str, host: Option<&RegistryHost>) -> String {
    let Some(host) = host else { return message.to_owned() };
    let named = message
        .replace("set `plain_http: true`", &format!("add `--plain-http {host}`"))
        .replace("remove `plain_http`", &format!("remove `--plain-http {host}`"));
    match KEYS_WITHOUT_FLAG.iter().find(|key| named.contains(**key)) {
        Some(key) => format!("{named} ({key} is a key below `registries.\"{host}\"` in sync.yaml)"),
        None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_plain_http_becomes_its_flag() {
        let host: RegistryHost = "h.example:5000".parse().unwrap();
        let key = "https://h.example:5000 does not speak TLS; for plain HTTP set `plain_http: true`";
        let flag = "https://h.example:5000 does not speak TLS; for plain HTTP add `--plain-http h.example:5000`";
        assert_eq!(name_flags(key, Some(&host)), flag);
        assert_eq!(name_flags(key, None), key);
        let flag = "x requires TLS; remove `--plain-http h.example:5000`";
        assert_eq!(name_flags("x requires TLS; remove `plain_http`", Some(&host)), flag);
    }

    #[test]
    fn key_without_flag_is_shown_with_its_place() {
        let host: RegistryHost = "h.example".parse().unwrap();
        assert_eq!(
            name_flags("x; set `tls.ca` to the file", Some(&host)),
            "x; set `tls.ca` to the file (`tls.ca` is a key below `registries.\"h.example\"` in sync.yaml)"
        );
    }
}
