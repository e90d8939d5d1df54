//! The monitor's tie to the process that sends its log to a collector. The log is written whether that lives or not; here
//! it is only seen to that it does, as long as there may be something for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base::{Id, fs};
use monitor::{Request, shipper};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use state::Instance;
use state::shipping;

/// How long after the tie has broken, or could not be made, it is made again: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// The tie.
pub(crate) struct Shipping {
    instance: Instance,
    id: Id,
    program: PathBuf,
    link: Option<OwnedFd>,
    /// Shippers that were started here and not yet buried.
    children: Vec<OwnedFd>,
    /// When it is tried to make one.
    next: Option<Instant>,
    wait: Duration,
    /// Something was said in this life.
    said: bool,
}

impl Shipping {
    /// That of a container, if its log goes anywhere.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        request.shipper.clone().map(|program| Self {
            instance: request.instance.clone(),
            id: request.id.clone(),
            program,
            link: None,
            children: Vec::new(),
            next: None,
            wait: FIRST_WAIT,
            said: false,
        })
    }

    /// The container has said something.
    pub(crate) fn said(&mut self) {
        if !self.said {
            self.said = true;
            self.next = Some(Instant::now());
        }
    }

    /// What hangs up when the shipper has ended.
    pub(crate) fn link(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    /// It has.
    pub(crate) fn lost(&mut self) {
        self.link = None;
        self.next = Some(Instant::now() + self.wait);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Makes the tie, if it is time.
    pub(crate) fn tick(&mut self) {
        if self.next.is_none_or(|next| next > Instant::now()) {
            return;
        }
        let ended = |child: &OwnedFd| {
            let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            waitid(WaitId::PidFd(child.as_fd()), how).is_ok_and(|status| status.is_some())
        };
        self.children.retain(|child| !ended(child));
        // Why it cannot be started nobody is there to be told; what is to be sent is kept, and tried again.
        let tie = shipper::ensure(&self.instance, &self.program).unwrap_or_default();
        self.link = tie.link;
        self.children.extend(tie.child);
        if let Some(link) = &self.link
            && rustix::io::write(link, self.id.as_str().as_bytes()).is_ok()
        {
            (self.next, self.wait) = (None, FIRST_WAIT);
        } else {
            self.link = None;
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            self.next = Some(Instant::now() + self.wait);
        }
    }

    /// The container has ended: the rest is the shipper's, so one must live. What removes itself, and has not said
    /// anything, leaves nothing.
    pub(crate) fn finish(mut self) {
        let spool = shipping::spool(&self.instance, &self.id);
        let log = shipping::log(&self.instance, &self.id);
        let gone = !self.instance.container(&self.id).exists();
        if logging::sequences(&log).is_ok_and(|there| there.end == 0) {
            if gone {
                fs::remove_dir_all(&spool).ok();
            }
            return;
        }
        let until = Instant::now() + FAREWELL;
        if self.link().is_some_and(has_hung_up) || self.link.is_none() {
            self.link = None;
            while self.link.is_none() && Instant::now() < until {
                self.next = Some(Instant::now());
                self.tick();
                if self.link.is_none() {
                    std::thread::sleep(FIRST_WAIT);
                }
            }
        }
    }
}

fn has_hung_up(link: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(link, PollFlags::IN)], Some(&now)) != Ok(0)
}
