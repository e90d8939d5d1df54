//! Where errors and warnings go, and in which form: to standard error, or to the file of `--log`, whose last line
//! callers parse.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base::fs::At as _;

use crate::error::{Doing as _, Error};
use crate::time;

/// The form of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// `time="…" level=error msg="…"`.
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

/// Where lines go.
#[derive(Debug, Default)]
pub(crate) struct Report {
    file: Option<File>,
    form: Form,
    debug: bool,
}

impl Report {
    /// From `--log`, `--log-format` and `--debug`. The log is opened now: whoever reads one that cannot be written to
    /// would wait for words in vain.
    pub(crate) fn new(file: Option<&Path>, form: &str, debug: bool) -> Result<Self, Error> {
        let form = match form {
            "" | "text" => Form::Text,
            "json" => Form::Json,
            other => return Err(Error::Usage(format!("invalid log-format: {other}"))),
        };
        let open = |path| {
            let file = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
            file.at("open", path)
        };
        let file = file.filter(|file| *file != Path::new("/dev/stderr")).map(open).transpose()?;
        Ok(Self { file, form, debug })
    }

    /// Why the command fails. People see it on standard error too, whoever else reads the log.
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            writeln!(std::io::stderr(), "{message}").ok();
        }
    }

    /// What is less than asked for, and no reason to fail.
    pub(crate) fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    /// A warning that has been given before: it is for a log, and not for everybody's eyes.
    pub(crate) fn remark(&self, message: &str) {
        if self.file.is_some() || self.debug {
            self.warning(message);
        }
    }

    /// What helps to find out.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.write("debug", &message());
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = self.line(level, message, &time::now_seconds());
        // Nobody can be told that telling failed.
        match &self.file {
            None => drop(std::io::stderr().write_all(line.as_bytes())),
            Some(file) => {
                let mut file = file;
                match file.write_all(line.as_bytes()) {
                    Ok(()) => {}
                    Err(_) => drop(std::io::stderr().write_all(line.as_bytes())),
                }
            }
        }
    }

    fn line(&self, level: &str, message: &str, time: &str) -> String {
        match self.form {
            Form::Text => format!("time=\"{time}\" level={level} msg={}\n", quoted(message)),
            // The order of the keys is the alphabet's, as logrus has it.
            Form::Json => {
                let entry = serde_json::json!({"level": level, "msg": message, "time": time});
                format!("{entry}\n")
            }
        }
    }
}

/// As Go's `%q`, which is JSON's string but for what is not printable.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| format!("{text:?}"))
}

/// Writes an answer to standard output.
pub(crate) fn answer(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).doing("write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_logrus() {
        let mut report = Report::default();
        let time = "2026-11-25T22:38:27Z";
        assert_eq!(
            report.line("error", "exec: \"x\": not\nfound", time),
            "time=\"2026-11-25T22:38:27Z\" level=error msg=\"exec: \\\"x\\\": not\\nfound\"\n"
        );
        report.form = Form::Json;
        assert_eq!(
            report.line("error", "no \"x\"", time),
            "{\"level\":\"error\",\"msg\":\"no \\\"x\\\"\",\"time\":\"2026-11-25T22:38:27Z\"}\n"
        );
    }

    #[test]
    fn a_log_grows_a_line_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let report = Report::new(Some(&path), "json", false).unwrap();
        assert!(Report::new(Some(&dir.path().join("no/log")), "json", false).is_err());
        report.warning("one");
        report.warning("two");
        report.debug(|| "three".to_owned());
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["level"], &lines[1]["msg"]), (&"warning".into(), &"two".into()));
        assert!(Report::new(None, "xml", false).is_err());
    }
}
