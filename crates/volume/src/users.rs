//! Who uses a volume: the containers whose records name it, running or not.

use std::collections::BTreeMap;

use base::{Id, fs};
use serde::Deserialize;
use state::Instance;
use state::container::file;

use crate::{Error, Result};

/// Volumes' names, and the containers that use them.
pub type Users = BTreeMap<String, Vec<Id>>;

/// What of a record matters here. A later version may write more.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    options: Options,
}

#[derive(Default, Deserialize)]
struct Options {
    #[serde(default)]
    volumes: Vec<Used>,
}

#[derive(Deserialize)]
struct Used {
    name: String,
}

/// All of an instance.
pub fn of(instance: &Instance) -> Result<Users> {
    let mut users = Users::new();
    for name in fs::names(&instance.containers())? {
        let Ok(id) = name.parse::<Id>() else { continue };
        for volume in used_by(instance, &id)? {
            let list = users.entry(volume).or_default();
            if list.last() != Some(&id) {
                list.push(id.clone());
            }
        }
    }
    Ok(users)
}

/// What one container uses. One that cannot be read is an error: what it uses is not known.
fn used_by(instance: &Instance, id: &Id) -> Result<Vec<String>> {
    let path = instance.container(id).join(file::RECORD);
    let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(Vec::new()) };
    // Torn by a power cut: such a container is removed by the next command, and has never run.
    if bytes.contains(&0) || bytes.last() != Some(&b'}') {
        return Ok(Vec::new());
    }
    let record: Record = serde_json::from_slice(&bytes).map_err(|source| Error::Broken { path, source })?;
    Ok(record.options.volumes.into_iter().map(|volume| volume.name).collect())
}
