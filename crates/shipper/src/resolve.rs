//! Names of hosts: the local ones of `/etc/hosts`, and those of the servers in `/etc/resolv.conf`. Not the C library's way,
//! which would load the host's modules into a static program.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// How long a server has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each is asked.
const ROUNDS: u32 = 2;
/// What an answer over UDP may be long.
const LONGEST: usize = 4096;

/// The addresses of a host, at least one.
pub(crate) fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut found = in_hosts(&hosts, name);
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    if found.is_empty() {
        found = ask(name, &std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())?;
    }
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no host `{name}`")));
    }
    Ok(found)
}

fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

/// The servers, and the domains in which a name may be meant.
fn servers(conf: &str) -> (Vec<IpAddr>, Vec<&str>) {
    let (mut servers, mut domains) = (Vec::new(), Vec::new());
    for line in conf.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
            Some("search" | "domain") => domains = words.collect(),
            _ => {}
        }
    }
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    (servers, domains)
}

fn ask(name: &str, conf: &str) -> io::Result<Vec<IpAddr>> {
    let (servers, domains) = servers(conf);
    let mut names = vec![format!("{}.", name.trim_end_matches('.'))];
    if !name.ends_with('.') {
        let in_domains = domains.iter().map(|domain| format!("{name}.{}.", domain.trim_end_matches('.')));
        // What has a dot is rather whole already.
        let at = usize::from(name.contains('.'));
        names.splice(at..at, in_domains);
    }
    let mut failed = None;
    for name in &names {
        let mut found = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            match ask_servers(&servers, name, kind) {
                Ok(addresses) => found.extend(addresses),
                Err(error) => failed = Some(error),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    failed.map_or_else(|| Ok(Vec::new()), Err)
}

fn ask_servers(servers: &[IpAddr], name: &str, kind: RecordType) -> io::Result<Vec<IpAddr>> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).map_err(io::Error::other)?, kind));
    let question = query.to_vec().map_err(io::Error::other)?;
    let mut failed = io::Error::new(io::ErrorKind::TimedOut, "no name server answers");
    for _ in 0..ROUNDS {
        for server in servers {
            match ask_one((*server, 53).into(), &question, &query) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => failed = error,
            }
        }
    }
    Err(io::Error::new(failed.kind(), format!("cannot look up `{}`: {failed}", name.trim_end_matches('.'))))
}

fn ask_one(server: SocketAddr, question: &[u8], query: &Message) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Connected: the kernel passes on what that server says, and nobody else.
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = [0; LONGEST];
    let until = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < until {
        let read = socket.recv(&mut buffer)?;
        if let Some(found) = answers(&buffer[..read], query) {
            return Ok(found);
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

/// The addresses in an answer; none where it is no answer to this question.
fn answers(bytes: &[u8], query: &Message) -> Option<Vec<IpAddr>> {
    let answer = Message::from_vec(bytes).ok()?;
    if answer.metadata.id != query.metadata.id || answer.queries != query.queries {
        return None;
    }
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Some(addresses.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn local_names_are_local() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1 collector.example Collector # old\n::1 localhost\n";
        assert_eq!(in_hosts(hosts, "COLLECTOR"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
        assert!(in_hosts(hosts, "old").is_empty());
        assert_eq!(resolve("192.0.2.7").unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(resolve("localhost").is_ok());
    }

    #[test]
    fn servers_are_those_of_the_host() {
        let (found, domains) = servers("search a.example b.example\nnameserver 10.0.0.2\nnameserver x\n");
        assert_eq!((found, domains), (vec!["10.0.0.2".parse().unwrap()], vec!["a.example", "b.example"]));
        assert_eq!(servers("").0, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }

    proptest! {
        #[test]
        fn no_answer_harms_us(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = answers(&bytes, &Message::query());
        }
    }
}
