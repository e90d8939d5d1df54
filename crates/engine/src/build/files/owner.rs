//! `--chown`: names are those of the image that is changed, never of the host.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use super::Error;
use super::listing::open_regular;
use super::resolve::{Lost, find};

/// More of a list of users is not looked at.
const LONGEST: u64 = 16 << 20;

/// The user and the group that `user[:group]` means in the tree below `root`.
///
/// As BuildKit has it: a user by number has the group of that number, one by name that of `/etc/passwd`; names that are in
/// neither file are root's.
pub(super) fn find_owner(text: &str, root: BorrowedFd<'_>) -> Result<(u32, u32), Error> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let mut owner = match number(user, text)? {
        Some(id) => (id, id),
        None => in_list(root, b"etc/passwd", user)?
            .and_then(|fields| Some((id(&fields, 2)?, id(&fields, 3)?)))
            .unwrap_or_default(),
    };
    if let Some(group) = group {
        owner.1 = match number(group, text)? {
            Some(id) => id,
            None => in_list(root, b"etc/group", group)?.and_then(|fields| id(&fields, 2)).unwrap_or_default(),
        };
    }
    Ok(owner)
}

fn number(text: &str, whole: &str) -> Result<Option<u32>, Error> {
    match text {
        "root" => Ok(Some(0)),
        _ if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => Ok(None),
        // The last one means "leave it as it is" to the kernel.
        _ => match text.parse() {
            Ok(id) if id < u32::MAX => Ok(Some(id)),
            _ => Err(Error::Owner(whole.chars().take(100).collect())),
        },
    }
}

fn id(fields: &[String], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok().filter(|&id| id < u32::MAX)
}

/// The fields of the line that begins with this name.
fn in_list(root: BorrowedFd<'_>, path: &[u8], name: &str) -> Result<Option<Vec<String>>, Error> {
    let found = match find(root, path, &|_, _| false) {
        Ok(found) => found,
        Err(Lost::Missing | Lost::Hidden) => return Ok(None),
        Err(Lost::Failed(e)) => return Err(Error::target(path, "open", e)),
    };
    let Some((above, last)) = found.place else { return Ok(None) };
    let Ok((file, _)) = open_regular(std::os::fd::AsFd::as_fd(&above), &last) else { return Ok(None) };
    let mut bytes = Vec::new();
    File::from(file).take(LONGEST).read_to_end(&mut bytes).map_err(|e| Error::target(path, "read", e))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().map(|line| line.trim().split(':').map(str::to_owned).collect::<Vec<_>>());
    Ok(lines.find(|fields| fields.first().is_some_and(|first| first == name)))
}
