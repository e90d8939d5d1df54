//! Users and groups, looked up in the container's own `/etc/passwd` and `/etc/group`.
//!
//! The files are an image's: they may be missing, huge, a FIFO, a link out. They are opened without blocking
//! inside the container's root, must be regular files, and are read into a buffer of fixed size.

use std::ffi::CStr;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::{During, Outcome, retry};
use crate::handshake::{Failed, Step};
use crate::plan::{MOST_READ_GROUPS, ProcessPlan, UserPlan, Who};

/// As whom the command runs.
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// As whom a command runs whose user is given in numbers, as the specification has it.
pub(super) fn given(plan: &ProcessPlan) -> Outcome<Account> {
    match plan.user {
        UserPlan::Numbers { uid, gid } => Ok(Account { uid, gid }),
        UserPlan::LookUp { .. } => Err(Failed::new(Step::UnknownUser, 0, Errno::NOENT)),
    }
}

/// Finds uid, gid, supplementary groups (into `plan.groups`) and `HOME` (into `plan.home`), by the rules of
/// Docker's `--user`: a number need not be in the files, a name must; without a named group the supplementary
/// groups are those that list the user.
pub(super) fn resolve(plan: &mut ProcessPlan) -> Outcome<Account> {
    let (user, group, further) = match &plan.user {
        UserPlan::Numbers { uid, gid } => {
            let (uid, gid) = (*uid, *gid);
            if plan.home.capacity() > 0 {
                // For the home alone: a file that cannot be read is no reason not to start.
                if read_file(c"/etc/passwd", &mut plan.account_buffer, 0).is_err() {
                    plan.account_buffer.clear();
                }
                let entry = passwd_entries(&plan.account_buffer).find(|e| e.uid == uid);
                set_home(&mut plan.home, entry.map_or(b"/", |e| e.home));
            }
            return Ok(Account { uid, gid });
        }
        UserPlan::LookUp { user, group, further } => (user, group.as_ref(), further),
    };
    read_file(c"/etc/passwd", &mut plan.account_buffer, 0)?;
    let entry = passwd_entries(&plan.account_buffer).find(|entry| match user {
        Who::Number(uid) => entry.uid == *uid,
        Who::Name(name) => entry.name == name,
    });
    let (uid, mut gid) = match (user, entry) {
        (_, Some(entry)) => (entry.uid, entry.gid),
        (Who::Number(uid), None) => (*uid, 0),
        (Who::Name(_), None) => return Err(Failed::new(Step::UnknownUser, 0, Errno::NOENT)),
    };
    set_home(&mut plan.home, entry.map_or(b"/", |e| e.home));
    // The name is needed beside the other file in the same buffer: a copy on the stack, bounded as names are.
    let mut name = [0; 256];
    let name = match entry {
        Some(entry) if entry.name.len() <= name.len() => {
            let name = &mut name[..entry.name.len()];
            name.copy_from_slice(entry.name);
            Some(&*name)
        }
        _ => None,
    };
    read_file(c"/etc/group", &mut plan.account_buffer, 1)?;
    match group {
        Some(Who::Number(number)) => gid = *number,
        Some(Who::Name(wanted)) => {
            let found = group_entries(&plan.account_buffer).find(|entry| entry.name == wanted);
            gid = found.ok_or(Failed::new(Step::UnknownGroup, 0, Errno::NOENT))?.gid;
        }
        None => {
            if let Some(name) = name {
                for entry in group_entries(&plan.account_buffer) {
                    let member = entry.members.split(|&b| b == b',').any(|m| m == name);
                    if member && plan.groups.len() < MOST_READ_GROUPS {
                        plan.groups.push(entry.gid);
                    }
                }
            }
        }
    }
    // Its own, too (CVE-2022-36109): a set-gid program must not get rid of it.
    if !plan.groups.contains(&gid) {
        plan.groups.insert(0, gid);
    }
    for (n, who) in further.iter().enumerate() {
        let gid = match who {
            Who::Number(number) => *number,
            Who::Name(wanted) => {
                let found = group_entries(&plan.account_buffer).find(|entry| entry.name == wanted);
                found.ok_or(Failed::new(Step::UnknownGroup, n + 1, Errno::NOENT))?.gid
            }
        };
        // There is room for all of them: the buffer must not grow here.
        if plan.groups.len() < plan.groups.capacity() && !plan.groups.contains(&gid) {
            plan.groups.push(gid);
        }
    }
    Ok(Account { uid, gid })
}

/// `HOME=<home>` with its end, within the capacity that was reserved.
fn set_home(into: &mut Vec<u8>, home: &[u8]) {
    const PREFIX: &[u8] = b"HOME=";
    let home = if home.is_empty() { b"/" } else { home };
    if into.capacity() < PREFIX.len() + home.len() + 1 || home.contains(&0) {
        return;
    }
    into.extend_from_slice(PREFIX);
    into.extend_from_slice(home);
    into.push(0);
}

/// Reads a file of the container into the buffer, whose capacity bounds it. A missing file is an empty one.
fn read_file(path: &CStr, buffer: &mut Vec<u8>, index: usize) -> Outcome<()> {
    buffer.clear();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.during_nth(Step::Accounts, index)?,
    };
    let stat = fstat(&file).during_nth(Step::Accounts, index)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failed::new(Step::Accounts, index, Errno::INVAL));
    }
    loop {
        if buffer.len() == buffer.capacity() {
            return Err(Failed::new(Step::Accounts, index, Errno::FBIG));
        }
        // Within the capacity this does not allocate.
        let read = retry(|| rustix::io::read(&file, rustix::buffer::spare_capacity(buffer)));
        if read.during_nth(Step::Accounts, index)? == 0 {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy)]
struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// passwd(5): `name:password:uid:gid:gecos:home:shell`. Lines that are not of this form are passed over.
fn passwd_entries(text: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).unwrap_or(b"");
        Some(PasswdEntry { name, uid, gid, home })
    })
}

struct GroupEntry<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// group(5): `name:password:gid:member,member`.
fn group_entries(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    text.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or(b"") })
    })
}

/// A decimal number that can be an id, or nothing: one that wraps would be somebody else's, and 2^32 - 1 means "as it
/// is" to `setresuid(2)`, which would leave us root. The bound is the one of `--user` (CVE-2024-40635).
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u32, |n, digit| {
        let digit = digit.checked_sub(b'0').filter(|&d| d < 10)?;
        n.checked_mul(10)?.checked_add(u32::from(digit))
    });
    number.filter(|&n| i32::try_from(n).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\n:x:1:1::/:\nbig:x:4294967296:0::/:\napp:x:1000:100:,,:/srv/app:/bin/sh";

    #[test]
    fn entries_are_read_and_broken_lines_passed_over() {
        let names: Vec<_> = passwd_entries(PASSWD).map(|e| (e.name, e.uid, e.gid, e.home)).collect();
        assert_eq!(names, [(&b"root"[..], 0, 0, &b"/root"[..]), (b"app", 1000, 100, b"/srv/app")]);
        let groups: Vec<_> = group_entries(b"a:x:5:app,b\nb:x:\nc::7:").map(|g| (g.name, g.gid)).collect();
        assert_eq!(groups, [(&b"a"[..], 5), (b"c", 7)]);
    }

    #[test]
    fn numbers_do_not_wrap() {
        assert_eq!(number(b"2147483647"), Some(i32::MAX as u32));
        // What setresuid(2) takes for "no change": root would stay root.
        assert_eq!(number(b"4294967295"), None);
        assert_eq!(number(b"2147483648"), None);
        assert_eq!(number(b"4294967296"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b""), None);
    }

    #[test]
    fn home_is_only_set_where_room_was_reserved() {
        let mut none = Vec::new();
        set_home(&mut none, b"/root");
        assert!(none.is_empty());
        let mut some = Vec::with_capacity(64);
        set_home(&mut some, b"/root");
        assert_eq!(some, b"HOME=/root\0");
    }
}
