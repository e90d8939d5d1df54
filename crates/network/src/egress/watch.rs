//! Somebody else's hands in the table, as the kernel tells of them.

use std::io;
use std::os::fd::BorrowedFd;

use super::Limits;
use crate::Result;
use crate::error::Attempt;
use crate::warden::changes::{Change, Changes};

/// Hears whatever is done to the table.
#[derive(Debug)]
pub struct Watch {
    changes: Changes,
    table: String,
}

impl Watch {
    /// Begins to hear of the table of these limits.
    pub fn open(limits: &Limits) -> Result<Self> {
        let changes = Changes::open().firewall(|| "listen to changes of the firewall".to_owned())?;
        Ok(Self { changes, table: limits.table.clone() })
    }

    /// What is ready when somebody has changed a rule.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// Reads what there is. Whether somebody else has had his hands in the table.
    ///
    /// # Errors
    /// Where the socket is of no use any more.
    pub fn is_spoilt(&mut self) -> io::Result<bool> {
        Ok(self.changes.read(&self.table)? == Change::Others)
    }
}
