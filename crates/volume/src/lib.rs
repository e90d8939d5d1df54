//! What outlives a container: volumes.
//!
//! ```text
//! ROOT/volumes/<name>/       its flock: shared by those who make a container with it, exclusive for who removes or fills it
//!   record.json              what it is (record)
//!   data/                    what containers see
//!   fill.part/, fill/        what it is being filled with (fill)
//! ROOT/volumes/.new-…        one that is being made; without a lock: a leftover
//! RUN/volumes/<name>/<id>    the claims of containers that run with one that has to be mounted on the host (mounted)
//! ```
//!
//! Nobody counts who uses a volume: the containers' records say it (`users`). A container is made under the volume's
//! lock, shared, until its record is there; who removes a volume holds the lock exclusively and looks then. So neither
//! a crash nor a race makes a volume vanish under a container, or stay for one that is gone.
//!
//! A volume's content is its containers': nothing in it is followed, and a path inside of it is the kernel's to resolve.

mod copy;
mod error;
mod fill;
mod local;
mod mounted;
mod name;
mod record;
mod store;
mod users;

pub use error::{Error, Result};
pub use local::{Backing, DRIVER};
pub use name::check as check_name;
pub use record::{ANONYMOUS_LABEL, Record};
pub use store::{Held, New, Store, Volume};
pub use users::{Users, of as users_of};
