//! How a command ends: the exit codes that scripts rely on, and the errors behind the two bad ones.

use std::process::ExitCode;

use crate::config::Problems;

/// The ends of a command, each with its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// At least one tag failed, or what was asked for could not be done.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// There are changes to be made (`plan --exit-code`).
    ChangesPending = 3,
    /// A rule held something back.
    Held = 4,
    /// Ended by a signal before the work was done.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong; trying again does not help.
    Usage(anyhow::Error),
    /// Something outside went wrong.
    Failed(anyhow::Error),
}

impl Failure {
    /// A mistake in the command line or the configuration.
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// The exit code of this failure.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Failed(_) => Exit::Failed,
        }
    }
}

/// The error and its causes; a cause that the text before it tells already is not told again. What is wrong with a
/// configuration stands alone, so that its lines begin with `file:line:column`, all else begins with `error: `.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(error) | Self::Failed(error)) = self;
        if error.is::<Problems>() {
            return write!(f, "{error}");
        }
        let mut told = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !told.contains(&cause) {
                told = format!("{told}: {cause}");
            }
        }
        write!(f, "error: {told}")
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
    fn a_cause_is_told_once() {
        let told = Failure::from(anyhow!("connection refused").context("no daemon answers"));
        assert_eq!(told.to_string(), "error: no daemon answers: connection refused");
        let doubled = Failure::from(anyhow!("not found").context("cannot open x: not found"));
        assert_eq!(doubled.to_string(), "error: cannot open x: not found");
    }

    #[test]
    fn a_mistake_in_the_configuration_begins_with_its_place() {
        let problems = crate::config::parse("sync.yaml", "version: 2\n", &|_| Some("/tmp".into())).unwrap_err();
        assert!(Failure::usage(problems).to_string().starts_with("sync.yaml:1:"));
    }

    #[test]
    fn the_exit_codes_are_the_promised_ones() {
        let all = [Exit::Ok, Exit::Failed, Exit::Usage, Exit::ChangesPending, Exit::Held, Exit::Interrupted];
        assert_eq!(all.map(|exit| exit as u8), [0, 1, 2, 3, 4, 130]);
    }
}
