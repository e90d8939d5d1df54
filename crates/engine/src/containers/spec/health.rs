//! How a container's health is looked at: what was asked, and what the image says, by Docker's rules.

use oci::image::{Execution, Healthcheck};
use state::options::{ContainerOptions, HealthCheck, HealthOptions};

use super::resolve::Invalid;

const SECOND: u64 = 1_000_000_000;
const INTERVAL: u64 = 30 * SECOND;
const TIMEOUT: u64 = 30 * SECOND;
const START_INTERVAL: u64 = 5 * SECOND;
const RETRIES: u32 = 3;
/// Docker's: shorter makes no sense, and keeps a machine busy.
const LEAST: u64 = 1_000_000;
/// The least pause between two probes that an image may say: they are started outside of its limits, by us.
const LEAST_OF_IMAGE: i64 = 100_000_000;

/// The check; none where neither says one, or it is switched off.
pub(super) fn resolve(options: &ContainerOptions, image: &Execution) -> Result<Option<HealthCheck>, Invalid> {
    let asked = &options.health;
    let says_more = HealthOptions { disabled: false, ..asked.clone() } != HealthOptions::default();
    if asked.disabled {
        return if says_more { Err(Invalid::HealthDisabled) } else { Ok(None) };
    }
    let durations = [
        ("--health-interval", asked.interval),
        ("--health-timeout", asked.timeout),
        ("--health-start-period", asked.start_period),
        ("--health-start-interval", asked.start_interval),
    ];
    for (flag, value) in durations {
        if value.is_some_and(|v| v > 0 && v < LEAST) {
            return Err(Invalid::HealthTime(flag));
        }
    }
    let none = Healthcheck::default();
    let of_image = image.healthcheck.as_ref().unwrap_or(&none);
    let test = match asked.command.as_deref() {
        Some(command) if !command.is_empty() => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        _ => of_image.test.clone(),
    };
    let Some(command) = command(&test) else {
        return if says_more { Err(Invalid::NoHealthCommand) } else { Ok(None) };
    };
    let pause = |value: i64| if value > 0 { value.max(LEAST_OF_IMAGE) } else { value };
    let positive = |value: i64| u64::try_from(value).ok().filter(|v| *v > 0);
    let time = |asked: Option<u64>, image: i64, default: u64| {
        asked.filter(|v| *v > 0).or(positive(image)).unwrap_or(default)
    };
    let retries = positive(of_image.retries).and_then(|n| u32::try_from(n).ok());
    Ok(Some(HealthCheck {
        command,
        test,
        interval: time(asked.interval, pause(of_image.interval), INTERVAL),
        timeout: time(asked.timeout, of_image.timeout, TIMEOUT),
        start_period: time(asked.start_period, of_image.start_period, 0),
        start_interval: time(asked.start_interval, pause(of_image.start_interval), START_INTERVAL),
        retries: asked.retries.filter(|n| *n > 0).or(retries).unwrap_or(RETRIES),
        on_failure: asked.on_failure,
    }))
}

/// The words of a probe; none where the test is none, or one that nobody knows.
fn command(test: &[String]) -> Option<Vec<String>> {
    match test.split_first()? {
        (kind, words) if kind == "CMD" && !words.is_empty() => Some(words.to_vec()),
        (kind, [command]) if kind == "CMD-SHELL" => {
            Some(["/bin/sh", "-c", command].map(str::to_owned).to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::options::OnUnhealthy;

    fn image(test: &[&str]) -> Execution {
        let test = test.iter().map(|&w| w.to_owned()).collect();
        let check = Healthcheck { test, interval: 7, retries: 9, ..Healthcheck::default() };
        Execution { healthcheck: Some(check), ..Execution::default() }
    }

    fn asked(health: HealthOptions) -> ContainerOptions {
        ContainerOptions { health, ..ContainerOptions::default() }
    }

    #[test]
    fn the_images_check_holds_where_nothing_else_is_said() {
        let check =
            resolve(&asked(HealthOptions::default()), &image(&["CMD", "probe", "-x"])).unwrap().unwrap();
        assert_eq!(check.command, ["probe", "-x"]);
        // A nanosecond, or seven, would keep the machine busy with nothing else.
        assert_eq!((check.interval, check.timeout, check.retries), (LEAST_OF_IMAGE as u64, TIMEOUT, 9));
        for none in [&["NONE"][..], &[], &["CMD"], &["WHAT", "x"]] {
            assert_eq!(resolve(&asked(HealthOptions::default()), &image(none)).unwrap(), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_asked_goes_before_the_image() {
        let health = HealthOptions {
            command: Some("exit 1".to_owned()),
            interval: Some(SECOND),
            retries: Some(1),
            on_failure: OnUnhealthy::Kill,
            ..HealthOptions::default()
        };
        let check = resolve(&asked(health), &image(&["CMD", "probe"])).unwrap().unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "exit 1"]);
        assert_eq!((check.interval, check.retries, check.on_failure), (SECOND, 1, OnUnhealthy::Kill));
        let off = HealthOptions { disabled: true, ..HealthOptions::default() };
        assert_eq!(resolve(&asked(off.clone()), &image(&["CMD", "probe"])).unwrap(), None);
        let both = HealthOptions { retries: Some(1), ..off };
        assert!(matches!(resolve(&asked(both), &image(&[])), Err(Invalid::HealthDisabled)));
    }

    #[test]
    fn times_without_a_command_and_times_too_short_are_refused() {
        let short = HealthOptions { timeout: Some(LEAST - 1), ..HealthOptions::default() };
        assert!(matches!(
            resolve(&asked(short), &image(&["CMD", "x"])),
            Err(Invalid::HealthTime("--health-timeout"))
        ));
        let retries = HealthOptions { retries: Some(2), ..HealthOptions::default() };
        assert!(matches!(resolve(&asked(retries), &Execution::default()), Err(Invalid::NoHealthCommand)));
    }
}
