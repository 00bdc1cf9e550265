//! The frames of an exec connection after its upgrade: one byte for the kind, four for the length (big endian), and
//! the payload.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The name in the `Upgrade` header.
pub const PROTOCOL: &str = "orun-exec/1";

/// A payload is not longer.
const LONGEST: usize = 1 << 20;

/// The messages of an exec connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Client to server: bytes for standard input; none of them end it.
    Stdin(Vec<u8>),
    /// Server to client.
    Stdout(Vec<u8>),
    /// Server to client; a terminal has no second output.
    Stderr(Vec<u8>),
    /// Server to client, the last one: the exit code (128 + signal for a killed process).
    Exit(u8),
    /// Server to client, the last one: the process could not be run, in words.
    Error(String),
    /// Client to server: rows and columns of the terminal.
    Resize(u16, u16),
    /// Client to server: the number of a signal for the process.
    Signal(u8),
}

impl Frame {
    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            Frame::Stdin(bytes) => (0, bytes.clone()),
            Frame::Stdout(bytes) => (1, bytes.clone()),
            Frame::Stderr(bytes) => (2, bytes.clone()),
            Frame::Exit(code) => (3, vec![*code]),
            Frame::Error(text) => (4, text.clone().into_bytes()),
            Frame::Resize(rows, columns) => (5, [rows.to_be_bytes(), columns.to_be_bytes()].concat()),
            Frame::Signal(number) => (6, vec![*number]),
        }
    }

    fn new(kind: u8, payload: Vec<u8>) -> Option<Frame> {
        Some(match (kind, &payload[..]) {
            (0, _) => Frame::Stdin(payload),
            (1, _) => Frame::Stdout(payload),
            (2, _) => Frame::Stderr(payload),
            (3, [code]) => Frame::Exit(*code),
            (4, _) => Frame::Error(String::from_utf8_lossy(&payload).into_owned()),
            (5, [a, b, c, d]) => Frame::Resize(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
            (6, [number]) => Frame::Signal(*number),
            _ => return None,
        })
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// The connection's.
    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (kind, payload) = self.parts();
        let mut bytes = vec![kind];
        bytes.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(payload);
        to.write_all(&bytes).await?;
        to.flush().await
    }

    /// Reads a frame; `None` at the end of the connection.
    ///
    /// # Errors
    /// That of the connection, or an invalid frame.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
        let mut head = [0; 5];
        match from.read_exact(&mut head).await {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            r => r?,
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not a frame of this protocol");
        if length > LONGEST {
            return Err(bad());
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        Frame::new(head[0], payload).map(Some).ok_or_else(bad)
    }
}

/// The frames of an exec connection: what was read is written as it came.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async {
        let mut from = data;
        let mut rest = data;
        while let Ok(Some(frame)) = Frame::read(&mut from).await {
            let (came, behind) = rest.split_at(rest.len() - from.len());
            rest = behind;
            let mut again = Vec::new();
            frame.write(&mut again).await.expect("a vector takes everything");
            // Text that is not UTF-8 is replaced.
            assert!(again == came || matches!(frame, Frame::Error(_)));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let frames = [
            Frame::Stdin(b"x\0y".to_vec()),
            Frame::Stdin(Vec::new()),
            Frame::Stdout(vec![0; 70_000]),
            Frame::Stderr(b"e".to_vec()),
            Frame::Exit(137),
            Frame::Error("no".to_owned()),
            Frame::Resize(24, 300),
            Frame::Signal(15),
        ];
        block(async {
            let mut bytes = Vec::new();
            for frame in &frames {
                frame.write(&mut bytes).await.unwrap();
            }
            let mut from = &bytes[..];
            for frame in &frames {
                assert_eq!(Frame::read(&mut from).await.unwrap().as_ref(), Some(frame));
            }
            assert_eq!(Frame::read(&mut from).await.unwrap(), None);
        });
    }

    #[test]
    fn garbage_is_refused_without_being_stored() {
        block(async {
            for garbage in [&[0, 255, 255, 255, 255, 1][..], &[9, 0, 0, 0, 0], &[3, 0, 0, 0, 2, 1, 1]] {
                let mut from = garbage;
                assert!(Frame::read(&mut from).await.is_err(), "{garbage:?}");
            }
            // Cut off within a frame.
            assert!(Frame::read(&mut &[0, 0, 0, 0, 5, 1][..]).await.is_err());
        });
    }
}
