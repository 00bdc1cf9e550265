//! Streams of images: digests on the way, and decompression by what the content begins with.

use crate::error::{Error, Kind, Result};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read};

/// Bytes that are read at a time.
const BUFFER: usize = 128 << 10;
/// The largest window of zstd that is taken, as a power of two: 128 MiB, what `zstd --ultra` writes.
const ZSTD_WINDOW: u32 = 27;

/// `sha256:` and the digest in hexadecimal digits.
pub fn digest(hash: Sha256) -> String {
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The digest of `bytes`.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    digest(hash)
}

/// A reader that computes the digest and the length of what passes, and ends with an error behind `most` bytes.
pub struct Hashing<R> {
    from: R,
    hash: Sha256,
    pub length: u64,
    pub most: u64,
}

impl<R: Read> Hashing<R> {
    pub fn new(from: R, most: u64) -> Hashing<R> {
        Hashing { from, hash: Sha256::new(), length: 0, most }
    }

    /// The digest of all that was read, and the reader below.
    pub fn finish(self) -> (String, R) {
        (digest(self.hash), self.from)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.hash.update(&buf[..n]);
        self.length += n as u64;
        if self.length > self.most {
            return Err(io::Error::other(format!("it exceeds the limit of {} bytes", self.most)));
        }
        Ok(n)
    }
}

/// Compression of a blob.
pub enum Unpacked<R: Read> {
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
    Plain(BufReader<R>),
}

impl<R: Read> Unpacked<R> {
    /// # Errors
    /// The stream cannot be read.
    pub fn new(from: R) -> Result<Unpacked<R>> {
        let mut from = BufReader::with_capacity(BUFFER, from);
        let start = from.fill_buf().map_err(|e| Error::sys("reading the content", e))?;
        Ok(match start {
            [0x1f, 0x8b, ..] => Unpacked::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(from))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let fail = |e| Error::sys("preparing to decompress zstd", e);
                let mut zstd = zstd::stream::read::Decoder::with_buffer(from).map_err(fail)?;
                zstd.window_log_max(ZSTD_WINDOW).map_err(fail)?;
                Unpacked::Zstd(Box::new(zstd))
            }
            [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                let what = "it is compressed with bzip2 or xz, which images do not use";
                return Err(Error::new(Kind::Unsupported, what).hint("compress it with gzip or zstd"));
            }
            _ => Unpacked::Plain(from),
        })
    }

    /// The reader below.
    pub fn into_inner(self) -> R {
        match self {
            Unpacked::Gzip(d) => d.into_inner().into_inner(),
            Unpacked::Zstd(d) => d.finish().into_inner(),
            Unpacked::Plain(d) => d.into_inner(),
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Unpacked::Gzip(d) => d.read(buf),
            Unpacked::Zstd(d) => d.read(buf),
            Unpacked::Plain(d) => d.read(buf),
        }
    }
}
