//! Where the result of a build goes.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use ::build::graph::{Change, Copy, StepId};
use base::fs::{self, At};
use base::{Digest, Timestamp};
use image::save::{self, Format, Target, Wanted};
use image::{Ingest, Reference, Resolved};
use rootfs::{Compression, LayerStore, pack};
use rustix::fs::{CWD, Mode, OFlags};

use super::error::Error;
use super::files::{self, Owners, Source};
use super::options::{BuildForm, BuildOutput};
use super::progress::{BuildEvent, BuildProgress};
use crate::Engine;
use crate::error::Result;
use crate::images::save::into_file;
use crate::images::tag;

/// What goes somewhere.
pub(super) struct Export<'e> {
    pub(super) engine: &'e Engine,
    pub(super) ingest: &'e Ingest,
    pub(super) layers: &'e LayerStore,
    /// The layers, lowest first.
    pub(super) stack: &'e [Digest],
    /// The image, where some output wants one.
    pub(super) image: Option<&'e Resolved>,
    pub(super) names: &'e [Reference],
    pub(super) epoch: Option<Timestamp>,
    pub(super) progress: &'e dyn BuildProgress,
}

impl Export<'_> {
    /// Sends it there, and tells of that as of this vertex.
    pub(super) fn send(&self, output: &BuildOutput, vertex: usize) -> Result<()> {
        let title = match output.form {
            BuildForm::CacheOnly => return Ok(()),
            BuildForm::Image => "exporting to image",
            BuildForm::Oci => "exporting to oci image format",
            BuildForm::Docker => "exporting to docker image format",
            BuildForm::Tar => "exporting to client tarball",
            BuildForm::Local => "exporting to client directory",
        };
        let began = Instant::now();
        self.progress.event(vertex, BuildEvent::Began { title });
        let sent = self.sent(output, vertex);
        match &sent {
            Ok(()) => self.progress.event(vertex, BuildEvent::Done { took: began.elapsed() }),
            Err(error) => {
                let error = error.to_string();
                self.progress.event(vertex, BuildEvent::Failed { error: &error, took: began.elapsed() });
            }
        }
        sent
    }

    fn sent(&self, output: &BuildOutput, vertex: usize) -> Result<()> {
        match output.form {
            BuildForm::Image => self.to_store(output, vertex),
            BuildForm::Oci => self.to_archive(output, Format::Oci),
            BuildForm::Docker => self.to_archive(output, Format::Docker),
            BuildForm::Tar => self.to_tar(output),
            BuildForm::Local => self.to_directory(output, vertex),
            BuildForm::CacheOnly => Ok(()),
        }
    }

    fn image(&self) -> Result<&Resolved> {
        Ok(self.image.ok_or_else(|| Error::Output("there is no image to be exported".to_owned()))?)
    }

    fn to_store(&self, output: &BuildOutput, vertex: usize) -> Result<()> {
        let image = self.image()?;
        let note = |text: &str| self.progress.event(vertex, BuildEvent::Note { text });
        note(&format!("writing image {}", image.id));
        let own = output.names.iter().map(|name| tag::new_name(name)).collect::<Result<Vec<_>>>()?;
        let names = if own.is_empty() { self.names } else { &own };
        let store = self.engine.image_store()?;
        if names.is_empty() {
            self.ingest.commit(None, &image.manifest, None)?;
        }
        for name in names {
            let there = store.resolve(name)?.is_some_and(|there| there.manifest == image.manifest);
            if !there {
                self.ingest.commit(Some(name), &image.manifest, None)?;
                self.engine.note_image("tag", &image.id.to_string(), &name.to_string());
            }
            note(&format!("naming to {}", name.canonical()));
        }
        if output.push {
            if names.is_empty() {
                return Err(Error::Output("a push needs a name: give one with -t".to_owned()).into());
            }
            for name in names {
                let pulling = super::pulling::Pulling::new(self.progress, vertex);
                let pushed = self.engine.push(&name.canonical(), &pulling)?;
                note(&format!("pushed {} as {}", name.canonical(), pushed.digest));
            }
        }
        Ok(())
    }

    fn to_archive(&self, output: &BuildOutput, format: Format) -> Result<()> {
        let image = self.image()?.clone();
        let own = output.names.iter().map(|name| tag::new_name(name)).collect::<Result<Vec<_>>>()?;
        let names = if own.is_empty() { self.names.to_vec() } else { own };
        let wanted = [Wanted { image, names }];
        let store = self.engine.image_store()?;
        let write = |file: &File| Ok(save::write(&store, &wanted, format, Target::Archive(file), &|_| {})?);
        match &output.destination {
            Some(path) => into_file(path, write),
            None => write(&stdout()?),
        }
    }

    fn root(&self) -> Result<OwnedFd> {
        let mut lowers = self.layers.stack(self.stack)?;
        if lowers.is_empty() {
            lowers.push(self.engine.instance.spare());
        }
        Ok(pack::merged(&lowers)?)
    }

    fn to_tar(&self, output: &BuildOutput) -> Result<()> {
        let root = self.root()?;
        let write = |mut file: &File| {
            pack::pack(root.as_fd(), pack::Source::Tree, Compression::None, 1, &mut file)?;
            Ok(())
        };
        match &output.destination {
            Some(path) => into_file(path, write),
            None => write(&stdout()?),
        }
    }

    fn to_directory(&self, output: &BuildOutput, vertex: usize) -> Result<()> {
        let Some(path) = &output.destination else {
            return Err(Error::Output("an export of files needs a directory: dest=PATH".to_owned()).into());
        };
        fs::create_dir_all(path, 0o755)?;
        let target = open(path)?;
        let root = self.root()?;
        let everything = Change::Copy(Copy {
            from: StepId(0),
            sources: vec!["/".to_owned()],
            target: "/".to_owned(),
            owner: None,
            mode: None,
            exclude: Vec::new(),
            parents: false,
            unpack: false,
            required: false,
        });
        // To nobody of the image: the one who builds has them.
        let devices = AtomicUsize::new(0);
        let source =
            Source { owners: Owners::Exported, devices: Some(&devices), ..Source::tree(root.as_fd()) };
        files::apply(&[everything], &|_| Ok(source), target.as_fd(), self.epoch)?;
        let left = devices.into_inner();
        if left > 0 {
            let text = format!("{left} device node{} left out", if left == 1 { "" } else { "s" });
            self.progress.event(vertex, BuildEvent::Note { text: &text });
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty()).at("open", path)?)
}

fn stdout() -> Result<File> {
    let fd = std::io::stdout().as_fd().try_clone_to_owned();
    Ok(fd.map(File::from).map_err(super::error::failed("write to standard output"))?)
}
