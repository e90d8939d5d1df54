//! What images' verbs write into the journal of events.

use base::Digest;
use image::Reference;
use state::events::{Event, Kind};

use crate::Engine;
use crate::images::remove::Removed;

impl Engine {
    /// Writes that something happened to an image; `id` as Docker has it: its name for pulls and pushes, else its id.
    pub(crate) fn note_image(&self, action: &str, id: &str, name: &str) {
        self.note(Event::new(Kind::Image, action, id).with("name", name));
    }

    /// The same of a transfer from or to a registry.
    pub(crate) fn note_transfer(&self, action: &str, reference: &Reference) {
        let repository = reference.familiar_name();
        self.note_image(action, &reference.to_string(), &repository);
    }

    /// Writes which names and images have gone. Layers are nobody's but the images'.
    pub(crate) fn note_removed(&self, image: &Digest, removed: &[Removed]) {
        let id = image.to_string();
        for gone in removed {
            match gone {
                Removed::Untagged(_) => self.note_image("untag", &id, &id),
                Removed::Deleted(digest) if digest == image => self.note_image("delete", &id, &id),
                Removed::Deleted(_) => {}
            }
        }
    }
}
