//! Where a build's files come from: contexts, Git repositories, files from the web.

pub(crate) mod context;
mod error;
pub(crate) mod git;

pub(crate) use self::error::Error;
pub(crate) use self::git::shown as without_login;
