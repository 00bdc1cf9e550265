//! The entries of a tar stream: ustar, GNU (long names, sparse files) and PAX (pax(1p), tar(5)), with a bound on everything that
//! an archive makes its reader keep. Fields of headers are read by the crate `tar`.

use crate::error::{Error, Kind, Result};
use ::tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};
use std::io::Read;

const BLOCK: usize = 512;
/// Bytes of the extended headers of one entry.
const MOST_EXTENDED: u64 = 1 << 20;
/// Bytes of a path (PATH_MAX) and of its components.
pub const LONGEST_PATH: usize = 4096;
/// Pieces of a sparse file.
const MOST_PIECES: usize = 100_000;
/// The largest file that Linux knows.
const MOST_BYTES: u64 = i64::MAX as u64;

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    File,
    Directory,
    Symlink,
    HardLink,
    Character,
    Block,
    Fifo,
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As the archive has it.
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    pub node: Node,
    /// Permissions with set-user-id, set-group-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the file when it is unpacked.
    pub size: u64,
    /// Offset and length of what of it is in the archive; `None`: all.
    pub pieces: Option<Vec<(u64, u64)>>,
}

/// Reads entries one after the other.
pub struct Entries<R> {
    from: R,
    /// Bytes of the current entry that were not read yet, and what fills its last block.
    left: u64,
    padding: u64,
    global: Extended,
}

/// Values of extended headers.
#[derive(Debug, Clone, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `GNU.sparse.*` by its last words, in the order of the header.
    sparse: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive that is damaged or hostile.
pub fn bad(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

/// A name of an archive, for a message.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{:?}...", &text[..at]),
        None => format!("{text:?}"),
    }
}

impl<R: Read> Entries<R> {
    pub fn new(from: R) -> Entries<R> {
        Entries { from, left: 0, padding: 0, global: Extended::default() }
    }

    /// The stream behind what was read.
    pub fn into_inner(self) -> R {
        self.from
    }

    /// Bytes of the current entry that the archive has, not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The stream, to skip in it what [`Entries::skipped`] says.
    pub fn stream(&mut self) -> &mut R {
        &mut self.from
    }

    /// Bytes to the next header, which the caller skips in its own way.
    pub fn skipped(&mut self) -> u64 {
        std::mem::take(&mut self.left) + std::mem::take(&mut self.padding)
    }

    /// The next entry; `None` at the end of the archive. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// The stream cannot be read, or is not a tar archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extended = self.global.clone();
        let mut extended_bytes = 0;
        loop {
            self.skip()?;
            let Some(block) = self.block()? else {
                return match extended_bytes {
                    0 => Ok(None),
                    _ => Err(bad("the archive ends after an extended header")),
                };
            };
            let header = Header::from_byte_slice(&block);
            check_sum(header)?;
            let size = number(header.entry_size(), "size")?;
            let kind = header.entry_type();
            self.of_size(size)?;
            match kind {
                EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader => {
                    extended_bytes += size.saturating_add(1);
                    if extended_bytes > MOST_EXTENDED {
                        return Err(bad(format!(
                            "the names and attributes of an entry exceed {MOST_EXTENDED} bytes"
                        )));
                    }
                    let text = self.rest()?;
                    match kind {
                        EntryType::GNULongName => extended.path = Some(until_nul(&text)),
                        EntryType::GNULongLink => extended.link = Some(until_nul(&text)),
                        EntryType::XHeader => pax(&text, &mut extended)?,
                        _ => pax(&text, &mut self.global)?,
                    }
                }
                kind => return self.entry(header, kind, extended).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, kind: EntryType, extended: Extended) -> Result<Entry> {
        let path = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extended.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
        let named = |e: Error| e.context(format!("entry {} of the archive", shown(&path)));
        if path.len() > LONGEST_PATH || link.as_ref().is_some_and(|l| l.len() > LONGEST_PATH) {
            return Err(named(bad(format!("its name exceeds {LONGEST_PATH} bytes"))));
        }
        // Archives older than POSIX mark a directory by its name.
        let old_directory = header.as_old().linkflag == [0] && path.ends_with(b"/");
        let node = if old_directory { Node::Directory } else { node(kind).map_err(named)? };
        if let Some(size) = extended.size {
            self.of_size(size).map_err(named)?;
        }
        let id = |own: Option<u64>, header: std::io::Result<u64>, what| -> Result<u32> {
            let id = own.map_or_else(|| number(header, what), Ok)?;
            // -1 means "leave as it is" to chown(2).
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| bad(format!("its {what} {id} is too large")))
        };
        let device = match node {
            Node::Character | Node::Block => {
                let part = |n: std::io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
                (part(header.device_major()), part(header.device_minor()))
            }
            Node::File | Node::Directory | Node::Symlink | Node::HardLink | Node::Fifo => (0, 0),
        };
        let mut entry = Entry {
            link: link.unwrap_or_default(),
            node,
            mode: number(header.mode().map(u64::from), "mode").map_err(named)? as u32 & 0o7777,
            uid: id(extended.uid, header.uid(), "user ID").map_err(named)?,
            gid: id(extended.gid, header.gid(), "group ID").map_err(named)?,
            mtime: extended.mtime.unwrap_or((header.mtime().unwrap_or(0) as i64, 0)),
            device,
            xattrs: extended.xattrs,
            size: self.left,
            pieces: None,
            path: path.clone(),
        };
        if node != Node::File {
            // The size in such a header counts nothing, as for every reader that is written in Go.
            (self.left, self.padding, entry.size) = (0, 0, 0);
        }
        if kind == EntryType::GNUSparse {
            self.gnu_sparse(header, &mut entry).map_err(named)?;
        } else if !extended.sparse.is_empty() {
            self.pax_sparse(&extended.sparse, &mut entry).map_err(named)?;
        }
        Ok(entry)
    }

    /// Reads content of the current entry; 0 at its end.
    ///
    /// # Errors
    /// The archive ends before.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let n = read_some(&mut self.from, &mut buf[..most])?;
        if n == 0 && most > 0 {
            return Err(bad("the archive ends in the middle of a file"));
        }
        self.left -= n as u64;
        Ok(n)
    }

    fn of_size(&mut self, size: u64) -> Result<()> {
        if size > MOST_BYTES - BLOCK as u64 {
            return Err(bad(format!("its size {size} is impossible")));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn skip(&mut self) -> Result<()> {
        let mut buf = [0; 8192];
        while self.left > 0 {
            self.read(&mut buf)?;
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            self.read(&mut buf)?;
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<Vec<u8>> {
        let mut text = vec![0; usize::try_from(self.left).unwrap_or(usize::MAX)];
        let mut have = 0;
        while have < text.len() {
            have += self.read(&mut text[have..])?;
        }
        Ok(text)
    }

    /// A header; `None` at the end, which two blocks of zeros mark or the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut zeros = 0;
        loop {
            let mut block = [0; BLOCK];
            let mut have = 0;
            while have < BLOCK {
                match read_some(&mut self.from, &mut block[have..])? {
                    0 if have == 0 => return Ok(None),
                    0 => return Err(bad("the archive ends in the middle of a header")),
                    n => have += n,
                }
            }
            if block.iter().any(|b| *b != 0) {
                return Ok(Some(block));
            }
            zeros += 1;
            if zeros == 2 {
                return Ok(None);
            }
        }
    }

    /// The old GNU format: the map is in the header and in blocks behind it, which `size` does not count.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> Result<()> {
        let Some(gnu) = header.as_gnu() else { return Err(bad("a sparse file needs a GNU header")) };
        let mut pieces = Vec::new();
        let mut add = |list: &[GnuSparseHeader]| -> Result<()> {
            for piece in list.iter().filter(|p| !p.is_empty()) {
                let at = |n: std::io::Result<u64>| number(n, "map");
                pieces.push((at(piece.offset())?, at(piece.length())?));
            }
            if pieces.len() > MOST_PIECES { Err(bad("its map is too long")) } else { Ok(()) }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut ext = GnuExtSparseHeader::new();
            let mut have = 0;
            while have < BLOCK {
                match read_some(&mut self.from, &mut ext.as_mut_bytes()[have..])? {
                    0 => return Err(bad("the archive ends in the map of a sparse file")),
                    n => have += n,
                }
            }
            add(&ext.sparse)?;
            more = ext.is_extended();
        }
        entry.size = number(gnu.real_size(), "real size")?;
        entry.pieces = Some(self.checked(pieces, entry.size)?);
        Ok(())
    }

    /// The PAX formats 0.0, 0.1 and 1.0 of GNU tar.
    fn pax_sparse(&mut self, sparse: &[(Vec<u8>, Vec<u8>)], entry: &mut Entry) -> Result<()> {
        let value =
            |name: &str| sparse.iter().rev().find(|(k, _)| k == name.as_bytes()).map(|(_, v)| v.as_slice());
        let decimal = |text: &[u8]| decimal(text).ok_or_else(|| bad("its map of a sparse file is invalid"));
        if let Some(name) = value("name") {
            if name.len() > LONGEST_PATH {
                return Err(bad(format!("its name exceeds {LONGEST_PATH} bytes")));
            }
            entry.path = name.to_vec();
        }
        let Some(size) = value("realsize").or(value("size")) else { return Ok(()) };
        let size = decimal(size)?;
        let mut numbers = Vec::new();
        if value("major") == Some(b"1") {
            // The map is the beginning of the content: decimal numbers, a line each, filled to a block.
            let mut text = Vec::new();
            let mut count = None;
            while count.is_none_or(|n: u64| (numbers.len() as u64) < n * 2) {
                let mut block = [0; BLOCK];
                let mut have = 0;
                while have < BLOCK {
                    match self.read(&mut block[have..])? {
                        0 => return Err(bad("its map of a sparse file is truncated")),
                        n => have += n,
                    }
                }
                text.extend_from_slice(&block);
                while let Some(end) = text.iter().position(|b| *b == b'\n') {
                    if count.is_some_and(|n| numbers.len() as u64 == n * 2) {
                        break;
                    }
                    let number = decimal(&text[..end])?;
                    text.drain(..=end);
                    match count {
                        None if number > MOST_PIECES as u64 => return Err(bad("its map is too long")),
                        None => count = Some(number),
                        Some(_) => numbers.push(number),
                    }
                }
            }
        } else if let Some(map) = value("map") {
            for number in map.split(|b| *b == b',').filter(|n| !n.is_empty()) {
                numbers.push(decimal(number)?);
            }
        } else {
            for (_, v) in sparse.iter().filter(|(k, _)| k == b"offset" || k == b"numbytes") {
                numbers.push(decimal(v)?);
            }
        }
        let pieces = numbers.chunks_exact(2).map(|p| (p[0], p[1])).collect();
        entry.size = size;
        entry.pieces = Some(self.checked(pieces, size)?);
        Ok(())
    }

    /// Pieces follow each other, end before the file does, and are what the archive has.
    fn checked(&self, pieces: Vec<(u64, u64)>, size: u64) -> Result<Vec<(u64, u64)>> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &pieces {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| bad("its map of a sparse file is invalid"))?;
            sum += length;
        }
        if sum != self.left || size > MOST_BYTES {
            return Err(bad("its map of a sparse file does not fit its content"));
        }
        Ok(pieces)
    }
}

fn read_some(from: &mut impl Read, buf: &mut [u8]) -> Result<usize> {
    loop {
        match from.read(buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if e.raw_os_error().is_some() => return Err(Error::sys("reading the archive", e)),
            Err(e) => return Err(bad(format!("reading the archive: {e}"))),
            Ok(n) => return Ok(n),
        }
    }
}

fn number(field: std::io::Result<u64>, what: &str) -> Result<u64> {
    field.map_err(|_| bad(format!("the archive is damaged: the {what} in a header is not a number")))
}

fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn until_nul(text: &[u8]) -> Vec<u8> {
    text.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// The sum of the header's bytes with the field itself as blanks.
fn check_sum(header: &Header) -> Result<()> {
    let bytes = header.as_bytes();
    let sum: u32 =
        bytes.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) }).sum();
    match header.cksum() {
        Ok(own) if own == sum => Ok(()),
        _ => Err(bad("it is not a tar archive, or is damaged: the checksum of a header is wrong")),
    }
}

fn node(kind: EntryType) -> Result<Node> {
    Ok(match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Node::File,
        EntryType::Directory => Node::Directory,
        EntryType::Symlink => Node::Symlink,
        EntryType::Link => Node::HardLink,
        EntryType::Char => Node::Character,
        EntryType::Block => Node::Block,
        EntryType::Fifo => Node::Fifo,
        other => return Err(bad(format!("its type {:?} is unknown", char::from(other.as_byte())))),
    })
}

/// Reads records `LENGTH KEY=VALUE\n`. A value may have any byte, so the length decides.
fn pax(mut text: &[u8], extended: &mut Extended) -> Result<()> {
    let broken = || bad("the archive is damaged: an extended header is invalid");
    while !text.is_empty() && text[0] != 0 {
        let blank = text.iter().position(|b| *b == b' ').ok_or_else(broken)?;
        let length = decimal(&text[..blank]).and_then(|n| usize::try_from(n).ok()).ok_or_else(broken)?;
        if length <= blank + 1 || length > text.len() || text[length - 1] != b'\n' {
            return Err(broken());
        }
        let record = &text[blank + 1..length - 1];
        text = &text[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let name = || -> Result<Option<Vec<u8>>> {
            if value.contains(&0) {
                Err(bad("a name in an extended header contains a null byte"))
            } else {
                Ok(Some(value.to_vec()))
            }
        };
        match key {
            b"path" => extended.path = name()?,
            b"linkpath" => extended.link = name()?,
            b"size" => extended.size = Some(decimal(value).ok_or_else(broken)?),
            b"uid" => extended.uid = Some(decimal(value).ok_or_else(broken)?),
            b"gid" => extended.gid = Some(decimal(value).ok_or_else(broken)?),
            b"mtime" => extended.mtime = Some(time(value).ok_or_else(broken)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    extended.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    extended.sparse.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// `SECONDS[.FRACTION]`, which may be negative.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    // Before 1970 the fraction counts the other way.
    Some(match (whole.starts_with('-'), nanos) {
        (true, n) if n > 0 => (seconds.checked_sub(1)?, 1_000_000_000 - n),
        (_, n) => (seconds, n),
    })
}

#[cfg(test)]
mod tests;
