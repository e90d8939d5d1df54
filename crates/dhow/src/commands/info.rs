//! `dhow info`.

use clap::Parser;
use engine::Info;
use serde_json::Value;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{format, human, output};

/// Show what this machine gives, and what is in force.
#[derive(Debug, Parser)]
#[command(name = "info")]
pub(crate) struct Arguments {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let info = context.engine()?.info()?;
        match self.format.as_deref().filter(|format| !format.is_empty()) {
            Some(format) => {
                let mut value = serde_json::to_value(&info).map_err(|e| Error::Format(e.to_string()))?;
                add_dockers_names(&mut value);
                format::one(format, &value)?;
            }
            None => output::text(&text(&info))?,
        }
        for warning in &info.warnings {
            output::talk(&format!("WARNING: {warning}"));
        }
        Ok(0)
    }
}

/// What Docker's scripts ask for under other names than ours.
fn add_dockers_names(info: &mut Value) {
    let names = [
        ("Driver", "StorageDriver"),
        ("NCPU", "Cpus"),
        ("MemTotal", "MemoryTotal"),
        ("DockerRootDir", "RootDir"),
    ];
    for (dockers, ours) in names {
        info[dockers] = info[ours].clone();
    }
    // How the hierarchies of version 1 are mounted is for people.
    let version = info["CgroupVersion"].as_str().and_then(|text| text.split(' ').next()).map(str::to_owned);
    info["CgroupVersion"] = Value::from(version);
    info["OSType"] = Value::from("linux");
    info["CgroupDriver"] = Value::from("cgroupfs");
}

fn text(info: &Info) -> String {
    let limit = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let mut lines = vec![
        format!("Containers: {}", info.containers),
        format!(" Running: {}", info.containers_running),
        format!(" Paused: {}", info.containers_paused),
        format!(" Stopped: {}", info.containers_stopped),
        format!("Images: {}", info.images),
        format!("Version: {}", info.server_version),
        format!("Storage Driver: {}", info.storage_driver),
        format!("Logging Driver: {}", info.logging_driver),
        format!(" Entries to be sent: {}", info.log_entries_pending),
        format!(" Entries dropped: {}", info.log_entries_dropped),
        format!("Cgroup Version: {}", info.cgroup_version),
        format!(" Parent: {}", info.cgroup_parent),
        format!(" Memory of all containers: {}", limit(info.containers_memory_limit.map(human::binary_size))),
        format!(" Processes of a container: {}", limit(info.default_pids_limit.map(|n| n.to_string()))),
        "Security Options:".to_owned(),
    ];
    lines.extend(info.security_options.iter().map(|option| format!(" {option}")));
    lines.extend([
        format!("Kernel Version: {}", info.kernel_version),
        format!("Operating System: {}", info.operating_system),
        format!("Architecture: {}", info.architecture),
        format!("CPUs: {}", info.cpus),
        format!("Total Memory: {}", human::binary_size(info.memory_total)),
        format!("Name: {}", info.name),
        format!("Bridge: {}", info.bridge),
        format!("Root Dir: {}", info.root_dir),
        format!("Run Dir: {}", info.run_dir),
    ]);
    lines.join("\n") + "\n"
}
