//! `dhow events`.

use base::Timestamp;
use base::failure::printable;
use clap::Parser;
use engine::EventOptions;
use serde_json::{Value, json};
use state::events::{Event, Kind};

use crate::commands::Run;
use crate::error::Result;
use crate::flags::filter::Filters;
use crate::flags::time::When;
use crate::globals::Context;
use crate::{format, human, output};

/// Tell what happens to containers, images, volumes and networks.
#[derive(Debug, Parser)]
#[command(name = "events")]
pub(crate) struct Arguments {
    /// Also what has happened since then
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Only what happens until then
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Only those: type=…, event=…, container=…, image=…, volume=…, network=…, label=KEY[=VALUE]
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const FILTERS: &[&str] =
    &["type", "event", "container", "image", "volume", "network", "label", "scope", "daemon"];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        let time = |when: Option<When>| when.map(|When(time)| time);
        let options = EventOptions { since: time(self.since), until: time(self.until) };
        for event in context.engine()?.events(options)? {
            let event = event?;
            if !matches(&event, &filters) {
                continue;
            }
            match self.format.as_deref().filter(|format| !format.is_empty()) {
                Some(format) => format::one(format, &shown(&event))?,
                None => output::line(&plain(&event))?,
            }
        }
        Ok(0)
    }
}

fn matches(event: &Event, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map(String::as_str);
    let of = |kind: Kind| {
        move |wanted: &str| {
            event.kind == kind && (name == Some(wanted) || !wanted.is_empty() && event.id.starts_with(wanted))
        }
    };
    // `health_status: healthy` is a `health_status`, too.
    let action = event.action.split(':').next().unwrap_or_default();
    let image = |wanted: &str| {
        let named = |name: &str| name == wanted || name.strip_suffix(":latest") == Some(wanted);
        match event.kind {
            Kind::Image => named(&event.id) || name.is_some_and(named),
            _ => event.attributes.get("image").is_some_and(|image| named(image)),
        }
    };
    filters.any("type", |v| event.kind.as_str() == v)
        && filters.any("event", |v| event.action == v || action == v)
        && filters.any("scope", |v| v == "local")
        && filters.any("container", of(Kind::Container))
        && filters.any("volume", of(Kind::Volume))
        && filters.any("network", of(Kind::Network))
        && filters.any("image", image)
        && filters.labels(&event.attributes)
}

/// Docker's line: `TIME container start ID (image=…, name=…)`.
fn plain(event: &Event) -> String {
    let attributes: Vec<String> = event.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let time = human::local_rfc3339(event.time);
    let line = format!("{time} {} {} {}", event.kind.as_str(), event.action, event.id);
    // Labels are their images', and one with a line break would look like another event.
    printable(if attributes.is_empty() { line } else { format!("{line} ({})", attributes.join(", ")) })
}

/// Docker's JSON.
fn shown(event: &Event) -> Value {
    let Timestamp(nanos) = event.time;
    let mut shown = json!({
        "Type": event.kind.as_str(),
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": nanos / 1_000_000_000,
        "timeNano": nanos,
    });
    if matches!(event.kind, Kind::Container | Kind::Image) {
        shown["status"] = Value::from(&*event.action);
        shown["id"] = Value::from(&*event.id);
    }
    if let (Kind::Container, Some(image)) = (event.kind, event.attributes.get("image")) {
        shown["from"] = Value::from(&**image);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::new(Kind::Container, "health_status: healthy", "abcdef");
        event.time = Timestamp(1_700_000_000_000_000_001);
        event.with("name", "web").with("image", "nginx:latest").with("tier", "front")
    }

    #[test]
    fn filters_are_dockers() {
        for (filter, expected) in [
            ("type=container", true),
            ("type=image", false),
            ("event=health_status", true),
            ("event=health_status: healthy", true),
            ("event=die", false),
            ("container=web", true),
            ("container=abc", true),
            ("container=we", false),
            ("image=nginx", true),
            ("image=ngin", false),
            ("label=tier=front", true),
            ("label=tier=back", false),
            ("volume=web", false),
        ] {
            let filters = Filters::parse(&[filter.to_owned()], FILTERS).unwrap();
            assert_eq!(matches(&event(), &filters), expected, "{filter}");
        }
    }

    #[test]
    fn an_event_is_shown_as_docker_does() {
        let shown = shown(&event());
        assert_eq!(shown["timeNano"], 1_700_000_000_000_000_001_i64);
        assert_eq!(
            (&shown["from"], &shown["status"]),
            (&json!("nginx:latest"), &json!("health_status: healthy"))
        );
        assert!(plain(&event()).ends_with(
            " container health_status: healthy abcdef (image=nginx:latest, name=web, tier=front)"
        ));
        let hostile = plain(&event().with("label", "x)\n2026 container die \u{1b}[2J"));
        assert!(!hostile.contains(char::is_control), "{hostile}");
    }
}
