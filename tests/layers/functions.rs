//! Functions made of ops: values against their plain definitions, gradients against differences.

use crate::common::says;
use pspikessm::Result;
use pspikessm::autodiff::{Array, Conv, Generate, Padding, Pool, Tape, Var, gradcheck, gradgradcheck};
use pspikessm::backend::*;

type Host = Cpu<f64>;
type V = Var<Host>;

fn var(tape: &Tape<Host>, x: &Array) -> V {
    tape.leaf(&tape.backend().from_vec(x.values.clone(), &x.shape).unwrap())
}

/// Every index of `shape`, in row-major order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let place = |mut at: usize| {
        let mut index = vec![0; shape.len()];
        for (i, len) in index.iter_mut().zip(shape).rev() {
            (*i, at) = (at % len, at / len);
        }
        index
    };
    (0..shape.iter().product()).map(place).collect()
}

fn at(x: &Array, index: &[usize]) -> f64 {
    x.values[index.iter().zip(&x.shape).fold(0, |at, (i, len)| at * len + i)]
}

/// The function's values are `want`, to `tolerance` of the largest, and its gradients, and theirs, those by differences.
fn holds(what: &str, inputs: &[Array], want: &Array, tolerance: f64, f: impl Fn(&[V]) -> Result<V>) {
    let cpu = Host::new();
    let tape = Tape::new(&cpu);
    let out = f(&inputs.iter().map(|x| var(&tape, x)).collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(out.shape(), want.shape, "{what}");
    let largest = want.values.iter().fold(1.0f64, |largest, v| largest.max(v.abs()));
    for (i, (got, want)) in out.to_vec().unwrap().iter().zip(&want.values).enumerate() {
        assert!((got - want).abs() <= tolerance * largest, "{what}, entry {i}: {got} and not {want}");
    }
    gradcheck(&cpu, |_, v| f(v), inputs).unwrap_or_else(|error| panic!("{what}: {error}"));
    gradgradcheck(&cpu, |_, v| f(v), inputs).unwrap_or_else(|error| panic!("{what}, twice: {error}"));
}

fn array(shape: &[usize], f: impl FnMut(&[usize]) -> f64) -> Array {
    Array { values: indices(shape).iter().map(Vec::as_slice).map(f).collect(), shape: shape.into() }
}

/// `index` with another number at `axis`.
fn with(index: &[usize], axis: usize, number: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[axis] = number;
    index
}

#[test]
fn gather_and_scatter_are_what_their_indices_say() {
    let mut generate = Generate::new(5);
    for _ in 0..12 {
        let shape = generate.shape(1..=3, 1..=5);
        let axis = generate.size(0..=shape.len() - 1);
        let picked: Vec<usize> = shape.iter().enumerate().map(|(i, &len)| generate.size(1..=if i == axis { 7 } else { len })).collect();
        let index: Vec<u32> = indices(&picked).iter().map(|_| generate.size(0..=shape[axis] - 1) as u32).collect();
        let named = |i: &[usize]| index[i.iter().zip(&picked).fold(0, |at, (i, len)| at * len + i)] as usize;
        let x = generate.normal(&shape);
        let want = array(&picked, |i| at(&x, &with(i, axis, named(i))));
        holds("gather", std::slice::from_ref(&x), &want, 0.0, |v| v[0].gather(axis, &index, &picked));
        let source = generate.normal(&picked);
        let mut sums = x.clone();
        for i in indices(&picked) {
            let to = with(&i, axis, named(&i)).iter().zip(&shape).fold(0, |at, (i, len)| at * len + i);
            sums.values[to] += at(&source, &i);
        }
        holds("scatter_add", &[x, source], &sums, 1e-14, |v| v[0].scatter_add(axis, &index, &v[1]));
    }
}

#[test]
fn shapes_move_what_they_say() {
    let mut generate = Generate::new(6);
    for _ in 0..8 {
        let shape = generate.shape(1..=3, 1..=5);
        let axis = generate.size(0..=shape.len() - 1);
        let (x, len) = (generate.normal(&shape), shape[axis]);
        let inputs = [x.clone()];
        let other = generate.size(0..=shape.len() - 1);
        let swap = |i: &[usize]| {
            let mut i = i.to_vec();
            i.swap(axis, other);
            i
        };
        let swapped = array(&swap(&shape), |i| at(&x, &swap(i)));
        holds("transpose", &inputs, &swapped, 0.0, |v| v[0].transpose(axis, other));

        let shift = generate.size(0..=12) as isize - 6;
        let from = |i: usize| (i as isize - shift).rem_euclid(len as isize) as usize;
        holds("roll", &inputs, &array(&shape, |i| at(&x, &with(i, axis, from(i[axis])))), 0.0, |v| v[0].roll(axis, shift));

        let (start, step) = (generate.size(0..=len - 1), generate.size(1..=3));
        let count = generate.size(1..=(len - start).div_ceil(step));
        let stepped = array(&with(&shape, axis, count), |i| at(&x, &with(i, axis, start + i[axis] * step)));
        holds("slice_step", &inputs, &stepped, 0.0, |v| v[0].slice_step(axis, start, count, step));

        let (before, after) = (generate.size(0..=2), generate.size(0..=2));
        let padded = array(&with(&shape, axis, before + len + after), |i| match i[axis].checked_sub(before) {
            Some(own) if own < len => at(&x, &with(i, axis, own)),
            _ => 0.75,
        });
        holds("pad", &inputs, &padded, 0.0, |v| v[0].pad(axis, before, after, 0.75));

        let counts: Vec<usize> = (0..shape.len() + generate.size(0..=1)).map(|_| generate.size(1..=3)).collect();
        let own: Vec<usize> = std::iter::repeat_n(1, counts.len() - shape.len()).chain(shape.iter().copied()).collect();
        let whole: Vec<usize> = own.iter().zip(&counts).map(|(len, n)| len * n).collect();
        let tiled = array(&whole, |i| {
            let i: Vec<usize> = i.iter().zip(&own).map(|(i, len)| i % len).collect();
            at(&x, &i[counts.len() - shape.len()..])
        });
        holds("repeat", &inputs, &tiled, 0.0, |v| v[0].repeat(&counts));

        let stacked = array(&[&shape[..axis], &[2], &shape[axis..]].concat(), |i| {
            let sign = if i[axis] == 0 { 1.0 } else { -1.0 };
            sign * at(&x, &[&i[..axis], &i[axis + 1..]].concat())
        });
        holds("stack", &inputs, &stacked, 0.0, |v| Var::stack(&[&v[0], &v[0].neg()?], axis));
        holds("squeeze of unsqueeze", &inputs, &x, 0.0, |v| v[0].unsqueeze(axis)?.squeeze(axis));
        let first = generate.size(1..=len);
        let lengths = if first == len { vec![len] } else { vec![first, len - first] };
        let joined = |parts: Vec<V>| Var::concat(&parts.iter().collect::<Vec<_>>(), axis);
        holds("concat of split", &inputs, &x, 0.0, |v| joined(v[0].split(axis, &lengths)?));
        holds("concat of chunks", &inputs, &x, 0.0, |v| joined(v[0].chunk(axis, first)?));
    }
    let tape = Tape::new(&Host::new());
    let x = tape.arange(0.0, 7.0, 1.0).unwrap();
    let lengths = |count| x.chunk(0, count).unwrap().iter().map(|part| part.shape()[0]).collect::<Vec<_>>();
    assert_eq!((lengths(1), lengths(3), lengths(4), lengths(9)), (vec![7], vec![3, 3, 1], vec![2, 2, 2, 1], vec![1; 7]));
    assert_eq!(tape.arange(1.0, -1.0, -0.5).unwrap().to_vec().unwrap(), [1.0, 0.5, 0.0, -0.5]);
    assert_eq!(tape.arange(2.0, 2.0, 1.0).unwrap().shape(), [0]);
}

/// What is said of one axis of a convolution or a pooling.
#[derive(Clone, Copy, Debug)]
struct Axis {
    kernel: usize,
    stride: usize,
    dilation: usize,
    sides: [usize; 2],
}

impl Axis {
    fn any(generate: &mut Generate) -> Self {
        let [kernel, stride, dilation] = [(); 3].map(|()| generate.size(1..=3));
        Axis { kernel, stride, dilation, sides: [generate.size(0..=2), generate.size(0..=2)] }
    }

    /// Entries that a window spans.
    fn extent(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    fn windows(&self, len: usize) -> usize {
        (len + self.sides[0] + self.sides[1] - self.extent()) / self.stride + 1
    }

    /// Which entry of the input is the window's `entry`-th; `None` in the padding.
    fn entry(&self, window: usize, entry: usize, len: usize) -> Option<usize> {
        (window * self.stride + entry * self.dilation).checked_sub(self.sides[0]).filter(|&i| i < len)
    }
}

/// The definition of a convolution over two axes, with x (B, C, H, W).
fn convolved(x: &Array, weight: &Array, bias: Option<&Array>, axes: [Axis; 2], groups: usize) -> Array {
    let [batch, channels, height, width] = x.shape[..] else { panic!("four axes") };
    let (outputs, per_group) = (weight.shape[0], channels / groups);
    array(&[batch, outputs, axes[0].windows(height), axes[1].windows(width)], |i| {
        let group = i[1] / (outputs / groups);
        let mut sum = bias.map_or(0.0, |bias| bias.values[i[1]]);
        for (c, k, l) in indices(&[per_group, axes[0].kernel, axes[1].kernel]).iter().map(|i| (i[0], i[1], i[2])) {
            if let (Some(y), Some(z)) = (axes[0].entry(i[2], k, height), axes[1].entry(i[3], l, width)) {
                sum += at(x, &[i[0], group * per_group + c, y, z]) * at(weight, &[i[1], c, k, l]);
            }
        }
        sum
    })
}

const UNIT: Axis = Axis { kernel: 1, stride: 1, dilation: 1, sides: [0, 0] };

/// The array without its third axis, which has length 1.
fn flat(x: &Array) -> Array {
    Array { values: x.values.clone(), shape: [&x.shape[..2], &x.shape[3..]].concat() }
}

#[test]
fn convolutions_are_the_sums_that_define_them() {
    let mut generate = Generate::new(7);
    for round in 0..24 {
        let axes = [Axis::any(&mut generate), Axis::any(&mut generate)];
        let (groups, inner, outer) = (generate.size(1..=3), generate.size(1..=2), generate.size(1..=2));
        let [height, width] = axes.map(|axis| axis.extent() + generate.size(0..=2));
        let (batch, with_bias) = (generate.size(1..=2), generate.flag());
        let mut inputs = vec![
            generate.normal(&[batch, groups * inner, height, width]),
            generate.normal(&[groups * outer, inner, axes[0].kernel, axes[1].kernel]),
        ];
        if with_bias {
            inputs.push(generate.normal(&[groups * outer]));
        }
        let conv = Conv::new()
            .stride(axes.map(|axis| axis.stride))
            .dilation(axes.map(|axis| axis.dilation))
            .padding(axes.map(|axis| axis.sides))
            .groups(groups);
        let want = convolved(&inputs[0], &inputs[1], inputs.get(2), axes, groups);
        holds(&format!("conv2d {round}, {conv:?}"), &inputs, &want, 1e-13, |v| v[0].conv2d(&v[1], v.get(2), &conv));

        let axes = [UNIT, axes[1]];
        inputs[0] = generate.normal(&[batch, groups * inner, 1, width]);
        inputs[1] = generate.normal(&[groups * outer, inner, 1, axes[1].kernel]);
        let conv = Conv::new().stride(axes[1].stride).dilation(axes[1].dilation).padding([axes[1].sides]).groups(groups);
        let want = flat(&convolved(&inputs[0], &inputs[1], inputs.get(2), axes, groups));
        inputs[0] = flat(&inputs[0]);
        inputs[1] = flat(&inputs[1]);
        holds(&format!("conv1d {round}, {conv:?}"), &inputs, &want, 1e-13, |v| v[0].conv1d(&v[1], v.get(2), &conv));
    }
}

#[test]
fn named_paddings_are_the_sides_that_they_stand_for() {
    let mut generate = Generate::new(8);
    for (kernel, dilation) in [(1, 1), (2, 1), (3, 2), (4, 1), (4, 3)] {
        let inputs = [generate.normal(&[2, 2, 12]), generate.normal(&[3, 2, kernel])];
        let cpu = Host::new();
        let tape = Tape::off(&cpu);
        let run = |conv: Conv<1>| {
            let conv = conv.dilation(dilation);
            var(&tape, &inputs[0]).conv1d(&var(&tape, &inputs[1]), None, &conv).unwrap()
        };
        let around = (kernel - 1) * dilation;
        let pairs = [
            (run(Conv::new().causal()), run(Conv::new().padding([[around, 0]]))),
            (run(Conv::new().padding(Padding::Same)), run(Conv::new().padding([[around / 2, around - around / 2]]))),
        ];
        for (named, sides) in pairs {
            assert_eq!(named.shape(), [2, 3, 12]);
            assert_eq!(named.to_vec().unwrap(), sides.to_vec().unwrap());
        }
        // What comes later has no say.
        let mut later = inputs[0].clone();
        later.values.iter_mut().enumerate().filter(|(i, _)| i % 12 >= 7).for_each(|(_, v)| *v += 1.0);
        let conv = Conv::new().causal().dilation(dilation);
        let changed = var(&tape, &later).conv1d(&var(&tape, &inputs[1]), None, &conv).unwrap();
        let before = |x: &V| x.slice(2, 0, 7).unwrap().to_vec().unwrap();
        assert_eq!(before(&changed), before(&run(Conv::new().causal())));
    }
}

/// The mean of every window, or its largest entry; the padding counts as 0 in a mean, where it counts.
fn pooled(x: &Array, axes: [Axis; 2], largest: bool, count_padding: bool) -> Array {
    let [batch, channels, height, width] = x.shape[..] else { panic!("four axes") };
    array(&[batch, channels, axes[0].windows(height), axes[1].windows(width)], |i| {
        let mut entries = Vec::new();
        for k in indices(&[axes[0].kernel, axes[1].kernel]) {
            if let (Some(y), Some(z)) = (axes[0].entry(i[2], k[0], height), axes[1].entry(i[3], k[1], width)) {
                entries.push(at(x, &[i[0], i[1], y, z]));
            }
        }
        if largest {
            return entries.iter().fold(f64::NEG_INFINITY, |top, &v| top.max(v));
        }
        entries.iter().sum::<f64>() / if count_padding { axes[0].kernel * axes[1].kernel } else { entries.len() } as f64
    })
}

/// A pooling's axis: the padding is even, and at most half a window.
fn pool_axis(generate: &mut Generate) -> Axis {
    let axis = Axis::any(generate);
    Axis { dilation: 1, sides: [generate.size(0..=axis.kernel / 2); 2], ..axis }
}

#[test]
fn means_of_windows_are_those_of_their_entries() {
    let mut generate = Generate::new(9);
    for round in 0..12 {
        let axes = [pool_axis(&mut generate), pool_axis(&mut generate)];
        let [height, width] = axes.map(|axis| axis.extent() + generate.size(0..=3));
        let (batch, channels, count_padding) = (generate.size(1..=2), generate.size(1..=2), generate.flag());
        let x = generate.normal(&[batch, channels, height, width]);
        let pool = Pool::new(axes.map(|axis| axis.kernel))
            .stride(axes.map(|axis| axis.stride))
            .padding(axes.map(|axis| axis.sides[0]))
            .count_padding(count_padding);
        let want = pooled(&x, axes, false, count_padding);
        holds(&format!("avg_pool2d {round}, {pool:?}"), &[x], &want, 1e-14, |v| v[0].avg_pool2d(&pool));

        let axes = [UNIT, axes[1]];
        let x = generate.normal(&[batch, channels, 1, width]);
        let pool = Pool::new(axes[1].kernel).stride(axes[1].stride).padding(axes[1].sides[0]).count_padding(count_padding);
        let want = flat(&pooled(&x, axes, false, count_padding));
        holds(&format!("avg_pool1d {round}, {pool:?}"), &[flat(&x)], &want, 1e-14, |v| v[0].avg_pool1d(&pool));
    }
}

/// Numbers in random order, none near another, so that a small step changes no order.
fn apart(generate: &mut Generate, shape: &[usize]) -> Array {
    let mut x = array(shape, |_| 0.0);
    let count = x.values.len();
    x.values.iter_mut().enumerate().for_each(|(i, v)| *v = 0.1 * (i as f64 - count as f64 / 2.0));
    (1..count).rev().for_each(|i| x.values.swap(i, generate.size(0..=i)));
    x
}

#[test]
fn largest_entries_of_windows_are_theirs() {
    let mut generate = Generate::new(11);
    for round in 0..12 {
        let axes = [(); 2].map(|()| Axis { dilation: generate.size(1..=2), ..pool_axis(&mut generate) });
        // A window of padding alone has no entry: as many input entries as a window spans are enough that there is none.
        let [height, width] = axes.map(|axis| axis.extent() + generate.size(0..=3));
        let (batch, channels) = (generate.size(1..=2), generate.size(1..=2));
        let x = apart(&mut generate, &[batch, channels, height, width]);
        let pool = Pool::new(axes.map(|axis| axis.kernel))
            .stride(axes.map(|axis| axis.stride))
            .dilation(axes.map(|axis| axis.dilation))
            .padding(axes.map(|axis| axis.sides[0]));
        holds(&format!("max_pool2d {round}, {pool:?}"), std::slice::from_ref(&x), &pooled(&x, axes, true, true), 0.0, |v| {
            v[0].max_pool2d(&pool)
        });

        let axes = [UNIT, axes[1]];
        let x = apart(&mut generate, &[batch, channels, 1, width]);
        let pool = Pool::new(axes[1].kernel).stride(axes[1].stride).dilation(axes[1].dilation).padding(axes[1].sides[0]);
        let want = flat(&pooled(&x, axes, true, true));
        holds(&format!("max_pool1d {round}, {pool:?}"), &[flat(&x)], &want, 0.0, |v| v[0].max_pool1d(&pool));
    }
}

#[test]
fn triangles_keep_their_side_of_a_diagonal_and_leak_nothing() {
    let mut generate = Generate::new(12);
    for shape in [vec![1, 1], vec![3, 3], vec![2, 3, 5], vec![4, 2]] {
        let x = generate.normal(&shape);
        for diagonal in [isize::MIN, -2, -1, 0, 1, 3, isize::MAX] {
            let behind = |i: &[usize]| i[i.len() - 1] as i128 - i[i.len() - 2] as i128 - diagonal as i128;
            let lower = array(&shape, |i| if behind(i) <= 0 { at(&x, i) } else { 0.0 });
            let upper = array(&shape, |i| if behind(i) >= 0 { at(&x, i) } else { 0.0 });
            holds("tril", std::slice::from_ref(&x), &lower, 0.0, |v| v[0].tril(diagonal));
            holds("triu", std::slice::from_ref(&x), &upper, 0.0, |v| v[0].triu(diagonal));
        }
    }
    let tape = Tape::new(&Host::new());
    let x = var(&tape, &Array { values: vec![1.0, f64::NAN, 2.0, f64::INFINITY], shape: vec![2, 2] });
    assert_eq!(x.triu(2).unwrap().to_vec().unwrap(), [0.0; 4]);
    assert!(tape.arange(0.0, 3.0, 1.0).unwrap().tril(0).unwrap_err().to_string().contains("(.., rows, columns)"));
}

/// The states of a diagonal SSM are a complex scan: of an impulse, seen through C, they are the SSM's kernel.
#[test]
fn a_scan_of_an_impulse_is_the_kernel_of_a_diagonal_ssm() {
    let cpu = Host::new();
    let (channels, modes, length) = (3, 4, 50);
    let mut generate = Generate::new(10);
    let mut put = |shape: &[usize], low, high| {
        let x = generate.values(shape, low, high);
        (cpu.from_vec(x.values.clone(), shape).unwrap(), x.values)
    };
    let (inv_dt, log_dt) = put(&[channels], -3.0, -1.0);
    let ((a_real, log_decay), (a_imag, frequency)) = (put(&[1, modes], -0.7, 0.3), put(&[1, modes], 0.1, 8.0));
    let ((b, input), (c, output)) = (put(&[2, 1, modes], -1.0, 1.0), put(&[2, 1, channels, modes], -1.0, 1.0));
    let ssm = SsmParams { inv_dt, a_real, a_imag, b, c, p: None, dt: DtTransform::Exp };
    let kernel = cpu.to_vec(&cpu.diag_kernel(&ssm, Discretization::Zoh, length).unwrap()).unwrap();

    // Zero-order hold: Abar = e^(dt A), Bbar = (Abar - 1) / A B.
    let (mut abar, mut bbar) = (vec![0.0; 2 * channels * modes], vec![0.0; 2 * channels * modes * length]);
    let half = channels * modes;
    for (h, n) in (0..channels).flat_map(|h| (0..modes).map(move |n| (h, n))) {
        let (dt, re, im) = (log_dt[h].exp(), -log_decay[n].exp(), -frequency[n]);
        let (size, angle) = ((dt * re).exp(), dt * im);
        let (x, y) = (size * angle.cos(), size * angle.sin());
        // (Abar - 1) / A, times B.
        let norm = re * re + im * im;
        let (u, v) = (((x - 1.0) * re + y * im) / norm, (y * re - (x - 1.0) * im) / norm);
        let (p, q) = (input[n], input[modes + n]);
        let row = h * modes + n;
        (abar[row], abar[half + row]) = (x, y);
        (bbar[row * length], bbar[(half + row) * length]) = (u * p - v * q, u * q + v * p);
    }
    let tape = Tape::off(&cpu);
    let constant = |values: Vec<f64>, shape: &[usize]| tape.constant(&cpu.from_vec(values, shape).unwrap());
    let (a, b) = (constant(abar, &[2, channels, modes, 1]), constant(bbar, &[2, channels, modes, length]));
    let states = Var::complex_scan(&a, &b, None).unwrap().to_vec().unwrap();
    for (h, t) in (0..channels).flat_map(|h| (0..length).map(move |t| (h, t))) {
        let real = |n: usize| {
            let (row, at) = ((h * modes + n) * length + t, h * modes + n);
            output[at] * states[row] - output[half + at] * states[half * length + row]
        };
        let want = 2.0 * (0..modes).map(real).sum::<f64>();
        assert!((kernel[h * length + t] - want).abs() < 1e-12, "{} and not {want}", kernel[h * length + t]);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let cpu = Host::new();
    let tape = Tape::new(&cpu);
    let zeros = |shape: &[usize]| tape.leaf(&cpu.full(shape, 0.0).unwrap());
    let x = zeros(&[2, 3]);
    says(x.index_select(1, &[3]), &["index_select", "index 3 at position 0"]);
    says(x.index_add(1, &[0], 4), &["index_add", "axis 1"]);
    says(x.expand(&[3, 3]), &["expand", "[2, 3]", "[3, 3]"]);
    says(x.expand(&[3]), &["expand"]);
    says(x.gather(2, &[0], &[1, 1]), &["gather", "axis 2"]);
    says(x.gather(1, &[0], &[1]), &["gather", "as many axes"]);
    says(x.gather(1, &[0, 1], &[1, 1]), &["gather", "2 elements"]);
    says(x.gather(1, &[0; 3], &[3, 1]), &["gather", "axis 0", "only along axis 1"]);
    says(x.gather(1, &[0, 3], &[1, 2]), &["gather", "index 3 at position 1"]);
    says(x.gather(1, &[], &[0, 3]), &["at least one"]);
    says(x.scatter_add(1, &[0, 4], &zeros(&[1, 2])), &["scatter_add", "index 4 at position 1"]);
    says(x.slice_step(1, 0, 2, 0), &["slice_step", "[2, 3]"]);
    says(x.slice_step(1, 1, 2, 2), &["slice_step", "every 2"]);
    says(x.slice_step(1, 0, usize::MAX, 2), &["slice_step"]);
    says(x.slice_step(2, 0, 1, 1), &["slice_step", "axis 2"]);
    says(x.roll(2, 1), &["roll", "axis 2"]);
    says(zeros(&[0]).roll(0, 1), &["roll", "[0]"]);
    says(x.pad(2, 1, 1, 0.0), &["pad", "axis 2"]);
    says(x.pad(0, usize::MAX, 1, 0.0), &["pad"]);
    says(x.transpose(0, 2), &["transpose", "axis 2"]);
    says(x.unsqueeze(3), &["unsqueeze", "not at 3"]);
    says(x.squeeze(1), &["squeeze", "length 3"]);
    says(x.squeeze(2), &["squeeze", "axis 2"]);
    says(V::stack(&[], 0), &["stack", "at least one"]);
    says(V::stack(&[&x, &zeros(&[3, 2])], 0), &["stack", "[2, 3]", "[3, 2]"]);
    says(V::stack(&[&x], 3), &["unsqueeze", "not at 3"]);
    says(x.split(1, &[1, 1]).map(|mut parts| parts.remove(0)), &["split", "[1, 1]", "length 3"]);
    says(x.split(1, &[3, 0]).map(|mut parts| parts.remove(0)), &["0 entries"]);
    says(x.chunk(1, 0).map(|mut parts| parts.remove(0)), &["chunk", "0 parts"]);
    says(x.repeat(&[2]), &["repeat", "[2]"]);
    says(x.repeat(&[2, 0]), &["repeat", "at least 1"]);
    says(x.repeat(&[usize::MAX, 2]), &["repeat", "memory"]);
    says(tape.arange(0.0, 1.0, 0.0), &["step"]);
    says(tape.arange(0.0, 1.0, -1.0), &["step"]);
    says(tape.arange(0.0, f64::NAN, 1.0), &["step"]);
    says(tape.arange(0.0, 1e300, 1.0), &["arange", "memory"]);
    says(tape.one_hot(&[0, 3], 3), &["one_hot", "label 3 at position 1"]);
    says(Var::scan(&x, &zeros(&[2, 4]), None), &["scan", "[2, 3]", "[2, 4]"]);
    says(Var::complex_scan(&x, &zeros(&[3, 4]), None), &["scan", "planar"]);

    let (sequence, weight) = (zeros(&[2, 4, 5]), zeros(&[6, 4, 3]));
    let conv = |x: &V, weight: &V, bias: Option<&V>, conv: Conv<1>| x.conv1d(weight, bias, &conv);
    says(conv(&x, &weight, None, Conv::new()), &["conv1d", "batch, channels, length"]);
    says(conv(&zeros(&[2, 0, 5]), &weight, None, Conv::new()), &["conv1d", "[2, 0, 5]"]);
    says(conv(&sequence, &x, None, Conv::new()), &["conv1d", "outputs, channels / groups"]);
    says(conv(&sequence, &zeros(&[6, 4, 0]), None, Conv::new()), &["conv1d", "the weight"]);
    says(conv(&sequence, &zeros(&[6, 3, 3]), None, Conv::new()), &["conv1d", "axis 1", "4 channels"]);
    says(conv(&sequence, &weight, Some(&zeros(&[4])), Conv::new()), &["conv1d", "the bias"]);
    says(conv(&sequence, &weight, None, Conv::new().groups(3)), &["groups = 3", "4 channels and 6 outputs"]);
    says(conv(&sequence, &weight, None, Conv::new().groups(0)), &["groups = 0"]);
    says(conv(&sequence, &weight, None, Conv::new().stride(0)), &["stride", "at least 1"]);
    says(conv(&sequence, &weight, None, Conv::new().dilation(0)), &["dilation", "at least 1"]);
    says(conv(&sequence, &weight, None, Conv::new().dilation(3)), &["conv1d", "axis 2", "spans 7"]);
    says(conv(&sequence, &weight, None, Conv::new().dilation(usize::MAX)), &["conv1d"]);
    says(conv(&sequence, &weight, None, Conv::new().padding(usize::MAX)), &["conv1d", "memory"]);
    says(conv(&sequence, &weight, None, Conv::new().padding(Padding::Same).stride(2)), &["padding = Same", "stride 1"]);
    says(zeros(&[2, 4, 5]).conv2d(&weight, None, &Conv::new()), &["conv2d", "height, width"]);
    says(sequence.avg_pool1d(&Pool::new(0)), &["kernel", "at least 1"]);
    says(sequence.avg_pool1d(&Pool::new(6)), &["avg_pool1d", "axis 2", "spans 6"]);
    says(sequence.avg_pool1d(&Pool::new(3).padding(2)), &["padding = 2", "half"]);
    says(sequence.avg_pool1d(&Pool::new(3).stride(0)), &["stride"]);
    says(sequence.max_pool1d(&Pool::new(6)), &["max_pool1d", "axis 2", "spans 6"]);
    says(sequence.max_pool2d(&Pool::new(2)), &["max_pool2d", "height, width"]);
}
