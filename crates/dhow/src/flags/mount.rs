//! `--mount type=bind,source=…,target=…`: the long form of `-v` and `--tmpfs`.

use std::str::FromStr;

use state::options::{BindMount, TmpfsMount};

use super::volume::{NotAMount, destination, source};

/// A mount in the long form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// `type=bind`.
    Bind(BindMount),
    /// `type=tmpfs`.
    Tmpfs(TmpfsMount),
}

/// Not a mount.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotALongMount {
    /// Not even the form.
    #[error("want type=bind,source=PATH,target=PATH[,readonly] or type=tmpfs,target=PATH[,tmpfs-size=SIZE]")]
    Form,
    /// A key that is not known, or not for this type.
    #[error("`{0}` is not a key of a mount of this type")]
    Key(String),
    /// A path or option.
    #[error(transparent)]
    Part(#[from] NotAMount),
}

impl FromStr for Mount {
    type Err = NotALongMount;
    fn from_str(text: &str) -> Result<Self, NotALongMount> {
        // Docker's default type is a volume, which there is none of yet.
        let (mut kind, mut from, mut to) = ("", None, None);
        let (mut read_only, mut propagation, mut options) = (false, None, Vec::new());
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, "true"));
            match key {
                "type" => kind = value,
                "source" | "src" => from = Some(value),
                "target" | "dst" | "destination" => to = Some(value),
                "readonly" | "ro" if matches!(value, "true" | "1") => read_only = true,
                "readonly" | "ro" if matches!(value, "false" | "0") => {}
                "bind-propagation"
                    if matches!(
                        value,
                        "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared"
                    ) =>
                {
                    propagation = Some(value.to_owned());
                }
                "tmpfs-size" if value.parse::<super::size::Bytes>().is_ok() => {
                    options.push(format!("size={value}"));
                }
                "tmpfs-mode" if u32::from_str_radix(value, 8).is_ok_and(|m| m <= 0o7777) => {
                    options.push(format!("mode={value}"));
                }
                _ => return Err(NotALongMount::Key(field.to_owned())),
            }
        }
        let destination = destination(to.ok_or(NotALongMount::Form)?)?;
        match (kind, from) {
            ("bind", Some(from)) if options.is_empty() => {
                Ok(Self::Bind(BindMount { source: source(from)?, destination, read_only, propagation }))
            }
            ("tmpfs", None) if propagation.is_none() => {
                if read_only {
                    options.push("ro".to_owned());
                }
                Ok(Self::Tmpfs(TmpfsMount { destination, options }))
            }
            _ => Err(NotALongMount::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_types() {
        let Ok(Mount::Bind(bind)) = "type=bind,src=/a,dst=/b,readonly".parse() else { panic!() };
        assert!(bind.read_only && bind.source.ends_with("a") && bind.destination.ends_with("b"));
        let Ok(Mount::Tmpfs(tmpfs)) = "type=tmpfs,target=/t,tmpfs-size=64m".parse() else { panic!() };
        assert_eq!(tmpfs.options, ["size=64m"]);
        for bad in [
            "",
            "type=bind,src=/a",
            "src=/a,dst=/b",
            "type=volume,src=a,dst=/b",
            "type=bind,src=/a,dst=/b,x=y",
            "type=tmpfs,src=/a,dst=/b",
        ] {
            assert!(bad.parse::<Mount>().is_err(), "{bad}");
        }
    }
}
