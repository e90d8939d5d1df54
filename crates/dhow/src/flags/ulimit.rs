//! `--ulimit NAME=SOFT[:HARD]`.

use std::str::FromStr;

use state::options::Ulimit;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Ulimit);

/// Not a limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotALimit {
    /// Not even the form.
    #[error("want NAME=SOFT[:HARD], such as nofile=1024:4096; -1 is unlimited")]
    Form,
    /// A name that nobody knows.
    #[error(
        "`{0}` is no limit: want one of core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending and stack"
    )]
    Name(String),
    /// More than may be asked for.
    #[error("the soft limit is above the hard one")]
    Soft,
}

/// Docker's names.
const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl FromStr for Limit {
    type Err = NotALimit;
    fn from_str(text: &str) -> Result<Self, NotALimit> {
        let (name, values) = text.split_once('=').ok_or(NotALimit::Form)?;
        if !NAMES.contains(&name) {
            return Err(NotALimit::Name(name.chars().take(40).collect()));
        }
        let value = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= -1).ok_or(NotALimit::Form);
        let (soft, hard) = match values.split_once(':') {
            Some((soft, hard)) => (value(soft)?, value(hard)?),
            None => (value(values)?, value(values)?),
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(NotALimit::Soft);
        }
        Ok(Self(Ulimit { name: name.to_owned(), soft, hard }))
    }
}

/// Of two of a name the later counts.
pub(crate) fn resolve(limits: Vec<Limit>) -> Vec<Ulimit> {
    let mut all: Vec<Ulimit> = Vec::new();
    for Limit(limit) in limits {
        all.retain(|earlier| earlier.name != limit.name);
        all.push(limit);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<(String, i64, i64), NotALimit> {
        text.parse().map(|Limit(Ulimit { name, soft, hard })| (name, soft, hard))
    }

    #[test]
    fn limits_in_dockers_form() {
        assert_eq!(limit("nofile=1024:4096"), Ok(("nofile".to_owned(), 1024, 4096)));
        assert_eq!(limit("core=0"), Ok(("core".to_owned(), 0, 0)));
        assert_eq!(limit("memlock=-1:-1"), Ok(("memlock".to_owned(), -1, -1)));
        assert_eq!(limit("nproc=5:-1"), Ok(("nproc".to_owned(), 5, -1)));
        for bad in
            ["", "nofile", "nofile=", "nofile=x", "nofile=1:", "nofile=1:2:3", "nofile=-2", "nofile=1.5"]
        {
            assert_eq!(limit(bad), Err(NotALimit::Form), "{bad}");
        }
        assert_eq!(limit("fun=1"), Err(NotALimit::Name("fun".to_owned())));
        for bad in ["nofile=2:1", "nofile=-1:5"] {
            assert_eq!(limit(bad), Err(NotALimit::Soft), "{bad}");
        }
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let limits = ["nofile=1", "core=0", "nofile=2"].map(|text| text.parse().unwrap());
        let all: Vec<_> = resolve(limits.to_vec()).into_iter().map(|l| (l.name, l.soft)).collect();
        assert_eq!(all, [("core".to_owned(), 0), ("nofile".to_owned(), 2)]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9=:.-]{0,30}") {
            let _ = text.parse::<Limit>();
        }
    }
}
