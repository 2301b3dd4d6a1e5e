//! The conformance suite: every method of a backend against independent truth in f64 on the host, generic over the backend.
//!
//! [`conformance!`] puts a backend through all of it; every family's file holds the truth beside the tests. Truths are the plain
//! definitions, written without a look at speed: direct sums, dense recurrences, gradients by dual numbers or by the direct adjoint sum.

pub mod conv;
pub mod dual;
pub mod elementwise;
pub mod harness;
pub mod kernels;
pub mod layout;
pub mod loss;
pub mod norm;
pub mod products;
pub mod random;
pub mod reductions;
pub mod refusals;
pub mod scan;
pub mod spike;
pub mod transfer;

/// `every_test! { then! with }`: `then! { with; family: test, ..; .. }` of the whole suite.
macro_rules! every_test {
    ($then:ident! $($with:tt)*) => {
        $then! { $($with)*;
            transfer: values_come_back;
            elementwise: unary, unary_gradient, unary_special_points, unary_of_small_arguments, unary_propagates_nan, binary, accumulate, binary_propagates_nan,
                binary_special_points, select, select_leaks_nothing, sum_to, first_not_finite;
            reductions: reduce, reduce_of_special_values, argmax, argmax_of_ties_and_nan, cumsum, softmax, softmax_of_extreme_values,
                softmax_gradient;
            products: matmul, rfft, irfft, mix, mix_of_spikes, mix_of_silence, mix_gradient, mix_gradient_of_spikes,
                mix_does_not_depend_on_the_batch;
            layout: permute, slice, concat, flip, index_select, index_add, index_of_large_axes, embed, embed_gradient;
            scan: scan, scan_gradient, scan_gradient_of_long_sequences, scan_keeps_what_is_not_finite_in_its_place;
            random: uniform_is_the_stream, normal_is_the_stream, normal_has_the_moments_of_a_normal, draws_are_by_sample_channel_and_time,
                draws_do_not_depend_on_the_batch, a_batch_that_is_not_whole_samples_is_refused, rows_of_a_draw_are_uncorrelated;
            norm: affine, affine_gradient, moments, moments_of_spikes, moments_gradient, normalize, normalize_gradient,
                what_was_normalized_is_remembered_as_it_was;
            spike: sampled, expected, given_noise_is_as_good_as_the_stream, spikes_do_not_depend_on_the_batch,
                ties_and_nan_do_not_spike, surrogate_gradient, clamp_surrogate_includes_its_ends, lif, lif_ties_and_resets, lif_gradient,
                plif, plif_with_equal_channels_is_lif, plif_gradient;
            conv: long_conv, long_conv_gradient, silent_channels_are_exactly_zero, fire, expected_fire,
                fire_does_not_depend_on_the_batch, fire_gradient, fire_gradient_of_silence;
            kernels: dplr, dplr_of_a_large_system, dplr_gradient, dplr_advance, diagonal, diagonal_gradient;
            loss: cross_entropy, cross_entropy_of_extreme_logits, cross_entropy_gradient, adamw, adamw_of_many;
            refusals: of_transfer, of_elementwise, of_reductions, of_products, of_layout, of_indices, of_scans, of_embeddings, of_random,
                of_normalization, of_spiking, of_lif, of_plif,
                of_long_convolutions, of_firings, of_mixing, of_kernels, of_learning, moves_are_accepted_exactly_where_allowed,
                parts_are_joined_exactly_where_allowed, shapes_broadcast_exactly_where_allowed, good_calls_are_accepted;
        }
    };
}

/// `conformance! { name: backend, tolerance: tolerance }`: a module of tests that hold the backend to the suite. An attribute before
/// the name goes to every test.
#[allow(unused_macros, reason = "not every test file that goes through the suite makes tests of it")]
macro_rules! conformance {
    ($name:ident: $backend:expr, tolerance: $tolerance:expr) => {
        conformance! { #[cfg(all())] $name: $backend, tolerance: $tolerance }
    };
    (#[$attribute:meta] $name:ident: $backend:expr, tolerance: $tolerance:expr) => {
        mod $name {
            use super::*;
            every_test! { conformance! @tests $attribute, $backend, $tolerance }
        }
    };
    (@tests $attribute:meta, $backend:expr, $tolerance:expr; $($family:ident: $($test:ident),+;)+) => {
        $(mod $family {
            use super::*;
            $(#[test]
            #[$attribute]
            fn $test() {
                suite::$family::$test(&suite::harness::Lab { backend: $backend, tolerance: $tolerance, blind: false });
            })+
        })+
    };
}
