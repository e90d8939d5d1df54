//! The Dockerfile reference, case by case: a text, and the plan, the configuration, the history or the error that it makes.

mod arguments;
mod checks;
mod copying;
mod errors;
mod expansion;
mod forms;
mod metadata;
mod onbuild;
mod running;
mod stages;
pub(crate) mod support;
mod words;
