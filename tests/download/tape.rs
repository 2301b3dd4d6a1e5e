//! Tar files written by hand, so that they can be as bad as a test wants them.

use std::io::Write;

/// A tar in the making, of blocks of 512 bytes.
#[derive(Clone, Default)]
pub struct Tape(pub Vec<u8>);

impl Tape {
    /// An entry: `kind` is the type flag of ustar, as in `b'0'` for a file.
    pub fn entry(mut self, name: &str, kind: u8, link: &str, data: &[u8]) -> Self {
        self.0.extend(header(name, kind, link, data.len()));
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(name, b'0', "", data)
    }

    pub fn folder(self, name: &str) -> Self {
        self.entry(name, b'5', "", b"")
    }

    /// The tar with its end, gzipped.
    pub fn gz(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        gz(&self.0)
    }
}

/// The ustar header, with its checksum: the sum of its bytes, those of the checksum counted as blanks.
fn header(name: &str, kind: u8, link: &str, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

pub fn gz(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}
