//! What is not wrong, but not good either: the rules of `docker build --check`, by BuildKit's names and in its words.
//!
//! Rules are looked at where what they are about is known: those of the text alone in [`text`], those of variables and images
//! while a stage is planned.

mod secrets;
pub(crate) mod text;

use std::collections::BTreeSet;

use crate::error::{Checked, Fault, Place};
use crate::graph::Warning;

pub(crate) use secrets::looks_secret;

/// The rules.
pub(crate) mod rule {
    macro_rules! rules {
        ($($constant:ident = $name:literal;)*) => {
            $(pub(crate) const $constant: &str = $name;)*
        };
    }

    rules! {
        STAGE_NAME_CASING = "StageNameCasing";
        FROM_AS_CASING = "FromAsCasing";
        NO_EMPTY_CONTINUATION = "NoEmptyContinuation";
        CONSISTENT_INSTRUCTION_CASING = "ConsistentInstructionCasing";
        DUPLICATE_STAGE_NAME = "DuplicateStageName";
        RESERVED_STAGE_NAME = "ReservedStageName";
        JSON_ARGS_RECOMMENDED = "JSONArgsRecommended";
        MAINTAINER_DEPRECATED = "MaintainerDeprecated";
        UNDEFINED_ARG_IN_FROM = "UndefinedArgInFrom";
        WORKDIR_RELATIVE_PATH = "WorkdirRelativePath";
        UNDEFINED_VAR = "UndefinedVar";
        MULTIPLE_INSTRUCTIONS_DISALLOWED = "MultipleInstructionsDisallowed";
        LEGACY_KEY_VALUE_FORMAT = "LegacyKeyValueFormat";
        INVALID_BASE_IMAGE_PLATFORM = "InvalidBaseImagePlatform";
        REDUNDANT_TARGET_PLATFORM = "RedundantTargetPlatform";
        SECRETS_USED_IN_ARG_OR_ENV = "SecretsUsedInArgOrEnv";
        INVALID_DEFAULT_ARG_IN_FROM = "InvalidDefaultArgInFrom";
        FROM_PLATFORM_FLAG_CONST_DISALLOWED = "FromPlatformFlagConstDisallowed";
        COPY_IGNORED_FILE = "CopyIgnoredFile";
        INVALID_DEFINITION_DESCRIPTION = "InvalidDefinitionDescription";
        EXPOSE_PROTO_CASING = "ExposeProtoCasing";
        EXPOSE_INVALID_FORMAT = "ExposeInvalidFormat";
    }

    /// Those that have to be asked for (`# check=experimental=…`).
    pub(super) const EXPERIMENTAL: [&str; 2] = [COPY_IGNORED_FILE, INVALID_DEFINITION_DESCRIPTION];
}

/// A build argument that no stage asked for: no rule of the checks, and not to be skipped.
pub(crate) const UNUSED_BUILD_ARG: &str = "UnusedBuildArg";

/// All rules, or some.
#[derive(Debug, Clone, Default)]
struct Rules {
    all: bool,
    named: BTreeSet<String>,
}

impl Rules {
    fn parse(text: &str) -> Self {
        let named: BTreeSet<String> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        Self { all: named.contains("all"), named }
    }

    fn has(&self, rule: &str) -> bool {
        self.all || self.named.contains(&rule.to_ascii_lowercase())
    }
}

/// Which rules are looked at, and what they said.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    skip: Rules,
    experimental: Rules,
    error: bool,
    pub(crate) warnings: Vec<Warning>,
    /// What was said already: stages are gone through more than once.
    said: BTreeSet<((usize, usize), &'static str, String)>,
}

impl Checks {
    /// Reads `skip=A,B;error=true;experimental=all`.
    pub(crate) fn parse(text: &str, place: Place) -> Checked<Self> {
        let mut checks = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || {
                Fault::new(place, format!("invalid check option `{part}`"))
                    .help("options are skip=RULE,… or skip=all, error=true, experimental=RULE,…; between them stands `;`")
            };
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            match (key.trim(), value.trim()) {
                ("skip", rules) => checks.skip = Rules::parse(rules),
                ("experimental", rules) => checks.experimental = Rules::parse(rules),
                ("error", "1" | "t" | "true" | "True" | "TRUE" | "T") => checks.error = true,
                ("error", "0" | "f" | "false" | "False" | "FALSE" | "F") => checks.error = false,
                _ => return Err(wrong()),
            }
        }
        Ok(checks)
    }

    /// Notes that a rule is broken on some lines. The comments are those above the instruction: `# check=skip=…` holds there too.
    pub(crate) fn warn(
        &mut self,
        rule: &'static str,
        lines: (usize, usize),
        comments: &[String],
        message: String,
    ) {
        let skipped = comments
            .iter()
            .filter_map(|comment| comment.strip_prefix("check="))
            .filter_map(|options| Self::parse(options, Place::default()).ok())
            .any(|own| own.skip.has(rule));
        // Whoever asks for an experimental rule gets it, also where all others are skipped.
        let wanted = if rule::EXPERIMENTAL.contains(&rule) {
            self.experimental.has(rule)
        } else {
            !self.skip.has(rule)
        };
        if wanted && !skipped && self.said.insert((lines, rule, message.clone())) {
            self.warnings.push(Warning { rule, message, lines });
        }
    }

    /// The warnings by lines.
    pub(crate) fn sorted(&self) -> Vec<Warning> {
        let mut warnings = self.warnings.clone();
        warnings.sort_by(|a, b| (a.lines.0, &a.message).cmp(&(b.lines.0, &b.message)));
        warnings
    }

    /// The warnings as an error, where the Dockerfile wants them to be one.
    pub(crate) fn verdict(&self) -> Checked<()> {
        let rules: BTreeSet<&str> = self.warnings.iter().map(|warning| warning.rule).collect();
        if !self.error || rules.is_empty() {
            return Ok(());
        }
        let rules: Vec<&str> = rules.into_iter().collect();
        let line = self.warnings.first().map_or(0, |warning| warning.lines.0);
        let place = Place { line, column: 1, width: usize::MAX };
        let mut fault = Fault::new(place, format!("lint violation found for rules: {}", rules.join(", ")));
        for Warning { rule, message, lines } in self.sorted() {
            fault = fault.help(format!("line {}: {rule}: {message}", lines.0));
        }
        Err(fault)
    }
}
