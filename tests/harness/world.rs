//! Network namespaces: a host of its own with a wire to a neighbour.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::invocation::Invocation;

/// The host's address on the wire.
pub const HOST: &str = "198.51.100.1";
/// The neighbour's.
pub const NEIGHBOUR: &str = "198.51.100.2";

/// Two namespaces and a wire. They go when it is dropped.
#[derive(Debug)]
pub struct World {
    host: String,
    neighbour: String,
}

impl World {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("dhow-e2e-{}-{number}-{role}", std::process::id());
        let world = Self { host: name("host"), neighbour: name("neighbour") };
        for namespace in [&world.host, &world.neighbour] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        let peer = ["type", "veth", "peer", "name", "lan", "netns", &world.neighbour];
        ip(&[&["-n", &world.host, "link", "add", "lan"], &peer[..]].concat());
        for (namespace, address) in [(&world.host, HOST), (&world.neighbour, NEIGHBOUR)] {
            ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", "lan"]);
            ip(&["-n", namespace, "link", "set", "lan", "up"]);
        }
        world
    }

    /// The name of the host's namespace.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A program on the host.
    pub fn on_host(&self, program: &str) -> Invocation {
        inside(&self.host, program)
    }

    /// A program at the neighbour's.
    pub fn at_neighbour(&self, program: &str) -> Invocation {
        inside(&self.neighbour, program)
    }
}

/// Somebody on the wire.
#[derive(Debug, Clone, Copy)]
pub enum Peer<'a> {
    /// The host of this world.
    Host(&'a World),
    /// Its neighbour.
    Neighbour(&'a World),
}

impl Peer<'_> {
    /// What a web server answers to this client: the body; nothing where nobody answers.
    pub fn fetch(self, host: &str, port: u16) -> String {
        self.act(|| web_page(host, port).unwrap_or_default())
    }

    /// What comes back for a datagram.
    pub fn ask(self, host: &str, port: u16, question: &str) -> Option<String> {
        self.act(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
            socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            socket.send_to(question.as_bytes(), format!("{host}:{port}").parse::<SocketAddr>().ok()?).ok()?;
            let mut answer = [0; 1500];
            let length = socket.recv(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..length]).into_owned())
        })
    }

    /// Does something there, in a thread of its own.
    pub fn act<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = match self {
            Self::Host(world) => &world.host,
            Self::Neighbour(world) => &world.neighbour,
        };
        let path = format!("/run/netns/{namespace}");
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                let file = File::open(path).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// One plain HTTP request.
pub fn web_page(host: &str, port: u16) -> std::io::Result<String> {
    let address: SocketAddr = format!("{host}:{port}").parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    write!(stream, "GET /index.html HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.trim_end().to_owned()).unwrap_or_default())
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.host, &self.neighbour] {
            Invocation::new("ip").args(&["netns", "del", namespace]).output();
        }
    }
}

fn inside(namespace: &str, program: &str) -> Invocation {
    Invocation::new("nsenter").arg(format!("--net=/run/netns/{namespace}")).arg(program)
}

fn ip(args: &[&str]) {
    Invocation::new("ip").args(args).ok();
}
