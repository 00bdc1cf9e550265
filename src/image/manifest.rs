//! Manifests and indexes of images (OCI image-spec; Docker's schema 2 is the same with other media types). Types of our own:
//! Docker's media types are taken alike, and what cannot be run is refused by name. Pure.

use super::reference::is_digest;
use crate::config::parse;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of a manifest or index: what the distribution specification asks registries to take.
pub const LONGEST_MANIFEST: u64 = 4 << 20;
/// Bytes of a configuration.
pub const LONGEST_CONFIGURATION: u64 = 8 << 20;
/// Layers that the kernel takes.
const MOST_LAYERS: usize = 500;

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIGURATION: &str = "application/vnd.docker.container.image.v1+json";

/// A blob by its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Platform of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// The object that a digest of an image refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image for each of several platforms.
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a manifest or an index; `name` is for errors.
    ///
    /// # Errors
    /// It is invalid, or of a kind that cannot be run.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Document> {
        if bytes.len() as u64 > LONGEST_MANIFEST {
            return Err(bad(name, format!("it exceeds {LONGEST_MANIFEST} bytes")));
        }
        let outline: Outline = parse::json(bytes, name)?;
        match outline.schema_version {
            2 => {}
            1 => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("{name}: its format is Docker's schema 1"),
                )
                .hint("that has been obsolete since 2017: push the image again with a current program"));
            }
            n => return Err(bad(name, format!("schemaVersion is {n} instead of 2"))),
        }
        match (outline.media_type.as_str(), outline.manifests) {
            (INDEX | DOCKER_LIST | "", Some(list)) => {
                list.iter().try_for_each(|d| check(d, name))?;
                Ok(Document::Index(list))
            }
            (MANIFEST | DOCKER_MANIFEST | "", None) => manifest(bytes, name).map(Document::Manifest),
            (other, _) => Err(Error::new(
                Kind::Unsupported,
                format!("{name}: its media type {other:?} is not that of an image"),
            )),
        }
    }
}

fn bad(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Config, format!("{name}: {why}"))
}

fn check(d: &Descriptor, name: &str) -> Result<()> {
    if !is_digest(&d.digest) {
        return Err(bad(name, format!("{:?} is not a digest by SHA-256", d.digest)));
    }
    if d.size > i64::MAX as u64 {
        return Err(bad(name, format!("the size {} of {} is impossible", d.size, d.digest)));
    }
    Ok(())
}

fn manifest(bytes: &[u8], name: &str) -> Result<Manifest> {
    let m: Manifest = parse::json(bytes, name)?;
    check(&m.config, name)?;
    if !matches!(m.config.media_type.as_str(), "" | CONFIGURATION | DOCKER_CONFIGURATION) {
        let what = format!(
            "{name}: it is not the manifest of an image: its configuration is {:?}",
            m.config.media_type
        );
        return Err(Error::new(Kind::Unsupported, what));
    }
    if m.config.size > LONGEST_CONFIGURATION {
        return Err(bad(name, format!("the configuration exceeds {LONGEST_CONFIGURATION} bytes")));
    }
    if m.layers.len() > MOST_LAYERS {
        return Err(bad(name, format!("it has {} layers; the kernel takes {MOST_LAYERS}", m.layers.len())));
    }
    for layer in &m.layers {
        check(layer, name)?;
        let plain = layer.media_type.strip_suffix("+gzip").or(layer.media_type.strip_suffix("+zstd"));
        let plain = plain.unwrap_or(&layer.media_type);
        if !matches!(
            plain,
            LAYER
                | "application/vnd.docker.image.rootfs.diff.tar.gzip"
                | "application/vnd.docker.image.rootfs.diff.tar"
                | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        ) {
            let what =
                format!("{name}: a layer has the media type {:?}, which is not supported", layer.media_type);
            return Err(Error::new(Kind::Unsupported, what));
        }
    }
    Ok(m)
}

/// The names that images give the architecture of this host, and the variants that run on it.
fn host() -> (&'static str, &'static [&'static str]) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", &["", "v1"]),
        "aarch64" => ("arm64", &["", "v8"]),
        other => (other, &[""]),
    }
}

/// The image for this host among those of an index.
///
/// # Errors
/// None is.
pub fn choose<'a>(index: &'a [Descriptor], name: &str) -> Result<&'a Descriptor> {
    let (architecture, variants) = host();
    let fits = |d: &&Descriptor| {
        d.platform.as_ref().is_none_or(|p| {
            p.os == "linux" && p.architecture == architecture && variants.contains(&p.variant.as_str())
        })
    };
    if let Some(found) = index.iter().find(fits) {
        return Ok(found);
    }
    let mut platforms: Vec<String> = index
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(|p| {
            format!("{}/{}{}{}", p.os, p.architecture, if p.variant.is_empty() { "" } else { "/" }, p.variant)
        })
        .collect();
    platforms.dedup();
    let what =
        format!("{name}: there is no image for linux/{architecture}, only for: {}", platforms.join(", "));
    Err(Error::new(Kind::Unsupported, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> String {
        format!("sha256:{}", format!("{n:02x}").repeat(32))
    }

    fn problem(text: &str) -> String {
        Document::parse(text.as_bytes(), "m").unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let d = digest(1);
        let config = format!(r#""config":{{"mediaType":"{CONFIGURATION}","digest":"{d}","size":2}}"#);
        let with = |layer: &str| format!(r#"{{"schemaVersion":2,{config},"layers":[{layer}]}}"#);
        let layer = |kind: &str| with(&format!(r#"{{"mediaType":"{kind}","digest":"{d}","size":1}}"#));
        for kind in ["", "+gzip", "+zstd"] {
            let text = layer(&format!("{LAYER}{kind}"));
            assert!(matches!(Document::parse(text.as_bytes(), "m"), Ok(Document::Manifest(_))), "{text}");
        }
        assert!(problem(&layer("application/vnd.oci.image.layer.v1.tar+encrypted")).contains("+encrypted"));
        assert!(
            problem(&layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")).contains("foreign")
        );
        assert!(problem(r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#).contains("schema 1"));
        assert!(problem(r#"{"schemaVersion":7}"#).contains("schemaVersion is 7"));
        let odd = r#"{"schemaVersion":2,"mediaType":"text/plain"}"#;
        assert!(problem(odd).contains("\"text/plain\" is not that of an image"));
        let wrong = with(r#"{"mediaType":"x","digest":"sha256:../../etc","size":1}"#);
        assert!(problem(&wrong).contains("is not a digest"));
        let artifact = with("").replace(CONFIGURATION, "application/vnd.cncf.helm.config.v1+json");
        assert!(problem(&artifact).contains("it is not the manifest of an image"));
        assert!(problem(&" ".repeat(LONGEST_MANIFEST as usize + 1)).contains("exceeds"));
    }

    #[test]
    fn the_image_of_this_host_is_chosen() {
        let of = |n, os: &str, architecture: &str| Descriptor {
            digest: digest(n),
            platform: Some(Platform {
                architecture: architecture.into(),
                os: os.into(),
                variant: String::new(),
            }),
            ..Descriptor::default()
        };
        let own = host().0;
        let index =
            [of(1, "linux", "s390x"), of(2, "windows", own), of(3, "linux", own), of(4, "linux", own)];
        assert_eq!(choose(&index, "x").unwrap().digest, digest(3));
        let e = choose(&index[..2], "x").unwrap_err().to_string();
        assert!(e.contains(&format!("only for: linux/s390x, windows/{own}")), "{e}");
    }
}
