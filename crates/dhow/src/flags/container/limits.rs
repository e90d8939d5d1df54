//! How much of the machine it may use.

use clap::Args;
use state::options::ContainerOptions;

use crate::flags::cpus::NanoCpus;
use crate::flags::size::Bytes;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Limit its memory
    #[arg(short, long, value_name = "BYTES", help_heading = "Limits")]
    memory: Option<Bytes>,
    /// Limit its share of processors
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    cpus: Option<NanoCpus>,
    /// Limit the number of its processes (-1: no limit)
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pids_limit: Option<i64>,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) {
        options.memory = self.memory.map(|Bytes(bytes)| bytes).filter(|bytes| *bytes > 0);
        options.nano_cpus = self.cpus.map(|NanoCpus(nanos)| nanos).filter(|nanos| *nanos > 0);
        // Docker: 0 and -1 both mean no limit.
        options.pids_limit = self.pids_limit.map(|limit| if limit <= 0 { -1 } else { limit });
    }
}
