//! A second hand for floods: it writes one buffer while the next is filled.
//!
//! Half of the time that a line costs is the kernel's, which copies it into its cache of the file. Where a container says more
//! than one processor can both frame and copy, two do it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// What is to be written, and where.
type Order = (Arc<File>, Vec<u8>);
/// What became of it: the buffer comes back.
type Outcome = (Vec<u8>, io::Result<()>);

/// The thread, which lives as long as the flood. It allocates nothing, so that whoever forks meanwhile finds no lock held.
#[derive(Debug)]
pub(super) struct Pen {
    orders: Option<SyncSender<Order>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
}

impl Pen {
    /// Starts one; none where no thread may be made.
    pub(super) fn take(write: fn(&File, &[u8]) -> io::Result<()>) -> Option<Self> {
        const STACK: usize = 64 << 10;
        let (orders, ordered) = sync_channel::<Order>(1);
        let (told, outcomes) = sync_channel::<Outcome>(1);
        let work = move || {
            while let Ok((file, bytes)) = ordered.recv() {
                let outcome = write(&file, &bytes);
                // Closed before it is said to be done: the monitor may be about to end.
                drop(file);
                if told.send((bytes, outcome)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(STACK).spawn(work).ok()?;
        Some(Self { orders: Some(orders), outcomes, thread: Some(thread), is_busy: false })
    }

    /// Begins to write. One buffer at a time: what came before has been waited for.
    ///
    /// # Errors
    /// The buffer again, where the thread has ended.
    pub(super) fn write(&mut self, file: Arc<File>, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(orders) = &self.orders else { return Err(bytes) };
        orders.send((file, bytes)).map_err(|refused| refused.0.1)?;
        self.is_busy = true;
        Ok(())
    }

    /// Waits for what is being written.
    pub(super) fn wait(&mut self) -> Option<Outcome> {
        std::mem::take(&mut self.is_busy).then(|| self.outcomes.recv().ok()).flatten()
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and has nothing to say.
            thread.join().ok();
        }
    }
}
