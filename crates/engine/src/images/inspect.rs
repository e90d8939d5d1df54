//! `inspect` of an image, in Docker's shape.

use std::collections::BTreeSet;

use image::{Reference, Resolved};
use serde_json::{Value, json};

use crate::Engine;
use crate::containers::inspect::{rfc3339, zero_time};
use crate::error::Result;
use crate::images::list::familiar;

impl Engine {
    /// All that is known of an image.
    pub fn inspect_image(&self, name: &str) -> Result<Value> {
        let store = self.image_store()?;
        let image = self.find_image(name)?;
        let names: Vec<Resolved> = store.list()?.into_iter().filter(|r| r.id == image.id).collect();
        let digests: Vec<String> = names
            .iter()
            .filter_map(|record| {
                let reference: Reference = record.reference.parse().ok()?;
                Some(format!("{}@{}", reference.familiar_name(), record.source.unwrap_or(record.manifest)))
            })
            .collect();
        let config = &image.config;
        let execution = config.config.clone().unwrap_or_default();
        // What the record leaves out: the history, and what only builders and health checks need.
        let raw: Value = serde_json::from_slice(&store.read_blob(&image.id)?).unwrap_or_default();
        let more = &raw["config"];
        let last = raw["history"].as_array().and_then(|history| history.last());
        let layers = self.layer_store();
        let mut directories: Vec<_> = image.diff_ids().map(|id| layers.path(&id)).collect();
        let upper = directories.pop();
        directories.reverse();
        let lower: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
        Ok(json!({
            "Id": image.id,
            "RepoTags": names.iter().filter(|r| !r.reference.contains('@')).filter_map(familiar).collect::<Vec<_>>(),
            "RepoDigests": digests,
            "Created": if image.created.0 == 0 { zero_time() } else { rfc3339(image.created) },
            "Parent": "",
            "Comment": last.map_or("", |step| step["comment"].as_str().unwrap_or_default()),
            "DockerVersion": raw["docker_version"].as_str().unwrap_or_default(),
            "Author": config.author.clone().unwrap_or_default(),
            "Config": {
                "User": execution.user,
                "ExposedPorts": set(&execution.exposed_ports),
                "Env": execution.env,
                "Entrypoint": execution.entrypoint,
                "Cmd": execution.cmd,
                "Volumes": set(&execution.volumes),
                "WorkingDir": execution.working_dir,
                "Labels": execution.labels,
                "StopSignal": execution.stop_signal,
                "OnBuild": more["OnBuild"],
                "Healthcheck": more["Healthcheck"],
                "Shell": more["Shell"],
            },
            "Architecture": config.platform.architecture,
            "Variant": config.platform.variant,
            "Os": config.platform.os,
            "Size": image.size,
            "GraphDriver": {
                "Name": "overlay",
                "Data": { "LowerDir": lower.join(":"), "UpperDir": upper },
            },
            "RootFS": { "Type": "layers", "Layers": image.diff_ids().collect::<Vec<_>>() },
            "Descriptor": { "mediaType": image.media_type, "digest": image.manifest, "size": image.manifest_size },
        }))
    }
}

/// As Go writes sets.
fn set(members: &BTreeSet<String>) -> Value {
    members.iter().map(|member| (member.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into()
}
