//! Verbs that do one thing to each of several names: a failure is said at once and does not stop the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use base::Kind;
use base::processes::helpers;

use crate::error::{Error, Result};
use crate::output;

/// More at once make nothing faster.
const MOST_THREADS: usize = 16;

/// Does `act` to each name in turn and prints what it says. Exit code 1 if any failed.
pub(super) fn one_by_one(names: &[String], act: impl Fn(&str) -> engine::Result<String>) -> Result<u8> {
    let mut code = 0;
    for name in names {
        finish(act(name), &mut code)?;
    }
    Ok(code)
}

/// Does `act` to all names at once, and prints in their order. Exit code 1 if any failed.
pub(super) fn at_once(names: &[String], act: impl Fn(&str) -> engine::Result<String> + Sync) -> Result<u8> {
    if names.len() < 2 {
        return one_by_one(names, act);
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(at) else { return };
            let result = act(name);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    thread::scope(|scope| {
        helpers(scope, names.len().min(MOST_THREADS) - 1, work);
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    let mut code = u8::from(results.len() < names.len());
    for (_, result) in results {
        finish(result, &mut code)?;
    }
    Ok(code)
}

/// Nothing to do and nothing to print where what `--force` is to remove is not there; it is said all the same.
pub(super) fn unless_gone(result: engine::Result<String>, force: bool) -> engine::Result<String> {
    match result {
        Err(error) if force && error.kind() == Kind::NotFound => {
            complain(&Error::Engine(error));
            Ok(String::new())
        }
        other => other,
    }
}

fn finish(result: engine::Result<String>, code: &mut u8) -> Result<()> {
    match result {
        Ok(text) if text.is_empty() => Ok(()),
        Ok(text) => output::line(&text),
        Err(error) => {
            complain(&Error::Engine(error));
            *code = 1;
            Ok(())
        }
    }
}

/// Says what went wrong with one of several.
pub(super) fn complain(error: &Error) {
    output::talk(&format!("dhow: {error}"));
    for hint in error.hints() {
        output::talk(&format!("  hint: {hint}"));
    }
}
