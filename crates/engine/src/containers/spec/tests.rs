use std::path::{Path, PathBuf};

use base::{Digest, Id, Timestamp};
use oci::image::Execution;
use state::container::{FORMAT, ImageUsed, Record};
use state::options::{BindMount, ContainerOptions, NetworkMode, PortMapping, Protocol, TmpfsMount};

use super::*;
use crate::config::Config;

fn image() -> Execution {
    Execution {
        env: vec!["PATH=/bin".to_owned(), "A=image".to_owned()],
        entrypoint: Some(vec!["/entry".to_owned()]),
        cmd: Some(vec!["serve".to_owned()]),
        working_dir: "srv/".to_owned(),
        ..Execution::default()
    }
}

fn id() -> Id {
    "5e".repeat(32).parse().unwrap()
}

fn resolution(options: &ContainerOptions) -> crate::Result<Resolution> {
    let machine = Machine { cpus: 2, hostname: "host".to_owned(), processors: None, nodes: None };
    resolve(options, &image(), &Config::default(), &machine, &id())
}

fn spec(options: ContainerOptions) -> Spec {
    let Resolution { args, resolved, .. } = resolution(&options).unwrap();
    let network_namespace = options.network != NetworkMode::Host;
    let record = Record {
        format: FORMAT,
        id: id(),
        name: "test".to_owned(),
        created: Timestamp(0),
        image: ImageUsed { reference: "x".to_owned(), id: Digest::of(b"x"), layers: vec![] },
        waits: false,
        args,
        options,
        resolved,
    };
    let live = Path::new("/run/dhow/containers/5e");
    let context = Context {
        live,
        network_files: live,
        network_namespace,
        pids_limit: 4096,
        apparmor: None,
        swap: true,
        sysctls: &[("net.ipv4.ping_group_range", "0 1")],
        storage: &Storage::default(),
        host: OnHost::find(&record.options).unwrap(),
    };
    build(&record, &context)
}

#[test]
fn the_defaults_are_dockers() {
    insta::assert_json_snapshot!(spec(ContainerOptions { image: "x".to_owned(), ..Default::default() }));
}

#[test]
fn everything_that_can_be_asked_for_is_in_the_specification() {
    insta::assert_json_snapshot!(spec(ContainerOptions {
        image: "x".to_owned(),
        command: vec!["one".to_owned(), "two".to_owned()],
        entrypoint: Some(vec!["/other".to_owned()]),
        hostname: Some("box".to_owned()),
        user: Some("nobody:daemon".to_owned()),
        working_dir: Some(PathBuf::from("/tmp//x/.")),
        env: vec!["A=user".to_owned(), "B=".to_owned(), "PATH".to_owned()],
        tty: true,
        read_only: true,
        binds: vec![
            BindMount {
                source: PathBuf::from("/srv/deep"),
                destination: PathBuf::from("/data/deep"),
                read_only: true,
                propagation: Some("rslave".to_owned()),
                ..BindMount::default()
            },
            BindMount {
                source: PathBuf::from("/srv/data"),
                destination: PathBuf::from("/data"),
                ..BindMount::default()
            },
        ],
        tmpfs: vec![
            TmpfsMount {
                destination: PathBuf::from("/run"),
                options: vec!["size=64m".to_owned(), "exec".to_owned()],
                ..TmpfsMount::default()
            },
            TmpfsMount { destination: PathBuf::from("/dev/shm"), ..TmpfsMount::default() },
        ],
        network: NetworkMode::Host,
        memory: Some(64 << 20),
        nano_cpus: Some(1_500_000_000),
        pids_limit: Some(-1),
        cap_add: vec!["net_admin".to_owned()],
        cap_drop: vec!["ALL".to_owned()],
        ..Default::default()
    }));
}

#[test]
fn command_lines_are_put_together_as_docker_does() {
    let args = |entrypoint: Option<&[&str]>, command: &[&str]| {
        let words = |w: &[&str]| w.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let options = ContainerOptions {
            entrypoint: entrypoint.map(words),
            command: words(command),
            ..Default::default()
        };
        resolution(&options).map(|r| r.args.join(" ")).ok()
    };
    assert_eq!(args(None, &[]).unwrap(), "/entry serve");
    assert_eq!(args(None, &["x"]).unwrap(), "/entry x");
    assert_eq!(args(Some(&["/e"]), &[]).unwrap(), "/e");
    assert_eq!(args(Some(&["/e"]), &["x"]).unwrap(), "/e x");
    assert_eq!(args(Some(&[""]), &["x"]).unwrap(), "x");
    assert_eq!(args(Some(&[""]), &[]), None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let bind = |source: &str, destination: &str| BindMount {
        source: PathBuf::from(source),
        destination: PathBuf::from(destination),
        ..BindMount::default()
    };
    let tmpfs = |destination: &str, option: &str| TmpfsMount {
        destination: PathBuf::from(destination),
        options: vec![option.to_owned()],
        ..TmpfsMount::default()
    };
    let port = |host_port, container_port| PortMapping {
        host_ip: None,
        host_port,
        container_port,
        protocol: Protocol::Tcp,
    };
    let base = ContainerOptions::default;
    let bad = vec![
        ContainerOptions { working_dir: Some(PathBuf::from("x")), ..base() },
        ContainerOptions { hostname: Some("-x".to_owned()), ..base() },
        ContainerOptions { hostname: Some("x".repeat(65)), ..base() },
        ContainerOptions { env: vec!["=x".to_owned()], ..base() },
        ContainerOptions { env: vec!["A=\0".to_owned()], ..base() },
        ContainerOptions { command: vec!["a\0b".to_owned()], ..base() },
        ContainerOptions { binds: vec![bind("relative", "/x")], ..base() },
        ContainerOptions { binds: vec![bind("/a/../b", "/x")], ..base() },
        ContainerOptions { binds: vec![bind("/a", "/")], ..base() },
        ContainerOptions { binds: vec![bind("/a", "x")], ..base() },
        ContainerOptions { binds: vec![bind("/a", "/x"), bind("/b", "/x/")], ..base() },
        ContainerOptions { tmpfs: vec![tmpfs("/x", "nope")], ..base() },
        ContainerOptions { tmpfs: vec![tmpfs("/x", "size=1x")], ..base() },
        ContainerOptions { tmpfs: vec![tmpfs("/x", "mode=99999")], ..base() },
        ContainerOptions { memory: Some(1024), ..base() },
        ContainerOptions { nano_cpus: Some(0), ..base() },
        ContainerOptions { nano_cpus: Some(3_000_000_000), ..base() },
        ContainerOptions { pids_limit: Some(-2), ..base() },
        ContainerOptions { ports: vec![port(80, 0)], ..base() },
        ContainerOptions { ports: vec![port(80, 80), port(80, 81)], ..base() },
        ContainerOptions { user: Some("4294967296".to_owned()), ..base() },
        ContainerOptions { user: Some("a:b:c".to_owned()), ..base() },
        ContainerOptions { cap_add: vec!["CAP_NOPE".to_owned()], ..base() },
        ContainerOptions { stop_signal: Some("NOPE".to_owned()), ..base() },
    ];
    for options in bad {
        let error = resolution(&options).map(|_| ()).expect_err(&format!("{options:?}"));
        assert!(matches!(error.kind(), base::Kind::Invalid | base::Kind::Conflict), "{error}");
    }
    let fine = ContainerOptions { ports: vec![port(0, 80), port(0, 80)], ..base() };
    assert!(resolution(&fine).is_ok());
}

#[test]
fn an_images_stop_signal_counts_unless_it_is_none() {
    let stop_signal = |image: &str, asked: Option<&str>| {
        let image = Execution { stop_signal: Some(image.to_owned()), ..self::image() };
        let options =
            ContainerOptions { stop_signal: asked.map(str::to_owned), ..ContainerOptions::default() };
        let machine = Machine { cpus: 2, hostname: "host".to_owned(), processors: None, nodes: None };
        resolve(&options, &image, &Config::default(), &machine, &id()).map(|r| r.resolved.stop_signal)
    };
    assert_eq!(stop_signal("SIGRTMIN+3", None).unwrap(), 37);
    assert_eq!(stop_signal("SIGRTMIN+3", Some("INT")).unwrap(), 2);
    for nonsense in ["", "SIGNOPE", "-1"] {
        assert_eq!(stop_signal(nonsense, None).unwrap(), crate::containers::signal::TERM, "{nonsense}");
    }
}

#[test]
fn a_privileged_container_has_all_rights_and_devices() {
    let spec = spec(ContainerOptions { image: "x".to_owned(), privileged: true, ..Default::default() });
    let linux = spec.linux.unwrap();
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert!(linux.devices.iter().any(|d| d.path == Path::new("/dev/null")));
    let rules = linux.resources.unwrap().devices;
    assert!(rules.len() == 1 && rules[0].allow && rules[0].kind.is_none());
    for path in ["/sys", "/sys/fs/cgroup"] {
        let mount = spec.mounts.iter().find(|m| m.destination == Path::new(path)).unwrap();
        assert!(!mount.options.iter().any(|o| o == "ro"), "{path}");
    }
    let all = runtime::capability::Set::all().names();
    assert_eq!(spec.process.unwrap().capabilities.unwrap().bounding, all);
}

#[test]
fn limits_devices_and_surroundings_are_in_the_specification() {
    use state::options::{DeviceMapping, IpcMode, Limits, Namespaces, Ulimit};
    let spec = spec(ContainerOptions {
        image: "x".to_owned(),
        limits: Limits {
            memory_reservation: Some(32 << 20),
            cpu_shares: Some(512),
            cpu_period: Some(50_000),
            cpu_quota: Some(25_000),
            blkio_weight: Some(300),
            oom_score_adj: Some(500),
            ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 100, hard: -1 }],
            shm_size: Some(1 << 20),
            ..Limits::default()
        },
        namespaces: Namespaces { host_uts: true, ..Namespaces::default() },
        devices: vec![DeviceMapping {
            source: "/dev/null".into(),
            destination: "/dev/void".into(),
            access: "r".to_owned(),
        }],
        device_rules: vec!["c 10:200 rw".to_owned()],
        groups: vec!["audio".to_owned()],
        sysctls: [("net.ipv4.ping_group_range", "5 6")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Default::default()
    });
    let process = spec.process.unwrap();
    assert_eq!((process.rlimits[0].kind.as_str(), process.rlimits[0].hard), ("RLIMIT_NOFILE", u64::MAX));
    assert_eq!(process.oom_score_adj, Some(500));
    assert_eq!(process.user.username.as_deref(), Some("0"), "groups are looked up beside a user");
    assert_eq!(process.user.additional_groups, ["audio"]);
    assert_eq!(spec.hostname, None);
    let linux = spec.linux.unwrap();
    assert_eq!(linux.sysctl["net.ipv4.ping_group_range"], "5 6", "the user has the last word");
    let resources = linux.resources.unwrap();
    let cpu = resources.cpu.unwrap();
    assert_eq!((cpu.shares, cpu.quota, cpu.period), (Some(512), Some(25_000), Some(50_000)));
    assert_eq!(resources.memory.unwrap().reservation, Some(32 << 20));
    assert_eq!(resources.block_io.unwrap().weight, Some(300));
    assert_eq!(linux.devices[0].path, Path::new("/dev/void"));
    let [.., null, tun] = &resources.devices[..] else { panic!() };
    assert_eq!((null.major, null.minor, null.access.as_deref()), (Some(1), Some(3), Some("r")));
    assert_eq!((tun.major, tun.minor), (Some(10), Some(200)));
    let shm = spec.mounts.iter().find(|m| m.destination == Path::new("/dev/shm")).unwrap();
    assert!(shm.options.contains(&"size=1048576".to_owned()));
    let none = Namespaces { ipc: IpcMode::None, ..Namespaces::default() };
    let spec = self::spec(ContainerOptions { image: "x".to_owned(), namespaces: none, ..Default::default() });
    assert!(!spec.mounts.iter().any(|m| m.destination == Path::new("/dev/shm")));
}

#[test]
fn a_container_exposes_what_its_image_does_and_what_it_publishes() {
    let image = Execution {
        exposed_ports: ["80/tcp", "53/udp", "8000-8001", "x", "1/icmp", "0/tcp"].map(str::to_owned).into(),
        ..image()
    };
    let options = ContainerOptions {
        ports: vec![PortMapping {
            host_ip: None,
            host_port: 0,
            container_port: 443,
            protocol: Protocol::Tcp,
        }],
        ..Default::default()
    };
    let machine = Machine { cpus: 2, hostname: "host".to_owned(), processors: None, nodes: None };
    let resolved = resolve(&options, &image, &Config::default(), &machine, &id()).unwrap().resolved;
    let ports: Vec<_> = resolved.exposed.iter().map(|e| (e.port, e.protocol)).collect();
    use Protocol::{Tcp, Udp};
    assert_eq!(ports, [(53, Udp), (80, Tcp), (443, Tcp), (8000, Tcp), (8001, Tcp)]);
}

#[test]
fn system_paths_are_hidden_unless_they_are_unconfined() {
    let paths = |unconfined| {
        let mut options = ContainerOptions { image: "x".to_owned(), ..Default::default() };
        options.security.system_paths_unconfined = unconfined;
        let linux = spec(options).linux.unwrap();
        (linux.masked_paths.len(), linux.readonly_paths.len())
    };
    assert_eq!((paths(false), paths(true)), ((12, 5), (0, 0)));
}
