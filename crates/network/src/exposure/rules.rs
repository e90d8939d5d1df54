//! Others' rules, as their own tools write them down so that they can be loaded again.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};

use crate::exposure::Range;
use crate::nft::others;

/// What belongs to iptables, which alone can write down its rules whole.
const OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
/// Where an old kind of iptables, which nftables does not see, has its tables.
const LEGACY: [(&str, &str); 2] =
    [("/proc/net/ip_tables_names", "iptables-legacy"), ("/proc/net/ip6_tables_names", "ip6tables-legacy")];

/// Rules of others.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Programs that load rules (`-restore`, `nft -f -`), and what each is given.
    loads: Vec<(Vec<String>, String)>,
    /// Some chain filters what is forwarded.
    pub(super) filter_forwarded: bool,
}

impl Others {
    pub(super) fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }

    /// The addresses and ranges that are named in them, whatever for.
    pub(super) fn ranges(&self) -> Vec<Range> {
        self.loads.iter().flat_map(|(_, text)| ranges(text)).collect()
    }

    /// Loads them into the network namespace of the calling thread.
    pub(super) fn load(&self) -> Result<(), String> {
        for (program, text) in &self.loads {
            run(program, text).map_err(|why| format!("the host's rules cannot be tried: {why}"))?;
        }
        Ok(())
    }
}

/// Writes down all that could decide about a packet that comes in, but for our own tables.
pub(super) fn of_others(own: &[&str]) -> Result<Others, String> {
    let mut found = Others::default();
    let hooks = others::hooks(own).map_err(|refusal| format!("the rules cannot be listed: {refusal}"))?;
    found.filter_forwarded = hooks.forward;
    if hooks.any {
        let text = run(&["nft".to_owned(), "list".to_owned(), "ruleset".to_owned()], "")?;
        let mut rest = String::new();
        for (table, block) in tables(&text) {
            let mut words = table.split_whitespace();
            let (family, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let of_iptables = matches!(family, "ip" | "ip6") && OF_IPTABLES.contains(&name);
            if own.contains(&name) || of_iptables && hooks.iptables {
                continue;
            }
            if block.contains("xt match") || block.contains("xt target") {
                return Err(format!("nft cannot write down the table {table}, which another tool has made"));
            }
            rest += &block;
        }
        if hooks.iptables {
            for program in ["iptables", "ip6tables"] {
                found.save(program)?;
            }
        }
        if !rest.is_empty() {
            found.loads.push((["nft", "-f", "-"].map(str::to_owned).to_vec(), rest));
        }
    }
    for (names, program) in LEGACY {
        if std::fs::read_to_string(names).is_ok_and(|names| !names.trim().is_empty()) {
            found.filter_forwarded = true;
            found.save(program)?;
        }
    }
    Ok(found)
}

impl Others {
    fn save(&mut self, program: &str) -> Result<(), String> {
        let text = run(&[format!("{program}-save")], "")?;
        if text.lines().any(|line| line.starts_with('*')) {
            self.loads.push((vec![format!("{program}-restore")], text));
        }
        Ok(())
    }
}

/// The tables in what `nft` prints: name and text of each.
fn tables(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("table ") {
            found.push((name.trim_end_matches([' ', '{']).to_owned(), String::new()));
        }
        if let Some((_, block)) = found.last_mut().filter(|_| !line.starts_with('#')) {
            block.push_str(line);
            block.push('\n');
        }
    }
    found
}

fn ranges(text: &str) -> Vec<Range> {
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/')));
    words.filter_map(range).collect()
}

fn range(word: &str) -> Option<Range> {
    let (address, prefix) = word.split_once('/').unwrap_or((word, ""));
    // What has neither is a number, not an address.
    if !address.contains(['.', ':']) {
        return None;
    }
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix = if prefix.is_empty() { whole } else { prefix.parse().ok().filter(|bits| *bits <= whole)? };
    let on_every_link = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let of_nobody =
        address.is_unspecified() || address.is_loopback() || address.is_multicast() || on_every_link;
    (prefix > 0 && !of_nobody).then_some((address, prefix))
}

/// What a program prints. One that is not there, or fails, is an error in words.
fn run(words: &[String], input: &str) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else { return Err(String::new()) };
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program}: {e}"),
    };
    let (stdin, out, err) = (Stdio::piped(), Stdio::piped(), Stdio::piped());
    let mut child =
        Command::new(program).args(arguments).stdin(stdin).stdout(out).stderr(err).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read all says why by itself.
        stdin.write_all(input.as_bytes()).ok();
    }
    let Output { status, stdout, stderr } = child.wait_with_output().map_err(failed)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(format!("{program}: {}", said.lines().next().unwrap_or("it failed")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_and_addresses_are_found() {
        let text = "# Warning: x\ntable ip filter {\n\tchain a {\n\t}\n}\ntable inet mine {\n\tset s { 10.0.0.0/8, 2001:db8::/32-2001:db9:: }\n}\n";
        let found = tables(text);
        assert_eq!(
            found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["ip filter", "inet mine"]
        );
        assert!(found[0].1.ends_with("}\n}\n"));
        let found: Vec<String> = ranges(text).iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
        assert_eq!(found, ["10.0.0.0/8", "2001:db8::/32", "2001:db9::/128"]);
        assert_eq!(ranges("tcp dport 8080 counter 10 127.0.0.1 0.0.0.0/0 ff02::1 face"), []);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            tables(&text);
            ranges(&text);
        }
    }
}
