//! How its health is looked at.

use clap::Args;
use clap::builder::PossibleValue;
use state::options::{ContainerOptions, HealthOptions, OnUnhealthy};

use crate::flags::duration::Nanoseconds;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Look at its health with this command
    #[arg(long, value_name = "COMMAND", help_heading = "Health")]
    health_cmd: Option<String>,
    /// The time between two looks (30s)
    #[arg(long, value_name = "DURATION", help_heading = "Health")]
    health_interval: Option<Nanoseconds>,
    /// How long one may take (30s)
    #[arg(long, value_name = "DURATION", help_heading = "Health")]
    health_timeout: Option<Nanoseconds>,
    /// So many failures in a row make it unhealthy (3)
    #[arg(long, value_name = "NUMBER", help_heading = "Health")]
    health_retries: Option<u32>,
    /// The time in which failures do not count yet (0s)
    #[arg(long, value_name = "DURATION", help_heading = "Health")]
    health_start_period: Option<Nanoseconds>,
    /// The time between two looks in the start period (5s)
    #[arg(long, value_name = "DURATION", help_heading = "Health")]
    health_start_interval: Option<Nanoseconds>,
    /// What to do when it is unhealthy
    #[arg(long, value_name = "ACTION", default_value = "none", help_heading = "Health")]
    health_on_failure: Action,
    /// Do not look at its health, whatever its image says
    #[arg(long, help_heading = "Health")]
    no_healthcheck: bool,
}

/// The words of `--health-on-failure`.
#[derive(Debug, Clone, Copy)]
struct Action(OnUnhealthy);

impl clap::ValueEnum for Action {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(OnUnhealthy::None),
            Self(OnUnhealthy::Kill),
            Self(OnUnhealthy::Restart),
            Self(OnUnhealthy::Stop),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            OnUnhealthy::None => "none",
            OnUnhealthy::Kill => "kill",
            OnUnhealthy::Restart => "restart",
            OnUnhealthy::Stop => "stop",
        }))
    }
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) {
        let nanos = |time: Option<Nanoseconds>| time.map(|Nanoseconds(nanos)| nanos);
        let Action(on_failure) = self.health_on_failure;
        options.health = HealthOptions {
            disabled: self.no_healthcheck,
            command: self.health_cmd,
            interval: nanos(self.health_interval),
            timeout: nanos(self.health_timeout),
            start_period: nanos(self.health_start_period),
            start_interval: nanos(self.health_start_interval),
            retries: self.health_retries,
            on_failure,
        };
    }
}
