//! When all may come in at once: see [`crate::nft::direct`].

use std::io;
use std::time::Instant;

use crate::nft::{self, direct, others};

/// Knows whether anybody could have a say.
#[derive(Debug)]
pub(super) struct Direct {
    table: String,
    /// The tables that are ours.
    own: [String; 3],
    /// Whether a rule in nftables could refuse something, as it was found since anything was changed there.
    refused: Option<bool>,
    /// Until when it lasts.
    until: Option<Instant>,
}

impl Direct {
    pub(super) fn of(table: &str) -> Self {
        Self { table: table.to_owned(), own: nft::tables_of(table), refused: None, until: None }
    }

    /// Somebody has come: those after him may come directly for a while, if nobody could have refused him.
    pub(super) fn allow(&mut self) {
        let now = Instant::now();
        // What came together, or while the table was told.
        if self.until.is_some_and(|until| now < until) || self.may_be_refused() || has_old_tables() {
            return;
        }
        // Where it fails, the next packet comes by here, too. The time is counted from before the kernel counts it, so that
        // what comes after its end is not taken for what came before.
        if direct::open(&self.table).is_ok() {
            self.until = Some(now + direct::TIME);
        }
    }

    /// Somebody has changed rules.
    pub(super) fn forbid(&mut self) {
        self.refused = None;
        if self.until.take().is_some_and(|until| Instant::now() < until + direct::TIME) {
            // It fails where the table is gone, and with it the permission, which else ends by itself.
            direct::close(&self.table).ok();
        }
    }

    fn may_be_refused(&mut self) -> bool {
        if let Some(known) = self.refused {
            return known;
        }
        let own: Vec<&str> = self.own.iter().map(String::as_str).collect();
        let found = others::may_refuse(&own);
        self.refused = found.as_ref().ok().copied();
        // What cannot be found out may be.
        found.unwrap_or(true)
    }
}

/// Whether the kernel's old iptables have tables here, with whatever rules: nobody is told when those change.
fn has_old_tables() -> bool {
    ["ip_tables_names", "ip6_tables_names"].iter().any(|file| {
        // The namespace is the thread's.
        match std::fs::read(format!("/proc/thread-self/net/{file}")) {
            Ok(names) => !names.is_empty(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    })
}
