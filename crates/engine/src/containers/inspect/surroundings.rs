//! What a container shares, and its devices, in Docker's `HostConfig`.

use serde_json::{Map, Value, json};
use state::options::{ContainerOptions, ExposedPort, IpcMode, PidMode};

/// Adds it.
pub(super) fn add(config: &mut Map<String, Value>, options: &ContainerOptions) {
    let namespaces = &options.namespaces;
    let ipc = match &namespaces.ipc {
        IpcMode::Private => "private".to_owned(),
        IpcMode::None => "none".to_owned(),
        IpcMode::Shareable => "shareable".to_owned(),
        IpcMode::Host => "host".to_owned(),
        IpcMode::Container(name) => format!("container:{name}"),
    };
    let pid = match &namespaces.pid {
        PidMode::Private => String::new(),
        PidMode::Host => "host".to_owned(),
        PidMode::Container(name) => format!("container:{name}"),
    };
    let device = |device: &state::options::DeviceMapping| {
        json!({
            "PathOnHost": device.source,
            "PathInContainer": device.destination,
            "CgroupPermissions": device.access,
        })
    };
    let host = |host: &state::options::HostEntry| match host.address {
        Some(address) => format!("{}:{address}", host.name),
        None => format!("{}:host-gateway", host.name),
    };
    let pairs = [
        ("Privileged", json!(options.privileged)),
        ("IpcMode", json!(ipc)),
        ("PidMode", json!(pid)),
        ("UTSMode", json!(if namespaces.host_uts { "host" } else { "" })),
        ("CgroupnsMode", json!(if namespaces.host_cgroup { "host" } else { "private" })),
        ("CgroupParent", json!(options.cgroup_parent.as_deref().unwrap_or_default())),
        ("Devices", json!(options.devices.iter().map(device).collect::<Vec<_>>())),
        ("DeviceCgroupRules", json!(options.device_rules)),
        ("GroupAdd", json!(options.groups)),
        ("Sysctls", json!(options.sysctls)),
        ("Annotations", json!(options.annotations)),
        ("ExtraHosts", json!(options.hosts.iter().map(host).collect::<Vec<_>>())),
        ("Dns", json!(options.dns.servers)),
        ("DnsSearch", json!(options.dns.search)),
        ("DnsOptions", json!(options.dns.options)),
        ("PublishAllPorts", json!(options.publish_all)),
    ];
    config.extend(pairs.map(|(key, value)| (key.to_owned(), value)));
}

/// `{"80/tcp": {}}`.
pub(super) fn exposed(ports: &[ExposedPort]) -> Value {
    ports.iter().map(|p| (format!("{}/{}", p.port, p.protocol), json!({}))).collect::<Map<_, _>>().into()
}
