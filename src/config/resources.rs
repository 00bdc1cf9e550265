//! `linux.resources` (config-linux.md, "Control groups"), and the document that `update --resources` reads.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::nullable::nullable;

/// Limits of the container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Rules for access to devices; later rules override earlier ones.
    #[serde(deserialize_with = "nullable")]
    pub devices: Vec<DeviceRule>,
    /// Limits on memory.
    #[serde(deserialize_with = "nullable")]
    pub memory: Memory,
    /// Shares, quota and placement of CPU time.
    #[serde(deserialize_with = "nullable")]
    pub cpu: Cpu,
    /// Limit on the number of tasks; `None`: unchanged.
    pub pids: Option<Pids>,
    /// Weights and limits of block devices.
    #[serde(rename = "blockIO", deserialize_with = "nullable")]
    pub block_io: BlockIo,
    /// Limits on huge pages, by page size.
    #[serde(deserialize_with = "nullable")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Class and priorities of network traffic.
    #[serde(deserialize_with = "nullable")]
    pub network: Network,
    /// Device name to limits.
    #[serde(deserialize_with = "nullable")]
    pub rdma: BTreeMap<String, Rdma>,
    /// cgroup v2 file name to content.
    #[serde(deserialize_with = "nullable")]
    pub unified: BTreeMap<String, String>,
}

/// An entry of `devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct DeviceRule {
    /// Allow or deny.
    #[serde(deserialize_with = "nullable")]
    pub allow: bool,
    /// `a` (or absent), `c` or `b`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Major number; `None`: all.
    pub major: Option<i64>,
    /// Minor number; `None`: all.
    pub minor: Option<i64>,
    /// Letters of `rwm`; empty means all.
    #[serde(deserialize_with = "nullable")]
    pub access: String,
}

/// `memory`; bytes, -1 is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Memory plus swap.
    pub swap: Option<i64>,
    /// Hard limit of kernel memory; deprecated.
    pub kernel: Option<i64>,
    /// Hard limit of the buffers of TCP; deprecated.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// From 0 to 100 (version 1 only).
    pub swappiness: Option<u64>,
    /// Let tasks wait when the limit is reached, instead of killing one.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Deprecated: descendants are always accounted to their ancestors.
    pub use_hierarchy: Option<bool>,
    /// Refuse an `update` to a limit below the present usage.
    pub check_before_update: Option<bool>,
}

/// `cpu`; quota, period and burst in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Relative weight, as in cpu.shares of version 1.
    pub shares: Option<u64>,
    /// Time in each period; negative: unlimited.
    pub quota: Option<i64>,
    /// Unused time that may accumulate.
    pub burst: Option<u64>,
    /// Length of a period.
    pub period: Option<u64>,
    /// Realtime time in each period, in microseconds (version 1 only).
    pub realtime_runtime: Option<i64>,
    /// Length of a realtime period, in microseconds (version 1 only).
    pub realtime_period: Option<u64>,
    /// CPUs as a list such as `0-3,7`; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub cpus: String,
    /// Memory nodes as a list; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub mems: String,
    /// 1 for `SCHED_IDLE` behavior, 0 for none.
    pub idle: Option<i64>,
}

/// `pids`; a limit of 0 is a real one since 1.3 (see [`super::spec::Spec::resources`]), a negative one is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Pids {
    /// Number of tasks.
    pub limit: Option<i64>,
}

/// `blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    /// Relative weight, from 10 to 1000.
    pub weight: Option<u16>,
    /// Relative weight of the tasks against those of child cgroups (version 1 only).
    pub leaf_weight: Option<u16>,
    /// Weights of single devices.
    #[serde(deserialize_with = "nullable")]
    pub weight_device: Vec<WeightDevice>,
    /// Limits of reading, in bytes per second.
    #[serde(deserialize_with = "nullable")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Limits of writing, in bytes per second.
    #[serde(deserialize_with = "nullable")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Limits of reading, in operations per second.
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "nullable")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Limits of writing, in operations per second.
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "nullable")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// An entry of `blockIO.weightDevice`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightDevice {
    /// Major number of the device.
    pub major: i64,
    /// Minor number of the device.
    pub minor: i64,
    /// Relative weight, from 10 to 1000.
    pub weight: Option<u16>,
    /// Relative weight of the tasks against those of child cgroups (version 1 only).
    pub leaf_weight: Option<u16>,
}

/// An entry of a `blockIO.throttle*Device` list; bytes or operations per second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ThrottleDevice {
    /// Major number of the device.
    pub major: i64,
    /// Minor number of the device.
    pub minor: i64,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// An entry of `hugepageLimits`; bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HugepageLimit {
    /// `64KB`, `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// `network` (v1 only).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Network {
    /// Tag of packets (net_cls.classid).
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// Priorities of packets by interface.
    #[serde(deserialize_with = "nullable")]
    pub priorities: Vec<NetPriority>,
}

/// An entry of `network.priorities`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct NetPriority {
    /// Name of the interface.
    pub name: String,
    /// The priority.
    pub priority: u32,
}

/// An entry of `rdma`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rdma {
    /// Number of handles; `None`: unlimited.
    pub hca_handles: Option<u32>,
    /// Number of objects; `None`: unlimited.
    pub hca_objects: Option<u32>,
}
