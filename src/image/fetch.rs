//! Bringing an image to the store: `orund image-fetch`, a child that reads what comes from outside and has each layer unpacked by
//! a child of its own.

use super::child::{self, Answer};
use super::configuration::Configuration;
use super::local::{Files, Found};
use super::reference::Reference;
use super::store::Store;
use crate::error::{Error, Kind, Result};
use crate::sys::prctl;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The hidden verb.
pub const VERB: &str = "image-fetch";
/// How long an image may take.
const DEADLINE: Duration = Duration::from_secs(4 * 3600);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The digest of the manifest.
    pub digest: String,
}

/// Brings the image `reference` to `store` and gives it its name there.
///
/// # Errors
/// It cannot be had. The store is as it was, but for layers that are complete.
pub fn fetch(
    program: &Path,
    store: &Store,
    reference: &str,
    cancelled: &dyn Fn() -> bool,
) -> Result<Fetched> {
    let mut command = Command::new(program);
    command.arg(VERB).arg(store.root()).arg(reference).stdin(Stdio::null());
    child::run(command, "fetching the image", DEADLINE, cancelled)
}

/// As [`fetch`], of an archive that `stdin` has, of the kind that `reference` says.
pub fn load(program: &Path, store: &Store, reference: &str, stdin: Stdio) -> Result<Fetched> {
    let mut command = Command::new(program);
    command.arg(VERB).arg(store.root()).arg(reference).arg("-").stdin(stdin);
    child::run(command, "loading the image", DEADLINE, &|| false)
}

/// `orund image-fetch STORE REFERENCE [-]`.
///
/// # Errors
/// The arguments are wrong, or nobody reads the answer.
pub fn main(program: &Path, words: &[OsString]) -> Result<u8> {
    let ([store, reference, rest @ ..], true) = (words, words.len() <= 3) else {
        return Err(Error::new(Kind::Usage, format!("{VERB} is for orund itself")));
    };
    let _ = prctl::set_name(c"orund-image");
    prctl::set_parent_death_signal(libc::SIGKILL)
        .map_err(|e| Error::sys("preparing to fetch an image", e))?;
    let done = Store::open(Path::new(store)).and_then(|store| {
        let reference = Reference::parse(&reference.to_string_lossy())?;
        bring(program, &store, &reference, !rest.is_empty())
    });
    let answered = Answer::of(done).write();
    answered.map(|()| 0).map_err(|e| Error::sys("writing the answer", e))
}

fn bring(program: &Path, store: &Store, reference: &Reference, stdin: bool) -> Result<Fetched> {
    let open = |path: &str| -> Result<std::fs::File> {
        if stdin {
            return OpenOptions::new()
                .read(true)
                .open("/proc/self/fd/0")
                .map_err(|e| Error::sys("opening standard input", e));
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = file.map_err(|e| Error::sys(format!("opening {path:?}"), e))?;
        match file.metadata().is_ok_and(|m| m.is_file()) {
            true => Ok(file),
            false => Err(Error::new(Kind::Config, format!("{path:?} is not a file"))),
        }
    };
    let tmp = store.root().join("tmp");
    let (files, found) = match reference {
        Reference::OciLayout { dir, tag } => {
            let files = Files::Directory(dir.into());
            let found = files.layout(tag.as_deref())?;
            (files, found)
        }
        Reference::OciArchive { file, tag } => {
            let files = Files::archive(open(file)?, &tmp)?;
            let found = files.layout(tag.as_deref())?;
            (files, found)
        }
        Reference::DockerArchive { file, tag } => {
            let files = Files::archive(open(file)?, &tmp)?;
            let found = files.docker(tag.as_deref())?;
            (files, found)
        }
        Reference::Bundle { .. } => return Err(Error::new(Kind::Config, "a bundle is not an image")),
        Reference::Registry(r) => {
            let what = format!("image {r} is not on this host, and registries are not supported yet");
            return Err(Error::new(Kind::Unsupported, what)
                .hint("oci:DIR, oci-archive:FILE and docker-archive:FILE are"));
        }
    };
    let digest = keep(program, store, &files, &found)?;
    store.set_name(&reference.to_string(), &digest)?;
    Ok(Fetched { digest })
}

/// Unpacks what is missing, then makes the image known.
fn keep(program: &Path, store: &Store, files: &Files, found: &Found) -> Result<String> {
    let _adding = store.adding()?;
    let configuration = Configuration::parse(&found.configuration, "the configuration of the image")?;
    let ids = &configuration.rootfs.diff_ids;
    if ids.len() != found.layers.len() || ids.is_empty() {
        let what = format!(
            "the image has {} layers, and {} diff IDs in its configuration",
            found.layers.len(),
            ids.len()
        );
        return Err(Error::new(Kind::Config, what));
    }
    let mut needed = 0;
    for (id, (name, _)) in ids.iter().zip(&found.layers) {
        if store.layer(id).is_none() {
            needed += files.open(name)?.length * 3;
        }
    }
    store.check_space(needed)?;
    for (n, (id, (name, digest))) in ids.iter().zip(&found.layers).enumerate() {
        let made = store.make_layer(program, id, digest.as_deref(), || files.open(name), &|| false);
        made.map_err(|e| e.context(format!("layer {} of {}", n + 1, ids.len())))?;
    }
    store.put(&found.configuration)?;
    store.put(&found.manifest)
}
