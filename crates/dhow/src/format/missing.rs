//! Fields that a template names and a value does not have.
//!
//! Docker fills templates from structs: a field that the struct has not is an error, one that is empty prints nothing, and
//! a key that a map of the user's has not (a label) is `<no value>`. All of ours are maps, so what is missing is judged by its
//! name: [`FIELDS`] are in Docker's structs and left out here.

use std::sync::{Arc, LazyLock};

use gotmpl::Value;
use regex::Regex;
use serde_json::Value as Json;

/// In Docker's answers (`inspect`, `info`, `version`, `events`), and not always in ours.
const FIELDS: &str = "
    APIVersion ApiVersion Apiversion Arch ArgsEscaped Attachable Author Bridge BridgeNfIp6tables BridgeNfIptables
    BuildTime CDISpecDirs CPUSet CPUShares Cgroup ClientInfo ClusterVolume Cmd Comment Components ConfigFrom
    ConfigOnly ConsoleSize Container ContainerConfig ContainerIDFile Containerd ContainerdCommit Containers Context
    CpuCfsPeriod CpuCfsQuota CpuCount CpuPercent CreatedAt DNSNames Debug DefaultAPIVersion DefaultAddressPools
    DefaultRuntime Descriptor DeviceRequests DiscoveredDevices DockerVersion Domainname DriverOpts DriverStatus
    EnableIPv4 EnableIPv6 EndpointID Entrypoint Env ExecIDs Experimental ExperimentalBuild ExposedPorts
    FirewallBackend From GenericResources GitCommit GoVersion GwPriority HairpinMode HttpProxy HttpsProxy ID
    IOMaximumBandwidth IOMaximumIOps IPv4Forwarding Identity ImageManifestDescriptor IndexServerAddress Ingress
    InitBinary InitCommit Isolation KernelMemory KernelMemoryTCP KernelVersion Labels LinkLocalIPv6Address
    LinkLocalIPv6PrefixLen Links LiveRestoreEnabled MacAddress Manifests MemoryLimit Metadata MinAPIVersion
    MountLabel NEventsListener NFd NGoroutines NetworkDisabled NoProxy Node OSVersion OnBuild OomKillDisable Options
    Os OsVersion Parent Peers PidsLimit Platform Plugins ProcessLabel ProductLicense RegistryConfig RepoDigests
    RepoTags RuncCommit Runtime Runtimes SandboxID SandboxKey Scope SecondaryIPAddresses SecondaryIPv6Addresses
    ServerErrors Services Shell SizeRootFs SizeRw Status StdinOnce StopSignal StopTimeout StorageOpt SwapLimit Swarm
    SystemStatus SystemTime Time TimeNano UsageData User UsernsMode Variant VirtualSize VolumeDriver Volumes
    Warnings WorkingDir";

/// Maps whose keys users choose.
const MAPS: &[&str] =
    &["Annotations", "Attributes", "Config", "DriverOpts", "Labels", "Options", "Sysctls", "Tmpfs"];

/// Whether Docker would print something for a key that is missing, rather than to refuse the template.
pub(super) fn is_fine(template: &str, key: &str) -> bool {
    if FIELDS.split_whitespace().any(|field| field == key) {
        return true;
    }
    let mut alone = false;
    for chain in chains(template) {
        let names: Vec<&str> = chain.split('.').skip(1).collect();
        let Some(at) = names.iter().position(|name| *name == key) else { continue };
        // A key of a user's map ends the chain: of what is not there, nothing is there.
        if at > 0 && at + 1 == names.len() && is_map(&names[..at]) {
            return true;
        }
        alone |= names == [key];
    }
    // `{{with .Config.Labels}}{{.x}}{{end}}`
    alone && chains(template).any(|chain| is_map(&chain.split('.').skip(1).collect::<Vec<_>>()))
}

/// The field that a message names: `.State.Health.Status`.
pub(super) fn chain_with<'t>(template: &'t str, key: &str) -> Option<&'t str> {
    chains(template).find(|chain| chain.split('.').any(|name| name == key))
}

fn is_map(names: &[&str]) -> bool {
    match names {
        // Not that of a container, which is a struct.
        [.., "LogConfig", "Config"] => true,
        [.., last] => *last != "Config" && MAPS.contains(last),
        [] => false,
    }
}

/// `.A.B.C`, as they stand in it.
fn chains(template: &str) -> impl Iterator<Item = &str> {
    static CHAIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(\.[\pL_][\pL_\d]*)+").ok());
    CHAIN.iter().flat_map(move |chain| chain.find_iter(template)).map(|found| found.as_str())
}

/// A pointer to a struct that points nowhere: false, nothing in JSON, and without any field.
static NOWHERE: LazyLock<Arc<[Value]>> = LazyLock::new(|| Arc::from(vec![]));

pub(super) fn is_nowhere(value: &Value) -> bool {
    matches!(value, Value::List(list) if Arc::ptr_eq(list, &NOWHERE))
}

/// The field, and the pointer in its chain, where a message is about a field of what points nowhere.
pub(super) fn nowhere<'t>(template: &'t str, message: &str) -> Option<(&'t str, &'t str)> {
    let (_, rest) = message.split_once("can't evaluate field ")?;
    let (field, kind) = rest.split_once(" in type ")?;
    let chain = chain_with(template, field).filter(|_| kind == "list")?;
    let pointer = chain.split('.').find(|name| POINTERS.iter().any(|(_, pointer)| pointer == name))?;
    Some((chain, pointer))
}

/// Docker's pointers that may point nowhere, and that scripts ask for.
const POINTERS: [(&str, &str); 2] = [("State", "Health"), ("Config", "Healthcheck")];

/// Puts them into the value of an `inspect`.
pub(super) fn add_pointers(value: Value, json: &Json) -> Value {
    let Value::Map(map) = &value else { return value };
    let mut map = (**map).clone();
    for (parent, name) in POINTERS {
        let Some(Value::Map(inner)) = map.get(parent) else { continue };
        if json[parent][name].is_null() {
            let mut inner = (**inner).clone();
            inner.insert(name.into(), Value::List(Arc::clone(&NOWHERE)));
            map.insert(parent.into(), Value::Map(Arc::new(inner)));
        }
    }
    Value::Map(Arc::new(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_prints_is_fine() {
        for (template, key) in [
            ("{{.Config.Shell}}", "Shell"),
            ("{{.Config.Labels.x}}", "x"),
            ("{{.Actor.Attributes.exitCode}}", "exitCode"),
            ("{{with .Config.Labels}}{{.x}}{{end}}", "x"),
            ("{{.HostConfig.LogConfig.Config.tag}}", "tag"),
        ] {
            assert!(is_fine(template, key), "{template}");
        }
        for (template, key) in [
            ("{{.Foo}}", "Foo"),
            ("{{.State.Foo}}", "Foo"),
            ("{{.Config.Foo}}", "Foo"),
            ("{{.Config.Labels.x.y}}", "x"),
            ("{{.Foo.Labels}}", "Foo"),
            ("{{.NetworkSettings.Networks.x.IPAddress}}", "x"),
        ] {
            assert!(!is_fine(template, key), "{template}");
        }
        assert_eq!(chain_with("{{upper .A.Foo.B}}", "Foo"), Some(".A.Foo.B"));
    }
}
