//! The main thread: who has something to be sent, a thread for each of them, and when it is time to leave.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use base::{Id, fs};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use state::Instance;
use state::shipping::{self, Manifest, Progress, Total, file};

use crate::shared::Shared;
use crate::worker::Worker;

/// How long we stay when there is nothing to do.
const GRACE: Duration = Duration::from_secs(3);
/// How often it is looked what has become of the containers.
const TICK: Duration = Duration::from_secs(1);
/// How long the spool of a container that is gone is kept for a collector that does not come back.
const LONGEST_KEPT: Duration = Duration::from_hours(24);
/// What all such spools may take together.
const MOST_KEPT: u64 = 512 << 20;
/// A mark in the spool: since then the container is gone.
const GONE: &str = "gone";
/// A thread sends; that takes no stack worth a megabyte.
const STACK: usize = 512 << 10;

/// All that is being sent.
pub(crate) struct Hub {
    instance: Instance,
    listener: UnixListener,
    inotify: Option<OwnedFd>,
    monitors: Vec<Monitor>,
    workers: HashMap<Id, Running>,
    /// Watches, and whose spools they are on.
    watched: HashMap<i32, Id>,
    /// Spools may have come about which nobody has told us.
    look: bool,
}

/// The monitor of a container that runs.
struct Monitor {
    stream: UnixStream,
    said: Vec<u8>,
    id: Option<Id>,
}

struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    watch: Option<i32>,
}

impl Hub {
    pub(crate) fn new(instance: Instance, listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Without one we look now and then.
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok();
        let (monitors, workers, watched) = (Vec::new(), HashMap::new(), HashMap::new());
        Ok(Self { instance, listener, inotify, monitors, workers, watched, look: true })
    }

    /// Until all has arrived and nobody says more.
    pub(crate) fn run(mut self) {
        let mut idle: Option<Instant> = None;
        let mut next = Instant::now();
        loop {
            self.wait(next.saturating_duration_since(Instant::now()));
            self.accept();
            self.hear_monitors();
            if Instant::now() >= next {
                next = Instant::now() + TICK;
                if !shipping::shipper(&self.instance).is_dir() {
                    // Somebody has taken the whole instance away.
                    return self.end();
                }
                self.look = true;
            }
            self.join_done();
            if std::mem::take(&mut self.look) {
                self.look_at_spools();
            }
            if !self.monitors.is_empty() || !self.workers.is_empty() {
                idle = None;
            } else if idle.get_or_insert_with(Instant::now).elapsed() >= GRACE && self.leave() {
                return;
            }
        }
    }

    fn wait(&self, most: Duration) {
        let mut polled = vec![PollFd::new(&self.listener, PollFlags::IN)];
        polled.extend(self.inotify.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        polled.extend(self.monitors.iter().map(|m| PollFd::new(&m.stream, PollFlags::IN)));
        let wait = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        // Interrupted: all is looked at in any case.
        poll(&mut polled, Some(&wait)).ok();
        drop(polled);
        let Some(fd) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(fd.as_fd(), &mut buffer);
        while let Ok(event) = events.next() {
            if let Some(running) = self.watched.get(&event.wd()).and_then(|id| self.workers.get(id)) {
                running.shared.wake();
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.monitors.push(Monitor { stream, said: Vec::new(), id: None });
            }
            self.look = true;
        }
    }

    /// Reads the ids of those who have come, and lets those go that have ended.
    fn hear_monitors(&mut self) {
        let mut ended = Vec::new();
        let mut come = false;
        self.monitors.retain_mut(|monitor| {
            let open = monitor.hear();
            if monitor.id.is_some() && !std::mem::take(&mut monitor.said).is_empty() {
                come = true;
            }
            if !open {
                ended.extend(monitor.id.take());
            }
            open
        });
        self.look |= come || !ended.is_empty();
        for id in ended {
            if !self.is_live(&id)
                && let Some(running) = self.workers.get(&id)
            {
                running.shared.set_live(false);
            }
        }
    }

    fn is_live(&self, id: &Id) -> bool {
        self.monitors.iter().any(|monitor| monitor.id.as_ref() == Some(id))
    }

    fn join_done(&mut self) {
        let done: Vec<Id> =
            self.workers.iter().filter(|(_, r)| r.thread.is_finished()).map(|(id, _)| id.clone()).collect();
        for id in done {
            self.join(&id);
            self.look = true;
        }
    }

    fn join(&mut self, id: &Id) {
        let Some(running) = self.workers.remove(id) else { return };
        if let (Some(watch), Some(fd)) = (running.watch, &self.inotify) {
            self.watched.remove(&watch);
            inotify::remove_watch(fd, watch).ok();
        }
        // A thread that panicked has said so on nobody's terminal; its spool is taken up again.
        running.thread.join().ok();
    }

    /// A thread for each spool that needs one; and those of containers that are gone go, when all has arrived.
    fn look_at_spools(&mut self) {
        let spools = shipping::spools(&self.instance);
        let mut kept = Vec::new();
        for name in fs::names(&spools).unwrap_or_default() {
            let Ok(id) = name.parse::<Id>() else { continue };
            let dir = spools.join(&name);
            let live = self.is_live(&id);
            let gone = !live && !self.instance.container(&id).exists();
            if let Some(running) = self.workers.get(&id) {
                if live != running.shared.is_live() {
                    running.shared.set_live(live);
                }
            } else if live || has_more(&dir) {
                self.start(&id, &dir, live);
            } else if gone {
                self.remove(&id, &dir);
                continue;
            }
            if gone {
                kept.push((gone_since(&dir), size(&dir), id, dir));
            }
        }
        self.give_up(kept);
    }

    fn start(&mut self, id: &Id, dir: &Path, live: bool) {
        let Ok(Some(manifest)) = Manifest::read(dir) else { return };
        let Ok(mut progress) = Progress::read(dir) else { return };
        if let Ok(there) = logging::sequences(&dir.join(file::LOG)) {
            // A power cut took the end of the log: its numbers are given again.
            progress.next = progress.next.min(there.end);
        }
        let shared = Arc::new(Shared::default());
        shared.set_live(live);
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        let watch = self.inotify.as_ref().and_then(|fd| inotify::add_watch(fd, dir, flags).ok());
        let (instance, dir, of_thread) = (self.instance.clone(), dir.to_owned(), shared.clone());
        let send = move || Worker::new(&instance, dir, manifest, progress, of_thread).run();
        let builder = Builder::new().name(format!("ship {}", id.short())).stack_size(STACK);
        let Ok(thread) = builder.spawn(send) else { return };
        if let Some(watch) = watch {
            self.watched.insert(watch, id.clone());
        }
        self.workers.insert(id.clone(), Running { shared, thread, watch });
    }

    /// Those that are gone for too long, and the oldest of those that together take too much.
    fn give_up(&mut self, mut kept: Vec<(SystemTime, u64, Id, PathBuf)>) {
        kept.sort();
        let mut all: u64 = kept.iter().map(|(_, size, ..)| size).sum();
        for (since, size, id, dir) in kept {
            let age = since.elapsed().unwrap_or_default();
            if age > LONGEST_KEPT || all > MOST_KEPT {
                all -= size;
                self.remove(&id, &dir);
            }
        }
    }

    /// Removes the spool of a container that is gone. What has not arrived is counted.
    fn remove(&mut self, id: &Id, dir: &Path) {
        if let Some(running) = self.workers.get(id) {
            running.shared.cancel();
        }
        self.join(id);
        let lost = lost_of(dir);
        // Another attempt follows in a second.
        if fs::remove_dir_all(dir).is_ok() {
            Total::add(&self.instance, lost).ok();
        }
    }

    /// Leaves, unless somebody has come at the last moment.
    fn leave(&mut self) -> bool {
        let socket = shipping::shipper(&self.instance).join(file::SOCKET);
        fs::remove_file(&socket).ok();
        self.accept();
        if self.monitors.is_empty() {
            self.end();
            return true;
        }
        if let Ok(listener) = listen(&self.instance) {
            self.listener = listener;
        }
        false
    }

    fn end(&mut self) {
        for running in self.workers.values() {
            running.shared.cancel();
        }
        for id in self.workers.keys().cloned().collect::<Vec<_>>() {
            self.join(&id);
        }
    }
}

impl Monitor {
    /// Reads what it says: its container's id. False when it has ended.
    fn hear(&mut self) -> bool {
        let mut buffer = [0; 128];
        loop {
            match rustix::io::read(&self.stream, &mut buffer) {
                Ok(0) => return false,
                // No id is that long: whoever that is.
                Ok(_) if self.said.len() > buffer.len() => return false,
                Ok(read) => {
                    self.said.extend_from_slice(&buffer[..read]);
                    if self.id.is_none() {
                        self.id = std::str::from_utf8(&self.said).ok().and_then(|id| id.parse().ok());
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// A listening socket in the shipper's directory. A path in a root that lies deep would be too long for an address: it is
/// reached by its descriptor.
fn listen(instance: &Instance) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let dir = std::fs::File::open(shipping::shipper(instance))?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), file::SOCKET))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether something in it has not arrived.
fn has_more(dir: &Path) -> bool {
    let Ok(progress) = Progress::read(dir) else { return false };
    logging::sequences(&dir.join(file::LOG)).is_ok_and(|there| there.end != progress.next)
}

/// What has not arrived and never will.
fn lost_of(dir: &Path) -> u64 {
    let progress = Progress::read(dir).unwrap_or_default();
    let end = logging::sequences(&dir.join(file::LOG)).map_or(0, |there| there.end);
    progress.dropped + end.saturating_sub(progress.next)
}

/// Since when its container is gone; the first who asks writes it down.
fn gone_since(dir: &Path) -> SystemTime {
    let mark = dir.join(GONE);
    let since = || std::fs::metadata(&mark).and_then(|m| m.modified());
    since().unwrap_or_else(|_| {
        // Where it cannot be written, it is kept: the disk is full, or somebody removes it.
        fs::create_new(&mark, b"", 0o600).ok();
        since().unwrap_or_else(|_| SystemTime::now())
    })
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
