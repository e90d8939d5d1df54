//! A filter as a program of classic BPF, which the kernel checks and runs.

use sys::packet::Instruction;

use super::filter::{Expression, Filter, Load, Relation, Test};

mod code {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    /// Behind X.
    pub(super) const LOAD_HALF_INDIRECT: u16 = 0x48;
    /// X becomes four times the low half of a byte: the length of an IPv4 header.
    pub(super) const HEADER_LENGTH: u16 = 0xb1;
    pub(super) const AND: u16 = 0x54;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const IF_EQUAL: u16 = 0x15;
    pub(super) const IF_AT_LEAST: u16 = 0x35;
    pub(super) const IF_ANY_BIT: u16 = 0x45;
    pub(super) const RETURN: u16 = 0x06;
}

/// Where the Ethernet header ends.
const NETWORK: u32 = 14;

/// The program: it returns `keep` for what is wanted, else 0.
pub(super) fn compile(filter: &Filter, keep: u32) -> Vec<Instruction> {
    let mut writer = Writer::default();
    let (wanted, unwanted) = (writer.label(), writer.label());
    writer.expression(&filter.0, wanted, unwanted);
    writer.place(wanted);
    writer.push(code::RETURN, keep);
    writer.place(unwanted);
    writer.push(code::RETURN, 0);
    writer.finish()
}

/// A place in the program that is not known yet. All lie ahead of what jumps there: the language has no way back.
#[derive(Clone, Copy)]
struct Label(usize);

#[derive(Default)]
struct Writer {
    instructions: Vec<Instruction>,
    /// Jumps, and where they go.
    jumps: Vec<(usize, Label)>,
    places: Vec<usize>,
}

impl Writer {
    fn label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.places[label.0] = self.instructions.len();
    }

    fn push(&mut self, code: u16, k: u32) {
        self.instructions.push(Instruction { code, if_true: 0, if_false: 0, k });
    }

    /// The kernel's conditions jump at most 255 instructions far, its jump any way: so each has two of those behind it.
    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) {
        self.instructions.push(Instruction { code, if_true: 0, if_false: 1, k });
        for label in [yes, no] {
            self.jumps.push((self.instructions.len(), label));
            self.push(code::JUMP, 0);
        }
    }

    fn expression(&mut self, expression: &Expression, yes: Label, no: Label) {
        match expression {
            Expression::All => {
                self.jumps.push((self.instructions.len(), yes));
                self.push(code::JUMP, 0);
            }
            Expression::Not(inner) => self.expression(inner, no, yes),
            Expression::And(one, other) => {
                let second = self.label();
                self.expression(one, second, no);
                self.place(second);
                self.expression(other, yes, no);
            }
            Expression::Or(one, other) => {
                let second = self.label();
                self.expression(one, yes, second);
                self.place(second);
                self.expression(other, yes, no);
            }
            Expression::Test(test) => self.test(*test, yes, no),
        }
    }

    fn test(&mut self, test: Test, yes: Label, no: Label) {
        match test.load {
            Load::Byte(at) => self.push(code::LOAD_BYTE, at),
            Load::Half(at) => self.push(code::LOAD_HALF, at),
            Load::Word(at) => self.push(code::LOAD_WORD, at),
            Load::HalfBehindIpv4(at) => {
                self.push(code::HEADER_LENGTH, NETWORK);
                self.push(code::LOAD_HALF_INDIRECT, at);
            }
        }
        match test.relation {
            Relation::Is(k) => self.branch(code::IF_EQUAL, k, yes, no),
            Relation::MaskedIs(mask, k) => {
                self.push(code::AND, mask);
                self.branch(code::IF_EQUAL, k, yes, no);
            }
            Relation::AtLeast(k) => self.branch(code::IF_AT_LEAST, k, yes, no),
            Relation::AnyBitOf(k) => self.branch(code::IF_ANY_BIT, k, yes, no),
        }
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in &self.jumps {
            self.instructions[*at].k = (self.places[label.0] - at - 1) as u32;
        }
        self.instructions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kernel would do.
    fn run(program: &[Instruction], frame: &[u8]) -> u32 {
        let number = |at: usize, length: usize| {
            let bytes = frame.get(at..at + length)?;
            Some(bytes.iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte)))
        };
        let (mut a, mut x, mut at) = (0, 0, 0);
        loop {
            let i = program[at];
            let k = i.k as usize;
            at += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { i.if_true } else { i.if_false });
            let loaded = match i.code {
                code::LOAD_WORD => number(k, 4),
                code::LOAD_HALF => number(k, 2),
                code::LOAD_BYTE => number(k, 1),
                code::LOAD_HALF_INDIRECT => number(k + x, 2),
                code::HEADER_LENGTH => match number(k, 1) {
                    Some(byte) => {
                        x = 4 * (byte as usize & 15);
                        Some(a)
                    }
                    None => None,
                },
                code::AND => Some(a & i.k),
                code::JUMP => {
                    at += k;
                    Some(a)
                }
                code::IF_EQUAL => {
                    branch(a == i.k);
                    Some(a)
                }
                code::IF_AT_LEAST => {
                    branch(a >= i.k);
                    Some(a)
                }
                code::IF_ANY_BIT => {
                    branch(a & i.k != 0);
                    Some(a)
                }
                code::RETURN => return i.k,
                other => panic!("{other:x} is no instruction of ours"),
            };
            // A packet that is too short is not wanted.
            let Some(loaded) = loaded else { return 0 };
            a = loaded;
        }
    }

    fn wants(filter: &str, frame: &[u8]) -> bool {
        run(&compile(&Filter::parse(filter).unwrap(), 9), frame) == 9
    }

    fn tcp4(options: usize) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([
            8,
            0,
            0x45 + options as u8,
            0,
            0,
            0,
            0,
            0,
            0x40,
            0,
            64,
            6,
            0,
            0,
            10,
            5,
            0,
            2,
            10,
            5,
            0,
            3,
        ]);
        frame.extend(vec![1; 4 * options]);
        frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn udp6() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
        frame.extend("fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame.extend("fd00::3".parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame.extend([0, 53, 0x9c, 0x40, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn conditions_are_about_what_they_say() {
        for options in [0, 3] {
            let frame = tcp4(options);
            for yes in [
                "",
                "tcp",
                "ip",
                "tcp port 80",
                "dst port 80",
                "src port 40000",
                "portrange 79-81",
                "host 10.5.0.3",
                "src 10.5.0.2",
                "net 10.5.0.0/16",
                "not udp",
                "udp or tcp dst port 80",
                "10.5.0.2 && !port 53",
                "(udp or tcp) port 80",
                "not (udp and port 80)",
                "portrange 80-65535",
            ] {
                assert!(wants(yes, &frame), "{yes}");
            }
            for no in [
                "udp",
                "ip6",
                "arp",
                "icmp",
                "port 81",
                "src port 80",
                "dst host 10.5.0.2",
                "portrange 81-90",
                "not tcp",
            ] {
                assert!(!wants(no, &frame), "{no}");
            }
        }
        let frame = udp6();
        for yes in
            ["ip6", "udp", "udp src port 53", "host fd00::3", "net fd00::/64", "src fd00::2", "net ::/0"]
        {
            assert!(wants(yes, &frame), "{yes}");
        }
        for no in ["ip", "tcp", "dst port 53", "host fd00::4", "net fd01::/64", "icmp6"] {
            assert!(!wants(no, &frame), "{no}");
        }
        // What is no first fragment has no ports.
        let mut fragment = tcp4(0);
        fragment[21] = 1;
        assert!(!wants("port 80", &fragment) && wants("tcp", &fragment));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_words() {
        for (bad, words) in [
            ("port", "a port"),
            ("port x", "`x` is not a port"),
            ("host 1.2.3", "not an address"),
            ("net 10.0.0.1/8", "no subnet"),
            ("(tcp", "not closed"),
            ("tcp)", "does not fit"),
            ("tcp or", "ends"),
            ("frobnicate", "no condition"),
            ("portrange 9-8", "no range"),
            ("src", "ends"),
        ] {
            let error = Filter::parse(bad).unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
        assert!(Filter::parse(&"! ".repeat(100)).is_err());
        assert!(Filter::parse(&"tcp or ".repeat(100)).is_err());
    }

    #[test]
    fn the_longest_is_a_program_that_the_kernel_takes() {
        let longest = ["host fd00:1:2:3:4:5:6:7"; 40].join(" or ");
        let program = compile(&Filter::parse(&longest).unwrap(), 65_535);
        assert!(program.len() < 4096, "{}", program.len());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sys::socket::attach_filter(&socket, &program).unwrap();
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "[a-z0-9 ()!&|./:-]{0,80}", frame in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(filter) = Filter::parse(&text) {
                run(&compile(&filter, 1), &frame);
            }
        }

        #[test]
        fn what_is_joined_means_what_its_parts_mean(
            parts in prop::collection::vec(prop::sample::select(vec![
                "tcp", "udp", "port 80", "src port 53", "host 10.5.0.2", "net fd00::/64", "ip6", "portrange 70-90",
            ]), 2..5),
            six in any::<bool>(),
        ) {
            let frame = if six { udp6() } else { tcp4(1) };
            let each: Vec<bool> = parts.iter().map(|part| wants(part, &frame)).collect();
            prop_assert_eq!(wants(&parts.join(" and "), &frame), each.iter().all(|yes| *yes));
            prop_assert_eq!(wants(&parts.join(" or "), &frame), each.iter().any(|yes| *yes));
            prop_assert_eq!(wants(&format!("not ({})", parts.join(" or ")), &frame), !each.iter().any(|yes| *yes));
        }
    }
}
