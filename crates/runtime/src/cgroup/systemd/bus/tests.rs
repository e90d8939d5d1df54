//! Against a bus written here, and against a real one where there is one.

use std::os::unix::net::UnixListener;
use std::thread;

use super::super::wire::Value;
use super::super::{NO_SUCH_UNIT, Scope, UNIT_EXISTS, Unit, properties};
use super::*;
use crate::skip::can;

/// A reply, an error or a signal, as a bus would send it.
fn reply(kind: u8, serial: u32, fields: &[(u8, &str, &str)], signature: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Writer { bytes: vec![b'l', kind, 0, 1] };
    message.u32(body.len() as u32);
    message.u32(99);
    message.array(8, |w| {
        if serial != 0 {
            w.align(8);
            w.bytes.push(5);
            w.signature("u");
            w.u32(serial);
        }
        for (code, kind, text) in fields {
            w.align(8);
            w.bytes.push(*code);
            w.signature(kind);
            w.string(text);
        }
        w.align(8);
        w.bytes.push(8);
        w.signature("g");
        w.signature(signature);
    });
    message.align(8);
    message.bytes.extend(body);
    message.bytes
}

fn strings(list: &[&str]) -> Vec<u8> {
    let mut body = Writer::default();
    for text in list {
        body.string(text);
    }
    body.bytes
}

fn job_removed(job: &str, result: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.u32(1);
    for text in [job, "x.scope", result] {
        body.string(text);
    }
    let fields = [(1, "o", "/org/freedesktop/systemd1"), (2, "s", "m"), (3, "s", "JobRemoved")];
    reply(4, 0, &fields, "uoss", &body.bytes)
}

/// Answers like a bus with a systemd behind it: what each call gets is up to the test.
fn serve(
    answers: impl Fn(u32, &Message) -> Vec<u8> + Send + 'static,
) -> (tempfile::TempDir, String, thread::JoinHandle<Vec<String>>) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a bus");
    let listener = UnixListener::bind(&path).unwrap();
    let address = format!("unix:path={},guid=0", path.display()).replace(' ', "%20");
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut greeting = Vec::new();
        while !greeting.ends_with(b"DATA\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            greeting.push(byte[0]);
        }
        assert_eq!(greeting, b"\0AUTH EXTERNAL\r\nDATA\r\n");
        stream.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
        let mut begin = [0; 7];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"BEGIN\r\n");
        let mut head = [0; HEAD];
        while stream.read_exact(&mut head).is_ok() {
            let mut bytes = vec![0; wire::length(&head).unwrap()];
            bytes[..HEAD].copy_from_slice(&head);
            stream.read_exact(&mut bytes[HEAD..]).unwrap();
            let message = Message::decode(&bytes).unwrap();
            let serial = u32::from_le_bytes(*bytes[8..].first_chunk().unwrap());
            seen.push(message.member.clone().unwrap());
            let answer = match message.member.as_deref() {
                Some("Hello" | "AddMatch" | "Subscribe") => reply(2, serial, &[], "s", &strings(&[":1.1"])),
                _ => answers(serial, &message),
            };
            stream.write_all(&answer).unwrap();
        }
        seen
    });
    (place, address, served)
}

#[test]
fn a_job_is_waited_for_even_if_it_ends_before_it_is_known() {
    let (_place, address, served) = serve(|serial, message| {
        assert_eq!(message.signature, "ss");
        let body = strings(&["/job/2"]);
        [job_removed("/job/1", "failed"), job_removed("/job/2", "done"), reply(2, serial, &[], "o", &body)]
            .concat()
    });
    let mut bus = Bus::connect_to(&address).unwrap();
    bus.watch_jobs("d", "/o", "m").unwrap();
    assert_eq!(bus.job("d", "/o", "m", "StopUnit", "ss", &strings(&["a", "b"])).unwrap(), "done");
    drop(bus);
    assert_eq!(served.join().unwrap(), ["Hello", "AddMatch", "Subscribe", "StopUnit"]);
}

#[test]
fn properties_and_refusals_are_understood() {
    let (_place, address, _served) = serve(|serial, message| match message.member.as_deref() {
        Some("Get") => {
            let mut body = Writer::default();
            body.variant(&Value::Text("/user.slice".to_owned()));
            reply(2, serial, &[], "v", &body.bytes)
        }
        _ => reply(3, serial, &[(4, "s", "some.Error")], "s", &strings(&["no such thing"])),
    });
    let mut bus = Bus::connect_to(&format!("tcp:host=x;unix:path=/nowhere/at/all;{address}")).unwrap();
    assert_eq!(bus.property("d", "/o", "i", "ControlGroup").unwrap(), "/user.slice");
    let error = bus.call("d", "/o", "i", "Break", "", &[]).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { name, text, .. } if name == "some.Error" && text == "no such thing")
    );
}

#[test]
fn nobody_there_is_an_error_with_its_address() {
    let error = Bus::connect_to("unix:path=/nowhere/at/all").unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

fn scope() -> Scope {
    let unit = Unit { scope: "p-n.scope".to_owned(), user: false };
    Scope { unit, properties: properties::base("n", "machine.slice") }
}

#[test]
fn a_scope_that_failed_before_is_forgotten_and_made_again() {
    let attempts = std::sync::atomic::AtomicU32::new(0);
    let (_place, address, served) = serve(move |serial, message| match message.member.as_deref() {
        Some("StartTransientUnit") if attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => {
            reply(3, serial, &[(4, "s", UNIT_EXISTS)], "s", &strings(&["it exists"]))
        }
        Some("StartTransientUnit") => {
            assert_eq!(message.signature, "ssa(sv)a(sa(sv))");
            assert_eq!(message.body().string(), Some("p-n.scope"));
            [reply(2, serial, &[], "o", &strings(&["/job/1"])), job_removed("/job/1", "done")].concat()
        }
        _ => reply(2, serial, &[], "", &[]),
    });
    let mut bus = Bus::connect_to(&address).unwrap();
    scope().start_over(&mut bus, 4711).unwrap();
    drop(bus);
    let calls = served.join().unwrap();
    assert_eq!(calls[3..], ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
}

#[test]
fn a_job_that_fails_is_an_error_and_a_scope_that_is_gone_is_none() {
    let (_place, address, _served) = serve(|serial, message| match message.member.as_deref() {
        Some("StartTransientUnit") => {
            [reply(2, serial, &[], "o", &strings(&["/job/1"])), job_removed("/job/1", "timeout")].concat()
        }
        _ => reply(3, serial, &[(4, "s", NO_SUCH_UNIT)], "s", &strings(&["no such unit"])),
    });
    let mut bus = Bus::connect_to(&address).unwrap();
    let error = scope().start_over(&mut bus, 4711).unwrap_err();
    assert!(
        matches!(&error, crate::cgroup::Error::Systemd(Error::Job { result, .. }) if result == "timeout")
    );
    scope().unit().stop_over(&mut bus).unwrap();
}

/// Ends the daemon, whatever happens.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_real_bus_lets_us_in_and_answers() {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};
    let place = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}/bus", place.path().display());
    let started = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address=1", &format!("--address={address}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    can(started.is_ok(), "dbus-daemon");
    let Ok(mut child) = started else { return };
    let output = child.stdout.take().unwrap();
    let _daemon = Daemon(child);
    let mut line = String::new();
    io::BufReader::new(output).read_line(&mut line).unwrap();
    let mut bus = Bus::connect_to(line.trim()).unwrap();
    let answer = bus.call(BUS, "/org/freedesktop/DBus", BUS, "GetId", "", &[]).unwrap();
    assert_eq!(answer.body().string().map(str::len), Some(32));
    // Arrays, variants and structures are parsed by the daemon before it says that nobody is there to answer.
    let body = super::super::properties::start_transient_unit(
        "x.scope",
        1,
        &[("A", Value::Bytes(vec![1, 2, 3])), ("B", Value::Pairs(vec![("c".to_owned(), "d".to_owned())]))],
    );
    let error = bus.call("no.body", "/o", "i.f", "M", "ssa(sv)a(sa(sv))", &body).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { name, .. } if name == "org.freedesktop.DBus.Error.ServiceUnknown"),
        "{error:?}"
    );
    let body = super::super::properties::attach("x.scope", "/a", 1);
    let error = bus.call("no.body", "/o", "i.f", "M", "ssau", &body).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { name, .. } if name == "org.freedesktop.DBus.Error.ServiceUnknown"),
        "{error:?}"
    );
    // A match rule is understood, and the bus' own signals are passed over.
    let mut rule = Writer::default();
    rule.string("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
    bus.call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", &rule.bytes).unwrap();
}
