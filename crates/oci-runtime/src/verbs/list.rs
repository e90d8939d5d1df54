//! `list`: all containers below the root.

use crate::arguments::{Command, Parsed, switch, value};
use crate::error::Error;
use crate::globals::Globals;
use crate::report::answer;
use crate::store::Store;
use crate::verbs::state;

pub(crate) const COMMAND: Command = Command {
    name: "list",
    about: "list the containers below the root",
    usage: "[command options]",
    flags: &[
        value(&["format", "f"], "table or json (default: \"table\")"),
        switch(&["quiet", "q"], "ids alone"),
    ],
    arguments: (0, 0),
    in_order: false,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let format = flags.text("format")?.unwrap_or("table");
    if !["table", "json"].contains(&format) {
        return Err(Error::Usage("invalid format option".to_owned()));
    }
    let store = Store::new(&globals.root);
    let mut all = Vec::new();
    for id in store.ids()? {
        let described = store.open(&id).and_then(|container| {
            let record = container.record()?;
            state::describe(&container, &record)
        });
        match described {
            Ok(state) => all.push(state),
            // It is being made, or goes at this moment.
            Err(Error::NotFound) => {}
            Err(error) => globals.report.warning(&format!("container {id}: {}", error.in_one_line())),
        }
    }
    if flags.is_on("quiet") {
        let ids: String = all.iter().flat_map(|one| [one.id.as_str(), "\n"]).collect();
        answer(&ids)?;
    } else if format == "json" {
        let text = serde_json::to_string(&all)
            .map_err(|source| Error::Json { path: globals.root.clone(), source })?;
        answer(&format!("{text}\n"))?;
    } else {
        let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
        rows.extend(all.iter().map(|one| {
            [
                one.id.clone(),
                one.pid.to_string(),
                one.status.as_str().to_owned(),
                one.bundle.display().to_string(),
                one.created.clone(),
                one.owner.clone(),
            ]
        }));
        answer(&table(&rows))?;
    }
    Ok(0)
}

/// Columns as wide as their widest cell, at least ten, three apart, as Go's tabwriter sets them.
fn table(rows: &[[String; 6]]) -> String {
    let mut text = String::new();
    for row in rows {
        for (n, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if n + 1 < row.len() {
                let widest = rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
                let width = (widest + 3).max(12);
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}
