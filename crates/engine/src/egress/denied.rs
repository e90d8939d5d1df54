//! `network denied`: the journal of refusals, read and followed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use base::fs::{self, At};
use logging::Watch;
use state::egress::journal::{self, BEFORE, Denial, JOURNAL};

use crate::Engine;
use crate::error::Result;

/// Which refusals.
#[derive(Debug, Clone, Default)]
pub struct DeniedOptions {
    /// Those of this container, by its name, its id or the beginning of that; none: of all.
    pub container: Option<String>,
    /// Also those to come.
    pub follow: bool,
}

/// Looked at again after so long, whatever the watch says.
const PATIENCE: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 << 10;

impl Engine {
    /// What was refused, oldest first.
    pub fn denied(&self, options: DeniedOptions) -> Result<Denied> {
        let dir = journal::dir(&self.instance);
        // Made here, so that there is something to watch.
        fs::create_dir_all(&dir, 0o700)?;
        let watch = Watch::new(&dir.join(JOURNAL));
        let mut bytes = fs::read_if_exists(&dir.join(BEFORE))?.unwrap_or_default();
        let queue = journal::take_lines(&mut bytes).into();
        Ok(Denied { dir, watch, file: None, bytes: Vec::new(), queue, options })
    }
}

/// Refusals: see [`Engine::denied`].
#[derive(Debug)]
pub struct Denied {
    dir: PathBuf,
    watch: Watch,
    file: Option<File>,
    bytes: Vec<u8>,
    queue: VecDeque<Denial>,
    options: DeniedOptions,
}

impl Denied {
    /// Reads what has been appended. `false`: nothing.
    fn read_more(&mut self) -> fs::Result<bool> {
        let path = self.dir.join(JOURNAL);
        let Some(file) = &mut self.file else {
            self.file = match File::open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                other => Some(other.at("open", &path)?),
            };
            return Ok(self.file.is_some());
        };
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).at("read", &path)?;
        self.bytes.extend_from_slice(&chunk[..read]);
        self.queue.extend(journal::take_lines(&mut self.bytes));
        if read > 0 {
            return Ok(true);
        }
        // Put aside: nothing more comes into this one.
        let identity = |m: std::fs::Metadata| (m.dev(), m.ino());
        let (ours, now) = (file.metadata().map(identity), std::fs::metadata(&path).map(identity));
        if now.is_ok_and(|now| !ours.is_ok_and(|ours| ours == now)) {
            self.bytes.clear();
            self.file = None;
            return Ok(true);
        }
        Ok(false)
    }

    fn wanted(&self, denial: &Denial) -> bool {
        self.options.container.as_deref().is_none_or(|wanted| {
            denial.what.name == wanted
                || !wanted.is_empty() && denial.what.container.as_str().starts_with(wanted)
        })
    }
}

impl Iterator for Denied {
    type Item = Result<Denial>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(denial) = self.queue.pop_front() {
                if self.wanted(&denial) {
                    return Some(Ok(denial));
                }
            }
            match self.read_more() {
                Ok(true) => {}
                Ok(false) if self.options.follow => self.watch.wait(PATIENCE),
                Ok(false) => return None,
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}
