//! `commit`: what a container wrote becomes the top layer of a new image.

use std::os::fd::{AsFd, OwnedFd};

use base::fs::At;
use base::progress::Progress;
use base::{Digest, Failure, Kind, Timestamp};
use image::write::{NewBlob, NewLayer, over};
use image::{Ingest, Layer, Resolved};
use rootfs::pack::{self, Packed, Source};
use rootfs::{Compression, Limits};
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::{Value, json};
use state::container::{Record, Status, file};

use crate::Engine;
use crate::containers::inspect::rfc3339;
use crate::containers::records::Found;
use crate::error::Result;
use crate::images::change::{self, Config};
use crate::images::tag;
use crate::images::unpack::unpack_from_store;

/// How to commit.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// The new image's name; none: it gets none.
    pub reference: Option<String>,
    /// Who made it.
    pub author: String,
    /// What for.
    pub message: String,
    /// Instructions of a Dockerfile that change the configuration.
    pub changes: Vec<String>,
    /// Freeze the container while its files are read.
    pub pause: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the image of the container, {}, is not in the store any more", .0.short())]
struct NoBase(Digest);

impl Failure for NoBase {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn hints(&self) -> Vec<String> {
        vec!["pull or load that image again".to_owned()]
    }
}

/// The archive of an empty directory: such a layer is none.
const EMPTY: u64 = 1024;

impl Engine {
    /// Makes an image of a container. Returns the image's id.
    pub fn commit(
        &self,
        container: &str,
        options: &CommitOptions,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let name = options.reference.as_deref().map(tag::new_name).transpose()?;
        let found = self.find(container)?;
        let record = &found.record;
        let store = self.image_store()?;
        let ingest = store.ingest()?;
        let base = base_of(&ingest, record)?;
        let mut config: Config = document(&store.read_blob(&base.id)?, &base)?;
        // What makes no sense is said before anything is frozen.
        let execution = execution(&config, record, &options.changes)?;
        let packed = self.pack_upper(&ingest, &found, options.pause)?;
        let layer = (packed.unpacked > EMPTY).then_some(packed);
        let now = rfc3339(Timestamp::now());
        let mut step = json!({ "created": now, "created_by": record.args.join(" ") });
        for (key, value) in [("author", &options.author), ("comment", &options.message)] {
            if !value.is_empty() {
                step[key] = Value::from(&**value);
            }
        }
        if layer.is_none() {
            step["empty_layer"] = Value::from(true);
        }
        // What Docker kept of the container that made the old image is not true of this one.
        for key in ["container", "container_config", "parent", "id", "author"] {
            config.remove(key);
        }
        if !options.author.is_empty() {
            config.insert("author".to_owned(), Value::from(&*options.author));
        }
        config.insert("created".to_owned(), Value::from(now));
        config.insert("config".to_owned(), Value::Object(execution));
        match config.get_mut("history") {
            Some(Value::Array(history)) => history.push(step),
            _ => drop(config.insert("history".to_owned(), json!([step]))),
        }
        let layer = layer.map(new_layer);
        let image = over(&ingest, Some(&base), layer, Value::Object(config))?;
        // What a container wrote is on this disk already, so that nothing in it is too much; gigabytes of zeros pack
        // better than any stranger's layer may.
        let limits = Limits { max_size: u64::MAX, max_ratio: u64::MAX, ..self.config.unpack.limits() };
        self.unpack_new(&ingest, &image, limits, progress)?;
        let image = ingest.commit(name.as_ref(), &image.manifest, None)?;
        let imaged = [
            ("imageID", image.id.to_string()),
            ("imageRef", name.map_or_else(String::new, |n| n.to_string())),
        ];
        self.note_container("commit", record, &imaged);
        Ok(image.id)
    }

    /// Packs the container's writable layer into the store.
    fn pack_upper(&self, ingest: &Ingest, found: &Found, pause: bool) -> Result<Packed> {
        let path = self.instance.container(&found.record.id).join(file::UPPER);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper: OwnedFd = rustix::fs::openat(CWD, &path, flags, Mode::empty()).at("open", &path)?;
        let mut blob = NewBlob::new(ingest)?;
        let threads = crate::system::info::processors() as usize;
        let packed = if pause && found.status == Status::Running {
            let still = self.pause_while(found)?;
            let out = still.watched(&mut blob);
            pack::pack(upper.as_fd(), Source::Layer, Compression::Gzip, threads, out)?
        } else {
            pack::pack(upper.as_fd(), Source::Layer, Compression::Gzip, threads, &mut blob)?
        };
        blob.keep(&packed.digest)?;
        Ok(packed)
    }

    /// Unpacks what an image that was made here has and the store of layers has not.
    pub(crate) fn unpack_new(
        &self,
        ingest: &Ingest,
        image: &Resolved,
        limits: Limits,
        progress: &dyn Progress,
    ) -> Result<()> {
        let layers = self.layer_store().with_limits(limits);
        let all: Vec<Digest> = image.diff_ids().collect();
        ingest.protect(&all)?;
        let missing: Vec<Layer> =
            image.layers.iter().filter(|layer| !layers.has(&layer.diff_id)).cloned().collect();
        unpack_from_store(ingest.store(), &layers, &missing, progress)?;
        Ok(layers.prepare(&all)?)
    }
}

/// What the store shall know of a layer that was packed with gzip.
pub(crate) fn new_layer(packed: Packed) -> NewLayer {
    NewLayer { digest: packed.digest, size: packed.size, diff_id: packed.diff_id, suffix: "+gzip" }
}

/// The image that the container was made from; its blobs stay while the ingest lives.
fn base_of(ingest: &Ingest, record: &Record) -> Result<Resolved> {
    let gone = || NoBase(record.image.id);
    let base =
        ingest.store().list()?.into_iter().find(|image| image.id == record.image.id).ok_or_else(gone)?;
    ingest.protect(&base.blobs().chain(base.diff_ids()).collect::<Vec<_>>())?;
    if ingest.store().is_whole(&base) { Ok(base) } else { Err(gone().into()) }
}

fn document(bytes: &[u8], image: &Resolved) -> Result<Config> {
    let config = serde_json::from_slice(bytes).map_err(|e| image::store::Error::Document {
        what: "configuration",
        digest: image.id,
        source: image::DocumentError::Json(e),
    })?;
    Ok(config)
}

/// How to run the new image: as the old one, but for what the container was told and what shall be changed.
fn execution(config: &Config, record: &Record, changes: &[String]) -> Result<Config> {
    let mut execution = config.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let options = &record.options;
    let env = crate::containers::spec::environment(change::strings(&execution, "Env"), options.env.iter())?;
    if !env.is_empty() {
        execution.insert("Env".to_owned(), json!(env));
    }
    if let Some(words) = &options.entrypoint {
        // One empty word has cleared the image's.
        let words = Some(words).filter(|words| words.iter().any(|word| !word.is_empty()));
        execution.insert("Entrypoint".to_owned(), json!(words));
        execution.remove("Cmd");
    }
    if !options.command.is_empty() {
        execution.insert("Cmd".to_owned(), json!(options.command));
    }
    if let Some(user) = &options.user {
        execution.insert("User".to_owned(), json!(user));
    }
    if let Some(path) = &options.working_dir {
        execution.insert("WorkingDir".to_owned(), json!(path));
    }
    if let Some(signal) = &options.stop_signal {
        execution.insert("StopSignal".to_owned(), json!(signal));
    }
    if !options.labels.is_empty() {
        let labels = options.labels.iter().map(|(key, value)| (key.clone(), json!(value)));
        change::extend(&mut execution, "Labels", labels);
    }
    if !options.ports.is_empty() {
        let ports = options.ports.iter().map(|p| (format!("{}/{}", p.container_port, p.protocol), json!({})));
        change::extend(&mut execution, "ExposedPorts", ports);
    }
    change::apply(&mut execution, changes)?;
    Ok(execution)
}
