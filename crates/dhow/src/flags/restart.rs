//! `--restart POLICY`.

use std::str::FromStr;

use state::options::RestartPolicy;

/// What becomes of a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restart(pub(crate) RestartPolicy);

/// Not a policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAPolicy {
    /// A word that nobody knows.
    #[error("want no, on-failure[:MOST], always or unless-stopped")]
    Unknown,
    /// A number behind a policy that takes none.
    #[error("the most restarts can be said for on-failure only")]
    Most,
    /// What stands behind `on-failure:` is no number.
    #[error("want a number behind on-failure:")]
    Number,
}

impl FromStr for Restart {
    type Err = NotAPolicy;
    fn from_str(text: &str) -> Result<Self, NotAPolicy> {
        let (name, most) = match text.split_once(':') {
            Some((name, most)) => (name, Some(most)),
            None => (text, None),
        };
        let policy = match name {
            "no" | "" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => {
                let most = most.map_or(Ok(0), |most| most.parse().map_err(|_| NotAPolicy::Number))?;
                return Ok(Self(RestartPolicy::OnFailure(most)));
            }
            _ => return Err(NotAPolicy::Unknown),
        };
        // Docker takes `always:0`.
        if most.is_some_and(|most| most != "0") { Err(NotAPolicy::Most) } else { Ok(Self(policy)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RestartPolicy as P;

    #[test]
    fn policies_in_dockers_forms() {
        for (text, policy) in [
            ("no", P::No),
            ("", P::No),
            ("always", P::Always),
            ("always:0", P::Always),
            ("unless-stopped", P::UnlessStopped),
            ("on-failure", P::OnFailure(0)),
            ("on-failure:3", P::OnFailure(3)),
        ] {
            assert_eq!(text.parse(), Ok(Restart(policy)), "{text}");
        }
        for bad in ["maybe", "on-failure:", "on-failure:-1", "on-failure:x", "always:3", "ALWAYS"] {
            assert!(bad.parse::<Restart>().is_err(), "{bad}");
        }
    }
}
