//! Which device nodes may be opened: the specification's rules for v1's `devices` controller, or as an eBPF
//! program for v2.
//!
//! In the specification the last rule that matches decides. v1 knows only "everything but …" and "nothing but
//! …", so what stands before the last rule for everything is dropped; v2's program asks the rules backwards.

use oci::runtime::DeviceRule;
use sys::bpf::Instruction;

use super::Error;

const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ANY: u8 = MAKE | READ | WRITE;

/// More rules than anybody has devices.
const MAX_RULES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Char,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    /// As the kernel's `BPF_DEVCG_ACC_*`.
    access: u8,
}

const fn char(major: u32, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind: Some(Kind::Char), major: Some(major), minor, access }
}

/// What every container may use, as with Docker: nodes may be made (using them is another matter), and the
/// harmless devices that the specification wants in `/dev`.
const DEFAULT: [Rule; 11] = [
    Rule { allow: true, kind: Some(Kind::Char), major: None, minor: None, access: MAKE },
    Rule { allow: true, kind: Some(Kind::Block), major: None, minor: None, access: MAKE },
    char(1, Some(3), ANY), // null
    char(1, Some(5), ANY), // zero
    char(1, Some(7), ANY), // full
    char(1, Some(8), ANY), // random
    char(1, Some(9), ANY), // urandom
    char(5, Some(0), ANY), // tty
    char(5, Some(1), ANY), // console
    char(5, Some(2), ANY), // ptmx
    char(136, None, ANY),  // pts/*
];

/// The rules of one container: what holds for everything, and the exceptions, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rules {
    allow: bool,
    exceptions: Vec<Rule>,
}

/// The default devices, then the specification's rules. Without rules nothing else is allowed.
pub(super) fn resolve(specified: &[DeviceRule]) -> Result<Rules, Error> {
    if specified.len() > MAX_RULES {
        return Err(Error::Invalid { reason: "there are more than 1024 device rules" });
    }
    let mut rules = Rules { allow: false, exceptions: Vec::new() };
    for rule in specified {
        let rule = parse(rule)?;
        let everything = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none();
        if everything && rule.access == ANY {
            rules = Rules { allow: rule.allow, exceptions: Vec::new() };
        } else {
            rules.exceptions.push(rule);
        }
    }
    if !rules.allow || !rules.exceptions.is_empty() {
        // What is repeated among the rules need not be said twice; theirs comes later and so counts.
        let mut all: Vec<_> = DEFAULT.into_iter().filter(|d| !rules.exceptions.contains(d)).collect();
        all.append(&mut rules.exceptions);
        rules.exceptions = all;
    }
    Ok(rules)
}

fn parse(rule: &DeviceRule) -> Result<Rule, Error> {
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("b") => Some(Kind::Block),
        Some("c" | "u") => Some(Kind::Char),
        Some(_) => return Err(Error::Invalid { reason: "a device rule's type is none of a, b and c" }),
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => return Err(Error::Invalid { reason: "a device rule's access has others than r, w and m" }),
        };
    }
    let number = |n: Option<i64>| match n {
        // Negative is "all", as it was in older specifications.
        Some(n) if n >= 0 => u32::try_from(n)
            .map(Some)
            .map_err(|_| Error::Invalid { reason: "a device rule's number is too large" }),
        _ => Ok(None),
    };
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access: if access == 0 { ANY } else { access },
    })
}

impl Rules {
    /// True where every device is allowed, so that nothing has to be done.
    pub(super) fn allow_everything(&self) -> bool {
        self.allow && self.exceptions.iter().all(|r| r.allow)
    }

    /// What is written to v1's files, in order: `(file, line)`.
    pub(super) fn v1(&self) -> Vec<(&'static str, String)> {
        if self.allow_everything() {
            // A new group has what its parent has.
            return Vec::new();
        }
        let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
        let mut list = vec![(file(self.allow), "a".to_owned())];
        for rule in &self.exceptions {
            let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
            let access: String = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')]
                .into_iter()
                .filter_map(|(bit, letter)| (rule.access & bit != 0).then_some(letter))
                .collect();
            // "a" would mean everything, whatever else the line says.
            let kinds = match rule.kind {
                Some(Kind::Block) => &['b'][..],
                Some(Kind::Char) => &['c'],
                None => &['b', 'c'],
            };
            for kind in kinds {
                let line = format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor));
                list.push((file(rule.allow), line));
            }
        }
        list
    }

    /// v2's program; `None` where every device is allowed.
    pub(super) fn v2(&self) -> Option<Vec<Instruction>> {
        if self.allow_everything() {
            return None;
        }
        // Registers: 1 is the context, 2 the kind, 3 the wanted access, 4 and 5 the numbers.
        let mut code = vec![
            instruction(LOAD_WORD, 2, 1, 0, 0),
            instruction(COPY, 3, 2, 0, 0),
            instruction(AND, 2, 0, 0, 0xffff),
            instruction(SHIFT_RIGHT, 3, 0, 0, 16),
            instruction(LOAD_WORD, 4, 1, 4, 0),
            instruction(LOAD_WORD, 5, 1, 8, 0),
        ];
        for rule in self.exceptions.iter().rev() {
            assemble(&mut code, *rule);
        }
        answer(&mut code, self.allow);
        Some(code)
    }
}

// eBPF operations (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const COPY: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_NOT_EQUAL: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const JUMP_EQUAL: u8 = 0x16; // BPF_JMP32 | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate: immediate as i32 }
}

fn answer(code: &mut Vec<Instruction>, allow: bool) {
    code.push(instruction(SET, 0, 0, 0, u32::from(allow)));
    code.push(instruction(EXIT, 0, 0, 0, 0));
}

/// A rule's comparisons, each of which leads to the next rule where it fails, and its answer.
fn assemble(code: &mut Vec<Instruction>, rule: Rule) {
    let start = code.len();
    if let Some(kind) = rule.kind {
        let number = match kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        code.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, number));
    }
    if rule.access != ANY {
        code.push(instruction(COPY, 1, 3, 0, 0));
        if rule.allow {
            // Allowed is what asks for nothing else.
            code.push(instruction(AND, 1, 0, 0, u32::from(ANY & !rule.access)));
            code.push(instruction(JUMP_NOT_EQUAL, 1, 0, 0, 0));
        } else {
            // Denied is what asks for any of it.
            code.push(instruction(AND, 1, 0, 0, u32::from(rule.access)));
            code.push(instruction(JUMP_EQUAL, 1, 0, 0, 0));
        }
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            code.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number));
        }
    }
    answer(code, rule.allow);
    let end = code.len();
    for (at, instruction) in code.iter_mut().enumerate().skip(start) {
        if matches!(instruction.code, JUMP_NOT_EQUAL | JUMP_EQUAL) {
            // A rule has at most ten instructions.
            instruction.offset = (end - at - 1) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
        DeviceRule { allow, kind: Some(kind.to_owned()), major, minor, access: Some(access.to_owned()) }
    }

    fn deny_all() -> DeviceRule {
        DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() }
    }

    /// The kernel's interpreter, as far as we use it.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0_usize;
        loop {
            let i = program[at];
            at += 1;
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let immediate = i.immediate as u32;
            match i.code {
                LOAD_WORD => registers[to] = context[i.offset as usize / 4],
                COPY => registers[to] = registers[from],
                SET => registers[to] = immediate,
                AND => registers[to] &= immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_NOT_EQUAL if registers[to] != immediate => at += i.offset as usize,
                JUMP_EQUAL if registers[to] == immediate => at += i.offset as usize,
                JUMP_NOT_EQUAL | JUMP_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    const CHAR: u32 = 2;
    const BLOCK: u32 = 1;

    #[test]
    fn the_defaults_are_dockers() {
        let rules = resolve(&[deny_all()]).unwrap();
        assert_eq!(rules, resolve(&[]).unwrap());
        let lines = rules.v1();
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert!(lines.contains(&("devices.allow", "c *:* m".to_owned())));
        assert!(lines.contains(&("devices.allow", "c 136:* rwm".to_owned())));
        assert_eq!(lines.len(), 12);
        let program = rules.v2().unwrap();
        assert!(run(&program, CHAR, 6, 1, 3));
        assert!(run(&program, CHAR, 6, 136, 77));
        assert!(run(&program, BLOCK, 1, 8, 0), "making a node");
        assert!(!run(&program, BLOCK, 2, 8, 0), "reading the disk");
        assert!(!run(&program, BLOCK, 3, 8, 0), "making and reading it");
        assert!(!run(&program, CHAR, 4, 1, 1), "writing to memory");
        assert!(!run(&program, CHAR, 2, 10, 200), "tun");
    }

    #[test]
    fn everything_is_no_filter_at_all() {
        let rules = resolve(&[deny_all(), rule(true, "a", None, None, "rwm")]).unwrap();
        assert!(rules.allow_everything() && rules.v1().is_empty() && rules.v2().is_none());
    }

    #[test]
    fn the_last_rule_wins_and_repetitions_are_dropped() {
        let rules = resolve(&[
            rule(true, "a", None, None, "rwm"),
            deny_all(),
            rule(true, "c", Some(10), Some(229), "rw"),
            rule(true, "c", Some(1), Some(3), "rwm"),
            rule(false, "c", Some(10), Some(229), "w"),
        ])
        .unwrap();
        let program = rules.v2().unwrap();
        assert!(run(&program, CHAR, 2, 10, 229));
        assert!(!run(&program, CHAR, 6, 10, 229));
        assert_eq!(rules.v1().iter().filter(|(_, line)| line.starts_with("c 1:3")).count(), 1);
    }

    #[test]
    fn a_partial_rule_for_all_kinds_is_not_everything() {
        let rules = resolve(&[rule(true, "a", None, None, "r")]).unwrap();
        let lines = rules.v1();
        assert!(!lines.contains(&("devices.allow", "a".to_owned())));
        assert!(lines.contains(&("devices.allow", "b *:* r".to_owned())));
        let program = rules.v2().unwrap();
        assert!(run(&program, BLOCK, 2, 8, 0) && !run(&program, BLOCK, 4, 8, 0));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(resolve(&[rule(true, "x", None, None, "r")]).is_err());
        assert!(resolve(&[rule(true, "c", None, None, "rx")]).is_err());
        assert!(resolve(&[rule(true, "c", Some(1 << 40), None, "r")]).is_err());
        assert!(resolve(&vec![deny_all(); MAX_RULES + 1]).is_err());
    }

    prop_compose! {
        fn any_rule()(allow in any::<bool>(), kind in 0..3_usize, major in -1..3_i64, minor in -1..3_i64,
                      access in 1..8_u8) -> DeviceRule {
            let letters = [(1, 'm'), (2, 'r'), (4, 'w')];
            let access: String =
                letters.into_iter().filter_map(|(b, l)| (access & b != 0).then_some(l)).collect();
            rule(allow, ["a", "b", "c"][kind], Some(major), Some(minor), &access)
        }
    }

    proptest! {
        #[test]
        fn the_program_asks_the_rules_backwards(
            specified in proptest::collection::vec(any_rule(), 0..12),
            kind in 1..3_u32, access in 1..8_u8, major in 0..3_u32, minor in 0..3_u32,
        ) {
            let mut all: Vec<_> = specified.iter().map(|r| parse(r).unwrap()).collect();
            let everything = |r: &Rule| {
                r.kind.is_none() && r.major.is_none() && r.minor.is_none() && r.access == ANY
            };
            let after = all.iter().rposition(everything).map_or(0, |at| at + 1);
            all.splice(after..after, DEFAULT);
            let kind_of = if kind == 1 { Kind::Block } else { Kind::Char };
            let matches = |r: &Rule| {
                r.kind.is_none_or(|k| k == kind_of)
                    && r.major.is_none_or(|m| m == major)
                    && r.minor.is_none_or(|m| m == minor)
                    && if r.allow { access & !r.access == 0 } else { access & r.access != 0 }
            };
            let expected = all.iter().rev().find(|r| matches(r)).is_some_and(|r| r.allow);
            let rules = resolve(&specified).unwrap();
            let actual = rules.v2().is_none_or(|p| run(&p, kind, u32::from(access), major, minor));
            prop_assert_eq!(actual, expected);
        }
    }
}
