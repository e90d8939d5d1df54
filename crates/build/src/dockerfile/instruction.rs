//! One instruction: what its words say.

use super::flags::{self, Taken};
use super::heredoc::Heredoc;
use super::lines::Line;
use super::{Command, Copying, From, Health, Instruction, Node, Pair, Running, Word, mount, words};
use crate::error::{Checked, Fault, Text};
use crate::graph::Network;
use crate::suggest::nearest;

/// All of them.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction's text, from where its words begin.
#[derive(Clone)]
struct Source<'n> {
    text: &'n Text,
    flags: &'n [flags::Flag],
    /// Where the words begin, behind the flags.
    from: usize,
    keyword: &'static str,
    escape: char,
    keyword_at: std::ops::Range<usize>,
}

/// Reads a line. Here-documents are not known yet.
pub(super) fn parse(line: Line, escape: char) -> Checked<Node> {
    let text = line.text;
    let (instruction, keyword, flags) = parse_text(&text, 0, escape)?;
    Ok(Node {
        keyword,
        lines: line.lines,
        flags,
        heredocs: Vec::new(),
        comments: line.comments,
        gap: line.gap,
        instruction,
        trigger_of: None,
        text,
    })
}

fn parse_text(text: &Text, from: usize, escape: char) -> Checked<(Instruction, String, Vec<flags::Flag>)> {
    let start = skip_blanks(text, from);
    let rest = text.get(start..text.text.len());
    let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (written, at) = (&rest[..length], start..start + length);
    let upper = written.to_ascii_uppercase();
    let Some(keyword) = KEYWORDS.into_iter().find(|keyword| *keyword == upper) else {
        return Err(Fault::new(text.place(at), format!("unknown instruction: {written}"))
            .meant(nearest(written, KEYWORDS))
            .help(format!("the instructions: {}", KEYWORDS.join(" "))));
    };
    // What an ONBUILD triggers has flags of its own.
    let (flags, from) = match keyword {
        "ONBUILD" => (Vec::new(), skip_blanks(text, at.end)),
        _ => flags::extract(text, at.end),
    };
    let source = Source { text, flags: &flags, from, keyword, escape, keyword_at: at };
    let instruction = source.instruction()?;
    Ok((instruction, written.to_owned(), flags))
}

impl Source<'_> {
    fn instruction(&self) -> Checked<Instruction> {
        Ok(match self.keyword {
            "FROM" => Instruction::From(self.from()?),
            "ARG" => Instruction::Arg(self.arguments()?),
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "RUN" => Instruction::Run(Box::new(self.run()?)),
            "COPY" | "ADD" => Instruction::Copy(Box::new(self.copy()?)),
            "CMD" => Instruction::Cmd(self.no_flags()?.command()?),
            "ENTRYPOINT" => {
                let command = self.no_flags()?.command()?;
                if self.rest().is_empty() {
                    return Err(self
                        .fault("ENTRYPOINT requires at least one argument")
                        .help("write ENTRYPOINT [] to have none"));
                }
                Instruction::Entrypoint(command)
            }
            "EXPOSE" => {
                Instruction::Expose(self.no_flags()?.at_least_one(words::blanks(self.text, self.from))?)
            }
            "VOLUME" => Instruction::Volume(self.volumes()?),
            "USER" => Instruction::User(self.no_flags()?.all()?),
            "WORKDIR" => Instruction::Workdir(self.no_flags()?.all()?),
            "STOPSIGNAL" => Instruction::StopSignal(self.no_flags()?.all()?),
            "MAINTAINER" => Instruction::Maintainer(self.no_flags()?.all()?),
            "SHELL" => Instruction::Shell(self.shell()?),
            "HEALTHCHECK" => Instruction::Healthcheck(self.health()?),
            _ => Instruction::Onbuild(self.onbuild()?),
        })
    }

    fn rest(&self) -> &str {
        self.text.get(self.from..self.text.text.len()).trim()
    }

    /// A fault of the instruction as a whole.
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.text.place(self.keyword_at.clone()), message)
    }

    fn fault_at(&self, word: &Word, message: impl Into<String>) -> Fault {
        Fault::new(self.text.place(word.at.clone()), message)
    }

    fn flags(&self, known: &'static [&'static str]) -> Checked<Taken<'_>> {
        Taken::new(self.text, self.flags, self.keyword, known)
    }

    fn no_flags(&self) -> Checked<&Self> {
        self.flags(&[]).map(|_| self)
    }

    fn at_least_one<T>(&self, list: Vec<T>) -> Checked<Vec<T>> {
        if list.is_empty() {
            return Err(self.fault(format!("{} requires at least one argument", self.keyword)));
        }
        Ok(list)
    }

    /// The rest as one word.
    fn all(&self) -> Checked<Word> {
        let rest = self.rest();
        if rest.is_empty() {
            return Err(self.fault(format!("{} requires exactly one argument", self.keyword)));
        }
        Ok(Word { text: rest.to_owned(), at: self.from..self.from + rest.len() })
    }

    fn from(&self) -> Checked<From> {
        let taken = self.flags(&["platform"])?;
        let platform = taken.text("platform")?;
        let mut words = words::blanks(self.text, self.from).into_iter();
        let (image, r#as, name, more) = (words.next(), words.next(), words.next(), words.next());
        let Some(image) = image else {
            return Err(self.fault("FROM requires an image").help("write FROM IMAGE or FROM IMAGE AS NAME"));
        };
        let (r#as, name) = match (r#as, name, more) {
            (None, ..) => return Ok(From { image, platform, ..From::default() }),
            (Some(r#as), Some(name), None) if r#as.text.eq_ignore_ascii_case("as") => (r#as, name),
            (Some(second), ..) => {
                return Err(self
                    .fault_at(&second, "FROM requires either one or three arguments")
                    .help("write FROM IMAGE or FROM IMAGE AS NAME"));
            }
        };
        let good = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
        };
        if !good(&name.text.to_lowercase()) {
            return Err(self
                .fault_at(&name, format!("invalid name for a build stage: `{}`", name.text))
                .help("a name begins with a letter; letters, digits, `-`, `_` and `.` follow"));
        }
        Ok(From { image, platform, name: Some(name), r#as: Some(r#as) })
    }

    fn arguments(&self) -> Checked<Vec<(Word, Option<Word>)>> {
        self.no_flags()?;
        let words = self.at_least_one(words::quoted(self.text, self.from, self.escape))?;
        let mut arguments = Vec::new();
        for word in words {
            let (name, value) = split(&word);
            if name.text.is_empty() {
                return Err(self.fault_at(&word, "the name of an ARG is missing before `=`"));
            }
            arguments.push((name, value));
        }
        Ok(arguments)
    }

    fn pairs(&self) -> Checked<Vec<Pair>> {
        self.no_flags()?;
        let words = self.at_least_one(words::quoted(self.text, self.from, self.escape))?;
        if !words[0].text.contains('=') {
            // The old form: a key, and all that follows.
            let key = words::blanks(self.text, self.from).into_iter().next().unwrap_or_default();
            let rest = self.text.get(key.at.end..self.text.text.len());
            let value = rest.trim();
            if value.is_empty() {
                return Err(self
                    .fault_at(&key, format!("{} must have two arguments", self.keyword))
                    .help(format!("write {} key=value", self.keyword)));
            }
            let start = skip_blanks(self.text, key.at.end);
            let value = Word { text: value.to_owned(), at: start..start + value.len() };
            return Ok(vec![Pair { key, value, legacy: true }]);
        }
        let mut pairs = Vec::new();
        for word in words {
            let (key, Some(value)) = split(&word) else {
                return Err(self
                    .fault_at(&word, format!("there is no `=` in `{}`: it must be key=value", word.text))
                    .help("a value with blanks in it has to be quoted"));
            };
            if key.text.is_empty() {
                return Err(self.fault_at(&word, format!("{} names can not be blank", self.keyword)));
            }
            pairs.push(Pair { key, value, legacy: false });
        }
        Ok(pairs)
    }

    /// `["a", "b"]`, or a text for a shell.
    fn command(&self) -> Checked<Command> {
        if let Some(words) = words::json(self.text, self.from)? {
            return Ok(Command::Words(words.into_iter().map(|word| word.text).collect()));
        }
        let rest = self.rest();
        Ok(Command::Shell(Word { text: rest.to_owned(), at: self.from..self.from + rest.len() }))
    }

    fn run(&self) -> Checked<Running> {
        let flags = self.flags(&["mount", "network", "security", "device"])?;
        if let Some(device) = flags.texts("device")?.first() {
            return Err(self
                .fault_at(device, "RUN --device is not supported")
                .help("devices of the host are not given to builds"));
        }
        let network = match flags.text("network")? {
            None => Network::Default,
            Some(word) => match &*word.text {
                "default" => Network::Default,
                "none" => Network::None,
                "host" => Network::Host,
                other => {
                    return Err(self
                        .fault_at(&word, format!("unknown network `{other}`"))
                        .meant(nearest(other, ["default", "none", "host"]))
                        .help("RUN --network is default, none or host"));
                }
            },
        };
        let insecure = match flags.text("security")? {
            None => false,
            Some(word) => match &*word.text {
                "sandbox" => false,
                "insecure" => true,
                other => {
                    return Err(self
                        .fault_at(&word, format!("unknown security mode `{other}`"))
                        .meant(nearest(other, ["sandbox", "insecure"]))
                        .help("RUN --security is sandbox or insecure"));
                }
            },
        };
        let mounts = flags.texts("mount")?;
        for word in &mounts {
            mount::check_from(word).map_err(|why| self.fault_at(word, why))?;
        }
        let command = self.command()?;
        let empty = match &command {
            Command::Words(words) => words.is_empty(),
            Command::Shell(word) => word.text.is_empty(),
        };
        if empty {
            return Err(self.fault("RUN requires at least one argument"));
        }
        Ok(Running { command, mounts, network, insecure })
    }

    fn copy(&self) -> Checked<Copying> {
        let add = self.keyword == "ADD";
        let flags = self.flags(if add {
            &["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"]
        } else {
            &["from", "chown", "chmod", "link", "parents", "exclude"]
        })?;
        let json = words::json(self.text, self.from)?;
        let is_json = json.is_some();
        let mut words = json.unwrap_or_else(|| words::blanks(self.text, self.from));
        let target = words.pop();
        let Some(target) = target.filter(|_| !words.is_empty()) else {
            return Err(self
                .fault(format!("{} requires at least two arguments: sources, and where to", self.keyword))
                .help(format!("write {} SOURCE… TARGET", self.keyword)));
        };
        if Heredoc::parse(&target.text).is_some() {
            return Err(self.fault_at(&target, "a here-document cannot be where something is copied to"));
        }
        let mut copying = Copying {
            add,
            json: is_json,
            chown: flags.text("chown")?,
            chmod: flags.text("chmod")?,
            link: flags.switch("link")?.unwrap_or(false),
            exclude: flags.texts("exclude")?,
            sources: words,
            target,
            ..Copying::default()
        };
        if add {
            copying.checksum = flags.text("checksum")?;
            copying.keep_git_dir = flags.switch("keep-git-dir")?;
            copying.unpack = flags.switch("unpack")?;
        } else {
            copying.from = flags.text("from")?.filter(|from| !from.text.is_empty());
            copying.parents = flags.switch("parents")?.unwrap_or(false);
        }
        if let Some(from) = copying.from.as_ref().filter(|from| from.text.contains('$')) {
            return Err(self
                .fault_at(from, "variables are not replaced in --from")
                .help("define a stage with FROM and a global ARG, and copy from that stage"));
        }
        Ok(copying)
    }

    fn volumes(&self) -> Checked<Vec<Word>> {
        self.no_flags()?;
        let words = match words::json(self.text, self.from)? {
            Some(words) => words,
            None => words::blanks(self.text, self.from),
        };
        let words = self.at_least_one(words)?;
        match words.iter().find(|word| word.text.trim().is_empty()) {
            Some(word) => Err(self.fault_at(word, "a VOLUME cannot be an empty text")),
            None => {
                Ok(words.into_iter().map(|word| Word { text: word.text.trim().to_owned(), ..word }).collect())
            }
        }
    }

    fn shell(&self) -> Checked<Vec<String>> {
        match self.no_flags()?.command()? {
            Command::Words(words) => self.at_least_one(words),
            Command::Shell(_) => Err(self
                .fault("SHELL requires the arguments to be in JSON form")
                .help("write SHELL [\"/bin/bash\", \"-c\"]")),
        }
    }

    fn health(&self) -> Checked<Health> {
        let rest = self.rest();
        let kind = rest.split_whitespace().next().unwrap_or_default();
        if kind.is_empty() {
            return Err(self
                .fault("HEALTHCHECK requires at least one argument")
                .help("write NONE or CMD COMMAND"));
        }
        let upper = kind.to_ascii_uppercase();
        let inner = Source { from: skip_blanks(self.text, self.from + kind.len()), ..self.clone() };
        match &*upper {
            "NONE" => {
                self.no_flags()?;
                if !inner.rest().is_empty() {
                    return Err(self.fault("HEALTHCHECK NONE takes no arguments"));
                }
                Ok(Health { test: vec!["NONE".to_owned()], ..Health::default() })
            }
            "CMD" => {
                let flags =
                    self.flags(&["interval", "timeout", "start-period", "start-interval", "retries"])?;
                let test = match inner.command()? {
                    Command::Words(words) => {
                        std::iter::once("CMD".to_owned()).chain(self.at_least_one(words)?).collect()
                    }
                    Command::Shell(word) if word.text.is_empty() => {
                        return Err(self.fault("the command is missing after HEALTHCHECK CMD"));
                    }
                    Command::Shell(word) => vec!["CMD-SHELL".to_owned(), word.text],
                };
                let time = |name| match flags.text(name)? {
                    None => Ok(0),
                    Some(word) => self.interval(name, &word),
                };
                let retries = match flags.text("retries")? {
                    None => 0,
                    Some(word) => {
                        word.text.parse::<u32>().ok().filter(|n| i32::try_from(*n).is_ok()).ok_or_else(
                            || {
                                self.fault_at(
                                    &word,
                                    format!("--retries is a number from 0 on, not `{}`", word.text),
                                )
                            },
                        )?
                    }
                };
                Ok(Health {
                    test,
                    interval: time("interval")?,
                    timeout: time("timeout")?,
                    start_period: time("start-period")?,
                    start_interval: time("start-interval")?,
                    retries: retries.into(),
                })
            }
            _ => Err(self
                .fault_at(
                    &Word { text: kind.to_owned(), at: self.from..self.from + kind.len() },
                    format!("unknown kind of HEALTHCHECK: {kind}"),
                )
                .meant(nearest(kind, ["CMD", "NONE"]))
                .help("write HEALTHCHECK NONE or HEALTHCHECK CMD COMMAND")),
        }
    }

    fn interval(&self, name: &str, word: &Word) -> Checked<i64> {
        match crate::go::parse_duration(&word.text) {
            Some(0) => Ok(0),
            Some(time) if time >= 1_000_000 => Ok(time),
            Some(_) => Err(self.fault_at(word, format!("--{name} cannot be less than 1ms"))),
            None => Err(self
                .fault_at(word, format!("invalid duration for --{name}: `{}`", word.text))
                .help("a duration is a number with a unit: 30s, 1m30s, 500ms")),
        }
    }

    fn onbuild(&self) -> Checked<String> {
        let rest = self.rest();
        if rest.is_empty() {
            return Err(self
                .fault("ONBUILD requires at least one argument")
                .help("write ONBUILD and an instruction"));
        }
        let start = self.from;
        let word = rest.split_whitespace().next().unwrap_or_default();
        trigger_keyword(word).map_err(|why| Fault::new(self.text.place(start..start + word.len()), why))?;
        parse_text(self.text, start, self.escape)?;
        Ok(rest.to_owned())
    }
}

/// Where the next word begins.
fn skip_blanks(text: &Text, from: usize) -> usize {
    text.text.len() - text.get(from..text.text.len()).trim_start().len()
}

/// `name=value`, or a name alone.
fn split(word: &Word) -> (Word, Option<Word>) {
    match word.text.split_once('=') {
        None => (word.clone(), None),
        Some((name, value)) => {
            let middle = (word.at.start + name.len()).min(word.at.end);
            let name = Word { text: name.to_owned(), at: word.at.start..middle };
            (name, Some(Word { text: value.to_owned(), at: (middle + 1).min(word.at.end)..word.at.end }))
        }
    }
}

fn trigger_keyword(word: &str) -> Result<(), String> {
    match &*word.to_ascii_uppercase() {
        "ONBUILD" => Err("ONBUILD cannot trigger another ONBUILD".to_owned()),
        keyword @ ("FROM" | "MAINTAINER") => Err(format!("{keyword} isn't allowed as an ONBUILD trigger")),
        _ => Ok(()),
    }
}

/// Whether an instruction may come from a base.
pub(super) fn may_be_trigger(node: &Node) -> Result<(), String> {
    trigger_keyword(&node.keyword)
}

/// Whether an instruction's words may begin here-documents.
pub(super) fn takes_heredocs(node: &Node) -> bool {
    let named = |keyword: &str| ["RUN", "COPY", "ADD"].contains(&&*keyword.to_ascii_uppercase());
    match &node.instruction {
        Instruction::Run(run) => matches!(run.command, Command::Shell(_)),
        Instruction::Copy(copying) => !copying.json,
        Instruction::Onbuild(trigger) => {
            named(trigger.split_whitespace().next().unwrap_or_default()) && !trigger.trim_end().ends_with(']')
        }
        _ => false,
    }
}

/// Puts the here-documents of a trigger where they belong.
pub(super) fn finish(node: &mut Node) {
    if let Instruction::Onbuild(trigger) = &mut node.instruction {
        for heredoc in &node.heredocs {
            *trigger = format!("{trigger}\n{}{}", heredoc.content, heredoc.name);
        }
    }
}
