//! The optimiser knows parameters by identity: tied weights, late ones, failed updates, another model's gradients.

use crate::common::{Array, assert_close, fetch, host};
use pspikessm::autodiff::{Gradients, Tape};
use pspikessm::backend::{Binary, Cpu, Elementwise, Key, Tensor, Unary};
use pspikessm::nn::store::{Archive, load, save};
use pspikessm::nn::{AdamWConfig, Context, Module, Moved, Moving, Names, Optimizer, Param, ParamOptions, ParamState, Step, UpdateRule};
use pspikessm::{Error, Result};

type B = Cpu<f64>;

const LR: f64 = 1e-2;

/// Parameters under names.
struct Named(Vec<(&'static str, Param<B>)>);

impl Module<B> for Named {
    fn names(&self, names: &mut Names<'_, B>) {
        self.0.iter().for_each(|(name, param)| names.param(name, param));
    }
}

fn tensor(cpu: &B, values: &[f64]) -> Tensor<B> {
    Array::new(&[values.len()], values.to_vec()).tensor(cpu)
}

fn param(cpu: &B, values: &[f64]) -> Param<B> {
    Param::new(tensor(cpu, values), ParamOptions::PLAIN)
}

fn optimizer() -> Optimizer<B> {
    Optimizer::new(AdamWConfig::new(LR, 0.0)).unwrap()
}

/// The gradients of sum of 3 x over `params`.
fn gradients(cpu: &B, params: &[&Param<B>]) -> Gradients<B> {
    let tape = Tape::new(cpu);
    let cx = Context::training(&tape, Key::new(0));
    let terms = params.iter().map(|param| cx.var(param).scale(3.0).unwrap().sum().unwrap());
    terms.reduce(|sum, term| sum.add(&term).unwrap()).unwrap().backward().unwrap()
}

#[test]
fn tied_weights_are_stepped_counted_and_stored_once() {
    let cpu = B::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tied.safetensors");
    let (shared, own) = (param(&cpu, &[1.0, 2.0]), param(&cpu, &[5.0]));
    let tied = Named(vec![("encoder", shared.clone()), ("own", own.clone()), ("decoder", shared.clone())]);
    assert_eq!(tied.num_parameters(), 3);
    assert_eq!(tied.parameters().iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["encoder", "own"]);
    let mut optimizer = optimizer();
    optimizer.update(&cpu, &tied, &gradients(&cpu, &[&shared, &own, &shared]), 1.0).unwrap();
    // Adam's first step is the rate itself, whatever the gradient's size.
    assert_close("moved", &host(&cpu, &shared.value()), &[1.0 - LR, 2.0 - LR], 1e-8);
    assert_eq!(optimizer.state(&shared).unwrap().step, 1);

    save(&cpu, &tied, &path).unwrap();
    assert_eq!(Archive::read(&path).unwrap().tensors.keys().collect::<Vec<_>>(), ["encoder", "own"]);
    let fresh = param(&cpu, &[0.0, 0.0]);
    let again = Named(vec![("encoder", fresh.clone()), ("own", param(&cpu, &[0.0])), ("decoder", fresh)]);
    load(&cpu, &again, &path).unwrap();
    assert_eq!(fetch(&cpu, &again, "encoder"), fetch(&cpu, &tied, "encoder"));

    // A file that holds both names will do if they agree.
    let mut archive = Archive::read(&path).unwrap();
    archive.insert(&cpu, "decoder", &shared.value()).unwrap();
    archive.write(&path).unwrap();
    load(&cpu, &again, &path).unwrap();
    archive.insert(&cpu, "decoder", &tensor(&cpu, &[7.0, 7.0])).unwrap();
    archive.write(&path).unwrap();
    let message = load(&cpu, &again, &path).unwrap_err().to_string();
    assert!(message.contains("encoder and decoder are one parameter"), "{message}");
}

#[test]
fn a_parameter_that_joins_late_starts_afresh() {
    let cpu = B::new();
    let (early, late) = (param(&cpu, &[1.0]), param(&cpu, &[1.0]));
    let both = Named(vec![("early", early.clone()), ("late", late.clone())]);
    let mut optimizer = optimizer();
    for _ in 0..200 {
        optimizer.update(&cpu, &both, &gradients(&cpu, &[&early]), 1.0).unwrap();
    }
    assert!(optimizer.state(&late).is_none());
    optimizer.update(&cpu, &both, &gradients(&cpu, &[&early, &late]), 1.0).unwrap();
    assert_close("the first move", &[(1.0 - host(&cpu, &late.value())[0]) / LR], &[1.0], 1e-8);
    assert_eq!((optimizer.steps(), optimizer.state(&early).unwrap().step, optimizer.state(&late).unwrap().step), (201, 201, 1));
}

#[test]
fn a_failed_update_leaves_everything_as_it_was() {
    let cpu = B::new();
    let (first, second) = (param(&cpu, &[1.0]), param(&cpu, &[1.0, 2.0]));
    let both = Named(vec![("first", first.clone()), ("second", second.clone())]);
    let mut optimizer = optimizer();
    optimizer.update(&cpu, &both, &gradients(&cpu, &[&first, &second]), 1.0).unwrap();
    let state = |optimizer: &Optimizer<B>| {
        let remembered = |param: &Param<B>| {
            let ParamState { step, slots } = optimizer.state(param).unwrap();
            (*step, slots.iter().map(|slot| host(&cpu, slot)).collect::<Vec<_>>(), host(&cpu, &param.value()), param.version())
        };
        (optimizer.steps(), remembered(&first), remembered(&second))
    };
    let before = state(&optimizer);
    // The second parameter's gradient has another shape: what fails comes after the first parameter's turn.
    let tape = Tape::new(&cpu);
    let (x, y) = (tape.parameter(first.identity(), &first.value()), tape.parameter(second.identity(), &tensor(&cpu, &[1.0; 3])));
    let wrong = x.add(&y).unwrap().sum().unwrap().backward().unwrap();
    assert!(matches!(optimizer.update(&cpu, &both, &wrong, 1.0), Err(Error::Shape { op: "Optimizer::update", .. })));
    assert_eq!(state(&optimizer), before);
}

/// Takes the gradient away, for so many parameters of a step.
struct Few(usize);

impl UpdateRule<B> for Few {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn lr(&self) -> f64 {
        LR
    }

    fn slots(&self) -> &'static [&'static str] {
        &[]
    }

    fn moved(&self, cpu: &B, step: &Step, value: &Tensor<B>, _: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        Ok((cpu.binary(Binary::Sub, value, &cpu.unary(Unary::Linear(step.lr, 0.0), grad)?)?, vec![]))
    }

    fn all_moved(&self, cpu: &B, params: &[Moving<B>]) -> Result<Vec<Moved<B>>> {
        params.iter().take(self.0).map(|of| self.moved(cpu, &of.step, &of.value, &of.slots, &of.grad)).collect()
    }
}

#[test]
fn a_rule_for_all_parameters_at_once_must_move_them_all() {
    let cpu = B::new();
    let (a, b) = (param(&cpu, &[1.0, 2.0]), param(&cpu, &[3.0]));
    let (both, module) = (gradients(&cpu, &[&a, &b]), Named(vec![("a", a.clone()), ("b", b.clone())]));
    let error = Optimizer::new(Few(1)).unwrap().update(&cpu, &module, &both, 1.0).unwrap_err();
    assert!(error.to_string().contains("moved 1 of 2"), "{error}");
    assert_eq!([host(&cpu, &a.value()), host(&cpu, &b.value())], [vec![1.0, 2.0], vec![3.0]]);
    Optimizer::new(Few(2)).unwrap().update(&cpu, &module, &both, 1.0).unwrap();
    assert_close("b", &host(&cpu, &b.value()), &[3.0 - 3.0 * LR], 1e-15);
}

#[test]
fn the_gradients_of_another_model_are_refused() {
    let cpu = B::new();
    let (one, other) = (param(&cpu, &[1.0]), param(&cpu, &[1.0]));
    let module = Named(vec![("one", one.clone()), ("buffer", Param::full(&cpu, &[1], 0.0, ParamOptions::Buffer).unwrap())]);
    let mut optimizer = optimizer();
    let refused: Result<()> = optimizer.update(&cpu, &module, &gradients(&cpu, &[&other]), 1.0);
    assert!(refused.unwrap_err().to_string().contains("another model's gradients"));
    assert_eq!((optimizer.steps(), host(&cpu, &one.value())), (0, vec![1.0]));
    // Of a larger model's gradients a part of it takes its own.
    optimizer.update(&cpu, &module, &gradients(&cpu, &[&other, &one]), 1.0).unwrap();
    assert_eq!((optimizer.steps(), host(&cpu, &other.value())), (1, vec![1.0]));
}

#[test]
fn a_restored_optimiser_goes_on_as_the_old_one() {
    let cpu = B::new();
    let run = |stop: Option<usize>| {
        let x = param(&cpu, &[1.0, -1.0]);
        let module = Named(vec![("x", x.clone())]);
        let mut own = optimizer();
        for step in 0..6 {
            if stop == Some(step) {
                let kept = own.state(&x).cloned().map(|state| (x.clone(), state));
                let mut next = optimizer();
                next.restore(own.steps(), kept).unwrap();
                own = next;
            }
            own.update(&cpu, &module, &gradients(&cpu, &[&x]), 1.0 / (1.0 + step as f64)).unwrap();
        }
        host(&cpu, &x.value())
    };
    assert_eq!(run(Some(3)), run(None));
    let (x, wrong) = (param(&cpu, &[1.0]), tensor(&cpu, &[0.0; 2]));
    let state = ParamState { step: 1, slots: vec![wrong.clone(), wrong.clone()] };
    assert!(matches!(optimizer().restore(1, [(x.clone(), state)]), Err(Error::Shape { op: "Optimizer::restore", .. })));
    let foreign = optimizer().restore(1, [(x, ParamState { step: 1, slots: vec![wrong] })]).unwrap_err().to_string();
    assert!(foreign.contains("1 tensors") && foreign.contains("second_moment"), "{foreign}");
}
