//! One pattern, and what it matches.

/// A pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// It began with `!`.
    pub(super) exception: bool,
    text: String,
    form: Form,
}

/// How a pattern is matched: most need no steps.
#[derive(Debug, Clone)]
enum Form {
    /// The path is this.
    Exact,
    /// It begins with this: `directory/**`.
    Prefix(String),
    /// It ends with this, or is this but for its first `/`: `**/name`, `**name`.
    Suffix(String),
    /// The steps lead from its beginning to its end.
    Steps(Steps),
}

#[derive(Debug, Clone)]
struct Steps {
    list: Vec<Step>,
    /// Every match begins with this, which the list has too.
    first: String,
    /// Every match ends with this.
    last: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// This character.
    One(char),
    /// A character other than `/`.
    Any,
    /// A character of these ranges, or of none of them.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Characters other than `/`.
    Name,
    /// Characters.
    Rest,
    /// Nothing, or characters up to and with a `/`. Two places: before its first character, and ([`Inside`](Self::Inside)) after it.
    Directories,
    /// See [`Directories`](Self::Directories), after which it always stands.
    Inside,
}

impl Pattern {
    /// Reads a cleaned pattern without its `!`.
    pub(super) fn compile(text: &str, exception: bool) -> Result<Self, &'static str> {
        let form = form(text)?;
        Ok(Self { exception, text: text.to_owned(), form })
    }

    /// Whether it matches all that lies in the context.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(&*self.text, "*" | "**" | "**/*")
    }

    /// Whether it matches just this path.
    pub(super) fn matches(&self, path: &str) -> bool {
        match &self.form {
            Form::Exact => path == self.text,
            Form::Prefix(prefix) => path.starts_with(&**prefix),
            Form::Suffix(suffix) => {
                path.ends_with(&**suffix) || suffix.strip_prefix('/').is_some_and(|name| name == path)
            }
            Form::Steps(steps) => steps.match_whole(path),
        }
    }

    /// Whether it may match a path below a directory. A doubt is a yes.
    pub(super) fn may_match_below(&self, directory: &str) -> bool {
        let mut parts = self.text.split('/');
        for name in directory.split('/').filter(|name| !name.is_empty()) {
            match parts.next() {
                // A class may match a `/`, and an escape may hide one.
                Some(part) if part.contains("**") || part.contains(['[', '\\']) => return true,
                Some(part) if matches_name(part, name) => {}
                _ => return false,
            }
        }
        parts.next().is_some()
    }
}

/// Whether a part without classes and escapes matches a name.
fn matches_name(part: &str, name: &str) -> bool {
    Pattern::compile(part, false).is_ok_and(|pattern| pattern.matches(name))
}

fn form(text: &str) -> Result<Form, &'static str> {
    let (mut steps, mut literal) = (Vec::new(), true);
    let mut chars = text.chars().peekable();
    let mut prefix = None;
    while let Some(c) = chars.next() {
        let so_far = literal;
        literal &= !matches!(c, '*' | '?' | '[' | '\\');
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() {
                    steps.extend([Step::Directories, Step::Inside]);
                } else {
                    prefix = text.strip_suffix("**").filter(|_| so_far);
                    steps.push(Step::Rest);
                }
            }
            '*' => steps.push(Step::Name),
            '?' => steps.push(Step::Any),
            '[' => steps.push(class(&mut chars)?),
            '\\' => steps.push(Step::One(chars.next().ok_or("there is nothing after the `\\` at its end")?)),
            c => steps.push(Step::One(c)),
        }
    }
    if literal {
        return Ok(Form::Exact);
    }
    if let Some(prefix) = prefix {
        return Ok(Form::Prefix(prefix.to_owned()));
    }
    // Behind `**` alone, plain text needs no `/` before it: `**name` matches `surname`.
    if let Some(suffix) =
        text.strip_prefix("**").filter(|suffix| !suffix.contains(['*', '?', '[', ']', '\\']))
    {
        return Ok(Form::Suffix(suffix.to_owned()));
    }
    let one = |step: &Step| if let Step::One(c) = step { Some(*c) } else { None };
    let first = steps.iter().map_while(one).collect();
    let last: Vec<char> = steps.iter().rev().map_while(one).collect();
    Ok(Form::Steps(Steps { first, last: last.into_iter().rev().collect(), list: steps }))
}

/// The rest of a class, after its `[`, by the rules of Go's `filepath.Match`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Step, &'static str> {
    const OPEN: &str = "a `[` is not closed: write `\\[` for the character";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next() {
        Some('\\') => chars.next().ok_or(OPEN),
        Some('-' | ']') => Err("a `-` or `]` in a `[…]` has to be written `\\-`, `\\]`"),
        Some(c) => Ok(c),
        None => Err(OPEN),
    };
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Step::Class { negated, ranges });
        }
        let low = one(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { one(chars)? } else { low };
        ranges.push((low, high));
    }
}

impl Steps {
    /// Goes all ways at once, so that no pattern takes longer than its length times the path's.
    fn match_whole(&self, path: &str) -> bool {
        if path.len() < self.first.len().max(self.last.len())
            || !path.starts_with(&*self.first)
            || !path.ends_with(&*self.last)
        {
            return false;
        }
        let words = self.list.len() / 64 + 1;
        let (mut few, mut many) = ([0_u64; 4], Vec::new());
        let places = if words <= 2 {
            &mut few[..2 * words]
        } else {
            many.resize(2 * words, 0);
            &mut many[..]
        };
        let (mut now, mut next) = places.split_at_mut(words);
        self.enter(now, 0);
        for c in path.chars() {
            next.fill(0);
            for (word, &bits) in now.iter().enumerate() {
                let mut bits = bits;
                while bits != 0 {
                    let place = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    self.step(next, place, c);
                }
            }
            if next.iter().all(|&word| word == 0) {
                return false;
            }
            (now, next) = (next, now);
        }
        let end = self.list.len();
        now[end / 64] & (1 << (end % 64)) != 0
    }

    /// Goes from a place over a character.
    fn step(&self, next: &mut [u64], place: usize, c: char) {
        // The end leads nowhere.
        let Some(step) = self.list.get(place) else { return };
        match step {
            Step::One(one) if *one == c => self.enter(next, place + 1),
            Step::Any if c != '/' => self.enter(next, place + 1),
            Step::Class { negated, ranges } if ranges.iter().any(|&(l, h)| l <= c && c <= h) != *negated => {
                self.enter(next, place + 1);
            }
            Step::Name if c != '/' => self.enter(next, place),
            Step::Rest => self.enter(next, place),
            Step::Directories => {
                next[(place + 1) / 64] |= 1 << ((place + 1) % 64);
                if c == '/' {
                    self.enter(next, place + 2);
                }
            }
            Step::Inside => {
                next[place / 64] |= 1 << (place % 64);
                if c == '/' {
                    self.enter(next, place + 1);
                }
            }
            _ => {}
        }
    }

    /// Marks a place, and those that are reached from it without a character.
    fn enter(&self, places: &mut [u64], mut place: usize) {
        loop {
            let bit = 1 << (place % 64);
            if places[place / 64] & bit != 0 {
                return;
            }
            places[place / 64] |= bit;
            place += match self.list.get(place) {
                Some(Step::Name | Step::Rest) => 1,
                Some(Step::Directories) => 2,
                _ => return,
            };
        }
    }
}
