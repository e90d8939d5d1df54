//! What the tests run inside containers: a peer on the network, and an attacker who tries what a container must
//! not be able to do and prints what the kernel answers.

mod attacks;
mod attributes;
mod frames;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::net::{AddressFamily, SocketType, socket};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["udp-echo", port] => udp_echo(port),
        ["udp-ask", host, port, size] => udp_ask(host, port, size),
        ["fetch", host, port] => fetch(host, port),
        ["source", port] => source(port),
        ["drain", host, port] => drain(host, port),
        ["forbidden"] => {
            forbidden();
            Ok(())
        }
        ["descriptors"] => descriptors(),
        ["steal-programs"] => steal_programs(),
        ["notify", message] => notify(message),
        ["limit", kind] => attributes::limit(kind),
        ["scheduling"] => attributes::scheduling(),
        ["io-priority"] => attributes::io_priority(),
        ["call", ref words @ ..] => attributes::call(words),
        ["swap", one, other] => attacks::swap(one, other),
        ["peak", program, ref arguments @ ..] => peak(program, arguments),
        ["trace-newcomers", own] => attacks::trace_newcomers(own),
        ["frames", link, ref frames @ ..] => frames::send(link, frames),
        ["hear", link] => frames::hear(link),
        _ => Err(Error::other(
            "udp-echo PORT | udp-ask HOST PORT SIZE | fetch HOST PORT | source PORT | drain HOST PORT | forbidden | descriptors | steal-programs | notify TEXT | \
             limit KIND | scheduling | io-priority | call NUMBER [ARGUMENT…] | swap ONE OTHER | \
             peak PROGRAM [ARGUMENT…] | trace-newcomers OWN | frames LINK HEX… | hear LINK",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program, and tells how much memory it, or a child of its, had at most, in KiB. A caller that is large itself
/// could not: what it was when it made the child counts.
#[expect(unsafe_code, reason = "nobody offers a safe getrusage(2) that tells this")]
fn peak(program: &str, arguments: &[&str]) -> std::io::Result<()> {
    let status = std::process::Command::new(program).args(arguments).status()?;
    if !status.success() {
        return Err(Error::other(format!("it ended with {status}")));
    }
    // SAFETY: the structure is one of numbers, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    println!("peak {}", usage.ru_maxrss);
    Ok(())
}

/// Tells the service manager, as `sd_notify(3)` does, and stays.
fn notify(message: &str) -> std::io::Result<()> {
    let path = std::env::var("NOTIFY_SOCKET").map_err(Error::other)?;
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.send_to(b"STATUS=nearly there", &path)?;
    socket.send_to(message.as_bytes(), &path)?;
    std::thread::sleep(Duration::from_secs(1000));
    Ok(())
}

fn udp_echo(port: &str) -> std::io::Result<()> {
    // By both versions of the protocol, where there are both.
    let socket =
        UdpSocket::bind(format!("[::]:{port}")).or_else(|_| UdpSocket::bind(format!("0.0.0.0:{port}")))?;
    println!("up");
    let mut datagram = vec![0; 65536];
    loop {
        let (length, peer) = socket.recv_from(&mut datagram)?;
        socket.send_to(&datagram[..length], peer)?;
    }
}

/// Sends a datagram of this size, and prints how large the answer is.
fn udp_ask(host: &str, port: &str, size: &str) -> std::io::Result<()> {
    let size = size.parse().map_err(Error::other)?;
    let local = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect((host, port.parse().map_err(Error::other)?))?;
    socket.send(&vec![7; size])?;
    println!("{}", socket.recv(&mut vec![0; 65536])?);
    Ok(())
}

/// The body of a web page, or whatever a peer that speaks no HTTP says.
fn fetch(host: &str, port: &str) -> std::io::Result<()> {
    let address = format!("{host}:{port}").parse().map_err(Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{}", answer.split_once("\r\n\r\n").map_or(&*answer, |(_, body)| body).trim_end());
    Ok(())
}

/// Sends to whoever connects, as much as they take, over either version of the protocol.
fn source(port: &str) -> std::io::Result<()> {
    let port: u16 = port.parse().map_err(Error::other)?;
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    println!("up");
    loop {
        let (mut stream, _) = listener.accept()?;
        std::thread::spawn(move || while stream.write_all(&[7; 8 << 10]).is_ok() {});
    }
}

/// How many bytes a second come from a source, once what passed at the beginning is over.
fn drain(host: &str, port: &str) -> std::io::Result<()> {
    let port: u16 = port.parse().map_err(Error::other)?;
    let mut stream = TcpStream::connect((host, port))?;
    let mut buffer = vec![0; 256 << 10];
    let mut read_for = |time: Duration| {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < time {
            count += stream.read(&mut buffer)?;
        }
        Ok::<_, Error>(count as f64 / begun.elapsed().as_secs_f64())
    };
    read_for(Duration::from_millis(300))?;
    println!("{}", read_for(Duration::from_millis(600))? as u64);
    Ok(())
}

/// Tries what is not allowed; a line for each: the name, and the kernel's answer.
fn forbidden() {
    let mut answers: BTreeMap<&str, Result<(), Error>> = BTreeMap::new();
    let socket_of = |family| socket(family, SocketType::SEQPACKET, None).map(drop).map_err(Error::from);
    answers.insert("AF_ALG", socket_of(AddressFamily::from_raw(38)));
    answers.insert("AF_VSOCK", socket_of(AddressFamily::from_raw(40)));
    let mounted = mount("none", "/tmp", "tmpfs", MountFlags::empty(), None);
    answers.insert("mount", mounted.map_err(Error::from));
    answers.insert("umount", unmount("/proc", UnmountFlags::DETACH).map_err(Error::from));
    for path in
        ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper", "/proc/kcore"]
    {
        // what is masked is the null device, which anybody may write to
        const NULL: u64 = 0x103;
        let opened =
            OpenOptions::new().write(true).open(path).and_then(|file| match file.metadata()?.rdev() {
                NULL => Err(Error::from_raw_os_error(libc::ENOENT)),
                _ => Ok(()),
            });
        answers.insert(path, opened);
    }
    let new_user = libc::CLONE_NEWUSER as usize;
    for (name, number, arguments) in [
        ("keyctl", libc::SYS_keyctl, [0, (-3_isize) as usize, 0, 0]),
        ("add_key", libc::SYS_add_key, [0, 0, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0, 0]),
        ("unshare", libc::SYS_unshare, [new_user, 0, 0, 0]),
        ("setns", libc::SYS_setns, [0, 0, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0, 0, 0, 0]),
        ("init_module", libc::SYS_init_module, [0, 0, 0, 0]),
        ("kexec_load", libc::SYS_kexec_load, [0, 0, 0, 0]),
        ("swapon", libc::SYS_swapon, [0, 0, 0, 0]),
        ("settimeofday", libc::SYS_settimeofday, [0, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0]),
        ("iopl", libc::SYS_iopl, [3, 0, 0, 0]),
    ] {
        answers.insert(name, system_call(number, arguments));
    }
    for (name, answer) in answers {
        let code = answer.err().and_then(|error| error.raw_os_error());
        println!("{name} {}", code.map_or("allowed".to_owned(), |code| code.to_string()));
    }
}

#[expect(unsafe_code, reason = "there is no safe way to ask for what nobody offers")]
fn system_call(number: i64, arguments: [usize; 4]) -> Result<(), Error> {
    let [a, b, c, d] = arguments;
    // SAFETY: all of these take numbers, flags and null pointers here; the kernel checks them and writes nothing
    // to our memory.
    let answer = unsafe { libc::syscall(number, a, b, c, d) };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// The descriptors that came with us, and the working directory.
fn descriptors() -> std::io::Result<()> {
    let directory = File::open("/proc/self/fd")?;
    let ours = directory.as_raw_fd().to_string();
    let mut numbers: Vec<String> = std::fs::read_dir("/proc/self/fd")?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|number| *number != ours)
        .collect();
    // the listing has one of its own
    numbers.retain(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    numbers.sort();
    println!("{}\n{}", numbers.join(" "), std::env::current_dir()?.display());
    Ok(())
}

/// CVE-2019-5736: watches out for programs that come into our process namespace from outside, and tries to open
/// them for writing, until it is told that it is enough. A line for each program that was seen, and what the last attempt was answered.
fn steal_programs() -> std::io::Result<()> {
    println!("up");
    // what is in our own root is ours to write to
    let identity = |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let known = [identity("/proc/self/exe")?, identity("/bin/busybox")?];
    let begun = Instant::now();
    let mut answers = BTreeMap::new();
    let mut held = BTreeMap::new();
    while attacks::watches(begun) {
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let path = format!("/proc/{pid}/exe");
            if !pid.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            // Opened first, and then asked what it is: the process may execute something else in between.
            match openat(CWD, &path, OFlags::PATH, Mode::empty()).map(File::from) {
                Ok(fd) => {
                    let file = fd.metadata()?;
                    let program = (file.dev(), file.ino());
                    if !known.contains(&program) {
                        held.insert(program, fd);
                    }
                }
                Err(Errno::ACCESS) => {
                    answers.insert((0, 0), Error::from(Errno::ACCESS).to_string());
                }
                Err(_) => {}
            }
        }
        for (program, fd) in &held {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let answer = match OpenOptions::new().write(true).open(path) {
                // Proof enough: nothing is written, or a test that fails would ruin a program of the machine's.
                Ok(_) => "STOLEN".to_owned(),
                Err(error) => error.to_string(),
            };
            // busy it is as long as anybody runs it; what counts is that it is not writable afterwards either
            let writable = fstatvfs(fd).is_ok_and(|mount| !mount.f_flag.contains(StatVfsMountFlags::RDONLY));
            answers.insert(*program, format!("{answer}{}", if writable { ", WRITABLE" } else { "" }));
        }
    }
    for ((device, inode), answer) in answers {
        println!("program {device}:{inode}: {answer}");
    }
    println!("done");
    Ok(())
}
