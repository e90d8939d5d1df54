//! `map=HOST:CONTAINER`: names become numbers, and the numbers the mapping of a mount.
//!
//! Names of the host are looked up in its own files (the programs are static: no NSS), names of the container in the
//! image's, where they are allegations and read with bounds. What is not named in a map stays as it is, unless its place is
//! taken: then it is nobody's.

use std::io::Read;
use std::path::Path;

use base::fs::At;
use base::root::Root;
use oci::runtime::IdMapping;
use rootfs::{Overlay, pack};
use rustix::fs::{FileType, Mode, OFlags};
use state::options::{BindMount, IdKind, IdMap};

use super::Error;
use crate::error::Result;

/// The kernel takes 340 lines, and what lies between the entries takes one each, too.
const MOST: usize = 100;
/// More than anybody's passwd (CVE-2026-47262: one of gigabytes).
const MOST_READ: u64 = 16 << 20;

/// Names become numbers. A user's group is the one that passwd has for it.
pub(super) fn settle(bind: &mut BindMount, overlay: &Overlay) -> Result<()> {
    let destination = || bind.destination.display().to_string();
    let mut image = None;
    let mut settled = Vec::new();
    for map in &bind.map {
        let host = sides(&map.host, map.of, "the host", |file| {
            Ok(std::fs::File::open(Path::new("/").join(file)).at("open", file)?)
        })?;
        let container = sides(&map.container, map.of, "the image", |file| {
            if image.is_none() {
                image = Some(Root::from_fd(pack::merged(&overlay.lowers)?));
            }
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            let root = image.as_ref().map(|root| root.open_with(file.as_ref(), flags, Mode::empty()));
            Ok(std::fs::File::from(
                root.unwrap_or(Err(std::io::ErrorKind::NotFound.into())).at("open", file)?,
            ))
        })?;
        for ((of, host), (_, container)) in host.into_iter().zip(container) {
            settled.push(IdMap {
                of,
                host: host.to_string(),
                container: container.to_string(),
                count: map.count,
            });
        }
    }
    if settled.len() > MOST {
        return Err(Error::TooManyMaps(destination()).into());
    }
    for of in [IdKind::User, IdKind::Group] {
        check(&settled, of, &destination())?;
    }
    bind.map = settled;
    Ok(())
}

/// The numbers of a name or number: of a user, a group, or both.
fn sides(
    name: &str,
    of: IdKind,
    place: &'static str,
    open: impl FnMut(&str) -> Result<std::fs::File>,
) -> Result<Vec<(IdKind, u32)>> {
    if let Ok(id) = name.parse::<u32>() {
        return Ok(match of {
            IdKind::Both => vec![(IdKind::User, id), (IdKind::Group, id)],
            one => vec![(one, id)],
        });
    }
    if name == "root" {
        return sides("0", of, place, open);
    }
    let mut open = open;
    let (file, what) = if of == IdKind::Group { ("etc/group", "group") } else { ("etc/passwd", "user") };
    let text = read(open(file)?, file)?;
    let line = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == name);
    let number = |at: usize| line.as_ref().and_then(|line| line.get(at)?.parse::<u32>().ok());
    let missing = || Error::NoSuchId { what, name: name.to_owned(), place };
    let id = number(2).ok_or_else(missing)?;
    Ok(match of {
        IdKind::Both => vec![(IdKind::User, id), (IdKind::Group, number(3).ok_or_else(missing)?)],
        one => vec![(one, id)],
    })
}

fn read(file: std::fs::File, name: &str) -> Result<String> {
    let regular =
        rustix::fs::fstat(&file).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    let mut text = Vec::new();
    if regular {
        file.take(MOST_READ).read_to_end(&mut text).at("read", name)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The entries of one kind: first of the host, first of the container, how many.
fn entries(map: &[IdMap], of: IdKind) -> Vec<(u32, u32, u32)> {
    let number = |text: &str| text.parse::<u32>().ok();
    map.iter()
        .filter(|entry| entry.of == of || entry.of == IdKind::Both)
        .filter_map(|entry| Some((number(&entry.host)?, number(&entry.container)?, entry.count)))
        .collect()
}

fn check(map: &[IdMap], of: IdKind, destination: &str) -> Result<()> {
    let entries = entries(map, of);
    let host = ("the host's id", entries.iter().map(|e| (e.0, e.2)).collect::<Vec<_>>());
    let container = ("the container's id", entries.iter().map(|e| (e.1, e.2)).collect());
    for (what, mut ranges) in [host, container] {
        ranges.sort_unstable();
        let end = |(first, count): (u32, u32)| u64::from(first) + u64::from(count);
        let twice = ranges.windows(2).find(|pair| end(pair[0]) > u64::from(pair[1].0)).map(|pair| pair[1].0);
        let beyond =
            ranges.iter().find(|range| range.1 == 0 || end(**range) > u64::from(u32::MAX)).map(|r| r.0);
        if let Some(id) = twice.or(beyond) {
            return Err(Error::MappedTwice { destination: destination.to_owned(), what, id }.into());
        }
    }
    Ok(())
}

/// The mappings of users and of groups, as the specification has them: `container_id` is the file's, `host_id` what is
/// seen of it.
pub(crate) fn mappings(map: &[IdMap]) -> (Vec<IdMapping>, Vec<IdMapping>) {
    (mapping(&entries(map, IdKind::User)), mapping(&entries(map, IdKind::Group)))
}

fn mapping(entries: &[(u32, u32, u32)]) -> Vec<IdMapping> {
    let line = |of_file: u32, seen: u32, size: u32| IdMapping { container_id: of_file, host_id: seen, size };
    let mut lines: Vec<IdMapping> =
        entries.iter().map(|&(host, container, count)| line(host, container, count)).collect();
    // What neither side of an entry takes stays as it is.
    let mut taken: Vec<(u32, u32)> = entries.iter().flat_map(|&(h, c, n)| [(h, n), (c, n)]).collect();
    taken.sort_unstable();
    let mut next = 0_u64;
    for (first, count) in
        taken.into_iter().map(|(f, n)| (u64::from(f), u64::from(n))).chain([(u64::from(u32::MAX), 0)])
    {
        if first > next {
            lines.push(line(next as u32, next as u32, (first - next) as u32));
        }
        next = next.max(first + count);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(entries: &[(u32, u32, u32)], id: u32) -> Option<u32> {
        let lines = mapping(entries);
        let mut hits = lines.iter().filter(|l| l.container_id <= id && id - l.container_id < l.size);
        let hit = hits.next().map(|l| l.host_id + (id - l.container_id));
        assert!(hits.next().is_none(), "{entries:?} {id}");
        hit
    }

    #[test]
    fn what_is_not_named_stays_unless_its_place_is_taken() {
        let one = [(1000, 0, 1)];
        let ids = [0, 1, 999, 1000, 1001, u32::MAX - 1];
        assert_eq!(
            ids.map(|id| seen(&one, id)),
            [None, Some(1), Some(999), Some(0), Some(1001), Some(u32::MAX - 1)]
        );
        assert_eq!([5, 10, 14, 15].map(|id| seen(&[(10, 0, 5)], id)), [Some(5), Some(0), Some(4), Some(15)]);
        assert_eq!([0, 4].map(|id| seen(&[(10, 0, 5)], id)), [None, None]);
        assert_eq!([0, 1].map(|id| seen(&[(0, 1, 1), (1, 0, 1)], id)), [Some(1), Some(0)]);
        assert_eq!(mapping(&[]).len(), 1, "all as it is");
    }

    #[test]
    fn a_map_that_says_two_things_is_refused() {
        let map = |pairs: &[(u32, u32, u32)]| {
            let entry = |&(host, container, count): &(u32, u32, u32)| IdMap {
                of: IdKind::User,
                host: host.to_string(),
                container: container.to_string(),
                count,
            };
            check(&pairs.iter().map(entry).collect::<Vec<_>>(), IdKind::User, "/x")
        };
        assert!(map(&[(1, 2, 1), (2, 1, 1)]).is_ok());
        for bad in [
            &[(1, 2, 1), (1, 3, 1)][..],
            &[(1, 2, 1), (3, 2, 1)],
            &[(1, 5, 3), (3, 9, 1)],
            &[(1, 1, 0)],
            &[(u32::MAX, 1, 1)],
        ] {
            assert!(map(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_two_ids_are_seen_as_one(host in 0..30_u32, container in 0..30_u32, count in 1..10_u32) {
            let lines = mapping(&[(host, container, count)]);
            let mut all: Vec<u32> = (0..60).filter_map(|id| seen(&[(host, container, count)], id)).collect();
            let before = all.len();
            all.sort_unstable();
            all.dedup();
            proptest::prop_assert!(all.len() == before && lines.len() < 8);
        }
    }
}
