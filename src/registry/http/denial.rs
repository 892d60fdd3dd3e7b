//! Texts for denied requests: the identity of the request, and the operator's next step. An error message contains
//! these texts after the registry's own text.

use http::StatusCode;

use crate::store::Step;

/// Identity of a request that the registry denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeniedIdentity {
    /// The client sent no credentials, because no credentials are configured for the registry.
    Anonymous,
    /// The client sent credentials.
    Named {
        /// User name with the origin of the password, such as `bot (password from the file /run/bot)`.
        name: String,
        /// Next step of the operator if the credentials are not valid, such as `check the token`.
        check: &'static str,
        /// True if an earlier answer has proven that the credentials are valid.
        is_proven: bool,
    },
}

impl DeniedIdentity {
    /// Returns a clause with the identity and the operator's next step. The error message appends this clause to the
    /// registry's own text.
    pub(crate) fn remedy(&self, step: Step, status: StatusCode, insufficient_scope: bool) -> String {
        match self {
            Self::Anonymous => format!("the request was sent without credentials: {SET_CREDENTIALS}"),
            Self::Named { name, is_proven, .. }
                if *is_proven || insufficient_scope || status != StatusCode::UNAUTHORIZED =>
            {
                format!("{name} lacks the right to {}: grant that right at the registry", describe_right(step))
            }
            Self::Named { name, check, .. } => describe_refusal(name, check),
        }
    }
}

/// Returns the clause for credentials that a registry does not accept. `check` is the operator's next step.
pub(crate) fn describe_refusal(name: &str, check: &str) -> String {
    format!("the registry refused {name}: {check}")
}

/// Next step of the operator after the registry or its token service denied a request without credentials.
pub(crate) const SET_CREDENTIALS: &str = "set `credentials` for this registry, or run `docker login`";

/// Returns the right that a step needs, as words that follow "the right to".
fn describe_right(step: Step) -> &'static str {
    match step {
        Step::Connect => "use the registry",
        Step::ListRepositories => "list the repositories",
        Step::ListTags | Step::Resolve | Step::ReadManifest | Step::ReadBlob | Step::ListReferrers | Step::FindBlob => {
            "pull from this repository"
        }
        Step::BeginUpload
        | Step::SendBlob
        | Step::CommitBlob
        | Step::WriteManifest
        | Step::LinkReferrers
        | Step::PublishArchive => "push to this repository",
        Step::Delete => "delete from this repository",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(is_proven: bool) -> DeniedIdentity {
        let (name, check) = ("bot (password from the file /run/bot)".into(), "check the user name and the password");
        DeniedIdentity::Named { name, check, is_proven }
    }

    #[test]
    fn refused_password_is_to_be_checked_with_its_origin() {
        let remedy = named(false).remedy(Step::ListTags, StatusCode::UNAUTHORIZED, false);
        assert_eq!(
            remedy,
            "the registry refused bot (password from the file /run/bot): check the user name and the password"
        );
    }

    #[test]
    fn missing_right_is_named_for_a_valid_password() {
        let right = "bot (password from the file /run/bot) lacks the right to";
        for (denied, status, insufficient_scope) in [(true, 401, false), (false, 403, false), (false, 401, true)] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                named(denied).remedy(Step::BeginUpload, status, insufficient_scope),
                format!("{right} push to this repository: grant that right at the registry")
            );
        }
        let pull = named(true).remedy(Step::ReadBlob, StatusCode::UNAUTHORIZED, false);
        assert!(pull.starts_with(&format!("{right} pull from this repository")), "{pull}");
    }

    #[test]
    fn anonymous_denial_asks_for_credentials() {
        let remedy = DeniedIdentity::Anonymous.remedy(Step::ListTags, StatusCode::FORBIDDEN, false);
        assert!(remedy.starts_with("the request was sent without credentials: set `credentials`"), "{remedy}");
    }
}
