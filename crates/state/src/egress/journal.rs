//! What was refused: a line of JSON for each, kept as events are.
//!
//! ```text
//! ROOT/egress/denied       lines are only ever appended
//! ROOT/egress/denied.1     what it was before it grew too long; then the one before goes
//! ```
//!
//! One process writes, `dhow-egressd`. It puts what is alike into one line with a count, so that a container that tries without
//! end fills neither the disk nor the journal.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use base::fs::{self, At};
use base::{Id, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Instance;

/// A journal longer than this is put aside, in bytes.
const LONGEST: u64 = 4 << 20;
/// Its name.
pub const JOURNAL: &str = "denied";
/// The name of the one before.
pub const BEFORE: &str = "denied.1";

/// Something that a container tried and may not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct What {
    /// The container.
    pub container: Id,
    /// Its name.
    pub name: String,
    /// Where it wanted to go: a name, or an address; of HTTP with the path.
    pub to: String,
    /// The port there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How: `tcp`, `udp`, `icmp`, `dns`, `http`, `https`, or a protocol's number.
    pub protocol: String,
    /// Which rule has refused it.
    pub rule: String,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// When it was tried, for the last time of these.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// How often.
    pub count: u64,
}

/// The directory of an instance's journal.
pub fn dir(instance: &Instance) -> PathBuf {
    instance.root().join("egress")
}

/// Writes lines into the journal.
pub fn append(instance: &Instance, denials: &[Denial]) -> fs::Result<()> {
    let mut bytes = Vec::new();
    for denial in denials {
        // What cannot be put into words cannot be noted; there is nothing such.
        if serde_json::to_writer(&mut bytes, denial).is_ok() {
            bytes.push(b'\n');
        }
    }
    let dir = dir(instance);
    let path = dir.join(JOURNAL);
    let open = || File::options().append(true).create(true).mode(0o600).open(&path).at("open", &path);
    let mut file = match open() {
        Err(error) if error.is_not_found() => {
            fs::create_dir_all(&dir, 0o700)?;
            open()?
        }
        other => other?,
    };
    file.write_all(&bytes).at("write", &path)?;
    if file.metadata().is_ok_and(|m| m.size() > LONGEST) {
        fs::rename(&path, &dir.join(BEFORE))?;
    }
    Ok(())
}

/// The whole lines in `bytes`, which keeps what is not whole yet. What is no denial (a full disk may leave half a line) is
/// passed over.
pub fn take_lines(bytes: &mut Vec<u8>) -> Vec<Denial> {
    let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
    let lines = bytes[..end].split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let denials = lines.collect();
    bytes.drain(..=end);
    denials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_long_journal_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        let what = What {
            container: "a".repeat(64).parse().unwrap(),
            name: "web".to_owned(),
            to: "192.0.2.1".to_owned(),
            port: Some(22),
            protocol: "tcp".to_owned(),
            rule: "deny".to_owned(),
        };
        let denial = Denial { time: Timestamp::now(), what, count: 3 };
        append(&instance, std::slice::from_ref(&denial)).unwrap();
        let path = super::dir(&instance).join(JOURNAL);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"torn\n{");
        assert_eq!(take_lines(&mut bytes), std::slice::from_ref(&denial));
        assert_eq!(bytes, b"{");
        let mut long = denial;
        long.what.to = "x".repeat(LONGEST as usize);
        append(&instance, &[long]).unwrap();
        assert!(path.with_file_name(BEFORE).exists() && !path.exists());
    }
}
