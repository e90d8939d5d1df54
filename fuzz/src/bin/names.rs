//! DNS messages: questions as containers ask them, answers as servers outside give them. Whatever comes, nothing panics,
//! nothing turns round and round, no answer is longer than its asker can take, and each can be read again.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use netd::names::Names;
use netd::slab::Key;
use netd::verdict::{self, Verdict};
use netd::wire::name::Name;
use netd::wire::query::{Query, Wrong};
use netd::wire::response::{Response, answers};
use netd::wire::write::{Answer, refusal};
use state::egress::Egress;
use state::netd::{Membership, Registration, Subnet, VERSION};

const ASKER: Key = Key { index: 0, turn: 0 };

fn names() -> Names {
    let mut names = Names::default();
    let address = IpAddr::from([10, 0, 0, 2]);
    let network = Membership {
        network: "net".to_owned(),
        names: vec!["web".to_owned(), "a.b".to_owned()],
        addresses: vec![address; 40],
        gateways: vec![IpAddr::from([10, 0, 0, 1])],
        subnets: vec![Subnet { address, prefix: 24 }],
        internal: false,
        allow: Vec::new(),
    };
    names.set(
        ASKER,
        &Registration {
            version: VERSION,
            container: "a".repeat(64).parse().expect("an id"),
            networks: vec![network],
            upstreams: Vec::new(),
            hosts: vec![("extra".to_owned(), address)],
            program: std::path::PathBuf::new(),
            egress: Egress::Allow,
        },
    );
    names
}

fuzz_target!(|data: &[u8]| {
    let Some((split, rest)) = data.split_first_chunk::<2>() else { return };
    let (question, answer) = rest.split_at(usize::from(u16::from_be_bytes(*split)).min(rest.len()));
    let mut out = Vec::new();
    let query = match Query::parse(question) {
        Ok(query) => query,
        Err(Wrong::Silence) => return,
        Err(Wrong::Code(code)) => {
            refusal(question, code, &mut out);
            assert!((12..=23).contains(&out.len()));
            return;
        }
    };
    let limit = query.size();
    let names = names();
    let name = Name::lower(query.name());
    let mut found = Vec::new();
    // By the last bit of its number: one whose ways are limited.
    let egress = if query.id & 1 == 0 { Egress::Allow } else { Egress::Only(Vec::new()) };
    let (verdict, _) =
        verdict::on(&names, ASKER, (true, &egress), &name, (query.kind, query.class), &mut found);
    let mut written = Answer::to(&query, limit, &mut out);
    for address in &found {
        written.address(5, *address);
    }
    if let Verdict::Pointer(name) = verdict {
        written.pointer(5, name);
    }
    written.finish();
    assert!(out.len() <= limit);
    assert!(answers(&out, query.id, query.question));
    assert!(Response::parse(&out).is_some(), "what we say can be read");
    let id = answer.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
    answers(answer, id, query.question);
    if let Some(response) = Response::parse(answer) {
        response.addresses();
        for (limit, age) in [(limit, 0), (65535, u32::MAX)] {
            out.clear();
            response.write(&query, limit, age, &mut out);
            assert!(out.len() <= limit);
        }
    }
});
