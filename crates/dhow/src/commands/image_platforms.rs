//! `images --tree`: each image, and below it the platforms of its index.

use engine::ImagePlatforms;

use crate::{human, table};

/// The lines, as a table.
pub(super) fn tree(images: &[ImagePlatforms], cut: bool) -> String {
    let id = |digest: &base::Digest| if cut { digest.short() } else { digest.to_string() };
    let mut lines = vec!["IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tIN USE".to_owned()];
    for image in images {
        let name = match image.names.first() {
            Some(name) => name.clone(),
            None => "<untagged>".to_owned(),
        };
        let used = if image.containers > 0 { "yes" } else { "" };
        lines.push(format!(
            "{name}\t{}\t{}\t{}\t{used}",
            id(&image.digest),
            human::size(image.disk_usage, 3),
            human::size(image.content_size, 3)
        ));
        for (at, platform) in image.platforms.iter().enumerate() {
            let branch = if at + 1 == image.platforms.len() { "└─" } else { "├─" };
            let (usage, size) = match platform.content_size {
                Some(size) => (human::size(platform.disk_usage, 3), human::size(size, 3)),
                // Docker shows such a one in the same way: it is known, but not here.
                None => ("0B".to_owned(), "0B".to_owned()),
            };
            lines.push(format!(
                "{branch} {}\t{}\t{usage}\t{size}\t",
                platform.platform,
                id(&platform.manifest)
            ));
        }
    }
    table::align(&lines)
}
