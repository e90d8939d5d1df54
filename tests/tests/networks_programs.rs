//! Networks with the programs that people use: nginx, curl, dig and iperf3 of Debian, in containers, on the host, and on another
//! host (a network namespace), by IPv4 and IPv6.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::programs::with_programs_like;
use harness::published::{HOST6, NEIGHBOUR6};
use harness::world::{HOST, NEIGHBOUR, World};
use harness::{Dhow, eventually};

/// A web server that tells who asks it, and one for throughput.
const NGINX: &str = "daemon off; pid /tmp/nginx.pid; error_log /dev/stderr; worker_processes 1; events {}
http {
    access_log off;
    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    server { listen 80; listen [::]:80; return 200 \"$remote_addr\\n\"; }
}";

/// A host with nginx and iperf3 in `web` on the network `net` (both versions), which publishes them, and `client` beside it.
struct Site {
    /// Goes before its host.
    dhow: Dhow,
    world: World,
    programs: Vec<String>,
}

impl Site {
    fn new(name: &str) -> Self {
        let world = World::new();
        for (on, ip) in [(world.on_host("ip"), HOST6), (world.at_neighbour("ip"), NEIGHBOUR6)] {
            on.args(&["addr", "add", &format!("{ip}/64"), "dev", "lan", "nodad"]).ok();
        }
        let dhow = Dhow::in_namespace(name, world.host());
        let site = Self { dhow, world, programs: with_programs_like("nginx") };
        site.dhow.ok(&["network", "create", "--ipv6", "--label", "of=test", "net"]);
        let script = format!(
            "echo '{NGINX}' >/tmp/nginx.conf; iperf3 -s -D; exec nginx -e /dev/stderr -c /tmp/nginx.conf -g 'user root;'"
        );
        let flags = ["--network", "net", "--network-alias", "www", "-p", "8080:80", "-p", "5201:5201"];
        site.run("web", &[&flags[..], &["-p", "5201:5201/udp"]].concat(), &["sh", "-c", &script]);
        site.run("client", &["--network", "net"], &["sleep", "1000"]);
        for version in ["-4", "-6"] {
            eventually("nginx", || site.curl("client", &[version, "http://web/"]));
        }
        site
    }

    fn run(&self, name: &str, flags: &[&str], command: &[&str]) {
        let programs: Vec<&str> = self.programs.iter().map(String::as_str).collect();
        let run = [&["run", "-d", "--name", name], flags, &programs, &["busybox"], command].concat();
        self.dhow.ok(&run);
    }

    /// What a program in a container says, if it succeeds.
    fn within(&self, name: &str, command: &[&str]) -> Option<String> {
        let output = self.dhow.run(&[&["exec", name], command].concat());
        (output.code == 0).then(|| output.stdout.trim().to_owned())
    }

    fn curl(&self, name: &str, words: &[&str]) -> Option<String> {
        let curl = ["curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "3"];
        self.within(name, &[&curl[..], words].concat())
    }

    /// An address of a container on the network.
    fn address(&self, name: &str, of: &str) -> String {
        let format = format!("{{{{.NetworkSettings.Networks.net.{of}}}}}");
        self.dhow.ok(&["inspect", "-f", &format, name])
    }
}

/// Whether two megabytes have come through but for a few, as iperf3 counts them. Its server serves one client after the other, and
/// refuses those that come too early.
fn has_arrived(report: &str) -> Option<()> {
    let report: serde_json::Value = serde_json::from_str(report).ok()?;
    let end = &report["end"];
    let sum = if end["sum_received"].is_object() { &end["sum_received"] } else { &end["sum"] };
    (sum["bytes"].as_u64()? >= 1_500_000).then_some(())
}

#[test]
fn neighbours_speak_by_name_and_address() {
    let site = Site::new("programs-names");
    let [four, six] = ["IPAddress", "GlobalIPv6Address"].map(|of| site.address("client", of));
    for name in ["web", "www", "web.net"] {
        assert_eq!(site.curl("client", &["-4", &format!("http://{name}/")]), Some(four.clone()), "{name}");
        assert_eq!(site.curl("client", &["-6", &format!("http://{name}/")]), Some(six.clone()), "{name}");
    }
    let [web, web6] = ["IPAddress", "GlobalIPv6Address"].map(|of| site.address("web", of));
    assert_eq!(site.curl("client", &[&format!("http://{web}/")]), Some(four));
    assert_eq!(site.curl("client", &[&format!("http://[{web6}]/")]), Some(six));
    // The questions behind it, by both transports.
    for transport in ["+notcp", "+tcp"] {
        let dig = |words: &[&str]| {
            site.within("client", &[&["dig", "+short", transport], words].concat()).unwrap_or_default()
        };
        assert_eq!(dig(&["web", "A"]), web);
        assert_eq!(dig(&["www", "AAAA"]), web6);
        assert_eq!(dig(&["-x", &web]), "web.net.");
        assert_eq!(dig(&["-x", &web6]), "web.net.");
        assert_eq!(dig(&["web", "MX"]), "");
    }
    let status = site.within("client", &["dig", "web", "MX"]).unwrap();
    assert!(status.contains("status: NOERROR"), "{status}");
}

#[test]
fn streams_and_datagrams_go_both_ways() {
    let site = Site::new("programs-iperf");
    for version in ["-4", "-6"] {
        for how in [&[][..], &["-R"], &["-u", "-b", "20M"], &["-u", "-b", "20M", "-R"]] {
            let iperf = ["iperf3", "-J", "-n", "2M", version, "-c", "web"];
            eventually(&format!("iperf3 {version} {how:?}"), || {
                has_arrived(&site.within("client", &[&iperf[..], how].concat())?)
            });
        }
    }
    // From another host, by the published port of both transports.
    let libraries = site.programs.iter().find_map(|flag| flag.strip_prefix("LD_LIBRARY_PATH=")).unwrap();
    let place = site.programs.iter().find_map(|flag| flag.strip_suffix(":/programs:ro")).unwrap();
    let libraries = libraries.replace("/programs", place);
    for host in [HOST, HOST6] {
        for how in [&[][..], &["-R"], &["-u", "-b", "20M"]] {
            eventually(&format!("iperf3 to {host} {how:?}"), || {
                let iperf = site.world.at_neighbour("iperf3").args(&["-J", "-n", "2M", "-c", host]).args(how);
                has_arrived(&iperf.env("LD_LIBRARY_PATH", &libraries).output().stdout)
            });
        }
    }
}

#[test]
fn ports_are_reached_from_everywhere_and_clients_keep_their_addresses() {
    let site = Site::new("programs-ports");
    let curl = ["--silent", "--fail", "--noproxy", "*", "--max-time", "3"];
    for (host, who) in [(HOST.to_owned(), NEIGHBOUR), (format!("[{HOST6}]"), NEIGHBOUR6)] {
        let url = format!("http://{host}:8080/");
        assert_eq!(site.world.at_neighbour("curl").args(&curl).arg(&url).ok(), who);
        site.world.on_host("curl").args(&curl).arg(&url).ok();
        // From a neighbour, and from the container itself: by the host's address.
        for name in ["client", "web"] {
            assert!(site.curl(name, &[&url]).is_some(), "{name} {url}");
        }
    }
    site.world.on_host("curl").args(&curl).arg("http://127.0.0.1:8080/").ok();
    // Both versions are shown.
    assert_eq!(site.dhow.ok(&["port", "web", "80"]), "0.0.0.0:8080\n[::]:8080");
    let shown = site.dhow.ok(&["ps", "--filter", "name=web", "--format", "{{.Ports}}"]);
    assert!(shown.contains("[::]:8080->80/tcp"), "{shown}");
    // Not the container's own address, which is the bridge's business.
    let web = site.address("web", "IPAddress");
    site.world.at_neighbour("ip").args(&["route", "add", &format!("{web}/32"), "via", HOST]).ok();
    let direct = site.world.at_neighbour("curl").args(&curl).arg(format!("http://{web}/")).output();
    assert_ne!(direct.code, 0, "{direct:?}");
}

#[test]
fn each_type_of_network_is_what_it_says() {
    let site = Site::new("programs-types");
    let web = site.address("web", "IPAddress");
    // Another container's: the same addresses, the same loopback.
    site.run("joined", &["--network", "container:web"], &["sleep", "1000"]);
    assert_eq!(site.curl("joined", &["http://127.0.0.1/"]), Some("127.0.0.1".into()));
    assert_eq!(site.curl("joined", &["-6", "http://[::1]/"]), Some("::1".into()));
    // None: nothing but loopback.
    site.run("none", &["--network", "none"], &["sleep", "1000"]);
    assert_eq!(site.curl("none", &[&format!("http://{web}/")]), None);
    assert_eq!(site.within("none", &["ls", "/sys/class/net"]), Some("lo".into()));
    // The host's: what it listens to is the host's, and it sees bridges.
    site.run("host", &["--network", "host"], &["sleep", "1000"]);
    assert!(site.curl("host", &["http://127.0.0.1:8080/"]).is_some());
    // The default bridge: no names, another network, and yet the way to published ports.
    site.run("default", &[], &["sleep", "1000"]);
    assert_eq!(site.curl("default", &["http://web/"]), None);
    assert_eq!(site.curl("default", &[&format!("http://{web}/")]), None);
    assert!(site.curl("default", &[&format!("http://{HOST}:8080/")]).is_some());
    // An internal one: neighbours, and nothing else, until it is connected.
    site.dhow.ok(&["network", "create", "--internal", "inside"]);
    site.run("shut", &["--network", "inside"], &["sleep", "1000"]);
    assert_eq!(site.curl("shut", &[&format!("http://{HOST}:8080/")]), None);
    site.dhow.ok(&["network", "connect", "--alias", "hidden", "inside", "web"]);
    assert!(site.curl("shut", &["http://hidden/"]).is_some());
    site.dhow.ok(&["network", "disconnect", "inside", "web"]);
    assert_eq!(site.curl("shut", &["http://hidden/"]), None);
    assert_eq!(site.curl("shut", &["http://web/"]), None);
    // Closed within: every container for itself.
    site.dhow.ok(&["network", "create", "--icc=false", "apart"]);
    site.run("alone", &["--network", "apart"], &["sleep", "1000"]);
    site.dhow.ok(&["network", "connect", "apart", "web"]);
    assert_eq!(site.curl("alone", &["http://web/"]), None);
}
