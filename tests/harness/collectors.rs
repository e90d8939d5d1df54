//! Collectors of logs: rsyslog, systemd's journal and one that speaks Fluentd's protocol, each for one test, with all its files
//! in a directory of its own. They can be started, killed and held, as often as a test wants.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rmpv::Value;
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::callers::installed;
use crate::strange::Authority;
use crate::{Invocation, Process, eventually};

/// What a test does with any of them.
pub trait Collector {
    /// Options of the log driver that lead to it.
    fn options(&self) -> Vec<String>;
    /// Starts it, and waits until it listens.
    fn start(&mut self);
    /// Ends it as the machine would; what it has taken stays.
    fn stop(&mut self);
    /// How many lines may come twice when it is stopped while it is sent to.
    fn may_repeat(&self) -> usize {
        0
    }
    /// Lets it stand still, or go on.
    fn hold(&mut self, still: bool);
    /// What it has taken, a line each, in order.
    fn lines(&self) -> Vec<String>;
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn hold(process: Option<&Process>, still: bool) {
    process.expect("it runs").signal(if still { Signal::STOP } else { Signal::CONT });
}

/// How syslog is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
    /// Datagrams over a Unix socket.
    Unixgram,
}

/// rsyslog, which writes what it gets into a file: severity, tag, text.
#[derive(Debug)]
pub struct Rsyslog {
    dir: PathBuf,
    transport: Transport,
    port: u16,
    process: Option<Process>,
}

impl Rsyslog {
    /// One with its files in this directory, not started yet.
    pub fn new(dir: &Path, transport: Transport) -> Self {
        let dir = dir.join("rsyslog");
        std::fs::create_dir_all(&dir).unwrap();
        if transport == Transport::Tls {
            let authority = Authority::new();
            let (certificate, key) = authority.certificate("localhost");
            for (name, pem) in [("ca.pem", authority.pem()), ("cert.pem", &*certificate), ("key.pem", &*key)]
            {
                std::fs::write(dir.join(name), pem).unwrap();
            }
        }
        let collector = Self { dir, transport, port: free_port(), process: None };
        std::fs::write(collector.file("rsyslog.conf"), collector.configuration()).unwrap();
        collector
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn configuration(&self) -> String {
        let (dir, port) = (self.dir.display(), self.port);
        let (tls, input) = match self.transport {
            Transport::Udp => (
                String::new(),
                format!(
                    "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")"
                ),
            ),
            Transport::Tcp => (
                String::new(),
                format!(
                    "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
                ),
            ),
            Transport::Tls => (
                format!(
                    "defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{dir}/ca.pem\" \
                     defaultNetstreamDriverCertFile=\"{dir}/cert.pem\" defaultNetstreamDriverKeyFile=\"{dir}/key.pem\""
                ),
                format!(
                    "module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" \
                     streamDriver.authMode=\"anon\")\n\
                     input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
                ),
            ),
            Transport::Unixgram => (
                String::new(),
                format!(
                    "module(load=\"imuxsock\" sysSock.use=\"off\")\n\
                     input(type=\"imuxsock\" socket=\"{dir}/log\" rateLimit.interval=\"0\" useSpecialParser=\"off\" \
                     parseHostname=\"on\")"
                ),
            ),
        };
        format!(
            "global(workDirectory=\"{dir}\" maxMessageSize=\"64k\" parser.escapeControlCharactersOnReceive=\"off\" {tls})\n\
             {input}\n\
             template(name=\"t\" type=\"string\" string=\"%syslogseverity% %app-name% %msg%\\n\")\n\
             *.* action(type=\"omfile\" file=\"{dir}/out\" template=\"t\")\n"
        )
    }
}

impl Collector for Rsyslog {
    fn options(&self) -> Vec<String> {
        let (dir, port) = (self.dir.display(), self.port);
        match self.transport {
            Transport::Udp => vec![format!("syslog-address=udp://127.0.0.1:{port}")],
            Transport::Tcp => vec![format!("syslog-address=tcp://127.0.0.1:{port}")],
            Transport::Tls => vec![
                format!("syslog-address=tcp+tls://localhost:{port}"),
                format!("syslog-tls-ca-cert={dir}/ca.pem"),
            ],
            Transport::Unixgram => {
                vec![format!("syslog-address=unixgram://{dir}/log"), "syslog-format=rfc5424".to_owned()]
            }
        }
    }

    fn start(&mut self) {
        let program = installed("rsyslogd");
        let libraries = program.parent().unwrap().join("../lib/x86_64-linux-gnu");
        std::fs::remove_file(self.file("pid")).ok();
        let process = Invocation::new(&program)
            .env("LD_LIBRARY_PATH", &libraries)
            .arg("-n")
            .arg("-f")
            .arg(self.file("rsyslog.conf"))
            .arg("-i")
            .arg(self.file("pid"))
            .arg(format!("-M{}", libraries.join("rsyslog").display()))
            .limit(120)
            .spawn();
        let socket = self.file("log");
        eventually("rsyslog to listen", || match self.transport {
            Transport::Tcp | Transport::Tls => TcpStream::connect(("127.0.0.1", self.port)).map(drop).ok(),
            Transport::Udp => std::net::UdpSocket::bind(("127.0.0.1", self.port)).is_err().then_some(()),
            Transport::Unixgram => {
                std::os::unix::net::UnixDatagram::unbound().and_then(|s| s.connect(&socket)).ok()
            }
        });
        self.process = Some(process);
    }

    fn may_repeat(&self) -> usize {
        match self.transport {
            // The second before; `killed` says less than a hundred lines in one.
            Transport::Tcp | Transport::Tls => 150,
            Transport::Udp | Transport::Unixgram => 0,
        }
    }

    fn stop(&mut self) {
        let process = self.process.take().expect("it runs");
        process.signal(Signal::TERM);
        process.wait();
    }

    fn hold(&mut self, still: bool) {
        hold(self.process.as_ref(), still);
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read(self.file("out")).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            // What it says of itself is not ours.
            .filter(|line| !line.contains(" rsyslogd"))
            .map(str::to_owned)
            .collect()
    }
}

/// systemd's journal, alone in a mount namespace in which /run is its own: it shows priority, tag, text.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    process: Option<Process>,
}

impl Journal {
    /// One with its files in this directory, not started yet.
    pub fn new(dir: &Path) -> Self {
        let dir = dir.join("journal");
        for below in ["run/systemd/journal", "run/log/journal"] {
            std::fs::create_dir_all(dir.join(below)).unwrap();
        }
        let conf = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nAudit=no\nReadKMsg=no\nForwardToWall=no\n\
                    SyncIntervalSec=1s\n";
        std::fs::write(dir.join("conf"), conf).unwrap();
        Self { dir, process: None }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("run/systemd/journal/socket")
    }

    /// All entries of containers, with all their fields.
    pub fn entries(&self) -> Vec<Json> {
        let directory = format!("--directory={}", self.dir.join("run/log/journal").display());
        let output = Invocation::new("journalctl")
            .args(&[&directory, "--output=json", "--all", "--no-pager", "--quiet", "CONTAINER_TAG=tag"])
            .limit(60)
            .output();
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Collector for Journal {
    fn options(&self) -> Vec<String> {
        vec![format!("journald-socket={}", self.socket().display())]
    }

    fn start(&mut self) {
        // What a dead one has left is nobody's.
        std::fs::remove_file(self.socket()).ok();
        let dir = self.dir.display();
        let script = format!(
            "mount --bind {dir}/run /run && mount --bind {dir}/conf /etc/systemd/journald.conf && \
             exec /lib/systemd/systemd-journald"
        );
        let process = Invocation::new("unshare")
            .args(&["--mount", "--propagation", "private", "sh", "-c", &script])
            .limit(120)
            .spawn();
        let socket = self.socket();
        eventually("the journal to listen", || {
            std::os::unix::net::UnixDatagram::unbound().and_then(|s| s.connect(&socket)).ok()
        });
        self.process = Some(process);
    }

    fn stop(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    fn hold(&mut self, still: bool) {
        hold(self.process.as_ref(), still);
    }

    fn lines(&self) -> Vec<String> {
        let line = |entry: &Json| {
            let message = match &entry["MESSAGE"] {
                Json::Array(bytes) => {
                    let bytes: Vec<u8> = bytes.iter().map(|b| b.as_u64().unwrap() as u8).collect();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                // What is empty it takes for nothing.
                other => other.as_str().unwrap_or_default().to_owned(),
            };
            format!(
                "{} {} {message}",
                entry["PRIORITY"].as_str().unwrap(),
                entry["SYSLOG_IDENTIFIER"].as_str().unwrap()
            )
        };
        self.entries().iter().map(line).collect()
    }
}

/// A collector that speaks the forward protocol: it keeps each chunk, then acknowledges it; one that it has it only
/// acknowledges.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    taken: Arc<Taken>,
    running: Option<Arc<Running>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Taken {
    records: Mutex<Vec<(String, Value, Json)>>,
    chunks: Mutex<BTreeSet<String>>,
    /// Chunks that came twice.
    again: Mutex<usize>,
}

#[derive(Debug, Default)]
struct Running {
    ended: AtomicBool,
    held: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forward {
    /// One that has not been started yet.
    #[expect(clippy::new_without_default, reason = "it takes a port of the machine")]
    pub fn new() -> Self {
        Self { port: free_port(), taken: Arc::default(), running: None, thread: None }
    }

    /// All records, as JSON, with their tags and times.
    pub fn records(&self) -> Vec<(String, Value, Json)> {
        locked(&self.taken.records).clone()
    }

    /// How many chunks came more than once.
    pub fn again(&self) -> usize {
        *locked(&self.taken.again)
    }
}

impl Collector for Forward {
    fn options(&self) -> Vec<String> {
        vec![format!("fluentd-address=127.0.0.1:{}", self.port)]
    }

    fn start(&mut self) {
        let port = self.port;
        let listener = eventually("its port", || TcpListener::bind(("127.0.0.1", port)).ok());
        let running = Arc::new(Running::default());
        self.running = Some(running.clone());
        let taken = self.taken.clone();
        self.thread = Some(std::thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if running.ended.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                locked(&running.connections).push(stream.try_clone().unwrap());
                let (running, taken) = (running.clone(), taken.clone());
                threads.push(std::thread::spawn(move || {
                    // A connection that breaks is what tests are about.
                    serve(stream, &running, &taken).ok();
                }));
            }
            drop(listener);
            for thread in threads {
                thread.join().unwrap();
            }
        }));
    }

    fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.ended.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        for connection in locked(&running.connections).drain(..) {
            connection.shutdown(Shutdown::Both).ok();
        }
        self.thread.take().expect("it runs").join().unwrap();
    }

    fn hold(&mut self, still: bool) {
        self.running.as_ref().expect("it runs").held.store(still, Ordering::SeqCst);
    }

    fn lines(&self) -> Vec<String> {
        let records = self.records();
        let text = |record: &Json, key: &str| record[key].as_str().unwrap().to_owned();
        let severity = |record: &Json| if record["source"] == "stderr" { 3 } else { 6 };
        records.iter().map(|(tag, _, r)| format!("{} {tag} {}", severity(r), text(r, "log"))).collect()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
    }
}

fn serve(mut stream: TcpStream, running: &Running, taken: &Taken) -> io::Result<()> {
    loop {
        while running.held.load(Ordering::SeqCst) && !running.ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let message = rmpv::decode::read_value(&mut Unbuffered(&stream)).map_err(io::Error::other)?;
        let [tag, entries, options] = &message.as_array().expect("a message is an array")[..] else {
            panic!("strange: {message}");
        };
        let option = |name: &str| {
            let found = options.as_map().unwrap().iter().find(|(key, _)| key.as_str() == Some(name));
            found.map(|(_, value)| value.clone()).expect("it asks for an acknowledgement")
        };
        let entries = entries.as_array().unwrap();
        assert_eq!(option("size").as_u64(), Some(entries.len() as u64));
        let chunk = option("chunk").as_str().unwrap().to_owned();
        if locked(&taken.chunks).insert(chunk.clone()) {
            let mut records = locked(&taken.records);
            for entry in entries {
                let [time, record] = &entry.as_array().unwrap()[..] else { panic!("strange: {entry}") };
                records.push((tag.as_str().unwrap().to_owned(), time.clone(), json(record)));
            }
        } else {
            *locked(&taken.again) += 1;
        }
        let mut answer = Vec::new();
        let ack = Value::Map(vec![(Value::from("ack"), Value::from(chunk))]);
        rmpv::encode::write_value(&mut answer, &ack).map_err(io::Error::other)?;
        stream.write_all(&answer)?;
    }
}

struct Unbuffered<'a>(&'a TcpStream);

impl Read for Unbuffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&mut &*self.0).read(buffer)
    }
}

fn json(record: &Value) -> Json {
    let fields = record.as_map().expect("a record is a map").iter();
    let text = |value: &Value| match value {
        Value::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        other => panic!("a field is text: {other}"),
    };
    Json::Object(fields.map(|(key, value)| (text(key), Json::String(text(value)))).collect())
}
