//! What can go wrong with a file.

use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file cannot be written or read.
#[derive(Debug)]
pub struct Error {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

macro_rules! from {
    ($($error:ty: $what:literal;)*) => {
        $(
            impl From<$error> for Error {
                fn from(error: $error) -> Self {
                    Self { message: format!("{}: {error}", $what), source: Some(Box::new(error)) }
                }
            }
        )*
    };
}

from! {
    parquet::errors::ParquetError: "the file is no sound Parquet";
    arrow_schema::ArrowError: "the file does not hold what it should";
    serde_json::Error: "the file holds what is no JSON";
    std::io::Error: "the file cannot be read or written";
}
