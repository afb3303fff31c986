//! Any settings, valid or not: all of them are applied, or none.

use proptest::prelude::*;
use seawall::{ConcurrencyLimit, ConfigError, Drain, LagShed, RequestLimit, Timeout};

use super::*;

/// Some are outside the ranges of some fields.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        (1_u64..2000).prop_map(Duration::from_millis),
        (1_u64..1 << 50).prop_map(Duration::from_nanos),
        Just(Duration::MAX),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_u64..100, Just(1 << 40), Just(i64::MAX as u64)]
}

fn part<S: std::fmt::Debug + Clone + 'static>(
    modes: &'static [Mode],
    settings: impl Strategy<Value = S> + 'static,
) -> BoxedStrategy<Option<PartSettings<S>>> {
    let mode = prop::option::weighted(0.7, prop::sample::select(modes));
    let settings = prop::option::weighted(0.8, settings);
    let part = (mode, settings).prop_map(|(mode, settings)| {
        let part = settings.map(PartSettings::from).unwrap_or_default();
        match mode {
            Some(mode) => part.mode(mode),
            None => part,
        }
    });
    prop::option::weighted(0.8, part).boxed()
}

fn settings_of_a_server() -> BoxedStrategy<Settings> {
    let thresholds = (time(), time(), time(), time()).prop_map(|(bound, more, arm, disarm)| {
        LagThresholds::default()
            .bound(bound)
            .max_bound(bound.saturating_add(more))
            .arm(arm)
            .disarm_after(disarm)
    });
    let timeout = (time(), prop::option::of(time()));
    let timeout = timeout.prop_map(|(time, most)| TimeoutSettings::new(time).raisable_to(most));
    let bodies = (any::<bool>(), prop::option::of(time()), any::<bool>());
    let bodies =
        (bodies, prop::option::of(time())).prop_map(|((deadline, idle, grpc), progress)| {
            ResponseBodyTimeoutSettings::default()
                .deadline(deadline)
                .idle_timeout(idle)
                .idle_exempts_grpc(grpc)
                .progress_timeout(progress)
        });
    let limit = (size(), size(), time()).prop_map(|(limit, queue, time)| {
        ConcurrencyLimitSettings::fixed(limit as usize).queue(queue as usize, time)
    });
    let sizes = (size(), prop::option::of(size()), prop::option::of(size()));
    let paces = (prop::option::of(time()), prop::option::of((size(), time())));
    let requests = (sizes, paces).prop_map(|((body, most, uri), (idle, rate))| {
        let settings = RequestLimitSettings::new(body)
            .raisable_to(most)
            .max_uri(uri)
            .body_idle_timeout(idle);
        match rate {
            Some((rate, grace)) => settings.min_body_rate(rate, grace),
            None => settings,
        }
    });
    let drain = time().prop_map(|time| DrainSettings::default().lame_duck(time));
    let catch_panic = prop::option::of(prop::sample::select(NO_DRY_RUN.to_vec()));
    let parts = (
        catch_panic,
        part(&MODES, thresholds),
        part(&NO_DRY_RUN, drain),
        part(&NO_DRY_RUN, timeout),
        part(&NO_DRY_RUN, bodies),
        part(&MODES, limit),
        part(&NO_DRY_RUN, requests),
    );
    parts
        .prop_map(
            |(mode, lag_shed, drain, timeout, bodies, limit, requests)| {
                let mut settings = Settings::default();
                if let Some(mode) = mode {
                    settings = settings.catch_panic(mode);
                }
                settings.lag_shed = lag_shed;
                settings.drain = drain;
                settings.timeout = timeout;
                settings.response_body_timeout = bodies;
                settings.concurrency_limit = limit;
                settings.request_limit = requests;
                settings
            },
        )
        .boxed()
}

/// What the handles say by themselves.
fn first_error(settings: &Settings) -> Option<(&'static str, ConfigError)> {
    fn error<S: Clone, H>(
        name: &'static str,
        part: Option<&PartSettings<S>>,
        new: impl Fn(S) -> Result<H, ConfigError>,
    ) -> Option<(&'static str, ConfigError)> {
        let settings = part?.settings.clone()?;
        Some((name, new(settings).err()?))
    }
    let Settings {
        lag_shed,
        drain,
        timeout,
        concurrency_limit,
        request_limit,
        ..
    } = settings;
    let limit = concurrency_limit.as_ref();
    error("lag_shed", lag_shed.as_ref(), LagShed::new)
        .or_else(|| error("drain", drain.as_ref(), Drain::new))
        .or_else(|| error("timeout", timeout.as_ref(), Timeout::new))
        .or_else(|| error("concurrency_limit", limit, ConcurrencyLimit::new))
        .or_else(|| error("request_limit", request_limit.as_ref(), RequestLimit::new))
}

/// The paths of the values that differ.
#[cfg(feature = "serde")]
fn differing(old: &Settings, new: &Settings) -> std::collections::BTreeSet<String> {
    use std::collections::BTreeMap;

    use serde_json::Value;

    fn leaves(path: &str, value: Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    leaves(&format!("{path}.{name}"), value, found);
                }
            }
            Value::Null => {}
            value => drop(found.insert(path[1..].to_owned(), value)),
        }
    }
    let [old, new] = [old, new].map(|settings| {
        let mut found = BTreeMap::new();
        leaves("", serde_json::to_value(settings).unwrap(), &mut found);
        found
    });
    let paths = old.keys().chain(new.keys());
    let differing = paths.filter(|path| old.get(*path) != new.get(*path));
    differing.cloned().collect()
}

proptest! {
    /// Whatever a stack has: it takes what all of its handles would take, reports what differs, and
    /// nothing else happens.
    #[test]
    fn any_settings(old in settings_of_a_server(), new in settings_of_a_server()) {
        let stack = seawall::server().build().unwrap();
        let first = stack.settings();
        let old = if stack.apply(&old).is_ok() { old.or(&first) } else { first };
        prop_assert_eq!(&stack.settings(), &old);
        match (stack.apply(&new), first_error(&new)) {
            (Ok(changes), None) => {
                let new = new.or(&old);
                prop_assert_eq!(&stack.settings(), &new);
                #[cfg(feature = "serde")]
                {
                    let fields: Vec<_> = changes.iter().map(seawall::stack::Change::field).collect();
                    let expected = differing(&old, &new);
                    prop_assert_eq!(fields.len(), expected.len(), "{:?}, {:?}", &fields, &expected);
                    for field in fields {
                        prop_assert!(expected.contains(field), "{}", field);
                    }
                }
                prop_assert_eq!(changes.is_empty(), old == new);
            }
            (Err(error), Some((part, expected))) => {
                prop_assert_eq!(error.field(), format!("{part}.{}", expected.field()));
                prop_assert_eq!(error.value(), expected.value());
                prop_assert_eq!(error.allowed(), expected.allowed());
                prop_assert_eq!(&stack.settings(), &old);
            }
            (found, expected) => prop_assert!(false, "{found:?}, {expected:?}"),
        }
    }

    /// A file has what was written to it.
    #[cfg(feature = "serde")]
    #[test]
    fn any_settings_survive_toml_and_json(settings in settings_of_a_server()) {
        super::file::survives(&settings);
    }
}
