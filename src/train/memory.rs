//! Memory: the bytes that a run needs at the least, reckoned from its recipe before anything of that size is allocated.

use std::path::Path;

use sysinfo::System;

use super::Recipe;
use crate::backend::Cpu;
use crate::data::{Dataset, Splits};
use crate::error::{Error, Result};
use crate::nn::UpdateRule;

/// What numbers are kept in.
const BYTES: f64 = size_of::<f32>() as f64;

/// What a recipe's numbers are applied to.
#[derive(Clone, Copy)]
struct Data<'a> {
    set: &'a Dataset,
    samples: usize,
    /// Time steps of the longest sample.
    longest: usize,
    /// Bytes that the samples of all parts take already.
    bytes: usize,
}

impl<'a> Data<'a> {
    fn of(set: &'a Dataset, bytes: usize) -> Self {
        Data { set, samples: set.len(), longest: set.longest(), bytes }
    }
}

/// Bytes, in numbers that do not overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Needs {
    /// The samples.
    data: f64,
    parameters: f64,
    /// What the optimiser remembers.
    optimizer: f64,
    /// The output of every block for the longest batch, or, where these are more, the gradients.
    step: f64,
}

impl Needs {
    fn total(self) -> f64 {
        self.data + self.parameters + self.optimizer + self.step
    }

    /// Of a training run.
    fn of_training(recipe: &Recipe, data: Data<'_>) -> Self {
        let model = Self::of_model(recipe, data);
        let parameters = model.parameters;
        let sequences =
            recipe.run.batch.min(data.samples).div_ceil(recipe.run.accumulate) as f64 * if data.set.is_paired() { 2.0 } else { 1.0 };
        let slots = UpdateRule::<Cpu<f32>>::slots(&recipe.optimizer).len() as f64;
        let block = sequences * data.longest as f64 * recipe.model.block.ssm.d_model as f64 * BYTES;
        Needs { optimizer: slots * parameters, step: parameters.max(block * recipe.model.layers as f64), ..model }
    }

    /// Of a model that only answers.
    fn of_model(recipe: &Recipe, data: Data<'_>) -> Self {
        Needs { data: data.bytes as f64, parameters: recipe.model_for(data.set).least_values() * BYTES, optimizer: 0.0, step: 0.0 }
    }
}

/// Refuses a training run on these parts that this machine has no memory for; where the device has memory of its own, what a step computes is
/// not counted.
///
/// # Errors
/// [`Error::Config`] with the field of the recipe that asks for the most.
pub(super) fn check_training(recipe: &Recipe, splits: &Splits, on_host: bool) -> Result<()> {
    let of = |recipe: &Recipe, data: Data<'_>| {
        let needs = Needs::of_training(recipe, data);
        if on_host { needs } else { Needs { step: 0.0, ..needs } }
    };
    let bytes = [&splits.train, &splits.val, &splits.test].map(Dataset::bytes).iter().sum();
    check(recipe, Data::of(&splits.train, bytes), of, limit())
}

/// Refuses a model for samples as in `set` that this machine has no memory for.
///
/// # Errors
/// As [`check_training`].
pub(super) fn check_model(recipe: &Recipe, set: &Dataset) -> Result<()> {
    check(recipe, Data::of(set, set.bytes()), Needs::of_model, limit())
}

fn check(recipe: &Recipe, data: Data<'_>, of: impl Fn(&Recipe, Data<'_>) -> Needs, limit: Option<u64>) -> Result<()> {
    let (needs, limit) = (of(recipe, data), limit.unwrap_or(u64::MAX) as f64);
    if needs.total() <= limit {
        return Ok(());
    }
    let (field, value, _) = fields(recipe)
        .into_iter()
        .min_by(|(.., a), (.., b)| of(a, data).total().total_cmp(&of(b, data).total()))
        .unwrap_or(("model", 0, recipe.clone()));
    let [total, samples, parameters, optimizer, step, limit] =
        [needs.total(), needs.data, needs.parameters, needs.optimizer, needs.step, limit].map(readable);
    let parts = format!("{samples} of data, {parameters} of parameters, {optimizer} of the optimiser, {step} of a step");
    Err(Error::config(field, value, format!("needs at least {total} of memory ({parts}), and there are {limit}: choose less")))
}

/// The fields that decide, with their values, and the recipe with the least in their place. The states are few by themselves.
fn fields(recipe: &Recipe) -> [(&'static str, usize, Recipe); 3] {
    let with = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe.clone();
        change(&mut recipe);
        recipe
    };
    let ssm = &recipe.model.block.ssm;
    [
        ("model.block.ssm.d_model", ssm.d_model, with(&|r| (r.model.block.ssm.d_model, r.model.block.ssm.n_ssm) = (1, 1))),
        ("model.layers", recipe.model.layers, with(&|r| r.model.layers = 1)),
        ("run.batch", recipe.run.batch, with(&|r| (r.run.batch, r.run.accumulate) = (1, 1))),
    ]
}

/// As "1.5 GB".
fn readable(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let place = ((bytes.max(1e3).log10() / 3.0) as usize).clamp(1, UNITS.len());
    format!("{:.1} {}", bytes / 1000f64.powi(place as i32), UNITS[place - 1])
}

/// The memory of this machine, or what a container or a batch system leaves this process of it; `None` where the system does not say.
fn limit() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let container = system.cgroup_limits().map(|limits| limits.total_memory);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).into_iter().flat_map(|group| Path::new(group).ancestors());
    let group = own.filter_map(|group| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(group).join("memory.max")).ok());
    let limits = group.filter_map(|text| text.trim().parse().ok()).chain(container).chain([system.total_memory()]);
    limits.filter(|&limit| limit > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Key;
    use crate::data::Vocabulary;
    use crate::nn::{Model, Module};

    const RECIPE: &str = r#"data = "tiny"
run = { seed = 0, batch = 32, length = { steps = 9 } }
optimizer = { lr = 1e-2, weight_decay = 0.01 }
schedule = "constant"
model.layers = 2
model.block = { norm = "batch", ssm = { d_model = 8, d_state = 4, n_ssm = 1, l_max = 8 } }
"#;

    fn set() -> Dataset {
        let mut set = Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 2);
        (0..100).for_each(|label| set.push_tokens(&[3; 500], label % 2).unwrap());
        set
    }

    fn recipe(changes: &[(&str, &str)]) -> Recipe {
        Recipe::parse(RECIPE, "tiny.toml").unwrap().set_all(changes.iter().copied()).unwrap()
    }

    #[test]
    fn a_model_has_at_least_the_values_that_are_reckoned_and_not_many_more() {
        let all = ["model.block.bidirectional", "model.block.ssm.bidirectional", "model.block.prenorm"];
        for bits in 0..8u32 {
            let value = |at: usize| if bits >> at & 1 == 1 { "true" } else { "false" };
            for size in ["2", "40"] {
                let mut changes: Vec<_> = all.iter().enumerate().map(|(at, key)| (*key, value(at))).collect();
                changes.extend([("model.block.ssm.d_model", size), ("model.block.ssm.d_state", "6")]);
                let config = recipe(&changes).model_for(&set());
                let model = Model::new(&Cpu::<f32>::new(), Key::new(0), &config).unwrap();
                let kept: usize = model.parameters().iter().map(|(_, param)| param.value().numel()).sum();
                let least = config.least_values();
                assert!(least <= kept as f64 && least > 0.75 * kept as f64, "{least} of {kept} for {changes:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_the_field_that_asks_for_it() {
        let set = set();
        let refusal = |changes: &[(&str, &str)], limit| {
            check(&recipe(changes), Data::of(&set, 0), Needs::of_training, Some(limit)).unwrap_err().to_string()
        };
        let gigabyte = 1_000_000_000;
        let most = "9223372036854775807";
        for (key, value) in [
            ("model.block.ssm.d_model", "1000000"),
            ("model.block.ssm.d_model", most),
            ("model.layers", "100000000"),
            ("model.layers", most),
        ] {
            let text = refusal(&[(key, value)], gigabyte);
            assert!(text.starts_with(&format!("{key} = {value}: needs at least ")) && text.contains("there are 1.0 GB"), "{text}");
        }
        // More than the samples that there are is never computed at once.
        assert!(check(&recipe(&[("run.batch", most)]), Data::of(&set, 0), Needs::of_training, Some(gigabyte)).is_ok());
        let step = 32 * 500 * 8 * 2 * 4;
        let own = Needs::of_training(&recipe(&[]), Data::of(&set, 0));
        assert_eq!(own.step, step as f64);
        assert!(refusal(&[], own.total() as u64 - 1).starts_with("run.batch = 32: needs at least 1.0 MB"));
        assert!(check(&recipe(&[]), Data::of(&set, 0), Needs::of_training, Some(own.total() as u64)).is_ok());
        assert!(
            check(&recipe(&[("run.accumulate", "4")]), Data::of(&set, 0), Needs::of_training, Some(own.total() as u64 - step / 2)).is_ok()
        );
    }

    #[test]
    fn the_samples_count_as_what_they_take() {
        let set = set();
        // A byte a token; 16 bytes to find a sample, 8 for its label.
        let least = 100 * (500 + 24);
        assert!((least..3 * least).contains(&set.bytes()), "{}", set.bytes());
        let (own, data) = (Needs::of_training(&recipe(&[]), Data::of(&set, 0)).total(), Data::of(&set, 1_000_000));
        let refusal = check(&recipe(&[]), data, Needs::of_training, Some(own as u64 + 999_999)).unwrap_err().to_string();
        assert!(refusal.contains("(1.0 MB of data, "), "{refusal}");
        assert!(check(&recipe(&[]), data, Needs::of_training, Some(own as u64 + 1_000_000)).is_ok());
    }

    #[test]
    fn the_machine_has_memory() {
        let limit = limit().unwrap_or(u64::MAX);
        assert!(limit > 100_000_000, "{limit}");
        assert_eq!(
            (readable(1.0), readable(999e3), readable(1.26e9), readable(3e22)),
            ("0.0 kB".into(), "999.0 kB".into(), "1.3 GB".into(), "30000.0 EB".into())
        );
    }
}
