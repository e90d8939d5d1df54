//! What is asked becomes what will be: nothing is touched here, and what makes no sense is refused before anything is.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use base::Id;
use base::progress::Progress;
use image::Resolved as Image;
use oci::image::Execution;
use rootfs::Overlay;
use state::options::{ContainerOptions, Origin, VolumeMount};

use super::{Error, ids};
use crate::containers::create::PullPolicy;
use crate::error::Result;
use crate::{Engine, containers::create};

impl Engine {
    /// The images that are to be mounted, pulled as the policy says.
    pub(crate) fn images_to_mount(
        &self,
        options: &mut ContainerOptions,
        pull: PullPolicy,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for mount in &mut options.image_mounts {
            let image = self.image_for(&mount.image, None, pull, progress)?;
            create::refuse_artifact(&image, &mount.image)?;
            self.image_store()?.note_use(&image);
            mount.id = Some(image.id);
            mount.layers = image.layers.iter().map(|layer| layer.diff_id).collect();
            images.push(image);
        }
        Ok(images)
    }

    /// Settles what is to be mounted. `overlay`: the image's own files, in which names of users are looked up.
    pub(crate) fn plan_storage(
        &self,
        options: &mut ContainerOptions,
        image: &Execution,
        overlay: &Overlay,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        self.inherit(options)?;
        declare(options, image, warnings);
        for volume in options.volumes.iter_mut().filter(|volume| volume.name.is_empty()) {
            volume.name = Id::random().map_err(volume::Error::Random)?.to_string();
            volume.anonymous = true;
        }
        for bind in &mut options.binds {
            if bind.must_exist && !exists(&bind.source) {
                return Err(Error::NoSource {
                    path: bind.source.display().to_string(),
                    destination: bind.destination.display().to_string(),
                }
                .into());
            }
            if !bind.map.is_empty() {
                ids::settle(bind, overlay)?;
            }
        }
        Ok(())
    }

    /// `--volumes-from`: what other containers mount of the host and of volumes, where nothing else is asked for.
    fn inherit(&self, options: &mut ContainerOptions) -> Result<()> {
        for from in options.volumes_from.clone() {
            let other = self.find(&from.container)?.record.options;
            let taken: BTreeSet<PathBuf> = options.destinations().map(Path::to_owned).collect();
            for bind in other.binds.into_iter().filter(|bind| !taken.contains(&bind.destination)) {
                let read_only = bind.read_only || from.read_only;
                options.binds.push(state::options::BindMount {
                    read_only,
                    origin: Origin::Inherited,
                    ..bind
                });
            }
            for volume in other.volumes.into_iter().filter(|v| !taken.contains(&v.destination)) {
                let read_only = volume.read_only || from.read_only;
                options.volumes.push(VolumeMount {
                    read_only,
                    origin: Origin::Inherited,
                    no_copy: true,
                    ..volume
                });
            }
        }
        Ok(())
    }
}

/// The image's `VOLUME`s, where nothing is mounted anyway. What an image says is an allegation: a path that leads nowhere
/// in the container is none (CVE-2022-23648).
fn declare(options: &mut ContainerOptions, image: &Execution, warnings: &mut Vec<String>) {
    for text in &image.volumes {
        let path = Path::new(text);
        let plain = path.is_absolute()
            && !path.components().any(|c| c == Component::ParentDir)
            && path.components().any(|c| matches!(c, Component::Normal(_)))
            && !text.contains('\0');
        if !plain {
            warnings.push(format!(
                "the image's volume `{text}` is not a path in the container, and was left out"
            ));
            continue;
        }
        let destination: PathBuf = path.components().collect();
        if options.destinations().all(|taken| taken != destination) {
            let volume = VolumeMount { destination, origin: Origin::Image, ..VolumeMount::default() };
            options.volumes.push(volume);
        }
    }
}

fn exists(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_volumes_are_paths_in_the_container_or_none() {
        let image = Execution {
            volumes: ["/data/", "/data/sub", "/", "relative", "/../etc", "/a/../../b", "/taken", ""]
                .map(str::to_owned)
                .into(),
            ..Execution::default()
        };
        let mut options = ContainerOptions {
            tmpfs: vec![state::options::TmpfsMount { destination: "/taken".into(), ..Default::default() }],
            ..ContainerOptions::default()
        };
        let mut warnings = Vec::new();
        declare(&mut options, &image, &mut warnings);
        let made: Vec<_> = options.volumes.iter().map(|v| v.destination.to_str().unwrap()).collect();
        assert_eq!((made, warnings.len()), (vec!["/data", "/data/sub"], 5));
    }
}
