//! The two ends of what `net` measures, each a process in the network namespace that it is started in.
//!
//! - `sink`: takes bytes, as many as come. `flood`: sends it as many as go in a while.
//! - `answers`: answers a request and closes, as a web server does. `asks`: how many requests it answers in a while, each on a
//!   connection of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The word that makes this program one of the ends.
pub(crate) const TRAFFIC: &str = "traffic-end";
/// How long a measurement takes.
const LONG: Duration = Duration::from_secs(3);
/// How many ask at once.
const ASKERS: usize = 8;
/// How many threads answer.
const ANSWERERS: usize = 4;
const BLOCK: usize = 256 << 10;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

/// Is an end: its kind and an address.
pub(crate) fn be(args: &[String]) -> Result<()> {
    let [kind, address] = args else { bail!("`{TRAFFIC}` takes a kind and an address") };
    let address: SocketAddr = address.parse().with_context(|| format!("`{address}` is no address"))?;
    match kind.as_str() {
        "sink" => sink(address),
        "answers" => answers(address),
        "flood" => {
            println!("{}", flood(address)?);
            Ok(())
        }
        "asks" => {
            let (rate, broken) = asks(address)?;
            println!("{rate}");
            if broken > 0 {
                eprintln!("{broken} connections to {address} were broken");
            }
            Ok(())
        }
        _ => bail!("`{kind}` is no end"),
    }
}

fn sink(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    loop {
        let (mut stream, _) = listener.accept()?;
        std::thread::spawn(move || {
            let mut block = vec![0; BLOCK];
            while stream.read(&mut block).is_ok_and(|count| count > 0) {}
        });
    }
}

/// Bits in a second.
fn flood(address: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    let block = vec![0; BLOCK];
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < LONG {
        stream.write_all(&block)?;
        sent += block.len();
    }
    // All has arrived when the other end has closed.
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(8.0 * sent as f64 / began.elapsed().as_secs_f64())
}

fn answers(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    let serve = |listener: TcpListener| {
        loop {
            let Ok((mut stream, _)) = listener.accept() else { continue };
            let mut request = [0; 512];
            if stream.read(&mut request).is_ok() {
                stream.write_all(ANSWER).ok();
            }
        }
    };
    for _ in 1..ANSWERERS {
        let listener = listener.try_clone()?;
        std::thread::spawn(move || serve(listener));
    }
    serve(listener)
}

/// Answers in a second, and how many connections broke.
fn asks(address: SocketAddr) -> Result<(f64, u64)> {
    let (answered, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let askers: Vec<_> =
            (0..ASKERS).map(|_| scope.spawn(|| ask(address, began, &answered, &broken))).collect();
        askers.into_iter().try_for_each(|asker| match asker.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("one who asked has panicked"),
        })
    })?;
    Ok((answered.into_inner() as f64 / began.elapsed().as_secs_f64(), broken.into_inner()))
}

fn ask(address: SocketAddr, began: Instant, answered: &AtomicU64, broken: &AtomicU64) -> Result<()> {
    let mut answer = Vec::new();
    while began.elapsed() < LONG {
        let mut stream = match TcpStream::connect(address) {
            // All ports of ours may be in use for a moment.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => continue,
            other => other?,
        };
        answer.clear();
        let asked = stream.write_all(REQUEST).and_then(|()| stream.read_to_end(&mut answer));
        if asked.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset) {
            broken.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if answer != ANSWER {
            bail!("an odd answer of {} bytes", answer.len());
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_understand_each_other() {
        for (server, client) in [("sink", "flood"), ("answers", "asks")] {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            std::thread::spawn(move || be(&[server.to_owned(), free.to_string()]));
            let deadline = Instant::now() + Duration::from_secs(5);
            while TcpStream::connect(free).is_err() {
                assert!(Instant::now() < deadline, "{server} does not listen");
                std::thread::sleep(Duration::from_millis(5));
            }
            let rate = if client == "flood" { flood(free).unwrap() } else { asks(free).unwrap().0 };
            assert!(rate > 0.0);
        }
        assert!(be(&["nope".to_owned(), "127.0.0.1:1".to_owned()]).is_err());
    }
}
