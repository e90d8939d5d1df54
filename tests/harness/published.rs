//! A host with published ports, and a neighbour who tries them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::world::{Peer, World};
use crate::{Dhow, eventually};

/// The host's IPv6 address on the wire.
pub const HOST6: &str = "2001:db8::1";
/// The neighbour's.
pub const NEIGHBOUR6: &str = "2001:db8::2";

/// A host that can be reached by both versions of the protocol, and a container that serves port 80 (HTTP) and 53 (echo by UDP) on
/// its ports 8080 and 5353.
pub fn published(probe: &str, name: &str) -> (World, Dhow) {
    let world = World::new();
    for (on, ip) in [(world.on_host("ip"), HOST6), (world.at_neighbour("ip"), NEIGHBOUR6)] {
        on.args(&["addr", "add", &format!("{ip}/64"), "dev", "lan", "nodad"]).ok();
    }
    let dhow = Dhow::in_namespace(name, world.host());
    dhow.ok(&["network", "create", "--ipv6", "net"]);
    serve(probe, &dhow, "web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    // The container's IPv6 address is its own after a second in which nobody objects.
    eventually("all ports", || (reaches(&world, HOST6) == [true; 2]).then_some(()));
    (world, dhow)
}

/// A container that serves, and tells by whom it was asked.
#[track_caller]
pub fn serve(probe: &str, dhow: &Dhow, name: &str, flags: &[&str]) {
    let script = "mkdir -p /www && echo page >/www/index.html; probe udp-echo 53 & exec httpd -v -f -p '[::]:80' -h /www";
    let args = [
        &["run", "-d", "--name", name, "--network", "net", "-v", probe],
        flags,
        &["busybox", "sh", "-c", script],
    ]
    .concat();
    dhow.ok(&args);
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

/// How long somebody who may come in takes at most, and is waited for who may not.
pub const SOON: Duration = Duration::from_millis(500);

/// A connection from the neighbour to the host, if it comes to be.
pub fn connect(world: &World, ip: &str, port: u16) -> Option<TcpStream> {
    let address = SocketAddr::new(ip.parse().unwrap(), port);
    Peer::Neighbour(world).act(|| TcpStream::connect_timeout(&address, SOON).ok())
}

/// What a web server says on this connection.
pub fn page(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    write!(stream, "GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned()
}

/// Whether the neighbour reaches the container's ports: HTTP and UDP, by this address of the host's.
pub fn reaches(world: &World, ip: &str) -> [bool; 2] {
    std::thread::scope(|scope| {
        let tcp = scope.spawn(|| connect(world, ip, 8080).is_some_and(|stream| page(&stream) == "page"));
        let udp = echoes(world, ip, "?");
        [tcp.join().unwrap(), udp]
    })
}

/// Whether what is sent to the container by UDP comes back.
pub fn echoes(world: &World, ip: &str, question: &str) -> bool {
    let from = if ip.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    Peer::Neighbour(world).act(|| {
        let socket = UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(question.as_bytes(), SocketAddr::new(ip.parse().unwrap(), 5353)).unwrap();
        let mut answer = vec![0; 65536];
        socket.recv(&mut answer).is_ok_and(|length| answer[..length].ends_with(question.as_bytes()))
    })
}
