//! Writer and reader together, whatever happens between.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::{BLOCK, sequences, tail_path};
use crate::files::rotated;
use crate::{Config, Entry, Format, Options, Reader, Stream, Writer, clear};

fn config(dir: &Path) -> Config {
    Config::unbounded(dir.join("log.local"), Format::Local)
}

fn small(dir: &Path, max_size: u64, max_files: u32) -> Config {
    Config { max_size: Some(max_size), max_files, ..config(dir) }
}

fn open(path: &Path, options: Options) -> Reader {
    Reader::open(path, Format::Local, options, || true).unwrap()
}

fn rest(mut reader: Reader) -> Vec<Entry> {
    std::iter::from_fn(|| reader.read().unwrap().cloned()).collect()
}

fn all(path: &Path) -> Vec<Entry> {
    rest(open(path, Options::default()))
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.sequence).collect()
}

#[track_caller]
fn assert_numbers(entries: &[Entry], expected: std::ops::Range<u64>) {
    let numbers = numbers(entries);
    let odd = numbers.iter().zip(expected.clone()).find(|(n, expected)| *n != expected);
    assert_eq!((odd, numbers.len() as u64), (None, expected.end - expected.start));
}

/// Lines that do not compress away, each of which says which one it is.
fn line(n: u64) -> Vec<u8> {
    let noise = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{n} {noise:x} {:x} {:x}\n", noise.rotate_left(17) ^ n, noise.wrapping_mul(noise | 1))
        .into_bytes()
}

fn write(config: &Config, lines: std::ops::Range<u64>) {
    let mut writer = Writer::open(config.clone());
    for n in lines {
        writer.write(Stream::Stdout, &line(n));
    }
    writer.finish();
    assert_eq!(writer.errors(), 0);
}

#[test]
fn what_is_said_is_read_back_with_numbers_that_outlive_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    assert!(all(&config.path).is_empty());
    assert_eq!(sequences(&config.path).unwrap(), 0..0);
    let mut writer = Writer::open(config.clone());
    writer.write(Stream::Stdout, b"one\nunfin");
    writer.write(Stream::Stderr, b"\xff\x00\n");
    drop(writer);
    let mut writer = Writer::open(config.clone());
    writer.write(Stream::Stdout, &vec![b'x'; 40_000]);
    drop(writer);
    let entries = all(&config.path);
    assert_eq!(numbers(&entries), [0, 1, 2, 3, 4, 5]);
    let texts: Vec<_> = entries.iter().map(|e| (e.stream, e.text.len(), e.partial)).collect();
    let expected = [
        (Stream::Stdout, 4, false),
        (Stream::Stderr, 3, false),
        (Stream::Stdout, 5, false),
        (Stream::Stdout, 16_384, true),
        (Stream::Stdout, 16_384, true),
        (Stream::Stdout, 7_232, false),
    ];
    assert_eq!(texts, expected);
    assert_eq!(entries[1].text, b"\xff\x00\n");
    assert_eq!(sequences(&config.path).unwrap(), 0..6);
}

#[test]
fn much_becomes_compressed_blocks_and_little_is_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut writer = Writer::open(config.clone());
    writer.write(Stream::Stdout, b"first\n");
    assert_eq!(all(&config.path).len(), 1);
    let text = b"the same line again and again\n".repeat(100_000);
    for chunk in text.chunks(65_536) {
        writer.write(Stream::Stdout, chunk);
    }
    writer.finish();
    let sizes =
        fs::metadata(&config.path).unwrap().len() + fs::metadata(tail_path(&config.path)).unwrap().len();
    assert!(sizes < text.len() as u64 / 20, "{sizes}");
    assert_eq!(all(&config.path).len(), 100_001);
    let plain = Config { compress: false, path: dir.path().join("plain"), ..config };
    let mut writer = Writer::open(plain.clone());
    writer.write(Stream::Stdout, &text);
    drop(writer);
    assert!(fs::metadata(&plain.path).unwrap().len() > text.len() as u64);
    assert_eq!(all(&plain.path).len(), 100_000);
}

#[test]
fn files_rotate_within_the_cap_and_the_numbers_tell_what_is_gone() {
    for files in [1, 2, 5] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path(), 20_000, files);
        write(&config, 0..5_000);
        write(&config, 5_000..9_000);
        let entries = all(&config.path);
        let kept = sequences(&config.path).unwrap();
        assert_eq!(kept.end, 9_000);
        assert_numbers(&entries, kept.start..9_000);
        assert!(entries.iter().all(|e| e.text == line(e.sequence)));
        assert!(kept.start > 0 && entries.len() > 100, "{kept:?}");
        let names = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap());
        let sizes: Vec<u64> = names.map(|file| file.metadata().unwrap().len()).collect();
        assert!(sizes.iter().sum::<u64>() <= 20_000 * u64::from(files), "{sizes:?}");
        assert!(sizes.iter().sum::<u64>() > 20_000 * u64::from(files) / 3, "{sizes:?}");
    }
}

#[test]
fn every_number_and_time_and_count_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path(), 300_000, 50);
    write(&config, 0..40_000);
    let entries = all(&config.path);
    assert_numbers(&entries, 0..40_000);
    assert!(rotated(&config.path, 2).exists());
    for n in (0..40_000u64).step_by(977).chain([0, 1, 39_999]) {
        let from = rest(open(&config.path, Options { from_sequence: Some(n), ..Options::default() }));
        assert_numbers(&from, n..40_000);
        let tail = rest(open(&config.path, Options { tail: Some(n), ..Options::default() }));
        assert_numbers(&tail, 40_000 - n..40_000);
        let time = entries[n as usize].time;
        let since = rest(open(&config.path, Options { since: Some(time), ..Options::default() }));
        assert_eq!(since.len(), entries.iter().filter(|e| e.time >= time).count());
    }
    let late = open(&config.path, Options { from_sequence: Some(50_000), ..Options::default() });
    assert!(rest(late).is_empty());
}

#[test]
fn a_clock_that_is_set_back_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut writer = super::LocalFile::new(config.clone());
    let text = [b'x'; 1000];
    let time = |n: i64| base::Timestamp(if n < 500 { 1_000_000 + n } else { n });
    for n in 0..1000 {
        writer.put(Stream::Stdout, [&text, b"\n"], false, time(n));
        writer.flush().unwrap();
    }
    let since = Options { since: Some(base::Timestamp(1_000_400)), ..Options::default() };
    assert_numbers(&rest(open(&config.path, since)), 400..500);
    let since = Options { since: Some(base::Timestamp(990)), ..Options::default() };
    assert_eq!(rest(open(&config.path, since)).len(), 510);
}

#[test]
fn a_torn_end_costs_only_itself_and_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    write(&config, 0..5000);
    for name in [config.path.clone(), tail_path(&config.path)] {
        let mut bytes = fs::read(&name).unwrap();
        bytes.truncate(bytes.len() - 3);
        bytes.extend([7; 100]);
        fs::write(&name, bytes).unwrap();
    }
    let before = numbers(&all(&config.path));
    write(&config, 10_000..10_100);
    let after = all(&config.path);
    assert_eq!(numbers(&after)[..before.len()], before);
    assert_eq!(after.len(), before.len() + 100);
    assert_eq!(after.last().unwrap().text, line(10_099));
    assert!(numbers(&after).is_sorted_by(|a, b| a < b));
}

#[test]
fn a_block_that_was_written_and_not_taken_from_the_tail_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut writer = Writer::open(config.clone());
    let mut tail = Vec::new();
    let mut n = 0;
    while !config.path.exists() {
        tail = fs::read(tail_path(&config.path)).unwrap_or_default();
        writer.write(Stream::Stdout, &line(n));
        n += 1;
    }
    drop(writer);
    // The crash: as if the tail had not been emptied.
    fs::write(tail_path(&config.path), tail).unwrap();
    assert_numbers(&all(&config.path), 0..n);
    let last = open(&config.path, Options { tail: Some(10), ..Options::default() });
    assert_numbers(&rest(last), n - 10..n);
    write(&config, n..n + 10);
    assert_numbers(&all(&config.path), 0..n + 10);
}

#[test]
fn a_clearing_leaves_nothing_but_the_number() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path(), 20_000, 3);
    clear(&config.path, Format::Local).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // With a writer at work, and without one.
    let mut writer = Writer::open(config.clone());
    (0..1000).for_each(|n| writer.write(Stream::Stdout, &line(n)));
    clear(&config.path, Format::Local).unwrap();
    assert!(all(&config.path).is_empty());
    assert_eq!(sequences(&config.path).unwrap(), 1000..1000);
    (1000..2000).for_each(|n| writer.write(Stream::Stdout, &line(n)));
    drop(writer);
    let kept = numbers(&all(&config.path));
    assert!(kept[0] >= 1000 && kept.ends_with(&[1999]), "{:?}", kept.len());
    clear(&config.path, Format::Local).unwrap();
    write(&config, 2000..2001);
    assert_eq!(numbers(&all(&config.path)), [2000]);
}

#[test]
fn a_full_disk_is_told_by_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::unbounded(dir.path().join("not yet/log.local"), Format::Local);
    let mut writer = Writer::open(config.clone());
    for _ in 0..2000 {
        writer.write(Stream::Stdout, &[b'x'; 1000]);
        writer.write(Stream::Stdout, b"\n");
    }
    assert!(writer.errors() > 0 && writer.lost() > 0);
    fs::create_dir(dir.path().join("not yet")).unwrap();
    writer.write(Stream::Stdout, b"after\n");
    let entries = all(&config.path);
    assert!(entries[0].sequence > 0);
    assert_eq!(entries.last().unwrap().sequence, 2000);
    assert!(numbers(&entries).is_sorted());
    assert_eq!(entries.last().unwrap().text, b"after\n");
}

/// Follows while lines are written, and something is done meanwhile.
fn followed(config: &Config, lines: u64, meanwhile: impl Fn(u64) + Send + 'static) -> Vec<Entry> {
    let ended = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let (config, ended) = (config.clone(), ended.clone());
        move || {
            let mut writer = Writer::open(config.clone());
            let mut bytes = Vec::new();
            for n in 0..lines {
                bytes.extend(line(n));
                // Sometimes a line, sometimes many at once.
                if n % 1000 < 500 || bytes.len() > 60_000 {
                    writer.write(Stream::Stdout, &bytes);
                    bytes.clear();
                }
                if n % 500 == 0 {
                    meanwhile(n);
                }
            }
            writer.write(Stream::Stdout, &bytes);
            writer.finish();
            ended.store(true, Ordering::SeqCst);
        }
    });
    let options = Options { follow: true, ..Options::default() };
    let reader =
        Reader::open(&config.path, Format::Local, options, move || ended.load(Ordering::SeqCst)).unwrap();
    let entries = rest(reader);
    thread.join().unwrap();
    entries
}

#[test]
fn a_follower_sees_every_line_once_across_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path(), 100_000, 1000);
    let entries = followed(&config, 50_000, |n| {
        if n % 5_000 == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    });
    assert_numbers(&entries, 0..50_000);
    assert!(entries.iter().all(|e| e.text == line(e.sequence)));
    assert!(rotated(&config.path, 5).exists());
}

#[test]
fn a_follower_lives_with_clearings() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path(), 100_000, 5);
    let path = config.path.clone();
    let entries = followed(&config, 50_000, move |n| {
        if n % 10_000 == 5_000 {
            clear(&path, Format::Local).unwrap();
        }
    });
    let numbers = numbers(&entries);
    assert!(numbers.is_sorted_by(|a, b| a < b));
    assert_eq!(numbers.last(), Some(&49_999));
    assert!(entries.iter().all(|e| e.text == line(e.sequence)));
    assert!(all(&config.path)[0].sequence >= 45_000);
}

#[test]
fn who_does_not_follow_misses_nothing_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let path = config.path.clone();
    followed(&config, 30_000, move |n| {
        let entries = all(&path);
        // All but what was not written yet, and that in one piece.
        assert!(entries.len() as u64 <= n + 1);
        assert!(entries.len() as u64 + 1000 > n, "{} of {n}", entries.len());
        assert_eq!(numbers(&entries), (0..entries.len() as u64).collect::<Vec<_>>());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_anywhere_costs_entries_and_nothing_else(
        damage in proptest::collection::vec((any::<u16>(), any::<u8>(), 0usize..200), 1..8),
        tail in any::<bool>(),
        torn in proptest::option::of(any::<u16>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        write(&config, 0..3000);
        let name = if tail { tail_path(&config.path) } else { config.path.clone() };
        let mut bytes = fs::read(&name).unwrap();
        for (at, with, length) in damage {
            let at = usize::from(at) % bytes.len();
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(with);
        }
        if let Some(at) = torn {
            bytes.truncate(usize::from(at) % bytes.len());
        }
        fs::write(&name, bytes).unwrap();
        let before = all(&config.path);
        prop_assert!(before.iter().all(|e| e.text == line(e.sequence)));
        prop_assert!(numbers(&before).is_sorted_by(|a, b| a < b));
        sequences(&config.path).unwrap();
        for options in [
            Options { tail: Some(100), ..Options::default() },
            Options { from_sequence: Some(1234), ..Options::default() },
            Options { since: before.last().map(|e| e.time), ..Options::default() },
        ] {
            let known: BTreeSet<u64> = numbers(&before).into_iter().collect();
            prop_assert!(numbers(&rest(open(&config.path, options))).iter().all(|n| known.contains(n)));
        }
        // The writer goes on, whatever it finds.
        let mut writer = Writer::open(config.clone());
        writer.write(Stream::Stdout, b"goes on\n");
        drop(writer);
        let after = all(&config.path);
        prop_assert_eq!(&after.last().unwrap().text, b"goes on\n");
        prop_assert!(after.len() <= before.len() + 1);
    }
}

#[test]
fn the_tail_is_no_longer_than_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut writer = Writer::open(config.clone());
    for n in 0..5000 {
        writer.write(Stream::Stdout, &line(n));
        assert!(fs::metadata(tail_path(&config.path)).unwrap().len() <= BLOCK as u64);
    }
}
