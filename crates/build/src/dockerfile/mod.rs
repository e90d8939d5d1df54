//! The Dockerfile language: text → instructions, of which each knows where it stands.
//!
//! ```text
//! text ──► lines ──────────► words ──────────► instruction ──► Dockerfile
//!          directives,       keyword, flags,   what it says    stages
//!          continuations,    JSON or shell
//!          here-documents    form
//! ```
//!
//! Variables are not replaced here: what they are is known when a stage is planned (`expand`).

mod flags;
mod heredoc;
mod instruction;
mod lines;
pub(crate) mod mount;
#[cfg(test)]
mod tests;
mod words;

use std::ops::Range;

pub(crate) use flags::Flag;
pub(crate) use heredoc::Heredoc;
pub(crate) use lines::Directive;

use crate::error::{Checked, Fault, Place, Text};

/// The longest Dockerfile, in bytes. Longer ones are no Dockerfiles.
const LONGEST: usize = 2 << 20;

/// The most stages: what each says of its image is kept, with what it has from those below.
const MOST_STAGES: usize = 1000;

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    /// `\`, or what the directive `escape` says.
    pub(crate) escape: char,
    /// The directive `check`.
    pub(crate) check: Option<Directive>,
    /// Each `ARG` before the first `FROM`.
    pub(crate) globals: Vec<Node>,
    /// At least one.
    pub(crate) stages: Vec<Stage>,
}

/// A `FROM`, and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) from: Node,
    /// What is in it, without `FROM`.
    pub(crate) base: From,
    pub(crate) nodes: Vec<Node>,
}

/// An instruction where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// As it is written: `run`, `RUN`.
    pub(crate) keyword: String,
    /// The first and the last line, from 1, here-documents included.
    pub(crate) lines: (usize, usize),
    /// All of it but the here-documents, on one line.
    pub(crate) text: Text,
    pub(crate) flags: Vec<Flag>,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The comments right above it.
    pub(crate) comments: Vec<String>,
    /// There is an empty line among those that continue it, the last of which is this.
    pub(crate) gap: Option<usize>,
    pub(crate) instruction: Instruction,
    /// It comes from the base, whose `FROM` stands here.
    pub(crate) trigger_of: Option<Place>,
}

impl Node {
    /// As it is written, on one line.
    pub(crate) fn code(&self) -> &str {
        self.text.text.trim()
    }

    /// Where its keyword stands.
    pub(crate) fn place(&self) -> Place {
        let start = self.text.text.len() - self.text.text.trim_start().len();
        self.place_of(start..start + self.keyword.len())
    }

    /// Where a part of it stands.
    pub(crate) fn place_of(&self, at: Range<usize>) -> Place {
        self.trigger_of.unwrap_or_else(|| self.text.place(at))
    }

    pub(crate) fn fault(&self, at: Range<usize>, message: impl Into<String>) -> Fault {
        let message = message.into();
        let message = match self.trigger_of {
            Some(_) => format!("the base's trigger `{}`: {message}", self.code()),
            None => message,
        };
        Fault::new(self.place_of(at), message)
    }
}

/// A word, and where it stands in its node's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) at: Range<usize>,
}

/// `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: Word,
    pub(crate) value: Word,
    /// It was written `key value`.
    pub(crate) legacy: bool,
}

/// A command: words to execute, or one text for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Words(Vec<String>),
    Shell(Word),
}

/// What a `FROM` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct From {
    pub(crate) image: Word,
    pub(crate) platform: Option<Word>,
    /// The name as it is written; it is looked up without regard to case.
    pub(crate) name: Option<Word>,
    /// `AS`, as it is written.
    pub(crate) r#as: Option<Word>,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Copying {
    pub(crate) add: bool,
    /// Its words came in the JSON form.
    pub(crate) json: bool,
    pub(crate) from: Option<Word>,
    pub(crate) chown: Option<Word>,
    pub(crate) chmod: Option<Word>,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<Word>,
    pub(crate) checksum: Option<Word>,
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) unpack: Option<bool>,
    /// Paths, URLs, and the words that stand for here-documents.
    pub(crate) sources: Vec<Word>,
    pub(crate) target: Word,
}

/// `HEALTHCHECK`; times are nanoseconds, and 0 where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) test: Vec<String>,
    pub(crate) interval: i64,
    pub(crate) timeout: i64,
    pub(crate) start_period: i64,
    pub(crate) start_interval: i64,
    pub(crate) retries: i64,
}

/// The networks of a `RUN` and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) command: Command,
    /// Each `--mount`, which is read when its variables are known.
    pub(crate) mounts: Vec<Word>,
    pub(crate) network: crate::graph::Network,
    pub(crate) insecure: bool,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    From(From),
    Arg(Vec<(Word, Option<Word>)>),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Run(Box<Running>),
    Copy(Box<Copying>),
    Cmd(Command),
    Entrypoint(Command),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    User(Word),
    Workdir(Word),
    StopSignal(Word),
    Maintainer(Word),
    Shell(Vec<String>),
    Healthcheck(Health),
    /// The trigger, as it is written.
    Onbuild(String),
}

impl Dockerfile {
    /// Reads a Dockerfile.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(crate) fn parse(source: &str) -> Checked<Self> {
        if source.len() > LONGEST {
            let message = format!("the Dockerfile is longer than {} MiB", LONGEST >> 20);
            return Err(Fault::new(Place::default(), message));
        }
        let (escape, check, nodes) = nodes(source, None)?;
        let (mut globals, mut stages) = (Vec::new(), Vec::<Stage>::new());
        for node in nodes {
            let count = stages.len();
            match (&node.instruction, stages.last_mut()) {
                (Instruction::From(_), _) if count == MOST_STAGES => {
                    return Err(Fault::new(node.place(), format!("more than {MOST_STAGES} stages")));
                }
                (Instruction::From(base), _) => {
                    let base = base.clone();
                    stages.push(Stage { from: node, base, nodes: Vec::new() });
                }
                (_, Some(stage)) => stage.nodes.push(node),
                (Instruction::Arg(_), None) => globals.push(node),
                (_, None) => {
                    let message = format!("no build stage yet: {} comes before the first FROM", node.keyword);
                    return Err(Fault::new(node.place(), message).help("only ARG may come before FROM"));
                }
            }
        }
        if stages.is_empty() {
            return Err(Fault::new(Place::default(), "no FROM: there is no stage to build")
                .help("begin with FROM and an image, or FROM scratch"));
        }
        Ok(Self { escape, check, globals, stages })
    }
}

/// Reads a trigger of a base whose `FROM` stands in some place and on some lines.
pub(crate) fn trigger(text: &str, from: &Node) -> Checked<Node> {
    let place = from.trigger_of.unwrap_or_else(|| from.place());
    let before = format!("the base's trigger `{}`: ", text.trim());
    let wrong = |message: String| Fault::new(place, message).moved(place, &before);
    let (_, _, nodes) = nodes(text, Some(place)).map_err(|fault| fault.moved(place, &before))?;
    let mut nodes = nodes.into_iter();
    let (Some(mut node), None) = (nodes.next(), nodes.next()) else {
        return Err(wrong("it has to be one instruction".to_owned()));
    };
    instruction::may_be_trigger(&node).map_err(wrong)?;
    node.lines = from.lines;
    Ok(node)
}

/// The instructions of a text, in order, with the escape character and the directive `check`.
fn nodes(source: &str, trigger_of: Option<Place>) -> Checked<(char, Option<Directive>, Vec<Node>)> {
    let mut reader = lines::Reader::new(source)?;
    let (escape, check) = (reader.escape, reader.check.clone());
    let mut nodes = Vec::new();
    while let Some(line) = reader.next_instruction() {
        let mut node = instruction::parse(line, escape)?;
        node.trigger_of = trigger_of;
        if instruction::takes_heredocs(&node) {
            for mut heredoc in heredoc::find(&node.text) {
                if !reader.read_heredoc(&mut heredoc) {
                    let message =
                        format!("the here-document {0} has no end: a line with {0} alone", heredoc.name);
                    return Err(Fault::new(node.text.place(heredoc.at.clone()), message));
                }
                node.heredocs.push(heredoc);
            }
            node.lines.1 = reader.line();
        }
        instruction::finish(&mut node);
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(Fault::new(Place::default(), "the Dockerfile is empty: there is no instruction in it")
            .help("begin with FROM and an image, or FROM scratch"));
    }
    Ok((escape, check, nodes))
}
