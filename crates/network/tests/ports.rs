//! Which packets arrive, and which must not, with real sockets between namespaces.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::{Container, HOST, NEIGHBOUR, PATIENCE, SILENCE, World, connect, exchange, listen, port, tcp};
use state::options::Protocol;

/// From where somebody asks, whom the server sees.
fn ask(server: &std::net::TcpListener, to: Ipv4Addr, port: u16, patience: Duration) -> Option<Ipv4Addr> {
    connect(server, (to, port), patience).map(ipv4)
}

fn ipv4(peer: SocketAddr) -> Ipv4Addr {
    match peer {
        SocketAddr::V4(peer) => *peer.ip(),
        SocketAddr::V6(peer) => panic!("{peer}"),
    }
}

#[test]
fn a_published_tcp_port_is_reached_from_everywhere() {
    tcp_from_everywhere(&World::new());
}

/// `br_netfilter` sends bridged packets through the firewall too, and translates them without routing.
#[test]
fn a_published_tcp_port_is_reached_with_and_without_br_netfilter() {
    for call in ["0", "1"] {
        let world = World::new();
        let written =
            world.host.inside(|| std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", call));
        if written.is_ok() {
            tcp_from_everywhere(&world);
        }
    }
}

fn tcp_from_everywhere(world: &World) {
    let web = world.container(&[tcp(8080)]);
    let other = world.container(&[]);
    let gateway = web.plan.address().unwrap().gateway;
    let server = web.inside(|| listen(80));
    let ask = |to, port| ask(&server, to, port, PATIENCE);
    world.neighbour.inside(|| assert_eq!(ask(HOST, 8080), Some(NEIGHBOUR), "from another machine"));
    world.host.inside(|| {
        assert_eq!(ask(Ipv4Addr::LOCALHOST, 8080), Some(gateway), "localhost");
        assert_eq!(ask(Ipv4Addr::new(127, 9, 9, 9), 8080), Some(gateway), "any loopback address");
        assert_eq!(ask(HOST, 8080), Some(HOST), "the host's address");
        assert_eq!(ask(web.ip(), 80), Some(gateway), "the container's address");
    });
    other.inside(|| {
        assert_eq!(ask(HOST, 8080), Some(gateway), "a container by the host's address");
        assert_eq!(ask(gateway, 8080), Some(gateway), "a container by the bridge's address");
        assert_eq!(ask(web.ip(), 80), Some(other.ip()), "a container directly");
    });
    web.inside(|| assert_eq!(ask(HOST, 8080), Some(gateway), "itself by the host's address"));
}

#[test]
fn a_published_udp_port_is_reached_from_everywhere() {
    let world = World::new();
    let name_server = world.container(&[port(Protocol::Udp, None, 5353, 53)]);
    let other = world.container(&[]);
    let server = name_server.inside(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    let ask = |to: Ipv4Addr| exchange(&server, (to, 5353), PATIENCE).map(ipv4);
    world.neighbour.inside(|| assert_eq!(ask(HOST), Some(NEIGHBOUR)));
    world.host.inside(|| assert!(ask(Ipv4Addr::LOCALHOST).is_some()));
    world.host.inside(|| assert!(ask(HOST).is_some()));
    other.inside(|| assert!(ask(HOST).is_some()));
}

#[test]
fn port_zero_is_a_real_port() {
    let world = World::new();
    let web = world.container(&[tcp(0)]);
    let server = web.inside(|| listen(80));
    world.host.inside(|| assert!(ask(&server, HOST, web.port(), PATIENCE).is_some()));
}

#[test]
fn containers_reach_other_machines_as_the_host() {
    let world = World::new();
    let container = world.container(&[]);
    let server = world.neighbour.inside(|| listen(80));
    container.inside(|| assert_eq!(ask(&server, NEIGHBOUR, 80, PATIENCE), Some(HOST)));
}

#[test]
fn a_port_published_on_one_address_is_reached_there_alone() {
    let world = World::new();
    world.host.run("ip addr add 198.51.100.3/24 dev lan");
    let third = Ipv4Addr::new(198, 51, 100, 3);
    let web = world.container(&[port(Protocol::Tcp, Some(third), 8080, 80)]);
    let server = web.inside(|| listen(80));
    world.neighbour.inside(|| {
        assert!(ask(&server, third, 8080, PATIENCE).is_some());
        assert!(ask(&server, HOST, 8080, SILENCE).is_none());
    });
    world.host.inside(|| assert!(ask(&server, Ipv4Addr::LOCALHOST, 8080, SILENCE).is_none()));
}

/// CVE-2025-54388 and the like: neighbours can route 127.0.0.1 to us.
#[test]
fn a_port_published_on_loopback_is_for_the_host_alone() {
    let world = World::new();
    let web = world.container(&[port(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), 8080, 80)]);
    let other = world.container(&[]);
    let server = web.inside(|| listen(80));
    world.host.inside(|| assert!(ask(&server, Ipv4Addr::LOCALHOST, 8080, PATIENCE).is_some()));
    world.neighbour.inside(|| assert!(ask(&server, HOST, 8080, SILENCE).is_none()));
    other.inside(|| assert!(ask(&server, HOST, 8080, SILENCE).is_none()));

    for command in LEAD_LOOPBACK_AWAY {
        world.neighbour.run(&command.replace("VIA", &HOST.to_string()).replace("LINK", "lan"));
        let gateway = web.plan.address().unwrap().gateway;
        other.run(&command.replace("VIA", &gateway.to_string()).replace("LINK", "eth0"));
    }
    world.neighbour.inside(|| assert!(from(NEIGHBOUR, 8080).is_none(), "a neighbour by 127.0.0.1"));
    other.inside(|| assert!(from(other.ip(), 8080).is_none(), "a container by 127.0.0.1"));
}

/// So that 127.0.0.1 leads out of a namespace.
const LEAD_LOOPBACK_AWAY: [&str; 4] = [
    "ip addr del 127.0.0.1/8 dev lo",
    "ip route add 127.0.0.1/32 via VIA dev LINK",
    "sysctl -qw net.ipv4.conf.all.route_localnet=1",
    "sysctl -qw net.ipv4.conf.LINK.route_localnet=1",
];

/// Connects to 127.0.0.1, wherever that leads, from an address that can be answered.
fn from(source: Ipv4Addr, port: u16) -> Option<()> {
    use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(source, 0)).unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(SILENCE)).unwrap();
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).ok()
}

/// CVE-2020-8558: our bridge routes 127.0.0.0/8, for the host only.
#[test]
fn containers_do_not_reach_what_listens_on_the_hosts_loopback() {
    let world = World::new();
    let _published = world.container(&[port(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), 8080, 80)]);
    let container = world.container(&[]);
    let gateway = container.plan.address().unwrap().gateway;
    let _server = world.host.inside(|| std::net::TcpListener::bind("127.0.0.1:7000").unwrap());
    for command in LEAD_LOOPBACK_AWAY {
        container.run(&command.replace("VIA", &gateway.to_string()).replace("LINK", "eth0"));
    }
    container.inside(|| assert!(from(container.ip(), 7000).is_none()));
    let table = world.table();
    let guard = table.lines().find(|line| line.contains("ip daddr 127.0.0.0/8 counter")).unwrap();
    assert!(!guard.contains("packets 0 "), "the guard saw them: {guard}");
}

#[test]
fn containers_cannot_fake_their_source() {
    let world = World::new();
    let container = world.container(&[]);
    let gateway = container.plan.address().unwrap().gateway;
    let server = world.host.inside(|| UdpSocket::bind((gateway, 7000)).unwrap());
    // The honest one first: it also makes the neighbours know each other's hardware addresses.
    let honest = container.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    honest.send_to(b"x", (gateway, 7000)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(server.recv(&mut [0; 8]).unwrap(), 1);

    container.run("ip addr add 203.0.113.9/32 dev eth0");
    let liar = container.inside(|| UdpSocket::bind("203.0.113.9:0").unwrap());
    liar.send_to(b"x", (gateway, 7000)).unwrap();
    server.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(server.recv(&mut [0; 8]).is_err());
    assert!(world.senders_refused() > 0, "the guard saw it");
}

/// Answering for a neighbour, or for the bridge, would be the way to its traffic.
#[test]
fn containers_cannot_speak_for_one_another() {
    let world = World::new();
    let (victim, liar, witness) = (world.container(&[]), world.container(&[]), world.container(&[]));
    let gateway = victim.plan.address().unwrap().gateway;
    let server = witness.inside(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    server.set_read_timeout(Some(SILENCE)).unwrap();
    let send = |from: &Container, source: Ipv4Addr| {
        let socket = from.inside(|| UdpSocket::bind((source, 0)).unwrap());
        socket.send_to(b"x", (witness.ip(), 7000)).unwrap();
        server.recv(&mut [0; 8]).is_ok()
    };
    assert!(send(&victim, victim.ip()) && send(&liar, liar.ip()));
    for stolen in [victim.ip(), gateway] {
        liar.run(&format!("ip addr add {stolen}/32 dev eth0"));
        assert!(!send(&liar, stolen), "{stolen}");
        // Nor by asking in its name, which is how neighbours learn where somebody is.
        liar.run("ip neigh flush dev eth0");
        let refused = world.senders_refused();
        assert!(!send(&liar, stolen), "{stolen}");
        assert!(world.senders_refused() > refused, "what it asks as {stolen} goes nowhere");
        assert!(!witness.run("ip neigh show").contains(&hardware(&liar, stolen)));
        liar.run(&format!("ip addr del {stolen}/32 dev eth0"));
    }
    // Another hardware address is nobody's.
    liar.run("ip link set eth0 address 02:00:00:00:00:77");
    assert!(!send(&liar, liar.ip()));
    // Who flushes the rules opens the gate, until the next container comes.
    world.host.run("nft flush ruleset");
    let _late = world.container(&[]);
    assert!(!send(&liar, liar.ip()));
    assert!(send(&victim, victim.ip()));
}

/// How a table of neighbours would say that the address is this container's.
fn hardware(container: &Container, ip: Ipv4Addr) -> String {
    format!("{ip} dev eth0 lladdr {}", container.plan.address().unwrap().mac)
}

#[test]
fn machines_that_route_to_the_subnet_reach_only_what_is_published() {
    let world = World::new();
    let web = world.container(&[tcp(8080)]);
    let open = web.inside(|| listen(80));
    let closed = web.inside(|| listen(81));
    let network = web.plan.address().unwrap();
    world.neighbour.run(&format!(
        "ip route add {}/16 via {HOST}",
        Ipv4Addr::from_bits(network.gateway.to_bits() & !0xffff)
    ));
    world.neighbour.inside(|| {
        assert!(ask(&closed, web.ip(), 81, SILENCE).is_none());
        assert!(ask(&open, web.ip(), 80, SILENCE).is_none(), "by its own address it is not published");
        assert!(ask(&open, HOST, 8080, PATIENCE).is_some());
    });
}

#[test]
fn instances_do_not_reach_each_other() {
    let world = World::new();
    let (_dir, other_instance) = common::instance();
    let ours = world.container(&[]);
    let id = base::Id::random().unwrap();
    std::fs::create_dir_all(other_instance.live(&id)).unwrap();
    let mode = state::options::NetworkMode::Bridge;
    let plan = world
        .host
        .inside(|| network::prepare(&other_instance, &id, &mode, &[], network::Firewall::Open).unwrap());
    let mut theirs = Container { id, plan, process: None, held: None };
    theirs.start(&world);
    let server = theirs.inside(|| listen(80));
    ours.inside(|| assert!(ask(&server, theirs.ip(), 80, SILENCE).is_none()));
    world.host.inside(|| assert!(ask(&server, theirs.ip(), 80, PATIENCE).is_some()));
}

#[test]
fn a_released_port_is_closed_and_free() {
    let world = World::new();
    let mut web = world.container(&[tcp(8080)]);
    let server = web.inside(|| listen(80));
    world.neighbour.inside(|| assert!(ask(&server, HOST, 8080, PATIENCE).is_some()));
    drop(server);
    web.kill();
    world.release(&web);
    let on_host = world.host.inside(|| listen(8080));
    world.neighbour.inside(|| assert_eq!(ask(&on_host, HOST, 8080, PATIENCE), Some(NEIGHBOUR)));
}

#[test]
fn a_taken_port_is_named() {
    let world = World::new();
    let _listener = world.host.inside(|| listen(8080));
    let mut container = world.prepare(&[tcp(8080)]);
    let error = world.host.inside(|| container.plan.reserve_ports().unwrap_err());
    assert_eq!(
        error.to_string(),
        "cannot publish port 8080/tcp: something on this host listens there already"
    );
    assert_eq!(base::Failure::kind(&error), base::Kind::Conflict);
}

/// A client that never stops sending from its one port must reach whoever has the port now.
#[test]
fn datagrams_follow_the_port_to_its_next_container() {
    let world = World::new();
    let published = [port(Protocol::Udp, None, 5353, 53)];
    let client = world.neighbour.inside(|| UdpSocket::bind("0.0.0.0:4000").unwrap());
    let ask = |server: &UdpSocket| {
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"x", (HOST, 5353)).ok(); // the host may have said that nobody is there
        client.send_to(b"x", (HOST, 5353)).unwrap();
        server.recv(&mut [0; 8]).map(drop)
    };
    client.send_to(b"before anybody is there", (HOST, 5353)).unwrap();
    for _ in 0..2 {
        let mut container = world.container(&published);
        let server = container.inside(|| UdpSocket::bind("0.0.0.0:53").unwrap());
        ask(&server).unwrap();
        container.kill();
        world.release(&container);
    }
    let on_host = world.host.inside(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
    ask(&on_host).unwrap();
}

/// Were the bridge's port not open yet, the first question for a hardware address would be lost, and asked again
/// only after a second.
#[test]
fn the_first_packet_is_not_lost() {
    let world = World::new();
    let server = {
        let first = world.container(&[]);
        let gateway = first.plan.address().unwrap().gateway;
        world.host.inside(|| std::net::TcpListener::bind((gateway, 7000)).unwrap())
    };
    let mut times: Vec<Duration> = (0..40)
        .map(|_| {
            let container = world.prepare(&[]);
            let time = container_connects(&world, container, server.local_addr().unwrap());
            server.accept().unwrap();
            time
        })
        .collect();
    times.sort_unstable();
    assert!(times[times.len() - 1] < Duration::from_millis(900), "{times:?}");
}

fn container_connects(world: &World, mut container: Container, to: SocketAddr) -> Duration {
    container.start(world);
    container.inside(|| {
        let start = std::time::Instant::now();
        std::net::TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        start.elapsed()
    })
}
