//! A mutator that knows tar: a byte changed at random makes a checksum wrong, and what lies behind is never reached.

/// Names and link targets that mean something.
const NAMES: [&[u8]; 22] = [
    b"a",
    b"a/",
    b"a/b",
    b"a/b/c",
    b"l",
    b"l/x",
    b".",
    b"./",
    b"/",
    b"..",
    b"../x",
    b"/a",
    b"a/../b",
    b".wh.a",
    b".wh.",
    b".wh...",
    b"a/.wh.b",
    b".wh..wh..opq",
    b"a/.wh..wh..opq",
    b".wh..wh.x",
    b"\xff\xfe",
    b"/outside/file",
];
const KINDS: &[u8] = b"01234567LKxgS\0V";
/// The fields of numbers: where, and how long.
const NUMBERS: [(usize, usize); 7] = [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)];
/// Keys of extended headers, and values.
const KEYS: [&str; 14] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "SCHILY.xattr.user.a",
    "LIBARCHIVE.xattr.user.b",
    "SCHILY.xattr.security.capability",
    "GNU.sparse.major",
    "GNU.sparse.map",
    "GNU.sparse.size",
    "GNU.sparse.name",
    "SCHILY.xattr.system.posix_acl_default",
];
const VALUES: [&[u8]; 16] = [
    b"",
    b"0",
    b"1",
    b"-1",
    b"7",
    b"1.5",
    b"-1.25",
    b"4294967296",
    b"18446744073709551615",
    b"0,1",
    b"0,4,8,4",
    b"a",
    b"l/x",
    b"../x",
    b"aGk",
    b"a\0b",
];

/// Xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
}

/// Changes `data[..size]` in place and tells the new size; `None` where the dice say that bytes are to be changed, or
/// there is no header to change.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32) -> Option<usize> {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    for _ in 0..8 {
        dice.roll(2);
    }
    if dice.roll(4) == 0 {
        return None;
    }
    let mut archive = data[..size].to_vec();
    for _ in 0..=dice.roll(3) {
        change(&mut archive, &mut dice)?;
    }
    if archive.len() > most.min(data.len()) {
        return None;
    }
    mend(&mut archive);
    data[..archive.len()].copy_from_slice(&archive);
    Some(archive.len())
}

/// Where headers begin, and where what belongs to each ends.
fn entries(archive: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = archive.get(at..at + 512) {
        let digits = header[124..136]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .fold(0_usize, |n, b| n.saturating_mul(8).saturating_add(usize::from(b - b'0')));
        let end =
            at.saturating_add(512).saturating_add(digits.saturating_add(511) / 512 * 512).min(archive.len());
        if header.iter().any(|&b| b != 0) {
            found.push((at, end));
        }
        at = end;
    }
    found
}

/// Makes every header's checksum right.
pub fn mend(archive: &mut [u8]) {
    for (at, _) in entries(archive) {
        let header = &mut archive[at..at + 512];
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn change(archive: &mut Vec<u8>, dice: &mut Dice) -> Option<()> {
    let all = entries(archive);
    let (at, end) = *all.get(dice.roll(all.len()))?;
    match dice.roll(9) {
        0 => archive[at + 156] = KINDS[dice.roll(KINDS.len())],
        1 | 2 => field(&mut archive[at..at + 100], dice.pick(&NAMES)),
        3 => field(&mut archive[at + 157..at + 257], dice.pick(&NAMES)),
        4 => {
            let (offset, length) = NUMBERS[dice.roll(NUMBERS.len())];
            number(&mut archive[at + offset..at + offset + length], dice);
        }
        5 => {
            let copy = archive[at..end].to_vec();
            let (to, _) = all[dice.roll(all.len())];
            archive.splice(to..to, copy);
        }
        6 => drop(archive.drain(at..end)),
        7 => {
            let magics: [&[u8]; 3] = [b"ustar\x0000", b"ustar  \0", &[0; 8]];
            archive[at + 257..at + 265].copy_from_slice(dice.pick(&magics));
        }
        _ => {
            let mut records = Vec::new();
            for _ in 0..=dice.roll(3) {
                let (key, value) = (KEYS[dice.roll(KEYS.len())], dice.pick(&VALUES));
                let length = key.len() + value.len() + 5;
                records.extend_from_slice(format!("{length:02} {key}=").as_bytes());
                records.extend_from_slice(value);
                records.push(b'\n');
            }
            let mut header = [0_u8; 512];
            header[..2].copy_from_slice(b"PX");
            header[124..135].copy_from_slice(format!("{:011o}", records.len()).as_bytes());
            header[156] = b'x';
            header[257..265].copy_from_slice(b"ustar\x0000");
            records.resize(records.len().next_multiple_of(512), 0);
            archive.splice(at..at, [&header[..], &records].concat());
        }
    }
    Some(())
}

fn field(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    field[..text.len()].copy_from_slice(text);
}

fn number(field: &mut [u8], dice: &mut Dice) {
    let digits = field.len() - 1;
    match dice.roll(5) {
        0 => field.fill(0xff),
        1 => {
            field.fill(0);
            field[0] = 0x80;
            let last = field.len() - 1 - dice.roll(field.len() - 1);
            field[last] = 1 << dice.roll(8);
        }
        2 => field.fill(0),
        _ => {
            let value = 1_u64 << dice.roll(3 * digits.min(20));
            let text = format!("{:0digits$o}\0", value.wrapping_sub(dice.roll(2) as u64));
            field.copy_from_slice(&text.as_bytes()[..field.len()]);
        }
    }
}
