//! Images on this host.
//!
//! ```text
//! blobs/sha256/HEX      manifests and configurations; compressed layers only while they are pulled (HEX.part)
//! layers/HEX/fs         a layer, by the digest of its archive; layer.json has its figures
//! names.json            names to digests of manifests, and what revisions of workloads use
//! locks/, tmp/          one lock for each layer and manifest; what is not complete
//! ```
//! Everything is complete by a rename. Who makes a layer holds its lock, so that others wait for it and what a killed process
//! left is cleared. Whoever adds images holds the lock of all shared, whoever removes some holds it alone.

mod sweep;

use super::child;
use super::configuration::Configuration;
use super::manifest::{Descriptor, Document, LONGEST_CONFIGURATION, LONGEST_MANIFEST};
use super::reference::is_digest;
use super::stream::digest_of;
use super::unpack::{self, Blob, Budget, Layer};
use crate::error::{Error, Kind, Result};
use crate::sys::{file, tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use sweep::Swept;

/// How often a lock is tried.
const TURN: Duration = Duration::from_millis(20);
/// How long anybody waits for the lock of all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where images are kept.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// The file names.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Names {
    /// The version of the format.
    pub format: u32,
    /// By the complete name of an image.
    pub names: BTreeMap<String, Named>,
    /// By revision and container of a workload, `WORKLOAD.REVISION.CONTAINER`: resolved once.
    pub pins: BTreeMap<String, Named>,
}

/// The image of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Named {
    /// The digest of the manifest.
    pub digest: String,
    /// The name that the pin was resolved from; empty for a name.
    pub image: String,
    /// When, seconds since 1970.
    pub at: u64,
    /// A workload has had the image pulled, and nobody else has named it: it goes when no workload uses it.
    #[serde(skip_serializing_if = "is_false")]
    pub automatic: bool,
    /// Since when no workload has used it, seconds since 1970; 0 while one does.
    #[serde(skip_serializing_if = "is_zero")]
    pub unused: u64,
}

/// An image that is complete on this host.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: String,
    /// Its configuration (image-spec, config.md).
    pub configuration: Configuration,
    /// Directories, the topmost first.
    pub layers: Vec<PathBuf>,
    /// The directory whose owner and permissions the root has.
    pub root: PathBuf,
    /// Digests of the layers, the lowest first.
    pub diff_ids: Vec<String>,
}

/// A layer to make.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The program that unpacks it.
    pub program: &'a Path,
    /// The digest of its archive.
    pub diff_id: &'a str,
    /// That of its compressed bytes, where they have one.
    pub digest: Option<&'a str>,
    /// That of its image.
    pub budget: &'a Budget,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn hex(digest: &str) -> Result<&str> {
    match digest.strip_prefix("sha256:").filter(|_| is_digest(digest)) {
        Some(hex) => Ok(hex),
        None => Err(Error::new(Kind::Config, format!("{digest:?} is not a digest by SHA-256"))),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Removes a directory with all that is in it, if it exists.
pub fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::sys(format!("removing {dir:?}"), e)),
        _ => Ok(()),
    }
}

impl Store {
    /// The store in `root`, which is made when it is missing. Nobody but its owner gets in: layers have set-user-id programs of
    /// any age.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(root: &Path) -> Result<Store> {
        for dir in ["blobs/sha256", "layers", "locks", "tmp", "bundle/rootfs"] {
            let dir = root.join(dir);
            if !dir.is_dir() {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
                made.map_err(|e| Error::sys(format!("making the directory {dir:?}"), e))?;
            }
        }
        // Roots of images that do not say otherwise are as this one, and every user of a container must get into them.
        let like = root.join("bundle/rootfs");
        let fail = |e| Error::sys(format!("setting the permissions of {like:?}"), e);
        let found = fs::metadata(&like).map_err(fail)?.permissions();
        // A store on a read-only file system can be read.
        if found.mode() & 0o7777 != 0o755 {
            fs::set_permissions(&like, fs::Permissions::from_mode(0o755)).map_err(fail)?;
        }
        Ok(Store { root: root.to_owned() })
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A bundle with an empty root file system, for containers whose root is made of layers.
    pub fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }

    fn blob_path(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.root.join("blobs/sha256").join(hex(digest)?))
    }

    fn layer_path(&self, diff_id: &str) -> Result<PathBuf> {
        Ok(self.root.join("layers").join(hex(diff_id)?))
    }

    /// Where a blob is kept while it is pulled.
    pub fn part(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.root.join("blobs/sha256").join(format!("{}.part", hex(digest)?)))
    }

    fn lock(&self, name: &str, exclusive: bool, cancelled: &dyn Fn() -> bool) -> Result<Option<Lock>> {
        let path = self.root.join("locks").join(name);
        let fail = |e| Error::sys(format!("locking {path:?}"), e);
        let open = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = open.map_err(|e| Error::sys(format!("opening {path:?}"), e))?;
        let kind = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
        loop {
            match file::flock(file.as_raw_fd(), kind | libc::LOCK_NB) {
                Ok(()) => return Ok(Some(Lock { _file: file })),
                Err(e) if e.0 != libc::EWOULDBLOCK => return Err(fail(e)),
                Err(_) if cancelled() => return Ok(None),
                Err(_) => std::thread::sleep(TURN),
            }
        }
    }

    /// Held by whoever adds an image or is about to use one: nothing is removed meanwhile.
    ///
    /// # Errors
    /// Somebody removes images for too long.
    pub fn adding(&self) -> Result<Lock> {
        self.patient("all", false, "images are being removed")
    }

    /// Held by whoever removes images.
    ///
    /// # Errors
    /// Images are being pulled, and do not come to an end.
    pub fn removing(&self) -> Result<Lock> {
        self.patient("all", true, "images are being pulled")
    }

    fn patient(&self, name: &str, exclusive: bool, why: &str) -> Result<Lock> {
        let begun = std::time::Instant::now();
        let lock = self.lock(name, exclusive, &|| begun.elapsed() > PATIENCE)?;
        lock.ok_or_else(|| {
            Error::new(Kind::Timeout, format!("{why}, still after {} seconds", PATIENCE.as_secs()))
        })
    }

    /// Marks the image as used until the lock is dropped.
    ///
    /// # Errors
    /// The lock cannot be had.
    pub fn lock_image(&self, digest: &str) -> Result<Lock> {
        self.patient(&format!("manifest-{}", hex(digest)?), false, "the image is being removed")
    }

    /// A manifest or configuration, `None` when the store does not have it. Its digest is verified.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let path = self.blob_path(digest)?;
        let file = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            r => r.map_err(|e| Error::sys(format!("opening {path:?}"), e))?,
        };
        let mut bytes = Vec::new();
        let most = LONGEST_CONFIGURATION.max(LONGEST_MANIFEST);
        file.take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::sys(format!("reading {path:?}"), e))?;
        // Damaged layers are pulled again.
        Ok((digest_of(&bytes) == digest).then_some(bytes))
    }

    /// Keeps a manifest or configuration; its digest.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<String> {
        let digest = digest_of(bytes);
        self.replace(&self.blob_path(&digest)?, bytes)?;
        Ok(digest)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let fail = |e| Error::sys(format!("writing {path:?}"), e);
        let new =
            self.root.join("tmp").join(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(&new, path)
        };
        write().map_err(|e| {
            // The disk may be full: nothing is left behind.
            let _ = fs::remove_file(&new);
            fail(e)
        })
    }

    /// The names, as they are now.
    ///
    /// # Errors
    /// The file cannot be read, or is of a newer version.
    pub fn names(&self) -> Result<Names> {
        let path = self.root.join("names.json");
        let text = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Names { format: 1, ..Names::default() });
            }
            r => r.map_err(|e| Error::sys(format!("reading {path:?}"), e))?,
        };
        let names: Names = serde_json::from_slice(&text)
            .map_err(|e| Error::new(Kind::Config, format!("{path:?} is damaged: {e}")))?;
        if names.format != 1 {
            let what = format!("{path:?} has the format {} of a newer version", names.format);
            return Err(Error::new(Kind::Unsupported, what));
        }
        Ok(names)
    }

    /// Changes the names; whether `change` says that there is something to write.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn change_names(&self, change: impl FnOnce(&mut Names) -> bool) -> Result<()> {
        let _lock = self.patient("names", true, "the names of images are locked")?;
        let mut names = self.names()?;
        if !change(&mut names) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&names)
            .map_err(|e| Error::new(Kind::Config, format!("writing names of images: {e}")))?;
        self.replace(&self.root.join("names.json"), &text)
    }

    /// Gives the image `digest` a name; `automatic` is for names that are made for workloads.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_name(&self, name: &str, digest: &str, automatic: bool) -> Result<()> {
        self.change_names(|n| {
            let old = n.names.get(name);
            // A name that somebody has given stays theirs.
            let automatic = automatic && old.is_none_or(|old| old.automatic);
            if old.is_some_and(|old| old.digest == digest && old.automatic == automatic) {
                return false;
            }
            let named = Named { digest: digest.to_owned(), at: now(), automatic, ..Named::default() };
            n.names.insert(name.to_owned(), named);
            true
        })
    }

    /// The directory of a layer, when it is complete.
    pub fn layer(&self, diff_id: &str) -> Option<PathBuf> {
        let path = self.layer_path(diff_id).ok()?;
        path.join("layer.json").is_file().then(|| path.join("fs"))
    }

    /// The figures of a layer.
    ///
    /// # Errors
    /// It is not there.
    pub fn figures(&self, diff_id: &str) -> Result<Layer> {
        let path = self.layer_path(diff_id)?.join("layer.json");
        let text = fs::read(&path).map_err(|e| Error::sys(format!("reading {path:?}"), e))?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::new(Kind::Config, format!("{path:?} is damaged: {e}")))
    }

    /// Unpacks a layer, unless the store has it. `blob` opens its archive. Others who ask for the same layer meanwhile wait for it.
    ///
    /// # Errors
    /// The layer cannot be had. Nothing is left of it.
    pub fn make_layer(
        &self,
        wanted: &Wanted,
        blob: impl FnOnce() -> Result<Blob>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let diff_id = wanted.diff_id;
        let lock = self.lock(&format!("layer-{}", hex(diff_id)?), true, cancelled)?;
        if lock.is_none() {
            return Err(Error::new(Kind::State, "the pull was cancelled"));
        }
        if self.layer(diff_id).is_some() {
            return Ok(());
        }
        let new = self.root.join("tmp").join(format!("layer-{}", hex(diff_id)?));
        // Of a process that was killed.
        remove_tree(&new)?;
        let made = self.layer_in(wanted, &new, blob, cancelled);
        if made.is_err() {
            // The first error is the one to report.
            let _ = remove_tree(&new);
        }
        made
    }

    fn layer_in(
        &self,
        wanted: &Wanted,
        new: &Path,
        blob: impl FnOnce() -> Result<Blob>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let Wanted { program, diff_id, digest, budget } = *wanted;
        let fs_dir = new.join("fs");
        let fail = |e| Error::sys(format!("making the directory {fs_dir:?}"), e);
        fs::DirBuilder::new().mode(0o700).create(new).map_err(fail)?;
        fs::DirBuilder::new().mode(0o755).create(&fs_dir).map_err(fail)?;
        // The caller's umask may have taken something away.
        fs::set_permissions(&fs_dir, fs::Permissions::from_mode(0o755)).map_err(fail)?;
        let layer = unpack::unpack(program, blob()?, &fs_dir, budget.left(), cancelled)?;
        budget.take(layer.bytes)?;
        let wrong = |what: &str, is: &str, expected: &str| {
            Error::new(
                Kind::Config,
                format!("the layer is not what the image says: its {what} is {is} in place of {expected}"),
            )
            .hint("the image is damaged or was changed on its way")
        };
        if let Some(expected) = digest.filter(|d| **d != layer.digest) {
            return Err(wrong("digest", &layer.digest, expected));
        }
        if layer.diff_id != diff_id {
            return Err(wrong("diff ID", &layer.diff_id, diff_id));
        }
        let text = serde_json::to_vec(&layer)
            .map_err(|e| Error::new(Kind::Config, format!("writing the figures of a layer: {e}")))?;
        let fail = |e| Error::sys(format!("completing the layer {diff_id}"), e);
        fs::write(new.join("layer.json"), text).map_err(fail)?;
        let dir = File::open(new).map_err(fail)?;
        tree::syncfs(dir.as_raw_fd())
            .map_err(|e| Error::sys(format!("writing the layer {diff_id} to the disk"), e))?;
        let at = self.layer_path(diff_id)?;
        // A directory without layer.json is not a layer.
        remove_tree(&at)?;
        fs::rename(new, &at).map_err(fail)
    }

    /// The image with that manifest, `None` when something of it is missing.
    ///
    /// # Errors
    /// It cannot be read, or is not an image.
    pub fn image(&self, digest: &str) -> Result<Option<Image>> {
        let Some((_, configuration)) = self.documents(digest)? else { return Ok(None) };
        let diff_ids = configuration.rootfs.diff_ids.clone();
        let found: Option<Vec<PathBuf>> = diff_ids.iter().rev().map(|id| self.layer(id)).collect();
        let Some(layers) = found else { return Ok(None) };
        let mut root = self.bundle().join("rootfs");
        for id in diff_ids.iter().rev() {
            if self.figures(id)?.has_root {
                root = self.layer_path(id)?.join("fs");
                break;
            }
        }
        Ok(Some(Image { digest: digest.to_owned(), configuration, layers, root, diff_ids }))
    }

    /// The layers that the manifest `digest` names, and its configuration.
    ///
    /// # Errors
    /// It cannot be read, or is not an image.
    pub fn documents(&self, digest: &str) -> Result<Option<(Vec<Descriptor>, Configuration)>> {
        let Some(bytes) = self.blob(digest)? else { return Ok(None) };
        let name = format!("manifest {digest}");
        let Document::Manifest(manifest) = Document::parse(&bytes, &name)? else {
            return Err(Error::new(Kind::Config, format!("{name} is an index")));
        };
        let Some(bytes) = self.blob(&manifest.config.digest)? else { return Ok(None) };
        let configuration =
            Configuration::parse(&bytes, &format!("configuration {}", manifest.config.digest))?;
        Ok(Some((manifest.layers, configuration)))
    }

    /// The names of what is in a directory of the store.
    pub fn files(&self, dir: &str) -> Result<Vec<String>> {
        let dir = self.root.join(dir);
        let list = fs::read_dir(&dir).map_err(|e| Error::sys(format!("reading {dir:?}"), e))?;
        Ok(list.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
    }

    /// Bytes of the file system of the store: all, and those that are free.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn space(&self) -> Result<(u64, u64)> {
        let path = std::ffi::CString::new(self.root.as_os_str().as_encoded_bytes());
        let path = path.map_err(|_| Error::new(Kind::Usage, "a path with a null byte"))?;
        tree::space(&path).map_err(|e| Error::sys(format!("looking at the space of {:?}", self.root), e))
    }

    /// Refuses what would fill the disk: `needed` bytes.
    ///
    /// # Errors
    /// [`Kind::State`], with the figures.
    pub fn check_space(&self, needed: u64) -> Result<()> {
        let (_, free) = self.space()?;
        if free < needed {
            let what = format!(
                "the image needs about {} MB in {:?}, which has {} MB left",
                needed / 1_000_000,
                self.root,
                free / 1_000_000
            );
            return Err(Error::new(Kind::State, what).hint(child::NO_SPACE));
        }
        Ok(())
    }
}
