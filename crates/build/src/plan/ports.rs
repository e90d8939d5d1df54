//! The words of an `EXPOSE`: `[[ip:]host:]port[-port][/protocol]`.

/// Ports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ports {
    first: u16,
    last: u16,
    protocol: String,
    /// The protocol is not in lower case.
    pub(super) odd_case: bool,
    /// It names an address or a port of the host, which means nothing here.
    pub(super) of_host: bool,
}

impl Ports {
    /// `80/tcp`, each.
    pub(super) fn exposed(&self) -> impl Iterator<Item = String> + '_ {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

pub(super) fn parse(text: &str) -> Result<Ports, String> {
    let mut parts = text.rsplitn(3, ':');
    let own = parts.next().unwrap_or_default();
    let (host, address) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (port, protocol) = own.split_once('/').unwrap_or((own, ""));
    if port.is_empty() {
        return Err("there is no port".to_owned());
    }
    let lower = protocol.to_ascii_lowercase();
    let protocol_is = match &*lower {
        "" => "tcp",
        "tcp" | "udp" | "sctp" => &*lower,
        _ => return Err(format!("unknown protocol `{protocol}`: there are tcp, udp and sctp")),
    };
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("`{address}` is no address"));
    }
    let (first, last) = range(port)?;
    if !host.is_empty() {
        let (from, to) = range(host)?;
        if last - first != to - from && last != first {
            return Err(format!("`{host}` and `{port}` are not equally many ports"));
        }
    }
    Ok(Ports {
        first,
        last,
        protocol: protocol_is.to_owned(),
        odd_case: protocol != lower,
        of_host: !host.is_empty() || !address.is_empty(),
    })
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| {
        let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|_| good)
            .ok_or_else(|| format!("`{text}` is no number from 0 to 65535"))
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(format!("the range `{text}` ends before it begins"));
            }
            Ok((first, last))
        }
    }
}
