//! Images that tests make, byte by byte.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const ORUND: &str = env!("CARGO_BIN_EXE_orund");

/// An entry of a layer.
#[derive(Clone)]
pub struct Entry {
    path: String,
    kind: u8,
    link: String,
    mode: u64,
    owner: (u64, u64),
    time: u64,
    device: (u32, u32),
    body: Vec<u8>,
    pax: Vec<(String, String)>,
    sparse: Option<(Vec<(u64, u64)>, u64)>,
}

impl Entry {
    pub fn kind(path: &str, kind: u8) -> Entry {
        Entry {
            path: path.into(),
            kind,
            link: String::new(),
            mode: 0o644,
            owner: (0, 0),
            time: 0,
            device: (0, 0),
            body: Vec::new(),
            pax: Vec::new(),
            sparse: None,
        }
    }
    pub fn file(path: &str, body: &[u8]) -> Entry {
        Entry { body: body.to_vec(), ..Entry::kind(path, b'0') }
    }
    pub fn dir(path: &str) -> Entry {
        Entry { mode: 0o755, ..Entry::kind(path, b'5') }
    }
    pub fn link(path: &str, to: &str) -> Entry {
        Entry { link: to.into(), ..Entry::kind(path, b'1') }
    }
    pub fn symlink(path: &str, to: &str) -> Entry {
        Entry { link: to.into(), mode: 0o777, ..Entry::kind(path, b'2') }
    }
    pub fn device(path: &str, kind: u8, major: u32, minor: u32) -> Entry {
        Entry { device: (major, minor), ..Entry::kind(path, kind) }
    }
    pub fn fifo(path: &str) -> Entry {
        Entry::kind(path, b'6')
    }
    pub fn mode(self, mode: u64) -> Entry {
        Entry { mode, ..self }
    }
    pub fn owner(self, uid: u64, gid: u64) -> Entry {
        Entry { owner: (uid, gid), ..self }
    }
    pub fn time(self, time: u64) -> Entry {
        Entry { time, ..self }
    }
    pub fn pax(mut self, key: &str, value: &str) -> Entry {
        self.pax.push((key.into(), value.into()));
        self
    }
    /// A file in GNU's old sparse format: what is in the archive, and how long it seems.
    pub fn sparse(self, pieces: &[(u64, u64)], size: u64) -> Entry {
        Entry { kind: b'S', sparse: Some((pieces.to_vec(), size)), ..self }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if !self.pax.is_empty() {
            let mut text = Vec::new();
            for (key, value) in &self.pax {
                let rest = key.len() + value.len() + 3;
                let mut length = rest + 1;
                while length.to_string().len() + rest != length {
                    length += 1;
                }
                text.extend(format!("{length} {key}={value}\n").into_bytes());
            }
            Entry { body: text, ..Entry::kind("pax", b'x') }.write(out);
        }
        let mut header = tar::Header::new_gnu();
        let name = self.path.as_bytes();
        let end = name.len().min(100);
        header.as_mut_bytes()[..end].copy_from_slice(&name[..end]);
        let link = self.link.as_bytes();
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_mode(self.mode as u32);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(self.time);
        header.set_size(self.body.len() as u64);
        header.as_mut_bytes()[156] = self.kind;
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_device_major(self.device.0);
        gnu.set_device_minor(self.device.1);
        if let Some((pieces, size)) = &self.sparse {
            for (n, (offset, length)) in pieces.iter().enumerate() {
                gnu.sparse[n].set_offset(*offset);
                gnu.sparse[n].set_length(*length);
            }
            gnu.set_real_size(*size);
        }
        header.set_cksum();
        out.extend(header.as_bytes());
        out.extend(&self.body);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|e| e.write(&mut out));
    out.resize(out.len() + 1024, 0);
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer as an image has it.
#[derive(Clone)]
pub struct Layer {
    pub bytes: Vec<u8>,
    pub diff_id: String,
    pub kind: &'static str,
    pub archive: Vec<u8>,
}

impl Layer {
    pub fn plain(entries: &[Entry]) -> Layer {
        let archive = tar(entries);
        Layer { diff_id: digest(&archive), bytes: archive.clone(), kind: "", archive }
    }
    pub fn gzip(entries: &[Entry]) -> Layer {
        let plain = Layer::plain(entries);
        Layer { bytes: gzip(&plain.bytes), kind: "+gzip", ..plain }
    }
    pub fn zstd(entries: &[Entry]) -> Layer {
        let plain = Layer::plain(entries);
        Layer { bytes: zstd::encode_all(plain.bytes.as_slice(), 1).unwrap(), kind: "+zstd", ..plain }
    }
    pub fn rehash(&mut self) {
        self.diff_id = digest(&self.bytes);
    }
    /// In front of the end of the archive come so many zeros, which compress to little.
    pub fn with_zeros(self, count: usize) -> Layer {
        // A gzip file may have several members.
        let mut bytes = gzip(&self.archive[..self.archive.len() - 1024]);
        let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        zeros.write_all(&vec![0; 64 << 20]).unwrap();
        let zeros = zeros.finish().unwrap();
        for _ in 0..count.div_ceil(64 << 20) {
            bytes.extend(&zeros);
        }
        Layer { bytes, ..self }
    }
}

/// An image layout and a store, removed in the end.
pub struct Image {
    pub dir: PathBuf,
    pub store: PathBuf,
    layout: PathBuf,
}

impl Image {
    pub fn new(test: &str) -> Image {
        let dir = Path::new("/dev/shm").join(format!("orund-images-{}-{test}", std::process::id()));
        fs::create_dir_all(dir.join("layout/blobs/sha256")).unwrap();
        Image { store: dir.join("store"), layout: dir.join("layout"), dir }
    }

    pub fn layout(&self) -> &Path {
        &self.layout
    }

    fn put(&self, bytes: &[u8], kind: &str) -> Value {
        let digest = digest(bytes);
        fs::write(self.layout.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
    }

    /// Writes the layout of an image with these layers, under the tag `latest`.
    pub fn write(&self, layers: &[Layer]) {
        self.write_with(layers, json!({"Cmd": ["/bin/sh"]}));
    }

    pub fn write_with(&self, layers: &[Layer], config: Value) {
        let list: Vec<Value> =
            layers.iter().map(|l| self.put(&l.bytes, &format!("layer.v1.tar{}", l.kind))).collect();
        let configuration = self.put(configuration(layers, config).to_string().as_bytes(), "config.v1+json");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": configuration, "layers": list});
        let mut manifest = self.put(manifest.to_string().as_bytes(), "manifest.v1+json");
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(self.layout.join("index.json"), index.to_string()).unwrap();
        fs::write(self.layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    pub fn replace_blob(&self, layer: &Layer, bytes: &[u8]) {
        let name = digest(&layer.bytes).replace(':', "/");
        fs::write(self.layout.join("blobs").join(name), bytes).unwrap();
    }

    /// Brings the image to the store: the digest of its manifest, or the error.
    pub fn fetch(&self) -> Result<String, String> {
        self.fetch_from(&format!("oci:{}", self.layout.display()))
    }

    pub fn fetch_from(&self, reference: &str) -> Result<String, String> {
        let mut command = Command::new(ORUND);
        command.arg("image-fetch").arg(&self.store).arg(reference);
        // The host's own files are not for tests.
        command.env("HOME", &self.dir).env_remove("XDG_RUNTIME_DIR").env_remove("DOCKER_CONFIG");
        command.env("REGISTRY_AUTH_FILE", self.dir.join("auth.json"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.dir.join("registries.conf"));
        let out = command.output().unwrap();
        let answer: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
        match answer["Done"]["digest"].as_str() {
            Some(digest) => Ok(digest.to_owned()),
            None => Err(answer["Failed"]["message"].as_str().unwrap().to_owned()),
        }
    }

    pub fn layer(&self, layer: &Layer) -> PathBuf {
        self.store.join("layers").join(&layer.diff_id["sha256:".len()..]).join("fs")
    }

    /// The store has nothing.
    pub fn assert_empty(&self, what: &str) {
        for dir in ["blobs/sha256", "layers", "tmp"] {
            let left: Vec<_> = fs::read_dir(self.store.join(dir)).unwrap().flatten().collect();
            assert!(left.is_empty(), "{what}: {left:?}");
        }
    }

    /// The layout as a tar file.
    pub fn archive(&self) -> Vec<u8> {
        let mut entries = vec![Entry::dir("./"), Entry::dir("./blobs"), Entry::dir("./blobs/sha256")];
        for name in ["oci-layout", "index.json"] {
            entries.push(Entry::file(&format!("./{name}"), &fs::read(self.layout.join(name)).unwrap()));
        }
        for file in fs::read_dir(self.layout.join("blobs/sha256")).unwrap().flatten() {
            let name = format!("blobs/sha256/{}", file.file_name().to_string_lossy());
            entries.push(Entry::file(&name, &fs::read(file.path()).unwrap()));
        }
        tar(&entries)
    }

    /// What `docker save` writes.
    pub fn docker_archive(&self, layers: &[Layer], tags: &[&str]) -> Vec<u8> {
        let configuration = configuration(layers, json!({"Cmd": ["/bin/sh"]})).to_string();
        let mut entries = vec![Entry::file("config.json", configuration.as_bytes())];
        let mut names = Vec::new();
        for (n, layer) in layers.iter().enumerate() {
            entries.push(Entry::file(&format!("blobs/{n}"), &layer.archive));
            entries.push(Entry::symlink(&format!("{n}/layer.tar"), &format!("../blobs/{n}")));
            names.push(format!("{n}/layer.tar"));
        }
        let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]);
        entries.push(Entry::file("manifest.json", manifest.to_string().as_bytes()));
        tar(&entries)
    }
}

fn configuration(layers: &[Layer], config: Value) -> Value {
    let ids: Vec<&str> = layers.iter().map(|l| l.diff_id.as_str()).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    json!({"architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": ids}})
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// An extended attribute of a file.
pub fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(path).ok()?;
    let name = std::ffi::CString::new(name).unwrap();
    let mut buf = [0; 256];
    let n = orun::sys::file::getxattr(file.as_raw_fd(), &name, &mut buf).ok()?;
    Some(buf[..n].to_vec())
}
