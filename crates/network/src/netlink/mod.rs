//! Netlink: how one talks to the kernel about links, addresses, routes and nftables.
//!
//! A request is a run of messages; each is a header and nested attributes, all aligned to four bytes.
//! [`Request`] writes them, [`parse`] reads answers, [`Socket`] carries both. Everything blocks, and the kernel
//! answers at once: its replies are queued before `send` returns.

pub(crate) mod parse;
mod request;
mod socket;

pub(crate) use request::Request;
pub use socket::Refusal;
pub(crate) use socket::{Protocol, Socket};

/// The message is a request.
pub(crate) const REQUEST: u16 = 0x1;
/// Answer even if all went well.
pub(crate) const ACK: u16 = 0x4;
/// List everything.
pub(crate) const DUMP: u16 = 0x300;
/// Fail if it exists.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// Make it if it does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// Add at the end.
pub(crate) const APPEND: u16 = 0x800;
