//! How a command ends: the exit codes that scripts rely on, and the errors behind the two bad ones.

use std::process::ExitCode;

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

/// The error and its causes in one line.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(error) | Self::Failed(error)) = self;
        write!(f, "{error:#}")
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
