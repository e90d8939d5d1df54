//! A writer of tar archives (POSIX ustar) of what images have; `entry` writes what only attackers and oddities do.

/// An archive that grows.
#[derive(Debug, Default, Clone)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(path, b'5', mode, "", &[])
    }

    /// A file of root's.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(path, b'0', mode, "", content.as_ref())
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', 0o777, target, &[])
    }

    /// A FIFO.
    #[must_use]
    pub fn fifo(self, path: &str) -> Self {
        self.entry(path, b'6', 0o644, "", &[])
    }

    /// Any entry.
    #[must_use]
    pub fn entry(self, path: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        assert!(path.len() <= 100 && link.len() <= 100, "{path} -> {link}");
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", content.len()).as_bytes());
        put(136, b"14000000000");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        self.raw(header, content)
    }

    /// A header, whose checksum is put in, and what follows it.
    #[must_use]
    pub(crate) fn raw(mut self, mut header: [u8; 512], content: &[u8]) -> Self {
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
