//! Expansion of `${NAME}` in values from the environment. `$$` becomes a `$`; a `$` before any other character is kept.

/// Lookup of environment variables; returns `None` if a variable is not set.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Message about `${{ … }}`, an expression of GitHub Actions.
pub(crate) const EXPRESSION: &str = "`${{ … }}` is an expression of GitHub Actions, and transship does not evaluate it";
/// Remedy for [`EXPRESSION`].
pub(crate) const EXPRESSION_HINT: &str =
    "set an environment variable in the workflow, and write ${NAME}, or {env: NAME} for a secret";

/// Error: a text cannot be expanded. No message repeats the text around the name, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    #[error(
        "the environment variable CREDENTIALS_DIRECTORY is not set: systemd sets the variable only for the service; \
         run the command as root while the service runs, or set the variable: \
         `CREDENTIALS_DIRECTORY=/etc/transship/credentials transship …`"
    )]
    Credentials,
    #[error("the environment variable {0} is not set: set the variable, or write `$$` for a plain `$`")]
    Unset(String),
    #[error("{EXPRESSION}: {EXPRESSION_HINT}")]
    Expression,
    #[error("`${{` is not closed: write ${{NAME}}, or `$$` for a plain `$`")]
    Open,
    #[error(
        "the text in `${{…}}` is not the name of an environment variable: use only letters, digits and `_`, or write \
         `$$` for a plain `$`"
    )]
    Name,
}

/// Returns the text with every `${NAME}` replaced.
pub(crate) fn expand(text: &str, environment: Environment<'_>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            if after.starts_with('{') {
                return Err(ExpandError::Expression);
            }
            let (name, after) = after.split_once('}').ok_or(ExpandError::Open)?;
            if !is_name(name) {
                return Err(ExpandError::Name);
            }
            expanded.push_str(&environment(name).ok_or_else(|| unset_error(name))?);
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn unset_error(name: &str) -> ExpandError {
    if name == "CREDENTIALS_DIRECTORY" { ExpandError::Credentials } else { ExpandError::Unset(name.to_owned()) }
}

/// Returns true if a text can name an environment variable.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let environment = |name: &str| (name == "A_1").then(|| "a$b${C}".to_owned());
        expand(text, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_are_replaced_once_and_other_dollars_stay() {
        for (text, expanded) in [
            ("x${A_1}y", "xa$b${C}y"),
            ("re:v[0-9]+$", "re:v[0-9]+$"),
            ("$A_1", "$A_1"),
            ("$${A_1}", "${A_1}"),
            ("$$$$", "$$"),
            ("$", "$"),
            ("é$é", "é$é"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn invalid_variable_is_refused_with_a_remedy() {
        let message = |text: &str| read(text).unwrap_err();
        assert_eq!(
            message("${NO}"),
            "the environment variable NO is not set: set the variable, or write `$$` for a plain `$`"
        );
        assert_eq!(
            message("${CREDENTIALS_DIRECTORY}/x"),
            "the environment variable CREDENTIALS_DIRECTORY is not set: systemd sets the variable only for the \
             service; run the command as root while the service runs, or set the variable: \
             `CREDENTIALS_DIRECTORY=/etc/transship/credentials transship …`"
        );
        assert_eq!(message("${A_1"), "`${` is not closed: write ${NAME}, or `$$` for a plain `$`");
        assert!(message("${{ secrets.X }}").ends_with("write ${NAME}, or {env: NAME} for a secret"));
        for bad in ["${}", "${1A}", "${A_1:-x}", "${A B}"] {
            assert!(message(bad).starts_with("the text in `${…}` is not the name"), "{bad}");
        }
    }
}
