//! The forms in which the kernel writes numbers.

use std::collections::BTreeMap;
use std::path::Path;

use super::{BlockEntry, Pressure, PressureLine, RdmaEntry};
use crate::cgroup::files::read_text;
use crate::cgroup::in_force::limit;

pub(super) fn text(path: &Path, file: &str) -> String {
    read_text(&path.join(file)).unwrap_or_default()
}

/// A file of one number; 0 where there is none.
pub(super) fn number(path: &Path, file: &str) -> u64 {
    text(path, file).trim().parse().unwrap_or(0)
}

/// A file of one limit.
pub(super) fn limit_of(path: &Path, file: &str) -> Option<u64> {
    limit(text(path, file).trim())
}

/// Lines of a word and a number.
pub(super) fn table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    let mut any = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let place = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        any = true;
        let PressureLine { avg10, avg60, avg300, total } = place;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => *avg10 = value.parse().unwrap_or(0.0),
                "avg60" => *avg60 = value.parse().unwrap_or(0.0),
                "avg300" => *avg300 = value.parse().unwrap_or(0.0),
                "total" => *total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    any.then_some(pressure)
}

/// v1: `8:0 Read 4096`, or `8:0 4096`; a sum without a device is left out.
pub(super) fn block_v1(text: &str) -> Vec<BlockEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (major, minor) = device(words.next()?)?;
            let (second, third) = (words.next()?, words.next());
            let (operation, value) = third.map_or(("", second), |value| (second, value));
            Some(BlockEntry { major, minor, operation: operation.to_owned(), value: value.parse().ok()? })
        })
        .collect()
}

pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `mlx4_0 hca_handle=2 hca_object=max`
pub(super) fn rdma(text: &str) -> Vec<RdmaEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                match key {
                    "hca_handle" => entry.hca_handles = value.parse().ok(),
                    "hca_object" => entry.hca_objects = value.parse().ok(),
                    _ => {}
                }
            }
            Some(entry)
        })
        .collect()
}

/// The sizes in the names of files like `hugetlb.2MB.current`.
pub(super) fn page_sizes(path: &Path, ending: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let size = |name: &str| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(ending)?.strip_suffix('.')?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    entries.filter_map(|entry| size(entry.ok()?.file_name().to_str()?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_forms_are_read() {
        let read = pressure(
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
        )
        .unwrap();
        assert!((read.some.avg10 - 1.5).abs() < 1e-9 && read.some.total == 12_345 && read.full.total == 7);
        assert_eq!(pressure(""), None);
        let entries = block_v1("8:0 Read 5\n8:16 Total 9\n254:1 77\nTotal 14\n");
        let entry = |major, minor, operation: &str, value| BlockEntry {
            major,
            minor,
            operation: operation.to_owned(),
            value,
        };
        assert_eq!(entries, [entry(8, 0, "Read", 5), entry(8, 16, "Total", 9), entry(254, 1, "", 77)]);
        let rdma = rdma("mlx4_0 hca_handle=2 hca_object=max\n");
        assert_eq!(
            (rdma[0].device.as_str(), rdma[0].hca_handles, rdma[0].hca_objects),
            ("mlx4_0", Some(2), None)
        );
        assert_eq!(table("anon 5\nfile x\nslab 7\n").len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[a-z0-9:= .\n]{0,80}") {
            pressure(&text);
            block_v1(&text);
            rdma(&text);
            table(&text);
        }
    }
}
