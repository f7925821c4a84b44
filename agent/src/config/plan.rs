//! What is to be done: a flag goes before the environment, that before the file, that before the default.
//!
//! A flag or a variable replaces what the file says under the same key as a whole, for all rules.

use std::sync::Arc;

use anyhow::Context as _;
use wirespan_protocols::propagation::Propagators;

use super::scalar::{Leaf, Ratio};
use super::settings::Format;
use super::{AllowRule, Config};
use crate::capture::DEFAULT_BURST_BUDGET;
use crate::containers::Socket;
use crate::export::{ConsoleOptions, Limits, Target};
use crate::process::{Allow, Rule, Rules};
use crate::settings::{Sampling, Settings};

/// Payload bytes of a burst where fields of contents are asked for: as much as parsers keep of one.
const CONTENT_BUDGET: u32 = 16 << 10;

/// Bytes of a ring buffer unless told otherwise.
const RING_BYTES: u32 = 8 << 20;

/// What the command line says. `None`, `false` and nothing: it doesn't.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Trace every process.
    pub all: bool,
    /// Rules; with one, or with `all`, those of the file don't count.
    pub allow: Vec<Rule>,
    /// Exporters.
    pub export: Vec<String>,
    /// The console prints traceparents.
    pub traceparent: bool,
    /// No process is assisted.
    pub no_node_assist: bool,
    /// Templates of routes.
    pub routes: Option<Vec<String>>,
    /// Parameters of statements are shown.
    pub query_parameters: bool,
    /// Keys of messages are shown.
    pub message_keys: bool,
    /// Pool's pings make no spans.
    pub silent_pool_pings: bool,
    /// Payload bytes of a burst.
    pub payload_budget: Option<u32>,
    /// Bytes of a ring buffer.
    pub ring_bytes: Option<u32>,
    /// The kernel measures the hooks.
    pub measure_hooks: bool,
}

/// All that an agent is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which processes, and what is done with their spans. Who the agent is, is not in it.
    pub rules: Rules,
    /// Where spans go.
    pub targets: Vec<Target>,
    /// How many may wait there.
    pub limits: Limits,
    /// Payload bytes of a burst.
    pub payload_budget: u32,
    /// Bytes of a ring buffer.
    pub ring_bytes: u32,
    /// The kernel measures the hooks.
    pub measure_hooks: bool,
    /// Container engines that are asked.
    pub engines: Vec<Socket>,
}

impl Plan {
    /// Puts together what is said.
    ///
    /// # Errors
    /// A flag or a variable that is not understood.
    pub fn new(
        config: &Config,
        flags: &Flags,
        lookup: impl Fn(&str) -> Option<String> + Copy,
    ) -> anyhow::Result<Self> {
        let base = config.settings.over(&Settings::default());
        let override_ = Override::new(flags, lookup)?;
        let base = override_.apply(base);
        let of_rule = |rule: &AllowRule| {
            let settings = Settings {
                service: rule.service.as_ref().map(|taken| taken.0.clone()),
                attributes: rule
                    .attributes
                    .0
                    .iter()
                    .map(|(name, taken)| (name.clone(), taken.0.clone()))
                    .collect(),
                ..override_.apply(rule.settings.over(&base))
            };
            Allow { rule: rule.matching.rule(), settings: Arc::new(settings) }
        };
        let by_flags = flags.all || !flags.allow.is_empty();
        let settings = Arc::new(base.clone());
        let allow: Vec<Allow> = if by_flags {
            let allow = |rule: &Rule| Allow { rule: rule.clone(), settings: Arc::clone(&settings) };
            flags.allow.iter().map(allow).collect()
        } else {
            config.rules.iter().map(of_rule).collect()
        };
        let all = flags.all || (!by_flags && config.all.as_ref().is_some_and(|all| all.0));
        let size = |flag: Option<u32>, key: &Option<super::Scalar<super::Size>>, default| {
            flag.or(key.as_ref().map(|size| size.0.0)).unwrap_or(default)
        };
        let capture = &config.capture;
        let every = allow.iter().map(|allow| &allow.settings).chain([&settings]);
        let budget = if every.into_iter().any(|it| !it.traffic.pointers().is_empty()) {
            CONTENT_BUDGET
        } else {
            DEFAULT_BURST_BUDGET
        };
        Ok(Self {
            rules: Rules { all, allow, settings, own: Vec::new() },
            targets: targets(config, flags, lookup)?,
            limits: config.queue.limits(lookup).map_err(anyhow::Error::msg)?,
            payload_budget: size(flags.payload_budget, &capture.payload_budget, budget),
            ring_bytes: size(flags.ring_bytes, &capture.ring_size, RING_BYTES),
            measure_hooks: flags.measure_hooks
                || capture.measure_hooks.as_ref().is_some_and(|flag| flag.0),
            engines: match &config.containers.sockets {
                Some(sockets) => sockets.iter().map(|socket| socket.0.clone()).collect(),
                None => Socket::usual(),
            },
        })
    }

    /// Whether anything may be traced.
    pub fn allows_something(&self) -> bool {
        self.rules.all || !self.rules.allow.is_empty()
    }

    /// What differs in another plan that can't be changed while the agent runs, by the file's keys.
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let capture = |plan: &Self| (plan.payload_budget, plan.ring_bytes, plan.measure_hooks);
        if capture(self) != capture(other) {
            keys.push("capture");
        }
        if self.engines != other.engines {
            keys.push("containers");
        }
        keys
    }
}

/// What flags and variables say of every rule's settings.
struct Override {
    sampling: Option<Sampling>,
    attribute_count: Option<usize>,
    attribute_length: Option<usize>,
    propagators: Option<Propagators>,
    no_node_assist: bool,
    routes: Option<Vec<String>>,
    query_parameters: bool,
    message_keys: bool,
    silent_pool_pings: bool,
}

impl Override {
    fn new(flags: &Flags, lookup: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        Ok(Self {
            sampling: sampling(&lookup)?,
            attribute_count: number(
                &lookup,
                ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"],
            )?,
            attribute_length: number(
                &lookup,
                ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"],
            )?,
            propagators: propagators(&lookup)?,
            no_node_assist: flags.no_node_assist,
            routes: flags.routes.clone(),
            query_parameters: flags.query_parameters,
            message_keys: flags.message_keys,
            silent_pool_pings: flags.silent_pool_pings,
        })
    }

    fn apply(&self, settings: Settings) -> Settings {
        Settings {
            sampling: self.sampling.unwrap_or(settings.sampling),
            attribute_count: self.attribute_count.unwrap_or(settings.attribute_count),
            attribute_length: self.attribute_length.or(settings.attribute_length),
            propagators: self.propagators.unwrap_or(settings.propagators),
            node_assist: settings.node_assist && !self.no_node_assist,
            routes: self.routes.clone().unwrap_or(settings.routes),
            query_parameters: settings.query_parameters || self.query_parameters,
            message_keys: settings.message_keys || self.message_keys,
            silent_pool_pings: settings.silent_pool_pings || self.silent_pool_pings,
            ..settings
        }
    }
}

/// A variable that is set to something.
fn variable(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`
/// (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).
fn sampling(lookup: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Sampling>> {
    let Some(sampler) = variable(lookup, "OTEL_TRACES_SAMPLER") else { return Ok(None) };
    let ratio = || match variable(lookup, "OTEL_TRACES_SAMPLER_ARG") {
        Some(text) => match Ratio::read(&text) {
            Ok(Ratio(ratio)) => Ok(ratio),
            Err(_) => anyhow::bail!("OTEL_TRACES_SAMPLER_ARG: expected {}", Ratio::EXPECTED),
        },
        None => Ok(1.0),
    };
    let (name, parent_based) = match sampler.strip_prefix("parentbased_") {
        Some(name) => (name, true),
        None => (sampler.as_str(), false),
    };
    let ratio = match name {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio()?,
        _ => anyhow::bail!(
            "OTEL_TRACES_SAMPLER: `{}` is not supported here: expected always_on, always_off or traceidratio, \
             each also with parentbased_ before it",
            sampler.escape_debug()
        ),
    };
    Ok(Some(Sampling { ratio, parent_based }))
}

/// `OTEL_PROPAGATORS`: W3C's trace context is always read, baggage never.
fn propagators(lookup: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Propagators>> {
    const NAME: &str = "OTEL_PROPAGATORS";
    let Some(list) = variable(lookup, NAME) else { return Ok(None) };
    let others = list
        .split(',')
        .map(str::trim)
        .filter(|name| !matches!(*name, "" | "tracecontext" | "baggage" | "none"));
    let format = |name: &str| match Format::read(name) {
        Ok(Format(propagator)) => Ok(propagator),
        Err(_) => anyhow::bail!(
            "{NAME}: `{}` is not supported here: expected tracecontext, baggage, {}",
            name.escape_debug(),
            Format::EXPECTED
        ),
    };
    others.map(format).collect::<anyhow::Result<Propagators>>().map(Some)
}

/// The number in the first of these variables that is set.
fn number(
    lookup: &impl Fn(&str) -> Option<String>,
    names: [&str; 2],
) -> anyhow::Result<Option<usize>> {
    for name in names {
        if let Some(text) = variable(lookup, name) {
            return match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => anyhow::bail!("{name}: expected a whole number"),
            };
        }
    }
    Ok(None)
}

fn targets(
    config: &Config,
    flags: &Flags,
    lookup: impl Fn(&str) -> Option<String> + Copy,
) -> anyhow::Result<Vec<Target>> {
    let mut targets: Vec<Target> = if !flags.export.is_empty() {
        let parse =
            |text: &String| Target::parse(text, lookup).with_context(|| format!("--export {text}"));
        flags.export.iter().map(parse).collect::<Result<_, _>>()?
    } else if let Some(names) = variable(&lookup, "OTEL_TRACES_EXPORTER") {
        let parse = |name: &str| -> anyhow::Result<Option<Target>> {
            match name {
                "none" => Ok(None),
                "console" | "otlp" => Ok(Some(Target::parse(name, lookup)?)),
                _ => anyhow::bail!(
                    "OTEL_TRACES_EXPORTER: `{}` is not supported here: expected otlp, console or none",
                    name.escape_debug()
                ),
            }
        };
        let parsed: Vec<Option<Target>> =
            names.split(',').map(str::trim).map(parse).collect::<Result<_, _>>()?;
        parsed.into_iter().flatten().collect()
    } else if let Some(exporters) = &config.exporters {
        exporters.iter().map(|exporter| exporter.0.target(lookup)).collect::<Result<_, _>>()?
    } else {
        vec![Target::Console(ConsoleOptions::default())]
    };
    for target in &mut targets {
        if let Target::Console(options) = target {
            options.traceparent |= flags.traceparent;
        }
    }
    Ok(targets)
}
