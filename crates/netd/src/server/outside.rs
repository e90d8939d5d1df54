//! Questions that are asked outside, until they are answered.
//!
//! Each is asked from a socket of its own, connected to the server: so the kernel chooses a port that nobody can know, and
//! drops what comes from anybody else. The number is random too, and an answer must repeat the question. The socket is made
//! in the container's network namespace, where the question then travels as the container's own packets do, under the same
//! rules; only a server on the host's loopback is asked from the host.
//!
//! A server that says nothing for a second is joined by the next one, and the first good answer counts; one that fails is
//! not asked again. Before the asker gives up (after five seconds, mostly), we say that we have.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use state::netd::Upstream;

use super::exchange::Exchange;
use super::poller::{READ, Source, WRITE};
use super::questions::{Origin, limit};
use super::{Server, Timer};
use crate::cache::Question;
use crate::slab::Key;
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::response::{Response, answers, is_truncated};
use crate::wire::write::Answer;
use crate::wire::{HEADER, code, flag, kind, put16};

/// How long a server may be silent before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a question may take.
const LONGEST: Duration = Duration::from_millis(4500);
/// How long a server that answers is asked first, in the place of one that does not.
const BELIEVED: Duration = Duration::from_secs(30);
/// How many questions of one container may be on their way: one that floods us is told to wait, the others notice nothing.
const MOST_OF_ONE: usize = 256;
/// How many questions may be on their way.
const MOST: usize = 8192;
/// How many wait for the same answer.
const MOST_WAITING: usize = 64;
/// How often a question is asked.
const MOST_ATTEMPTS: usize = 6;
/// How long an answer by UDP may be (the value that all name servers agreed on in 2020: it is never fragmented).
const PAYLOAD: u16 = 1232;

/// A question.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) client: Key,
    question: Question,
    /// As it is sent, but for its number.
    message: Vec<u8>,
    /// The question in it, without what EDNS adds.
    length: usize,
    servers: Vec<Upstream>,
    /// In which order they are asked.
    first: usize,
    asked: usize,
    /// A bit for each server that has failed, and is not asked again.
    failed: u64,
    attempts: Vec<Attempt>,
    waiting: Vec<Waiting>,
    /// When the next server is asked.
    due: Instant,
    until: Instant,
    /// What the last server that failed has said.
    last: Option<Response>,
    /// The answer, while its addresses are opened.
    opening: Option<Box<Response>>,
}

impl Ask {
    /// What is asked for.
    pub(super) fn name(&self) -> Name {
        Name::lower(&self.message[HEADER..self.length - 4])
    }

    /// It is answered as soon as the answer's addresses are open.
    pub(super) fn wait_for_gate(&mut self, response: Response) {
        self.attempts.clear();
        self.due = self.until;
        self.opening = Some(Box::new(response));
    }

    /// The answer, whose addresses are open now.
    pub(super) fn opened(&mut self) -> Option<Response> {
        self.opening.take().map(|response| *response)
    }
}

/// One server that was asked.
#[derive(Debug)]
struct Attempt {
    server: usize,
    id: u16,
    socket: OwnedFd,
    /// By TCP.
    exchange: Option<Exchange>,
    with_edns: bool,
}

/// Who waits for the answer, and with which words it was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    origin: Origin,
    message: Box<[u8]>,
}

/// What has become of an attempt.
enum Outcome {
    Silence,
    Answer(Box<Response>),
    /// Ask again by TCP.
    Truncated,
    /// Ask again without EDNS.
    Plain,
    Failure(Option<Box<Response>>),
}

impl Server {
    /// Asks what a container wants to know. If that cannot be done, the code to tell it.
    pub(super) fn ask_outside(
        &mut self,
        client: Key,
        origin: Origin,
        question: Question,
        query: &Query<'_>,
        message: &[u8],
        now: Instant,
    ) -> Option<u16> {
        const FAILURE: Option<u16> = Some(code::SERVER_FAILURE);
        let waiting = Waiting { origin, message: message.into() };
        if let Some(ask) =
            self.asking.get(&(client, question.clone())).and_then(|key| self.asked.get_mut(*key))
        {
            if ask.waiting.contains(&waiting) {
                // It has only become impatient.
                return if matches!(origin, Origin::Datagram(..)) { None } else { FAILURE };
            }
            if ask.waiting.len() >= MOST_WAITING {
                return FAILURE;
            }
            ask.waiting.push(waiting);
            return None;
        }
        let served = self.clients.get_mut(client)?.served.as_mut()?;
        let servers = served.registration.upstreams.clone();
        if servers.is_empty() || served.asked >= MOST_OF_ONE || self.asked.len() >= MOST {
            return FAILURE;
        }
        served.asked += 1;
        let believed = served.preferred.filter(|(server, until)| *until > now && *server < servers.len());
        let mut sent = Vec::with_capacity(HEADER + query.question.len() + 11);
        let flags = flag::RECURSION_DESIRED | flag::AUTHENTIC | (query.flags & flag::CHECKING_DISABLED);
        for number in [0, flags, 1, 0, 0, 1] {
            sent.extend_from_slice(&number.to_be_bytes());
        }
        sent.extend_from_slice(query.question);
        let length = sent.len();
        sent.push(0);
        sent.extend_from_slice(&kind::OPT.to_be_bytes());
        sent.extend_from_slice(&PAYLOAD.to_be_bytes());
        sent.extend_from_slice(&[0, 0, u8::from(query.dnssec()) << 7, 0, 0, 0]);
        let until = now + LONGEST;
        let key = self.asked.insert(Ask {
            client,
            question: question.clone(),
            message: sent,
            length,
            servers,
            first: believed.map_or(0, |(server, _)| server),
            asked: 0,
            failed: 0,
            attempts: Vec::new(),
            waiting: vec![waiting],
            due: until,
            until,
            last: None,
            opening: None,
        });
        self.asking.insert((client, question), key);
        self.remind(until, Timer::Ask(key));
        self.ask_next(key, now);
        None
    }

    /// Asks the next server. Where none is left and none is waited for, that is the end.
    fn ask_next(&mut self, key: Key, now: Instant) {
        loop {
            let Some(ask) = self.asked.get_mut(key) else { return };
            let count = ask.servers.len();
            let able = (0..count).any(|server| ask.failed & bit(server) == 0);
            if !able || ask.asked >= MOST_ATTEMPTS.max(count) {
                ask.due = ask.until;
                if ask.attempts.is_empty() {
                    self.finish(key, None, now);
                }
                return;
            }
            let server = (ask.first + ask.asked) % count;
            ask.asked += 1;
            if ask.failed & bit(server) != 0 {
                continue;
            }
            match self.attempt(key, server, false, true) {
                Ok(()) => return self.be_patient(key, now),
                // There is no way to it, and there will be none.
                Err(_) => {
                    if let Some(ask) = self.asked.get_mut(key) {
                        ask.failed |= bit(server);
                    }
                }
            }
        }
    }

    fn be_patient(&mut self, key: Key, now: Instant) {
        let Some(ask) = self.asked.get_mut(key) else { return };
        ask.due = (now + PATIENCE).min(ask.until);
        let due = ask.due;
        self.remind(due, Timer::Ask(key));
    }

    /// Asks this server.
    fn attempt(&mut self, key: Key, server: usize, by_tcp: bool, with_edns: bool) -> Result<(), Errno> {
        let id = self.chance.number();
        let ask = self.asked.get_mut(key).ok_or(Errno::NOENT)?;
        let upstream = *ask.servers.get(server).ok_or(Errno::NOENT)?;
        let client = self.clients.get(ask.client).and_then(|client| client.served.as_ref());
        let space = &client.ok_or(Errno::NOENT)?.space;
        let way = if upstream.from_host {
            self.spaces.go_home()
        } else {
            self.spaces.enter(ask.client, space.as_fd())
        };
        way.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let family = if upstream.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let kind = if by_tcp { SocketType::STREAM } else { SocketType::DGRAM };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        match connect(&socket, &upstream.address) {
            Err(Errno::INPROGRESS) if by_tcp => {}
            other => other?,
        }
        put16(&mut ask.message, 0, id);
        put16(&mut ask.message, 10, with_edns.into());
        let message = if with_edns { &ask.message[..] } else { &ask.message[..ask.length] };
        let exchange = if by_tcp {
            Some(Exchange::new(message))
        } else {
            send(&socket, message, SendFlags::NOSIGNAL)?;
            None
        };
        let flags = if by_tcp { READ | WRITE } else { READ };
        self.poller.add(&socket, Source::Outside(key), flags).map_err(|_| Errno::NOSPC)?;
        ask.attempts.push(Attempt { server, id, socket, exchange, with_edns });
        Ok(())
    }

    /// Reads what servers have answered to a question.
    pub(super) fn read_outside(&mut self, key: Key) {
        let now = Instant::now();
        let mut n = 0;
        while let Some(ask) = self.asked.get_mut(key) {
            let Some(attempt) = ask.attempts.get_mut(n) else { return };
            let question = &ask.message[HEADER..ask.length];
            match attempt.read(question, &mut self.scratch) {
                Outcome::Silence => {
                    if let Some(exchange) = &mut attempt.exchange
                        && exchange.was_just_sent()
                    {
                        // It would be ready to be written to for ever.
                        self.poller.change(&attempt.socket, Source::Outside(key), READ).ok();
                    }
                    n += 1;
                }
                Outcome::Answer(response) => {
                    let server = attempt.server;
                    self.prefer(key, server, now);
                    return self.finish(key, Some(*response), now);
                }
                Outcome::Truncated => {
                    let Attempt { server, with_edns, .. } = ask.attempts.swap_remove(n);
                    self.again(key, server, true, with_edns, now);
                }
                Outcome::Plain => {
                    let Attempt { server, exchange, .. } = ask.attempts.swap_remove(n);
                    self.again(key, server, exchange.is_some(), false, now);
                }
                Outcome::Failure(response) => {
                    let server = attempt.server;
                    ask.attempts.swap_remove(n);
                    ask.failed |= bit(server);
                    ask.last = response.map(|response| *response).or(ask.last.take());
                    self.ask_next(key, now);
                }
            }
        }
    }

    /// Asks a server once more, in another way.
    fn again(&mut self, key: Key, server: usize, by_tcp: bool, with_edns: bool, now: Instant) {
        if self.attempt(key, server, by_tcp, with_edns).is_ok() {
            return self.be_patient(key, now);
        }
        if let Some(ask) = self.asked.get_mut(key) {
            ask.failed |= bit(server);
        }
        self.ask_next(key, now);
    }

    /// Notes which server has answered, if others were asked before it and did not.
    fn prefer(&mut self, key: Key, server: usize, now: Instant) {
        let Some(ask) = self.asked.get(key) else { return };
        if server != ask.first
            && let Some(served) = self.clients.get_mut(ask.client).and_then(|client| client.served.as_mut())
        {
            served.preferred = Some((server, now + BELIEVED));
        }
    }

    pub(super) fn ask_is_due(&mut self, key: Key, now: Instant) {
        let Some(ask) = self.asked.get(key) else { return };
        if ask.until <= now {
            self.finish(key, None, now);
        } else if ask.due <= now {
            self.ask_next(key, now);
        }
    }

    /// Ends a question with what was answered.
    fn finish(&mut self, key: Key, response: Option<Response>, now: Instant) {
        if response.as_ref().is_some_and(|response| self.opens_first(key, response)) {
            return;
        }
        self.deliver_all(key, response, now);
    }

    /// Tells all who wait what was answered: this, or else how it failed.
    pub(super) fn deliver_all(&mut self, key: Key, response: Option<Response>, now: Instant) {
        let Some(ask) = self.drop_ask(key) else { return };
        let Ask { client, question, waiting, last, .. } = ask;
        for Waiting { origin, message } in waiting {
            // It was read before.
            let Ok(query) = Query::parse(&message) else { continue };
            let limit = limit(origin, &query);
            let mut out = Vec::new();
            match response.as_ref().or(last.as_ref()) {
                Some(response) => response.write(&query, limit, 0, &mut out),
                None => Answer::to(&query, limit, &mut out).code(code::SERVER_FAILURE).finish(),
            }
            self.deliver(origin, &out);
        }
        if let (Some(response), Some(served)) =
            (response, self.clients.get(client).and_then(|client| client.served.as_ref()))
        {
            served.cache.borrow_mut().put(&question, response, now);
        }
    }

    /// Forgets a question.
    pub(super) fn drop_ask(&mut self, key: Key) -> Option<Ask> {
        let ask = self.asked.remove(key)?;
        self.asking.remove(&(ask.client, ask.question.clone()));
        if let Some(served) = self.clients.get_mut(ask.client).and_then(|client| client.served.as_mut()) {
            served.asked = served.asked.saturating_sub(1);
        }
        Some(ask)
    }
}

/// A server's bit. Nobody has more servers than bits; those beyond share the last.
fn bit(server: usize) -> u64 {
    1 << server.min(63)
}

impl Attempt {
    /// Reads what has come.
    fn read(&mut self, question: &[u8], buffer: &mut [u8]) -> Outcome {
        if let Some(exchange) = &mut self.exchange {
            return match exchange.advance(&self.socket, buffer) {
                Ok(None) => Outcome::Silence,
                Ok(Some(message)) if answers(&message, self.id, question) => self.understand(&message),
                // On a connection there is nobody else to have said it.
                Ok(Some(_)) | Err(_) => Outcome::Failure(None),
            };
        }
        // What is not the answer is thrown away; a flood of it must not keep us here.
        for _ in 0..16 {
            match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    let message = &buffer[..length.min(buffer.len())];
                    if answers(message, self.id, question) {
                        return if is_truncated(message) {
                            Outcome::Truncated
                        } else {
                            self.understand(message)
                        };
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Outcome::Silence,
                // "Port unreachable", and such.
                Err(_) => return Outcome::Failure(None),
            }
        }
        Outcome::Silence
    }

    fn understand(&self, message: &[u8]) -> Outcome {
        let told = crate::wire::be16(message, 2).map_or(0, |flags| flags & flag::CODE);
        if self.with_edns && matches!(told, code::FORMAT_ERROR | code::NOT_IMPLEMENTED) {
            return Outcome::Plain;
        }
        match Response::parse(message).map(Box::new) {
            Some(response) if response.is_failure() => Outcome::Failure(Some(response)),
            Some(response) => Outcome::Answer(response),
            None => Outcome::Failure(None),
        }
    }
}
