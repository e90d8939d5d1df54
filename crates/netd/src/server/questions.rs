//! What a container asks: read, judged, and answered from what we know, or else asked outside.

use std::net::SocketAddrV4;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Instant;

use super::Server;
use crate::cache;
use crate::slab::Key;
use crate::verdict::{self, Certainty, Verdict};
use crate::wire::name::Name;
use crate::wire::query::{Query, Wrong};
use crate::wire::write::{Answer, refusal};
use crate::wire::{code, flag};

/// How many seconds a name of ours may be believed. Resolvers within containers that keep names (nginx, Java, systemd's) see a
/// neighbour that was started again after so long; asking us costs less than most of them save. (Docker says 600, and has a
/// long history of proxies that talk to the address of yesterday.)
const LIFETIME: u32 = 5;
/// The longest answer on a stream.
pub(super) const LONGEST_ANSWER: usize = 65535;
/// How many questions wait for the server to know whom it serves.
const MOST_PARKED: usize = 4096;
/// How many of those one container may have, so that the others find room.
const MOST_PARKED_OF_ONE: usize = 128;

/// Who asked, and how an answer gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// By UDP.
    Datagram(Key, SocketAddrV4),
    /// By TCP, on a stream.
    Stream(Key),
}

/// When a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// The answer has been written.
    Now,
    /// It will be delivered.
    Later,
    /// Not at all.
    Never,
}

/// A question that waits for the server to settle.
#[derive(Debug)]
pub(super) struct Parked {
    client: Key,
    origin: Origin,
    message: Box<[u8]>,
}

/// All of those.
#[derive(Debug, Default)]
pub(super) struct Parking(Vec<Parked>);

impl Parking {
    /// Whether it found room. What finds none is asked again by who asked.
    fn park(&mut self, client: Key, origin: Origin, message: &[u8]) -> bool {
        let of_one = self.0.iter().filter(|parked| parked.client == client).count();
        let room = of_one < MOST_PARKED_OF_ONE && self.0.len() < MOST_PARKED;
        if room {
            self.0.push(Parked { client, origin, message: message.into() });
        }
        room
    }
}

/// How long an answer may be on its way.
pub(super) fn limit(origin: Origin, query: &Query<'_>) -> usize {
    match origin {
        Origin::Datagram(..) => query.size(),
        Origin::Stream(_) => LONGEST_ANSWER,
    }
}

impl Server {
    /// Reads what a container asks by UDP, and answers what can be answered at once.
    pub(super) fn read_datagrams(&mut self, key: Key) {
        let Some(mut inbox) = self.inbox.take() else { return };
        let received = match self.clients.get(key).and_then(|client| client.served.as_ref()) {
            // An error is one of an earlier answer, whose asker is gone.
            Some(served) => inbox.receive(served.datagrams.as_fd()).unwrap_or(0),
            None => 0,
        };
        let mut out = Vec::new();
        let mut answers: Vec<(Range<usize>, SocketAddrV4)> = Vec::with_capacity(received);
        for n in 0..received {
            let (message, from) = inbox.get(n);
            let start = out.len();
            if self.question(key, Origin::Datagram(key, from), message, &mut out) == Reply::Now {
                answers.push((start..out.len(), from));
            }
        }
        self.inbox = Some(inbox);
        let answers: Vec<(&[u8], SocketAddrV4)> =
            answers.into_iter().map(|(range, to)| (&out[range], to)).collect();
        self.send(key, &answers);
    }

    fn send(&self, key: Key, mut answers: &[(&[u8], SocketAddrV4)]) {
        let Some(served) = self.clients.get(key).and_then(|client| client.served.as_ref()) else { return };
        while !answers.is_empty() {
            // The first one's asker does not listen, or reads too slowly: it will ask again.
            let sent = sys::datagrams::send(served.datagrams.as_fd(), answers).unwrap_or(1).max(1);
            answers = answers.get(sent..).unwrap_or_default();
        }
    }

    /// What is answered at once is written to `out`.
    pub(super) fn question(
        &mut self,
        client: Key,
        origin: Origin,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Reply {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Wrong::Silence) => return Reply::Never,
            Err(Wrong::Code(code)) => {
                refusal(message, code, out);
                return Reply::Now;
            }
        };
        let Some(served) = self.clients.get(client).and_then(|client| client.served.as_ref()) else {
            return Reply::Never;
        };
        let name = Name::lower(query.name());
        let asked = (query.kind, query.class);
        let mut found = std::mem::take(&mut self.found);
        let (verdict, certainty) = verdict::on(
            &self.names,
            client,
            (served.leads_out, &served.registration.egress),
            &name,
            asked,
            &mut found,
        );
        let forbidden = verdict == Verdict::Forbidden;
        let reply = if certainty == Certainty::AsFarAsWeKnow && self.settling.is_some() {
            self.park(client, origin, message)
        } else if verdict == Verdict::Outside {
            self.ask(client, origin, &query, &name, message, out)
        } else {
            let mut answer = Answer::to(&query, limit(origin, &query), out);
            answer.authoritative();
            match verdict {
                Verdict::Addresses => {
                    self.chance.shuffle(&mut found);
                    for address in &found {
                        answer.address(LIFETIME, *address);
                    }
                }
                Verdict::Pointer(name) => {
                    answer.pointer(LIFETIME, name);
                }
                Verdict::NoName | Verdict::Forbidden => {
                    answer.code(code::NO_SUCH_NAME);
                }
                // Without a word on its zone, so that nobody keeps a denial.
                Verdict::NoData | Verdict::Outside => {}
            }
            answer.finish();
            Reply::Now
        };
        self.found = found;
        if forbidden && reply == Reply::Now {
            self.tell_unknown(client, &name);
        }
        reply
    }

    /// A name that is not one of ours: what is known of it, or else it is asked for.
    fn ask(
        &mut self,
        client: Key,
        origin: Origin,
        query: &Query<'_>,
        name: &Name,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Reply {
        let Some(served) = self.clients.get(client).and_then(|client| client.served.as_ref()) else {
            return Reply::Never;
        };
        let limit = limit(origin, query);
        let question = cache::question(name, query);
        let now = Instant::now();
        if let Some((response, age)) = served.cache.borrow_mut().get(&question, now) {
            response.write(query, limit, age, out);
            return Reply::Now;
        }
        // Who does not want others to be asked gets what we have, and no more.
        let refused = if query.has(flag::RECURSION_DESIRED) { None } else { Some(code::REFUSED) };
        let refused = refused.or_else(|| self.ask_outside(client, origin, question, query, message, now));
        let Some(code) = refused else { return Reply::Later };
        Answer::to(query, limit, out).code(code).finish();
        Reply::Now
    }

    fn park(&mut self, client: Key, origin: Origin, message: &[u8]) -> Reply {
        if self.parked.park(client, origin, message) { Reply::Later } else { Reply::Never }
    }

    /// All containers that live have registered, or have had time enough.
    pub(super) fn settled(&mut self) {
        self.settling = None;
        for Parked { client, origin, message } in std::mem::take(&mut self.parked).0 {
            let mut out = Vec::new();
            if self.question(client, origin, &message, &mut out) == Reply::Now {
                self.deliver(origin, &out);
            }
        }
    }

    /// Sends an answer that came later.
    pub(super) fn deliver(&mut self, origin: Origin, answer: &[u8]) {
        match origin {
            Origin::Datagram(client, to) => self.send(client, &[(answer, to)]),
            Origin::Stream(key) => {
                self.put_on_stream(key, answer);
                self.stirred.push(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    #[test]
    fn nobody_takes_all_the_room_where_questions_wait() {
        let mut slab = Slab::default();
        let (one, other) = (slab.insert(()), slab.insert(()));
        let mut parking = Parking::default();
        let parked = (0..MOST_PARKED).filter(|_| parking.park(one, Origin::Stream(one), b"?")).count();
        assert_eq!(parked, MOST_PARKED_OF_ONE);
        assert!(parking.park(other, Origin::Stream(other), b"?"));
    }
}
