//! The last touches: what the result is for, and the graph without what nobody needs.

use oci::image::Platform;

use super::scope;
use crate::graph::{Plan, StepId};

/// The platform of the result: what was asked for, and what of its variant only the base says.
pub(super) fn built_for(base: &Platform, asked: &Platform) -> Platform {
    let (base, asked) = (scope::normalized(base), scope::normalized(asked));
    let same = base.os == asked.os && base.architecture == asked.architecture;
    Platform {
        variant: asked.variant.or(if same { base.variant } else { None }),
        os_version: asked.os_version.or(if same { base.os_version } else { None }),
        os: asked.os,
        architecture: asked.architecture,
    }
}

/// Leaves only those steps that the output needs.
pub(super) fn prune(plan: &mut Plan) {
    let count = plan.graph.steps.len();
    let mut needed = vec![false; count];
    if let Some(output) = needed.get_mut(plan.output.0) {
        *output = true;
    }
    // Each step stands behind those that it needs.
    for index in (0..count).rev() {
        if needed[index] {
            plan.graph.steps[index].action.inputs().into_iter().for_each(|input| needed[input.0] = true);
        }
    }
    let mut next = 0;
    let places: Vec<StepId> = needed
        .iter()
        .map(|&needed| {
            next += usize::from(needed);
            StepId(next.max(1) - 1)
        })
        .collect();
    let renumber = |step: &mut StepId| *step = places[step.0];
    let mut kept = needed.iter();
    plan.graph.steps.retain(|_| *kept.next().unwrap_or(&false));
    plan.graph.steps.iter_mut().for_each(|step| step.action.inputs_mut().into_iter().for_each(renumber));
    plan.layers.iter_mut().for_each(renumber);
    renumber(&mut plan.output);
}
