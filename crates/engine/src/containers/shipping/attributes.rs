//! What is said of a container with each of its lines: its tag, and the labels and variables that somebody wants.

use std::collections::BTreeMap;

use gotmpl::{Template, Value};
use regex::Regex;
use state::container::Record;

use super::error::BadOption;

type Options = BTreeMap<String, String>;

/// Docker's.
const DEFAULT_TAG: &str = "{{.ID}}";

/// Refuses what cannot be filled in or matched.
pub(super) fn check(options: &Options) -> Result<(), BadOption> {
    for name in ["labels-regex", "env-regex"] {
        pattern(options, name)?;
    }
    // With values for all that may be named: what fails with these fails with all.
    let names =
        ["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "Command", "DaemonName", "Hostname"];
    let samples = names.map(|name| (name, "x".to_owned()));
    fill_in(options, samples.into()).map(drop)
}

/// `tag`, filled in.
pub(super) fn tag(options: &Options, record: &Record) -> Result<String, BadOption> {
    let id = record.id.as_str();
    let image = record.image.id.to_string();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let values = BTreeMap::from([
        ("ID", record.id.short().to_owned()),
        ("FullID", id.to_owned()),
        ("Name", record.name.clone()),
        ("ImageID", record.image.id.short()),
        ("ImageFullID", image),
        ("ImageName", record.image.reference.clone()),
        ("Command", record.args.join(" ")),
        ("DaemonName", "dhow".to_owned()),
        ("Hostname", host),
    ]);
    fill_in(options, values)
}

fn fill_in(options: &Options, values: BTreeMap<&str, String>) -> Result<String, BadOption> {
    let text = options.get("tag").map_or(DEFAULT_TAG, String::as_str);
    let bad = |e: gotmpl::TemplateError| BadOption::value("tag", text, format!("a template: {e}"));
    let template = Template::new("tag").missing_key(gotmpl::MissingKey::Error).parse(text).map_err(bad)?;
    let values = gotmpl::to_value(&values).unwrap_or(Value::Nil);
    template.execute_to_string(&values).map_err(bad)
}

/// The labels and variables that are named or match.
pub(super) fn all(options: &Options, record: &Record) -> Result<BTreeMap<String, String>, BadOption> {
    let mut all = BTreeMap::new();
    let labels = record.options.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let env = record.resolved.env.iter().filter_map(|pair| pair.split_once('='));
    // The environment's last, as with Docker: it wins.
    pick(options, "labels", labels, &mut all)?;
    pick(options, "env", env, &mut all)?;
    Ok(all)
}

fn pick<'a>(
    options: &Options,
    name: &str,
    from: impl Iterator<Item = (&'a str, &'a str)>,
    to: &mut BTreeMap<String, String>,
) -> Result<(), BadOption> {
    let named: Vec<&str> = options.get(name).map(|list| list.split(',').collect()).unwrap_or_default();
    let matching = pattern(options, &format!("{name}-regex"))?;
    for (key, value) in from {
        if named.contains(&key) || matching.as_ref().is_some_and(|matching| matching.is_match(key)) {
            to.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(())
}

fn pattern(options: &Options, name: &str) -> Result<Option<Regex>, BadOption> {
    let Some(text) = options.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let pattern = Regex::new(text).map_err(|_| BadOption::value(name, text, "a regular expression"))?;
    Ok(Some(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tags_are_templates() {
        let values = || BTreeMap::from([("ID", "abc".to_owned()), ("Name", "box".to_owned())]);
        let of = |tag: &str| fill_in(&options(&[("tag", tag)]), values());
        assert_eq!(fill_in(&options(&[]), values()).unwrap(), "abc");
        assert_eq!(of("{{.Name}}/{{.ID}}").unwrap(), "box/abc");
        assert!(of("{{.Nope}}").is_err() && of("{{").is_err());
        assert!(check(&options(&[("tag", "{{.ImageName}} {{.Hostname}}")])).is_ok());
        assert!(check(&options(&[("env-regex", "(")])).is_err());
    }

    #[test]
    fn what_is_named_or_matches_is_picked() {
        let from = || [("team", "a"), ("tier", "b"), ("other", "c")].into_iter();
        let picked = |pairs: &[(&str, &str)]| {
            let mut to = BTreeMap::new();
            pick(&options(pairs), "labels", from(), &mut to).unwrap();
            to.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(picked(&[("labels", "team,nope")]), ["team"]);
        assert_eq!(picked(&[("labels-regex", "^t")]), ["team", "tier"]);
        assert!(picked(&[]).is_empty());
    }
}
