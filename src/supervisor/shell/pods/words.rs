//! The last words of containers: a file of each, which its program writes and people read.
//!
//! `DATA/pods/REPLICA/words/ID`, beside the volumes on disk: what a container writes there is as little limited as what it writes
//! to an emptyDir.

use super::{Directories, Pod, directory};
use crate::error::{Error, Result};
use crate::supervisor::core::ids::ReplicaKey;
use crate::supervisor::shell::logs::{Stream, format};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a message, from the end of the file; Kubernetes' number.
const MESSAGE: u64 = 4096;
/// Bytes and lines of one that is taken from the log; Kubernetes' numbers.
const FROM_LOG: usize = 2048;
const LINES: usize = 80;

/// Where the file of the container `id` is.
pub fn place(pod: &Pod, id: &str) -> PathBuf {
    pod.disk.join("words").join(id)
}

/// Makes the file of the container `id`, which any of its users may write to.
///
/// # Errors
/// It cannot be made.
pub fn make(pod: &Pod, id: &str) -> Result<()> {
    let at = place(pod, id);
    let fail = |e| Error::sys(format!("making {at:?}"), e);
    directory(&pod.disk.join("words"), 0o700)?;
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&at).map_err(fail)?;
    file.set_permissions(fs::Permissions::from_mode(0o666)).map_err(fail)
}

/// The termination message of the container `id`. None: it has none.
pub fn read(dirs: &Directories, replica: ReplicaKey, id: &str) -> Option<String> {
    let [disk, _] = dirs.directories(replica);
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).clone();
    text(&end(options.open(disk.join("words").join(id)).ok()?, MESSAGE)?)
}

/// Removes the file of the container `id`.
pub fn remove(dirs: &Directories, replica: ReplicaKey, id: &str) {
    let [disk, _] = dirs.directories(replica);
    // It goes with the pod in any case.
    let _ = fs::remove_file(disk.join("words").join(id));
}

/// The end of what is in the log file `log` of a run.
pub fn of_log(log: &Path) -> Option<String> {
    // Each line of a log has its time, its stream and a tag before it.
    let bytes = end(File::open(log).ok()?, 4 * MESSAGE)?;
    let lines = bytes.split(|b| *b == b'\n').filter_map(format::decode);
    let mut all: Vec<String> = lines
        .filter(|l| Stream::ALL.contains(&l.stream))
        .map(|l| String::from_utf8_lossy(l.text).into_owned())
        .collect();
    all.drain(..all.len().saturating_sub(LINES));
    let whole = all.join("\n");
    let mut from = whole.len().saturating_sub(FROM_LOG);
    while !whole.is_char_boundary(from) {
        from += 1;
    }
    text(&whole.as_bytes()[from..])
}

fn end(mut file: File, most: u64) -> Option<Vec<u8>> {
    let len = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(most))).ok()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).trim_end_matches(['\n', '\0']).to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_that_of_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let mut bytes = Vec::new();
        for n in 0..100 {
            format::encode(&mut bytes, &format::now(), Stream::Stderr, format!("line {n}\n").as_bytes());
        }
        fs::write(&log, &bytes).unwrap();
        let words = of_log(&log).unwrap();
        assert!(words.starts_with("line 20\n") && words.ends_with("\nline 99"), "{words}");
        fs::write(&log, "").unwrap();
        assert_eq!(of_log(&log), None);
        assert_eq!(of_log(&dir.path().join("none")), None);
    }

    #[test]
    fn only_the_end_of_a_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Directories { disk: dir.path().into(), memory: dir.path().into() };
        let key: ReplicaKey = "w1.s0.r1".parse().unwrap();
        let words = dir.path().join("pods/w1.s0.r1/words");
        fs::create_dir_all(&words).unwrap();
        fs::write(words.join("a"), format!("{}the end\n", "x".repeat(10_000))).unwrap();
        let found = read(&dirs, key, "a").unwrap();
        assert_eq!(found.len() as u64, MESSAGE - 1);
        assert!(found.ends_with("xthe end"), "{found}");
        std::os::unix::fs::symlink("/etc/passwd", words.join("link")).unwrap();
        assert_eq!(read(&dirs, key, "link"), None);
        remove(&dirs, key, "a");
        assert_eq!(read(&dirs, key, "a"), None);
    }
}
