//! What systemd is told of a container: properties of a transient scope (systemd.resource-control(5), the names as
//! `org.freedesktop.systemd1(5)` has them).

use std::path::Path;

use super::wire::{Value, Writer};
use crate::cgroup::Error;
use crate::cgroup::devices::Rules;
use crate::cgroup::files::read_text;
use crate::cgroup::limits::{DEFAULT_PERIOD, Write};

/// Name and value.
pub(super) type Property = (&'static str, Value);

/// systemd's "unlimited".
const INFINITY: u64 = u64::MAX;

/// What every container's scope has.
pub(super) fn base(name: &str, slice: &str) -> Vec<Property> {
    vec![
        ("Description", Value::Text(format!("container {name}"))),
        ("Slice", Value::Text(slice.to_owned())),
        // What is below belongs to the container, and systemd keeps its hands off.
        ("Delegate", Value::Bool(true)),
        // Otherwise a container would wait for the machine to be up, and be among the first to go at its end.
        ("DefaultDependencies", Value::Bool(false)),
        ("CPUAccounting", Value::Bool(true)),
        ("IOAccounting", Value::Bool(true)),
        ("MemoryAccounting", Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
    ]
}

/// The limits that systemd knows, from what is to be written to the group's files: of either version, since v1's have
/// other names.
pub(super) fn limits(writes: &[Write]) -> Result<Vec<Property>, Error> {
    let mut list: Vec<Property> = Vec::new();
    let mut idle = false;
    let (mut quota, mut period) = (None, None);
    for write in writes {
        let value = write.value.trim();
        let property = match &*write.file {
            "memory.max" => ("MemoryMax", amount(value)?),
            "memory.high" => ("MemoryHigh", amount(value)?),
            "memory.low" => ("MemoryLow", amount(value)?),
            "memory.min" => ("MemoryMin", amount(value)?),
            "memory.swap.max" => ("MemorySwapMax", amount(value)?),
            "memory.limit_in_bytes" => ("MemoryLimit", amount(value)?),
            "memory.oom.group" => {
                let policy = if value == "1" { "kill" } else { "continue" };
                ("OOMPolicy", Value::Text(policy.to_owned()))
            }
            "pids.max" => ("TasksMax", amount(value)?),
            "cpu.weight" => ("CPUWeight", amount(value)?),
            "cpu.shares" => ("CPUShares", amount(value)?),
            // A weight of 0 is systemd's word for it (252).
            "cpu.idle" if value == "1" => {
                idle = true;
                continue;
            }
            "cpu.max" => {
                let mut words = value.split_ascii_whitespace();
                quota = Some(number(words.next().unwrap_or("max"))?);
                period = words.next().map(number).transpose()?;
                continue;
            }
            "cpu.cfs_quota_us" => {
                quota = Some(number(value)?);
                continue;
            }
            "cpu.cfs_period_us" => {
                period = Some(number(value)?);
                continue;
            }
            "cpuset.cpus" if !value.is_empty() => ("AllowedCPUs", Value::Bytes(bits(value)?)),
            "cpuset.mems" if !value.is_empty() => ("AllowedMemoryNodes", Value::Bytes(bits(value)?)),
            _ => continue,
        };
        // A file that is named comes later than the limit that it stands for, and counts.
        list.retain(|(name, _)| *name != property.0);
        list.push(property);
    }
    if idle {
        list.retain(|(name, _)| *name != "CPUWeight");
        list.push(("CPUWeight", Value::U64(0)));
    }
    if let Some(period) = period {
        list.push(("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    if let Some(quota) = quota {
        list.push(("CPUQuotaPerSecUSec", Value::U64(per_second(quota, period.unwrap_or(DEFAULT_PERIOD)))));
    }
    Ok(list)
}

fn amount(text: &str) -> Result<Value, Error> {
    number(text).map(Value::U64)
}

fn number(text: &str) -> Result<u64, Error> {
    match text {
        "max" | "-1" => Ok(INFINITY),
        _ => text.parse().map_err(|_| Error::Invalid { reason: "a limit is no number" }),
    }
}

/// Microseconds per second, rounded up to a percent, which is how exactly systemd takes it: our own value, written to
/// the file, must not be above that of the scope.
fn per_second(quota: u64, period: u64) -> u64 {
    const PERCENT: u128 = 10_000;
    if quota == INFINITY || period == 0 {
        return INFINITY;
    }
    let exact = u128::from(quota) * 1_000_000 / u128::from(period);
    u64::try_from(exact.next_multiple_of(PERCENT)).unwrap_or(INFINITY)
}

/// `0-3,7` as a bit each, from the lowest of the first byte.
fn bits(list: &str) -> Result<Vec<u8>, Error> {
    const MOST: usize = 1 << 13;
    let wrong = || Error::Invalid { reason: "a set of CPUs or memory nodes is no list of numbers" };
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < MOST).ok_or_else(wrong);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|n| bits[n / 8] |= 1 << (n % 8));
    }
    Ok(bits)
}

/// v1: the same rules as ours, in systemd's words.
pub(super) fn devices(rules: &Rules) -> Vec<Property> {
    let table = read_text(Path::new("/proc/devices")).unwrap_or_default();
    match rules.systemd(|block, major| driver(&table, block, major)) {
        Some(list) => {
            vec![("DevicePolicy", Value::Text("strict".to_owned())), ("DeviceAllow", Value::Pairs(list))]
        }
        None => vec![("DevicePolicy", Value::Text("auto".to_owned()))],
    }
}

/// The name behind a major number in `/proc/devices`.
fn driver(table: &str, block: bool, major: u32) -> Option<String> {
    let heading = if block { "Block devices:" } else { "Character devices:" };
    let lines = table.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    let mut entries = lines.filter_map(|line| line.trim().split_once(' '));
    let (_, name) = entries.find(|(number, _)| number.parse() == Ok(major))?;
    Some(name.trim().to_owned())
}

/// An annotation's property; `None` for those that nobody may set that way. Values are as in GVariant's text format.
pub(super) fn annotation(name: &str, value: &str) -> Result<Option<Property>, Error> {
    let wrong = || Error::Invalid { reason: "an annotation of systemd has a value of another type" };
    let value = value.trim();
    let digits = value.strip_prefix("uint64 ").or(value.strip_prefix("int32 ")).unwrap_or(value).trim();
    match name {
        "TimeoutStopUSec" => {
            let microseconds = digits.parse().map_err(|_| wrong())?;
            Ok(Some(("TimeoutStopUSec", Value::U64(microseconds))))
        }
        "TimeoutStopSec" => {
            let seconds =
                digits.parse::<u64>().ok().and_then(|s| s.checked_mul(1_000_000)).ok_or_else(wrong)?;
            Ok(Some(("TimeoutStopUSec", Value::U64(seconds))))
        }
        "CollectMode" => match value.trim_matches(['\'', '"']) {
            mode @ ("inactive" | "inactive-or-failed") => {
                Ok(Some(("CollectMode", Value::Text(mode.to_owned()))))
            }
            _ => Err(wrong()),
        },
        _ => Ok(None),
    }
}

fn write_all(w: &mut Writer, properties: &[Property]) {
    for (name, value) in properties {
        w.align(8);
        w.string(name);
        w.variant(value);
    }
}

/// `ssa(sv)a(sa(sv))`: the unit, the mode, its properties, and no further units.
pub(super) fn start_transient_unit(scope: &str, pid: u32, properties: &[Property]) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(scope);
    body.string("replace");
    body.array(8, |w| {
        write_all(w, properties);
        write_all(w, &[("PIDs", Value::U32s(vec![pid]))]);
    });
    body.array(8, |_| {});
    body.bytes
}

/// `ssau`: the unit, the group below it, the processes.
pub(super) fn attach(scope: &str, below: &str, pid: u32) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(scope);
    body.string(below);
    body.array(4, |w| w.u32(pid));
    body.bytes
}

/// `sba(sv)`: the unit, until it ends, its properties.
pub(super) fn set_unit_properties(scope: &str, properties: &[Property]) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(scope);
    body.bool(true);
    body.array(8, |w| write_all(w, properties));
    body.bytes
}

#[cfg(test)]
mod tests {
    use oci::runtime::{Cpu, Memory, Pids, Resources};
    use proptest::prelude::*;

    use super::*;
    use crate::cgroup::limits as request;

    fn resources() -> Resources {
        Resources {
            memory: Some(Memory { limit: Some(1 << 20), swap: Some(3 << 20), ..Memory::default() }),
            cpu: Some(Cpu {
                shares: Some(1024),
                quota: Some(12_345),
                period: Some(50_000),
                cpus: Some("0-2,9".to_owned()),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: -1 }),
            ..Resources::default()
        }
    }

    #[test]
    fn limits_become_properties() {
        let settings = request::settings(&resources()).unwrap().settings;
        assert_eq!(
            limits(&request::v2(&settings).unwrap()).unwrap(),
            [
                ("MemoryMax", Value::U64(1 << 20)),
                ("MemorySwapMax", Value::U64(2 << 20)),
                ("CPUWeight", Value::U64(100)),
                ("AllowedCPUs", Value::Bytes(vec![0b111, 0b10])),
                ("TasksMax", Value::U64(u64::MAX)),
                ("CPUQuotaPeriodUSec", Value::U64(50_000)),
                ("CPUQuotaPerSecUSec", Value::U64(250_000)),
            ]
        );
        let v1 = limits(&request::v1(&settings).unwrap()).unwrap();
        assert!(
            v1.contains(&("MemoryLimit", Value::U64(1 << 20)))
                && v1.contains(&("CPUShares", Value::U64(1024)))
        );
        assert!(v1.contains(&("CPUQuotaPerSecUSec", Value::U64(250_000))));
    }

    #[test]
    fn what_is_named_by_its_file_counts() {
        let mut resources = resources();
        resources.unified =
            [("memory.max", "max"), ("memory.high", "5"), ("cpu.idle", "1"), ("misc.max", "x 1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        let settings = request::settings(&resources).unwrap().settings;
        let list = limits(&request::v2(&settings).unwrap()).unwrap();
        assert!(
            list.contains(&("MemoryMax", Value::U64(u64::MAX)))
                && list.contains(&("MemoryHigh", Value::U64(5)))
        );
        assert!(list.contains(&("CPUWeight", Value::U64(0))));
        let mut names: Vec<_> = list.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), list.len(), "{list:?}");
    }

    #[test]
    fn only_harmless_annotations_are_taken() {
        let of = |name, value| annotation(name, value);
        let stop = Some(("TimeoutStopUSec", Value::U64(5_000_000)));
        assert_eq!(of("TimeoutStopUSec", "uint64 5000000").unwrap(), stop);
        assert_eq!(of("TimeoutStopSec", "5").unwrap(), stop);
        let mode = Some(("CollectMode", Value::Text("inactive-or-failed".to_owned())));
        assert_eq!(of("CollectMode", "'inactive-or-failed'").unwrap(), mode);
        assert!(of("TimeoutStopUSec", "'x'").is_err() && of("CollectMode", "[('/bin/sh')]").is_err());
        for name in ["ExecStopPost", "DeviceAllow", "MemoryMax", "Slice", "", "PIDs"] {
            assert_eq!(of(name, "1").unwrap(), None, "{name}");
        }
    }

    #[test]
    fn drivers_are_found_by_their_numbers() {
        let table = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        assert_eq!(driver(table, false, 136).as_deref(), Some("pts"));
        assert_eq!(driver(table, true, 8).as_deref(), Some("sd"));
        assert_eq!((driver(table, false, 8), driver(table, true, 1)), (None, None));
    }

    proptest! {
        #[test]
        fn the_scope_never_gets_less_than_the_file(quota in 1_000..u64::MAX / 2, period in 1_000..1_000_000_u64) {
            let given = per_second(quota, period);
            prop_assert!(u128::from(given) * u128::from(period) >= u128::from(quota) * 1_000_000 || given == u64::MAX);
            prop_assert!(given == u64::MAX || given.is_multiple_of(10_000));
        }

        #[test]
        fn any_list_is_bits_or_nothing(list in "[0-9,\\- ]{0,12}") {
            if let Ok(bits) = bits(&list) {
                prop_assert!(bits.len() <= 1 << 10);
            }
        }
    }
}
