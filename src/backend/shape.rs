//! Every shape rule of the crate: broadcasting, axes, products, and what the domain kernels expect.
//!
//! A backend method asks the rule of its operands before it computes anything; most rules answer with the shape of the result.

use crate::error::{Error, Result};

/// `shape` describes a tensor that memory could hold: the product of its lengths can be counted, also where one of them is 0.
pub fn countable(op: &'static str, shape: &[usize]) -> Result<()> {
    const BYTES: usize = 8;
    let elements = shape.iter().try_fold(BYTES, |product, &len| product.checked_mul(len.max(1)));
    match elements {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(Error::value(op, format!("a tensor of shape {shape:?} is larger than any memory: give smaller lengths"))),
    }
}

/// The tensor called `what` has at least one element.
pub fn filled(op: &'static str, what: &str, given: &[usize]) -> Result<()> {
    if given.contains(&0) {
        return Err(Error::value(op, format!("{what} has shape {given:?}: every axis must be at least 1")));
    }
    Ok(())
}

/// `given` is the shape of the gradient of an output of shape `output`.
pub fn gradient(op: &'static str, output: &[usize], given: &[usize]) -> Result<()> {
    exactly(op, "the gradient, like the output,", output, given)
}

/// The shape that `left` and `right` broadcast to: axes align from the right, an axis of 1 stretches.
///
/// # Errors
/// [`Error::Shape`] where two lengths differ and neither is 1; [`Error::Value`] where memory could not hold the result.
pub fn broadcast(op: &'static str, left: &[usize], right: &[usize]) -> Result<Vec<usize>> {
    let rank = left.len().max(right.len());
    let at = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let joint: Vec<usize> = (0..rank)
        .map(|axis| match (at(left, axis), at(right, axis)) {
            (l, r) if l == r => Ok(l),
            (1, r) => Ok(r),
            (l, 1) => Ok(l),
            _ => Err(Error::shape(op, axis, left, right, "axes must be equal or 1 to broadcast: reshape one of the two")),
        })
        .collect::<Result<_>>()?;
    countable(op, &joint)?;
    Ok(joint)
}

/// The shape that a mask and the two tensors that it selects from broadcast to.
pub fn select(mask: &[usize], a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    broadcast("select", mask, &broadcast("select", a, b)?)
}

/// `given` with the axes over which it is reduced at 1.
pub fn reduced(op: &'static str, given: &[usize], axes: &[usize]) -> Result<Vec<usize>> {
    let mut kept = given.to_vec();
    for (i, &along) in axes.iter().enumerate() {
        kept[axis(op, along, given)?] = 1;
        if axes[..i].contains(&along) {
            return Err(Error::value(op, format!("axis {along} is named twice in {axes:?}")));
        }
    }
    Ok(kept)
}

/// [`reduced`], where each result is made of at least `least` values.
pub fn reduced_of(op: &'static str, given: &[usize], axes: &[usize], least: usize) -> Result<Vec<usize>> {
    let kept = reduced(op, given, axes)?;
    let count: usize = axes.iter().map(|&axis| given[axis]).product();
    if count < least {
        let help = format!("shape {given:?} over axes {axes:?} has {count} values for each result: there must be at least {least}");
        return Err(Error::value(op, help));
    }
    Ok(kept)
}

/// `given` without these axes, which exist.
pub fn without(given: &[usize], axes: &[usize]) -> Vec<usize> {
    given.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &len)| len).collect()
}

/// Where the element that stands at `position` of `shape` comes from in a tensor of shape `own`, which broadcasts to it.
pub fn offset(mut position: usize, shape: &[usize], own: &[usize]) -> usize {
    let (mut offset, mut stride) = (0, 1);
    for (back, &len) in shape.iter().rev().enumerate() {
        let index = position % len;
        position /= len;
        let Some(axis) = own.len().checked_sub(back + 1) else { break };
        if own[axis] != 1 {
            offset += index * stride;
        }
        stride *= own[axis];
    }
    offset
}

/// (outer, len, inner) sizes of a shape around an axis, which must exist.
pub fn around(op: &'static str, given: &[usize], along: usize) -> Result<[usize; 3]> {
    axis(op, along, given)?;
    Ok([given[..along].iter().product(), given[along], given[along + 1..].iter().product()])
}

/// [`around`] an axis along which a maximum is looked for.
pub fn argmax(given: &[usize], axis: usize) -> Result<[usize; 3]> {
    reduced_of("argmax", given, &[axis], 1)?;
    around("argmax", given, axis)
}

/// Whether a tensor of shape `from` broadcasts to exactly `to`.
pub fn broadcasts_to(op: &'static str, from: &[usize], to: &[usize]) -> Result<()> {
    match broadcast(op, from, to) {
        Ok(joint) if joint == to => Ok(()),
        _ => Err(Error::shape(op, None, from, to, "the first shape must broadcast to the second")),
    }
}

/// Both shapes hold as many elements.
pub fn same_numel(op: &'static str, left: &[usize], right: &[usize]) -> Result<()> {
    // A shape that no machine can hold is as wrong as any other.
    if countable(op, left).is_err() || countable(op, right).is_err() {
        return Err(Error::shape(op, None, left, right, "one of them is larger than any memory: give a shape with the same product"));
    }
    let [l, r] = [left, right].map(|shape| shape.iter().product::<usize>());
    if l == r {
        return Ok(());
    }
    Err(Error::shape(op, None, left, right, format!("{l} elements cannot be laid out as {r}: give a shape with the same product")))
}

/// (samples, channels, steps) of a tensor of any shape that noise is drawn for. The first axis counts samples, the last one time steps,
/// and what is between them channels; (batch, channels) is one step, one axis is the steps of one channel of one sample.
pub fn rows(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [] => [1; 3],
        [length] => [1, 1, length],
        [batch, channels] => [batch, channels, 1],
        [batch, ref channels @ .., length] => [batch, channels.iter().product(), length],
    }
}

/// `given` is exactly `wanted`; `what` names the tensor in the message.
pub fn exactly(op: &'static str, what: &str, wanted: &[usize], given: &[usize]) -> Result<()> {
    if wanted == given {
        return Ok(());
    }
    let axis = (wanted.len() == given.len()).then(|| wanted.iter().zip(given).position(|(w, g)| w != g)).flatten();
    Err(Error::shape(op, axis, wanted, given, format!("{what} must have the first of these shapes")))
}

/// The tensor called `what` has `rank` axes, named by `axes`.
pub fn rank(op: &'static str, what: &str, axes: &[&str], given: &[usize]) -> Result<()> {
    if axes.len() == given.len() {
        return Ok(());
    }
    Err(Error::value(op, format!("{what} has shape {given:?}, but it must have {} axes: ({})", axes.len(), axes.join(", "))))
}

/// (batch, channels, length) of a sequence tensor, none of them zero.
pub fn sequence(op: &'static str, what: &str, given: &[usize]) -> Result<[usize; 3]> {
    rank(op, what, &["batch", "channels", "length"], given)?;
    let [b, h, l] = [given[0], given[1], given[2]];
    if b == 0 || h == 0 || l == 0 {
        return Err(Error::value(op, format!("{what} has shape {given:?}: batch, channels and length must be at least 1")));
    }
    Ok([b, h, l])
}

/// x (batch, channels, length) has more than one value a channel.
pub fn has_variance(op: &'static str, x: &[usize]) -> Result<()> {
    let [batch, _, length] = sequence(op, "x", x)?;
    if batch * length > 1 {
        return Ok(());
    }
    let help = format!(
        "x has shape {x:?}, and one value a channel has no variance: give more than one sequence or step, normalise with the running \
         statistics, or use layer_norm"
    );
    Err(Error::value(op, help))
}

/// `axis` exists in `shape`.
pub fn axis(op: &'static str, axis: usize, given: &[usize]) -> Result<usize> {
    if axis < given.len() {
        return Ok(axis);
    }
    Err(Error::value(op, format!("axis {axis} does not exist in shape {given:?}: axes count from 0 to {}", given.len().saturating_sub(1))))
}

/// `lengths` gives one true length, from 1 to `length`, for every one of `batch` sequences.
pub fn lengths(op: &'static str, lengths: Option<&[usize]>, batch: usize, length: usize) -> Result<()> {
    let Some(lengths) = lengths else { return Ok(()) };
    if lengths.len() != batch {
        return Err(Error::shape(op, 0, &[batch], &[lengths.len()], "give one true length for every sequence of the batch"));
    }
    match lengths.iter().position(|&l| l == 0 || l > length) {
        None => Ok(()),
        Some(i) => {
            Err(Error::value(op, format!("length {} of sequence {i} must lie between 1 and the padded length {length}", lengths[i])))
        }
    }
}

/// A matrix product's shapes: `left` (.., m, k) times `right` (.., k, n) after the transpositions, with batch axes that broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The batch axes of the result.
    pub batch: Vec<usize>,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// The axis that is summed.
    pub k: usize,
}

/// Checks a matrix product and names its sizes.
///
/// # Errors
/// [`Error::Shape`] where a factor is no matrix or the shapes do not fit; [`Error::Value`] where memory could not hold the result.
pub fn product(left: &[usize], transpose_left: bool, right: &[usize], transpose_right: bool) -> Result<Product> {
    if left.len() < 2 || right.len() < 2 {
        return Err(Error::shape(
            "matmul",
            None,
            left,
            right,
            "both operands need at least two axes: reshape a vector to (1, n) or (n, 1)",
        ));
    }
    let split = |shape: &[usize], transpose: bool| {
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        if transpose { (columns, rows) } else { (rows, columns) }
    };
    let ((m, k), (k_right, n)) = (split(left, transpose_left), split(right, transpose_right));
    if k != k_right {
        return Err(Error::shape(
            "matmul",
            left.len() - 1,
            left,
            right,
            format!("the summed axes have lengths {k} and {k_right}: transpose one operand?"),
        ));
    }
    let batch = broadcast("matmul", &left[..left.len() - 2], &right[..right.len() - 2])?;
    countable("matmul", &[batch.as_slice(), &[m, n]].concat())?;
    Ok(Product { batch, m, n, k })
}

/// The sizes of a DPLR or diagonal SSM, read off its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssm {
    /// Channels, H.
    pub d_model: usize,
    /// Independent copies of A, B, P: S, a divisor of H.
    pub n_ssm: usize,
    /// Stored half of the conjugate pairs: M = d_state / 2.
    pub half_state: usize,
    /// Rank of the correction: 1 or 2 (0 for a diagonal SSM).
    pub rank: usize,
    /// Kernels a channel: 1 (causal) or 2 (causal and anticausal).
    pub channels: usize,
}

/// Checks the stored parameters of an SSM against each other.
pub fn ssm(
    op: &'static str,
    inv_dt: &[usize],
    a_real: &[usize],
    a_imag: &[usize],
    b: &[usize],
    c: &[usize],
    p: Option<&[usize]>,
) -> Result<Ssm> {
    rank(op, "inv_dt", &["d_model"], inv_dt)?;
    rank(op, "A_real", &["n_ssm", "d_state / 2"], a_real)?;
    rank(op, "C", &["2", "channels", "d_model", "d_state / 2"], c)?;
    let (d_model, n_ssm, half_state, channels) = (inv_dt[0], a_real[0], a_real[1], c[1]);
    if d_model == 0 || n_ssm == 0 || half_state == 0 {
        return Err(Error::value(op, "d_model, n_ssm and d_state must be at least 1, 1 and 2"));
    }
    if !d_model.is_multiple_of(n_ssm) {
        return Err(Error::config("n_ssm", n_ssm, format!("must divide d_model = {d_model}")));
    }
    if channels != 1 && channels != 2 {
        return Err(Error::shape(op, 1, &[2, 2, d_model, half_state], c, "C holds one kernel (causal) or two (bidirectional)"));
    }
    exactly(op, "A_imag", a_real, a_imag)?;
    exactly(op, "B", &[2, n_ssm, half_state], b)?;
    exactly(op, "C", &[2, channels, d_model, half_state], c)?;
    let mut of_rank = 0;
    if let Some(p) = p {
        rank(op, "P", &["2", "rank", "n_ssm", "d_state / 2"], p)?;
        of_rank = p[1];
        if of_rank != 1 && of_rank != 2 {
            return Err(Error::shape(op, 1, &[2, 1, n_ssm, half_state], p, "the low-rank correction has rank 1 or 2"));
        }
        exactly(op, "P", &[2, of_rank, n_ssm, half_state], p)?;
    }
    Ok(Ssm { d_model, n_ssm, half_state, rank: of_rank, channels })
}

/// Checks a long convolution: input (B, H, L), kernels (c, H, Lk), optional skip (H).
pub fn long_conv(input: &[usize], kernel: &[usize], skip: Option<&[usize]>, true_lengths: Option<&[usize]>) -> Result<[usize; 3]> {
    const OP: &str = "long_conv";
    let [batch, channels, length] = sequence(OP, "the input", input)?;
    rank(OP, "the kernel", &["1 or 2", "channels", "length"], kernel)?;
    if kernel[0] != 1 && kernel[0] != 2 {
        return Err(Error::shape(OP, 0, &[2, channels, length], kernel, "give one kernel (causal) or two (causal and anticausal)"));
    }
    if kernel[1] != channels {
        return Err(Error::shape(OP, 1, input, kernel, "the kernel must have as many channels as the input"));
    }
    if kernel[2] == 0 {
        return Err(Error::value(OP, "the kernel is empty: its length must be at least 1"));
    }
    if let Some(skip) = skip {
        exactly(OP, "D", &[channels], skip)?;
    }
    lengths(OP, true_lengths, batch, length)?;
    Ok([batch, channels, length])
}

/// The planar spectrum (2, .., n / 2 + 1) of real signals (.., n), which hold at least one value each.
pub fn spectrum_of(op: &'static str, given: &[usize]) -> Result<Vec<usize>> {
    match given {
        [outer @ .., n] if *n > 0 => Ok([&[2], outer, &[n / 2 + 1]].concat()),
        _ => Err(Error::value(op, format!("shape {given:?} has no last axis of length 1 or more to transform"))),
    }
}

/// x (B, H, L) or (B, H), nothing empty, with scale and shift (H); (B, H, L), where L is 1 for two axes.
pub fn affine(op: &'static str, x: &[usize], scale: &[usize], shift: &[usize]) -> Result<[usize; 3]> {
    let (batch, channels, length) = match *x {
        [batch, channels] => (batch, channels, 1),
        [batch, channels, length] => (batch, channels, length),
        _ => return Err(Error::shape(op, None, x, scale, "x must be (batch, channels, length) or (batch, channels)")),
    };
    filled(op, "x", x)?;
    for given in [scale, shift] {
        if given != [channels] {
            return Err(Error::shape(op, 1, x, given, format!("scale and shift must hold one number a channel: give shape [{channels}]")));
        }
    }
    Ok([batch, channels, length])
}

/// x (B, H, L), with moments and a gradient of them (2, H).
pub fn moments_grad(op: &'static str, x: &[usize], moments: &[usize], g: &[usize]) -> Result<[usize; 3]> {
    let sizes = sequence(op, "x", x)?;
    exactly(op, "the moments", &[2, sizes[1]], moments)?;
    gradient(op, &[2, sizes[1]], g)?;
    Ok(sizes)
}

/// (batch, features, length) of `batch` sequences of `tokens`, looked up in a table (vocabulary, features).
pub fn embedding(op: &'static str, table: &[usize], tokens: &[u32], batch: usize) -> Result<[usize; 3]> {
    rank(op, "the table", &["vocabulary", "features"], table)?;
    let (vocabulary, features, count) = (table[0], table[1], tokens.len());
    if batch == 0 || count == 0 || !count.is_multiple_of(batch) {
        let help = format!("{count} tokens do not make {batch} sequences of one length: give at least one token a sequence, and pad");
        return Err(Error::value(op, help));
    }
    if features == 0 {
        return Err(Error::value(op, format!("the table has shape {table:?}: a row must have at least one feature")));
    }
    let length = count / batch;
    in_vocabulary(op, tokens, length, vocabulary)?;
    countable(op, &[batch, features, length])?;
    Ok([batch, features, length])
}

/// (batch, features, length) of the gradient of an embedding of `tokens` from a table with `rows` rows.
pub fn embedding_grad(op: &'static str, rows: usize, tokens: &[u32], given: &[usize]) -> Result<[usize; 3]> {
    let [batch, features, length] = sequence(op, "the gradient", given)?;
    if batch * length != tokens.len() {
        let help = "the gradient must be (batch, features, length), with one token for every sequence and step";
        return Err(Error::shape(op, None, given, &[tokens.len()], help));
    }
    in_vocabulary(op, tokens, length, rows)?;
    countable(op, &[rows, features])?;
    Ok([batch, features, length])
}

fn in_vocabulary(op: &'static str, tokens: &[u32], length: usize, vocabulary: usize) -> Result<()> {
    let Some(at) = tokens.iter().position(|&token| token as usize >= vocabulary) else { return Ok(()) };
    let (token, place) = (tokens[at], format!("position {} of sequence {}", at % length, at / length));
    Err(Error::value(op, format!("token {token} at {place} is not in the vocabulary of {vocabulary}: tokens count from 0")))
}

/// Logits (batch, classes) with one label a sample, each below the number of classes.
pub fn labels(op: &'static str, logits: &[usize], labels: &[usize]) -> Result<()> {
    rank(op, "the logits", &["batch", "classes"], logits)?;
    let (batch, classes) = (logits[0], logits[1]);
    if batch == 0 {
        return Err(Error::value(op, "the batch is empty: its mean loss means nothing"));
    }
    exactly(op, "the labels", &[batch], &[labels.len()])?;
    match labels.iter().position(|&label| label >= classes) {
        None => Ok(()),
        Some(i) => {
            let label = labels[i];
            Err(Error::value(op, format!("label {label} of sample {i} is not one of {classes} classes: labels count from 0")))
        }
    }
}

/// The probability of dropout within another op, which leaves dropout out where there is none.
pub fn dropout(p: f64) -> Result<()> {
    if p > 0.0 && p < 1.0 {
        return Ok(());
    }
    Err(Error::config("dropout", p, "the probability must lie between 0 and 1: leave dropout out where it is 0"))
}

/// `len` entries from `start` on, at least one, exist along `axis`; the shape of the slice.
pub fn slice(op: &'static str, given: &[usize], along: usize, start: usize, len: usize) -> Result<Vec<usize>> {
    axis(op, along, given)?;
    if len == 0 || start.checked_add(len).is_none_or(|end| end > given[along]) {
        let help = format!(
            "{len} entries from {start} on do not lie in axis {along} of shape {given:?}: take at least one, up to {}",
            given[along]
        );
        return Err(Error::value(op, help));
    }
    let mut shape = given.to_vec();
    shape[along] = len;
    Ok(shape)
}

/// The shape of the entries `index` of axis `along`, one after another.
pub fn index_select(op: &'static str, given: &[usize], along: usize, index: &[u32]) -> Result<Vec<usize>> {
    axis(op, along, given)?;
    indices(op, index, given[along])?;
    let mut shape = given.to_vec();
    shape[along] = index.len();
    countable(op, &shape)?;
    Ok(shape)
}

/// The shape with `len` entries along axis `along`, to which the entries of `given` are added at `index`.
pub fn index_add(op: &'static str, given: &[usize], along: usize, index: &[u32], len: usize) -> Result<Vec<usize>> {
    axis(op, along, given)?;
    if given[along] != index.len() {
        return Err(Error::shape(op, along, given, &[index.len()], "give one index for every entry of the axis"));
    }
    indices(op, index, len)?;
    let mut shape = given.to_vec();
    shape[along] = len;
    countable(op, &shape)?;
    Ok(shape)
}

/// `index` holds at least one index, and all lie below `len`.
fn indices(op: &'static str, index: &[u32], len: usize) -> Result<()> {
    if index.is_empty() {
        return Err(Error::value(op, "there is no index: give at least one"));
    }
    match index.iter().position(|&i| i as usize >= len) {
        None => Ok(()),
        Some(at) => {
            Err(Error::value(op, format!("index {} at position {at} is not one of {len} entries: indices count from 0", index[at])))
        }
    }
}

/// The sizes of a linear scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The axes of the state, without time: one row each.
    pub batch: Vec<usize>,
    /// Time steps, L.
    pub length: usize,
    /// The axes of a without time, which broadcast to `batch`.
    pub a_batch: Vec<usize>,
    /// Time steps of a: 1 or L.
    pub a_length: usize,
}

/// Checks a linear scan: b (.., L) with at least one value, an a that broadcasts to it, the initial state (..). Complex values are planar,
/// with a leading axis of 2 that takes no part in broadcasting.
pub fn scan(op: &'static str, a: &[usize], b: &[usize], initial: Option<&[usize]>, complex: bool) -> Result<Scan> {
    filled(op, "b", b)?;
    let plane = usize::from(complex);
    for (what, given) in [("a", a), ("b", b)] {
        if complex && given.first() != Some(&2) {
            return Err(Error::value(op, format!("{what} has shape {given:?}: complex values are planar, (2, ..), real plane first")));
        }
    }
    let (a, steps) = (&a[plane..], &b[plane..]);
    let [batch @ .., length] = steps else {
        return Err(Error::value(op, format!("b has shape {b:?}, and no axis of time: its last axis is the one that is scanned")));
    };
    broadcasts_to(op, a, steps)?;
    if let Some(initial) = initial {
        exactly(op, "the initial state", &b[..b.len() - 1], initial)?;
    }
    let (a_batch, a_length) = a.split_last().map_or((&[][..], 1), |(last, rest)| (rest, *last));
    Ok(Scan { batch: batch.into(), length: *length, a_batch: a_batch.into(), a_length })
}

/// `axes` names every axis of `given` once; the shape in that order.
pub fn permutation(op: &'static str, given: &[usize], axes: &[usize]) -> Result<Vec<usize>> {
    let complete = axes.len() == given.len() && (0..given.len()).all(|axis| axes.contains(&axis));
    if !complete {
        return Err(Error::value(op, format!("axes {axes:?} do not name every axis of shape {given:?} once")));
    }
    Ok(axes.iter().map(|&axis| given[axis]).collect())
}

/// The shape of `shapes` one after another along `axis`: at least one, equal in all other axes.
pub fn concat(op: &'static str, shapes: &[&[usize]], along: usize) -> Result<Vec<usize>> {
    let Some(&first) = shapes.first() else {
        return Err(Error::value(op, "there is nothing to join: give at least one part"));
    };
    axis(op, along, first)?;
    let mut joint = first.to_vec();
    for (i, &part) in shapes.iter().enumerate().skip(1) {
        let help = || format!("parts 0 and {i} must be equal in every axis but {along}");
        if part.len() != first.len() {
            return Err(Error::shape(op, None, first, part, help()));
        }
        if let Some(axis) = (0..first.len()).find(|&axis| axis != along && first[axis] != part[axis]) {
            return Err(Error::shape(op, axis, first, part, help()));
        }
        joint[along] = joint[along].saturating_add(part[along]);
    }
    countable(op, &joint)?;
    Ok(joint)
}

/// `given` is the planar spectrum (2, .., n / 2 + 1) of a real signal of length `n`; the signal's shape.
pub fn spectrum(op: &'static str, given: &[usize], n: usize) -> Result<Vec<usize>> {
    let [2, middle @ .., bins] = given else {
        return Err(Error::shape(op, 0, &[2, n / 2 + 1], given, "a spectrum is planar: (2, .., bins), real plane first"));
    };
    if n == 0 || *bins != n / 2 + 1 {
        let wanted: Vec<usize> = [2].iter().chain(middle).copied().chain([n / 2 + 1]).collect();
        return Err(Error::shape(op, given.len() - 1, &wanted, given, format!("a signal of length {n} (at least 1) has n / 2 + 1 bins")));
    }
    let signal: Vec<usize> = middle.iter().copied().chain([n]).collect();
    countable(op, &signal)?;
    Ok(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_from_the_right() {
        assert_eq!(broadcast("add", &[2, 1, 4], &[3, 1]).unwrap(), [2, 3, 4]);
        assert_eq!(broadcast("add", &[], &[3]).unwrap(), [3]);
        let message = broadcast("add", &[2, 3], &[4]).unwrap_err().to_string();
        assert!(
            message.contains("add") && message.contains("[2, 3]") && message.contains("[4]") && message.contains("axis 1"),
            "{message}"
        );
    }

    #[test]
    fn products_know_their_sizes() {
        let p = product(&[5, 3, 2], true, &[4, 3], true).unwrap();
        assert_eq!(p, Product { batch: vec![5], m: 2, n: 4, k: 3 });
        assert!(product(&[3, 2], false, &[3, 2], false).unwrap_err().to_string().contains("lengths 2 and 3"));
        assert!(product(&[3], false, &[3, 2], false).is_err());
    }

    #[test]
    fn moving_values_keeps_within_the_shape() {
        assert_eq!(slice("slice", &[2, 5], 1, 2, 3).unwrap(), [2, 3]);
        for (axis, start, len) in [(2, 0, 1), (1, 3, 3), (1, 0, 0), (1, usize::MAX, 2)] {
            assert!(slice("slice", &[2, 5], axis, start, len).unwrap_err().to_string().contains("[2, 5]"));
        }
        assert_eq!(permutation("permute", &[2, 3, 4], &[2, 0, 1]).unwrap(), [4, 2, 3]);
        assert!(permutation("permute", &[2, 3], &[0, 0]).is_err() && permutation("permute", &[2], &[0, 1]).is_err());
        assert_eq!(concat("concat", &[&[2, 3], &[2, 1]], 1).unwrap(), [2, 4]);
        let message = concat("concat", &[&[2, 3], &[4, 1]], 1).unwrap_err().to_string();
        assert!(message.contains("axis 0") && message.contains("[2, 3]") && message.contains("[4, 1]"), "{message}");
        assert!(concat("concat", &[], 0).is_err() && concat("concat", &[&[2], &[2, 1]], 0).is_err());
    }

    #[test]
    fn spectra_are_planar_and_half() {
        assert_eq!(spectrum("irfft", &[2, 3, 5], 8).unwrap(), [3, 8]);
        assert_eq!(spectrum("irfft", &[2, 1], 1).unwrap(), [1]);
        let message = spectrum("irfft", &[2, 3, 5], 10).unwrap_err().to_string();
        assert!(message.contains("axis 2") && message.contains("[2, 3, 6]") && message.contains("[2, 3, 5]"), "{message}");
        assert!(spectrum("irfft", &[3, 5], 8).is_err() && spectrum("irfft", &[2], 8).is_err() && spectrum("irfft", &[2, 1], 0).is_err());
    }
}
