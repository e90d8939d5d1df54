//! A proxy between a client and a registry: it counts the bytes of each direction, and cuts connections where it is
//! told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::wait::eventually;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the registry to its client.
    Down,
    /// From the client to the registry.
    Up,
}

/// What happens where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// That connection ends, and all is as before.
    Once,
    /// All connections end, and there are no others until [`Proxy::mend`].
    Gone,
}

/// A proxy, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    host: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    /// By [`Way`].
    passed: [u64; 2],
    /// After how many more bytes of which way, and what then.
    cut: Option<(Way, u64, Cut)>,
    gone: bool,
    stopped: bool,
    streams: Vec<TcpStream>,
    /// How many threads copy.
    copying: usize,
}

impl Proxy {
    /// Opens one on a free port of loopback.
    pub fn new(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Mutex::new(Shared {
            target: target.to_owned(),
            passed: [0; 2],
            cut: None,
            gone: false,
            stopped: false,
            streams: Vec::new(),
            copying: 0,
        }));
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = {
                    let shared = state.lock().unwrap();
                    if shared.stopped {
                        return;
                    }
                    if shared.gone { None } else { TcpStream::connect(&shared.target).ok() }
                };
                // Without a server the connection ends at once.
                if let Some(server) = server {
                    relay(&client, &server, &state);
                }
            }
        });
        Self { host, shared }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// After so many more bytes that way, cuts.
    pub fn cut_after(&self, way: Way, bytes: u64, how: Cut) {
        self.shared.lock().unwrap().cut = Some((way, bytes, how));
    }

    /// Everything is as it should be again.
    pub fn mend(&self) {
        let mut shared = self.shared.lock().unwrap();
        (shared.cut, shared.gone) = (None, false);
    }

    /// Whether a cut that was asked for has happened.
    pub fn has_cut(&self) -> bool {
        self.shared.lock().unwrap().cut.is_none()
    }

    /// Waits until all connections have ended: nothing is counted any more that was meant for earlier clients.
    #[track_caller]
    pub fn settle(&self) {
        eventually("the connections to end", || (self.shared.lock().unwrap().copying == 0).then_some(()));
    }

    /// The bytes that went this way since somebody last asked.
    pub fn take(&self, way: Way) -> u64 {
        std::mem::take(&mut self.shared.lock().unwrap().passed[way as usize])
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut shared = self.shared.lock().unwrap();
        shared.stopped = true;
        shared.end_all();
        drop(shared);
        // wakes the listener
        TcpStream::connect(&self.host).ok();
    }
}

impl Shared {
    fn end_all(&mut self) {
        for stream in self.streams.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// How many of these bytes may pass, and whether the connection ends after them.
    fn pass(&mut self, way: Way, bytes: usize) -> (usize, bool) {
        let (mut may, mut ends) = (bytes, false);
        if let Some((cut_way, left, how)) = self.cut
            && cut_way == way
        {
            if left < bytes as u64 {
                (may, ends) = (left as usize, true);
                self.cut = None;
                if how == Cut::Gone {
                    self.gone = true;
                }
            } else {
                self.cut = Some((way, left - bytes as u64, how));
            }
        }
        self.passed[way as usize] += may as u64;
        (may, ends)
    }
}

fn relay(client: &TcpStream, server: &TcpStream, shared: &Arc<Mutex<Shared>>) {
    let copies = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some(one), Some(two), Some(three)) = (copies(), copies(), copies()) else { return };
    {
        let mut shared = shared.lock().unwrap();
        // Between the look at it and this moment everything may have been cut: this one would be left over.
        if shared.gone {
            return;
        }
        shared.streams.extend([one.0, one.1]);
        shared.copying += 2;
    }
    for (from, to, way) in [(two.1, two.0, Way::Down), (three.0, three.1, Way::Up)] {
        let state = Arc::clone(shared);
        std::thread::spawn(move || {
            copy(from, to, way, &state);
            state.lock().unwrap().copying -= 1;
        });
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, way: Way, shared: &Mutex<Shared>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => n,
        };
        let (may, ends) = shared.lock().unwrap().pass(way, n);
        let written = to.write_all(&buffer[..may]);
        if ends {
            let mut shared = shared.lock().unwrap();
            if shared.gone {
                shared.end_all();
            }
            from.shutdown(Shutdown::Both).ok();
            to.shutdown(Shutdown::Both).ok();
            return;
        }
        if written.is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
    if way == Way::Up {
        return;
    }
    from.shutdown(Shutdown::Both).ok();
}
