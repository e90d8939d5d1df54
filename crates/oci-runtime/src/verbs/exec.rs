//! `exec`: a further command in a container that runs.

use std::path::Path;

use oci::runtime::{Capabilities, Process, Status};
use runtime::cgroup::Group;
use runtime::{JoinOptions, Manner};

use crate::arguments::{Command, Parsed, switch, value};
use crate::begin;
use crate::config::{self, Saved};
use crate::descriptors::{self, Preserved};
use crate::error::Error;
use crate::globals::Globals;
use crate::handover::{self, Sockets};
use crate::input;
use crate::later::Listener;
use crate::relay::{self, Relay, Streams};
use crate::store::{Container, Record, Store};

pub(crate) const COMMAND: Command = Command {
    name: "exec",
    about: "execute a further command in a container",
    usage: "[command options] <container-id> <command> [command options]  || -p process.json <container-id>\n\n   \
            Ends with the command's exit code, or 128 and the signal that ended it; 255 where it did not start.",
    flags: &[
        begin::CONSOLE_SOCKET,
        begin::PIDFD_SOCKET,
        value(&["cwd"], "its working directory in the container"),
        value(&["env", "e"], "set an environment variable, NAME=value"),
        switch(&["tty", "t"], "give it a terminal"),
        value(&["user", "u"], "as whom, uid[:gid]"),
        value(&["additional-gids", "g"], "a further group id"),
        value(&["process", "p"], "a file with all of this, the specification's `process`"),
        begin::DETACH,
        begin::PID_FILE,
        value(&["process-label"], "its SELinux label"),
        value(&["apparmor"], "its AppArmor profile"),
        switch(&["no-new-privs"], "set no_new_privs"),
        value(&["cap", "c"], "a further capability"),
        begin::PRESERVE_FDS,
        value(&["cgroup"], "an existing group below the container's own, [controller:]path"),
        switch(&["ignore-paused"], "also in a container that is paused"),
    ],
    arguments: (1, usize::MAX),
    in_order: true,
    run,
};

/// What callers tell a command's failure to start from its own exit codes by.
const FAILED: u8 = 255;

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    exec(globals, flags).map_err(|error| error.within("exec failed", FAILED))
}

fn exec(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    crate::armour::put_on()?;
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let record = container.record()?;
    if !record.lives() {
        return Err(Error::State("cannot exec in a stopped container".to_owned()));
    }
    if !flags.is_on("ignore-paused") && container.status(&record)? == Status::Paused {
        let why = "cannot exec in a paused container (use --ignore-paused to override)";
        return Err(Error::State(why.to_owned()));
    }
    let preserved = Preserved::new(flags)?;
    let (mut process, Saved { linux, .. }) = process(flags, &container, preserved)?;
    let detach = flags.is_on("detach");
    let sockets = Sockets::new(flags, detach, process.terminal)?;
    if process.terminal && !detach {
        process.console_size = relay::own_size().or(process.console_size);
    }
    let command = process.args.first().cloned().unwrap_or_default();
    let linux = linux.unwrap_or_default();
    let filter = linux.seccomp.as_ref();
    let listener = filter.and_then(Listener::of);
    let compiled = begin::compiled_filter(&globals.root, filter);
    let options = JoinOptions {
        manner: Manner { tied: false, preserved_descriptors: preserved.count(), ..Manner::default() },
        linux: Some(&linux),
        compiled: compiled.as_deref(),
        group: group(flags, &record)?,
    };
    let plan = runtime::plan_join(&process, record.pid, options)?;
    // What is the container's own was said when it was made.
    let asked = flags.has("cap") || flags.has("process");
    for warning in plan.warnings() {
        if asked { globals.report.warning(warning) } else { globals.report.remark(warning) }
    }
    // Its descriptor is held from now on; so whoever lives with that birth is who was meant.
    if !record.lives() {
        return Err(Error::State("cannot exec in a stopped container".to_owned()));
    }
    drop((process, linux));
    let relay = if detach { None } else { Some(Relay::begin()?) };
    let answers = |pid, fd| match &listener {
        Some(listener) => listener.send(record.state(Status::Running), pid, fd),
        None => Ok(()),
    };
    let mut running = runtime::join_with_listener(plan, descriptors::stdio()?, answers)
        .map_err(|source| Error::Launch { command, source })?;
    let handed = sockets.hand_over(&mut running).and_then(|()| {
        flags.path("pid-file").map_or(Ok(()), |path| handover::write_pid_file(path, running.pid))
    });
    if let Err(error) = handed {
        use std::os::fd::AsFd as _;
        // It can only fail where the process is gone already.
        sys::process::send_signal(running.pidfd.as_fd(), crate::signals::KILL).ok();
        return Err(error);
    }
    let Some(relay) = relay else { return Ok(0) };
    let streams = Streams { terminal: running.terminal, notify: None };
    relay.keep(running.pid, &running.pidfd, streams, &globals.report)
}

/// The group that the command joins: the container's, where in it the first process is, or the one that was asked for.
fn group(flags: &Parsed, record: &Record) -> Result<Option<Group>, Error> {
    let names = flags.texts("cgroup")?;
    let Some(mut group) = record.group()? else {
        return match names.first() {
            None => Ok(None),
            Some(_) => Err(Error::State("the container has no cgroup of its own".to_owned())),
        };
    };
    if names.is_empty() {
        return Ok(Some(group.place_of(record.pid).unwrap_or(group)));
    }
    for name in names {
        group = group.subgroup(name)?;
    }
    Ok(Some(group))
}

/// What to run: from a file, or the container's own process with the flags' changes.
fn process(flags: &Parsed, container: &Container, preserved: Preserved) -> Result<(Process, Saved), Error> {
    let kept = container.path(config::NAME);
    let saved: Saved = from_json(&base::fs::read(&kept)?, &kept)?;
    let mut process = match flags.path("process") {
        Some(path) => from_json(&input::named(path)?, path)?,
        None => changed(flags, saved.process.clone())?,
    };
    preserved.environment(&mut process.env);
    config::check_process(&mut process)?;
    Ok((process, saved))
}

fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn changed(flags: &Parsed, mut process: Process) -> Result<Process, Error> {
    if flags.arguments.len() < 2 {
        return Err(Error::Usage("process args cannot be empty".to_owned()));
    }
    process.args =
        (1..flags.arguments.len()).map(|n| flags.argument(n).map(str::to_owned)).collect::<Result<_, _>>()?;
    if let Some(dir) = flags.path("cwd") {
        dir.clone_into(&mut process.cwd);
    }
    if let Some(profile) = flags.text("apparmor")? {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = flags.text("process-label")? {
        process.selinux_label = Some(label.to_owned());
    }
    let added = flags.texts("cap")?;
    if !added.is_empty() {
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        // Not inheritable (CVE-2022-29162), and so not ambient either.
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(added.iter().map(|name| (*name).to_owned()));
        }
    }
    process.env.extend(flags.texts("env")?.into_iter().map(str::to_owned));
    process.terminal = flags.is_on("tty");
    process.console_size = None;
    if flags.has("no-new-privs") {
        process.no_new_privileges = flags.is_on("no-new-privs");
    }
    if let Some(user) = flags.text("user")? {
        let number = |text| id(text).ok_or_else(|| Error::Usage(format!("cannot use {user:?} as uid[:gid]")));
        let (uid, gid) = match user.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (user, None),
        };
        process.user.uid = number(uid)?;
        if let Some(gid) = gid {
            process.user.gid = number(gid)?;
        }
    }
    for text in flags.texts("additional-gids")? {
        let gid = id(text).ok_or_else(|| Error::Usage(format!("cannot use {text:?} as a group id")))?;
        process.user.additional_gids.push(gid);
    }
    Ok(process)
}

/// An id in plain digits, without the sign that Rust's own parser takes (CVE-2026-30892 is what becomes of leniency).
fn id(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::parse;

    fn with(given: &[&str]) -> Result<Process, Error> {
        let process = Process {
            args: vec!["init".to_owned()],
            env: vec!["A=1".to_owned()],
            cwd: "/".into(),
            terminal: true,
            capabilities: Some(Capabilities { bounding: vec!["CAP_KILL".into()], ..Capabilities::default() }),
            ..Process::default()
        };
        let parsed = parse(COMMAND.flags, true, given.iter().map(Into::into)).unwrap();
        changed(&parsed, process)
    }

    #[test]
    fn flags_change_the_containers_own_process() {
        let process = with(&[
            "--cwd",
            "/w",
            "-e",
            "B=2",
            "-u",
            "5:6",
            "-g",
            "7",
            "-g=8",
            "-c",
            "CAP_CHOWN",
            "--no-new-privs",
            "id",
            "ls",
            "-t",
        ])
        .unwrap();
        assert_eq!(process.args, ["ls", "-t"]);
        assert_eq!(
            (process.cwd.to_str(), &process.env[..]),
            (Some("/w"), &["A=1".to_owned(), "B=2".to_owned()][..])
        );
        assert_eq!(
            (process.user.uid, process.user.gid, &process.user.additional_gids[..]),
            (5, 6, &[7, 8][..])
        );
        assert!(!process.terminal, "not unless asked for");
        assert!(process.no_new_privileges);
        let sets = process.capabilities.unwrap();
        assert_eq!(sets.bounding, ["CAP_KILL", "CAP_CHOWN"]);
        assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
    }

    #[test]
    fn numbers_are_numbers() {
        for bad in [
            &["-u", "root", "id", "ls"][..],
            &["-u", "4294967296", "id", "ls"],
            &["-u", "+0", "id", "ls"],
            &["-g", "x", "id", "ls"],
            &["id"],
        ] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
        assert!(with(&["-t", "id", "ls"]).unwrap().terminal);
    }
}
