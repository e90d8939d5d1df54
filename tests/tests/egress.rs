//! `--egress`: a container goes where rules let it, and nowhere else, whatever it tries; what is refused is told; what is
//! allowed works as if nobody looked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use harness::world::{HOST, NEIGHBOUR, World};
use harness::{Dhow, Invocation, Process, eventually};
use serde_json::Value;

const OUTSIDE: &str = include_str!("../egress/outside.py");
const INSIDE: &str = include_str!("../egress/inside.py");
const GOOD: &str = "203.0.113.10";

/// The world outside: servers, a name server, and an eye on what arrives.
struct Outside {
    world: World,
    servers: Process,
    names: Process,
}

impl Outside {
    fn new() -> Self {
        let world = World::new();
        let ip = |words: &str| {
            world.on_host("ip").args(&words.split(' ').collect::<Vec<_>>()).ok();
        };
        let ip_outside = |words: &str| {
            world.at_neighbour("ip").args(&words.split(' ').collect::<Vec<_>>()).ok();
        };
        ip("addr add 2001:db8:1::1/64 dev lan nodad");
        ip_outside("addr add 2001:db8:1::2/64 dev lan nodad");
        for last in [10, 20, 30, 66] {
            ip_outside(&format!("addr add 203.0.113.{last}/32 dev lo"));
            ip_outside(&format!("addr add 2001:db8:66::{last}/128 dev lo nodad"));
        }
        ip(&format!("route add 203.0.113.0/24 via {NEIGHBOUR}"));
        ip("-6 route add 2001:db8:66::/64 via 2001:db8:1::2");
        let servers = world.at_neighbour("python3").args(&["-u", "-c", OUTSIDE]).spawn();
        servers.expect("ready");
        let records = [
            "allowed.test,203.0.113.10,2001:db8:66::10",
            "www.allowed.test,203.0.113.10",
            "path.test,203.0.113.10",
            "port.test,203.0.113.10",
            "repo.test,203.0.113.30",
            "tls.repo.test,203.0.113.30",
            "evil.test,203.0.113.66,2001:db8:66::66",
            "notallowed.test,203.0.113.66",
            "loop.allowed.test,127.0.0.1",
            "meta.allowed.test,169.254.169.254",
            "gate.allowed.test,10.231.0.1",
        ];
        let records: Vec<String> = records.iter().map(|record| format!("--host-record={record}")).collect();
        let names = world
            .at_neighbour("dnsmasq")
            .args(&["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="])
            .arg(format!("--listen-address={NEIGHBOUR}"))
            .args(&["--bind-interfaces", "--local-ttl=60", "--local=/test/"])
            .arg(format!("--host-record=host.allowed.test,{HOST}"))
            .args(&records.iter().map(String::as_str).collect::<Vec<_>>())
            .spawn();
        let outside = Self { world, servers, names };
        eventually("the name server outside", || {
            let asked = outside.world.on_host("dig").args(&[&format!("@{NEIGHBOUR}"), "+short", "path.test"]);
            (asked.output().stdout.trim() == GOOD).then_some(())
        });
        outside
    }

    /// An instance on the host of this world.
    fn dhow(&self, name: &str) -> Dhow {
        Dhow::in_namespace(name, self.world.host())
    }

    /// What the servers have seen, a line each.
    fn seen(&self) -> Vec<String> {
        self.servers.stdout().lines().map(str::to_owned).collect()
    }

    fn stop(mut self) {
        for process in [&mut self.servers, &mut self.names] {
            process.kill();
        }
        self.servers.wait();
        self.names.wait();
    }
}

fn sleeper(dhow: &Dhow, name: &str, flags: &[&str]) {
    let all = [&["run", "-d", "--name", name, "--dns", NEIGHBOUR], flags, &["busybox", "sleep", "1000"]];
    dhow.ok(&all.concat());
}

/// A program of this machine in a container's network, which asks the container's resolver.
fn inside(dhow: &Dhow, name: &str, program: &str) -> Invocation {
    let resolver = dhow.scratch().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.11\n").unwrap();
    let with_resolver = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", resolver.display());
    Invocation::new("nsenter").arg(format!("--net=/proc/{}/ns/net", dhow.pid(name))).args(&[
        "unshare",
        "--mount",
        "sh",
        "-c",
        &with_resolver,
        "sh",
        program,
    ])
}

/// What comes of a plain request from within a container: the page, or nothing.
fn page(dhow: &Dhow, name: &str, url: &str) -> String {
    inside(dhow, name, "curl")
        .args(&["--silent", "--fail", "--max-time", "5", url])
        .output()
        .stdout
        .trim()
        .to_owned()
}

/// Whether a server at this port answers.
fn reached(dhow: &Dhow, name: &str, to: &str, port: u16) -> bool {
    let url = format!("telnet://{to}:{port}");
    let curl = inside(dhow, name, "curl").args(&["--silent", "--max-time", "2", &url]);
    !curl.input("hello\n").output().stdout.is_empty()
}

fn denied(dhow: &Dhow, name: &str) -> Vec<Value> {
    let lines = dhow.ok(&["network", "denied", "--format", "json", name]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether something like it was refused; `*` stands for the rest of a text, or any port.
fn tells(denied: &[Value], protocol: &str, to: &str, port: &str) -> bool {
    let like = |has: &str, wanted: &str| match wanted.strip_suffix('*') {
        Some(beginning) => has.starts_with(beginning),
        None => has == wanted,
    };
    denied.iter().any(|line| {
        let number = line["Port"].as_u64().map_or(String::new(), |port| port.to_string());
        like(line["Protocol"].as_str().unwrap(), protocol)
            && like(line["To"].as_str().unwrap(), to)
            && like(&number, port)
    })
}

fn server_of(dhow: &Dhow) -> Option<u32> {
    let run = dhow.run_root().to_str().unwrap().to_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with("dhow-egressd\0") && command.contains(&run)
    })
}

#[test]
fn rules_let_pass_what_they_name_and_nothing_else() {
    let outside = Outside::new();
    let dhow = outside.dhow("egress-rules");
    let good = "hello from 203.0.113.10";
    let rules = "allowed.test,http://path.test/ok/*,port.test:22,203.0.113.20:5000,203.0.113.20:53/udp";
    sleeper(&dhow, "web", &["--egress", rules]);
    assert_eq!(page(&dhow, "web", "http://allowed.test/"), good);
    assert_eq!(page(&dhow, "web", "http://path.test/ok/x"), good);
    assert_eq!(page(&dhow, "web", "http://path.test/other"), "");
    assert_eq!(page(&dhow, "web", "http://www.allowed.test/"), "", "below what is allowed");
    assert_eq!(page(&dhow, "web", "http://evil.test/"), "");
    assert!(reached(&dhow, "web", "port.test", 22));
    // For a minute longer than its answer is believed.
    let table = format!("{}-egress", dhow.global_name());
    let set = format!("opened_{}", &dhow.inspect("web")["Id"].as_str().unwrap()[..12]);
    let opened = outside.world.on_host("nft").args(&["list", "set", "inet", &table, &set]).ok();
    assert!(opened.contains("203.0.113.10 . tcp . 22 timeout 2m expires"), "{opened}");
    assert!(!reached(&dhow, "web", "port.test", 25));
    assert!(reached(&dhow, "web", "203.0.113.20", 5000));
    assert!(!reached(&dhow, "web", "203.0.113.66", 5000));
    eventually("the refusals", || {
        let denied = denied(&dhow, "web");
        let all = [
            ("http", "path.test/other", "80"),
            ("dns", "www.allowed.test", ""),
            ("dns", "evil.test", ""),
            ("tcp", GOOD, "25"),
            ("tcp", "203.0.113.66", "5000"),
        ];
        all.iter().all(|(protocol, to, port)| tells(&denied, protocol, to, port)).then_some(())
    });
    let line = dhow.ok(&["network", "denied", "web"]);
    assert!(line.contains(" web dns evil.test (no rule allows this name)"), "{line}");

    // On a network that allows a part, a container can take away and not add; neighbours find each other as ever.
    dhow.ok(&["network", "create", "--egress", "allowed.test", "--egress", "path.test", "part"]);
    sleeper(&dhow, "less", &["--network", "part", "--egress", "path.test,evil.test"]);
    sleeper(&dhow, "same", &["--network", "part"]);
    assert_eq!(page(&dhow, "less", "http://path.test/"), good);
    assert_eq!(page(&dhow, "less", "http://allowed.test/"), "");
    assert_eq!(page(&dhow, "less", "http://evil.test/"), "");
    assert_eq!(page(&dhow, "same", "http://allowed.test/"), good);
    assert!(dhow.ok(&["exec", "less", "ping", "-c", "1", "same"]).contains("1 packets received"));
    assert_eq!(dhow.inspect("less")["NetworkSettings"]["Egress"], serde_json::json!(["path.test"]));
    // Their networks stay what they are while they run.
    dhow.ok(&["network", "create", "free"]);
    assert!(dhow.fails(1, &["network", "connect", "free", "less"]).contains("where it may go"));
    let words = dhow.fails(125, &["run", "--network", "host", "--egress", "deny", "busybox", "true"]);
    assert!(words.contains("in the host's network"), "{words}");

    // Killed, the process that keeps all this is there again, and meanwhile nothing slips out.
    let before = server_of(&dhow).unwrap();
    let pid = rustix::process::Pid::from_raw(before.cast_signed()).unwrap();
    let since = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    std::thread::scope(|scope| {
        let slips = scope.spawn(|| reached(&dhow, "web", "203.0.113.66", 5000));
        eventually("another process", || server_of(&dhow).filter(|now| *now != before));
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        eventually("the proxy again", || (page(&dhow, "web", "http://allowed.test/") == good).then_some(()));
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        assert!(!slips.join().unwrap());
    });
    // So does it where a container's monitor is killed: what runs in it is limited until somebody ends it.
    let pid = dhow.pid("web");
    let monitor = rustix::process::Pid::from_raw(dhow.monitor_pid("web").cast_signed()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let orphan = Invocation::new("nsenter").arg(format!("--net=/proc/{pid}/ns/net"));
    let curl = ["curl", "--silent", "--max-time", "2", "telnet://203.0.113.66:5000"];
    assert_eq!(orphan.args(&curl).input("hello\n").output().stdout, "");
    dhow.ok(&["rm", "-f", "web", "less", "same"]);
    eventually("the end of the table", || {
        let tables = outside.world.on_host("nft").args(&["list", "tables"]).ok();
        (!tables.contains("-egress")).then_some(())
    });
    outside.stop();
}

#[test]
fn a_policy_binds_all_and_what_is_needed_can_be_learned() {
    let outside = Outside::new();
    let dhow = outside.dhow("egress-policy");
    let good = "hello from 203.0.113.10";
    sleeper(&dhow, "pupil", &["--egress", "learn"]);
    assert_eq!(page(&dhow, "pupil", "http://allowed.test/"), good);
    assert!(reached(&dhow, "pupil", "port.test", 22));
    assert!(reached(&dhow, "pupil", "203.0.113.66", 5000));
    let learned = eventually("the lesson", || {
        let learned = dhow.run(&["network", "learned", "pupil"]).stdout;
        (learned.lines().count() == 3).then_some(learned)
    });
    assert_eq!(
        learned.lines().collect::<Vec<_>>(),
        ["allowed.test", "port.test:22/tcp", "203.0.113.66/32:5000/tcp"]
    );
    dhow.ok(&["rm", "-f", "pupil"]);
    // What was learned is enough.
    let list = learned.lines().collect::<Vec<_>>().join(",");
    sleeper(&dhow, "taught", &["--egress", &list]);
    assert_eq!(page(&dhow, "taught", "http://allowed.test/"), good);
    assert!(reached(&dhow, "taught", "port.test", 22) && reached(&dhow, "taught", "203.0.113.66", 5000));
    assert!(!reached(&dhow, "taught", "203.0.113.66", 25));

    let policy = dhow.config().with_file_name("policy.toml");
    std::fs::write(
        &policy,
        "[egress]\ndefault = [\"deny\"]\n[egress.containers]\n\"web-*\" = [\"*.allowed.test\", \"allowed.test\"]\n\
         [egress.labels]\n\"tier=free\" = [\"allow\"]\n",
    )
    .unwrap();
    sleeper(&dhow, "none", &["--egress", "allowed.test"]);
    sleeper(&dhow, "web-1", &[]);
    sleeper(&dhow, "free", &["--label", "tier=free"]);
    assert_eq!(page(&dhow, "none", "http://allowed.test/"), "", "a container cannot add");
    assert_eq!(page(&dhow, "web-1", "http://www.allowed.test/"), good);
    assert_eq!(page(&dhow, "web-1", "http://path.test/"), "");
    assert!(reached(&dhow, "free", "203.0.113.66", 25));
    let words = dhow.fails(125, &["run", "--rm", "--network", "host", "busybox", "true"]);
    assert!(words.contains("in the host's network"), "{words}");
    std::fs::write(&policy, "[egress]\ndefualt = []\n").unwrap();
    let words = dhow.fails(125, &["run", "--rm", "busybox", "true"]);
    assert!(words.contains("policy.toml") && words.contains("defualt"), "{words}");
    std::fs::remove_file(&policy).unwrap();
    dhow.ok(&["rm", "-f", "taught", "none", "web-1", "free"]);
    outside.stop();
}

#[test]
fn there_is_no_way_around() {
    let outside = Outside::new();
    let dhow = outside.dhow("egress-ways");
    let on_host = outside.world.on_host("busybox").args(&["httpd", "-f", "-p", "[::]:5001"]).spawn();
    let mut on_host = on_host;
    dhow.ok(&[
        "network",
        "create",
        "--subnet",
        "10.231.0.0/24",
        "--ipv6",
        "--subnet",
        "fd00:231::/64",
        "limited",
    ]);
    dhow.ok(&["network", "create", "far"]);
    let served = [
        "run",
        "-d",
        "--name",
        "far",
        "--network",
        "far",
        "-p",
        "5002:5001",
        "busybox",
        "httpd",
        "-f",
        "-p",
        "5001",
    ];
    dhow.ok(&served);
    sleeper(&dhow, "near", &["--network", "limited"]);
    let rules = "allowed.test,*.allowed.test,http://path.test/ok/*,allowed.test:22,203.0.113.20:5000";
    sleeper(&dhow, "web", &["--network", "limited", "--egress", rules]);
    let ip = |name: &str, network: &str| {
        let networks = &dhow.inspect(name)["NetworkSettings"]["Networks"][network];
        networks["IPAddress"].as_str().unwrap().to_owned()
    };
    // The same by IPv6, where there is that.
    let six = "hello from 2001:db8:66::10";
    let curl = inside(&dhow, "web", "curl").args(&["-6", "--silent", "--fail", "http://allowed.test/"]).ok();
    assert_eq!(curl, six);
    // Nobody gets in at the proxy's own door: neither from outside, nor from the host, nor another container.
    let listening = outside.world.on_host("nft").args(&[
        "list",
        "chain",
        "inet",
        &format!("{}-egress", dhow.global_name()),
        "door",
    ]);
    let listening = listening.ok();
    let (_, port) = listening.split_once("tcp dport ").unwrap();
    let port: u16 = port.split(' ').next().unwrap().parse().unwrap();
    let knock = format!("telnet://{HOST}:{port}");
    let curl = ["--silent", "--max-time", "0.3", &knock];
    for from in
        [outside.world.at_neighbour("curl"), outside.world.on_host("curl"), inside(&dhow, "near", "curl")]
    {
        // 28: it takes too long.
        assert_eq!(from.args(&curl).output().code, 28);
    }
    let before = outside.seen().len();
    let ways = inside(&dhow, "web", "python3")
        .args(&["-c", INSIDE, "10.231.0.1", "fd00:231::1", &ip("near", "limited"), &ip("far", "far"), HOST])
        .limit(60)
        .ok();
    let ways: Vec<Vec<&str>> = ways.lines().map(|line| line.split('\t').collect()).collect();
    assert!(ways.len() >= 70, "{}", ways.len());
    let through: Vec<_> = ways.iter().filter(|way| way[1] != "blocked").collect();
    assert!(through.is_empty(), "{through:#?}");
    // Each is in the log.
    let missing = |denied: &[Value]| -> Vec<String> {
        let told = |logged: &str| {
            let (protocol, rest) = logged.split_once('/').unwrap();
            let (to, port) = rest.rsplit_once('/').unwrap();
            tells(denied, protocol, to, port)
        };
        ways.iter().filter(|way| way[2] != "-" && !told(way[2])).map(|way| way.join(" ")).collect()
    };
    let until = Instant::now() + harness::patience(5);
    loop {
        let denied = denied(&dhow, "web");
        let missing = missing(&denied);
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "not in the log: {missing:#?}\n{denied:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // And nothing has arrived but what was allowed.
    let seen = &outside.seen()[before..];
    let good = |line: &&String| {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            // Neighbours are asked for their hardware addresses; names are asked for by the host.
            ["packet", "58", ..] => true,
            ["packet", _, to, _] if to.starts_with("ff02::") => true,
            ["packet", "17", to, "53"] => to == NEIGHBOUR,
            ["packet", "6", to, port] => {
                [GOOD, "203.0.113.20", "2001:db8:66::10"].contains(&to)
                    && ["80", "443", "22", "5000"].contains(&port)
            }
            ["request", GOOD, host, path] => host == "allowed.test" && path == "/first",
            _ => false,
        }
    };
    let bad: Vec<&String> = seen.iter().filter(|line| !good(line)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    dhow.ok(&["rm", "-f", "web", "near", "far"]);
    on_host.kill();
    on_host.wait();
    outside.stop();
}

#[test]
fn clients_notice_nothing() {
    let outside = Outside::new();
    let dhow = outside.dhow("egress-clients");
    let scratch = dhow.scratch();
    let (site, home) = (scratch.join("site"), scratch.join("home"));
    for dir in [site.clone(), home.join("lists/partial"), home.join("archives/partial")] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let sh =
        |script: &str| Invocation::new("sh").args(&["-c", script]).current_dir(&site).env("HOME", &home).ok();
    // A repository of git's, as a plain server gives it; an empty one of apt's, and a file in it; a certificate.
    sh("git init -q tree && cd tree && echo text > file && git add file && \
        git -c user.name=x -c user.email=x@y commit -qm one && cd .. && \
        git clone -q --bare tree tree.git && cd tree.git && git update-server-info");
    sh(
        "mkdir -p deb/DEBIAN && printf 'Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n' \
        > deb/DEBIAN/control && dpkg-deb --build deb thing_1_all.deb > /dev/null && \
        { cat deb/DEBIAN/control; echo Filename: ./thing_1_all.deb; echo Size: $(stat -c %s thing_1_all.deb); \
          echo SHA256: $(sha256sum thing_1_all.deb | cut -d' ' -f1); } > Packages",
    );
    sh(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tls.repo.test \
        -addext subjectAltName=DNS:tls.repo.test -keyout key.pem -out cert.pem 2> /dev/null; echo over TLS > page",
    );
    let at = outside.world.at_neighbour("busybox").args(&["httpd", "-f", "-p", "203.0.113.30:80", "-h"]);
    let mut http = at.arg(&site).spawn();
    let at = outside.world.at_neighbour("openssl").current_dir(&site);
    let mut tls = at
        .args(&["s_server", "-accept", "203.0.113.30:443", "-cert", "cert.pem", "-key", "key.pem", "-WWW"])
        .spawn();
    sleeper(&dhow, "web", &["--egress", "*.repo.test,repo.test"]);

    let curl = || inside(&dhow, "web", "curl").args(&["--silent", "--fail", "--max-time", "10"]);
    eventually("the server of files", || {
        (!curl().arg("http://repo.test/Packages").output().stdout.is_empty()).then_some(())
    });
    // Kept alive, and large.
    let several =
        curl().args(&["http://repo.test/Packages", "http://repo.test/page", "http://repo.test/page"]).ok();
    assert_eq!(several.matches("over TLS").count(), 2);
    let certificate = site.join("cert.pem");
    let page = eventually("the server over TLS", || {
        let page = curl().arg("--cacert").arg(&certificate).arg("https://tls.repo.test/page").output().stdout;
        (!page.is_empty()).then_some(page)
    });
    assert_eq!(page.trim(), "over TLS");
    let clone = home.join("clone");
    inside(&dhow, "web", "git")
        .env("HOME", &home)
        .args(&["clone", "-q", "http://repo.test/tree.git"])
        .arg(&clone)
        .ok();
    assert_eq!(std::fs::read_to_string(clone.join("file")).unwrap(), "text\n");
    let list = home.join("sources.list");
    std::fs::write(&list, "deb [trusted=yes] http://repo.test/ ./\n").unwrap();
    let apt = |words: &[&str]| {
        let options = [
            format!("Dir::Etc::SourceList={}", list.display()),
            "Dir::Etc::SourceParts=/nonexistent".to_owned(),
            format!("Dir::State::Lists={}", home.join("lists").display()),
            format!("Dir::Cache={}", home.display()),
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ];
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option.as_str()]).collect();
        inside(&dhow, "web", "apt-get").current_dir(&home).args(&options).args(words).ok()
    };
    apt(&["update"]);
    apt(&["download", "thing"]);
    assert!(home.join("thing_1_all.deb").exists());
    // A wheel of pip's, in an index as PyPI's.
    sh("mkdir -p simple/thing && python3 -c '
import zipfile
with zipfile.ZipFile(\"simple/thing/thing-1-py3-none-any.whl\", \"w\") as wheel:
    wheel.writestr(\"thing.py\", \"\")
    wheel.writestr(\"thing-1.dist-info/METADATA\", \"Metadata-Version: 2.1\\nName: thing\\nVersion: 1\\n\")
    wheel.writestr(\"thing-1.dist-info/WHEEL\", \"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n\")
    wheel.writestr(\"thing-1.dist-info/RECORD\", \"\")
' && echo '<a href=thing-1-py3-none-any.whl>thing-1-py3-none-any.whl</a>' > simple/thing/index.html");
    let pip = ["download", "--isolated", "--no-cache-dir", "--disable-pip-version-check", "--no-deps"];
    let from = ["--index-url", "http://repo.test/simple/", "--trusted-host", "repo.test", "thing"];
    inside(&dhow, "web", "/usr/bin/pip3").current_dir(&home).env("HOME", &home).args(&pip).args(&from).ok();
    assert!(home.join("thing-1-py3-none-any.whl").exists());
    let denied = denied(&dhow, "web");
    assert!(denied.is_empty(), "{denied:#?}");
    for process in [&mut http, &mut tls] {
        process.kill();
    }
    http.wait();
    tls.wait();
    dhow.ok(&["rm", "-f", "web"]);
    outside.stop();
}
