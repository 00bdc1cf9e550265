//! Bringing an image to the store: `orund image-fetch`, a child that reads what comes from outside and has each layer unpacked by
//! a child of its own.

use super::child::{self, Answer};
use super::configuration::Configuration;
use super::local::{Files, LocalImage};
use super::manifest::Descriptor;
use super::progress::{Progress, Show};
use super::reference::{Reference, Remote};
use super::registry::{self, LoginSecret, Pulled, Registry};
use super::store::{Store, Wanted};
use super::unpack::Budget;
use crate::error::{Errno, Error, Kind, Result};
use crate::sys::{SysResult, cred, memfd, prctl};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The hidden verb.
pub const VERB: &str = "image-fetch";
/// How long an image may take.
const DEADLINE: Duration = Duration::from_secs(4 * 3600);

/// Layers that are downloaded at a time.
const AT_ONCE: usize = 3;

/// How much larger than compressed a layer is taken to be, when there is no other figure.
const UNPACKED: u64 = 3;

/// Capabilities of the child, for itself and for those that unpack layers: to make files of any kind and owner, to confine,
/// and to mark directories. CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETPCAP, CAP_SYS_ADMIN, CAP_MKNOD and
/// CAP_SETFCAP (capabilities(7)).
const CAPABILITIES: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << SETPCAP | 1 << 21 | 1 << 27 | 1 << 31;
const SETPCAP: u8 = 8;

/// On whose behalf an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Somebody who named it: it stays until it is removed.
    Person,
    /// A workload: it goes when none uses it any more.
    Workload,
}

/// The word behind a reference that a workload needs.
const WORKLOAD: &str = "workload";

/// Bytes of all secrets: one has at most a megabyte.
const LONGEST_SECRETS: u64 = 64 << 20;

/// The fetched image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The digest of the manifest.
    pub digest: String,
    /// The names that the store has it by.
    pub names: Vec<String>,
}

/// Brings the image `reference` to `store` and gives it its name there.
///
/// # Errors
/// It cannot be had. The store is as it was, but for layers that are complete.
pub fn fetch(
    program: &Path,
    store: &Store,
    reference: &str,
    whom: For,
    secrets: &[LoginSecret],
    cancelled: &dyn Fn() -> bool,
) -> Result<Fetched> {
    let mut command = Command::new(program);
    command.arg(VERB).arg(store.root()).arg(reference).stdin(secrets_file(secrets)?);
    if whom == For::Workload {
        command.arg(WORKLOAD).stderr(Stdio::null());
    }
    child::run(command, "fetching the image", DEADLINE, cancelled)
}

/// A file in memory with `secrets`: arguments can be read by everybody.
fn secrets_file(secrets: &[LoginSecret]) -> Result<Stdio> {
    if secrets.is_empty() {
        return Ok(Stdio::null());
    }
    let fail = |e| Error::sys("passing the secrets for an image", e);
    let memory = memfd::create(c"secrets").map_err(|e| Error::sys("passing the secrets for an image", e))?;
    let mut file = File::from(memory);
    let text = serde_json::to_vec(secrets).map_err(|e| fail(e.into()))?;
    file.write_all(&text).and_then(|()| file.rewind()).map_err(fail)?;
    Ok(file.into())
}

/// Reads the secrets that [`secrets_file`] wrote to standard input, if any.
fn read_secrets() -> Result<Vec<LoginSecret>> {
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(LONGEST_SECRETS).read_to_end(&mut text);
    read.map_err(|e| Error::sys("reading the secrets for an image", e))?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&text)
        .map_err(|e| Error::new(Kind::Config, format!("the secrets for an image are damaged: {e}")))
}

/// Loads the image of an archive that `stdin` has. Without a name it has those of the archive.
///
/// # Errors
/// It cannot be had, or has no name.
pub fn load(
    program: &Path,
    store: &Store,
    name: Option<&str>,
    tag: Option<&str>,
    stdin: Stdio,
) -> Result<Fetched> {
    let mut command = Command::new(program);
    command.arg(VERB).arg(store.root()).arg("-").arg(name.unwrap_or("")).arg(tag.unwrap_or("")).stdin(stdin);
    child::run(command, "loading the image", DEADLINE, &|| false)
}

/// `orund image-fetch STORE REFERENCE [workload]`, or `orund image-fetch STORE - NAME TAG` with an archive on standard input.
///
/// # Errors
/// The arguments are wrong, or nobody reads the answer.
pub fn main(program: &Path, words: &[OsString]) -> Result<u8> {
    let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let _ = prctl::set_name(c"orund-image");
    prctl::set_parent_death_signal(libc::SIGKILL)
        .map_err(|e| Error::sys("preparing to fetch an image", e))?;
    drop_capabilities().map_err(|e| Error::sys("dropping capabilities to fetch an image", e))?;
    let done = match words[..] {
        [store, "-", name, tag] => {
            Store::open(Path::new(store)).and_then(|store| from_stdin(program, &store, name, tag))
        }
        [store, reference] => Store::open(Path::new(store))
            .and_then(|store| bring(program, &store, &Reference::parse(reference)?, For::Person)),
        [store, reference, WORKLOAD] => Store::open(Path::new(store))
            .and_then(|store| bring(program, &store, &Reference::parse(reference)?, For::Workload)),
        _ => Err(Error::new(Kind::Usage, format!("{VERB} is for orund itself"))),
    };
    let answered = Answer::of(done).write();
    answered.map(|()| 0).map_err(|e| Error::sys("writing the answer", e))
}

/// Keeps [`CAPABILITIES`] of what the process has. It speaks to registries, and must not have more than it uses.
fn drop_capabilities() -> SysResult<()> {
    let has = cred::capget()?;
    if has.effective & 1 << SETPCAP != 0 {
        prctl::limit_bounding(CAPABILITIES)?;
    }
    let kept = has.permitted & CAPABILITIES;
    cred::capset(cred::CapSets { effective: kept, permitted: kept, inheritable: 0 })
}

fn from_stdin(program: &Path, store: &Store, name: &str, tag: &str) -> Result<Fetched> {
    let stdin = OpenOptions::new().read(true).open("/proc/self/fd/0");
    let stdin = stdin.map_err(|e| Error::sys("opening standard input", e))?;
    let files = Files::archive(stdin, &store.root().join("tmp"))?;
    let found = files.any(Some(tag).filter(|t| !t.is_empty()))?;
    let names: Vec<String> = match name {
        // A tag alone names nothing.
        "" => found.names.iter().filter(|n| n.contains(['/', ':'])).cloned().collect(),
        name => vec![name.to_owned()],
    };
    let names: Vec<String> =
        names.iter().map(|n| Reference::parse(n).map(|r| r.to_string())).collect::<Result<_>>()?;
    if names.is_empty() {
        return Err(
            Error::new(Kind::Config, "the image of the archive has no name").hint("give one with --name")
        );
    }
    let _adding = store.adding()?;
    let digest = keep(program, store, &files, &found)?;
    names.iter().try_for_each(|name| store.set_name(name, &digest, false))?;
    Ok(Fetched { digest, names })
}

fn open(path: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = file.map_err(|e| Error::sys(format!("opening {path:?}"), e))?;
    match file.metadata().is_ok_and(|m| m.is_file()) {
        true => Ok(file),
        false => Err(Error::new(Kind::Config, format!("{path:?} is not a file"))),
    }
}

fn bring(program: &Path, store: &Store, reference: &Reference, whom: For) -> Result<Fetched> {
    let tmp = store.root().join("tmp");
    let show = match whom {
        For::Person => Show::person(),
        For::Workload => Show::Nothing,
    };
    // Until the image has its name, which nobody removes it without.
    let _adding = store.adding()?;
    let digest = match reference {
        Reference::OciLayout { dir, tag } => {
            let files = Files::Directory(dir.into());
            keep(program, store, &files, &files.layout(tag.as_deref())?)?
        }
        Reference::OciArchive { file, tag } => {
            let files = Files::archive(open(file)?, &tmp)?;
            keep(program, store, &files, &files.layout(tag.as_deref())?)?
        }
        Reference::DockerArchive { file, tag } => {
            let files = Files::archive(open(file)?, &tmp)?;
            keep(program, store, &files, &files.docker(tag.as_deref())?)?
        }
        Reference::Bundle { .. } => return Err(Error::new(Kind::Config, "a bundle is not an image")),
        Reference::Registry(remote) => from_registry(program, store, remote, show)?,
    };
    let name = reference.to_string();
    store.set_name(&name, &digest, whom == For::Workload)?;
    Ok(Fetched { digest, names: vec![name] })
}

/// Asks the mirrors, then the registry itself.
fn from_registry(program: &Path, store: &Store, remote: &Remote, show: Show) -> Result<String> {
    let mut last = Error::new(Kind::NotFound, "the image has no registry");
    for registry in registry::sources(remote, &read_secrets()?)? {
        let pulled = registry.image(remote);
        match pulled.and_then(|pulled| keep_pulled(program, store, &registry, &pulled, show)) {
            Ok(digest) => return Ok(digest),
            // A full disk is not the mirror's fault.
            Err(e) if e.errno().is_some() => return Err(e),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Downloads and unpacks what is missing, up to three layers at a time. The caller has the lock of [`Store::adding`].
fn keep_pulled(
    program: &Path,
    store: &Store,
    registry: &Registry,
    pulled: &Pulled,
    show: Show,
) -> Result<String> {
    let configuration = Configuration::parse(&pulled.configuration, "the configuration of the image")?;
    let ids = configuration.rootfs.diff_ids;
    if ids.len() != pulled.layers.len() || ids.is_empty() {
        let what = format!(
            "the image has {} layers, and {} diff IDs in its configuration",
            pulled.layers.len(),
            ids.len()
        );
        return Err(Error::new(Kind::Config, what));
    }
    let mut missing: Vec<(usize, &String, &Descriptor)> = Vec::new();
    for (n, (id, layer)) in ids.iter().zip(&pulled.layers).enumerate() {
        if store.layer(id).is_none() && !missing.iter().any(|(_, other, _)| *other == id) {
            missing.push((n, id, layer));
        }
    }
    let size = missing.iter().map(|(_, _, l)| l.size).fold(0, u64::saturating_add);
    store.check_space(size.saturating_mul(UNPACKED + 1))?;
    let (budget, progress) = (Budget::of(size), Progress::new(show, missing.len(), size));
    let next = Mutex::new(missing.iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            let Some((n, id, layer)) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                return;
            };
            let made = store.part(&layer.digest).and_then(|part| {
                // Others may have filled the disk since.
                store.check_space(layer.size.saturating_mul(UNPACKED + 1))?;
                let digest = Some(layer.digest.as_str());
                let wanted = Wanted { program, diff_id: id, digest, budget: &budget };
                store.make_layer(&wanted, || registry.layer(layer, &part), &|| false)?;
                match std::fs::remove_file(&part) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        Err(Error::sys(format!("removing {part:?}"), e))
                    }
                    _ => Ok(()),
                }
            });
            if made.is_ok() {
                progress.layer(layer.size);
            }
            if let Err(e) = made {
                let e = e.context(format!("layer {} of {}", n + 1, ids.len()));
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE.min(missing.len())).map(|_| scope.spawn(work)).collect();
        let length = |l: &Descriptor| Some(std::fs::metadata(store.part(&l.digest).ok()?).ok()?.len());
        let parts = || missing.iter().filter_map(|(_, _, l)| length(l)).fold(0, u64::saturating_add);
        progress.follow(|| workers.iter().all(|w| w.is_finished()), parts);
    });
    if let Some(e) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if e.errno() == Some(Errno(libc::ENOSPC)) {
            drop_parts(store, &missing);
        }
        return Err(e);
    }
    store.put(&pulled.configuration)?;
    store.put(&pulled.manifest)
}

/// On a full disk nothing is kept for another attempt.
fn drop_parts(store: &Store, layers: &[(usize, &String, &Descriptor)]) {
    for part in layers.iter().filter_map(|(_, _, l)| store.part(&l.digest).ok()) {
        let _ = std::fs::remove_file(part);
    }
}

/// Unpacks what is missing, then makes the image known. The caller has the lock of [`Store::adding`].
fn keep(program: &Path, store: &Store, files: &Files, found: &LocalImage) -> Result<String> {
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
    let mut size = 0u64;
    for (id, (name, _)) in ids.iter().zip(&found.layers) {
        if store.layer(id).is_none() {
            size = size.saturating_add(files.open(name)?.length);
        }
    }
    store.check_space(size.saturating_mul(UNPACKED))?;
    let budget = Budget::of(size);
    for (n, (id, (name, digest))) in ids.iter().zip(&found.layers).enumerate() {
        let wanted = Wanted { program, diff_id: id, digest: digest.as_deref(), budget: &budget };
        let made = store.make_layer(&wanted, || files.open(name), &|| false);
        made.map_err(|e| e.context(format!("layer {} of {}", n + 1, ids.len())))?;
    }
    store.put(&found.configuration)?;
    store.put(&found.manifest)
}
