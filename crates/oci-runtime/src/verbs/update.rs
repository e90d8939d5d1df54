//! `update`: other limits for a container that is there.

use std::path::Path;

use oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources, Status};

use crate::arguments::{Command, Parsed, value};
use crate::error::Error;
use crate::globals::Globals;
use crate::input;
use crate::store::{Record, Store};

pub(crate) const COMMAND: Command = Command {
    name: "update",
    about: "change a container's limits",
    usage: "[command options] <container-id>\n\n   What is not named stays as it is. With --resources the other flags are ignored.",
    flags: &[
        value(&["resources", "r"], "a file with the specification's `resources`, or - for standard input"),
        value(&["blkio-weight"], "weight of its disk accesses, 10 to 1000"),
        value(&["cpu-period"], "CPU period in microseconds"),
        value(&["cpu-quota"], "CPU time per period in microseconds; -1: unlimited"),
        value(&["cpu-burst"], "unused microseconds that may be saved up for a burst"),
        value(&["cpu-share"], "relative weight of its CPU time, 2 to 262144"),
        value(&["cpu-rt-period"], "realtime CPU period in microseconds"),
        value(&["cpu-rt-runtime"], "realtime CPU time per period in microseconds"),
        value(&["cpuset-cpus"], "CPUs that it may use, 0-3,7"),
        value(&["cpuset-mems"], "memory nodes that it may use"),
        value(&["cpu-idle"], "1: it gets CPU time that nobody else wants"),
        value(&["memory"], "memory limit in bytes, or with k, m, g; -1: unlimited"),
        value(&["memory-swap"], "limit of memory and swap together; -1: unlimited"),
        value(&["memory-reservation"], "soft memory limit"),
        value(&["kernel-memory"], "ignored: the kernel has no such limit any more"),
        value(&["kernel-memory-tcp"], "ignored: the kernel has no such limit any more"),
        value(&["pids-limit"], "most processes; -1: unlimited"),
        value(&["l3-cache-schema"], "Intel RDT's L3 cache schema"),
        value(&["mem-bw-schema"], "Intel RDT's memory bandwidth schema"),
    ],
    arguments: (1, 1),
    in_order: false,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let resources = match flags.path("resources") {
        Some(path) => read(path)?,
        None => from_flags(flags)?,
    };
    let schemata: Vec<&str> =
        [flags.text("l3-cache-schema")?, flags.text("mem-bw-schema")?].into_iter().flatten().collect();
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let _lock = container.lock()?;
    let record = container.record()?;
    if container.status(&record)? == Status::Stopped {
        return Err(Error::State("container not running".to_owned()));
    }
    if resources != Resources::default() {
        let none = || Error::State("the container has no cgroup of its own".to_owned());
        record.group()?.ok_or_else(none)?.update(&resources)?;
    }
    if !schemata.is_empty() {
        set_schemata(&record, &schemata)?;
    }
    Ok(0)
}

fn read(path: &Path) -> Result<Resources, Error> {
    let bytes = if path == Path::new("-") { input::standard()? } else { input::named(path)? };
    serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn from_flags(flags: &Parsed) -> Result<Resources, Error> {
    let memory = Memory {
        limit: bytes(flags, "memory")?,
        swap: bytes(flags, "memory-swap")?,
        reservation: bytes(flags, "memory-reservation")?,
        ..Memory::default()
    };
    let text = |name| Ok::<_, Error>(flags.text(name)?.map(str::to_owned));
    let cpu = Cpu {
        shares: flags.number("cpu-share")?.filter(|n| *n != 0),
        quota: flags.number("cpu-quota")?.filter(|n| *n != 0),
        burst: flags.number("cpu-burst")?,
        period: flags.number("cpu-period")?.filter(|n| *n != 0),
        realtime_runtime: flags.number("cpu-rt-runtime")?.filter(|n| *n != 0),
        realtime_period: flags.number("cpu-rt-period")?.filter(|n| *n != 0),
        cpus: text("cpuset-cpus")?,
        mems: text("cpuset-mems")?,
        idle: flags.number("cpu-idle")?,
    };
    let pids = flags.number::<i64>("pids-limit")?.filter(|n| *n != 0);
    let weight = flags.number::<u16>("blkio-weight")?.filter(|n| *n != 0);
    Ok(Resources {
        memory: Some(memory).filter(|memory| *memory != Memory::default()),
        cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
        pids: pids.map(|limit| Pids { limit }),
        block_io: weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    })
}

/// `1048576`, `512k`, `1.5GiB`, `-1`.
fn bytes(flags: &Parsed, name: &'static str) -> Result<Option<i64>, Error> {
    let Some(text) = flags.text(name)? else { return Ok(None) };
    let wrong = || Error::Usage(format!("invalid value for {name}: {text:?}"));
    if let Ok(number) = text.parse::<i64>() {
        return if number >= -1 { Ok(Some(number).filter(|n| *n != 0)) } else { Err(wrong()) };
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, shift) = match lower.char_indices().next_back() {
        Some((at, 'k')) => (&lower[..at], 10),
        Some((at, 'm')) => (&lower[..at], 20),
        Some((at, 'g')) => (&lower[..at], 30),
        Some((at, 't')) => (&lower[..at], 40),
        Some((at, 'p')) => (&lower[..at], 50),
        _ => (lower, 0),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * (1_u64 << shift) as f64;
    if !(0.0..9.0e18).contains(&bytes) {
        return Err(wrong());
    }
    Ok(Some(bytes as i64).filter(|n| *n != 0))
}

fn set_schemata(record: &Record, schemata: &[&str]) -> Result<(), Error> {
    let Some(class) = &record.resctrl else {
        return Err(Error::State("Intel RDT: the container has no class of service".to_owned()));
    };
    Ok(class.change(schemata)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::parse;

    fn with(given: &[&str]) -> Result<Resources, Error> {
        from_flags(&parse(COMMAND.flags, false, given.iter().map(Into::into)).unwrap())
    }

    #[test]
    fn flags_become_resources() {
        let resources = with(&[
            "--memory",
            "512m",
            "--memory-swap=-1",
            "--cpu-quota",
            "-1",
            "--pids-limit=-1",
            "--blkio-weight",
            "20",
            "--cpuset-cpus",
            "0-1",
            "x",
        ])
        .unwrap();
        let memory = resources.memory.unwrap();
        assert_eq!((memory.limit, memory.swap, memory.reservation), (Some(512 << 20), Some(-1), None));
        let cpu = resources.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.cpus.as_deref(), cpu.shares), (Some(-1), Some("0-1"), None));
        assert_eq!(resources.pids, Some(Pids { limit: -1 }));
        assert_eq!(resources.block_io.unwrap().weight, Some(20));
        assert_eq!(with(&["x"]).unwrap(), Resources::default());
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in
            [("1048576", 1 << 20), ("1k", 1024), ("1.5KiB", 1536), ("2GB", 2 << 30), ("-1", -1)]
        {
            assert_eq!(with(&["--memory", text]).unwrap().memory.unwrap().limit, Some(size), "{text}");
        }
        for bad in ["-2", "much", "1x", "k", "99999999999g", "nan", "inf"] {
            assert!(with(&["--memory", bad]).is_err(), "{bad}");
        }
        assert!(with(&["--pids-limit", "many"]).is_err());
    }
}
