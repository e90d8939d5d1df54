//! What a monitor writes into the journal of events.

use base::{Timestamp, fs};
use monitor::{Request, VolumeUse};
use state::Instance;
use state::container::{Exit, file};
use state::events::{Event, Kind, append};

/// Writes that something happened to the container.
pub(crate) fn note(request: &Request, action: &str, more: &[(&str, String)]) {
    write(request, vec![event(request, &name(request), action, more)]);
}

/// Writes that a run has ended (`ran`), and, if it was the `last`, that the container is gone where it removes itself.
pub(crate) fn ended(request: &Request, name: &str, exit: &Exit, ran: bool, last: bool) {
    let mut events = Vec::new();
    if ran {
        if exit.oom_killed {
            events.push(event(request, name, "oom", &[]));
        }
        events.push(event(request, name, "die", &[("exitCode", exit.code.to_string())]));
    }
    if last && request.auto_remove {
        events.push(event(request, name, "destroy", &[]));
    }
    write(request, events);
}

/// Writes that a further command has ended.
pub(crate) fn exec_ended(instance: &Instance, mut event: Event, code: i32) {
    event.time = Timestamp::now();
    append(instance, &[event.with("exitCode", &code.to_string())]).ok();
}

/// Writes that its volumes are mounted, or are not any more.
pub(crate) fn volumes(request: &Request, action: &str) {
    let event = |volume: &VolumeUse| {
        let event = Event::new(Kind::Volume, action, &volume.name).with("driver", "local");
        let event = event.with("container", request.id.as_str());
        if action != "mount" {
            return event;
        }
        let event = event.with("destination", &volume.destination.to_string_lossy()).with("propagation", "");
        event.with("read/write", if volume.read_only { "false" } else { "true" })
    };
    if !request.volumes.is_empty() {
        write(request, request.volumes.iter().map(event).collect());
    }
}

fn event(request: &Request, name: &str, action: &str, more: &[(&str, String)]) -> Event {
    let mut event = Event::new(Kind::Container, action, request.id.as_str());
    event.attributes.clone_from(&request.attributes);
    event.attributes.insert("name".to_owned(), name.to_owned());
    event.attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    event
}

/// The container's name by now.
pub(crate) fn name(request: &Request) -> String {
    let path = request.instance.live(&request.id).join(file::RENAMED);
    match fs::read_if_exists(&path) {
        Ok(Some(name)) => String::from_utf8_lossy(&name).into_owned(),
        _ => request.name.clone(),
    }
}

/// A journal that cannot be written is no reason to do anything else: nobody is there to be told.
fn write(request: &Request, events: Vec<Event>) {
    append(&request.instance, &events).ok();
}
