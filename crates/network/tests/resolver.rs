//! The sockets at which a container asks for names: what goes to port 53 of 127.0.0.11 arrives there, answers come from
//! there, and nobody else's port 53 is touched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{Namespace, PATIENCE};
use network::Resolver;

/// A process in a namespace, killed on drop.
struct Inhabitant(Child);

impl Inhabitant {
    fn of(space: &Namespace) -> Self {
        let mut command = Command::new("ip");
        let inhabitant =
            Self(command.args(["netns", "exec", space.name(), "sleep", "1000"]).spawn().unwrap());
        let (ours, theirs) = ("/proc/self/ns/net".to_owned(), format!("/proc/{}/ns/net", inhabitant.0.id()));
        let until = Instant::now() + PATIENCE;
        while std::fs::read_link(&ours).unwrap() == std::fs::read_link(&theirs).unwrap() {
            assert!(Instant::now() < until, "it never went there");
            std::thread::sleep(Duration::from_millis(1));
        }
        inhabitant
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_is_asked_at_port_53_is_answered_from_there() {
    let space = Namespace::new("names");
    // As a container's is when its monitor comes.
    space.run("ip link set lo down");
    let inhabitant = Inhabitant::of(&space);
    let home = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    // Opened twice: as for one that is started again in the same namespace.
    drop(Resolver::open(inhabitant.0.id()).unwrap());
    let Resolver { datagrams, door, .. } = Resolver::open(inhabitant.0.id()).unwrap();
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), home, "we are back");
    let (datagrams, door) = (UdpSocket::from(datagrams), TcpListener::from(door));
    datagrams.set_nonblocking(false).unwrap();
    datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
    door.set_nonblocking(false).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2000];
            for _ in 0..3 {
                let (length, from) = datagrams.recv_from(&mut buffer).unwrap();
                datagrams.send_to(&buffer[..length], from).unwrap();
            }
            let (mut stream, _) = door.accept().unwrap();
            let length = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..length]).unwrap();
        });
        space.inside(|| {
            // Somebody in there may have the port of all addresses, and gets what is sent to the others.
            let other = UdpSocket::bind("0.0.0.0:53").unwrap();
            let _other = TcpListener::bind("0.0.0.0:53").unwrap();
            let server: SocketAddr = "127.0.0.11:53".parse().unwrap();
            for size in [1, 9, 1500] {
                let client = UdpSocket::bind("0.0.0.0:0").unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client.send_to(&vec![7; size], server).unwrap();
                let mut buffer = [0; 2000];
                assert_eq!(client.recv_from(&mut buffer).unwrap(), (size, server));
            }
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(b"x", "127.0.0.1:53").unwrap();
            other.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(other.recv_from(&mut [0; 8]).unwrap(), (1, client.local_addr().unwrap()));
            let mut stream = TcpStream::connect(server).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"by TCP").unwrap();
            let mut buffer = [0; 6];
            stream.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"by TCP");
        });
    });
    // No connection is tracked for any of that.
    assert!(!space.run("nft list ruleset").contains("ct "));
}
