//! What the formats cost: `cargo run --release -p dhow-logging --example throughput [MEGABYTES]`. Writes lines of 100
//! bytes as a monitor would, in pieces of 64 KiB, and reads them back. Speeds are per second of processor time, which
//! other work on the machine does not change.

#![allow(clippy::unwrap_used, reason = "what cannot go on fails")]

use std::fs;
use std::time::{Duration, Instant};

use logging::{Config, Format, Options, Reader, Stream, Writer, sequences};

/// Lines as a web server writes them, 100 bytes each.
fn lines(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 100);
    let mut random = 12_345_u64;
    for n in 0u64.. {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut line = format!(
            "10.0.{}.{} - - [27/Nov/2026:05:{:02}:{:02} +0000] \"GET /items/{} HTTP/1.1\" 200 {}",
            random % 256,
            random >> 8 & 255,
            n / 60 % 60,
            n % 60,
            random >> 16 & 0xffff,
            random >> 32 & 0xffff,
        );
        line = format!("{line:<99.99}\n");
        text.extend_from_slice(line.as_bytes());
        if text.len() >= bytes {
            break;
        }
    }
    text
}

fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

fn most_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.trim_start_matches("VmHWM:").trim().to_owned()
}

fn main() {
    let megabytes = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1000);
    let text = lines(16 << 20);
    let home = tempfile::tempdir_in(".").unwrap();
    let bound = most_memory();
    for (name, format, compress) in [
        ("json-file", Format::JsonFile, false),
        ("local", Format::Local, true),
        ("local, compress=false", Format::Local, false),
    ] {
        let dir = home.path().join(name);
        fs::create_dir(&dir).unwrap();
        let config = Config { compress, ..Config::unbounded(dir.join("log"), format) };
        let mut writer = Writer::open(config.clone());
        let begun = processor_time();
        let mut written = 0;
        let mut middle = None;
        while written < megabytes * 1_000_000 {
            for piece in text.chunks(64 << 10) {
                writer.write(Stream::Stdout, piece);
                written += piece.len();
            }
            if written > megabytes * 500_000 {
                middle.get_or_insert_with(base::Timestamp::now);
            }
        }
        writer.finish();
        let speed =
            |begun: Duration| written as f64 / processor_time().saturating_sub(begun).as_secs_f64() / 1e6;
        let writing = speed(begun);
        assert_eq!(writer.errors(), 0);
        let size: u64 = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();

        let open = |options| Reader::open(&config.path, format, options, || true).unwrap();
        let begun = processor_time();
        let mut reader = open(Options::default());
        let (mut count, mut read) = (0u64, 0);
        while let Some(entry) = reader.read().unwrap() {
            count += 1;
            read += entry.text.len();
        }
        assert_eq!(read, written);
        println!(
            "{name}: written {writing:.0} MB/s, read {:.0} MB/s, {:.1} times smaller, {count} entries; \
             at most {} (before: {bound})",
            speed(begun),
            written as f64 / size as f64,
            most_memory()
        );
        for (what, options) in [
            ("--tail 100", Options { tail: Some(100), ..Options::default() }),
            ("--tail 100000", Options { tail: Some(100_000), ..Options::default() }),
            ("--since the middle, first line", Options { since: middle, ..Options::default() }),
            ("from number, first line", Options { from_sequence: Some(count / 2), ..Options::default() }),
        ] {
            let begun = Instant::now();
            let mut reader = open(options);
            reader.read().unwrap().unwrap();
            println!("  {what}: {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
        }
        if format == Format::Local {
            let begun = Instant::now();
            assert_eq!(sequences(&config.path).unwrap(), 0..count);
            println!("  sequences: {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
