//! `cargo xtask soak`: the tests that are quick every day, at length: kill points and power cuts in their
//! hundreds, properties with many more cases, half an hour of each fuzz target. The tests read `DHOW_SOAK` and `PROPTEST_CASES` themselves.

use anyhow::{Result, bail};

use crate::{fuzz, leaks, packages, shell, test, upgrade};

/// Runs them: those whose name contains the word, or all that have a long version.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let name = match args {
        [] => "soak",
        [name] if !name.starts_with('-') => name,
        _ => bail!("usage: cargo xtask soak [NAME]"),
    };
    let seconds = ["--seconds".to_owned(), fuzz::LONG.to_string()];
    if name == "fuzz" {
        return fuzz::run(&seconds);
    }
    packages::ensure(&[packages::BUILD, packages::TEST, packages::CALLERS, packages::VM])?;
    shell::run(shell::cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    upgrade::ensure()?;
    let before = leaks::snapshot();
    // not by nextest: it would end what takes long
    let mut end_to_end = shell::cargo();
    end_to_end.args(["test", "--package", "dhow-tests", name]).env("DHOW_SOAK", "1");
    test::prepare(&mut end_to_end)?;
    shell::run(end_to_end.args(["--", "--nocapture", "--include-ignored", "--test-threads=1"]))?;
    if args.is_empty() {
        let mut properties = shell::cargo();
        properties
            .args(["test", "--quiet", "--workspace", "--exclude", "dhow-tests"])
            .env("PROPTEST_CASES", "20000")
            .env("DHOW_SOAK", "1");
        test::prepare(&mut properties)?;
        shell::run(&mut properties)?;
        fuzz::run(&seconds)?;
    }
    leaks::check(&before)
}
