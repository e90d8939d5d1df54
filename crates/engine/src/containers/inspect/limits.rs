//! The limits in Docker's `HostConfig`.

use serde_json::{Map, Value, json};
use state::options::{ContainerOptions, DeviceRate, Ulimit};

use crate::containers::spec::limits::SHM_SIZE;

/// Adds them.
pub(super) fn add(config: &mut Map<String, Value>, options: &ContainerOptions, default_pids: i64) {
    let limits = &options.limits;
    // Docker's default: as much swap as memory.
    let swap = limits.memory_swap.or(options.memory.map(|m| m.saturating_mul(2).cast_signed()));
    let rates = |rates: &[DeviceRate], what: &str| -> Vec<Value> {
        rates.iter().map(|rate| json!({ "Path": rate.path, what: rate.value })).collect()
    };
    let ulimit = |limit: &Ulimit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard });
    let pairs = [
        ("Memory", json!(options.memory.unwrap_or(0))),
        ("MemorySwap", json!(swap.unwrap_or(0))),
        ("MemoryReservation", json!(limits.memory_reservation.unwrap_or(0))),
        ("MemorySwappiness", json!(limits.memory_swappiness)),
        ("OomKillDisable", json!(limits.oom_kill_disable)),
        ("OomScoreAdj", json!(limits.oom_score_adj.unwrap_or(0))),
        ("NanoCpus", json!(options.nano_cpus.unwrap_or(0))),
        ("CpuShares", json!(limits.cpu_shares.unwrap_or(0))),
        ("CpuPeriod", json!(limits.cpu_period.unwrap_or(0))),
        ("CpuQuota", json!(limits.cpu_quota.unwrap_or(0))),
        ("CpuRealtimePeriod", json!(limits.cpu_rt_period.unwrap_or(0))),
        ("CpuRealtimeRuntime", json!(limits.cpu_rt_runtime.unwrap_or(0))),
        ("CpusetCpus", json!(limits.cpuset_cpus.as_deref().unwrap_or_default())),
        ("CpusetMems", json!(limits.cpuset_mems.as_deref().unwrap_or_default())),
        ("PidsLimit", json!(options.pids_limit.unwrap_or(default_pids))),
        ("BandwidthIn", json!(limits.bandwidth_in.unwrap_or(0))),
        ("BandwidthOut", json!(limits.bandwidth_out.unwrap_or(0))),
        ("BlkioWeight", json!(limits.blkio_weight.unwrap_or(0))),
        ("BlkioWeightDevice", json!(rates(&limits.blkio_weight_device, "Weight"))),
        ("BlkioDeviceReadBps", json!(rates(&limits.device_read_bps, "Rate"))),
        ("BlkioDeviceWriteBps", json!(rates(&limits.device_write_bps, "Rate"))),
        ("BlkioDeviceReadIOps", json!(rates(&limits.device_read_iops, "Rate"))),
        ("BlkioDeviceWriteIOps", json!(rates(&limits.device_write_iops, "Rate"))),
        ("Ulimits", json!(limits.ulimits.iter().map(ulimit).collect::<Vec<_>>())),
        ("ShmSize", json!(limits.shm_size.unwrap_or(SHM_SIZE))),
    ];
    config.extend(pairs.map(|(key, value)| (key.to_owned(), value)));
}
