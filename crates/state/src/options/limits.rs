//! How much of the machine a container may use, and how the kernel treats its processes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All that `--memory`, `--cpus` and `--pids-limit` leave open. `None` and empty mean: as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `--memory-swap`: memory and swap together, bytes; -1 is unlimited.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: Option<u64>,
    /// `--memory-swappiness`, 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// `--kernel-memory`, bytes: the kernel knows no such limit any more.
    pub kernel_memory: Option<u64>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--oom-score-adj`, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// `--cpu-shares`, 1024 is everybody's.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, microseconds in each period; -1 is unlimited.
    pub cpu_quota: Option<i64>,
    /// `--cpu-rt-period`, microseconds.
    pub cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`, microseconds in each period.
    pub cpu_rt_runtime: Option<u64>,
    /// `--cpuset-cpus`: `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--blkio-weight`, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// `--bandwidth-in`: what it receives at most on each of its networks, bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_in: Option<u64>,
    /// `--bandwidth-out`: what it sends at most on each of its networks, bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_out: Option<u64>,
    /// `--blkio-weight-device`.
    pub blkio_weight_device: Vec<DeviceRate>,
    /// `--device-read-bps`, bytes per second.
    pub device_read_bps: Vec<DeviceRate>,
    /// `--device-write-bps`, bytes per second.
    pub device_write_bps: Vec<DeviceRate>,
    /// `--device-read-iops`, operations per second.
    pub device_read_iops: Vec<DeviceRate>,
    /// `--device-write-iops`, operations per second.
    pub device_write_iops: Vec<DeviceRate>,
    /// `--ulimit`, each name once.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size`: bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
}

impl Limits {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A number for one block device of the host's: a weight, or a rate per second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device's path on the host.
    pub path: PathBuf,
    /// The number.
    pub value: u64,
}

/// A resource limit of processes; -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// What is in force.
    pub soft: i64,
    /// How far a process may raise it.
    pub hard: i64,
}
