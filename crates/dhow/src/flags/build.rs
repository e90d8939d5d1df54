//! What `build` says in fields: `--output`, `--secret`, `--ssh`.

use std::path::PathBuf;
use std::str::FromStr;

use engine::{BuildForm, BuildOutput, BuildSecret};

use super::mount::fields;

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output(pub(crate) BuildOutput);

/// Not an output.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAnOutput {
    /// Not even the form.
    #[error(
        "want a directory, -, or type=image|oci|docker|tar|local|cacheonly[,dest=PATH][,name=NAME][,push=true]"
    )]
    Form,
    /// A type that is not known.
    #[error("`{0}` is not a type of output: want image, registry, oci, docker, tar, local or cacheonly")]
    Type(String),
    /// A key that is not known, or that has no meaning here.
    #[error("`{0}` is not a key of this output that has a meaning here")]
    Key(String),
}

impl FromStr for Output {
    type Err = NotAnOutput;
    fn from_str(text: &str) -> Result<Self, NotAnOutput> {
        let plain =
            |form, destination| Ok(Self(BuildOutput { form, destination, names: Vec::new(), push: false }));
        if text == "-" {
            return plain(BuildForm::Tar, None);
        }
        if !text.contains('=') {
            return if text.is_empty() {
                Err(NotAnOutput::Form)
            } else {
                plain(BuildForm::Local, Some(text.into()))
            };
        }
        let (mut kind, mut destination, mut names, mut push) = (None, None, Vec::new(), false);
        for field in fields(text).ok_or(NotAnOutput::Form)? {
            let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
            match key.trim().to_ascii_lowercase().as_str() {
                "type" => kind = Some(value.to_owned()),
                "dest" => destination = (value != "-").then(|| PathBuf::from(value)),
                "name" => names.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
                "push" => push = matches!(value, "true" | "1"),
                // What is always so.
                "tar" | "oci-mediatypes" if matches!(value, "true" | "1") => {}
                "compression" if value == "gzip" => {}
                "store" | "unpack" if matches!(value, "true" | "1") => {}
                other => return Err(NotAnOutput::Key(other.to_owned())),
            }
        }
        let form = match kind.as_deref() {
            Some("image") => BuildForm::Image,
            Some("registry") => {
                push = true;
                BuildForm::Image
            }
            Some("oci") => BuildForm::Oci,
            // Without a place, as with Docker: into the store.
            Some("docker") if destination.is_none() && !text.contains("dest=") => BuildForm::Image,
            Some("docker") => BuildForm::Docker,
            Some("tar") => BuildForm::Tar,
            Some("local") if destination.is_some() => BuildForm::Local,
            Some("cacheonly") => BuildForm::CacheOnly,
            Some("local") | None => return Err(NotAnOutput::Form),
            Some(other) => return Err(NotAnOutput::Type(other.to_owned())),
        };
        Ok(Self(BuildOutput { form, destination, names, push }))
    }
}

/// `--secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String, pub(crate) BuildSecret);

/// Not a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotASecret {
    /// Not even the form.
    #[error("want id=ID[,src=FILE] or id=ID,env=NAME")]
    Form,
    /// A type that is not known.
    #[error("`{0}` is not a type of secret: want file or env")]
    Type(String),
}

impl FromStr for Secret {
    type Err = NotASecret;
    fn from_str(text: &str) -> Result<Self, NotASecret> {
        let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
        for field in fields(text).ok_or(NotASecret::Form)? {
            let (key, value) = field.split_once('=').ok_or(NotASecret::Form)?;
            let slot = match key.trim().to_ascii_lowercase().as_str() {
                "id" => &mut id,
                "type" => &mut kind,
                "src" | "source" => &mut source,
                "env" => &mut variable,
                _ => return Err(NotASecret::Form),
            };
            *slot = Some(value.to_owned());
        }
        let id = id.filter(|id| !id.is_empty()).ok_or(NotASecret::Form)?;
        let from = match (kind.as_deref(), variable, source) {
            (None | Some("env"), Some(name), None) | (Some("env"), None, Some(name)) => {
                BuildSecret::Environment(name)
            }
            (Some("env"), None, None) => BuildSecret::Environment(id.clone()),
            (None | Some("file"), None, Some(path)) => BuildSecret::File(path.into()),
            // What is said of neither is a variable of that name, if there is one.
            (None, None, None) if std::env::var_os(&id).is_some() => BuildSecret::Environment(id.clone()),
            (None | Some("file"), None, None) => BuildSecret::File(id.clone().into()),
            (Some(other), ..) if !matches!(other, "file" | "env") => {
                return Err(NotASecret::Type(other.to_owned()));
            }
            _ => return Err(NotASecret::Form),
        };
        Ok(Self(id, from))
    }
}

/// `--ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ssh(pub(crate) String, pub(crate) PathBuf);

/// Not an agent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAnAgent {
    /// Not even the form.
    #[error("want default, or ID=SOCKET")]
    Form,
    /// Nobody says where the agent is.
    #[error("SSH_AUTH_SOCK is not set: start an agent, or give ID=SOCKET")]
    NoAgent,
}

impl FromStr for Ssh {
    type Err = NotAnAgent;
    fn from_str(text: &str) -> Result<Self, NotAnAgent> {
        match text.split_once('=') {
            Some((id, socket)) if !id.is_empty() && !socket.is_empty() => {
                Ok(Self(id.to_owned(), socket.into()))
            }
            None if !text.is_empty() => {
                let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
                Ok(Self(text.to_owned(), socket.ok_or(NotAnAgent::NoAgent)?.into()))
            }
            _ => Err(NotAnAgent::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Option<(BuildForm, Option<String>, bool)> {
        let Output(output) = text.parse().ok()?;
        Some((output.form, output.destination.map(|path| path.display().to_string()), output.push))
    }

    #[test]
    fn outputs_have_short_forms() {
        let to = |path: &str| Some(path.to_owned());
        assert_eq!(output("out"), Some((BuildForm::Local, to("out"), false)));
        assert_eq!(output("-"), Some((BuildForm::Tar, None, false)));
        assert_eq!(output("type=docker"), Some((BuildForm::Image, None, false)));
        assert_eq!(output("type=docker,dest=-"), Some((BuildForm::Docker, None, false)));
        assert_eq!(output("type=oci,dest=a.tar"), Some((BuildForm::Oci, to("a.tar"), false)));
        assert_eq!(output("type=registry"), Some((BuildForm::Image, None, true)));
        for bad in ["", "dest=x", "type=x", "type=local", "type=image,x=1", "type=image,compression=lzma"] {
            assert_eq!(output(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_files_or_variables() {
        let secret = |text: &str| text.parse().map(|Secret(id, from)| (id, from)).ok();
        let file = |path: &str| BuildSecret::File(path.into());
        assert_eq!(secret("id=a,src=b"), Some(("a".to_owned(), file("b"))));
        assert_eq!(secret("type=file,id=a"), Some(("a".to_owned(), file("a"))));
        let variable = BuildSecret::Environment("B".to_owned());
        assert_eq!(secret("id=a,env=B"), Some(("a".to_owned(), variable.clone())));
        assert_eq!(secret("id=a,type=env,src=B"), Some(("a".to_owned(), variable)));
        for bad in ["", "a", "src=x", "id=", "id=a,type=x", "id=a,what=b"] {
            assert_eq!(secret(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (text.parse::<Output>(), text.parse::<Secret>(), text.parse::<Ssh>());
        }
    }
}
