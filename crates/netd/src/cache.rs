//! What servers outside have said, for as long as they said it.
//!
//! A cache belongs to those who are told the same by the same servers on the same way: that is one container, since in its
//! namespace it may be able to forge packets, and must not be able to put words into the mouth of its neighbours' resolver; or
//! all whose questions go out from the host.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::wire::flag;
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::response::Response;

/// How much memory all caches together may take.
pub const MOST_BYTES: usize = 16 << 20;
/// What an entry costs beside its bytes: a few pointers, numbers, and room in tables.
const OVERHEAD: usize = 160;

/// What is asked, as far as the answer depends on it.
pub type Question = Rc<[u8]>;

/// The question of a query: the name in lower case, type, class, and what is wanted of DNSSEC.
pub fn question(name: &Name, query: &Query<'_>) -> Question {
    let tail = &query.question[query.question.len() - 4..];
    let wishes = u8::from(query.dnssec()) | (u8::from(query.has(flag::CHECKING_DISABLED)) << 1);
    name.wire().iter().chain(tail).copied().chain([wishes]).collect()
}

/// How many bytes all caches take by now.
#[derive(Debug, Clone, Default)]
pub struct Budget(Rc<Cell<usize>>);

/// One cache.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<Question, Entry>,
    /// In the order in which they may go; who was asked for meanwhile gets another turn.
    order: VecDeque<Question>,
    bytes: usize,
    most: Limits,
    budget: Budget,
}

/// How much a cache may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Answers.
    pub entries: usize,
    /// Bytes.
    pub bytes: usize,
}

#[derive(Debug)]
struct Entry {
    response: Response,
    since: Instant,
    used: bool,
}

impl Entry {
    fn weight(question: &Question, response: &Response) -> usize {
        2 * question.len() + response.weight() + OVERHEAD
    }
}

impl Cache {
    /// An empty one.
    pub fn new(most: Limits, budget: &Budget) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), bytes: 0, most, budget: budget.clone() }
    }

    /// The answer to a question, and how many seconds ago it was given.
    pub fn get(&mut self, question: &Question, now: Instant) -> Option<(&Response, u32)> {
        let entry = self.entries.get_mut(question)?;
        let age = now.saturating_duration_since(entry.since);
        if age >= Duration::from_secs(entry.response.life().into()) {
            return None;
        }
        entry.used = true;
        Some((&entry.response, age.as_secs() as u32))
    }

    /// Keeps an answer, if it may be kept.
    pub fn put(&mut self, question: &Question, response: Response, now: Instant) {
        if response.life() == 0 {
            return;
        }
        let weight = Entry::weight(question, &response);
        if weight > self.most.bytes {
            return;
        }
        self.take(question);
        while self.entries.len() >= self.most.entries
            || self.bytes + weight > self.most.bytes
            || self.budget.0.get() + weight > MOST_BYTES
        {
            if !self.make_room() {
                return;
            }
        }
        self.order.push_back(question.clone());
        self.entries.insert(question.clone(), Entry { response, since: now, used: false });
        self.weigh(weight as isize);
    }

    fn take(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.order.retain(|other| other != question);
            self.weigh(-(Entry::weight(question, &entry.response) as isize));
        }
    }

    /// Lets one go. False if there is none.
    fn make_room(&mut self) -> bool {
        while let Some(question) = self.order.pop_front() {
            let Some(entry) = self.entries.get_mut(&question) else { continue };
            if entry.used {
                entry.used = false;
                self.order.push_back(question);
                continue;
            }
            let weight = Entry::weight(&question, &entry.response);
            self.entries.remove(&question);
            self.weigh(-(weight as isize));
            return true;
        }
        false
    }

    fn weigh(&mut self, more: isize) {
        self.bytes = self.bytes.saturating_add_signed(more);
        self.budget.0.set(self.budget.0.get().saturating_add_signed(more));
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.budget.0.set(self.budget.0.get().saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kind;
    use crate::wire::query::tests::question as ask;

    /// An answer with a life of so many seconds.
    fn response(life: u32) -> Response {
        let mut message = ask(1, "a.b", kind::A, None);
        message[2] |= 0x80;
        message[7] = 1;
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        message.extend_from_slice(&life.to_be_bytes());
        message.extend_from_slice(&[0, 4, 1, 2, 3, 4]);
        Response::parse(&message).unwrap()
    }

    fn about(n: usize) -> Question {
        format!("question {n:4}").into_bytes().into()
    }

    fn cache(entries: usize, budget: &Budget) -> Cache {
        Cache::new(Limits { entries, bytes: 1 << 20 }, budget)
    }

    #[test]
    fn an_answer_lives_as_long_as_it_says() {
        let budget = Budget::default();
        let mut cache = cache(10, &budget);
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        cache.put(&about(1), response(10), now);
        cache.put(&about(2), response(0), now);
        assert_eq!(cache.get(&about(1), after(9)).unwrap().1, 9);
        assert!(cache.get(&about(1), after(10)).is_none());
        assert!(cache.get(&about(2), now).is_none());
        cache.put(&about(1), response(10), after(10));
        assert_eq!(cache.get(&about(1), after(12)).unwrap().1, 2);
        assert_eq!(cache.order.len(), 1);
    }

    #[test]
    fn it_stays_within_its_bounds_and_keeps_what_is_used() {
        let budget = Budget::default();
        let mut cache = cache(8, &budget);
        let now = Instant::now();
        for n in 0..100 {
            cache.put(&about(n), response(10), now);
            assert!(cache.get(&about(0), now).is_some());
            assert!(cache.entries.len() <= 8 && cache.order.len() <= 8);
        }
        assert!(cache.get(&about(98), now).is_some() && cache.get(&about(50), now).is_none());
        let weight = Entry::weight(&about(0), &response(10));
        assert_eq!((cache.bytes, budget.0.get()), (8 * weight, 8 * weight));
        cache.most.bytes = 3 * weight;
        cache.put(&about(200), response(10), now);
        assert_eq!(cache.entries.len(), 3);
        // Another one has all of the memory that there is for all.
        budget.0.set(MOST_BYTES);
        cache.put(&about(201), response(10), now);
        assert_eq!(cache.entries.len(), 3, "it takes from its own");
        drop(cache);
        assert_eq!(budget.0.get(), MOST_BYTES - 3 * weight);
    }

    #[test]
    fn the_question_is_what_the_answer_depends_on() {
        let of = |name: &str, kind, dnssec| {
            let message = ask(1, name, kind, Some(crate::wire::query::Edns { size: 1232, dnssec }));
            let query = Query::parse(&message).unwrap();
            question(&Name::lower(query.name()), &query)
        };
        assert_eq!(of("A.b", kind::A, false), of("a.B", kind::A, false));
        assert_ne!(of("a.b", kind::A, false), of("a.b", kind::A, true));
        assert_ne!(of("a.b", kind::A, false), of("a.b", kind::AAAA, false));
    }
}
