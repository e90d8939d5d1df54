//! `--change`: instructions of a Dockerfile, applied to an image's configuration.
//!
//! The configuration is JSON rather than a struct, so that what we do not know of it stays. Those instructions are
//! taken that Docker's `commit` and `import` take.

mod healthcheck;
mod words;

use base::{Failure, Kind};
use serde_json::{Map, Value, json};

use self::words::words;

/// The `config` object of an image.
pub(crate) type Config = Map<String, Value>;

/// An instruction that cannot be applied.
#[derive(Debug, thiserror::Error)]
#[error("cannot change the image by `{instruction}`: {why}")]
pub(crate) struct BadChange {
    instruction: String,
    why: String,
}

impl Failure for BadChange {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Why, as a text.
type Why = std::result::Result<(), String>;

/// Applies them in order.
pub(crate) fn apply(config: &mut Config, changes: &[String]) -> Result<(), BadChange> {
    let mut command_set = false;
    for change in changes {
        one(config, change.trim(), &mut command_set)
            .map_err(|why| BadChange { instruction: change.chars().take(100).collect(), why })?;
    }
    Ok(())
}

fn one(config: &mut Config, change: &str, command_set: &mut bool) -> Why {
    let (name, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let rest = rest.trim();
    if rest.contains('\0') {
        return Err("it contains a NUL byte".to_owned());
    }
    let upper = name.to_ascii_uppercase();
    if rest.is_empty() && !matches!(&*upper, "CMD" | "ENTRYPOINT") {
        return Err(format!("{upper} needs an argument"));
    }
    match &*upper {
        "CMD" => {
            *command_set = true;
            config.insert("Cmd".to_owned(), command(config, rest));
        }
        "ENTRYPOINT" => {
            config.insert("Entrypoint".to_owned(), command(config, rest));
            // The old command was meant for the old entrypoint.
            if !*command_set {
                config.remove("Cmd");
            }
        }
        "ENV" => environment(config, rest)?,
        "LABEL" => {
            let labels = pairs(config, rest)?;
            extend(config, "Labels", labels.into_iter().map(|(key, value)| (key, Value::from(value))));
        }
        "EXPOSE" => {
            for word in words(rest, &lookup(config))? {
                let ports = ports(&word)?;
                extend(config, "ExposedPorts", ports.into_iter().map(|port| (port, json!({}))));
            }
        }
        "VOLUME" => {
            let paths = match json_words(rest) {
                Some(paths) => paths,
                None => words(rest, &lookup(config))?,
            };
            if paths.is_empty() || paths.iter().any(String::is_empty) {
                return Err("a volume's path is empty".to_owned());
            }
            extend(config, "Volumes", paths.into_iter().map(|path| (path, json!({}))));
        }
        "USER" => {
            let user = single(config, rest)?;
            config.insert("User".to_owned(), Value::from(user));
        }
        "WORKDIR" => {
            let path = single(config, rest)?;
            let old = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            let path = if path.starts_with('/') { path } else { format!("/{old}/{path}") };
            config.insert("WorkingDir".to_owned(), Value::from(clean(&path)));
        }
        "STOPSIGNAL" => {
            let signal = single(config, rest)?;
            crate::containers::signal::parse(&signal).map_err(|e| e.to_string())?;
            config.insert("StopSignal".to_owned(), Value::from(signal));
        }
        "HEALTHCHECK" => {
            let check = healthcheck::parse(rest)?;
            config.insert("Healthcheck".to_owned(), check);
        }
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(&*trigger, "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(format!("{trigger} cannot be a trigger"));
            }
            match config.get_mut("OnBuild") {
                Some(Value::Array(list)) => list.push(Value::from(rest)),
                _ => drop(config.insert("OnBuild".to_owned(), json!([rest]))),
            }
        }
        _ => {
            return Err(format!(
                "{name} is not one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, \
                 USER, VOLUME and WORKDIR"
            ));
        }
    }
    Ok(())
}

/// `["a", "b"]` as it is; anything else is the shell's.
fn command(config: &Config, text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    if let Some(words) = json_words(text) {
        return json!(words);
    }
    let mut shell = match config.get("Shell") {
        Some(Value::Array(words)) if !words.is_empty() => words.clone(),
        _ => vec![json!("/bin/sh"), json!("-c")],
    };
    shell.push(Value::from(text));
    Value::Array(shell)
}

fn json_words(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

fn environment(config: &mut Config, text: &str) -> Why {
    let new: Vec<String> =
        pairs(config, text)?.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let merged = crate::containers::spec::environment(strings(config, "Env"), new.iter())
        .map_err(|e| e.to_string())?;
    config.insert("Env".to_owned(), json!(merged));
    Ok(())
}

/// `KEY=VALUE …`, or the old `KEY VALUE`.
fn pairs(config: &Config, text: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) =
            text.split_once(char::is_whitespace).ok_or_else(|| format!("`{text}` has no value"))?;
        let value = words::expanded(value.trim(), &lookup(config))?;
        return Ok(vec![(key.to_owned(), value)]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{word}` is not KEY=VALUE")),
    };
    words(text, &lookup(config))?.into_iter().map(pair).collect()
}

fn single(config: &Config, text: &str) -> std::result::Result<String, String> {
    words::expanded(text, &lookup(config))
}

/// `80`, `80/udp`, `8000-8002`: each as `PORT/PROTOCOL`.
fn ports(text: &str) -> std::result::Result<Vec<String>, String> {
    let bad = || format!("`{text}` is not PORT[-PORT][/PROTOCOL]");
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(&*protocol, "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad);
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A path without `.`, `..` and needless slashes.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The list of strings under a key.
pub(crate) fn strings(config: &Config, key: &str) -> Vec<String> {
    let list = config.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Adds to the object under a key, which is made where there is none.
pub(crate) fn extend(config: &mut Config, key: &str, entries: impl IntoIterator<Item = (String, Value)>) {
    let mut object = match config.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    object.extend(entries);
    config.insert(key.to_owned(), Value::Object(object));
}

/// The value of a variable in the image's environment.
fn lookup(config: &Config) -> impl Fn(&str) -> Option<String> + use<> {
    let env = strings(config, "Env");
    move |name| {
        let entry = env.iter().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name));
        entry.map(|(_, value)| value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Value, String> {
        let Value::Object(mut config) = json!({
            "Env": ["PATH=/bin", "A=old"], "Cmd": ["sh"], "WorkingDir": "/srv", "Shell": ["/bin/ash", "-ec"],
            "Unknown": 7,
        }) else {
            unreachable!()
        };
        let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
        apply(&mut config, &changes).map_err(|e| e.to_string())?;
        Ok(Value::Object(config))
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = changed(&[
            "cmd [\"a\", \"b c\"]",
            "ENTRYPOINT run it",
            "ENV A=new B=\"two words\" C=$A:${PATH}",
            "ENV D some more",
            "LABEL one=1 \"with space\"='$A'",
            "EXPOSE 80 53/udp 8000-8001",
            "VOLUME [\"/data\"]",
            "USER app:app",
            "WORKDIR sub/../x",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN true",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f http://localhost",
        ])
        .unwrap();
        assert_eq!(config["Cmd"], json!(["a", "b c"]));
        assert_eq!(config["Entrypoint"], json!(["/bin/ash", "-ec", "run it"]));
        assert_eq!(config["Env"], json!(["PATH=/bin", "A=new", "B=two words", "C=old:/bin", "D=some more"]));
        assert_eq!(config["Labels"], json!({"one": "1", "with space": "$A"}));
        assert_eq!(
            config["ExposedPorts"],
            json!({"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}})
        );
        assert_eq!(config["Volumes"], json!({"/data": {}}));
        assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("app:app"), &json!("/srv/x")));
        assert_eq!((&config["StopSignal"], &config["OnBuild"]), (&json!("SIGQUIT"), &json!(["RUN true"])));
        assert_eq!(config["Healthcheck"]["Interval"], 90_000_000_000_u64);
        assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "curl -f http://localhost"]));
        assert_eq!(config["Unknown"], 7);
    }

    #[test]
    fn an_entrypoint_drops_the_old_command() {
        assert_eq!(changed(&["ENTRYPOINT [\"x\"]"]).unwrap().get("Cmd"), None);
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (change, why) in [
            ("RUN true", "RUN is not one of"),
            ("ENV", "needs an argument"),
            ("ENV A", "has no value"),
            ("ENV =x", "is not KEY=VALUE"),
            ("LABEL a='b", "quote"),
            ("EXPOSE 0", "is not PORT"),
            ("EXPOSE 9-8", "is not PORT"),
            ("EXPOSE 80/http", "is not PORT"),
            ("ONBUILD FROM x", "cannot be a trigger"),
            ("STOPSIGNAL SIGNOPE", "SIGNOPE"),
            ("HEALTHCHECK maybe", "HEALTHCHECK"),
            ("VOLUME [\"\"]", "empty"),
        ] {
            let error = changed(&[change]).unwrap_err();
            assert!(error.contains(why), "{change}: {error}");
        }
    }
}
