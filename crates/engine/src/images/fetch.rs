//! An image's layers come: fetched, checked and unpacked at once.
//!
//! ```text
//! registry ─► partial file, hashed on the way (all layers at once, on the calling thread) ─► blob
//!                  └─► read while it grows ─► decompressed, hashed ─► tree   (an unpacker per processor)
//! ```
//!
//! The file stands between the two, so that neither waits for the other without need, what has come outlives us,
//! and memory is that of the unpackers alone. An unpacker takes what is whole, the largest first, since it takes
//! longest; else what will be whole next. Nobody is told of the end of a blob before its digest was checked: so no
//! layer is published that came of other bytes.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use base::processes::are_exhausted;
use base::progress::{Progress, Step};
use base::{Digest, Failure, Kind};
use image::{Ingest, Layer, Opening, Partial, Verdict};
use registry::{BlobRequest, Client, Finished, Location, Opened, Sink};
use rootfs::LayerStore;

use crate::error::{Error, Result};

/// More unpackers than this would need more memory than they save time: each may hold a zstd window of 8 MiB.
const MAX_UNPACKERS: usize = 4;

/// What there is to do for one layer.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The layer.
    pub(crate) layer: Layer,
    /// Its blob is not here.
    pub(crate) fetch: bool,
    /// Its tree is not here, and wanted.
    pub(crate) unpack: bool,
}

/// Brings all that is to be fetched, and unpacks all that is to be unpacked.
pub(crate) fn fetch(
    client: &Client,
    location: &Location,
    ingest: &Ingest,
    trees: &LayerStore,
    jobs: Vec<Job>,
    at_once: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let requests: Vec<BlobRequest> = jobs
        .iter()
        .filter(|job| job.fetch)
        .map(|job| BlobRequest { digest: job.layer.digest, size: job.layer.size })
        .collect();
    let unpackers = (crate::system::info::processors() as usize)
        .min(MAX_UNPACKERS)
        .min(jobs.iter().filter(|job| job.unpack).count());
    let work = Work::new(jobs, ingest, trees, progress);
    let fetched = thread::scope(|scope| {
        let _stop = StopOnDrop(&work);
        for started in 0..unpackers {
            let spawned =
                thread::Builder::new().name("unpack".to_owned()).spawn_scoped(scope, || work.unpack_all());
            if let Err(error) = spawned {
                // Those that there are do it alone.
                if started == 0 {
                    work.stop(Some(FetchError::Thread(error).into()));
                }
                break;
            }
        }
        client.blobs(location, &requests, at_once, &|request| work.open(request))?;
        work.await_unpackers();
        Ok::<_, registry::Error>(())
    });
    // Why an unpacker stopped the rest explains what the rest says.
    let result = match (work.take_failure(), fetched) {
        (Some(failure), _) => Err(failure),
        (None, fetched) => fetched.map_err(Error::from),
    };
    if result.as_ref().is_err_and(|error| error.kind() == Kind::Exhausted) {
        // The disk is full, or a bound was met: what would be resumed is in the way.
        for request in &requests {
            ingest.store().discard_partial(&request.digest)?;
        }
    }
    result
}

/// How far the blob of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blob {
    /// Nothing of it is here, or somebody else fetches it.
    Awaited,
    /// It comes.
    Coming,
    /// It is here and verified.
    Whole,
}

/// How far a layer is.
#[derive(Debug)]
struct State {
    blob: Blob,
    /// Bytes of the blob that are here.
    received: u64,
    /// How often the blob was begun anew: whoever reads an earlier beginning must begin anew too.
    begun: u32,
    /// The file in which the blob grows.
    file: Option<File>,
    /// Somebody unpacks it, or need not.
    taken: bool,
    /// It is unpacked, or need not be.
    done: bool,
    /// Bytes of the blob that were unpacked while the rest still came: not shown until then.
    unseen: u64,
}

struct Work<'w> {
    jobs: Vec<Job>,
    ingest: &'w Ingest,
    trees: &'w LayerStore,
    progress: &'w dyn Progress,
    shared: Mutex<Shared>,
    changed: Condvar,
}

struct Shared {
    states: Vec<State>,
    stopped: bool,
    failure: Option<Error>,
}

/// Why a sink takes no more.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Store(#[from] image::store::Error),
    #[error("the pull was stopped")]
    Stopped,
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("the blob {0} was not asked for")]
    Unasked(Digest),
}

impl Failure for FetchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Thread(error) if are_exhausted(error) => Kind::Exhausted,
            Self::Stopped | Self::Unasked(_) | Self::Thread(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Store(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}

impl<'w> Work<'w> {
    fn new(jobs: Vec<Job>, ingest: &'w Ingest, trees: &'w LayerStore, progress: &'w dyn Progress) -> Self {
        let states = jobs.iter().map(|job| State {
            blob: if job.fetch { Blob::Awaited } else { Blob::Whole },
            received: if job.fetch { 0 } else { job.layer.size },
            begun: 0,
            file: None,
            taken: !job.unpack,
            done: !job.unpack,
            unseen: 0,
        });
        let shared = Shared { states: states.collect(), stopped: false, failure: None };
        Self { jobs, ingest, trees, progress, shared: Mutex::new(shared), changed: Condvar::new() }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, guard: MutexGuard<'g, Shared>) -> MutexGuard<'g, Shared> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, failure: Option<Error>) {
        let mut shared = self.shared();
        shared.stopped = true;
        if shared.failure.is_none() {
            shared.failure = failure;
        }
        self.changed.notify_all();
    }

    /// Returns when all layers are unpacked, or none will be any more.
    fn await_unpackers(&self) {
        let mut shared = self.shared();
        while !shared.stopped && shared.states.iter().any(|state| !state.done) {
            shared = self.wait(shared);
        }
    }

    fn take_failure(&self) -> Option<Error> {
        self.shared().failure.take()
    }

    // The fetching side.

    fn open(&self, request: &BlobRequest) -> std::result::Result<Opened<LayerSink<'_>>, FetchError> {
        let index = self.jobs.iter().position(|job| job.fetch && job.layer.digest == request.digest);
        let index = index.ok_or(FetchError::Unasked(request.digest))?;
        if self.shared().stopped {
            return Err(FetchError::Stopped);
        }
        let id = request.digest.short();
        match self.ingest.open_partial(&request.digest, request.size)? {
            Opening::Present => {
                self.progress.begin(&id, Step::Exists, Some(request.size));
                self.progress.end(&id, Step::Exists);
                self.update(index, |state| {
                    (state.blob, state.received, state.file) = (Blob::Whole, request.size, None);
                });
                Ok(Opened::Present)
            }
            Opening::Busy => {
                self.progress.begin(&id, Step::Wait, Some(request.size));
                Ok(Opened::Busy)
            }
            Opening::Partial(partial) => {
                self.progress.begin(&id, Step::Download, Some(request.size));
                self.progress.advance(&id, partial.received());
                let file = partial.reader()?;
                self.update(index, |state| {
                    (state.blob, state.received, state.file) = (Blob::Coming, partial.received(), Some(file));
                });
                Ok(Opened::Sink(LayerSink { work: self, index, id, partial }))
            }
        }
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut State)) {
        change(&mut self.shared().states[index]);
        self.changed.notify_all();
    }

    // The unpacking side.

    fn unpack_all(&self) {
        let _stop = StopOnPanic(self);
        while let Some(index) = self.next() {
            match self.unpack(index) {
                Ok(()) => self.update(index, |state| state.done = true),
                Err(error) => self.stop(Some(error)),
            }
        }
    }

    /// The layer that is best unpacked now; waits until there is one. `None`: all are taken.
    fn next(&self) -> Option<usize> {
        let mut shared = self.shared();
        loop {
            let open = || shared.states.iter().enumerate().filter(|(_, state)| !state.taken);
            if shared.stopped || open().next().is_none() {
                return None;
            }
            let whole = open().filter(|(_, s)| s.blob == Blob::Whole).max_by_key(|(_, s)| s.received);
            let coming = || {
                let coming = open().filter(|(_, s)| s.blob == Blob::Coming);
                coming.min_by_key(|(index, s)| self.jobs[*index].layer.size - s.received)
            };
            if let Some((index, _)) = whole.or_else(coming) {
                shared.states[index].taken = true;
                return Some(index);
            }
            shared = self.wait(shared);
        }
    }

    /// Unpacks a layer, as often as its blob begins anew.
    fn unpack(&self, index: usize) -> Result<()> {
        let layer = &self.jobs[index].layer;
        loop {
            let (begun, whole) = {
                let state = &self.shared().states[index];
                (state.begun, state.blob == Blob::Whole)
            };
            if whole {
                self.progress.begin(&layer.digest.short(), Step::Unpack, Some(layer.size));
            }
            let tail = self.tail(index, begun)?;
            let advance = |bytes| self.unpacked(index, bytes);
            let result = self.trees.unpack(&layer.diff_id, &layer.media_type, tail, &advance);
            let Err(error) = result else {
                self.progress.end(&layer.digest.short(), Step::Unpack);
                return Ok(());
            };
            if error.kind() == Kind::Exhausted {
                return Err(error.into());
            }
            // Bytes that are not what they claim to be explain a layer that cannot be unpacked: that is said by
            // whoever fetches it.
            let mut shared = self.shared();
            while !shared.stopped && shared.states[index].begun == begun {
                if shared.states[index].blob == Blob::Whole {
                    return Err(error.into());
                }
                shared = self.wait(shared);
            }
            if shared.stopped {
                return Ok(());
            }
        }
    }

    fn tail(&self, index: usize, begun: u32) -> Result<Tail<'_>> {
        let shared = self.shared();
        let file = match &shared.states[index].file {
            Some(file) => {
                use base::fs::At;
                file.try_clone().at("open", self.jobs[index].layer.digest.hex())?
            }
            None => self.ingest.store().open_blob(&self.jobs[index].layer.digest)?.0,
        };
        Ok(Tail { work: self, index, begun, file, at: 0, received: 0 })
    }

    /// `bytes` more of the blob are unpacked.
    fn unpacked(&self, index: usize, bytes: u64) {
        let mut shared = self.shared();
        let state = &mut shared.states[index];
        if state.blob == Blob::Whole {
            let unseen = std::mem::take(&mut state.unseen);
            drop(shared);
            self.progress.advance(&self.jobs[index].layer.digest.short(), bytes + unseen);
        } else {
            state.unseen += bytes;
        }
    }
}

/// Wakes whoever waits for what will not come.
struct StopOnDrop<'s, 'w>(&'s Work<'w>);

impl Drop for StopOnDrop<'_, '_> {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}

/// Wakes whoever waits for an unpacker that is no more.
struct StopOnPanic<'s, 'w>(&'s Work<'w>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop(None);
        }
    }
}

/// The way of a layer's bytes to the disk.
struct LayerSink<'s> {
    work: &'s Work<'s>,
    index: usize,
    id: String,
    partial: Partial<'s>,
}

impl LayerSink<'_> {
    /// Nothing of the blob is here any more: whoever unpacks it begins anew as well.
    fn begin_anew(&self) {
        let Self { work, index, .. } = *self;
        work.progress.begin(&self.id, Step::Download, Some(work.jobs[index].layer.size));
        work.update(index, |state| (state.received, state.begun) = (0, state.begun + 1));
    }
}

impl Sink for LayerSink<'_> {
    type Error = FetchError;

    fn received(&self) -> u64 {
        self.partial.received()
    }

    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), FetchError> {
        self.partial.append(bytes)?;
        self.work.progress.advance(&self.id, bytes.len() as u64);
        let mut shared = self.work.shared();
        if shared.stopped {
            return Err(FetchError::Stopped);
        }
        shared.states[self.index].received = self.partial.received();
        self.work.changed.notify_all();
        Ok(())
    }

    fn forget(&mut self) -> std::result::Result<(), FetchError> {
        self.partial.empty()?;
        self.begin_anew();
        Ok(())
    }

    fn finish(mut self) -> std::result::Result<Finished<Self>, FetchError> {
        let Self { work, index, .. } = self;
        match self.partial.verify()? {
            Verdict::Whole => {}
            Verdict::Again => {
                self.begin_anew();
                return Ok(Finished::Again(self));
            }
            Verdict::Wrong(found) => {
                self.begin_anew();
                let wanted = work.jobs[index].layer.digest;
                return Ok(Finished::Wrong(self, image::store::Error::Digest { wanted, found }.into()));
            }
        }
        work.progress.end(&self.id, Step::Download);
        let mut begun = false;
        work.update(index, |state| {
            state.blob = Blob::Whole;
            begun = state.taken;
        });
        if begun && work.jobs[index].unpack {
            work.progress.begin(&self.id, Step::Unpack, Some(work.jobs[index].layer.size));
        }
        self.partial.keep()?;
        Ok(Finished::Done)
    }
}

/// A blob as far as it is here; waits for more, and at the end for the word that all was right.
struct Tail<'t> {
    work: &'t Work<'t>,
    index: usize,
    begun: u32,
    file: File,
    at: u64,
    /// As far as we know: looked up again only when it is reached.
    received: u64,
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.at == self.received {
            let mut shared = self.work.shared();
            loop {
                let state = &shared.states[self.index];
                if shared.stopped || state.begun != self.begun {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer was stopped"));
                }
                if state.received > self.at {
                    self.received = state.received;
                    break;
                }
                if state.blob == Blob::Whole {
                    return Ok(0);
                }
                shared = self.work.wait(shared);
            }
        }
        let most = buffer.len().min(usize::try_from(self.received - self.at).unwrap_or(usize::MAX));
        // At a position of its own: the descriptor's is shared with whoever unpacked an earlier beginning.
        let n = rustix::io::pread(&self.file, &mut buffer[..most], self.at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}
