//! `state`: where a container stands (runtime.md, "Query State").

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci::runtime::Status;
use serde::Serialize;

use crate::arguments::{Command, Parsed};
use crate::error::Error;
use crate::globals::Globals;
use crate::report::answer;
use crate::store::{Container, Record, Store};

pub(crate) const COMMAND: Command = Command {
    name: "state",
    about: "tell where a container stands, as JSON",
    usage: "<container-id>",
    flags: &[],
    arguments: (1, 1),
    in_order: false,
    run,
};

/// The specification's properties, and those that runc adds. Unlike a hook, whoever asks is told of a process 0, too.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Described {
    oci_version: String,
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) status: Status,
    pub(crate) bundle: PathBuf,
    rootfs: PathBuf,
    pub(crate) created: String,
    pub(crate) owner: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let record = container.record()?;
    let described = describe(&container, &record)?;
    let text = serde_json::to_string_pretty(&described)
        .map_err(|source| Error::Json { path: container.directory.clone(), source })?;
    answer(&format!("{text}\n")).map(|()| 0)
}

/// Where it stands, and what else is known of it.
pub(crate) fn describe(container: &Container, record: &Record) -> Result<Described, Error> {
    let status = container.status(record)?;
    let state = record.state(status);
    Ok(Described {
        oci_version: state.oci_version,
        id: state.id,
        pid: state.pid,
        status: state.status,
        bundle: state.bundle,
        annotations: state.annotations,
        rootfs: record.rootfs.clone(),
        created: record.created.clone(),
        owner: owner(record.owner),
    })
}

/// The name of a user, by the host's own file: there is no name service here.
fn owner(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}
