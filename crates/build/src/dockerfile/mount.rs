//! `RUN --mount=type=…,key=value,…`.

use super::Word;
use crate::graph::Sharing;
use crate::suggest::nearest;

/// The kinds of mounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const KINDS: [(&str, Kind); 5] = [
    ("bind", Kind::Bind),
    ("cache", Kind::Cache),
    ("tmpfs", Kind::Tmpfs),
    ("secret", Kind::Secret),
    ("ssh", Kind::Ssh),
];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

/// A mount as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: Kind,
    pub(crate) from: Option<String>,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) required: bool,
    /// Bytes.
    pub(crate) size: Option<u64>,
    pub(crate) id: Option<String>,
    pub(crate) sharing: Option<Sharing>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) env: Option<String>,
}

/// What is wrong with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    pub(crate) help: Option<String>,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self { message, suggestion: None, help: None }
    }
}

impl Wrong {
    fn one_of(message: String, word: &str, known: &[&'static str]) -> Self {
        let suggestion = nearest(word, known.iter().copied()).map(str::to_owned);
        Self { message, suggestion, help: Some(format!("there are: {}", known.join(" "))) }
    }
}

/// The stage, context or image that a mount is of, before its variables are known; variables in it are refused.
pub(crate) fn from(word: &Word) -> Option<String> {
    let fields = fields(&word.text).ok()?;
    let pair = |field: &String| {
        let (key, value) = field.split_once('=')?;
        key.eq_ignore_ascii_case("from").then(|| value.to_owned())
    };
    // A mount of memory is of nothing.
    if fields.iter().any(|field| field.eq_ignore_ascii_case("type=tmpfs")) {
        return None;
    }
    fields.iter().rev().find_map(pair).filter(|from| !from.is_empty())
}

/// Checks what can be checked before variables are known.
pub(super) fn check_from(word: &Word) -> Result<(), String> {
    fields(&word.text)?;
    match from(word) {
        Some(from) if from.contains('$') => {
            Err("variables are not replaced in `from`: define a stage with FROM and a global ARG instead"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// Fields between commas; one that has a comma in it is quoted.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err(format!("a quote is not closed in the mount `{text}`")),
                }
            }
            if chars.peek().is_some_and(|&c| c != ',') {
                return Err(format!("a quoted field of the mount `{text}` goes on behind its quote"));
            }
        } else {
            while let Some(c) = chars.next_if(|&c| c != ',') {
                field.push(c);
            }
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}

impl Mount {
    /// Reads one; `expand` replaces the variables of each value.
    pub(crate) fn parse(
        text: &str,
        expand: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, Wrong> {
        let mut mount = Self::default();
        let mut access = None;
        for field in fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(expand(value)?)),
                None => (field.to_ascii_lowercase(), None),
            };
            mount.field(&field, &key, value, &mut access)?;
        }
        // Only what is the step's own may be written to, unless it is asked for.
        mount.read_only = access.unwrap_or(!matches!(mount.kind, Kind::Cache | Kind::Tmpfs));
        mount.check()?;
        Ok(mount)
    }

    fn field(
        &mut self,
        field: &str,
        key: &str,
        value: Option<String>,
        access: &mut Option<bool>,
    ) -> Result<(), Wrong> {
        let switch = |value: &Option<String>| match value.as_deref() {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(Wrong::from(format!("`{key}` is true or false, not `{other}`"))),
        };
        match key {
            "readonly" | "ro" => return switch(&value).map(|on| *access = Some(on)),
            "readwrite" | "rw" => return switch(&value).map(|on| *access = Some(!on)),
            "required" if self.has_files() && self.kind != Kind::Cache => {
                return switch(&value).map(|on| self.required = on);
            }
            _ if !KEYS.contains(&key) => {
                return Err(Wrong::one_of(format!("unknown key `{key}` of a mount"), key, &KEYS));
            }
            _ => {}
        }
        let Some(value) = value else {
            return Err(format!("`{field}` has to be written `{key}=value`").into());
        };
        let other_kind = || {
            let name = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
            Wrong::from(format!("unexpected key `{key}` for a mount of type `{name}`"))
        };
        let number = |radix| {
            u32::from_str_radix(&value, radix)
                .ok()
                .filter(|_| !value.starts_with('+'))
                .ok_or_else(|| Wrong::from(format!("`{key}` is a number{}, not `{value}`", octal(radix))))
        };
        match key {
            "type" => {
                let lower = value.to_ascii_lowercase();
                let known = KINDS.iter().find(|(name, _)| *name == lower).ok_or_else(|| {
                    let message = format!("unknown type `{value}` of a mount");
                    Wrong::one_of(message, &value, &KINDS.map(|(name, _)| name))
                })?;
                self.kind = known.1;
            }
            "from" => self.from = Some(value).filter(|from| !from.is_empty()),
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "size" if self.kind == Kind::Tmpfs => {
                let size = crate::go::parse_size(&value);
                self.size = Some(size.ok_or_else(|| format!("`size` is a size as 64m, not `{value}`"))?);
            }
            "id" => self.id = Some(value).filter(|id| !id.is_empty()),
            "env" if self.kind == Kind::Secret => self.env = Some(value),
            "sharing" => {
                self.sharing = Some(match &*value.to_ascii_lowercase() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => {
                        let message = format!("unknown sharing `{value}` of a mount");
                        return Err(Wrong::one_of(message, other, &["shared", "private", "locked"]));
                    }
                });
            }
            "mode" => self.mode = Some(number(8)?),
            "uid" => self.uid = Some(number(10)?),
            "gid" => self.gid = Some(number(10)?),
            _ => return Err(other_kind()),
        }
        Ok(())
    }

    fn has_files(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Ssh | Kind::Cache)
    }

    fn check(&self) -> Result<(), Wrong> {
        let error = |message: &str| Err(Wrong::from(message.to_owned()));
        if !self.has_files() && (self.mode.is_some() || self.uid.is_some() || self.gid.is_some()) {
            return error("`mode`, `uid` and `gid` are for mounts of type cache, secret and ssh");
        }
        if self.sharing.is_some() && self.kind != Kind::Cache {
            return error("`sharing` is for mounts of type cache");
        }
        if self.mode.is_some_and(|mode| mode > 0o7777) {
            return error("`mode` is at most 7777");
        }
        match self.kind {
            Kind::Secret if self.from.is_some() => error("a secret has no `from`"),
            Kind::Secret if self.source.is_empty() && self.target.is_empty() && self.id.is_none() => {
                error("a secret needs an `id`, or a `target` that is named as it")
            }
            Kind::Secret if !self.source.is_empty() && self.id.is_some() => {
                error("a secret has either an `id` or a `source`, which mean the same")
            }
            Kind::Ssh if !self.source.is_empty() => error("a mount of type ssh has no `source`"),
            _ => Ok(()),
        }
    }
}

fn octal(radix: u32) -> &'static str {
    if radix == 8 { " in octal" } else { "" }
}
