use clap::Parser;

use super::*;
use crate::commands::arguments::parse;

/// The flags alone.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: ContainerFlags,
}

fn options(line: &str) -> Result<ContainerOptions> {
    let words = line.split_whitespace().map(Into::into).collect();
    parse::<Arguments>("run", words)?.unwrap().flags.options()
}

#[test]
fn what_follows_the_image_is_the_commands() {
    let options = options("-it --rm --name=web debian ls --rm -e --help -- x").unwrap();
    assert!(options.tty && options.interactive && options.auto_remove);
    assert_eq!(options.image, "debian");
    assert_eq!(options.command, ["ls", "--rm", "-e", "--help", "--", "x"]);
    assert_eq!(self::options("-- debian -x").unwrap().command, ["-x"]);
    assert_eq!(self::options("debian --help").unwrap().command, ["--help"]);
}

#[test]
fn flags_in_dockers_forms() {
    let options = options(
        "-e A=1 -eB=2 --env C= --label x --label y=1 -p 80 -p8080:80/udp -m64m --memory=128m --cpus 1.5 \
         --pids-limit -1 --rm=false --init=true --cap-add NET_ADMIN --cap-drop ALL -v /a:/b:ro --tmpfs /t \
         --mount type=bind,src=/c,dst=/d --net host -u 0:0 -w /x -h host --entrypoint sh --read-only \
         --security-opt no-new-privileges --stop-signal INT --stop-timeout 3 image",
    )
    .unwrap();
    assert_eq!(options.env, ["A=1", "B=2", "C="]);
    assert_eq!(options.labels.len(), 2);
    assert_eq!(options.ports.len(), 2);
    assert_eq!(
        (options.memory, options.nano_cpus, options.pids_limit),
        (Some(128 << 20), Some(1_500_000_000), Some(-1))
    );
    assert!(!options.auto_remove && options.init && options.read_only);
    assert_eq!((options.binds.len(), options.tmpfs.len()), (2, 1));
    let volumes = self::options(
        "-v /a -v b1:/b --mount dst=/c --volumes-from d:ro --mount type=image,src=i,dst=/e image",
    );
    let volumes = volumes.unwrap();
    assert_eq!((volumes.volumes.len(), volumes.image_mounts.len(), volumes.volumes_from.len()), (3, 1, 1));
    assert_eq!(options.network, state::options::NetworkMode::Host);
    assert_eq!(options.entrypoint, Some(vec!["sh".to_owned()]));
    assert_eq!(options.security.no_new_privileges, Some(true));
    assert_eq!(self::options("--entrypoint= image").unwrap().entrypoint, Some(vec![String::new()]));
}

#[test]
fn bad_values_name_flag_value_and_what_is_expected() {
    let error = options("-m lots image").unwrap_err();
    assert_eq!(error.exit_code(), 125);
    assert_eq!(
        error.to_string(),
        "run: invalid value 'lots' for '--memory <BYTES>': want a size: a number and b, k, m, g or t, such as 64m or 1.5g"
    );
    for bad in [
        "--bad image",
        "-p x image",
        "--cpus x image",
        "-v a/b:/x image",
        "-v x:relative image",
        "--volumes-from a:x image",
        "--pull maybe image",
        "--network container: image",
        "-e =1 image",
        "--rm=maybe image",
        "--memory",
    ] {
        let error = options(bad).unwrap_err();
        assert_eq!(error.exit_code(), 125, "{bad}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert_eq!(options("--rm").unwrap_err().exit_code(), 1);
}

#[test]
fn limits_and_surroundings_in_dockers_forms() {
    let options = options(
        "--memory-swap -1 --memory-reservation 32m --memory-swappiness -1 --kernel-memory 1g -c 512 --cpu-period 50000 \
         --cpu-quota -1 --cpuset-cpus 0-1 --cpuset-mems 0 --blkio-weight 300 --blkio-weight-device /dev/sda:200 \
         --device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:10 --ulimit nofile=1:2 --ulimit nofile=3 \
         --shm-size 1m --oom-kill-disable --oom-score-adj -500 --sysctl net.ipv4.ip_forward=1 --device /dev/fuse:r \
         --privileged --group-add audio --ipc host --pid container:x --uts host --cgroupns host --cgroup-parent /p \
         --domainname d --add-host a:1.2.3.4 --dns 1.1.1.1 --dns-search b --dns-opt ndots:1 --expose 80-81 -P \
         --annotation a=b --platform linux/arm64 --isolation default --userns=host --disable-content-trust image",
    )
    .unwrap();
    let limits = &options.limits;
    assert_eq!((limits.memory_swap, limits.memory_reservation), (Some(-1), Some(32 << 20)));
    assert_eq!((limits.memory_swappiness, limits.cpu_shares), (None, Some(512)));
    assert_eq!((limits.cpu_period, limits.cpu_quota), (Some(50_000), Some(-1)));
    assert_eq!((limits.ulimits.len(), limits.ulimits[0].soft), (1, 3));
    assert_eq!((limits.oom_score_adj, limits.shm_size), (Some(-500), Some(1 << 20)));
    assert_eq!((options.expose.len(), options.publish_all, options.privileged), (2, true, true));
    assert_eq!(options.sysctls["net.ipv4.ip_forward"], "1");
    assert_eq!(options.platform.as_deref(), Some("linux/arm64"));
    assert!(options.namespaces.host_uts && options.namespaces.host_cgroup);
}

#[test]
fn what_has_no_meaning_is_said() {
    for (flags, part) in [
        ("--runtime runc", "one runtime"),
        ("--gpus all", "GPUs"),
        ("--isolation hyperv", "Windows"),
        ("--cpu-count 2", "Windows"),
        ("--userns private", "host"),
        ("--storage-opt size=1g", "writable layer"),
        ("--disable-content-trust=false", "digest"),
        ("--use-api-socket", "no daemon"),
    ] {
        let error = options(&format!("{flags} image")).unwrap_err();
        assert_eq!(error.exit_code(), 125, "{flags}");
        assert!(error.to_string().contains(part), "{error}");
    }
    for bad in [
        "--ulimit x=1",
        "--device fuse",
        "--sysctl net",
        "--sysctl =1",
        "--annotation a",
        "--ipc nobody",
        "--pid none",
        "--uts container:x",
        "--add-host x",
        "--dns x",
        "--expose 80:80",
        "--memory-swappiness 101",
        "--cpu-shares -1",
        "--oom-score-adj x",
        "--label-file /nope",
    ] {
        assert_eq!(options(&format!("{bad} image")).unwrap_err().exit_code(), 125, "{bad}");
    }
}

#[test]
fn who_runs_it_is_attached_to_what_is_asked() {
    let streams = |line: &str| {
        let Attach { stdin, stdout, stderr } = options(line).unwrap().attach;
        [stdin, stdout, stderr].map(u8::from)
    };
    assert_eq!(streams("image"), [0, 1, 1]);
    assert_eq!(streams("-i image"), [1, 1, 1]);
    assert_eq!(streams("-a stdout image"), [0, 1, 0]);
    assert_eq!(streams("-i -a STDIN --attach=stderr image"), [1, 0, 1]);
    assert_eq!(options("-a stdlog image").unwrap_err().exit_code(), 125);
}
