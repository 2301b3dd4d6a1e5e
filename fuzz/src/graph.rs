//! Random graphs of ops on the tape, whose gradients are held against central differences.

use pspikessm::autodiff::{Array, Tape, Var, gradcheck};
use pspikessm::backend::Cpu;
use pspikessm::error::{Error, Result};

type V = Var<Cpu<f64>>;

/// Ops in a graph at most: what is longer finds nothing more, and takes longer.
const OPS: usize = 12;
/// Numbers in a variable at most.
const NUMBERS: usize = 256;

/// The bytes say two shapes and values, then three bytes for every op: which, and of what.
pub fn tape(bytes: &[u8]) {
    let Some((shapes, rest)) = bytes.split_at_checked(4) else { return };
    let (values, program) = rest.split_at(rest.len().min(16));
    let side = |byte: u8| usize::from(byte % 3) + 1;
    let input = |shape: [usize; 2], from: usize| {
        let value = |i: usize| f64::from(*values.get((from + i) % values.len().max(1)).unwrap_or(&7)) / 160.0 - 0.8 + 0.01 * i as f64;
        Array { values: (0..shape.iter().product()).map(value).collect(), shape: shape.into() }
    };
    let inputs = [input([side(shapes[0]), side(shapes[1])], 0), input([side(shapes[2]), side(shapes[3])], 5)];
    let steps: Vec<[u8; 3]> = program.chunks_exact(3).take(OPS).map(|step| [step[0], step[1], step[2]]).collect();
    match gradcheck(&Cpu::<f64>::new(), |tape, inputs| run(tape, inputs, &steps), &inputs) {
        Ok(_) => {}
        // A graph that no stencil can judge, or that left the finite numbers, says so.
        Err(Error::Gradient { help, .. }) if help.contains("finite") => {}
        Err(error) => panic!("{error}\n{steps:?}\n{inputs:?}"),
    }
}

/// Runs the steps over a stack that begins with the inputs. A step that is refused leaves the stack as it is.
fn run(_: &Tape<Cpu<f64>>, inputs: &[V], steps: &[[u8; 3]]) -> Result<V> {
    let mut stack = inputs.to_vec();
    for &[op, first, second] in steps {
        let (x, y) = (&stack[usize::from(first) % stack.len()], &stack[usize::from(second) % stack.len()]);
        if let Ok(made) = step(op, x, y, second)
            && made.shape().iter().product::<usize>() <= NUMBERS
        {
            stack.push(made);
        }
    }
    // All that nothing else uses counts, too.
    let mut total = stack[0].sum()?;
    for var in &stack[1..] {
        total = total.add(&var.tanh()?.sum()?)?;
    }
    Ok(total)
}

/// One op. What grows is drawn back by tanh, so that central differences can follow.
fn step(op: u8, x: &V, y: &V, number: u8) -> Result<V> {
    let number = usize::from(number);
    let axis = number % x.shape().len().max(1);
    let len = x.shape().get(axis).copied().unwrap_or(1).max(1);
    match op % 42 {
        0 => x.add(y),
        1 => x.sub(y),
        2 => x.mul(y)?.tanh(),
        3 => x.div(&y.square()?.linear_map(1.0, 1.0)?)?.tanh(),
        4 => x.matmul(y)?.tanh(),
        5 => x.tanh()?.exp()?.linear_map(0.3, -0.1),
        6 => x.square()?.linear_map(1.0, 0.5)?.ln()?.tanh(),
        7 => x.square()?.linear_map(1.0, 0.5)?.sqrt(),
        8 => x.square()?.linear_map(1.0, 0.5)?.recip(),
        9 => x.sigmoid(),
        10 => x.softplus(),
        11 => x.gelu(),
        12 => x.neg(),
        13 => x.sum_axes(&[axis]),
        14 => x.mean(),
        15 => x.flip(axis),
        16 => V::concat(&[x, y], axis),
        17 => x.slice(axis, number % 2, (number / 2) % 3 + 1),
        18 => {
            let mut axes: Vec<usize> = (0..x.shape().len()).collect();
            axes.rotate_left(axis);
            x.permute(&axes)
        }
        19 => x.reshape(&[x.shape().iter().product()]),
        20 => x.matmul_transposed(y, number % 2 == 0, number % 4 < 2)?.tanh(),
        21 => x.sum_to(y.shape()),
        22 => x.index_select(axis, &[number % len, number / 2 % len, 0].map(|i| i as u32)),
        23 => x.index_add(axis, &(0..len).map(|i| (i * number % (len + 1)) as u32).collect::<Vec<_>>(), len + 1),
        24 => x.roll(axis, number as isize - 128),
        25 => x.pad(axis, number % 2, number / 2 % 2, 0.25),
        26 => x.repeat(&[number % 2 + 1, number / 2 % 2 + 1]),
        27 => V::scan(&x.tanh()?, y, None)?.tanh(),
        28 => x.expand(y.shape()),
        29 => x.tril(number as isize - 128),
        30 => x.tanh()?.scale(3.0)?.sin(),
        31 => x.tanh()?.scale(3.0)?.cos()?.mul(&y.tanh()?.erf()?),
        32 => x.silu(),
        33 => x.tanh()?.expm1(),
        34 => x.square()?.log1p()?.tanh(),
        35 => x.tanh()?.linear_map(1.0, 1.5)?.pow(&y.tanh()?),
        36 => x.tanh()?.softmax(axis),
        37 => x.tanh()?.log_softmax(axis),
        38 => x.cumsum(axis)?.tanh(),
        39 => x.tanh()?.logsumexp_axes(&[axis]),
        40 => x.tanh()?.prod_keep(&[axis]),
        _ => x.var_axes(&[axis], 0)?.tanh(),
    }
}
