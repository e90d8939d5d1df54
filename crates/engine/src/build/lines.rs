//! A stream is passed on line by line, so that lines of several streams do not mix.

/// A line that is longer is passed on in pieces.
const LONGEST: usize = 64 << 10;

/// What was read of a line so far.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Takes more bytes, and gives whole lines, with their ends: as many at once as there are.
    pub(super) fn feed(&mut self, bytes: &[u8], give: &mut dyn FnMut(&[u8])) {
        match bytes.iter().rposition(|&b| b == b'\n') {
            Some(end) if self.0.is_empty() => {
                give(&bytes[..=end]);
                self.0.extend_from_slice(&bytes[end + 1..]);
            }
            Some(end) => {
                self.0.extend_from_slice(&bytes[..=end]);
                give(&self.0);
                self.0.clear();
                self.0.extend_from_slice(&bytes[end + 1..]);
            }
            None => self.0.extend_from_slice(bytes),
        }
        if self.0.len() >= LONGEST {
            give(&self.0);
            self.0.clear();
        }
    }

    /// No more comes.
    pub(super) fn end(&mut self, give: &mut dyn FnMut(&[u8])) {
        if !self.0.is_empty() {
            give(&self.0);
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole() {
        let mut said = Vec::new();
        let mut lines = Lines::default();
        for piece in ["a", "b\nc\nd", "", "e\n", "f"] {
            lines.feed(piece.as_bytes(), &mut |l| said.push(String::from_utf8(l.to_vec()).unwrap()));
        }
        lines.end(&mut |l| said.push(String::from_utf8(l.to_vec()).unwrap()));
        assert_eq!(said, ["ab\nc\n", "de\n", "f"]);
    }
}
