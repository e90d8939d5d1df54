//! Registries of others: logins, searches, and the client for all that asks one.

pub(crate) mod login;
pub(crate) mod remote;
pub(crate) mod search;
