//! Docker's flags that have no meaning here. Who gives one is told so: a wish is never lost in silence.

use clap::Args;

use crate::error::{Error, Result};

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    #[arg(long, hide = true)]
    runtime: Option<String>,
    #[arg(long, hide = true)]
    gpus: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    userns: Option<String>,
    #[arg(long, hide = true)]
    storage_opt: Vec<String>,
    #[arg(long, hide = true)]
    cpu_count: Option<String>,
    #[arg(long, hide = true)]
    cpu_percent: Option<String>,
    #[arg(long, hide = true)]
    io_maxbandwidth: Option<String>,
    #[arg(long, hide = true)]
    io_maxiops: Option<String>,
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    disable_content_trust: Option<bool>,
    #[arg(long, hide = true)]
    use_api_socket: bool,
}

impl Flags {
    pub(super) fn check(&self) -> Result<()> {
        let windows = "is about Windows containers, and has no meaning here";
        let given = |flag: &Option<String>, fine: &str| flag.as_ref().is_some_and(|value| value != fine);
        let refused: [(&str, bool, &str, &str); 11] = [
            ("runtime", given(&self.runtime, ""), "has no meaning here: Dhow has one runtime, its own", ""),
            (
                "gpus",
                given(&self.gpus, ""),
                "has no meaning here: there is no driver of GPUs",
                "name the devices: --device /dev/dri",
            ),
            ("isolation", given(&self.isolation, "default"), windows, ""),
            (
                "userns",
                given(&self.userns, "host") && given(&self.userns, ""),
                "can be host only, which it is",
                "",
            ),
            (
                "storage-opt",
                !self.storage_opt.is_empty(),
                "has no meaning here: a container's writable layer has no size of its own",
                "",
            ),
            ("cpu-count", given(&self.cpu_count, "0"), windows, "limit processors: --cpus"),
            ("cpu-percent", given(&self.cpu_percent, "0"), windows, "limit processors: --cpus"),
            ("io-maxbandwidth", given(&self.io_maxbandwidth, "0"), windows, "--device-read-bps does that"),
            ("io-maxiops", given(&self.io_maxiops, "0"), windows, "--device-read-iops does that"),
            (
                "disable-content-trust",
                self.disable_content_trust == Some(false),
                "cannot be false: Dhow knows no Notary; every blob is verified by its digest",
                "",
            ),
            ("use-api-socket", self.use_api_socket, "has no meaning here: there is no daemon", ""),
        ];
        match refused.into_iter().find(|(_, refused, ..)| *refused) {
            None => Ok(()),
            Some((flag, _, why, hint)) => Err(Error::Flag {
                message: format!("--{flag} {why}"),
                hints: (!hint.is_empty()).then(|| hint.to_owned()).into_iter().collect(),
            }),
        }
    }
}
