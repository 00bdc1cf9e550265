//! Images in files of this host: the OCI image layout (image-spec, "Image Layout") as a directory or a tar file, and what
//! `docker save` writes. Nothing is copied: a layer is unpacked from where it is.

use super::manifest::{
    CONFIGURATION, Descriptor, Document, LAYER, LONGEST_CONFIGURATION, LONGEST_MANIFEST, MANIFEST, Manifest,
    choose,
};
use super::stream::{Hashing, Unpacked, digest_of};
use super::tar::{Entries, Node};
use super::unpack::Blob;
use crate::config::parse;
use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The annotation of a descriptor that has its tag (image-spec, "Pre-Defined Annotation Keys").
const TAG: &str = "org.opencontainers.image.ref.name";
/// The annotation that has its whole name, of containerd and Docker.
const NAME: &str = "io.containerd.image.name";
/// Files that an archive of an image may have.
const MOST_FILES: usize = 100_000;
/// Bytes of an archive that is decompressed first.
const LONGEST_ARCHIVE: u64 = 64 << 30;
/// Links that follow each other.
const MOST_LINKS: usize = 8;

/// Where the files of a layout are.
pub enum Files {
    Directory(PathBuf),
    /// An archive and its files by name.
    Archive(File, BTreeMap<String, ArchivedFile>),
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivedFile {
    At(u64, u64),
    /// Another file has its content, as in archives of older versions of Docker.
    Link(String),
}

/// An image that was found: its manifest and configuration, and how to open its layers.
pub struct LocalImage {
    pub manifest: Vec<u8>,
    pub configuration: Vec<u8>,
    /// The file of each layer, the lowest first, and the digest of its bytes where it has one.
    pub layers: Vec<(String, Option<String>)>,
    /// The names that it has where it comes from.
    pub names: Vec<String>,
}

fn missing(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("the file {name:?} is missing"))
}

impl Files {
    /// An archive, whose files are listed. A compressed one is decompressed to an unnamed file in `tmp` first.
    ///
    /// # Errors
    /// It cannot be read, or is not an archive.
    pub fn archive(file: File, tmp: &Path) -> Result<Files> {
        let fail = |e: io::Error| match e.raw_os_error() {
            Some(_) => Error::sys("reading the archive", e),
            None => Error::new(Kind::Config, format!("reading the archive: {e}")),
        };
        let seekable = file.metadata().is_ok_and(|m| m.is_file());
        let mut plain = Unpacked::new(&file)?;
        let file = if let (Unpacked::Plain(_), true) = (&plain, seekable) {
            drop(plain);
            file
        } else {
            let spool =
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(tmp);
            let mut spool = spool.map_err(|e| Error::sys(format!("making a file in {tmp:?}"), e))?;
            let mut limited = Hashing::new(&mut plain, LONGEST_ARCHIVE);
            io::copy(&mut limited, &mut spool).map_err(fail)?;
            spool
        };
        let names = list(&file)?;
        Ok(Files::Archive(file, names))
    }

    /// The bytes of the file `name`.
    pub fn open(&self, name: &str) -> Result<Blob> {
        match self {
            Files::Directory(dir) => {
                let path = dir.join(name);
                let open =
                    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path);
                let file = match open {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing(name)),
                    r => r.map_err(|e| Error::sys(format!("opening {path:?}"), e))?,
                };
                let meta = file.metadata().map_err(|e| Error::sys(format!("looking at {path:?}"), e))?;
                if !meta.is_file() {
                    return Err(Error::new(Kind::Config, format!("{path:?} is not a file")));
                }
                Ok(Blob { file, offset: 0, length: meta.len() })
            }
            Files::Archive(file, names) => {
                let mut name = name.to_owned();
                for _ in 0..MOST_LINKS {
                    match names.get(&name) {
                        Some(ArchivedFile::At(offset, length)) => {
                            // A description of its own: its offset moves.
                            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
                            let file =
                                File::open(&path).map_err(|e| Error::sys("opening the archive again", e))?;
                            return Ok(Blob { file, offset: *offset, length: *length });
                        }
                        Some(ArchivedFile::Link(to)) => name.clone_from(to),
                        None => return Err(missing(&name)),
                    }
                }
                Err(Error::new(Kind::Config, format!("the file {name:?} of the archive is a link to itself")))
            }
        }
    }

    /// All of the file `name`, at most `most` bytes.
    fn read(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let mut blob = self.open(name)?;
        if blob.length > most {
            return Err(Error::new(
                Kind::Config,
                format!("the file {name:?} of the image exceeds {most} bytes"),
            ));
        }
        let mut bytes = Vec::new();
        let seek = blob.file.seek(SeekFrom::Start(blob.offset));
        let read = seek.and_then(|_| blob.file.take(blob.length).read_to_end(&mut bytes));
        read.map_err(|e| Error::sys(format!("reading the file {name:?} of the image"), e))?;
        Ok(bytes)
    }

    fn blob(&self, d: &Descriptor, most: u64) -> Result<Vec<u8>> {
        let bytes = self.read(&blob_name(&d.digest)?, most)?;
        let is = digest_of(&bytes);
        if is != d.digest {
            let what = format!("the image is damaged: the digest of {} is {is}", d.digest);
            return Err(Error::new(Kind::Config, what));
        }
        Ok(bytes)
    }

    /// The error of a source that lacks the file which all sources of the kind `what` have.
    fn is_not(&self, what: &str, e: Error) -> Error {
        match self {
            Files::Directory(dir) if !dir.exists() => {
                Error::new(Kind::NotFound, format!("directory {dir:?} does not exist"))
            }
            Files::Archive(_, names) if names.is_empty() => Error::new(Kind::Config, "the archive is empty"),
            Files::Directory(_) | Files::Archive(..) => e.context(format!("not {what}")),
        }
    }

    /// The image of an archive, of whichever kind it is.
    ///
    /// # Errors
    /// As those of [`Files::layout`] and [`Files::docker`].
    pub fn any(&self, tag: Option<&str>) -> Result<LocalImage> {
        match self.open("index.json") {
            Ok(_) => self.layout(tag),
            Err(_) => self.docker(tag),
        }
    }

    /// The image with the tag `tag` of a layout; without, the only one, or the one with the tag `latest`.
    ///
    /// # Errors
    /// There is none, or several; it is damaged.
    pub fn layout(&self, tag: Option<&str>) -> Result<LocalImage> {
        let bytes = self
            .read("index.json", LONGEST_MANIFEST)
            .map_err(|e| self.is_not("an OCI image layout (oci-layout, index.json, blobs/)", e))?;
        let Document::Index(list) = Document::parse(&bytes, "index.json")? else {
            return Err(Error::new(Kind::Config, "index.json is not an index of images"));
        };
        let mut descriptor = tagged(&list, tag)?.clone();
        let names: Vec<String> =
            [NAME, TAG].iter().filter_map(|key| descriptor.annotations.get(*key).cloned()).collect();
        // An index in the index is an image for several platforms.
        for _ in 0..2 {
            let manifest = self.blob(&descriptor, LONGEST_MANIFEST)?;
            let name = format!("manifest {}", descriptor.digest);
            match Document::parse(&manifest, &name)? {
                Document::Index(list) => descriptor = choose(&list, &name)?.clone(),
                Document::Manifest(m) => {
                    let configuration = self.blob(&m.config, LONGEST_CONFIGURATION)?;
                    let layers = m.layers.iter().map(|d| Ok((blob_name(&d.digest)?, Some(d.digest.clone()))));
                    return Ok(LocalImage {
                        manifest,
                        configuration,
                        layers: layers.collect::<Result<_>>()?,
                        names,
                    });
                }
            }
        }
        Err(Error::new(Kind::Config, "the indexes of the image are nested too deep"))
    }

    /// The image with the tag `tag` of what `docker save` has written, or the only one.
    ///
    /// # Errors
    /// There is none, or several; it is damaged.
    pub fn docker(&self, tag: Option<&str>) -> Result<LocalImage> {
        let bytes = self
            .read("manifest.json", LONGEST_MANIFEST)
            .map_err(|e| self.is_not("an archive of \"docker save\" or of an OCI image layout", e))?;
        let list: Vec<Saved> = parse::json(&bytes, "manifest.json")?;
        let has = |s: &&Saved| {
            let tags = s.repo_tags.iter().flatten();
            tag.is_none_or(|tag| tags.clone().any(|t| t.rsplit_once(':').is_some_and(|(_, own)| own == tag)))
        };
        let fitting: Vec<&Saved> = list.iter().filter(has).collect();
        let [saved] = fitting[..] else {
            let all: Vec<_> = list.iter().flat_map(|s| s.repo_tags.iter().flatten().cloned()).collect();
            return Err(which(tag, &all));
        };
        let configuration = self.read(&plain(&saved.config)?, LONGEST_CONFIGURATION)?;
        let parsed = super::configuration::Configuration::parse(&configuration, &saved.config)?;
        let ids = parsed.rootfs.diff_ids;
        if ids.len() != saved.layers.len() {
            return Err(Error::new(
                Kind::Config,
                format!("manifest.json has {} layers, the configuration {}", saved.layers.len(), ids.len()),
            ));
        }
        let mut layers = Vec::new();
        let mut found = Vec::new();
        for (id, name) in ids.iter().zip(&saved.layers) {
            let name = plain(name)?;
            let size = self.open(&name)?.length;
            layers.push(Descriptor {
                media_type: LAYER.to_owned(),
                digest: id.clone(),
                size,
                ..Descriptor::default()
            });
            found.push((name, None));
        }
        let config = Descriptor {
            media_type: CONFIGURATION.to_owned(),
            digest: digest_of(&configuration),
            size: configuration.len() as u64,
            ..Descriptor::default()
        };
        let manifest = Manifest { schema_version: 2, media_type: MANIFEST.to_owned(), config, layers };
        let manifest = serde_json::to_vec(&manifest)
            .map_err(|e| Error::new(Kind::Config, format!("writing a manifest: {e}")))?;
        Document::parse(&manifest, "manifest.json")?;
        let names = saved.repo_tags.clone().unwrap_or_default();
        Ok(LocalImage { manifest, configuration, layers: found, names })
    }
}

/// An entry of Docker's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn blob_name(digest: &str) -> Result<String> {
    match digest.split_once(':') {
        Some(("sha256", hex)) => Ok(format!("blobs/sha256/{hex}")),
        _ => Err(Error::new(Kind::Config, format!("{digest:?} is not a digest by SHA-256"))),
    }
}

/// A name without `./` and `..`.
fn plain(name: &str) -> Result<String> {
    let parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") || parts.is_empty() {
        return Err(Error::new(Kind::Config, format!("the file name {name:?} of the image is invalid")));
    }
    Ok(parts.join("/"))
}

fn which(tag: Option<&str>, tags: &[String]) -> Error {
    let what = match tag {
        Some(tag) => format!("there is not exactly one image with the tag {tag:?}"),
        None => "there is not exactly one image".to_owned(),
    };
    let shown: Vec<&str> = tags.iter().take(20).map(String::as_str).collect();
    Error::new(Kind::NotFound, what).hint(match shown.is_empty() {
        true => "none has a tag".to_owned(),
        false => format!("add :TAG to the name; known tags: {}", shown.join(", ")),
    })
}

fn tagged<'a>(list: &'a [Descriptor], tag: Option<&str>) -> Result<&'a Descriptor> {
    let of = |d: &'a Descriptor| d.annotations.get(TAG).map(String::as_str);
    // Some write a whole name.
    let is = |d: &&Descriptor, tag: &str| {
        of_tag(d).is_some_and(|own| own == tag || own.rsplit_once(':').is_some_and(|(_, own)| own == tag))
    };
    let found: Vec<&Descriptor> = match tag {
        Some(tag) => list.iter().filter(|d| is(d, tag)).collect(),
        None if list.len() > 1 => list.iter().filter(|d| is(d, "latest")).collect(),
        None => list.iter().collect(),
    };
    match found[..] {
        [one] => Ok(one),
        _ => Err(which(tag, &list.iter().filter_map(of).map(str::to_owned).collect::<Vec<_>>())),
    }
}

fn of_tag(d: &Descriptor) -> Option<&str> {
    d.annotations.get(TAG).map(String::as_str)
}

/// The files of an archive by name. Their content is skipped.
fn list(file: &File) -> Result<BTreeMap<String, ArchivedFile>> {
    let fail = |e| Error::sys("reading the archive", e);
    let mut from = file;
    let end = from.seek(SeekFrom::End(0)).map_err(fail)?;
    from.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut entries = Entries::new(from);
    let mut names = BTreeMap::new();
    while let Some(entry) = entries.next_entry()? {
        let offset = entries.stream().stream_position().map_err(fail)?;
        let skip = entries.skipped();
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).ok();
        let name = text(&entry.path).and_then(|n| plain(&n).ok());
        if offset.saturating_add(entry.size) > end {
            return Err(Error::new(Kind::Config, "the archive is truncated"));
        }
        match (name, entry.node) {
            (Some(name), Node::File) if entry.pieces.is_none() => {
                drop(names.insert(name, ArchivedFile::At(offset, entry.size)))
            }
            (Some(name), Node::HardLink | Node::Symlink) => {
                if let Some(to) = text(&entry.link).and_then(|to| target(&name, &to, entry.node)) {
                    names.insert(name, ArchivedFile::Link(to));
                }
            }
            _ => {}
        }
        if names.len() > MOST_FILES {
            return Err(Error::new(Kind::Config, format!("the archive has more than {MOST_FILES} files")));
        }
        entries.stream().seek_relative(skip as i64).map_err(fail)?;
    }
    Ok(names)
}

/// The name that a link of an archive stands for: a symlink is relative to its directory.
fn target(name: &str, to: &str, node: Node) -> Option<String> {
    if node == Node::HardLink {
        return plain(to).ok();
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in to.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
