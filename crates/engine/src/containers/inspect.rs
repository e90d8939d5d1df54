//! `inspect` of a container, in Docker's shape.

mod limits;
mod mounts;
mod network;
mod surroundings;

use std::path::Path;

use base::Timestamp;
use runtime::cgroup;
use serde_json::{Map, Value, json};
use state::container::{Health, Probe, Record, Status, file};
use state::options::{Origin, PortMapping, RestartPolicy, SeccompChoice};

use crate::Engine;
use crate::containers::records::{self, Found};
use crate::containers::signal;
use crate::containers::spec::system_paths;
use crate::error::Result;
use crate::networks;

impl Engine {
    /// The same, and how many bytes its own files take (`SizeRw`) and they with its image's (`SizeRootFs`).
    pub fn inspect_container_with_size(&self, name: &str) -> Result<Value> {
        let record = self.find(name)?.record;
        let mut value = self.inspect_container(record.id.as_str())?;
        let own = self.container_size(&record.id);
        let image: u64 = record.image.layers.iter().map(|layer| self.layer_size(layer)).sum();
        value["SizeRw"] = json!(own);
        value["SizeRootFs"] = json!(own + image);
        Ok(value)
    }

    /// All that is known of a container.
    pub fn inspect_container(&self, name: &str) -> Result<Value> {
        let found = self.find(name)?;
        let Found { record, .. } = &found;
        let options = &record.options;
        let resolved = &record.resolved;
        let dir = self.instance.container(&record.id);
        let live = self.instance.live(&record.id);
        let endpoints = self.endpoints_of(&record.id)?;
        let (path, args) = record.args.split_first().map_or(("", &[][..]), |(path, args)| (path, args));
        Ok(json!({
            "Id": record.id,
            "Created": rfc3339(record.created),
            "Path": path,
            "Args": args,
            "State": state(&found, records::health(&self.instance, &record.id)?, self.oom_killed(&found)),
            "Image": record.image.id,
            "ResolvConfPath": live.join("resolv.conf"),
            "HostnamePath": live.join("hostname"),
            "HostsPath": live.join("hosts"),
            "LogPath": self.log_of(record).map_or_else(Default::default, |(path, _)| path),
            "LogStatus": self.log_status(record),
            "Name": format!("/{}", record.name),
            "RestartCount": restart_count(&found),
            "Driver": "overlay",
            "Platform": "linux",
            "ExecIDs": null,
            "AppArmorProfile": options.security.apparmor.clone().unwrap_or_default(),
            "HostConfig": host_config(&found, self.config.pids_limit),
            "GraphDriver": {
                "Name": "overlay",
                "Data": {
                    "LowerDir": self.lower_directories(record),
                    "MergedDir": live,
                    "UpperDir": dir.join(file::UPPER),
                    "WorkDir": dir.join(file::WORK),
                },
            },
            "Mounts": mounts::all(options, |name| json!(self.volume_store().mountpoint(name))),
            "Config": {
                "Hostname": resolved.hostname,
                "Domainname": options.domainname.clone().unwrap_or_default(),
                "ExposedPorts": surroundings::exposed(&resolved.exposed),
                "User": resolved.user,
                "AttachStdin": options.attach.stdin,
                "AttachStdout": options.attach.stdout,
                "AttachStderr": options.attach.stderr,
                "Tty": options.tty,
                "OpenStdin": options.interactive,
                "StdinOnce": options.interactive && options.attach.stdin,
                "Env": resolved.env,
                "Cmd": if options.command.is_empty() { args } else { &options.command[..] },
                "Entrypoint": options.entrypoint,
                "Image": record.image.reference,
                "Volumes": mounts::declared(options),
                "WorkingDir": resolved.working_dir,
                "Labels": options.labels,
                "StopSignal": options.stop_signal.clone().unwrap_or_else(|| signal::name(resolved.stop_signal)),
                "StopTimeout": resolved.stop_timeout,
                "Healthcheck": health_check(&found),
            },
            "NetworkSettings": network::settings(&found, &endpoints, &self.egress_in_force(&found.record.id)),
        }))
    }

    /// Whether the kernel has killed one of its processes for want of memory, in this run or, if it has ended, in the last.
    fn oom_killed(&self, found: &Found) -> bool {
        let running = || {
            let hierarchy = cgroup::Hierarchy::detect().ok()?;
            Some(cgroup::Group::existing(&hierarchy, &self.location(&found.record)).oom_killed())
        };
        if found.status.is_up() && found.status != Status::Restarting {
            return running().unwrap_or(false);
        }
        found.exit.as_ref().is_some_and(|exit| exit.oom_killed)
    }

    /// Where the image's files are, the uppermost first; nothing where some of them are gone.
    fn lower_directories(&self, record: &Record) -> String {
        let overlay = self.layer_store().overlay(&record.image.layers, Path::new(""));
        let lowers = overlay.map(|overlay| overlay.lowers).unwrap_or_default();
        lowers.iter().map(|lower| lower.display().to_string()).collect::<Vec<_>>().join(":")
    }
}

fn state(found: &Found, health: Option<Health>, oom_killed: bool) -> Value {
    let Found { exit, live, status, .. } = found;
    let ended = exit.as_ref().filter(|_| matches!(status, Status::Exited | Status::Restarting));
    let started = live.as_ref().map(|l| l.started).or(ended.and_then(|e| e.started));
    let mut state = json!({
        "Status": status.as_str(),
        "Running": status.is_up(),
        "Paused": *status == Status::Paused,
        "Restarting": *status == Status::Restarting,
        "OOMKilled": oom_killed,
        "Dead": *status == Status::Dead,
        "Pid": live.as_ref().map_or(0, |l| l.pid),
        "ExitCode": ended.map_or(0, |e| e.code),
        "Error": ended.and_then(|e| e.error.clone()).unwrap_or_default(),
        "StartedAt": started.map_or_else(zero_time, rfc3339),
        "FinishedAt": exit.as_ref().map_or_else(zero_time, |e| rfc3339(e.finished)),
    });
    if found.record.resolved.health.is_some() {
        let health = match live {
            Some(_) => Some(health.unwrap_or_default()),
            None => ended.and_then(|e| e.health.clone()),
        };
        if let Some(health) = health {
            state["Health"] = shown_health(&health);
        }
    }
    state
}

fn shown_health(health: &Health) -> Value {
    let probe = |probe: &Probe| {
        json!({
            "Start": rfc3339(probe.start),
            "End": rfc3339(probe.end),
            "ExitCode": probe.exit_code,
            "Output": probe.output,
        })
    };
    json!({
        "Status": health.status.as_str(),
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(probe).collect::<Vec<_>>(),
    })
}

fn restart_count(found: &Found) -> u32 {
    let live = found.live.as_ref().map(|l| l.restarts);
    live.or(found.exit.as_ref().map(|e| e.restarts)).unwrap_or(0)
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let most = if let RestartPolicy::OnFailure(most) = policy { most } else { 0 };
    json!({ "Name": policy.name(), "MaximumRetryCount": most })
}

/// Docker's `Config.Healthcheck`.
fn health_check(found: &Found) -> Value {
    match &found.record.resolved.health {
        Some(check) => json!({
            "Test": check.test,
            "Interval": check.interval,
            "Timeout": check.timeout,
            "StartPeriod": check.start_period,
            "StartInterval": check.start_interval,
            "Retries": check.retries,
        }),
        None if found.record.options.health.disabled => json!({ "Test": ["NONE"] }),
        None => Value::Null,
    }
}

fn host_config(found: &Found, default_pids: i64) -> Value {
    let record = &found.record;
    let options = &record.options;
    let mut security: Vec<String> = Vec::new();
    let [masked, read_only] = system_paths(options);
    if record.resolved.no_new_privileges {
        security.push("no-new-privileges".to_owned());
    }
    match &options.security.seccomp {
        SeccompChoice::Default => {}
        SeccompChoice::Unconfined => security.push("seccomp=unconfined".to_owned()),
        SeccompChoice::Profile(text) => security.push(format!("seccomp={text}")),
    }
    security.extend(options.security.apparmor.as_ref().map(|profile| format!("apparmor={profile}")));
    let tmpfs: Map<String, Value> = options
        .tmpfs
        .iter()
        .filter(|t| t.origin == Origin::Short)
        .map(|t| (t.destination.display().to_string(), Value::from(t.options.join(","))))
        .collect();
    let mut config = json!({
        "Binds": mounts::short(options),
        "Mounts": mounts::long(options),
        "VolumesFrom": mounts::inherited(options),
        "LogConfig": { "Type": options.log.driver.unwrap_or_default().name(), "Config": options.log.words() },
        "NetworkMode": networks::mode(options),
        "PortBindings": port_map(&options.ports),
        "RestartPolicy": restart_policy(options.restart),
        "AutoRemove": options.auto_remove,
        "CapAdd": options.cap_add,
        "CapDrop": options.cap_drop,
        "Init": options.init,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": security,
        "Tmpfs": tmpfs,
        "MaskedPaths": masked,
        "ReadonlyPaths": read_only,
    });
    if let Value::Object(config) = &mut config {
        limits::add(config, options, default_pids);
        surroundings::add(config, options);
    }
    config
}

/// `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`.
fn port_map(ports: &[PortMapping]) -> Value {
    let mut map: Map<String, Value> = Map::new();
    for port in ports {
        let binding = json!({
            "HostIp": port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
            "HostPort": port.host_port.to_string(),
        });
        let key = format!("{}/{}", port.container_port, port.protocol);
        if let Value::Array(bindings) = map.entry(key).or_insert_with(|| json!([])) {
            bindings.push(binding);
        }
    }
    Value::Object(map)
}

/// RFC 3339 with nanoseconds, as Go writes it.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let mut text = Vec::new();
    logging::format_time(time, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Go's zero time: never.
pub(crate) fn zero_time() -> String {
    "0001-01-01T00:00:00Z".to_owned()
}
