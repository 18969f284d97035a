//! The lines of a gzip file that arrives in pieces.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use md5::{Digest, Md5};

use super::manifest::Checksum;

/// Compressed bytes unpacked at once: even the densest gzip makes at most 16 MB of them.
const UNPACKED_AT_ONCE: usize = 16 * 1024;
/// The longest line. An item has at most 400 KB as the service counts it; a list of nulls, one byte each, is
/// the densest and gives some 6 MB of JSON.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Unpacks, splits into lines, counts, and computes the checksum.
#[derive(Debug)]
pub(super) struct Lines {
    unpacking: MultiGzDecoder<Vec<u8>>,
    md5: Md5,
    /// Compressed bytes so far.
    packed: u64,
    /// Among the unpacked bytes: where the next line begins, and how far the search for its end went.
    start: usize,
    searched: usize,
    /// Lines returned.
    count: u64,
    ended: bool,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            unpacking: MultiGzDecoder::new(Vec::new()),
            md5: Md5::new(),
            packed: 0,
            start: 0,
            searched: 0,
            count: 0,
            ended: false,
        }
    }

    /// How many lines were returned.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the end of the file was reached.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes from the front of the compressed data; returns how many.
    ///
    /// # Errors
    /// If it is not gzip, or a line is longer than any item's.
    pub(super) fn take(&mut self, packed: &[u8]) -> io::Result<usize> {
        let piece = packed.get(..UNPACKED_AT_ONCE).unwrap_or(packed);
        let unpacked = self.unpacking.get_mut();
        unpacked.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.unpacking.write_all(piece)?;
        self.unpacking.flush()?;
        self.md5.update(piece);
        self.packed += piece.len() as u64;
        if self.searched > LINE_BYTES_MAX {
            return Err(io::Error::other("a line is longer than 16 MB"));
        }
        Ok(piece.len())
    }

    /// Takes the end of the file.
    ///
    /// # Errors
    /// If the gzip data is incomplete, or its own checksum differs.
    pub(super) fn end(&mut self) -> io::Result<()> {
        // For a partition without items the service may store an empty file.
        if self.packed > 0 {
            self.unpacking.try_finish()?;
        }
        self.ended = true;
        Ok(())
    }

    /// The next line without its line end; `None` until more data arrives, and at the end.
    pub(super) fn next_line(&mut self) -> Option<&[u8]> {
        let unpacked = self.unpacking.get_ref();
        let rest = unpacked.get(self.searched..)?;
        let (end, next) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) => (self.searched + at, self.searched + at + 1),
            None if self.ended && self.start < unpacked.len() => (unpacked.len(), unpacked.len()),
            None => {
                self.searched = unpacked.len();
                return None;
            }
        };
        let line = unpacked.get(self.start..end)?;
        self.start = next;
        self.searched = next;
        self.count += 1;
        Some(line)
    }

    /// The checksum of all compressed bytes.
    pub(super) fn md5(&self) -> Checksum {
        self.md5.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut packing = GzEncoder::new(Vec::new(), Compression::default());
        packing.write_all(text.as_bytes()).unwrap();
        packing.finish().unwrap()
    }

    /// All lines of a file that comes in pieces of `size` bytes.
    fn read(file: &[u8], size: usize) -> io::Result<Vec<String>> {
        let (mut lines, mut read) = (Lines::new(), Vec::new());
        let drain = |lines: &mut Lines, read: &mut Vec<String>| {
            while let Some(line) = lines.next_line() {
                read.push(String::from_utf8(line.to_vec()).unwrap());
            }
        };
        for mut piece in file.chunks(size) {
            while !piece.is_empty() {
                let taken = lines.take(piece)?;
                piece = &piece[taken..];
                drain(&mut lines, &mut read);
            }
        }
        lines.end()?;
        drain(&mut lines, &mut read);
        assert_eq!(lines.count(), read.len() as u64);
        assert_eq!(lines.md5(), <Checksum>::from(Md5::digest(file)));
        Ok(read)
    }

    #[test]
    fn lines_are_the_same_however_the_file_comes() {
        let text = (0..500).map(|number| format!("line {number} {}\n", "x".repeat(number)));
        let text: String = text.collect();
        let expected: Vec<&str> = text.lines().collect();
        for size in [1, 7, 1000, usize::MAX] {
            assert_eq!(read(&packed(&text), size).unwrap(), expected, "{size}");
        }
        assert_eq!(read(&packed("a\nb"), 3).unwrap(), ["a", "b"]);
        assert_eq!(read(&[packed("a\nb"), packed("c\n")].concat(), 5).unwrap(), ["a", "bc"]);
        assert!(read(&packed(""), 5).unwrap().is_empty());
        assert!(read(b"", 5).unwrap().is_empty());
    }

    #[test]
    fn a_file_cut_off_anywhere_is_an_error() {
        let file = packed("one\ntwo\nthree\n");
        for length in 1..file.len() {
            assert!(read(&file[..length], 4).is_err(), "{length} of {} bytes", file.len());
        }
    }

    #[test]
    fn a_bit_that_fell_over_is_an_error() {
        let text: String = (0..200).map(|number| format!("line {number}\n")).collect();
        let file = packed(&text);
        for at in [1, 20, file.len() / 2, file.len() - 6] {
            let mut broken = file.clone();
            broken[at] ^= 4;
            assert!(read(&broken, 64).is_err(), "byte {at}");
        }
        assert!(read(&[file, b"more".to_vec()].concat(), 64).is_err());
    }
}
