//! The configuration of an image (OCI image-spec, "Image Configuration"; Docker's is the same with a few members more).
//! Members that a container does not need are not read; unknown members are ignored, as the specification demands.

use crate::config::parse;
use crate::error::Result;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An image's configuration, as far as a container needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Configuration {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, deserialize_with = "or_default")]
    pub config: Process,
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: RootFs,
}

/// The default program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Process {
    /// `USER[:GROUP]`, names or numbers of the image; empty: root.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// A name or a number.
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
    /// `80/tcp`; the values are empty objects.
    #[serde(deserialize_with = "or_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Directories that hold data.
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Docker's: what finds out whether the program is healthy. Read when it is needed: elsewhere its faults do no harm.
    pub healthcheck: Option<serde_json::Value>,
    /// Docker's: what runs commands that are one line; empty: `/bin/sh -c`.
    #[serde(deserialize_with = "or_default")]
    pub shell: Vec<String>,
}

/// The value of a set's member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Empty {}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(deserialize_with = "or_default")]
    pub diff_ids: Vec<String>,
}

/// `null` is written where there is nothing.
fn or_default<'de, D, T>(d: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl Configuration {
    /// Reads a configuration; `name` is for the error.
    ///
    /// # Errors
    /// It is not JSON, or a member is of another type.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Configuration> {
        parse::json(bytes, name)
    }
}
