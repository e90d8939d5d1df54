//! `create`: from what was asked to a container that waits to be started.
//!
//! The order is such that a kill at any point leaves what the next command can tell and remove:
//!
//! 1. everything is checked, and the image is here;
//! 2. the ownership: RUN/containers/ID, locked (an abandoned one is removed, with all below);
//! 3. the name's claim;
//! 4. ROOT/containers/.ID with record, upper and work;
//! 5. the volumes that the record names, those that are missing;
//! 6. ROOT/containers/.ID renamed to ROOT/containers/ID: only now it is there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use base::fs::{self, At};
use base::progress::Progress;
use base::{Failure, Id, Kind, Timestamp};
use image::{Reference, Resolved as Image};
use oci::image::Platform;
use rootfs::Overlay;
use state::claim;
use state::container::{FORMAT, ImageUsed, Record, file};
use state::lock::Lock;
use state::options::{ContainerOptions, NetworkMode};

use crate::containers::ownership::Owner;
use crate::containers::reconcile::Encode;
use crate::containers::spec::{Machine, Resolution, resolve};
use crate::containers::undo::Undo;
use crate::containers::{names, records};
use crate::error::Result;
use crate::images::pull::platform_of;
use crate::{Engine, PullOptions};

/// When an image is pulled before a container is made of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If it is not here.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A created container, held by whoever created it: nobody else starts or removes it meanwhile.
#[derive(Debug)]
pub struct Created {
    /// The id.
    pub id: Id,
    /// The name.
    pub name: String,
    /// What was asked and cannot quite be given, for people.
    pub warnings: Vec<String>,
    pub(crate) record: Record,
    pub(crate) overlay: Overlay,
    pub(crate) owner: Owner,
}

/// Why a container was not created.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there is no image `{0}` here")]
    NoImage(String),
    #[error("`{name}` is an artifact of the type `{kind}`, and no image: it cannot be run")]
    Artifact { name: String, kind: String },
    #[error("the image `{name}` is for {has}, and not for {wanted}")]
    Platform { name: String, has: String, wanted: String },
    #[error("cannot get randomness for an id")]
    Random(#[source] std::io::Error),
    #[error("nobody but us should know the new id {0}, and somebody holds it")]
    IdTaken(Id),
    #[error("no free name was found in {0} tries")]
    NoFreeName(u32),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoImage(_) | Self::Platform { .. } => Kind::NotFound,
            Self::Artifact { .. } => Kind::Invalid,
            Self::Random(_) | Self::IdTaken(_) => Kind::Internal,
            Self::NoFreeName(_) => Kind::Exhausted,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoImage(name) => vec![format!("pull it first: dhow pull {name}")],
            _ => Vec::new(),
        }
    }
}

/// A name that another container has.
#[derive(Debug, thiserror::Error)]
#[error("the name `{name}` is in use by container {}", .owner.get(..12).unwrap_or(.owner))]
pub(crate) struct NameInUse {
    pub(crate) name: String,
    pub(crate) owner: String,
}

impl Failure for NameInUse {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        vec![format!("remove it (dhow rm {}), or choose another name", self.name)]
    }
}

/// How long somebody may hold a new container's directory by mistake.
const RECONCILING: Duration = Duration::from_secs(10);
/// How many names are invented before we give up.
const NAME_TRIES: u32 = 50;

impl Engine {
    /// Creates a container.
    pub fn create(
        &self,
        mut options: ContainerOptions,
        pull: PullPolicy,
        progress: &dyn Progress,
    ) -> Result<Created> {
        if let Some(name) = &mut options.name {
            // Docker shows names with a slash before them, and takes them so.
            if let Some(bare) = name.strip_prefix('/') {
                *name = bare.to_owned();
            }
            names::check(name)?;
        }
        self.check_joins(&options)?;
        crate::egress::check(&options)?;
        let _networks_stay = self.resolve_networks(&mut options)?;
        self.settle_log(&mut options.log)?;
        let image = self.image_for(&options.image, options.platform.as_deref(), pull, progress)?;
        refuse_artifact(&image, &options.image)?;
        self.image_store()?.note_use(&image);
        let mounted = self.images_to_mount(&mut options, pull, progress)?;
        // An image that is about to be used is not removed: removers hold this lock exclusively.
        let _image_stays = Lock::shared(&self.instance.containers())?;
        let overlay_of = |id: &Id| {
            let layers: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
            self.layer_store().overlay(&layers, &self.instance.container(id))
        };
        let id = Id::random().map_err(Error::Random)?;
        let overlay = match overlay_of(&id) {
            Err(rootfs::Error::Missing(_)) => {
                self.unpack_missing(&image, progress)?;
                overlay_of(&id)?
            }
            other => other?,
        };
        for image in &mounted {
            // What is unpacked already is only looked at.
            self.unpack_missing(image, progress)?;
        }
        let execution = image.config.config.clone().unwrap_or_default();
        let mut of_storage = Vec::new();
        self.plan_storage(&mut options, &execution, &overlay, &mut of_storage)?;
        let Resolution { args, resolved, mut warnings } =
            resolve(&options, &execution, &self.config, &self.machine(&options)?, &id)?;
        // A container has its image's labels, and its own of the same names instead.
        for (key, value) in execution.labels {
            options.labels.entry(key).or_insert(value);
        }

        // A reconciler that comes between the making of the directory and its lock removes it, and lets go.
        let owner = Owner::wait(&self.instance, &id, RECONCILING)?;
        let owner = owner.ok_or_else(|| Error::IdTaken(id.clone()))?;
        let mut undo = Undo::new();
        let made = (|| {
            let name = self.claim_name(&options, &id)?;
            undo.push({
                let (name, id) = (name.clone(), id.clone());
                move || Ok(claim::release(&self.instance.container_names(), &name, id.as_str())?)
            });
            let record = Record {
                format: FORMAT,
                id: id.clone(),
                name,
                created: Timestamp::now(),
                image: ImageUsed {
                    reference: options.image.clone(),
                    id: image.id,
                    layers: image.layers.iter().map(|layer| layer.diff_id).collect(),
                },
                args,
                waits: false,
                options,
                resolved,
            };
            self.check_wire(&record)?;
            let hidden = self.instance.containers().join(format!(".{id}"));
            undo.push({
                let hidden = hidden.clone();
                move || Ok(fs::remove_dir_all(&hidden)?)
            });
            make_directory(&hidden, &record)?;
            // From here on whoever finds that directory without an owner knows which volumes were made for it.
            let _volumes_stay = self.make_volumes(&record, &overlay, &mut undo)?;
            fs::rename(&hidden, &self.instance.container(&id))?;
            Ok(record)
        })();
        match made {
            Ok(record) => {
                undo.disarm();
                warnings.extend(of_storage);
                self.note_container("create", &record, &[]);
                Ok(Created { id, name: record.name.clone(), warnings, record, overlay, owner })
            }
            Err(error) => Err(undo.run(error)),
        }
    }

    /// Leaves a created container to be started later, by whomever.
    pub fn leave(&self, created: Created) -> Result<()> {
        if created.record.options.auto_remove {
            records::change::<crate::Error>(&self.instance, &created.id, |record| {
                record.waits = true;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The image of this name, pulled if the policy says so.
    pub(crate) fn image_for(
        &self,
        name: &str,
        platform: Option<&str>,
        pull: PullPolicy,
        progress: &dyn Progress,
    ) -> Result<Image> {
        let wanted = platform.map(|text| platform_of(Some(text))).transpose()?;
        let suits =
            |image: &Image| wanted.as_ref().is_none_or(|wanted| is_for(&image.config.platform, wanted));
        let image = self.image_or_pull(name, platform, &suits, pull, progress)?;
        if suits(&image) {
            return Ok(image);
        }
        let has = image::platform::display(&image.config.platform);
        Err(Error::Platform { name: name.to_owned(), has, wanted: platform.unwrap_or_default().to_owned() }
            .into())
    }

    fn image_or_pull(
        &self,
        name: &str,
        platform: Option<&str>,
        suits: &dyn Fn(&Image) -> bool,
        pull: PullPolicy,
        progress: &dyn Progress,
    ) -> Result<Image> {
        let store = self.image_store()?;
        let parsed = name.parse::<Reference>();
        if let Ok(reference) = &parsed {
            if let Some(image) = self.builtin(reference)? {
                return Ok(image);
            }
            if pull != PullPolicy::Always
                && let Some(image) = store.resolve(reference)?
                && (suits(&image) || pull == PullPolicy::Never)
            {
                return Ok(image);
            }
        }
        // Only now that it is no known name, an id.
        match store.find(name) {
            Ok(image) if pull != PullPolicy::Always && suits(&image) || parsed.is_err() => return Ok(image),
            Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
            _ => {}
        }
        let reference = parsed?;
        if pull == PullPolicy::Never {
            return Err(Error::NoImage(name.to_owned()).into());
        }
        if pull == PullPolicy::Missing {
            progress.note(&format!("Unable to find image '{reference}' locally"));
        }
        let how = PullOptions { platform: platform.map(str::to_owned), ..PullOptions::default() };
        self.pull(name, &how, progress)?;
        Ok(store.resolve(&reference)?.ok_or_else(|| Error::NoImage(name.to_owned()))?)
    }

    fn claim_name(&self, options: &ContainerOptions, id: &Id) -> Result<String> {
        let names = self.instance.container_names();
        if let Some(name) = &options.name {
            let taken = |owner| NameInUse { name: name.clone(), owner };
            if claim::take(&names, name, id.as_str())?
                || self.reconcile_name(name)? && claim::take(&names, name, id.as_str())?
            {
                return Ok(name.clone());
            }
            return Err(taken(claim::owner(&names, name)?.unwrap_or_default()).into());
        }
        // The id is random already: no more randomness is asked of the kernel.
        let byte = |at: usize| u8::from_str_radix(&id.as_str()[at..at + 2], 16).unwrap_or(0);
        for attempt in 0..NAME_TRIES {
            let at = (attempt as usize % 20) * 3;
            let name = names::invent([byte(at), byte(at + 2), byte(at + 4)], attempt);
            if claim::take(&names, &name, id.as_str())? {
                return Ok(name);
            }
        }
        Err(Error::NoFreeName(NAME_TRIES).into())
    }
}

/// An artifact has no files that a container could see.
pub(crate) fn refuse_artifact(image: &Image, name: &str) -> Result<()> {
    match &image.artifact {
        Some(kind) => Err(Error::Artifact { name: name.to_owned(), kind: kind.clone() }.into()),
        None => Ok(()),
    }
}

/// Whether an image for one platform is one for another: what is not said of that may be anything.
fn is_for(has: &Platform, wanted: &Platform) -> bool {
    let variant = wanted.variant.is_none() || has.variant.is_none() || has.variant == wanted.variant;
    (&has.os, &has.architecture) == (&wanted.os, &wanted.architecture) && variant
}

impl Engine {
    /// The machine as a container with these options will see it.
    pub(crate) fn machine(&self, options: &ContainerOptions) -> Result<Machine> {
        let mut machine = machine(options);
        if let NetworkMode::Container(name) = &options.network {
            // Who shares its network shares its name.
            machine.hostname = self.find(name)?.record.resolved.hostname;
        }
        Ok(machine)
    }
}

/// Asked of the kernel only where the answer matters.
pub(crate) fn machine(options: &ContainerOptions) -> Machine {
    let list = |asked: &Option<String>, path: &str| {
        asked.as_ref()?;
        // Where the kernel says nothing, it will say what it does not take.
        let text = fs::read_if_exists(Path::new(path)).ok()??;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    };
    Machine {
        processors: list(&options.limits.cpuset_cpus, "/sys/devices/system/cpu/online"),
        nodes: list(&options.limits.cpuset_mems, "/sys/devices/system/node/online"),
        cpus: match options.nano_cpus {
            Some(_) => crate::system::info::processors(),
            None => u32::MAX,
        },
        hostname: match options.network {
            _ if options.namespaces.host_uts => hostname(),
            NetworkMode::Host => hostname(),
            _ => String::new(),
        },
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn make_directory(dir: &Path, record: &Record) -> Result<()> {
    fs::create_dir(dir, 0o700)?;
    let upper = dir.join(file::UPPER);
    fs::create_dir(&upper, 0o755)?;
    // It becomes the root directory that the container's users see, whatever our umask is.
    std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(0o755)).at("set the mode of", &upper)?;
    fs::create_dir(&dir.join(file::WORK), 0o700)?;
    let bytes = serde_json::to_vec(record).map_err(Encode)?;
    fs::create_new(&dir.join(file::RECORD), &bytes, 0o600)?;
    Ok(())
}
