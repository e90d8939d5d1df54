//! The one error that doors see: any crate's failure, with its kind, its hints and its whole chain.

use std::{fmt, io};

use base::failure::{Failure, Kind, chain};
use state::protocol::StartFailure;

/// What went wrong. `Display` prints the whole chain of causes on one line.
pub struct Error(Box<dyn Failure>);

/// The result of a verb.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What kind of failure this is: doors make exit codes and statuses of it.
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// What to do next, each a line that starts with a verb.
    pub fn hints(&self) -> Vec<String> {
        let hints = self.0.hints();
        if hints.is_empty() { self.of_the_kernel() } else { hints }
    }

    /// What to do about what the kernel lacks, where whoever met it does not say.
    fn of_the_kernel(&self) -> Vec<String> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&*self.0);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                // Wrapped on its way through a reader or writer.
                if let Some(file) = error.get_ref().and_then(|e| e.downcast_ref::<base::fs::Error>()) {
                    return file.hints();
                }
                if error.kind() == io::ErrorKind::StorageFull {
                    return vec![base::space::NEXT.to_owned()];
                }
                return base::processes::hints(error, &[]);
            }
            next = error.source();
        }
        Vec::new()
    }
}

impl<F: Failure> From<F> for Error {
    fn from(failure: F) -> Self {
        Self(Box::new(failure))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.0))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Error").field(&self.kind()).field(&self.to_string()).finish()
    }
}

/// A failure that was reported by the monitor, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub(crate) struct Reported(pub StartFailure);

impl Failure for Reported {
    fn kind(&self) -> Kind {
        self.0.kind.into()
    }

    fn hints(&self) -> Vec<String> {
        self.0.hints.clone()
    }
}

/// Only root can make containers, until there are rootless ones.
#[derive(Debug, thiserror::Error)]
#[error("only root can do this: namespaces, mounts and cgroups of containers are made with its rights")]
pub(crate) struct NeedsRoot;

impl Failure for NeedsRoot {
    fn kind(&self) -> Kind {
        Kind::Permission
    }
}
