//! `--add-host NAME:ADDRESS`.

use std::str::FromStr;

use state::options::HostEntry;

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddHost(pub(crate) HostEntry);

/// Not a host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAHost {
    /// Not even the form.
    #[error("want NAME:ADDRESS, such as db:192.0.2.7 or host.internal:host-gateway")]
    Form,
    /// An address that is none.
    #[error("`{0}` is not an IP address")]
    Address(String),
}

impl FromStr for AddHost {
    type Err = NotAHost;
    fn from_str(text: &str) -> Result<Self, NotAHost> {
        // `=` since Docker 25, so that an IPv6 address reads better; whichever comes first.
        let (name, address) = text.split_once(['=', ':']).ok_or(NotAHost::Form)?;
        if name.is_empty() || address.is_empty() {
            return Err(NotAHost::Form);
        }
        if address == "host-gateway" {
            return Ok(Self(HostEntry { name: name.to_owned(), address: None }));
        }
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let parsed = bare.parse().map_err(|_| NotAHost::Address(address.chars().take(60).collect()))?;
        Ok(Self(HostEntry { name: name.to_owned(), address: Some(parsed) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<(String, Option<String>), NotAHost> {
        text.parse().map(|AddHost(h)| (h.name, h.address.map(|a| a.to_string())))
    }

    #[test]
    fn both_separators_and_both_families() {
        let of = |name: &str, address: &str| Ok((name.to_owned(), Some(address.to_owned())));
        assert_eq!(host("db:192.0.2.7"), of("db", "192.0.2.7"));
        assert_eq!(host("db=192.0.2.7"), of("db", "192.0.2.7"));
        assert_eq!(host("six:2001:db8::1"), of("six", "2001:db8::1"));
        assert_eq!(host("six=[2001:db8::1]"), of("six", "2001:db8::1"));
        assert_eq!(host("h:host-gateway"), Ok(("h".to_owned(), None)));
        for bad in ["", "db", "db:", ":1.2.3.4"] {
            assert_eq!(host(bad), Err(NotAHost::Form), "{bad}");
        }
        for bad in ["db:x", "db:1.2.3", "db:1.2.3.4 5", "db:1.2.3.4\n6.6.6.6 bank"] {
            assert!(matches!(host(bad), Err(NotAHost::Address(_))), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = text.parse::<AddHost>();
        }
    }
}
