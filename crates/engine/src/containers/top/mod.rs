//! `top`: the processes of a container.
//!
//! Which they are is what its cgroup says, never what a process says of itself. Without options the columns of `ps -ef` are
//! read from `/proc` (`columns`); with options the host's `ps` prints what it prints, and the lines of others are left out
//! (`foreign`). `tree` is the same as values: who is whose child. Nothing of the container is executed (CVE-2022-1227).

mod columns;
mod foreign;
mod process;
pub(crate) mod tree;

use runtime::cgroup::{Group, Hierarchy};

use state::container::Status;

use crate::Engine;
use crate::containers::control::StateError;
use crate::error::Result;

/// A table of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    /// The columns' titles.
    pub titles: Vec<String>,
    /// A row for each process, as many cells as there are titles.
    pub rows: Vec<Vec<String>>,
}

impl Engine {
    /// The processes of a running container; `options` are those of `ps(1)`.
    pub fn top(&self, container: &str, options: &[String]) -> Result<Processes> {
        // Those of a paused one are there as well.
        let found = self.find_up(container)?;
        if found.status == Status::Restarting {
            let (name, state) = (container.to_owned(), found.status.as_str());
            return Err(StateError::Busy { name, state }.into());
        }
        let group = Group::existing(&Hierarchy::detect()?, &self.location(&found.record));
        let processes = if options.is_empty() {
            let rows = columns::read(&group.processes());
            // A number that was read while its process ended could have been a stranger's by then.
            let still = group.processes();
            let rows = rows.into_iter().filter(|(pid, _)| still.contains(pid)).map(|(_, row)| row).collect();
            Processes { titles: columns::TITLES.map(str::to_owned).to_vec(), rows }
        } else {
            foreign::ps(options, &group.processes())?
        };
        self.note_container("top", &found.record, &[]);
        Ok(processes)
    }
}
