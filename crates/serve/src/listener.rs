//! Connections: accepted, counted, limited in time, and ended when the server is told to stop.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::handler::Server;
use crate::patience::Patience;
use crate::run::{Error, say};
use crate::tls::Tls;

/// How long the head of a request may take; also how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long requests that run may go on when the server is told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// What is allowed.
pub(crate) struct Limits {
    /// At once, from all addresses together. One address may have half of them.
    pub(crate) connections: usize,
    /// Whether TLS is spoken.
    pub(crate) secure: bool,
}

/// Serves until a signal says stop, and then until what runs has ended.
pub(crate) async fn serve(
    address: SocketAddr,
    tls: Option<Tls>,
    server: Server,
    limits: Limits,
) -> Result<(), Error> {
    let listener = TcpListener::bind(address).await.map_err(|e| Error::Listen(address, e))?;
    let bound = listener.local_addr().map_err(|e| Error::Listen(address, e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Setup)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Setup)?;
    say(&format!("listening on {}://{bound}", if limits.secure { "https" } else { "http" }));
    let (stop, stopped) = watch::channel(false);
    let places = Arc::new(Semaphore::new(limits.connections));
    let guests = Arc::new(Guests { most: limits.connections.div_ceil(2), here: Mutex::default() });
    let (server, tls) = (Arc::new(server), tls.map(Arc::new));
    let mut connections = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = accept(&listener, &places) => next,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        // What has ended is nobody's concern.
        while connections.try_join_next().is_some() {}
        let (stream, peer, place) = match next {
            Ok(next) => next,
            Err(error) => {
                // No descriptor is left, say: some will end.
                say(&format!("warning: cannot accept a connection: {error}"));
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Some(guest) = Guests::let_in(&guests, peer.ip()) else { continue };
        let connection =
            Connection { server: Arc::clone(&server), client: peer.ip(), stopped: stopped.clone() };
        let tls = tls.clone();
        connections.spawn(async move {
            let _counted = (place, guest);
            match tls {
                None => connection.talk(stream).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
                        connection.talk(stream).await;
                    }
                }
            }
        });
    }
    drop(listener);
    stop.send(true).ok();
    let ended = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        say(&format!("warning: {} connections are cut", connections.len()));
        connections.shutdown().await;
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // First the place: who comes when all are taken waits in the kernel's queue.
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true).ok();
    Ok((stream, peer, place))
}

/// How many connections each address has.
struct Guests {
    most: usize,
    here: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them; counted until it is dropped.
struct Guest(Arc<Guests>, IpAddr);

impl Guests {
    fn let_in(guests: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let mut here = guests.here.lock().unwrap_or_else(PoisonError::into_inner);
        let count = here.entry(address).or_default();
        if *count >= guests.most {
            return None;
        }
        *count += 1;
        Some(Guest(Arc::clone(guests), address))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut here = self.0.here.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = here.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                here.remove(&self.1);
            }
        }
    }
}

struct Connection {
    server: Arc<Server>,
    client: IpAddr,
    stopped: watch::Receiver<bool>,
}

impl Connection {
    /// Answers one request after another. What goes wrong with a connection is its client's to see.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { server, client, mut stopped } = self;
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(client, request).await) }
        });
        let stream = TokioIo::new(Patience::new(stream));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(stream, service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await.ok();
    }
}
