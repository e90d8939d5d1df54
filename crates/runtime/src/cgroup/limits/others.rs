//! Processes, huge pages, RDMA devices, and the marks of v1 on network packets.

use oci::runtime::Resources;

use super::{Need, Write, only_v1, or_max, write};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Controller;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) enum Setting {
    /// Processes; none: unlimited.
    Pids(Option<u64>),
    /// Bytes of huge pages of one size, which is as the kernel writes it.
    HugePages { size: String, bytes: u64 },
    /// One device's line.
    Rdma(String),
    /// `net_cls.classid`. v1.
    NetworkClass(u32),
    /// One interface's line of `net_prio.ifpriomap`. v1.
    NetworkPriority(String),
}

/// One word without anything by which it could become two, or another line.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic())
}

pub(super) fn settings(resources: &Resources, list: &mut Vec<super::Setting>) -> Result<(), Error> {
    let mut push = |setting| list.push(super::Setting::Other(setting));
    if let Some(pids) = &resources.pids {
        push(Setting::Pids(u64::try_from(pids.limit).ok().filter(|l| *l > 0)));
    }
    for limit in &resources.hugepage_limits {
        push(Setting::HugePages { size: page_size(&limit.page_size)?, bytes: limit.limit });
    }
    for (device, limits) in &resources.rdma {
        if !is_word(device) {
            return Err(Error::Invalid { reason: "an RDMA device's name is no single word" });
        }
        let mut line = device.clone();
        for (key, value) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
            if let Some(value) = value {
                line = format!("{line} {key}={value}");
            }
        }
        if line.len() == device.len() {
            return Err(Error::Invalid { reason: "an RDMA device has no limit" });
        }
        push(Setting::Rdma(line));
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id.filter(|c| *c != 0) {
            push(Setting::NetworkClass(class));
        }
        for entry in &network.priorities {
            if !is_word(&entry.name) {
                return Err(Error::Invalid { reason: "a network interface's name is no single word" });
            }
            push(Setting::NetworkPriority(format!("{} {}", entry.name, entry.priority)));
        }
    }
    Ok(())
}

/// `2048KB` and `2MB` are the same; the kernel writes the latter (`hugetlb_cgroup.c`, `mem_fmt`).
fn page_size(text: &str) -> Result<String, Error> {
    let wrong = || Error::Invalid { reason: "a size of huge pages is not like 64KB, 2MB or 1GB" };
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let shift = match unit {
        "KB" => 0,
        "MB" => 10,
        "GB" => 20,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let kib = number.checked_mul(1 << shift).filter(|kib| *kib > 0).ok_or_else(wrong)?;
    Ok(if kib >= 1 << 20 {
        format!("{}GB", kib >> 20)
    } else if kib >= 1 << 10 {
        format!("{}MB", kib >> 10)
    } else {
        format!("{kib}KB")
    })
}

pub(super) fn v2(setting: &Setting, list: &mut Vec<Write>) -> Result<(), Error> {
    match setting {
        Setting::NetworkClass(_) => return Err(only_v1("class of network packets", "net_cls")),
        Setting::NetworkPriority(_) => return Err(only_v1("priority of network packets", "net_prio")),
        Setting::HugePages { size, bytes } => huge_pages(list, size, *bytes, "max"),
        common => same_in_both(common, list),
    }
    Ok(())
}

pub(super) fn v1(setting: &Setting, list: &mut Vec<Write>) {
    match setting {
        Setting::NetworkClass(class) => {
            list.push(write(Controller::NetCls, "net_cls.classid", class, "class of network packets"));
        }
        Setting::NetworkPriority(line) => {
            let file = "net_prio.ifpriomap";
            list.push(write(Controller::NetPrio, file, line, "priority of network packets"));
        }
        Setting::HugePages { size, bytes } => huge_pages(list, size, *bytes, "limit_in_bytes"),
        common => same_in_both(common, list),
    }
}

/// Both what is used and, since Linux 5.7, what is reserved.
fn huge_pages(list: &mut Vec<Write>, size: &str, bytes: u64, file: &str) {
    let limit = "limit of huge pages";
    let write = |file| write(Controller::Hugetlb, file, bytes, limit);
    list.push(write(format!("hugetlb.{size}.{file}")));
    list.push(write(format!("hugetlb.{size}.rsvd.{file}")).need(Need::Moot));
}

fn same_in_both(setting: &Setting, list: &mut Vec<Write>) {
    match setting {
        Setting::Pids(limit) => {
            let asked = write(Controller::Pids, "pids.max", or_max(*limit), "limit of processes");
            list.push(asked.need(Need::Default));
        }
        Setting::Rdma(line) => {
            list.push(write(Controller::Rdma, "rdma.max", line, "limit of an RDMA device"));
        }
        Setting::HugePages { .. } | Setting::NetworkClass(_) | Setting::NetworkPriority(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn page_sizes_are_written_as_the_kernel_does() {
        for (asked, kernel) in
            [("2MB", "2MB"), ("2048KB", "2MB"), ("1GB", "1GB"), ("64KB", "64KB"), ("1024MB", "1GB")]
        {
            assert_eq!(page_size(asked).unwrap(), kernel);
        }
        for wrong in ["", "MB", "2", "2mb", "2MB/../x", "0KB", "-2MB", "99999999999999999999GB", "2TB"] {
            assert!(page_size(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_page_size_becomes_a_plain_name_or_nothing(text in ".{0,12}") {
            if let Ok(name) = page_size(&text) {
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()));
            }
        }
    }
}
