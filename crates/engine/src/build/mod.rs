//! `build`: a Dockerfile's plan is carried out.

#![allow(dead_code, reason = "the solver, which uses all of it, comes next")]

pub(crate) mod files;
pub(crate) mod sources;
