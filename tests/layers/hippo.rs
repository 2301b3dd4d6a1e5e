//! HiPPO matrices against values of the official code, and their diagonal forms against the systems that they stand for.

use std::f64::consts::PI;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pspikessm::internal::{Eigh, eigh};
use pspikessm::nn::hippo::{CLIP_B, Complex64, DiagInit, MAX_D_STATE, Measure, Nplr, low_rank, nplr, s4d, transition};
use serde_json::Value;

// ---------------------------------------------------------------- helpers

fn pinned(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(0x4177_0001), failure_persistence: None, ..ProptestConfig::default() }
}

/// A measure and an even number of states up to 64.
fn systems() -> impl Strategy<Value = (Measure, usize)> {
    (proptest::sample::select(&Measure::ALL[..]), (1_usize..=32).prop_map(|half| 2 * half))
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

fn planes(values: &[Complex64]) -> Vec<f64> {
    values.iter().flat_map(|value| [value.re, value.im]).collect()
}

/// Panics unless every element agrees to `tolerance` times the largest element of `want`; NaN never agrees.
fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let bound = tolerance * largest(want);
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= bound, "{what}[{at}]: {got:e} is not {want:e} within {bound:e}");
    }
}

/// Rows of `left` (rows, inner) times `right` (inner, columns).
fn product(left: &[Complex64], right: &[Complex64], inner: usize) -> Vec<Complex64> {
    let columns = right.len() / inner;
    let element = |row: &[Complex64], j: usize| (0..inner).map(|k| row[k] * right[k * columns + j]).sum();
    left.chunks_exact(inner).flat_map(|row| (0..columns).map(move |j| element(row, j))).collect()
}

/// The conjugate transpose of a (rows, `columns`) matrix.
fn adjoint(matrix: &[Complex64], columns: usize) -> Vec<Complex64> {
    (0..columns).flat_map(|j| matrix.iter().skip(j).step_by(columns).map(Complex64::conj)).collect()
}

/// Every row followed by its conjugate: from the stored half of the states to all of them.
fn both_halves(rows: &[Complex64], m: usize) -> Vec<Complex64> {
    rows.chunks_exact(m).flat_map(|row| row.iter().copied().chain(row.iter().map(Complex64::conj))).collect()
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).flat_map(|at| [if at / n == at % n { 1.0 } else { 0.0 }, 0.0]).collect()
}

fn complex(real: &[f64]) -> Vec<f64> {
    real.iter().flat_map(|&value| [value, 0.0]).collect()
}

/// V' (diag(Lambda') - P'^T conj P') V'^* over both conjugate halves.
fn reassembled(system: &Nplr, n: usize) -> Vec<Complex64> {
    let (lambda, p, v) = (both_halves(&system.lambda, n / 2), both_halves(&system.p, n / 2), both_halves(&system.v, n / 2));
    let state = |i: usize, j: usize| {
        let low: Complex64 = p.chunks_exact(n).map(|row| row[i] * row[j].conj()).sum();
        if i == j { lambda[i] - low } else { -low }
    };
    let inner: Vec<_> = (0..n * n).map(|at| state(at / n, at % n)).collect();
    product(&product(&v, &inner, n), &adjoint(&v, n), n)
}

fn fixture() -> serde_json::Map<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hippo.json");
    let text = std::fs::read_to_string(&path).expect("the fixture is part of the repository");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn data(entry: &Value) -> Vec<f64> {
    entry["data"].as_array().expect("data").iter().map(|value| value.as_f64().expect("a number")).collect()
}

// ---------------------------------------------------------------- the official code's values

#[test]
fn agrees_with_the_official_code() {
    let mut seen = 0;
    for (key, entry) in &fixture() {
        let want = data(entry);
        let got = match key.split('_').collect::<Vec<_>>()[..] {
            [measure, n, which] => {
                let (a, b) = transition(measure.parse().unwrap(), n.parse().unwrap()).unwrap();
                if which == "A" { a } else { b }
            }
            [measure, "nplr", n, which] => {
                let system = nplr(measure.parse().unwrap(), n.parse().unwrap(), Some(CLIP_B)).unwrap();
                planes(match which {
                    "Lambda" => &system.lambda,
                    "P" => &system.p,
                    "Bclip" => &system.b,
                    _ => panic!("{key}: unknown"),
                })
            }
            _ => panic!("{key}: unknown"),
        };
        assert_close(key, &got, &want, 1e-12);
        seen += 1;
    }
    assert_eq!(seen, 30 + 12, "entries of the fixture");
}

#[test]
fn clips_as_many_entries_of_b_as_the_official_code() {
    let exact = nplr(Measure::LegS, 64, None).unwrap();
    let beyond = exact.b.iter().filter(|b| b.im.abs() > CLIP_B).count();
    assert_eq!(beyond, 11);
    let largest = exact.b.iter().map(|b| b.im.abs()).fold(0.0, f64::max);
    assert!((largest - 40.75).abs() < 0.01, "{largest}");
}

// ---------------------------------------------------------------- the normal-plus-low-rank form

proptest! {
    #![proptest_config(pinned(96))]

    #[test]
    fn low_rank_makes_the_matrix_normal((measure, n) in systems()) {
        let ((a, _), low) = (transition(measure, n).unwrap(), low_rank(measure, n).unwrap());
        prop_assert_eq!(low.p.len(), low.rank * n);
        let normal: Vec<_> = (0..n * n)
            .map(|at| a[at] + low.p.chunks_exact(n).map(|p| p[at / n] * p[at % n]).sum::<f64>())
            .map(|value| Complex64::new(value, 0.0))
            .collect();
        let (left, right) = (product(&normal, &adjoint(&normal, n), n), product(&adjoint(&normal, n), &normal, n));
        assert_close("A A^T", &planes(&left), &planes(&right), 1e-12);
    }

    #[test]
    fn nplr_is_the_same_system((measure, n) in systems()) {
        let ((a, b), system) = (transition(measure, n).unwrap(), nplr(measure, n, None).unwrap());
        assert_close("A", &planes(&reassembled(&system, n)), &complex(&a), 1e-12);
        let (v, modes) = (both_halves(&system.v, n / 2), both_halves(&system.b, n / 2));
        assert_close("B", &planes(&product(&v, &modes, n)), &complex(&b), 1e-12);
        let p = low_rank(measure, n).unwrap();
        prop_assert_eq!(system.rank, p.rank);
        let modes = both_halves(&system.p, n / 2);
        for (modes, want) in modes.chunks_exact(n).zip(p.p.chunks_exact(n)) {
            assert_close("P", &planes(&product(&v, modes, n)), &complex(want), 1e-12);
        }
    }

    #[test]
    fn basis_is_orthonormal_and_eigenvalues_are_in_order((measure, n) in systems()) {
        let (m, system) = (n / 2, nplr(measure, n, None).unwrap());
        prop_assert_eq!((system.lambda.len(), system.b.len(), system.p.len(), system.v.len()), (m, m, system.rank * m, n * m));
        let v = both_halves(&system.v, m);
        assert_close("V^* V", &planes(&product(&adjoint(&v, n), &v, n)), &identity(n), 1e-12);
        prop_assert!(system.lambda.iter().all(|lambda| lambda.im <= 0.0 && lambda.re == system.lambda[0].re));
        prop_assert!(system.lambda.is_sorted_by(|left, right| left.im < right.im), "one of each pair, ascending");
        for column in 0..m {
            let first = system.v.iter().skip(column).step_by(m).find(|v| v.norm() > 0.0).unwrap();
            prop_assert!(first.re > 0.0 && first.im == 0.0, "phase of column {}: {}", column, first);
        }
    }

    #[test]
    fn clip_bounds_the_imaginary_part_of_b_only((measure, n) in systems(), bound in 0.0..50.0_f64) {
        let (exact, clipped) = (nplr(measure, n, None).unwrap(), nplr(measure, n, Some(bound)).unwrap());
        for (clipped, exact) in clipped.b.iter().zip(&exact.b) {
            prop_assert_eq!(clipped.re, exact.re);
            let want = if exact.im > bound { bound } else if exact.im < -bound { -bound } else { exact.im };
            prop_assert_eq!(clipped.im, want);
        }
        prop_assert_eq!(Nplr { b: vec![], ..clipped }, Nplr { b: vec![], ..exact });
    }
}

#[test]
fn legt_has_one_row_for_each_parity() {
    let low = low_rank(Measure::LegT, 4).unwrap();
    let root = |i: u32| (f64::from(i) + 0.5).sqrt();
    assert_eq!((low.rank, low.p), (2, vec![0.0, root(1), 0.0, root(3), root(0), 0.0, root(2), 0.0]));
}

/// A + P P^T of LagT is a skew-circulant matrix: its frequencies are half cotangents.
#[test]
fn lagt_frequencies_are_cotangents() {
    for n in [2, 6, 64, 130] {
        let got: Vec<_> = nplr(Measure::LagT, n, None).unwrap().lambda.iter().map(|lambda| lambda.im).collect();
        let want: Vec<_> = (0..n / 2).map(|k| -0.5 / ((2 * k + 1) as f64 * PI / (2 * n) as f64).tan()).collect();
        assert_close("omega", &got, &want, 1e-14);
    }
}

#[test]
fn fourier_frequencies_are_the_harmonics() {
    for (measure, unit, decay) in [(Measure::Fourier, PI, 0.0), (Measure::FourierDecay, 2.0 * PI, -0.5)] {
        let system = nplr(measure, 10, Some(CLIP_B)).unwrap();
        let want: Vec<_> = (0..5).rev().map(|k| Complex64::new(decay, -unit * f64::from(k))).collect();
        assert_close("lambda", &planes(&system.lambda), &planes(&want), 1e-15);
        // The pair of frequency zero: (1, i) / sqrt 2 on coordinates 0 and 1, and nothing elsewhere.
        let last: Vec<_> = system.v.iter().skip(4).step_by(5).copied().collect();
        assert_close("zero pair", &planes(&last[..2]), &[0.5_f64.sqrt(), 0.0, 0.0, 0.5_f64.sqrt()], 1e-15);
        assert!(last[2..].iter().all(|v| v.norm() == 0.0));
    }
}

#[test]
fn large_states_keep_the_accuracy() {
    let n = 256;
    for measure in Measure::ALL {
        let ((a, _), system) = (transition(measure, n).unwrap(), nplr(measure, n, None).unwrap());
        assert_close(&measure.to_string(), &planes(&reassembled(&system, n)), &complex(&a), 1e-10);
    }
}

// ---------------------------------------------------------------- diagonal models

proptest! {
    #![proptest_config(pinned(32))]

    #[test]
    fn diagonal_inits_follow_their_recurrences(half in 1_usize..=32) {
        let (n, states) = (2 * half, (2 * half) as f64);
        let lambda = |init| s4d(init, n).unwrap().0;
        for (k, lambda) in lambda(DiagInit::Lin).iter().enumerate() {
            // A whole number of half turns in a unit of time.
            let turned = (lambda + 0.5).exp() - if k % 2 == 0 { 1.0 } else { -1.0 };
            prop_assert!(turned.norm() < 1e-12);
            prop_assert!((lambda.im / PI + k as f64).abs() < 1e-12);
        }
        for (k, lambda) in lambda(DiagInit::Inv).iter().enumerate() {
            let odd = (2 * k + 1) as f64;
            prop_assert_eq!(lambda.re, -0.5);
            prop_assert!((lambda.im * PI * odd - states * (odd - states)).abs() < 1e-12 * states * states);
        }
        let mut expected = Complex64::new(0.0, 0.0);
        for lambda in lambda(DiagInit::Real) {
            expected -= 1.0;
            prop_assert_eq!(lambda, expected);
        }
        for init in [DiagInit::Lin, DiagInit::Inv, DiagInit::Real] {
            prop_assert_eq!(s4d(init, n).unwrap().1, vec![Complex64::new(1.0, 0.0); half]);
        }
    }

    /// The squares of the frequencies of LegS add up to the squares of its skew part, 1/4 (2i+1)(2j+1) off the diagonal.
    #[test]
    fn diagonal_legs_is_the_diagonal_of_nplr(half in 1_usize..=32) {
        let (n, states) = (2 * half, (2 * half) as f64);
        let (lambda, b) = s4d(DiagInit::LegS, n).unwrap();
        let squares: f64 = lambda.iter().map(|lambda| 2.0 * lambda.im * lambda.im).sum();
        let want = 0.25 * (states.powi(4) - states * (4.0 * states * states - 1.0) / 3.0);
        prop_assert!((squares - want).abs() <= 1e-13 * want, "{} is not {}", squares, want);
        prop_assert!(lambda.iter().all(|lambda| lambda.re == -0.5));
        prop_assert_eq!(b, nplr(Measure::LegS, n, Some(CLIP_B)).unwrap().b);
    }
}

// ---------------------------------------------------------------- what users get wrong

#[test]
fn refuses_bad_sizes_and_bounds() {
    for d_state in [0, 1, 7, 63, MAX_D_STATE + 2, usize::MAX - 1, usize::MAX] {
        let texts = [
            transition(Measure::LegS, d_state).unwrap_err().to_string(),
            low_rank(Measure::LegT, d_state).unwrap_err().to_string(),
            nplr(Measure::Fourier, d_state, None).unwrap_err().to_string(),
            s4d(DiagInit::Lin, d_state).unwrap_err().to_string(),
        ];
        for text in texts {
            assert!(text.starts_with(&format!("d_state = {d_state}: ")) && text.contains("choose"), "{text}");
        }
    }
    for bound in [-1.0, f64::NAN, f64::NEG_INFINITY] {
        let text = nplr(Measure::LegS, 8, Some(bound)).unwrap_err().to_string();
        assert!(text.starts_with("clip_b = ") && text.contains("at least 0"), "{text}");
    }
}

#[test]
fn names_round_trip() {
    for measure in Measure::ALL {
        assert_eq!(measure.to_string().parse::<Measure>().unwrap(), measure);
    }
    for init in DiagInit::ALL {
        assert_eq!(init.to_string().parse::<DiagInit>().unwrap(), init);
        assert_eq!(format!("diag-{init}").parse::<DiagInit>().unwrap(), init);
    }
    for (alias, measure) in [("fout", Measure::Fourier), ("fourier_diag", Measure::FourierDecay), ("LegS", Measure::LegS)] {
        assert_eq!(alias.parse::<Measure>().unwrap(), measure);
    }
    let text = "hermite".parse::<Measure>().unwrap_err().to_string();
    assert!(text.starts_with("measure = hermite: ") && text.contains("legs, legt, lagt"), "{text}");
    let text = "".parse::<DiagInit>().unwrap_err().to_string();
    assert!(text.starts_with("init = ") && text.contains("lin, inv, real, legs"), "{text}");
}

// ---------------------------------------------------------------- the eigen-solver

/// H V = V diag(values), V unitary, values ascending, to `1e-13` of the largest element.
fn assert_solves(h: &[Complex64], n: usize) -> Eigh {
    let solved = eigh(h, n).unwrap();
    assert!(solved.values.is_sorted());
    let v = &solved.vectors;
    assert_close("V^* V", &planes(&product(&adjoint(v, n), v, n)), &identity(n), 1e-13);
    let diagonal: Vec<_> = (0..n * n).map(|at| Complex64::from(if at / n == at % n { solved.values[at / n] } else { 0.0 })).collect();
    let again = product(&product(v, &diagonal, n), &adjoint(v, n), n);
    assert_close("V diag V^*", &planes(&again), &planes(h), 1e-13);
    solved
}

/// Square matrices of up to 20 rows with elements in the unit square.
fn squares() -> impl Strategy<Value = (usize, Vec<Complex64>)> {
    let element = || (-1.0..1.0_f64, -1.0..1.0_f64).prop_map(|(re, im)| Complex64::new(re, im));
    (1_usize..=20).prop_flat_map(move |n| (Just(n), proptest::collection::vec(element(), n * n)))
}

fn hermitian_part(square: &[Complex64], n: usize) -> Vec<Complex64> {
    square.iter().zip(adjoint(square, n)).map(|(left, right)| (left + right) * 0.5).collect()
}

proptest! {
    #![proptest_config(pinned(128))]

    #[test]
    fn eigh_solves_random_matrices((n, square) in squares(), exponent in -250..250_i32) {
        let scale = 10.0_f64.powi(exponent);
        let h: Vec<_> = hermitian_part(&square, n).iter().map(|h| h * scale).collect();
        assert_solves(&h, n);
    }

    /// A zero diagonal makes every rotation of the first sweep an eighth of a turn, the edge of the convergence proof.
    #[test]
    fn eigh_solves_skew_matrices((n, square) in squares()) {
        let h: Vec<_> = (0..n * n).map(|at| Complex64::new(0.0, square[at].re - square[at % n * n + at / n].re)).collect();
        let values = assert_solves(&h, n).values;
        for (low, high) in values.iter().zip(values.iter().rev()) {
            prop_assert!((low + high).abs() <= 1e-13, "{} and {}", low, high);
        }
    }

    /// Few distinct eigenvalues, in a basis of eigenvectors of another matrix.
    #[test]
    fn eigh_solves_degenerate_matrices((n, square) in squares(), kinds in 1..4_usize) {
        let basis = eigh(&hermitian_part(&square, n), n).unwrap().vectors;
        let mut values: Vec<_> = (0..n).map(|i| [1.0, 0.0, -2.5][i % kinds]).collect();
        let diagonal: Vec<_> = (0..n * n).map(|at| Complex64::from(if at / n == at % n { values[at / n] } else { 0.0 })).collect();
        let h = product(&product(&basis, &diagonal, n), &adjoint(&basis, n), n);
        let got = assert_solves(&hermitian_part(&h, n), n).values;
        values.sort_by(f64::total_cmp);
        assert_close("values", &got, &values, 1e-13);
    }
}

#[test]
fn eigh_solves_small_and_special_matrices() {
    let real = |values: &[f64]| values.iter().copied().map(Complex64::from).collect::<Vec<_>>();
    assert!(eigh(&[], 0).unwrap().values.is_empty());
    assert_eq!(assert_solves(&real(&[-3.0]), 1).values, [-3.0]);
    assert_eq!(assert_solves(&real(&[2.0, 0.0, 0.0, -1.0]), 2).values, [-1.0, 2.0]);
    let i = Complex64::i();
    let turn = assert_solves(&[0.0 * i, i, -i, 0.0 * i], 2).values;
    assert_close("turn", &turn, &[-1.0, 1.0], 1e-15);
    // A zero in the first row leaves rows to later rotations as they were given.
    assert_solves(&[i * 0.0, i * 0.0, i, i * 0.0, Complex64::ONE, i - 2.0, -i, -i - 2.0, i * 0.0], 3);
    for n in [1, 2, 3, 8, 33] {
        assert_solves(&vec![Complex64::ZERO; n * n], n);
        // All ones: one eigenvalue n, all others zero.
        let values = assert_solves(&vec![Complex64::ONE; n * n], n).values;
        assert!((values[n - 1] - n as f64).abs() < 1e-13 * n as f64 && largest(&values[..n - 1]) < 1e-13 * n as f64);
    }
}

#[test]
fn eigh_reads_the_upper_triangle_and_the_real_diagonal() {
    let c = Complex64::new;
    let untidy = [c(1.0, 1e300), c(2.0, -1.0), c(1e300, 0.0), c(-1.0, 3.0)];
    let tidy = [c(1.0, 0.0), c(2.0, -1.0), c(2.0, 1.0), c(-1.0, 0.0)];
    assert_eq!(eigh(&untidy, 2).unwrap(), assert_solves(&tidy, 2));
}

#[test]
fn eigh_refuses_what_is_no_matrix() {
    let text = eigh(&[Complex64::ONE; 6], 2).unwrap_err().to_string();
    assert!(text.starts_with("eigh: ") && text.contains("n * n"), "{text}");
    assert!(eigh(&[], usize::MAX).is_err());
    for bad in [f64::NAN, f64::INFINITY, f64::MAX] {
        let text = eigh(&[Complex64::ONE, Complex64::new(0.0, bad), Complex64::ONE, Complex64::ONE], 2).unwrap_err().to_string();
        assert!(text.contains("NaN, infinite"), "{text}");
    }
}
