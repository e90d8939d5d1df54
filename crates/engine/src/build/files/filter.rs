//! Which files of a tree are copied: all but what a `.dockerignore` or `--exclude` leaves out; of `--parents`, what its pattern
//! says.

use ::build::ignore::{Patterns, Verdict};

use super::Error;
use super::glob;

/// Which files below a directory are copied.
#[derive(Debug, Default)]
pub(super) struct Filter<'a> {
    pub(super) ignore: Option<&'a Patterns>,
    pub(super) exclude: Option<Patterns>,
    pub(super) include: Option<Include>,
}

/// The pattern of `--parents`: what matches it, with all below.
#[derive(Debug, Clone)]
pub(super) struct Include {
    patterns: Patterns,
    names: Vec<Vec<u8>>,
}

/// What is said of a directory, for what lies in it.
#[derive(Debug, Default, Clone)]
pub(super) struct Above {
    ignore: Option<Verdict>,
    exclude: Option<Verdict>,
    include: Option<Verdict>,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    Take,
    /// A directory that is there only if something below it is.
    Below,
    Skip,
}

impl Filter<'_> {
    /// What is said of the directory whose path is `path` in the context, and whose content is looked at.
    pub(super) fn top(&self, path: &[u8]) -> Above {
        let Some(ignore) = self.ignore.filter(|_| !path.is_empty()) else { return Above::default() };
        let mut verdict = None;
        let ends = (0..path.len()).filter(|&i| path[i] == b'/').chain([path.len()]);
        for end in ends {
            verdict = Some(ignore.judge(&String::from_utf8_lossy(&path[..end]), verdict.as_ref()));
        }
        Above { ignore: verdict, ..Above::default() }
    }

    /// What is done with the file of this path, which begins in the context's root, and from `cut` on in the directory that is
    /// copied.
    pub(super) fn judge(
        &self,
        path: &[u8],
        cut: usize,
        is_directory: bool,
        above: &Above,
    ) -> (Ruling, Above) {
        let mut said = Above::default();
        if self.ignore.is_none() && self.exclude.is_none() && self.include.is_none() {
            return (Ruling::Take, said);
        }
        let mut ruling = Ruling::Take;
        let whole = String::from_utf8_lossy(path);
        let relative = String::from_utf8_lossy(&path[cut..]);
        let leave_out = |patterns: &Patterns, path: &str, verdict: &Verdict, ruling: Ruling| match verdict
            .is_excluded()
        {
            false => ruling,
            true if is_directory && patterns.may_include_below(path) && ruling != Ruling::Skip => {
                Ruling::Below
            }
            true => Ruling::Skip,
        };
        if let Some(patterns) = self.ignore {
            let verdict = patterns.judge(&whole, above.ignore.as_ref());
            ruling = leave_out(patterns, &whole, &verdict, ruling);
            said.ignore = Some(verdict);
        }
        if let Some(patterns) = &self.exclude {
            let verdict = patterns.judge(&relative, above.exclude.as_ref());
            ruling = leave_out(patterns, &relative, &verdict, ruling);
            said.exclude = Some(verdict);
        }
        if let Some(include) = &self.include {
            let verdict = include.patterns.judge(&relative, above.include.as_ref());
            if !verdict.is_excluded() && ruling != Ruling::Skip {
                let below = is_directory && include.may_match_below(&path[cut..]);
                ruling = if below { Ruling::Below } else { Ruling::Skip };
            }
            said.include = Some(verdict);
        }
        (ruling, said)
    }
}

impl Include {
    pub(super) fn new(pattern: &[u8]) -> Result<Self, Error> {
        let names: Vec<Vec<u8>> = pattern.split(|&b| b == b'/').map(<[u8]>::to_vec).collect();
        let text = String::from_utf8_lossy(pattern);
        // Nothing is an exception here.
        let text = if text.starts_with('!') { format!("\\{text}") } else { text.into_owned() };
        let patterns = Patterns::new([text.as_str()]).map_err(Error::Parents)?;
        Ok(Self { patterns, names })
    }

    fn may_match_below(&self, path: &[u8]) -> bool {
        let mut names = self.names.iter();
        for name in path.split(|&b| b == b'/') {
            match names.next() {
                Some(pattern) if pattern == b"**" => return true,
                Some(pattern) if glob::matches(pattern, name) => {}
                _ => return false,
            }
        }
        names.next().is_some()
    }
}

/// The patterns of `--exclude`, if there are any.
pub(super) fn exclude(patterns: &[String]) -> Result<Option<Patterns>, Error> {
    if patterns.is_empty() {
        return Ok(None);
    }
    Patterns::new(patterns.iter().map(String::as_str)).map(Some).map_err(Error::Exclude)
}
