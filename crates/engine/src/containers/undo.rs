//! Undo exactly what was done: each step that acts pushes how to take it back, and a failure runs them all,
//! last first, without stopping at one that fails itself.

use base::{Failure, Kind};

use crate::error::{Error, Result};

type Step<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// What would have to be undone. Dropped armed (an early return, a panic), it undoes without a report.
pub(crate) struct Undo<'a>(Vec<Step<'a>>);

impl<'a> Undo<'a> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Remembers how to take back what was just done.
    pub(crate) fn push(&mut self, step: impl FnOnce() -> Result<()> + 'a) {
        self.0.push(Box::new(step));
    }

    /// All went well: nothing is undone.
    pub(crate) fn disarm(mut self) {
        self.0.clear();
    }

    /// Undoes all because of `cause`; what could not be undone is said behind it.
    pub(crate) fn run(mut self, cause: Error) -> Error {
        let failed: Vec<String> =
            self.0.drain(..).rev().filter_map(|step| step().err()).map(|e| e.to_string()).collect();
        if failed.is_empty() { cause } else { NotUndone { cause, failed }.into() }
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for step in self.0.drain(..).rev() {
            // Nobody is left to be told; the next command's reconciliation tries again.
            step().ok();
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{cause}; and what was done could not be undone: {}", failed.join("; "))]
struct NotUndone {
    cause: Error,
    failed: Vec<String>,
}

impl Failure for NotUndone {
    fn kind(&self) -> Kind {
        self.cause.kind()
    }

    fn hints(&self) -> Vec<String> {
        self.cause.hints()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Test(&'static str);
    impl Failure for Test {
        fn kind(&self) -> Kind {
            Kind::Conflict
        }
    }

    #[test]
    fn undoing_goes_backwards_and_on_after_an_error() {
        let seen = RefCell::new(Vec::new());
        let mut undo = Undo::new();
        for n in 0..3 {
            let seen = &seen;
            undo.push(move || {
                seen.borrow_mut().push(n);
                if n == 1 { Err(Test("one stays").into()) } else { Ok(()) }
            });
        }
        let error = undo.run(Test("the cause").into());
        assert_eq!(*seen.borrow(), [2, 1, 0]);
        assert_eq!(error.to_string(), "the cause; and what was done could not be undone: one stays");
        assert_eq!(error.kind(), Kind::Conflict);
    }

    #[test]
    fn nothing_is_undone_after_success_and_all_on_the_way_out() {
        let seen = RefCell::new(0);
        let mut undo = Undo::new();
        undo.push(|| {
            *seen.borrow_mut() += 1;
            Ok(())
        });
        undo.disarm();
        assert_eq!(*seen.borrow(), 0);
        let mut undo = Undo::new();
        undo.push(|| {
            *seen.borrow_mut() += 1;
            Ok(())
        });
        drop(undo);
        assert_eq!(*seen.borrow(), 1);
    }
}
