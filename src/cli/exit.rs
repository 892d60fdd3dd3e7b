//! Exit codes of the program, and the error type of all commands.

use std::process::ExitCode;

use super::context::flag_hints::name_flags;
use crate::config::Problems;
use crate::journal::JournalError;
use crate::oci::RegistryHost;

/// Result of a command. The value is the exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// At least one tag failed, or the command could not do its work.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Changes are pending (`plan --exit-code`).
    ChangesPending = 3,
    /// A rule or a pull limit withheld at least one tag.
    Withheld = 4,
    /// The journal is damaged, or the file is not a journal that this version can read. A restart does not help.
    UnusableJournal = 5,
    /// A signal ended the command before its work was done.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Error of a command.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong. Repeating the command does not help.
    Usage(anyhow::Error),
    /// Something outside the program failed.
    Failed(anyhow::Error),
}

impl Failure {
    /// Returns a failure for a mistake in the command line or the configuration.
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// Replaces configuration keys by flags in the message (see [`name_flags`]), for commands without a `sync.yaml`.
    pub(super) fn name_flags(self, host: Option<&RegistryHost>) -> Self {
        let named = |error: anyhow::Error| {
            let shown = format!("{error:#}");
            let named = name_flags(&shown, host);
            if named == shown { error } else { anyhow::anyhow!(named) }
        };
        match self {
            Self::Usage(error) => Self::Usage(named(error)),
            Self::Failed(error) => Self::Failed(named(error)),
        }
    }

    /// Returns the exit code of this failure.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Failed(error) if error.chain().any(is_lasting_journal_error) => Exit::UnusableJournal,
            Self::Failed(_) => Exit::Failed,
        }
    }
}

fn is_lasting_journal_error(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<JournalError>().is_some_and(JournalError::is_lasting)
}

/// Prints `error: `, the error and its causes. Omits a cause that the text already contains. Problems of a
/// configuration have no prefix: their lines begin with `file:line:column`.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(error) | Self::Failed(error)) = self;
        if error.is::<Problems>() {
            return write!(f, "{error}");
        }
        let mut text = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        write!(f, "error: {text}")
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn cause_is_shown_only_once() {
        let failure = Failure::from(anyhow!("connection refused").context("no daemon answers"));
        assert_eq!(failure.to_string(), "error: no daemon answers: connection refused");
        let doubled = Failure::from(anyhow!("not found").context("cannot open x: not found"));
        assert_eq!(doubled.to_string(), "error: cannot open x: not found");
    }

    #[test]
    fn configuration_problem_begins_with_its_place() {
        let problems = crate::config::parse("sync.yaml", "version: 2\n", &|_| Some("/tmp".into())).unwrap_err();
        assert!(Failure::usage(problems).to_string().starts_with("sync.yaml:1:"));
    }

    #[test]
    fn exit_codes_have_their_documented_values() {
        let all = [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::ChangesPending,
            Exit::Withheld,
            Exit::UnusableJournal,
            Exit::Interrupted,
        ];
        assert_eq!(all.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 130]);
    }

    #[test]
    fn damaged_journal_has_own_code_and_busy_one_has_not() {
        let exit = |error: JournalError| Failure::from(anyhow::Error::from(error).context("cannot start")).exit();
        let path = || std::path::PathBuf::from("/j");
        assert_eq!(exit(JournalError::Damaged { path: path(), reason: "x".into() }), Exit::UnusableJournal);
        assert_eq!(exit(JournalError::Foreign { path: path() }), Exit::UnusableJournal);
        assert_eq!(exit(JournalError::Busy { path: path() }), Exit::Failed);
    }
}
