//! How much the container may use: what its cgroups say, in version 1 or 2, and its resource limits.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::report::{Section, Value};

pub(crate) fn limits() -> Section {
    let groups = Groups(fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let memory = groups.read("memory", "memory.max", "memory.limit_in_bytes").map(|text| bytes(&text));
    let mut facts = vec![("memory", Value::text(memory.unwrap_or_else(unknown)))];
    if let Some(used) = groups.read("memory", "memory.current", "memory.usage_in_bytes") {
        facts.push(("memory in use", Value::text(bytes(&used))));
    }
    facts.push(("processors", Value::text(groups.processors())));
    if let Some(set) = groups.read("cpuset", "cpuset.cpus.effective", "cpuset.cpus") {
        facts.push(("on processors", Value::text(set)));
    }
    let pids = groups.read("pids", "pids.max", "pids.max");
    facts.push(("processes", Value::text(pids.map_or_else(unknown, |pids| pids.replace("max", "no limit")))));
    for (label, resource) in [
        ("open files", Resource::Nofile),
        ("user's processes", Resource::Nproc),
        ("locked memory", Resource::Memlock),
        ("core files", Resource::Core),
    ] {
        let size = matches!(resource, Resource::Memlock | Resource::Core);
        let show = |limit: Option<u64>| match limit {
            None => "no limit".to_owned(),
            Some(limit) if size => binary(limit),
            Some(limit) => limit.to_string(),
        };
        let limit = getrlimit(resource);
        let text = if limit.maximum == limit.current {
            show(limit.current)
        } else {
            format!("{}, can be raised to {}", show(limit.current), show(limit.maximum))
        };
        facts.push((label, Value::text(text)));
    }
    Section::facts("Limits", facts)
}

fn unknown() -> String {
    "not to be seen from here".to_owned()
}

/// `/proc/self/cgroup`: a line `id:controllers:path` per hierarchy; version 2 has the id 0 and no controllers.
struct Groups(String);

impl Groups {
    /// The content of a controller's file in our group.
    fn read(&self, controller: &str, v2: &str, v1: &str) -> Option<String> {
        let path = |controller: &str| {
            self.0.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let controllers = parts.next()?;
                let path = parts.next()?;
                controllers.split(',').any(|name| name == controller).then(|| path.to_owned())
            })
        };
        let unified = path("").unwrap_or_default();
        let own = path(controller).unwrap_or_default();
        // Within its own cgroup namespace, or with only its own group mounted, a container sees that as the
        // root; else the path leads to it.
        let places = [
            format!("/sys/fs/cgroup{unified}/{v2}"),
            format!("/sys/fs/cgroup/{v2}"),
            format!("/sys/fs/cgroup/unified{unified}/{v2}"),
            format!("/sys/fs/cgroup/{controller}{own}/{v1}"),
            format!("/sys/fs/cgroup/{controller}/{v1}"),
        ];
        places.iter().find_map(|place| Some(fs::read_to_string(place).ok()?.trim().to_owned()))
    }

    fn processors(&self) -> String {
        let quota = match self.read("cpu", "cpu.max", "cpu.cfs_quota_us") {
            Some(text) if text.contains(' ') => text,
            Some(quota) => {
                let period = self.read("cpu", "cpu.max", "cpu.cfs_period_us");
                format!("{quota} {}", period.unwrap_or_default())
            }
            None => return unknown(),
        };
        share(&quota).unwrap_or_else(|| "no limit".to_owned())
    }
}

/// `50000 100000` → `0.5`; `max 100000` and `-1 100000` are no limit.
fn share(quota: &str) -> Option<String> {
    let (quota, period) = quota.split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok().filter(|&p| p > 0)?);
    let share = format!("{:.2}", quota as f64 / period as f64);
    Some(share.trim_end_matches('0').trim_end_matches('.').to_owned())
}

fn bytes(text: &str) -> String {
    match text.parse::<u64>() {
        // Version 1 says "no limit" as the largest number of whole pages.
        Ok(number) if number < 1 << 60 => binary(number),
        _ => "no limit".to_owned(),
    }
}

/// A number of bytes for people, in powers of 1024.
fn binary(bytes: u64) -> String {
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit < 5 {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{} {}", text.trim_end_matches(".0"), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            (binary(0), binary(1023), binary(64 << 20)),
            ("0 B".into(), "1023 B".into(), "64 MiB".into())
        );
        assert_eq!(binary(1_610_612_736), "1.5 GiB");
        assert_eq!((bytes("max"), bytes("9223372036854771712")), ("no limit".into(), "no limit".into()));
        assert_eq!(share("50000 100000").as_deref(), Some("0.5"));
        assert_eq!(share("200000 100000").as_deref(), Some("2"));
        assert_eq!((share("max 100000"), share("-1 100000"), share("5 0")), (None, None, None));
    }
}
