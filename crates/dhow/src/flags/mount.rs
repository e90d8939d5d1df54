//! `--mount type=…,source=…,target=…`: the long form of `-v` and `--tmpfs`, with Docker's keys.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use state::options::{BindMount, ImageMount, Origin, Recursion, TmpfsMount, VolumeMount};

use super::id_map::{self, NotAMap};
use super::volume::{NotAMount, destination, name, source};

/// A mount in the long form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// `type=bind`.
    Bind(BindMount),
    /// `type=volume`.
    Volume(VolumeMount),
    /// `type=tmpfs`.
    Tmpfs(TmpfsMount),
    /// `type=image`.
    Image(ImageMount),
}

/// Not a mount.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotALongMount {
    /// Not even the form.
    #[error("want type=bind|volume|tmpfs|image,source=…,target=PATH[,readonly][,…]")]
    Form,
    /// A type that is not known.
    #[error("`{0}` is not a type of mount: want bind, volume, tmpfs or image")]
    Type(String),
    /// A key that is not known, or not for this type.
    #[error("`{0}` is not a key of a mount of this type")]
    Key(String),
    /// A value that makes no sense.
    #[error("invalid value `{value}` of {key}: want {wanted}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What could be.
        wanted: &'static str,
    },
    /// No source, or a source where there can be none.
    #[error("{0}")]
    Source(&'static str),
    /// A path or option.
    #[error(transparent)]
    Part(#[from] NotAMount),
    /// A `map`.
    #[error(transparent)]
    Map(#[from] NotAMap),
}

impl FromStr for Mount {
    type Err = NotALongMount;
    fn from_str(text: &str) -> Result<Self, NotALongMount> {
        let fields = fields(text).ok_or(NotALongMount::Form)?;
        let pairs: Vec<(&str, Option<&str>)> = fields
            .iter()
            .map(|field| match field.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value)),
                None => (field.trim(), None),
            })
            .collect();
        let mut common = Common::default();
        let mut own = Vec::new();
        for (key, value) in pairs {
            match key {
                "type" => value.unwrap_or_default().clone_into(&mut common.kind),
                "source" | "src" => common.source = value.map(str::to_owned),
                "target" | "dst" | "destination" => {
                    common.destination = destination(value.unwrap_or_default())?;
                }
                "readonly" | "ro" => common.read_only = switch(key, value)?,
                // Of Docker Desktop's file sharing: no meaning on Linux.
                "consistency" => {}
                _ => own.push((key, value)),
            }
        }
        if common.destination.as_os_str().is_empty() {
            return Err(NotALongMount::Form);
        }
        match common.kind.as_str() {
            "bind" => bind(common, &own).map(Self::Bind),
            "" | "volume" => volume(common, &own).map(Self::Volume),
            "tmpfs" => tmpfs(common, &own).map(Self::Tmpfs),
            "image" => image(common, &own).map(Self::Image),
            other => Err(NotALongMount::Type(other.to_owned())),
        }
    }
}

/// The keys that all types have.
#[derive(Debug, Default)]
struct Common {
    kind: String,
    source: Option<String>,
    destination: PathBuf,
    read_only: bool,
}

type Own<'a> = [(&'a str, Option<&'a str>)];

fn bind(common: Common, own: &Own<'_>) -> Result<BindMount, NotALongMount> {
    let from = common.source.filter(|s| !s.is_empty());
    let mut mount = BindMount {
        source: source(&from.ok_or(NotALongMount::Source("a bind mount wants a source"))?)?,
        destination: common.destination,
        read_only: common.read_only,
        must_exist: true,
        origin: Origin::Long,
        ..BindMount::default()
    };
    for &(key, value) in own {
        match (key, value.unwrap_or_default()) {
            (
                "bind-propagation",
                kind @ ("private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared"),
            ) => mount.propagation = Some(kind.to_owned()),
            ("bind-propagation", _) => {
                return invalid(key, value, "private, rprivate, slave, rslave, shared or rshared");
            }
            ("bind-nonrecursive", _) => {
                if switch(key, value)? {
                    mount.recursion = Recursion::Disabled;
                }
            }
            ("bind-recursive", "enabled") => mount.recursion = Recursion::Enabled,
            ("bind-recursive", "disabled") => mount.recursion = Recursion::Disabled,
            ("bind-recursive", "writable") => mount.recursion = Recursion::Writable,
            // What a read-only mount is anyway.
            ("bind-recursive", "readonly") if mount.read_only => mount.recursion = Recursion::Enabled,
            ("bind-recursive", _) => {
                return invalid(key, value, "enabled, disabled, writable, or with readonly also readonly");
            }
            ("bind-create-src", _) => mount.must_exist = !switch(key, value)?,
            ("map", text) => mount.map.extend(id_map::parse(text)?),
            _ => return Err(NotALongMount::Key(key.to_owned())),
        }
    }
    Ok(mount)
}

fn volume(common: Common, own: &Own<'_>) -> Result<VolumeMount, NotALongMount> {
    let mut mount = VolumeMount {
        name: name(&common.source.unwrap_or_default())?,
        destination: common.destination,
        read_only: common.read_only,
        origin: Origin::Long,
        ..VolumeMount::default()
    };
    for &(key, value) in own {
        match key {
            "volume-nocopy" => mount.no_copy = switch(key, value)?,
            "volume-driver" => mount.driver = value.map(str::to_owned),
            "volume-opt" => pair(&mut mount.driver_options, key, value)?,
            "volume-label" => pair(&mut mount.labels, key, value)?,
            "volume-subpath" => mount.subpath = Some(subpath(key, value)?),
            _ => return Err(NotALongMount::Key(key.to_owned())),
        }
    }
    Ok(mount)
}

fn tmpfs(common: Common, own: &Own<'_>) -> Result<TmpfsMount, NotALongMount> {
    if common.source.is_some() {
        return Err(NotALongMount::Source("a tmpfs has no source"));
    }
    let mut options = Vec::new();
    if common.read_only {
        options.push("ro".to_owned());
    }
    for &(key, value) in own {
        let text = value.unwrap_or_default();
        match key {
            "tmpfs-size" => match text.parse::<super::size::Bytes>() {
                Ok(super::size::Bytes(bytes)) => options.push(format!("size={bytes}")),
                Err(_) => return invalid(key, value, "a size such as 64m"),
            },
            "tmpfs-mode" => match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => options.push(format!("mode={mode:o}")),
                _ => return invalid(key, value, "an octal mode such as 1777"),
            },
            _ => return Err(NotALongMount::Key(key.to_owned())),
        }
    }
    Ok(TmpfsMount { destination: common.destination, options, origin: Origin::Long })
}

fn image(common: Common, own: &Own<'_>) -> Result<ImageMount, NotALongMount> {
    let image = common.source.filter(|s| !s.is_empty());
    let mut mount = ImageMount {
        image: image.ok_or(NotALongMount::Source("a mount of an image wants the image as its source"))?,
        destination: common.destination,
        ..ImageMount::default()
    };
    for &(key, value) in own {
        match key {
            "image-subpath" => mount.subpath = Some(subpath(key, value)?),
            _ => return Err(NotALongMount::Key(key.to_owned())),
        }
    }
    Ok(mount)
}

/// `readonly`, `readonly=true`.
fn switch(key: &str, value: Option<&str>) -> Result<bool, NotALongMount> {
    match value {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(_) => invalid(key, value, "true or false"),
    }
}

fn pair(map: &mut BTreeMap<String, String>, key: &str, value: Option<&str>) -> Result<(), NotALongMount> {
    let (name, text) = value.map(|text| text.split_once('=').unwrap_or((text, ""))).unwrap_or_default();
    if name.is_empty() {
        return invalid(key, value, "NAME=VALUE");
    }
    map.insert(name.to_owned(), text.to_owned());
    Ok(())
}

/// A path inside of what is mounted.
fn subpath(key: &str, value: Option<&str>) -> Result<PathBuf, NotALongMount> {
    let path = Path::new(value.unwrap_or_default());
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if path.as_os_str().is_empty() || !inside {
        return invalid(key, value, "a relative path without ..");
    }
    Ok(path.components().collect())
}

fn invalid<T>(key: &str, value: Option<&str>, wanted: &'static str) -> Result<T, NotALongMount> {
    let value = value.unwrap_or_default().to_owned();
    Err(NotALongMount::Value { key: key.to_owned(), value, wanted })
}

/// Fields between commas, as CSV has them: one that begins with a quote goes on until the next, and two quotes in it are one.
pub(crate) fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let (before, after) = rest.split_once('"')?;
                field.push_str(before);
                rest = after;
                match rest.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        rest = more;
                    }
                    None => break,
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
            // As in Go's reader: a quote in the middle is a mistake.
            if field.contains('"') {
                return None;
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types() {
        let text =
            "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave,bind-recursive=writable,map=1000:0";
        let Ok(Mount::Bind(bind)) = text.parse() else { panic!() };
        assert!(bind.read_only && bind.must_exist && bind.map.len() == 1);
        assert_eq!((bind.recursion, bind.propagation.as_deref()), (Recursion::Writable, Some("rslave")));
        let Ok(Mount::Tmpfs(tmpfs)) = "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770".parse() else {
            panic!()
        };
        assert_eq!(tmpfs.options, ["size=67108864", "mode=1770"]);
        let text = "src=data,dst=/b,volume-nocopy,volume-label=a=b,volume-subpath=x/./y,volume-driver=local,\
                    volume-opt=type=tmpfs,\"volume-opt=o=size=1m,uid=5\"";
        let Ok(Mount::Volume(volume)) = text.parse() else { panic!() };
        assert!(volume.no_copy && volume.name == "data" && volume.labels["a"] == "b");
        assert_eq!(volume.driver_options["o"], "size=1m,uid=5");
        assert_eq!(volume.subpath, Some("x/y".into()));
        let Ok(Mount::Volume(anonymous)) = "type=volume,dst=/b,consistency=cached,ro=false".parse() else {
            panic!()
        };
        assert!(anonymous.name.is_empty() && !anonymous.read_only);
        let Ok(Mount::Image(image)) = "type=image,source=a/b:c,target=/i,image-subpath=etc".parse() else {
            panic!()
        };
        assert_eq!((image.image.as_str(), image.subpath), ("a/b:c", Some("etc".into())));
        for bad in [
            "",
            "type=bind,src=/a",
            "type=bind,dst=/a",
            "type=bla,src=/a,dst=/b",
            "src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,x=y",
            "type=bind,src=/a,dst=/b,volume-nocopy",
            "type=bind,src=/a,dst=/b,bind-recursive=readonly",
            "type=bind,src=/a,dst=/b,map=x",
            "type=bind,src=a,dst=/b",
            "type=volume,src=a1,dst=/b,volume-subpath=../x",
            "type=volume,src=a1,dst=/b,volume-subpath=/x",
            "type=volume,src=../x,dst=/b",
            "type=tmpfs,src=/a,dst=/b",
            "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=image,dst=/b",
            "type=image,src=x,dst=/b,image-subpath=a/../..",
            "type=bind,\"src=/a,dst=/b",
        ] {
            assert!(bad.parse::<Mount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn quotes_keep_commas() {
        assert_eq!(fields(r#"a,"b,c",,"d""e""#).unwrap(), ["a", "b,c", "", "d\"e"]);
        assert!(fields(r#"a"b"#).is_none() && fields(r#""a"b"#).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(type=(bind|volume|tmpfs|image),)?[a-z=,\"./;:-]{0,40}") {
            let _ = text.parse::<Mount>();
        }
    }
}
