//! `dhow network capture`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use clap::Parser;
use engine::{CaptureForm, CaptureOptions};
use sys::process::signal_fd;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::output;

/// Show or record the packets that a container sends and receives.
///
/// A line for each, or with --write a file of the form pcapng with nanoseconds and directions. It ends with Ctrl-C, with
/// the container, or after --count packets; then it says whether the kernel had to drop some.
///
/// FILTER is a part of tcpdump's: ip, ip6, arp, tcp, udp, sctp, icmp, icmp6; [src|dst] host ADDRESS, net SUBNET, port N,
/// portrange N-N, also behind a protocol; and, or, not, parentheses.
#[derive(Debug, Parser)]
#[command(name = "network capture")]
pub(crate) struct Arguments {
    /// Record them in this file; -: on standard output, for another program
    #[arg(short, long, value_name = "FILE")]
    write: Option<String>,
    /// Only those of this interface; without: of all
    #[arg(short, long, value_name = "NAME", conflicts_with = "network")]
    interface: Option<String>,
    /// Only those of its interface on this network
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// End after so many packets
    #[arg(short, long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Keep only so many bytes of each
    #[arg(short, long, value_name = "BYTES", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(14..=262_144))]
    snaplen: u32,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only packets that match, as: tcp port 80 and not host 10.5.0.2
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let to_stdout = self.write.as_deref().is_none_or(|file| file == "-");
        if self.write.is_some() && to_stdout && io::stdout().is_terminal() {
            return Err(Error::Flag {
                message: "network capture: a recording on a terminal helps nobody".to_owned(),
                hints: vec!["give --write FILE, or pipe it: … -w - | tcpdump -r -".to_owned()],
            });
        }
        let options = CaptureOptions {
            interface: self.interface,
            network: self.network,
            count: self.count,
            keep: self.snaplen,
            filter: self.filter.join(" "),
        };
        // Before it begins, so that no Ctrl-C ends it without its last packets.
        let stop =
            signal_fd(&[SIGINT, SIGTERM, SIGHUP]).map_err(|error| Error::Terminal("catch signals", error))?;
        let mut capture = context.engine()?.capture(&self.container, &options)?;
        let form = if self.write.is_some() { CaptureForm::Pcapng } else { CaptureForm::Lines };
        let file = self.write.filter(|_| !to_stdout);
        let failed = |path: &str, source| Error::File { action: "write", path: path.to_owned(), source };
        let mut to: Box<dyn Write> = match &file {
            None => Box::new(BufWriter::new(io::stdout())),
            // What others say to a container is nobody else's.
            Some(path) => {
                let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
                Box::new(BufWriter::new(file.map_err(|error| failed(path, error))?))
            }
        };
        output::talk(&format!("capturing on {} of {}", capture.interfaces(), self.container));
        let captured = capture.run(form, &mut to, stop.as_fd()).map_err(|error| match &file {
            Some(path) => failed(path, error),
            None => Error::Output(error),
        })?;
        let packets = |n: u64| format!("{n} packet{}", if n == 1 { "" } else { "s" });
        output::talk(&format!(
            "{} captured, {} dropped",
            packets(captured.written),
            packets(captured.dropped)
        ));
        Ok(0)
    }
}

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
