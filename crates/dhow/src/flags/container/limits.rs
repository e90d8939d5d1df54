//! How much of the machine it may use, beside what can be changed later ([`crate::flags::limits`]).

use clap::Args;
use state::options::ContainerOptions;

use crate::flags::device::{BytesRate, OperationsRate, Weight};
use crate::flags::limits::LimitFlags;
use crate::flags::number::{Signed, Swappiness};
use crate::flags::size::Bytes;
use crate::flags::ulimit::{self, Limit};

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    #[command(flatten)]
    changeable: LimitFlags,
    /// How readily its memory is swapped out: 0 to 100
    #[arg(long, value_name = "PERCENT", help_heading = "Limits")]
    memory_swappiness: Option<Swappiness>,
    /// Let its processes wait rather than kill one when its memory is used up
    #[arg(long, help_heading = "Limits")]
    oom_kill_disable: bool,
    /// Whether the kernel kills it first or last: 1000 to -1000
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    oom_score_adj: Option<Signed>,
    /// Its weight for one disk
    #[arg(long, value_name = "PATH:WEIGHT", help_heading = "Limits")]
    blkio_weight_device: Vec<Weight>,
    /// Limit the bytes that it reads from a disk each second
    #[arg(long, value_name = "PATH:BYTES", help_heading = "Limits")]
    device_read_bps: Vec<BytesRate>,
    /// Limit the bytes that it writes to a disk each second
    #[arg(long, value_name = "PATH:BYTES", help_heading = "Limits")]
    device_write_bps: Vec<BytesRate>,
    /// Limit its reads from a disk each second
    #[arg(long, value_name = "PATH:NUMBER", help_heading = "Limits")]
    device_read_iops: Vec<OperationsRate>,
    /// Limit its writes to a disk each second
    #[arg(long, value_name = "PATH:NUMBER", help_heading = "Limits")]
    device_write_iops: Vec<OperationsRate>,
    /// Limit what each of its processes may use: nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    ulimit: Vec<Limit>,
    /// The size of its /dev/shm (64m)
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    shm_size: Option<Bytes>,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) {
        self.changeable.changes().apply(options);
        let limits = &mut options.limits;
        limits.memory_swappiness = self.memory_swappiness.and_then(|Swappiness(percent)| percent);
        limits.oom_kill_disable = self.oom_kill_disable;
        // One that does not fit is refused with all others that are none.
        limits.oom_score_adj = self.oom_score_adj.map(|Signed(n)| i32::try_from(n).unwrap_or(i32::MAX));
        limits.blkio_weight_device = self.blkio_weight_device.into_iter().map(|Weight(w)| w).collect();
        let bytes = |rates: Vec<BytesRate>| rates.into_iter().map(|BytesRate(rate)| rate).collect();
        let operations = |rates: Vec<OperationsRate>| rates.into_iter().map(|OperationsRate(r)| r).collect();
        limits.device_read_bps = bytes(self.device_read_bps);
        limits.device_write_bps = bytes(self.device_write_bps);
        limits.device_read_iops = operations(self.device_read_iops);
        limits.device_write_iops = operations(self.device_write_iops);
        limits.ulimits = ulimit::resolve(self.ulimit);
        limits.shm_size = self.shm_size.map(|Bytes(bytes)| bytes).filter(|bytes| *bytes > 0);
    }
}
