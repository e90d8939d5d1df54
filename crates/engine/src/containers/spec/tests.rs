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
    let machine = Machine { cpus: 2, hostname: "host".to_owned() };
    resolve(options, &image(), &Config::default(), &machine, &id())
}

fn spec(options: ContainerOptions) -> Spec {
    let Resolution { args, resolved } = resolution(&options).unwrap();
    let network_namespace = options.network != NetworkMode::Host;
    let record = Record {
        format: FORMAT,
        id: id(),
        name: "test".to_owned(),
        created: Timestamp(0),
        image: ImageUsed { reference: "x".to_owned(), id: Digest::of(b"x"), layers: vec![] },
        args,
        options,
        resolved,
    };
    let live = Path::new("/run/dhow/containers/5e");
    let context = Context {
        live,
        network_namespace,
        pids_limit: 4096,
        apparmor: None,
        swap: true,
        sysctls: &[],
        storage: &Storage::default(),
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
    let bad = [
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
        let machine = Machine { cpus: 2, hostname: "host".to_owned() };
        resolve(&options, &image, &Config::default(), &machine, &id()).map(|r| r.resolved.stop_signal)
    };
    assert_eq!(stop_signal("SIGRTMIN+3", None).unwrap(), 37);
    assert_eq!(stop_signal("SIGRTMIN+3", Some("INT")).unwrap(), 2);
    for nonsense in ["", "SIGNOPE", "-1"] {
        assert_eq!(stop_signal(nonsense, None).unwrap(), crate::containers::signal::TERM, "{nonsense}");
    }
}
