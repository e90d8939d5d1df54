//! Keeps containers within the limits of where they may go (`--egress`): what `dhow-egressd` does.
//!
//! ```text
//!  monitor ── Registration ─▶ ┌──────── dhow-egressd ────────┐
//!  dhow-netd ── Lookup ─────▶ │ server: rules and sets ──────┼──▶ nftables
//!                             │ denials: what was refused ◀──┼─── NFLOG
//!  container ── HTTP, TLS ──▶ │ proxy: who is spoken to? ────┼──▶ the server that was looked up
//!                             └──────────────────────────────┘
//! ```
//!
//! The kernel's rules refuse all but what is allowed, and go on to do so while this process is replaced. Addresses of names
//! with a port are opened for as long as the name server's answer is believed; what goes to web servers is turned aside to
//! the proxy, which reads whom the container speaks to, and passes it on only to an address that the container was told for
//! that name.
//!
//! - `server`: one thread that polls: monitors, the name server, refusals, the proxy's door.
//! - `containers`: who is limited, and what was looked up.
//! - `denials`: refusals, put together and written down; `learning`: what the watched need.
//! - `proxy`: a thread or two for each connection.
//! - `public`: addresses that a name of the world may have.

pub mod containers;
pub mod denials;
pub mod learning;
pub mod proxy;
pub mod public;
pub mod server;
