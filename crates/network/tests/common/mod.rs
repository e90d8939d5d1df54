//! A small world of network namespaces: a host with a link to a neighbour, and containers on its bridge.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::Id;
use network::{Firewall, Plan};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use state::Instance;
use state::options::{NetworkMode, PortMapping, Protocol};

pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Long enough for an answer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough to see that nothing comes.
pub const SILENCE: Duration = Duration::from_millis(300);

/// A named network namespace, removed on drop.
pub struct Namespace(String);

impl Namespace {
    pub fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dhowt-{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
        Self(name)
    }

    /// Runs `work` in a thread inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(format!("/run/netns/{}", self.0).into(), work)
    }

    pub fn run(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.0))
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.0));
    }
}

fn inside<T: Send>(namespace: PathBuf, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            let file = File::open(&namespace).unwrap();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                .unwrap();
            work()
        });
        match entered.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Runs a command line (words split at blanks); it must succeed.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A host with its own instance, and a neighbour on a wire.
pub struct World {
    pub host: Namespace,
    pub neighbour: Namespace,
    pub instance: Instance,
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let (host, neighbour) = (Namespace::new("host"), Namespace::new("neighbour"));
        run(&format!(
            "ip -n {} link add lan type veth peer name lan netns {}",
            host.name(),
            neighbour.name()
        ));
        for (namespace, ip) in [(&host, HOST), (&neighbour, NEIGHBOUR)] {
            run(&format!("ip -n {} addr add {ip}/24 dev lan", namespace.name()));
            run(&format!("ip -n {} link set lan up", namespace.name()));
        }
        let (dir, instance) = instance();
        Self { host, neighbour, instance, _dir: dir }
    }

    pub fn prepare(&self, ports: &[PortMapping]) -> Container {
        let id = Id::random().unwrap();
        std::fs::create_dir_all(self.instance.live(&id)).unwrap();
        let plan = self.host.inside(|| {
            network::prepare(&self.instance, &id, &NetworkMode::Bridge, ports, Firewall::Open).unwrap()
        });
        Container { id, plan, process: None, held: None }
    }

    /// A container whose init sleeps.
    pub fn container(&self, ports: &[PortMapping]) -> Container {
        let mut container = self.prepare(ports);
        container.start(self);
        container
    }

    pub fn release(&self, container: &Container) {
        self.release_again(container);
        std::fs::remove_dir_all(self.instance.live(&container.id)).unwrap();
    }

    pub fn release_again(&self, container: &Container) {
        self.host.inside(|| container.plan.release(&self.instance, &container.id).unwrap());
    }

    pub fn sweep(&self) -> bool {
        self.host.inside(|| network::sweep_now(&self.instance).unwrap())
    }

    /// Sweeps until it is done: a process that another test forks right now holds, until its exec, a copy of any
    /// lock that is held in this process.
    pub fn swept(&self) -> bool {
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            if self.sweep() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// How many frames containers sent in another's name, and were not let through.
    pub fn senders_refused(&self) -> u64 {
        let table = self.host.run(&format!("nft list table bridge {}", self.instance.global_name()));
        let counters =
            table.lines().filter_map(|line| line.split_once("counter packets ")?.1.split(' ').next());
        counters.map(|packets| packets.parse::<u64>().unwrap()).sum()
    }

    pub fn table(&self) -> String {
        self.host.run(&format!("nft list table inet {}", self.instance.global_name()))
    }
}

pub fn instance() -> (tempfile::TempDir, Instance) {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
    instance.create_dirs().unwrap();
    (dir, instance)
}

pub struct Container {
    pub id: Id,
    pub plan: Plan,
    pub process: Option<Child>,
    pub held: Option<network::PortReservations>,
}

impl Container {
    pub fn start(&mut self, world: &World) {
        let process = world.host.inside(sleeper);
        let pid = process.id();
        self.process = Some(process);
        self.held = Some(world.host.inside(|| self.plan.reserve_ports().unwrap()));
        world.host.inside(|| self.plan.attach(pid).unwrap());
        let batch = self.plan.child_messages();
        self.inside(|| {
            let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
            send(&socket, &batch.bytes, SendFlags::empty()).unwrap();
            for n in 0..batch.messages {
                let mut answer = [0; 512];
                recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
                assert_eq!((answer[4], &answer[16..20]), (2, &[0; 4][..]), "message {n} was refused");
            }
            for (name, value) in self.plan.sysctls() {
                std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).unwrap();
            }
        });
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.plan.address().unwrap().ip
    }

    pub fn port(&self) -> u16 {
        self.plan.ports()[0].host_port
    }

    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(format!("/proc/{}/ns/net", self.process.as_ref().unwrap().id()).into(), work)
    }

    pub fn run(&self, command: &str) -> String {
        run(&format!("nsenter -n -t {} {command}", self.process.as_ref().unwrap().id()))
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        self.held = None;
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process in a network namespace of its own.
pub fn sleeper() -> Child {
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let child = Command::new("unshare").args(["--net", "sleep", "300"]).stdin(Stdio::null()).spawn().unwrap();
    while std::fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap() == own {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

pub fn port(
    protocol: Protocol,
    host_ip: Option<Ipv4Addr>,
    host_port: u16,
    container_port: u16,
) -> PortMapping {
    PortMapping { host_ip: host_ip.map(Into::into), host_port, container_port, protocol }
}

pub fn tcp(host_port: u16) -> PortMapping {
    port(Protocol::Tcp, None, host_port, 80)
}

/// Listens where the calling thread is.
pub fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
}

/// Connects; what the server sees as the client, if it works.
pub fn connect(server: &TcpListener, to: impl Into<SocketAddr>, patience: Duration) -> Option<SocketAddr> {
    let client = TcpStream::connect_timeout(&to.into(), patience).ok()?;
    loop {
        let (_, peer) = server.accept().unwrap();
        // Connections of earlier attempts may still be queued.
        if peer.port() == client.local_addr().unwrap().port() || server.set_nonblocking(false).is_err() {
            return Some(peer);
        }
    }
}

/// A datagram there and back; what the server sees as the client, if it works.
pub fn exchange(server: &UdpSocket, to: impl Into<SocketAddr>, patience: Duration) -> Option<SocketAddr> {
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    client.connect(to.into()).unwrap();
    client.set_read_timeout(Some(patience)).unwrap();
    server.set_read_timeout(Some(patience)).unwrap();
    client.send(b"ping").ok()?;
    let mut bytes = [0; 8];
    let (_, peer) = server.recv_from(&mut bytes).ok()?;
    server.send_to(b"pong", peer).unwrap();
    client.recv(&mut bytes).ok().map(|_| peer)
}
