//! The mounts in `inspect`: as they are (`.Mounts`), and as they were asked for (`.HostConfig`, `.Config`).

use std::path::Path;

use serde_json::{Map, Value, json};
use state::options::{BindMount, ContainerOptions, Origin, Recursion, TmpfsMount, VolumeMount};

/// `.Mounts`. `mountpoint`: where a volume's content is.
pub(super) fn all(options: &ContainerOptions, mountpoint: impl Fn(&str) -> Value) -> Vec<Value> {
    let binds = options.binds.iter().map(|b| {
        json!({
            "Type": "bind",
            "Source": b.source,
            "Destination": b.destination,
            "Mode": mode(&b.mode, b.read_only, b.origin),
            "RW": !b.read_only,
            "Propagation": b.propagation.clone().unwrap_or_else(|| "rprivate".to_owned()),
        })
    });
    let volumes = options.volumes.iter().map(|v| {
        json!({
            "Type": "volume",
            "Name": v.name,
            "Source": mountpoint(&v.name),
            "Destination": v.destination,
            "Driver": "local",
            "Mode": mode(&v.mode, v.read_only, v.origin),
            "RW": !v.read_only,
            "Propagation": "",
        })
    });
    let images = options.image_mounts.iter().map(|m| {
        json!({
            "Type": "image",
            "Name": m.id,
            "Source": m.image,
            "Destination": m.destination,
            "Mode": "",
            "RW": false,
            "Propagation": "",
        })
    });
    let tmpfs = options.tmpfs.iter().map(|t| {
        let read_only = t.options.iter().any(|o| o == "ro");
        json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": t.destination,
            "Mode": "",
            "RW": !read_only,
            "Propagation": "",
        })
    });
    volumes.chain(binds).chain(images).chain(tmpfs).collect()
}

/// What was written behind the second colon.
fn mode(written: &str, read_only: bool, origin: Origin) -> String {
    // An older record has not kept it.
    let short = origin == Origin::Short && written.is_empty() && read_only;
    if short { "ro".to_owned() } else { written.to_owned() }
}

/// `.HostConfig.Binds`: what `-v` said, but for anonymous volumes.
pub(super) fn short(options: &ContainerOptions) -> Value {
    let line = |source: &str, destination: &Path, mode: String| {
        let mode = if mode.is_empty() { mode } else { format!(":{mode}") };
        format!("{source}:{}{mode}", destination.display())
    };
    let binds =
        options.binds.iter().filter(|b| b.origin == Origin::Short).map(|b| {
            line(&b.source.display().to_string(), &b.destination, mode(&b.mode, b.read_only, b.origin))
        });
    let volumes = options.volumes.iter().filter(|v| v.origin == Origin::Short && !v.anonymous);
    let volumes = volumes.map(|v| line(&v.name, &v.destination, mode(&v.mode, v.read_only, v.origin)));
    let all: Vec<String> = binds.chain(volumes).collect();
    if all.is_empty() { Value::Null } else { json!(all) }
}

/// `.HostConfig.Mounts`: what `--mount` said.
pub(super) fn long(options: &ContainerOptions) -> Value {
    let binds = options.binds.iter().filter(|b| b.origin == Origin::Long).map(long_bind);
    let volumes = options.volumes.iter().filter(|v| v.origin == Origin::Long).map(long_volume);
    let tmpfs = options.tmpfs.iter().filter(|t| t.origin == Origin::Long).map(long_tmpfs);
    let images = options.image_mounts.iter().map(|m| {
        let mut value =
            json!({ "Type": "image", "Source": m.image, "Target": m.destination, "ReadOnly": true });
        if let Some(subpath) = &m.subpath {
            value["ImageOptions"] = json!({ "Subpath": subpath });
        }
        value
    });
    let all: Vec<Value> = binds.chain(volumes).chain(tmpfs).chain(images).collect();
    if all.is_empty() { Value::Null } else { Value::Array(all) }
}

fn target(kind: &str, source: Option<Value>, destination: &Path, read_only: bool) -> Value {
    let mut value = json!({ "Type": kind });
    if let Some(source) = source {
        value["Source"] = source;
    }
    value["Target"] = json!(destination);
    if read_only {
        value["ReadOnly"] = json!(true);
    }
    value
}

fn long_bind(bind: &BindMount) -> Value {
    let mut value = target("bind", Some(json!(bind.source)), &bind.destination, bind.read_only);
    let mut more = Map::new();
    if let Some(propagation) = &bind.propagation {
        more.insert("Propagation".to_owned(), json!(propagation));
    }
    match bind.recursion {
        Recursion::Enabled => {}
        Recursion::Disabled => drop(more.insert("NonRecursive".to_owned(), json!(true))),
        Recursion::Writable => drop(more.insert("ReadOnlyNonRecursive".to_owned(), json!(true))),
    }
    if !bind.must_exist {
        more.insert("CreateMountpoint".to_owned(), json!(true));
    }
    if !bind.map.is_empty() {
        let map: Vec<Value> = bind
            .map
            .iter()
            .map(|m| json!({ "Of": m.of, "Host": m.host, "Container": m.container, "Count": m.count }))
            .collect();
        more.insert("Map".to_owned(), json!(map));
    }
    if !more.is_empty() {
        value["BindOptions"] = Value::Object(more);
    }
    value
}

fn long_volume(volume: &VolumeMount) -> Value {
    let source = (!volume.anonymous).then(|| json!(volume.name));
    let mut value = target("volume", source, &volume.destination, volume.read_only);
    let mut more = Map::new();
    if volume.no_copy {
        more.insert("NoCopy".to_owned(), json!(true));
    }
    if let Some(subpath) = &volume.subpath {
        more.insert("Subpath".to_owned(), json!(subpath));
    }
    if !volume.labels.is_empty() {
        more.insert("Labels".to_owned(), json!(volume.labels));
    }
    if volume.driver.is_some() || !volume.driver_options.is_empty() {
        let driver = json!({ "Name": volume.driver, "Options": volume.driver_options });
        more.insert("DriverConfig".to_owned(), driver);
    }
    if !more.is_empty() {
        value["VolumeOptions"] = Value::Object(more);
    }
    value
}

fn long_tmpfs(tmpfs: &TmpfsMount) -> Value {
    let read_only = tmpfs.options.iter().any(|o| o == "ro");
    let mut value = target("tmpfs", None, &tmpfs.destination, read_only);
    let of = |key: &str| tmpfs.options.iter().find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
    let mut more = Map::new();
    if let Some(size) = of("size").and_then(|size| size.parse::<u64>().ok()) {
        more.insert("SizeBytes".to_owned(), json!(size));
    }
    if let Some(mode) = of("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok()) {
        more.insert("Mode".to_owned(), json!(mode));
    }
    if !more.is_empty() {
        value["TmpfsOptions"] = Value::Object(more);
    }
    value
}

/// `.HostConfig.VolumesFrom`.
pub(super) fn inherited(options: &ContainerOptions) -> Value {
    let line = |from: &state::options::VolumesFrom| {
        format!("{}{}", from.container, if from.read_only { ":ro" } else { "" })
    };
    let all: Vec<String> = options.volumes_from.iter().map(line).collect();
    if all.is_empty() { Value::Null } else { json!(all) }
}

/// `.Config.Volumes`: the paths that have an anonymous volume.
pub(super) fn declared(options: &ContainerOptions) -> Value {
    let wanted = |v: &&VolumeMount| v.anonymous && matches!(v.origin, Origin::Short | Origin::Image);
    let all: Map<String, Value> = options
        .volumes
        .iter()
        .filter(wanted)
        .map(|v| (v.destination.display().to_string(), json!({})))
        .collect();
    if all.is_empty() { Value::Null } else { Value::Object(all) }
}
