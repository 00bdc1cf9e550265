//! Removing what nobody needs: by hand at once, by the daemon after a time.
//!
//! Images are only looked at under the lock of all; directories that go are moved to tmp/ there and emptied after it, so
//! that nobody who starts a container waits for a disk.

use super::{Lock, Named, Store, hex, now, remove_tree};
use crate::error::{Error, Kind, Result};
use crate::image::manifest::Document;
use crate::image::reference::is_digest;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A file in the directory of a layer: since its time nobody has needed the layer.
const UNUSED: &str = "unused";
/// The share of a disk, in percent, from which on unused images go at once.
const FULL: u64 = 85;
/// The next number of a directory that goes.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Removed objects.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// Names that were removed.
    pub names: Vec<String>,
    /// How many layers were removed.
    pub layers: u64,
    /// How many bytes that freed.
    pub bytes: u64,
    /// Objects that could not be removed.
    pub failed: Vec<Error>,
}

impl Store {
    /// Removes names, and then everything that no name, no pin and no holder needs. What was removed, in bytes of files, and
    /// how many layers, and what could not be.
    ///
    /// # Errors
    /// The users of images are unknown. Then only names are removed.
    pub fn sweep(&self, gone: &dyn Fn(&str, &Named) -> bool) -> Result<Swept> {
        let lock = self.removing()?;
        let mut swept = Swept::default();
        self.change_names(|n| {
            let before = n.names.len();
            n.names.retain(|name, named| {
                let goes = gone(name, named);
                if goes {
                    swept.names.push(name.clone());
                }
                !goes
            });
            before != n.names.len()
        })?;
        self.remove_unneeded(lock, Duration::ZERO, swept)
    }

    /// As [`Self::sweep`], for what has not been needed for as long as `age`, names included that were only made for workloads. On
    /// a disk that is nearly full the age does not matter. Nothing is removed while images are being added.
    ///
    /// # Errors
    /// As those of [`Self::sweep`].
    pub fn collect(&self, age: Duration) -> Result<Swept> {
        let Some(lock) = self.lock("all", true, &|| true)? else { return Ok(Swept::default()) };
        let (all, free) = self.space()?;
        let is_full = all.saturating_sub(free).saturating_mul(100) >= all.saturating_mul(FULL);
        let age = if is_full { Duration::ZERO } else { age };
        let mut swept = Swept::default();
        self.change_names(|n| {
            let (pins, mut changed) = (&n.pins, false);
            n.names.retain(|name, named| {
                if !named.automatic {
                    return true;
                }
                let used = pins.values().any(|p| p.digest == named.digest) || self.is_held(&named.digest);
                let since = match (used, named.unused) {
                    (true, _) => 0,
                    (false, 0) => now(),
                    (false, since) => since,
                };
                changed |= since != named.unused;
                named.unused = since;
                let goes = !used && now().saturating_sub(since) >= age.as_secs();
                if goes {
                    changed = true;
                    swept.names.push(name.clone());
                }
                !goes
            });
            changed
        })?;
        self.remove_unneeded(lock, age, swept)
    }

    fn remove_unneeded(&self, lock: Lock, age: Duration, mut swept: Swept) -> Result<Swept> {
        let (blobs, layers) = self.needed()?;
        let mut gone = Vec::new();
        for name in self.files("layers")? {
            let id = format!("sha256:{name}");
            let dir = self.root.join("layers").join(&name);
            if layers.contains(&id) {
                // Mostly there is none.
                let _ = fs::remove_file(dir.join(UNUSED));
            } else if is_old(&dir, age) {
                let bytes = self.figures(&id).map_or(0, |l| l.bytes);
                // Not a layer from here on: a kill in between leaves nothing that looks complete.
                let _ = fs::remove_file(dir.join("layer.json"));
                match self.set_aside(&dir) {
                    Ok(aside) => gone.push((aside, bytes)),
                    Err(e) => swept.failed.push(e),
                }
            }
        }
        for name in self.files("blobs/sha256")? {
            let path = self.root.join("blobs/sha256").join(&name);
            let meta = fs::metadata(&path);
            // Parts are for another attempt, documents mean nothing without their layers.
            let old = !name.ends_with(".part")
                || meta
                    .as_ref()
                    .is_ok_and(|m| m.modified().is_ok_and(|t| t.elapsed().is_ok_and(|e| e >= age)));
            if !blobs.contains(&format!("sha256:{name}")) && (old || age.is_zero()) {
                match fs::remove_file(&path) {
                    Ok(()) => swept.bytes += meta.map_or(0, |m| m.len()),
                    Err(e) => swept.failed.push(Error::sys(format!("removing {path:?}"), e)),
                }
            }
        }
        let left = self.clear_tmp(&mut swept)?;
        drop(lock);
        for (dir, bytes) in gone {
            match remove_tree(&dir) {
                Ok(()) => {
                    swept.layers += 1;
                    swept.bytes += bytes;
                }
                Err(e) => swept.failed.push(e),
            }
        }
        swept.failed.extend(left.iter().filter_map(|dir| remove_tree(dir).err()));
        Ok(swept)
    }

    /// Takes away what processes that were killed have left in tmp/: files at once; directories, which are the caller's to remove, are
    /// set aside.
    fn clear_tmp(&self, swept: &mut Swept) -> Result<Vec<PathBuf>> {
        // Nobody adds images now, but others change names, through a file in there.
        let _names = self.patient("names", true, "the names of images are locked")?;
        let mut left = Vec::new();
        for name in self.files("tmp")? {
            let path = self.root.join("tmp").join(name);
            match path.is_dir() {
                true => match self.set_aside(&path) {
                    Ok(aside) => left.push(aside),
                    Err(e) => swept.failed.push(e),
                },
                false => {
                    let removed = fs::remove_file(&path);
                    let failed = removed.map_err(|e| Error::sys(format!("removing {path:?}"), e)).err();
                    swept.failed.extend(failed);
                }
            }
        }
        Ok(left)
    }

    /// Moves a directory to where nobody looks for it.
    fn set_aside(&self, dir: &Path) -> Result<PathBuf> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let aside = self.root.join("tmp").join(format!("gone-{}-{}-{number}", std::process::id(), now()));
        fs::rename(dir, &aside).map_err(|e| Error::sys(format!("removing {dir:?}"), e))?;
        Ok(aside)
    }

    /// Digests of the documents and of the layers that are in use. What is unknown of an image in use is an error: its layers
    /// may be the root of a container.
    fn needed(&self) -> Result<(Vec<String>, Vec<String>)> {
        let names = self.names()?;
        let held = self.files("blobs/sha256")?.into_iter().map(|f| format!("sha256:{f}"));
        let held = held.filter(|d| is_digest(d) && self.is_held(d)).map(|d| (d.clone(), d, true));
        let named = names.names.iter().map(|(name, n)| (n.digest.clone(), name.clone(), false));
        let pinned = names.pins.values().map(|n| (n.digest.clone(), n.image.clone(), true));
        let (mut blobs, mut layers) = (Vec::new(), Vec::new());
        for (digest, image, in_use) in named.chain(pinned).chain(held) {
            let hint = match is_digest(&image) {
                true => "no layer was removed: stop all users of the image first".to_owned(),
                false => format!("no layer was removed: \"orund image pull {image}\" repairs the image"),
            };
            let of = |e: Error| {
                e.context(format!("looking for the layers of image {image:?} ({digest})")).hint(hint.clone())
            };
            match self.documents(&digest).map_err(of)? {
                Some((_, configuration)) => layers.extend(configuration.rootfs.diff_ids),
                None if in_use => {
                    let what = "its manifest or configuration is missing or damaged";
                    return Err(of(Error::new(Kind::State, what)));
                }
                // Only a name: the image is pulled again before it can be used.
                None => {}
            }
            if let Some(bytes) = self.blob(&digest)?
                && let Ok(Document::Manifest(m)) = Document::parse(&bytes, "manifest")
            {
                blobs.push(m.config.digest);
            }
            blobs.push(digest);
        }
        Ok((blobs, layers))
    }

    /// Whether a process uses the image now.
    pub fn is_held(&self, digest: &str) -> bool {
        let name = hex(digest).map(|hex| format!("manifest-{hex}"));
        !matches!(name.and_then(|name| self.lock(&name, true, &|| true)), Ok(Some(_)))
    }
}

/// Whether nobody has needed the layer in `dir` for as long as `age`. The first look begins that time.
fn is_old(dir: &Path, age: Duration) -> bool {
    let mark = dir.join(UNUSED);
    match fs::metadata(&mark).and_then(|m| m.modified()) {
        _ if age.is_zero() => true,
        Ok(since) => since.elapsed().is_ok_and(|e| e >= age),
        Err(_) => {
            // On a disk that takes no file it is looked at again later.
            drop(File::create(&mark));
            false
        }
    }
}
