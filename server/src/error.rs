//! Errors in the parameters of a server.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// A parameter that cannot be used. The text says what is wrong and what is allowed.
///
/// The text does not repeat the cause, which [`source`](Error::source) returns.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A flag is unknown, is given twice, or has a bad value.
    Flag(String),
    /// An environment variable has a bad value.
    Variable {
        /// The name of the variable.
        name: String,
        /// What is wrong with the flag that the variable stands for.
        problem: String,
    },
    /// Parameters that are good by themselves do not fit together.
    Combination(String),
    /// A file cannot be read, or its content is bad.
    File {
        /// What the file should contain, such as `certificate`.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system or of the parser.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ConfigError {
    pub(crate) fn file(
        kind: &'static str,
        path: &Path,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> ConfigError {
        ConfigError::File {
            kind,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Flag(problem) | ConfigError::Combination(problem) => f.write_str(problem),
            ConfigError::Variable { name, problem } => write!(f, "{name}: {problem}"),
            ConfigError::File { kind, path, .. } => {
                write!(f, "cannot use the {kind} file {}", path.display())
            }
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ConfigError::File { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
