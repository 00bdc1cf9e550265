//! `orund image`: the store of images of this host, with and without a daemon.

use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::image::store::{Image, Named, Names, Store, Swept};
use crate::image::{bundle, fetch, rootfs};
use crate::log;
use crate::orund::client::table;
use crate::orund::rootless::{self, Use};
use crate::orund::{examples, places};
use crate::supervisor::core::spec::{ImageSource, PullPolicy};
use crate::supervisor::shell::images::{self, Access, Images};
use crate::supervisor::shell::program;
use crate::workload;
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

/// Pull, load, list and remove images
#[derive(Debug, Args)]
#[command(after_help = examples::IMAGE)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Directory of the image store [default: /var/lib/orund/images, or ~/.local/share/orund/images for a user]
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global options")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Pull images from registries, updating those that exist
    Pull {
        /// Names such as nginx:1.27, oci:DIR, oci-archive:FILE or docker-archive:FILE
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Load an image from an archive (docker save, podman save, an OCI archive)
    Load {
        /// Archive [default: standard input]
        #[arg(long, short, value_name = "FILE")]
        input: Option<PathBuf>,
        /// Name of the image [default: the one in the archive]
        #[arg(long)]
        name: Option<String>,
        /// Tag of the image to load from an archive with several images
        #[arg(long)]
        tag: Option<String>,
    },
    /// List the images of this host
    #[command(visible_alias = "list")]
    Ls,
    /// Print the names, layers and configuration of an image, as JSON
    Inspect {
        /// Name or digest
        name: String,
    },
    /// Remove image names, and layers that nothing else uses
    Rm {
        /// Names of images
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove layers that no image uses
    Prune {
        /// Also remove images that no workload uses
        #[arg(long, short)]
        all: bool,
    },
    /// Show the disk usage of images
    Df,
}

impl Arguments {
    /// Runs the verb.
    ///
    /// # Errors
    /// The command failed.
    pub fn run(&self) -> Result<u8> {
        let dir = &places::images(self.dir.as_ref())?;
        match &self.verb {
            Verb::Pull { names } => names.iter().try_for_each(|name| pull(dir, name))?,
            Verb::Load { input, name, tag } => {
                load(dir, input.as_deref(), name.as_deref(), tag.as_deref())?;
            }
            Verb::Ls => list(dir)?,
            Verb::Inspect { name } => inspect(dir, name)?,
            Verb::Rm { names } => remove(dir, names)?,
            Verb::Prune { all } => prune(dir, *all)?,
            Verb::Df => usage(dir)?,
        }
        Ok(0)
    }
}

/// A reader that has gone away, as in "| head -1", has seen enough.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}

/// The name with which the store has it; relative paths begin at the current directory.
fn full(name: &str) -> Result<String> {
    let base = std::env::current_dir().map_err(|e| Error::sys("getting the current directory", e))?;
    let name = workload::absolute_image(name, Some(&base)).unwrap_or_else(|| name.to_owned());
    Ok(Reference::parse(&name)?.to_string())
}

fn pull(dir: &Path, name: &str) -> Result<()> {
    let source = ImageSource { name: full(name)?, policy: PullPolicy::Always, ..ImageSource::default() };
    let tell = |pulls: bool, message: String| {
        if !pulls {
            print(&message);
        }
    };
    let images = Images::new(dir.to_owned());
    images
        .ready(&source, None, &Access::default(), &AtomicBool::new(false), &tell)
        .map(drop)
        .map_err(|t| t.error)
}

/// Loads an image from an archive into the store in `dir`; by what name, and which of several, if that is said.
///
/// # Errors
/// The archive is not a valid image; the store cannot be written to.
fn load(dir: &Path, input: Option<&Path>, name: Option<&str>, tag: Option<&str>) -> Result<()> {
    let stdin = match input {
        Some(path) => Stdio::from(File::open(path).map_err(|e| Error::sys(format!("opening {path:?}"), e))?),
        None => Stdio::inherit(),
    };
    let name = name.map(full).transpose()?;
    let store = Store::open(dir)?;
    let fetched = fetch::load(&program(), &store, name.as_deref(), tag, stdin)?;
    for name in &fetched.names {
        print(&format!("loaded image {name:?} ({})", fetched.digest));
    }
    Ok(())
}

/// The digest of an image, by its name or digest.
fn find(store: &Store, names: &Names, name: &str) -> Result<String> {
    let full = full(name)?;
    let by_digest = || store.documents(name).ok().flatten().map(|_| name.to_owned());
    let found = names.names.get(&full).map(|n| n.digest.clone()).or_else(by_digest);
    found.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("no such image: {full:?}")).hint("\"orund image ls\" lists them")
    })
}

fn complete(store: &Store, name: &str) -> Result<Image> {
    let digest = find(store, &store.names()?, name)?;
    let image = store.image(&digest)?;
    image.ok_or_else(|| {
        let what = format!("layers of image {name:?} are missing");
        Error::new(Kind::NotFound, what).hint(format!("run \"orund image pull {name}\""))
    })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

fn bytes_of(store: &Store, digest: &str) -> u64 {
    let ids = store.documents(digest).ok().flatten().map(|(_, c)| c.rootfs.diff_ids);
    ids.into_iter().flatten().filter_map(|id| store.figures(&id).ok()).map(|l| l.bytes).sum()
}

fn list(dir: &Path) -> Result<()> {
    let store = Store::open(dir)?;
    let names = store.names()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut rows = vec![["NAME", "DIGEST", "SIZE", "AGE", "USED BY"].map(str::to_owned).to_vec()];
    for (name, Named { digest, at, .. }) in &names.names {
        let users = names.pins.values().filter(|p| p.digest == *digest).count();
        let short = digest.get("sha256:".len().."sha256:".len() + 12).unwrap_or(digest);
        let age = now.saturating_sub(*at);
        let age = match age {
            0..60 => format!("{age}s"),
            60..3600 => format!("{}m", age / 60),
            3600..86_400 => format!("{}h", age / 3600),
            _ => format!("{}d", age / 86_400),
        };
        let used = if users == 0 { "-".to_owned() } else { format!("{users} containers of revisions") };
        rows.push(vec![name.clone(), short.to_owned(), size(bytes_of(&store, digest)), age, used]);
    }
    print(&table(&rows));
    Ok(())
}

fn inspect(dir: &Path, name: &str) -> Result<()> {
    let store = Store::open(dir)?;
    let names = store.names()?;
    let digest = find(&store, &names, name)?;
    let missing = || Error::new(Kind::NotFound, format!("the manifest {digest} is missing"));
    let (layers, configuration) = store.documents(&digest)?.ok_or_else(missing)?;
    let manifest = store.blob(&digest)?.ok_or_else(missing)?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let raw = store.blob(manifest["config"]["digest"].as_str().unwrap_or_default())?;
    let raw: serde_json::Value = raw.and_then(|r| serde_json::from_slice(&r).ok()).unwrap_or_default();
    let all = configuration.rootfs.diff_ids.iter().zip(&layers).map(|(id, layer)| {
        let figures = store.figures(id).ok();
        json!({"diffId": id, "digest": layer.digest, "compressedBytes": layer.size,
            "bytes": figures.as_ref().map(|f| f.bytes), "entries": figures.map(|f| f.entries)})
    });
    let names: Vec<&String> =
        names.names.iter().filter(|(_, n)| n.digest == digest).map(|(n, _)| n).collect();
    let text =
        json!({"names": names, "digest": digest, "layers": all.collect::<Vec<_>>(), "configuration": raw});
    print(&format!("{text:#}"));
    Ok(())
}

fn remove(dir: &Path, given: &[String]) -> Result<()> {
    let store = Store::open(dir)?;
    let names = store.names()?;
    let mut gone = Vec::new();
    for name in given {
        let digest = find(&store, &names, name)?;
        let full = full(name)?;
        // A digest stands for all names of the image.
        let has = |all: &BTreeMap<String, Named>| all.values().any(|n| n.digest == digest);
        if !has(&names.names) && (has(&names.pins) || store.is_held(&digest)) {
            let what = format!("image {name:?} has no name to remove, and is in use");
            return Err(Error::new(Kind::State, what).hint("delete the workloads that use it"));
        }
        gone.push(if names.names.contains_key(&full) { full } else { digest });
    }
    report(store.sweep(&|name, named| gone.iter().any(|g| g == name || *g == named.digest))?)
}

fn prune(dir: &Path, all: bool) -> Result<()> {
    let store = Store::open(dir)?;
    let names = store.names()?;
    let used = |digest: &str| names.pins.values().any(|p| p.digest == digest) || store.is_held(digest);
    report(store.sweep(&|_, named| all && !used(&named.digest))?)
}

/// Prints what was removed. The last thing that could not be is the error, those before it are reported.
fn report(mut swept: Swept) -> Result<()> {
    for name in &swept.names {
        print(&format!("removed image {name:?}"));
    }
    print(&format!("freed {} in {} layers", size(swept.bytes), swept.layers));
    let last = swept.failed.pop();
    swept.failed.into_iter().for_each(log::warn);
    last.map_or(Ok(()), Err)
}

fn usage(dir: &Path) -> Result<()> {
    let store = Store::open(dir)?;
    let names = store.names()?;
    let mut used = std::collections::BTreeSet::new();
    for named in names.names.values().chain(names.pins.values()) {
        used.extend(store.documents(&named.digest)?.into_iter().flat_map(|(_, c)| c.rootfs.diff_ids));
    }
    let (mut layers, mut bytes, mut unused) = (0_u64, 0, 0);
    for hex in store.files("layers")? {
        let id = format!("sha256:{hex}");
        let own = store.figures(&id).map_or(0, |l| l.bytes);
        layers += 1;
        bytes += own;
        unused += if used.contains(&id) { 0 } else { own };
    }
    let (total, free) = store.space()?;
    let rows = [
        ["IMAGES", "LAYERS", "SIZE", "UNUSED", "DISK", "FREE"].map(str::to_owned).to_vec(),
        vec![
            names.names.len().to_string(),
            layers.to_string(),
            size(bytes),
            size(unused),
            size(total),
            size(free),
        ],
    ];
    print(&table(&rows));
    Ok(())
}

/// `orund explain image NAME`: the config.json of a container of the image.
///
/// # Errors
/// The image is not on this host, or names no program.
pub fn explain(name: &str) -> Result<u8> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = rootless::enter(Use::Images, &words, None)? {
        return Ok(code);
    }
    let store = Store::open(&places::images(None)?)?;
    let image = complete(&store, name)?;
    let wanted = bundle::Wanted::default();
    let ids = rootfs::ids(&image, bundle::user(&image.configuration, &wanted))?;
    let mut config = bundle::config(&image.configuration, &wanted, &ids)?;
    let (key, value) = images::layers(&image);
    config["annotations"][key] = value.into();
    print(&format!("{config:#}"));
    Ok(0)
}
