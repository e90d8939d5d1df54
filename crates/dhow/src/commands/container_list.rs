//! The rows of `ps`.

use base::Timestamp;
use engine::ContainerSummary;
use serde_json::{Value, json};
use state::container::{HealthStatus, Status};
use state::options::PortMapping;

use crate::error::{Error, Result};
use crate::flags::expose::Expose;
use crate::flags::filter::Filters;
use crate::format::{LABEL_MAP, Row};
use crate::human;

/// Docker's columns.
pub(super) const TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// The same with `--size`.
pub(super) const TABLE_WITH_SIZE: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

/// What heads the columns.
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Size", "SIZE"),
];

/// The words of `--filter status=`, ours and those that Docker has besides.
const STATES: &[&str] = &["created", "running", "exited", "dead", "paused", "restarting", "removing"];

/// The words of `--filter health=`.
const HEALTH: &[&str] = &["starting", "healthy", "unhealthy", "none"];

/// Refuses values that no container can have.
pub(super) fn check(filters: &Filters) -> Result<()> {
    let words = [("status", STATES), ("health", HEALTH), ("is-task", &["true", "false", "1", "0"])];
    for (key, known) in words {
        if let Some(bad) = filters.values(key).find(|v| !known.contains(v)) {
            return Err(Error::flag(format!(
                "invalid value '{key}={bad}' for '--filter': want one of {}",
                known.join(", ")
            )));
        }
    }
    for key in ["publish", "expose"] {
        if let Some(bad) = filters.values(key).find(|v| v.parse::<Expose>().is_err()) {
            return Err(Error::flag(format!(
                "invalid value '{key}={bad}' for '--filter': want PORT[-PORT][/PROTOCOL]"
            )));
        }
    }
    if let Some(bad) = filters.values("exited").find(|v| v.parse::<i32>().is_err()) {
        return Err(Error::flag(format!("invalid value 'exited={bad}' for '--filter': want an exit code")));
    }
    Ok(())
}

/// Whether a container is wanted.
pub(super) fn matches(container: &ContainerSummary, filters: &Filters) -> bool {
    let code =
        container.exit.as_ref().filter(|_| container.status == Status::Exited).map(|e| e.code.to_string());
    filters.matches("name", &[&container.name, &format!("/{}", container.name)])
        && filters.matches("id", &[container.id.as_str()])
        && filters.any("status", |v| container.status.as_str() == v)
        && filters.any("health", |v| container.health.map_or("none", HealthStatus::as_str) == v)
        && filters.any("exited", |v| code.as_deref() == Some(v))
        && filters.any("ancestor", |v| is_image(container, v))
        && filters.any("network", |v| container.networks.iter().any(|name| name == v))
        && filters.any("publish", |v| publishes(container, v))
        && filters.any("expose", |v| exposes(container, v))
        // Swarm's, of which there are none.
        && filters.any("is-task", |v| matches!(v, "false" | "0"))
        && filters.any("volume", |v| container.mounts.iter().any(|m| m.source == v || m.destination == v))
        && filters.labels(&container.labels)
}

/// `80`, `80/tcp`, `80-90`: a port of the host's or the container's that is published.
fn publishes(container: &ContainerSummary, wanted: &str) -> bool {
    let Ok(Expose(wanted)) = wanted.parse() else { return false };
    container.ports.iter().any(|p| {
        wanted.iter().any(|w| w.protocol == p.protocol && [p.host_port, p.container_port].contains(&w.port))
    })
}

/// The same of a port on which the container says to listen.
fn exposes(container: &ContainerSummary, wanted: &str) -> bool {
    let Ok(Expose(wanted)) = wanted.parse() else { return false };
    wanted.iter().any(|port| container.exposed.contains(port))
}

fn is_image(container: &ContainerSummary, wanted: &str) -> bool {
    let id = container.image_id.to_string();
    let hex = container.image_id.hex();
    let name = &container.image;
    name == wanted
        || name.strip_suffix(":latest") == Some(wanted)
        || wanted.strip_suffix(":latest") == Some(name)
        || id == wanted
        || (wanted.len() >= 4 && hex.starts_with(wanted))
}

/// One row.
pub(super) fn row(c: &ContainerSummary, now: Timestamp, cut: bool) -> Row {
    let labels: Vec<String> = c.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let row = json!({
        "ID": if cut { c.id.short() } else { c.id.as_str() },
        "Image": c.image,
        "Command": command(&c.command, cut),
        "CreatedAt": human::local_time(c.created),
        "RunningFor": human::ago(c.created, now),
        "Status": status(c, now),
        "State": c.status.as_str(),
        "Ports": ports(&c.ports),
        "Names": c.name,
        "Labels": labels.join(","),
        "Mounts": mounts(c, cut),
        "LocalVolumes": c.mounts.iter().filter(|m| m.volume).count().to_string(),
        "Networks": c.networks.join(","),
        "Size": "0B",
        LABEL_MAP: c.labels,
    });
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

fn mounts(c: &ContainerSummary, cut: bool) -> String {
    let shown = |source: &str| if cut { human::ellipsis(source, 15) } else { source.to_owned() };
    c.mounts.iter().map(|mount| shown(&mount.source)).collect::<Vec<_>>().join(",")
}

/// `Up 3 seconds (healthy)`.
pub(crate) fn status(c: &ContainerSummary, now: Timestamp) -> String {
    let up = || format!("Up {}", human::duration(now.since(c.started.unwrap_or(c.created))));
    match (c.status, &c.exit) {
        (Status::Running, _) => match c.health {
            Some(HealthStatus::Starting) => format!("{} (health: starting)", up()),
            Some(health) => format!("{} ({})", up(), health.as_str()),
            None => up(),
        },
        (Status::Paused, _) => format!("{} (Paused)", up()),
        (Status::Restarting, exit) => {
            let (code, when) = exit.as_ref().map_or((0, now), |exit| (exit.code, exit.finished));
            format!("Restarting ({code}) {}", human::ago(when, now))
        }
        (Status::Exited, Some(exit)) => format!("Exited ({}) {}", exit.code, human::ago(exit.finished, now)),
        (Status::Exited, None) => "Exited".to_owned(),
        (Status::Created, _) => "Created".to_owned(),
        (Status::Dead, _) => "Dead".to_owned(),
    }
}

/// In quotes, words with spaces in quotes of their own, at most twenty characters.
fn command(words: &[String], cut: bool) -> String {
    let words: Vec<String> =
        words.iter().map(|w| if w.contains(' ') { format!("'{w}'") } else { w.clone() }).collect();
    let line = words.join(" ");
    let line = if cut { human::ellipsis(&line, 20) } else { line };
    // Go's %q, as far as it matters for one line of a table.
    let mut text = String::from("\"");
    for c in line.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if c.is_control() => text.extend(format!("\\x{:02x}", c as u32).chars()),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// `0.0.0.0:8080->80/tcp`; neighbouring ports as one range.
fn ports(published: &[PortMapping]) -> String {
    let mut sorted: Vec<&PortMapping> = published.iter().collect();
    sorted.sort_by_key(|p| (p.host_ip, p.protocol, p.container_port, p.host_port));
    let mut parts = Vec::new();
    let mut rest = &sorted[..];
    while let Some(first) = rest.first() {
        let length = rest.iter().zip(0u16..).take_while(|(p, n)| continues(first, p, *n)).count();
        let last = rest[length - 1];
        let ip = match first.host_ip {
            None => "0.0.0.0".to_owned(),
            Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            Some(ip) => ip.to_string(),
        };
        let range = |a: u16, b: u16| if a == b { a.to_string() } else { format!("{a}-{b}") };
        let (host, container) =
            (range(first.host_port, last.host_port), range(first.container_port, last.container_port));
        parts.push(format!("{ip}:{host}->{container}/{}", first.protocol));
        rest = &rest[length..];
    }
    parts.join(", ")
}

fn continues(first: &PortMapping, other: &PortMapping, n: u16) -> bool {
    other.host_ip == first.host_ip
        && other.protocol == first.protocol
        && first.host_port.checked_add(n) == Some(other.host_port)
        && first.container_port.checked_add(n) == Some(other.container_port)
}

#[cfg(test)]
mod tests {
    use base::{Digest, Id};
    use state::container::Exit;
    use state::options::{ExposedPort, Protocol};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn container() -> ContainerSummary {
        ContainerSummary {
            id: "ab".repeat(32).parse::<Id>().unwrap(),
            name: "web".into(),
            image: "nginx".into(),
            image_id: Digest::of(b"x"),
            command: ["nginx", "-g", "daemon off; \"x\""].map(str::to_owned).to_vec(),
            created: Timestamp(NOW.0 - 120_000_000_000),
            status: Status::Running,
            health: None,
            exit: None,
            started: Some(Timestamp(NOW.0 - 3_000_000_000)),
            ports: Vec::new(),
            exposed: vec![ExposedPort { port: 80, protocol: Protocol::Tcp }],
            address: None,
            networks: vec!["bridge".into()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            mounts: Vec::new(),
            joins: Vec::new(),
        }
    }

    #[test]
    fn the_columns_are_dockers() {
        let running = row(&container(), NOW, true);
        let text = |row: &Row, key: &str| row[key].as_str().unwrap().to_owned();
        assert_eq!(text(&running, "ID"), "abababababab");
        assert_eq!(text(&running, "Command"), "\"nginx -g 'daemon of…\"");
        assert_eq!(text(&running, "RunningFor"), "2 minutes ago");
        assert_eq!(text(&running, "Status"), "Up 3 seconds");
        let exit = Exit {
            format: 1,
            code: 137,
            oom_killed: false,
            started: None,
            finished: Timestamp(NOW.0 - 300_000_000_000),
            error: None,
            stopped: false,
            restarts: 0,
            health: None,
        };
        let exited = ContainerSummary { status: Status::Exited, exit: Some(exit), ..container() };
        assert_eq!(text(&row(&exited, NOW, true), "Status"), "Exited (137) 5 minutes ago");
        assert_eq!(text(&row(&exited, NOW, false), "Command"), r#""nginx -g 'daemon off; \"x\"'""#);
    }

    #[test]
    fn neighbouring_ports_are_a_range() {
        let port = |host_port, container_port| PortMapping {
            host_ip: None,
            host_port,
            container_port,
            protocol: Protocol::Tcp,
        };
        let list = [port(8001, 81), port(8000, 80), port(9000, 82)];
        assert_eq!(ports(&list), "0.0.0.0:8000-8001->80-81/tcp, 0.0.0.0:9000->82/tcp");
    }

    #[test]
    fn filters_match() {
        let wanted = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            let filters = Filters::parse(&texts, crate::commands::ps::FILTERS).unwrap();
            check(&filters).map(|()| matches(&container(), &filters))
        };
        assert!(
            wanted(&["name=we", "status=running", "label=a=b", "ancestor=nginx:latest", "id=abab"]).unwrap()
        );
        assert!(!wanted(&["status=exited"]).unwrap() && !wanted(&["exited=0"]).unwrap());
        assert!(wanted(&["expose=80", "is-task=false", "health=none"]).unwrap());
        assert!(wanted(&["expose=79-81/tcp"]).unwrap() && !wanted(&["expose=80/udp"]).unwrap());
        assert!(!wanted(&["is-task=true"]).unwrap());
        for bad in ["health=foo", "expose=x", "publish=", "is-task=x"] {
            assert!(wanted(&[bad]).is_err(), "{bad}");
        }
        assert!(wanted(&["status=bla"]).is_err() && wanted(&["exited=x"]).is_err());
    }
}
