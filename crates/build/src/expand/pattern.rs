//! The patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/with}`: `*`, `?` and plain characters.

/// How many comparisons a pattern may take: a tenth of a second's.
const WORK: usize = 100_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    One(char),
    Any,
    Many,
}

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

impl Pattern {
    pub(super) fn parse(text: &str, escape: char) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Many,
                '?' => Part::Any,
                c if c == '\\' || c == escape => match chars.next() {
                    Some(next @ ('}' | '/' | '*' | '?' | '\\')) => Part::One(next),
                    Some(next) if next == escape => Part::One(next),
                    Some(next) => return Err(format!("invalid escape `{c}{next}` in the pattern `{text}`")),
                    None => return Err(format!("nothing after `{c}` in the pattern `{text}`")),
                },
                c => Part::One(c),
            });
        }
        Ok(Self(parts))
    }

    /// How many characters of the beginning it matches, at least or at most.
    fn matched(
        parts: &[Part],
        value: &[char],
        longest: bool,
        work: &mut usize,
    ) -> Result<Option<usize>, &'static str> {
        let mut places = vec![false; parts.len() + 1];
        enter(parts, &mut places, 0);
        let mut best = None;
        for length in 0..=value.len() {
            *work = work
                .checked_sub(places.len())
                .ok_or("the pattern and the value are too long to be compared")?;
            if places[parts.len()] {
                best = Some(length);
                if !longest {
                    return Ok(best);
                }
            }
            let Some(&c) = value.get(length).filter(|_| places.contains(&true)) else { break };
            let mut next = vec![false; parts.len() + 1];
            for (place, part) in parts.iter().enumerate().filter(|&(place, _)| places[place]) {
                match part {
                    Part::One(one) if *one != c => {}
                    Part::One(_) | Part::Any => enter(parts, &mut next, place + 1),
                    Part::Many => enter(parts, &mut next, place),
                }
            }
            places = next;
        }
        Ok(best)
    }

    pub(super) fn strip_front(&self, value: &str, longest: bool) -> Result<String, &'static str> {
        let value: Vec<char> = value.chars().collect();
        let length = Self::matched(&self.0, &value, longest, &mut { WORK })?.unwrap_or(0);
        Ok(value[length..].iter().collect())
    }

    pub(super) fn strip_back(&self, value: &str, longest: bool) -> Result<String, &'static str> {
        let parts: Vec<Part> = self.0.iter().rev().copied().collect();
        let value: Vec<char> = value.chars().rev().collect();
        let length = Self::matched(&parts, &value, longest, &mut { WORK })?.unwrap_or(0);
        Ok(value[length..].iter().rev().collect())
    }

    /// Replaces the first match, or all. An empty pattern matches between all characters. What becomes longer than so many bytes
    /// is not finished.
    pub(super) fn replace(
        &self,
        value: &str,
        with: &str,
        all: bool,
        longest: usize,
    ) -> Result<String, &'static str> {
        if self.0.is_empty() {
            let mut out = with.to_owned();
            for c in value.chars().take_while(|_| all) {
                out.push(c);
                out.push_str(with);
                if out.len() > longest {
                    break;
                }
            }
            return Ok(if all { out } else { out + value });
        }
        let value: Vec<char> = value.chars().collect();
        let (mut out, mut at, mut done, mut work) = (String::new(), 0, false, WORK);
        loop {
            let found = if done { None } else { Self::matched(&self.0, &value[at..], true, &mut work)? };
            if let Some(length) = found {
                out.push_str(with);
                at += length;
                done = !all || length == 0 || at == value.len() || out.len() > longest;
            } else {
                let Some(&c) = value.get(at) else { return Ok(out) };
                out.push(c);
                at += 1;
            }
        }
    }
}

fn enter(parts: &[Part], places: &mut [bool], mut place: usize) {
    while !places[place] {
        places[place] = true;
        if parts.get(place) != Some(&Part::Many) {
            return;
        }
        place += 1;
    }
}
