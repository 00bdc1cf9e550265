//! Images of registries (OCI distribution-spec, "Pulling"; Docker's token authentication). Runs in `orund image-fetch` only.
//!
//! Credentials go to the registry that they are for, and to no host that it redirects to. Every request has a deadline; a
//! cut download continues where it was.

mod credentials;
mod http;
mod reach;
mod settings;

/// Parses settings of this host and answers of registries.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    settings::fuzz(text);
    http::fuzz(text);
    for legacy in [false, true] {
        let secret = LoginSecret { name: "s".to_owned(), legacy, text: text.to_owned() };
        let _ = credentials::find("a.example", "a.example/b/c", &[secret]);
    }
}

use super::manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, INDEX, LONGEST_CONFIGURATION, LONGEST_MANIFEST,
    MANIFEST, choose,
};
use super::reference::Remote;
use super::stream::{digest, digest_of};
use super::unpack::Blob;
use crate::error::{Error, Kind, Result};
pub use credentials::LoginSecret;
use http::{Client, Request};
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Attempts at a download that bring nothing.
const IDLE_ATTEMPTS: u32 = 4;
/// Attempts at a download in all.
const MOST_ATTEMPTS: u32 = 1000;

/// An image of a registry.
pub struct Pulled {
    pub manifest: Vec<u8>,
    pub configuration: Vec<u8>,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
}

/// A registry, or a mirror of it.
pub struct Registry {
    client: Client,
    /// The name of the repository there.
    repository: String,
}

/// The registries that have the image, in the order in which they are asked.
///
/// # Errors
/// The registry is blocked, or a file of settings is damaged.
pub fn sources(remote: &Remote, secrets: &[LoginSecret]) -> Result<Vec<Registry>> {
    let name = format!("{}/{}", remote.registry, remote.repository);
    let settings = settings::read()?;
    let places = settings.places(&name, remote.digest.is_some())?;
    let of = |place: settings::RegistryLocation| {
        let (host, repository) = place.location.split_once('/').unwrap_or((&place.location, ""));
        let credentials = credentials::find(host, &place.location, secrets)?;
        Ok(Registry {
            client: Client::new(host, place.insecure, credentials)?,
            repository: repository.to_owned(),
        })
    };
    places.into_iter().map(of).collect()
}

impl Registry {
    /// The manifest and the configuration of the image.
    ///
    /// # Errors
    /// It cannot be had, or is not what its digest says.
    pub fn image(&self, remote: &Remote) -> Result<Pulled> {
        let by_digest = remote.digest.as_deref();
        let wanted = by_digest.or(remote.tag.as_deref()).unwrap_or("latest");
        let (mut bytes, told) = self.manifest(wanted)?;
        let mut is = digest_of(&bytes);
        if let Some(expected) = by_digest.map(str::to_owned).or(told).filter(|d| *d != is) {
            return Err(wrong("the manifest", &is, &expected));
        }
        for _ in 0..2 {
            let name = format!("manifest {is}");
            match Document::parse(&bytes, &name)? {
                Document::Index(list) => {
                    let chosen = choose(&list, &name)?.digest.clone();
                    bytes = self.manifest(&chosen)?.0;
                    is = digest_of(&bytes);
                    if is != chosen {
                        return Err(wrong("the manifest", &is, &chosen));
                    }
                }
                Document::Manifest(m) => {
                    let path = format!("/v2/{}/blobs/{}", self.repository, m.config.digest);
                    let configuration =
                        self.client.get(&Request::new(&path))?.bytes(LONGEST_CONFIGURATION)?;
                    let is = digest_of(&configuration);
                    if is != m.config.digest {
                        return Err(wrong("the configuration", &is, &m.config.digest));
                    }
                    return Ok(Pulled { manifest: bytes, configuration, layers: m.layers });
                }
            }
        }
        Err(Error::new(Kind::Config, "the indexes of the image are nested too deep"))
    }

    /// A manifest, and the digest that the registry gives it.
    fn manifest(&self, reference: &str) -> Result<(Vec<u8>, Option<String>)> {
        let path = format!("/v2/{}/manifests/{reference}", self.repository);
        let accept = format!("{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}");
        let answer = self.client.get(&Request { accept: &accept, ..Request::new(&path) })?;
        let told = answer.header("docker-content-digest");
        Ok((answer.bytes(LONGEST_MANIFEST)?, told))
    }

    /// Downloads the blob of a layer to `part`, from where an earlier attempt has come to.
    ///
    /// # Errors
    /// It cannot be had, or is not what its digest says; then nothing is left of it.
    pub fn layer(&self, layer: &Descriptor, part: &Path) -> Result<Blob> {
        let fail = |e| Error::sys(format!("writing {part:?}"), e);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(part);
        let mut file = open.map_err(fail)?;
        let mut hash = Sha256::new();
        let mut have = std::io::copy(&mut file, &mut HashWriter(&mut hash)).map_err(fail)?;
        let mut resumed = have > 0;
        loop {
            self.download(layer, &mut file, &mut hash, &mut have)?;
            let is = digest(hash);
            if have == layer.size && is == layer.digest {
                return Ok(Blob { file, offset: 0, length: have });
            }
            if !resumed {
                let _ = std::fs::remove_file(part);
                return Err(wrong("a layer", &is, &layer.digest));
            }
            // The partial file of an earlier attempt may be damaged, so the registry gets another chance.
            (resumed, hash, have) = (false, Sha256::new(), 0);
        }
    }

    fn download(&self, layer: &Descriptor, file: &mut File, hash: &mut Sha256, have: &mut u64) -> Result<()> {
        // A server without ranges begins again: only what goes beyond all attempts before is progress.
        let (mut idle, mut furthest, mut attempts) = (0, *have, 0);
        let least = self.client.least();
        while *have < layer.size {
            match self.more(layer, file, hash, have) {
                Ok(()) => {}
                // A full disk and a refusal do not get better.
                Err(e) if e.kind() != Kind::Timeout => return Err(e),
                Err(e) if *have < furthest.saturating_add(least) || attempts >= MOST_ATTEMPTS => {
                    idle += 1;
                    if idle >= IDLE_ATTEMPTS || attempts >= MOST_ATTEMPTS {
                        let what = format!("layer {} of {} bytes, after {have}", layer.digest, layer.size);
                        return Err(e.context(what));
                    }
                    http::pause(idle);
                }
                Err(_) => (idle, furthest) = (0, *have),
            }
            attempts += 1;
        }
        Ok(())
    }

    /// One request for what is missing.
    fn more(&self, layer: &Descriptor, file: &mut File, hash: &mut Sha256, have: &mut u64) -> Result<()> {
        let path = format!("/v2/{}/blobs/{}", self.repository, layer.digest);
        let answer = self.client.get(&Request { from: *have, ..Request::new(&path) })?;
        let fail = |e| Error::sys("writing a layer", e);
        if !answer.is_partial() && *have > 0 {
            // It does not know ranges, and begins at the beginning.
            *hash = Sha256::new();
            *have = 0;
        }
        file.set_len(*have).map_err(fail)?;
        file.seek(SeekFrom::Start(*have)).map_err(fail)?;
        let mut from = answer.reader(layer.size - *have + 1);
        let mut buf = vec![0; 128 << 10];
        loop {
            let n = from
                .read(&mut buf)
                .map_err(|e| Error::new(Kind::Timeout, format!("the download was interrupted: {e}")))?;
            if n == 0 {
                return match *have < layer.size {
                    true => Err(Error::new(
                        Kind::Timeout,
                        format!("the download was interrupted after {have} bytes"),
                    )),
                    false => Ok(()),
                };
            }
            file.write_all(&buf[..n]).map_err(fail)?;
            hash.update(&buf[..n]);
            *have += n as u64;
            if *have > layer.size {
                return Err(Error::new(
                    Kind::Config,
                    format!("layer {} is longer than {} bytes", layer.digest, layer.size),
                ));
            }
        }
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn wrong(what: &str, is: &str, expected: &str) -> Error {
    Error::new(
        Kind::Config,
        format!("the registry sent wrong content: the digest of {what} is {is} instead of {expected}"),
    )
}
