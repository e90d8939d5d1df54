//! Where the last lines of a file begin, found from its end in blocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: usize = 64 * 1024;

/// The last `want` whole lines of the file: where they begin, and how many there are (fewer if the file has
/// fewer). An unfinished last line does not count.
pub(crate) fn find(file: &File, want: u64) -> io::Result<(u64, u64)> {
    let end = file.metadata()?.len();
    if want == 0 {
        return Ok((end, 0));
    }
    let mut buffer = vec![0; BLOCK];
    let mut position = end;
    // The newline that ends the last line does not begin one: `want + 1` newlines hold `want` lines.
    let mut newlines = 0;
    while position > 0 {
        let length = position.min(BLOCK as u64) as usize;
        position -= length as u64;
        file.read_exact_at(&mut buffer[..length], position)?;
        for at in (0..length).rev() {
            if buffer[at] == b'\n' {
                if newlines == want {
                    return Ok((position + at as u64 + 1, want));
                }
                newlines += 1;
            }
        }
    }
    Ok((0, newlines))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_counted_from_the_end_across_blocks() {
        let mut file = tempfile::tempfile().unwrap();
        let line = [b'x'; 999];
        for _ in 0..500 {
            file.write_all(&line).unwrap();
            file.write_all(b"\n").unwrap();
        }
        file.write_all(b"torn").unwrap();
        assert_eq!(find(&file, 0).unwrap(), (500_004, 0));
        assert_eq!(find(&file, 1).unwrap(), (499_000, 1));
        assert_eq!(find(&file, 499).unwrap(), (1000, 499));
        assert_eq!(find(&file, 500).unwrap(), (0, 500));
        assert_eq!(find(&file, u64::MAX).unwrap(), (0, 500));
    }
}
