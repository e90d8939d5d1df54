//! Waiting for a change of the log's directory: by inotify, or by patience where there is none left.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// A watch on one directory.
#[derive(Debug)]
pub struct Watch {
    fd: Option<OwnedFd>,
}

impl Watch {
    /// Watches the directory of `path`. Instances of inotify are few per user: doing without is no error.
    pub fn new(path: &Path) -> Self {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok();
        let fd = fd.filter(|fd| {
            let events = inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::MOVE_SELF
                | inotify::WatchFlags::DELETE_SELF;
            path.parent().is_some_and(|dir| inotify::add_watch(fd, dir, events).is_ok())
        });
        Self { fd }
    }

    /// Returns when something has changed, or after `most`; maybe earlier.
    pub fn wait(&mut self, most: Duration) {
        let Some(fd) = &self.fd else {
            std::thread::sleep(most.min(Duration::from_millis(50)));
            return;
        };
        let timeout = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        // Interrupted is as good as changed: the caller looks again anyway.
        if poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).is_ok() {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(fd, &mut buffer);
            while events.next().is_ok() {}
        }
    }
}
