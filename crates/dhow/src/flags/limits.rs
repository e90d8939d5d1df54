//! The limits that a container is given when it is made and that can be changed later.

use clap::Args;
use engine::LimitChanges;

use super::cpus::NanoCpus;
use super::number::{Number, Signed};
use super::rate::Rate;
use super::size::{Bytes, BytesOrAll};

/// Those flags of `run`, `create` and `update`. As with Docker, 0 is as good as nothing.
#[derive(Debug, Default, PartialEq, Args)]
#[group(skip)]
pub(crate) struct LimitFlags {
    /// Limit its memory
    #[arg(short, long, value_name = "BYTES", help_heading = "Limits")]
    memory: Option<Bytes>,
    /// Limit its memory and swap together (-1: no limit of swap)
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    memory_swap: Option<BytesOrAll>,
    /// What it is left with when memory is short
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    memory_reservation: Option<Bytes>,
    /// Has no meaning any more: the kernel has no such limit
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory: Option<Bytes>,
    /// Limit its share of processors
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    cpus: Option<NanoCpus>,
    /// Its weight where processors are short (1024)
    #[arg(short, long, value_name = "WEIGHT", help_heading = "Limits")]
    cpu_shares: Option<Number>,
    /// The period of its CPU quota
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Limits")]
    cpu_period: Option<Number>,
    /// Its CPU time in each period (-1: no limit)
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Limits")]
    cpu_quota: Option<Signed>,
    /// The period of its realtime CPU limit
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Limits")]
    cpu_rt_period: Option<Number>,
    /// Its realtime CPU time in each period
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Limits")]
    cpu_rt_runtime: Option<Number>,
    /// Only these processors: 0-3,7
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    cpuset_cpus: Option<String>,
    /// Only these memory nodes: 0,1
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    cpuset_mems: Option<String>,
    /// Limit the number of its processes (-1: no limit)
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pids_limit: Option<Signed>,
    /// Its weight where disks are busy: 10 to 1000
    #[arg(long, value_name = "WEIGHT", help_heading = "Limits")]
    blkio_weight: Option<Number>,
    /// Limit what it receives on each of its networks: 10mbit, 5MB (per second; 0: no limit)
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    bandwidth_in: Option<Rate>,
    /// Limit what it sends on each of its networks: 10mbit, 5MB (per second; 0: no limit)
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    bandwidth_out: Option<Rate>,
}

impl LimitFlags {
    /// Whether one of them was given, whatever its value.
    pub(crate) fn any(&self) -> bool {
        *self != Self::default()
    }

    /// What they ask for.
    pub(crate) fn changes(self) -> LimitChanges {
        let said = |bytes: Option<Bytes>| bytes.map(|Bytes(bytes)| bytes).filter(|bytes| *bytes > 0);
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        LimitChanges {
            memory: said(self.memory),
            memory_swap: self.memory_swap.map(|BytesOrAll(bytes)| bytes).filter(|bytes| *bytes != 0),
            memory_reservation: said(self.memory_reservation),
            kernel_memory: said(self.kernel_memory),
            nano_cpus: self.cpus.map(|NanoCpus(nanos)| nanos).filter(|nanos| *nanos > 0),
            cpu_shares: self.cpu_shares.and_then(Number::said),
            cpu_period: self.cpu_period.and_then(Number::said),
            cpu_quota: self.cpu_quota.map(|Signed(quota)| quota).filter(|quota| *quota != 0),
            cpu_rt_period: self.cpu_rt_period.and_then(Number::said),
            cpu_rt_runtime: self.cpu_rt_runtime.and_then(Number::said),
            cpuset_cpus: text(self.cpuset_cpus),
            cpuset_mems: text(self.cpuset_mems),
            // Docker: 0 and -1 both mean no limit.
            pids_limit: self.pids_limit.map(|Signed(limit)| if limit <= 0 { -1 } else { limit }),
            // A number that is too large is refused with all others of its kind.
            blkio_weight: self
                .blkio_weight
                .and_then(Number::said)
                .map(|w| u16::try_from(w).unwrap_or(u16::MAX)),
            bandwidth_in: self.bandwidth_in.map(|Rate(rate)| rate),
            bandwidth_out: self.bandwidth_out.map(|Rate(rate)| rate),
        }
    }
}
