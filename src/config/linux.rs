//! The `linux` section of config.json (config-linux.md), without resources and seccomp.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::nullable::nullable;
use super::resources::Resources;
use super::seccomp::Seccomp;

/// `linux`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    #[serde(deserialize_with = "nullable")]
    pub namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "nullable")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "nullable")]
    pub gid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "nullable")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    #[serde(deserialize_with = "nullable")]
    pub devices: Vec<Device>,
    #[serde(deserialize_with = "nullable")]
    pub net_devices: BTreeMap<String, NetDevice>,
    #[serde(deserialize_with = "nullable")]
    pub cgroups_path: String,
    pub resources: Option<Resources>,
    pub intel_rdt: Option<IntelRdt>,
    pub memory_policy: Option<MemoryPolicy>,
    #[serde(deserialize_with = "nullable")]
    pub sysctl: BTreeMap<String, String>,
    pub seccomp: Option<Seccomp>,
    #[serde(deserialize_with = "nullable")]
    pub rootfs_propagation: String,
    #[serde(deserialize_with = "nullable")]
    pub masked_paths: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub readonly_paths: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub mount_label: String,
    pub personality: Option<Personality>,
}

/// An entry of `linux.namespaces`; an empty `path` means a new namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub path: String,
}

/// An entry of `linux.timeOffsets` (time_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    #[serde(deserialize_with = "nullable")]
    pub secs: i64,
    #[serde(deserialize_with = "nullable")]
    pub nanosecs: u32,
}

/// An entry of `linux.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub file_mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// An entry of `linux.netDevices`; an empty `name` keeps the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NetDevice {
    #[serde(deserialize_with = "nullable")]
    pub name: String,
}

/// `linux.intelRdt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    pub schemata: Option<Vec<String>>,
    pub l3_cache_schema: Option<String>,
    pub mem_bw_schema: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub enable_monitoring: bool,
}

/// `linux.memoryPolicy` (set_mempolicy(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MemoryPolicy {
    #[serde(deserialize_with = "nullable")]
    pub mode: String,
    #[serde(deserialize_with = "nullable")]
    pub nodes: String,
    #[serde(deserialize_with = "nullable")]
    pub flags: Vec<String>,
}

/// `linux.personality` (personality(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Personality {
    #[serde(deserialize_with = "nullable")]
    pub domain: String,
    #[serde(deserialize_with = "nullable")]
    pub flags: Vec<String>,
}

/// A range of ids: `size` ids from `container_id` on are `host_id` and following outside (user_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: u32,
    #[serde(rename = "hostID")]
    pub host_id: u32,
    pub size: u32,
}
