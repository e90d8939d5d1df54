//! The proxy: connections to web servers, turned aside by the kernel. It reads whom the container speaks to, and passes that on
//! to the address that it wanted, if it was told that address for that name.
//!
//! ```text
//!   accepted ─▶ whose is it, and where did it want to go? ─▶ TLS: the hello's name ─▶ all the rest is passed on unread
//!                                                         └▶ HTTP: each request's host and path, one after the other
//! ```
//!
//! - `hello`: the first words of TLS; `head`: requests of HTTP.
//! - `relay`: what is passed on unread.
//!
//! A connection has a thread for what the container says and one for what the server says: they are few, and most of them
//! sleep in the kernel, which also carries what is passed on unread.

pub mod head;
pub mod hello;
mod relay;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use network::egress::schemes;
use rustix::net::sockopt;
use state::egress::Rule;
use state::egress::rule::Scheme;

use crate::containers::{Connected, Container, lock};
use crate::denials::Denials;
use crate::server::ByAddress;
use head::{Body, Chunks, Head};

/// How long a container may take to say whom it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to be reached.
const REACH: Duration = Duration::from_secs(10);
/// A connection between two requests is kept so long.
const BETWEEN: Duration = Duration::from_mins(10);
/// What a thread may put on its stack: little, since buffers are elsewhere.
const STACK: usize = 128 << 10;

/// How many may wait at a socket.
const BACKLOG: i32 = 1024;
/// How many are taken from a socket at once.
const MOST_AT_ONCE: usize = 16;

/// The sockets that listen, of both versions of IP, at the same port.
#[derive(Debug)]
pub struct Doors {
    four: TcpListener,
    /// None where the host has no IPv6.
    six: Option<TcpListener>,
    port: u16,
}

impl Doors {
    /// Listens at a port that is free.
    pub fn open() -> io::Result<Self> {
        const ATTEMPTS: usize = 16;
        let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..ATTEMPTS {
            let four = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            let port = four.local_addr()?.port();
            let six = match only_six(port) {
                Ok(six) => Some(six),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    taken = error;
                    continue;
                }
                Err(_) => None,
            };
            four.set_nonblocking(true)?;
            // More than the standard library asks for, so that one who comes fast does not keep others out.
            rustix::net::listen(&four, BACKLOG)?;
            return Ok(Self { four, six, port });
        }
        Err(taken)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is ready when somebody comes.
    pub fn all(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(&self.four).chain(&self.six).map(AsFd::as_fd).collect()
    }

    /// Takes some that wait, and says how many: those who come faster than they are served do not keep others from their turn.
    pub fn accept(&self, proxy: &Proxy) -> usize {
        let mut taken = 0;
        for door in std::iter::once(&self.four).chain(&self.six) {
            for _ in 0..MOST_AT_ONCE {
                match door.accept() {
                    Ok((stream, from)) => {
                        taken += 1;
                        proxy.serve(stream, from.ip());
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        // No descriptor is free, or the connection is gone already.
                        std::thread::sleep(Duration::from_millis(1));
                        break;
                    }
                }
            }
        }
        taken
    }
}

fn only_six(port: u16) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// What the threads of connections know.
#[derive(Debug, Clone)]
pub struct Proxy {
    by_address: ByAddress,
    denials: Denials,
    port: u16,
}

/// A connection that is looked at.
struct Passage {
    denials: Denials,
    connected: Connected,
    client: TcpStream,
    /// Where the container wanted to go.
    to: SocketAddr,
}

/// How a passage ends before its time.
enum End {
    /// One of the two is gone, or too slow.
    Over,
    /// It may not go there: where, how, and why.
    Refused { to: String, protocol: &'static str, why: String },
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Over
    }
}

impl Proxy {
    /// A proxy that listens at this port.
    pub fn new(by_address: ByAddress, denials: Denials, port: u16) -> Self {
        Self { by_address, denials, port }
    }

    /// Serves a connection, in a thread of its own. Nobody but a limited container has business here.
    fn serve(&self, client: TcpStream, from: IpAddr) {
        let Some(container) = lock(&self.by_address).get(&from).cloned() else { return };
        let Some(to) = destination(&client) else { return };
        // Whoever comes straight to our port was not turned aside.
        if to.port() == self.port {
            return;
        }
        let Some(connected) = container.connect() else {
            return self.denials.add(
                &container,
                &to.ip().to_string(),
                Some(to.port()),
                "tcp",
                "too many connections",
            );
        };
        let denials = self.denials.clone();
        let thread = std::thread::Builder::new().stack_size(STACK).name("passage".to_owned());
        let passage = Passage { denials, connected, client, to };
        // Where no thread can be had the connection is closed.
        thread.spawn(move || passage.run()).ok();
    }
}

/// Where a connection wanted to go before it was turned aside.
fn destination(client: &TcpStream) -> Option<SocketAddr> {
    let family_is_four = client.local_addr().ok()?.is_ipv4();
    if family_is_four {
        sockopt::ip_original_dst(client).ok().map(SocketAddr::V4)
    } else {
        sockopt::ipv6_original_dst(client).ok().map(SocketAddr::V6)
    }
}

impl Passage {
    fn run(mut self) {
        if self.client.set_nonblocking(false).is_err() {
            return;
        }
        keep_looking(&self.client);
        let Err(End::Refused { to, protocol, why }) = self.pass() else { return };
        self.denials.add(self.container(), &to, Some(self.to.port()), protocol, &why);
        // Perhaps it listens.
        let answer = if protocol == "http" {
            format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{why}\n",
                why.len() + 1
            )
            .into_bytes()
        } else {
            // A fatal alert: access denied.
            vec![21, 3, 3, 0, 2, 2, 49]
        };
        self.client.set_write_timeout(Some(Duration::from_secs(1))).ok();
        self.client.write_all(&answer).ok();
        self.client.shutdown(Shutdown::Write).ok();
        // What is unread when it is closed would take the answer with it.
        let until = Instant::now() + Duration::from_millis(500);
        let mut rest = [0; 4096];
        while read_until(&mut self.client, &mut rest, until).is_ok_and(|length| length > 0) {}
    }

    fn container(&self) -> &Container {
        self.connected.container()
    }

    fn pass(&mut self) -> Result<(), End> {
        let schemes = schemes(self.container().registration.egress.rules(), self.to.port());
        let until = Instant::now() + PATIENCE;
        let mut buffer = Vec::new();
        let tls = if let [one] = schemes.as_slice() {
            *one == Scheme::Https
        } else {
            self.more(&mut buffer, until)?;
            buffer.first() == Some(&22)
        };
        self.client.set_nodelay(true).ok();
        if tls { self.pass_tls(buffer, until) } else { self.pass_http(buffer, until) }
    }

    /// Reads more; an end is the end.
    fn more(&mut self, buffer: &mut Vec<u8>, until: Instant) -> Result<(), End> {
        let mut piece = [0; 8 << 10];
        match read_until(&mut self.client, &mut piece, until)? {
            0 => Err(End::Over),
            length => {
                buffer.extend_from_slice(&piece[..length]);
                Ok(())
            }
        }
    }

    fn pass_tls(&mut self, mut buffer: Vec<u8>, until: Instant) -> Result<(), End> {
        let address = self.to.ip().to_string();
        let name = loop {
            match hello::read(&buffer) {
                Ok(Some(name)) => break name,
                Ok(None) => self.more(&mut buffer, until)?,
                Err(why) => {
                    return Err(End::Refused { to: address, protocol: "https", why: why.to_string() });
                }
            }
        };
        self.check(&name, Scheme::Https, None)?;
        let mut server = self.reach()?;
        server.write_all(&buffer)?;
        drop(buffer);
        self.client.set_read_timeout(None)?;
        let (client, back) = (self.client.try_clone()?, server.try_clone()?);
        let thread = std::thread::Builder::new().stack_size(STACK).name("passage".to_owned());
        let other = thread.spawn(move || relay::pour(&back, &client))?;
        relay::pour(&self.client, &server);
        other.join().ok();
        Ok(())
    }

    /// Whether the rules allow this name here, and the address was told for it.
    fn check(&self, name: &str, wanted: Scheme, head: Option<&Head>) -> Result<(), End> {
        let protocol = if wanted == Scheme::Http { "http" } else { "https" };
        let to = head.map_or_else(|| name.to_owned(), |head| format!("{name}{}", head.target));
        let refused = |why: &str| Err(End::Refused { to: to.clone(), protocol, why: why.to_owned() });
        let named = |rule: &Rule| match rule {
            Rule::Host(host) => {
                self.to.port() == (if wanted == Scheme::Http { 80 } else { 443 }) && host.matches(name)
            }
            Rule::Web { host, scheme, port, .. } => {
                *scheme == wanted && *port == self.to.port() && host.matches(name)
            }
            _ => false,
        };
        let rules = self.container().registration.egress.rules();
        let mut about: Vec<&Rule> = rules.iter().filter(|rule| named(rule)).collect();
        if about.is_empty() {
            return refused("no rule allows this name");
        }
        about.retain(|rule| match rule {
            Rule::Web { path: Some(path), .. } => {
                head.and_then(Head::path).is_some_and(|asked| path.matches(&asked))
            }
            _ => true,
        });
        if about.is_empty() {
            return refused("no rule allows this path");
        }
        if head.and_then(|head| head.port).is_some_and(|port| port != self.to.port()) {
            return refused("another port is named than is spoken to");
        }
        if !self.container().knows(name, self.to.ip()) {
            return refused(&format!("{} was not looked up as this name", self.to.ip()));
        }
        Ok(())
    }

    fn reach(&self) -> Result<TcpStream, End> {
        let server = TcpStream::connect_timeout(&self.to, REACH)?;
        server.set_nodelay(true).ok();
        keep_looking(&server);
        Ok(server)
    }

    fn pass_http(&mut self, mut buffer: Vec<u8>, until: Instant) -> Result<(), End> {
        let mut until = until;
        let mut server = None;
        let outcome = loop {
            match self.pass_request(&mut buffer, &mut server, until) {
                Ok(()) => until = Instant::now() + BETWEEN,
                Err(end) => break end,
            }
        };
        let Some((server, answers)) = server else { return Err(outcome) };
        // A request that is refused ends the connection; answers to those before it arrive none the less.
        drop(server.shutdown(Shutdown::Write));
        if matches!(outcome, End::Refused { .. }) {
            drop(server.shutdown(Shutdown::Both));
        }
        answers.join().ok();
        Err(outcome)
    }

    /// Passes one request on, whole.
    fn pass_request(
        &mut self,
        buffer: &mut Vec<u8>,
        server: &mut Option<(TcpStream, std::thread::JoinHandle<()>)>,
        until: Instant,
    ) -> Result<(), End> {
        let head = loop {
            match head::read(buffer) {
                Ok(Some(head)) => break head,
                Ok(None) => self.more(buffer, until)?,
                Err(why) => return Err(self.refused(why)),
            }
        };
        self.check(&head.host, Scheme::Http, Some(&head))?;
        if server.is_none() {
            let reached = self.reach()?;
            let (client, back) = (self.client.try_clone()?, reached.try_clone()?);
            let thread = std::thread::Builder::new().stack_size(STACK).name("passage".to_owned());
            *server = Some((reached, thread.spawn(move || relay::pour(&back, &client))?));
        }
        let Some((server, _)) = server else { return Err(End::Over) };
        server.write_all(&buffer[..head.length])?;
        buffer.drain(..head.length);
        match head.body {
            Body::Length(mut left) => {
                while left > 0 {
                    if buffer.is_empty() {
                        self.more(buffer, Instant::now() + BETWEEN)?;
                    }
                    let taken = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    server.write_all(&buffer[..taken])?;
                    buffer.drain(..taken);
                    left -= taken as u64;
                }
            }
            Body::Chunks => {
                let mut chunks = Chunks::Line;
                while chunks != Chunks::Done {
                    match chunks.step(buffer) {
                        Ok(0) => self.more(buffer, Instant::now() + BETWEEN)?,
                        Ok(taken) => {
                            server.write_all(&buffer[..taken])?;
                            buffer.drain(..taken);
                        }
                        Err(why) => return Err(self.refused(why)),
                    }
                }
            }
        }
        Ok(())
    }

    fn refused(&self, why: head::Refused) -> End {
        End::Refused { to: self.to.ip().to_string(), protocol: "http", why: why.to_string() }
    }
}

/// Notices within a minute that a silent peer is gone: a container goes with its network, and says no word.
fn keep_looking(stream: &TcpStream) {
    sockopt::set_socket_keepalive(stream, true).ok();
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30)).ok();
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10)).ok();
    sockopt::set_tcp_keepcnt(stream, 3).ok();
}

/// Reads what there is, and waits for it until then.
fn read_until(client: &mut TcpStream, piece: &mut [u8], until: Instant) -> io::Result<usize> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    client.set_read_timeout(Some(left))?;
    loop {
        match client.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_fast_is_taken_by_and_by() {
        let doors = Doors::open().unwrap();
        let proxy = Proxy::new(ByAddress::default(), Denials::default(), doors.port());
        let to = (Ipv4Addr::LOCALHOST, doors.port());
        let all: Vec<TcpStream> = (0..MOST_AT_ONCE + 5).map(|_| TcpStream::connect(to).unwrap()).collect();
        assert_eq!(doors.accept(&proxy), MOST_AT_ONCE);
        assert_eq!(doors.accept(&proxy), 5);
        assert_eq!(doors.accept(&proxy), 0);
        drop(all);
    }
}
