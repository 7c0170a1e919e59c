//! Why a process ended.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// Why a process cannot start or go on; its text is the one line on stderr.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The command line or the settings are wrong: exit code 2.
    #[error("{0}")]
    Settings(String),
    /// Anything else: exit code 1.
    #[error("{context}: {cause}")]
    Failed {
        /// What was being done.
        context: String,
        /// What came in the way.
        cause: String,
    },
}

impl Fatal {
    /// The settings are wrong; `why` names the key and what is expected of it.
    pub fn settings(why: impl Display) -> Self {
        Self::Settings(why.to_string())
    }

    /// `context` could not be done because of `cause`.
    pub fn new(context: impl Display, cause: impl Display) -> Self {
        Self::Failed { context: context.to_string(), cause: cause.to_string() }
    }

    /// 2 for settings and usage, 1 for the rest.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Settings(_) => ExitCode::from(2),
            Self::Failed { .. } => ExitCode::FAILURE,
        }
    }
}

impl From<io::Error> for Fatal {
    fn from(cause: io::Error) -> Self {
        Self::new("input or output failed", cause)
    }
}

impl From<prometheus::Error> for Fatal {
    fn from(cause: prometheus::Error) -> Self {
        Self::new("a metric could not be registered", cause)
    }
}
