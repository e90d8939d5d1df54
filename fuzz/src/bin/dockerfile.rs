//! Dockerfiles: any text is refused in words and in a place of it, or is a plan whose steps stand behind those that they need, of
//! which none is idle, and which is the same each time. Never a panic, and no plan that is much larger than its text.
//!
//! The first line chooses the target and gives build arguments, the rest is the Dockerfile.
#![no_main]

use build::graph::{Bases, Image, Plan};
use build::{NamedContext, Options};
use libfuzzer_sys::fuzz_target;
use oci::image::{Execution, ImageConfig, Platform};

/// Every image there is; some with triggers.
struct Images;

impl Bases for Images {
    fn find(&self, reference: &str, platform: &Platform) -> Result<(Image, ImageConfig), String> {
        let on_build = match reference {
            "none" => return Err("there is none".to_owned()),
            "trigger" => vec!["RUN <<E\na\nE".to_owned(), "COPY --from=a . $A".to_owned()],
            _ => Vec::new(),
        };
        let execution = Execution {
            on_build,
            env: vec!["PATH=/bin".to_owned(), "A=b".to_owned()],
            ..Execution::default()
        };
        let config =
            ImageConfig { config: Some(execution), platform: platform.clone(), ..ImageConfig::default() };
        let digest = format!("sha256:{}", "0".repeat(64));
        Ok((Image { reference: reference.to_owned(), digest, platform: platform.clone() }, config))
    }
}

fn sound(plan: &Plan) {
    let steps = &plan.graph.steps;
    let mut needed = vec![false; steps.len()];
    needed[plan.output.0] = true;
    for (index, step) in steps.iter().enumerate().rev() {
        assert!(needed[index], "step {index} is idle: {step:?}");
        for input in step.action.inputs() {
            assert!(input.0 < index, "{step:?}");
            needed[input.0] = true;
        }
    }
    assert!(plan.layers.iter().all(|layer| layer.0 < steps.len()));
    let own = |line: &&oci::image::History| line.comment.is_some() && !line.empty_layer;
    assert_eq!(plan.config.history.iter().filter(own).count(), plan.layers.len());
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, source) = text.split_once('\n').unwrap_or(("", text));
    let platform =
        || Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Platform::default() };
    let options = Options {
        target: first.split(' ').next().filter(|target| !target.is_empty()).map(str::to_owned),
        build_args: first
            .split(' ')
            .skip(1)
            .filter_map(|a| a.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect(),
        contexts: [("c".to_owned(), NamedContext::Directory)].into(),
        platform: platform(),
        build_platform: platform(),
        ..Options::default()
    };
    let (warnings, _) = build::check(source, &options, &Images);
    assert!(warnings.iter().all(|warning| warning.lines.0 >= 1 && warning.lines.0 <= warning.lines.1));
    match build::plan(source, &options, &Images) {
        Ok(plan) => {
            sound(&plan);
            assert_eq!(Ok(plan), build::plan(source, &options, &Images), "it is another one the second time");
        }
        Err(error) => {
            assert!(!error.message().is_empty() && !error.report().is_empty());
            assert!(error.line() <= source.lines().count(), "{error}");
        }
    }
});
