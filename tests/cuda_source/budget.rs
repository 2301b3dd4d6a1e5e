//! What training asks of a device: launches, waits and bytes, counted where nothing is computed. A GPU of CUDA is asked for the same.

use std::collections::BTreeMap;

use pspikessm::backend::Transfer;
use pspikessm::data::{Dataset, Splits, Vocabulary};
use pspikessm::train::tasks::{Image, ListOps, PsMnist, Task};
use pspikessm::train::{Ending, FitOptions, Trainer, fit};

use super::dry::{Asked, asked};
use super::{DryCube, cube};

/// The papers' recipes: the task, the length of a sequence, and whether it is of tokens.
pub const RECIPES: [(&dyn Task, usize, bool); 3] = [(&ListOps, 2048, true), (&PsMnist, 784, false), (&Image, 1024, false)];

/// A run of a paper's recipe with so many layers on that device, on one batch of sequences of the recipe's length.
pub fn trainer(device: usize, (task, length, is_of_tokens): (&dyn Task, usize, bool), layers: Option<usize>) -> Trainer<DryCube<f32>> {
    let mut recipe = task.recipe(Some("paper")).unwrap();
    recipe.model.layers = layers.unwrap_or(recipe.model.layers);
    let words: Vec<String> = (0..16).map(|word| format!("w{word}")).collect();
    let mut set = match is_of_tokens {
        true => Dataset::tokens(Vocabulary::new(words).unwrap(), 10),
        false => Dataset::values(1, 10).unwrap(),
    };
    for sample in 0..recipe.run.batch {
        match is_of_tokens {
            true => set.push_tokens(&vec![3; length], sample % 10).unwrap(),
            false => set.push_values(&vec![0.5; length], sample % 10).unwrap(),
        }
    }
    let splits = Splits { train: set.clone(), val: set.clone(), test: set };
    Trainer::new(&cube::<f32>(device), task.name(), recipe, splits).unwrap()
}

/// What a device was asked for by `work`.
fn of(device: usize, work: impl FnOnce()) -> Asked {
    let backend = cube::<f32>(device);
    let wait = || backend.to_vec(&backend.full(&[1], 0.0).unwrap()).unwrap();
    wait();
    asked(device);
    work();
    let own = backend.full(&[1], 0.0).unwrap();
    backend.to_vec(&own).unwrap();
    let mut asked = asked(device);
    // The last launch and the last wait are this function's.
    asked.launches.pop();
    asked.waits -= 1;
    asked
}

/// A training step, and an inference pass over a batch, when everything that is made once is there.
pub fn step_and_pass(device: usize, trainer: &mut Trainer<DryCube<f32>>) -> [Asked; 2] {
    trainer.step().unwrap();
    let step = of(device, || _ = trainer.step().unwrap());
    let batch = trainer.splits().test.batch(&(0..trainer.recipe().run.batch).collect::<Vec<_>>()).unwrap();
    let backend = cube::<f32>(device);
    let pass = || {
        let tape = pspikessm::autodiff::Tape::off(&backend);
        let cx = pspikessm::nn::Context::evaluation(&tape, pspikessm::backend::Key::new(1));
        pspikessm::internal::logits(trainer.model(), &cx, &batch).unwrap();
    };
    pass();
    [step, of(device, pass)]
}

#[test]
fn the_loop_waits_less_than_once_a_step() {
    let (device, batch, steps) = (26, 4, 64u64);
    let mut recipe = ListOps.recipe(Some("quick")).unwrap().with_steps(steps);
    (recipe.run.batch, recipe.model.layers, recipe.model.block.ssm.d_model) = (batch, 1, 8);
    let splits = |samples: usize| {
        let mut set = Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 2);
        (0..samples).for_each(|sample| set.push_tokens(&[3; 20], sample % 2).unwrap());
        set
    };
    // An epoch: the only validation, of one batch, is the end.
    let splits = Splits { train: splits(batch * steps as usize), val: splits(batch), test: splits(batch) };
    let mut trainer = Trainer::new(&cube::<f32>(device), "listops", recipe, splits).unwrap();
    let alone = of(device, || _ = trainer.step().unwrap());
    assert_eq!(alone.waits, 3, "the loss with the logits; whether the gradients are finite; whether the parameters are");
    let asked = of(device, || assert_eq!(fit(&mut trainer, None, FitOptions::default(), &false.into()).unwrap(), Ending::Finished));
    println!("{} waits in {} steps", asked.waits, steps - 1);
    assert_eq!(trainer.steps_done(), steps);
    assert!(asked.waits as u64 <= steps / 4, "{} waits", asked.waits);
}

/// What a step or a pass may ask for.
struct Budget {
    task: &'static str,
    /// Launches of the whole, and of each layer.
    launches: usize,
    layer: usize,
    /// Bytes of all buffers that kernels get, each counted once a launch, in GB.
    gigabytes: f64,
}

const STEPS: [Budget; 3] = [
    Budget { task: "listops", launches: 308, layer: 72, gigabytes: 8.1 },
    Budget { task: "psmnist", launches: 224, layer: 80, gigabytes: 5.8 },
    Budget { task: "image", launches: 445, layer: 71, gigabytes: 37.4 },
];
const PASSES: [Budget; 3] = [
    Budget { task: "listops", launches: 78, layer: 18, gigabytes: 2.6 },
    Budget { task: "psmnist", launches: 40, layer: 13, gigabytes: 1.7 },
    Budget { task: "image", launches: 79, layer: 12, gigabytes: 12.0 },
];

/// Prints what each kernel moves, and returns the sum in GB.
fn moved(asked: &Asked) -> f64 {
    let mut by: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for &(name, bytes) in &asked.launches {
        let own = name.strip_prefix("pspikessm::backend::cube::").unwrap_or(name).split('<').next().unwrap();
        let (count, sum) = by.entry(own).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes);
    }
    let mut by: Vec<_> = by.into_iter().collect();
    by.sort_by_key(|&(_, (_, bytes))| std::cmp::Reverse(bytes));
    by.iter().for_each(|(name, (count, bytes))| println!("| {name} | {count} | {:.1} |", *bytes as f64 / 1e6));
    by.iter().map(|(_, (_, bytes))| *bytes as f64 / 1e9).sum()
}

/// Of the papers' recipes. Fewer is better: then these numbers change.
#[test]
fn a_step_and_a_pass_ask_for_what_is_stated() {
    for (number, recipe) in RECIPES.into_iter().enumerate() {
        let device = 20 + number;
        let [whole, one, two] = [None, Some(1), Some(2)].map(|layers| step_and_pass(device, &mut trainer(device, recipe, layers)));
        for (budget, ((whole, one), two)) in [&STEPS[number], &PASSES[number]].into_iter().zip(whole.iter().zip(&one).zip(&two)) {
            println!("\n{}, {} uploads, {} waits:", budget.task, whole.uploads, whole.waits);
            let gigabytes = moved(whole);
            println!("{gigabytes:.3} GB");
            let found = (budget.task, whole.launches.len(), two.launches.len() - one.launches.len());
            assert_eq!(found, (recipe.0.name(), budget.launches, budget.layer));
            assert!(gigabytes <= budget.gigabytes, "{} moves {gigabytes} GB", budget.task);
        }
    }
}
