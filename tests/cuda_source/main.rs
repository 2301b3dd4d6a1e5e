//! Every kernel compiles to CUDA C++, as a device would get it; no device and no library of CUDA is needed.
#![cfg(feature = "cuda")]

#[macro_use]
#[path = "../conformance/mod.rs"]
mod suite;
mod ahead;
mod budget;
mod dry;

use std::collections::BTreeSet;
use std::path::Path;

use cubecl::Runtime;
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use dry::{Dry, DryCuda};
use pspikessm::Error;
use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::internal::{Cube, Guarded, Scalar};
use pspikessm::nn::{AdamWConfig, BlockConfig, Context, Encoder, Input, Model, ModelConfig, NormKind, Optimizer, SsmConfig};
use rayon::prelude::*;
use suite::harness::{Lab, Tolerance};

type DryCube<E> = Cube<Guarded<DryCuda>, E>;

fn cube<E: Scalar>(device: usize) -> DryCube<E> {
    Cube::from_client(Guarded::<DryCuda>::client(&Dry(device)), "cuda", "no device").expect("a device that computes in E")
}

/// Calls every method of the backend as the conformance suite does.
fn every_method<E: Scalar>(device: usize) {
    let tolerance = Tolerance { elementwise: 0.0, sums: 0.0, kernels: 0.0 };
    let mut lab = Lab { backend: cube::<E>(device), tolerance, blind: true };
    macro_rules! call {
        ($lab:ident; $($family:ident: $($test:ident),+;)+) => { $($(suite::$family::$test(&$lab);)+)+ };
    }
    every_test! { call! lab }
    // Transforms over the device's memory, scans in pieces.
    lab.backend = lab.backend.with_shared_memory(64);
    call! { lab; products: rfft, irfft; conv: long_conv, long_conv_gradient, fire, fire_gradient; scan: scan, scan_gradient_of_long_sequences; }
}

/// A training step and an inference pass of models as large as the recipes' and larger: their kernels can be others than those of the
/// suite's small shapes.
fn training_steps<E: Scalar>(device: usize) {
    let backend = cube::<E>(device);
    for (d_model, d_state, length, norm, bidirectional, prenorm) in [
        (128, 16, 2048, NormKind::Batch, true, false),
        (400, 64, 784, NormKind::Batch, false, true),
        (512, 64, 1024, NormKind::Layer, true, false),
        (16, 4, 16_384, NormKind::Layer, true, true),
    ] {
        let ssm = SsmConfig::new(d_model, d_state).l_max(length).dropout(0.1);
        let block = BlockConfig::new(ssm).norm(norm).bidirectional(bidirectional).prenorm(prenorm).dropout(0.1);
        let config = ModelConfig::new(Encoder::Tokens(18), block, 10).layers(2);
        let model = Model::new(&backend, Key::new(0), &config).unwrap();
        let mut optimizer = Optimizer::new(AdamWConfig::new(1e-3, 0.01)).unwrap();
        let tokens = vec![3; 4 * length];
        let logits = |cx: &Context<_>| model.forward(cx, Input::tokens(&tokens, 4).lengths(&[length; 4])).unwrap();
        logits(&Context::evaluation(&Tape::off(&backend), Key::new(1)));
        let gradients = logits(&Context::training(&Tape::new(&backend), Key::new(1))).cross_entropy(&[0; 4]).unwrap().backward().unwrap();
        optimizer.update(&backend, &model, &gradients, 1.0).unwrap();
    }
}

/// What is wrong with a kernel's source.
fn faults(source: &str, scalar: &str) -> Vec<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| source.contains(word));
    let of_planes = ["__shfl", "__ballot", "__any_sync", "__all_sync", "__reduce_", "wmma::", "mma.sync", "wgmma"];
    let is_whole = !has(&["float", "double"]);
    [
        (!has(&["extern \"C\" __global__"]), "is no kernel"),
        (has(&of_planes), "uses planes"),
        (has(&["const&>(float(", "const&>(double(", "const&>(uint", "const&>(int"]), "takes the bits of a literal, which has no address"),
        // A literal without its type would be one, and slow.
        (scalar == "f32" && has(&["double"]), "computes in f64"),
        (scalar == "f64" && !is_whole && !has(&["double"]), "computes in f32"),
    ]
    .into_iter()
    .filter_map(|(is_wrong, fault)| is_wrong.then_some(fault))
    .collect()
}

/// The sources that the device was given, each of them right.
fn sources(device: usize, scalar: &str) -> Vec<(&'static str, String)> {
    let (mut sources, mut wrong) = (Vec::new(), Vec::new());
    for kernel in dry::kernels().iter().filter(|kernel| kernel.device == device) {
        match &kernel.source {
            Err(error) => wrong.push(format!("{}: {error}", kernel.name)),
            Ok(source) => wrong.extend(faults(source, scalar).iter().map(|fault| format!("{} {fault}:\n{source}", kernel.name))),
        }
        sources.extend(kernel.source.iter().map(|source| (kernel.name, source.clone())));
    }
    assert!(wrong.is_empty(), "{} faults in {} kernels\n{}", wrong.len(), sources.len(), wrong.join("\n"));
    sources
}

/// The kernels in the files below `folder`, each with its path below `module`; those of tests are left out.
fn written(folder: &Path, module: &str, names: &mut BTreeSet<String>) {
    for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_string_lossy();
        let module = if name == "mod" { module.to_owned() } else { format!("{module}{name}::") };
        if path.is_dir() {
            written(&path, &module, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let own = text.split("mod tests {").next().unwrap();
        names.extend(own.split("#[cube(launch").skip(1).map(|kernel| {
            let name = kernel.split_once("fn ").unwrap().1;
            format!("{module}{}", &name[..name.find(['<', '(']).unwrap()])
        }));
    }
}

/// Every kernel that is written was launched, except for those that this scalar has no use for.
fn none_is_missing(sources: &[(&'static str, String)], except: &[&str]) {
    // As in "pspikessm::backend::cube::folder::file::name::Name<..>".
    let own = sources.iter().filter_map(|(name, _)| name.strip_prefix("pspikessm::backend::cube::"));
    let launched: BTreeSet<String> = own.map(|name| name.split('<').next().unwrap().rsplit_once("::").unwrap().0.to_owned()).collect();
    let mut kernels = BTreeSet::new();
    written(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cube"), "", &mut kernels);
    assert!(kernels.len() > 50, "{kernels:?}");
    let missing: Vec<_> = kernels.difference(&launched).filter(|name| !except.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "nothing here launches {missing:?}");
}

#[test]
fn every_kernel_in_f32_becomes_cuda() {
    every_method::<f32>(0);
    training_steps::<f32>(0);
    // Of products in f64.
    none_is_missing(&sources(0, "f32"), &["products::matmul::tiles"]);
}

#[test]
fn every_kernel_in_f64_becomes_cuda() {
    every_method::<f64>(1);
    training_steps::<f64>(1);
    none_is_missing(&sources(1, "f64"), &[]);
}

#[test]
fn an_old_device_has_room_for_the_kernels() {
    training_steps::<f32>(Dry::OLD);
    sources(Dry::OLD, "f32");
    training_steps::<f64>(Dry::OLD + 1);
    sources(Dry::OLD + 1, "f64");
}

/// 32 KiB of shared memory, 256 units, 65,535 cubes along an axis, no planes: what a launch asks for beyond that is refused.
#[test]
fn a_small_device_has_room_for_the_kernels() {
    training_steps::<f32>(Dry::SMALL);
    sources(Dry::SMALL, "f32");
}

#[test]
fn a_convolution_uses_shared_memory_where_it_fits() {
    for (device, length, stays) in [(5, 8192, true), (5, 16_384, false), (Dry::SMALL + 5, 2048, true), (Dry::SMALL + 6, 4096, false)] {
        let (cube, before) = (cube::<f32>(device), dry::kernels().len());
        let (input, kernel) = (cube.full(&[1, 1, length], 1.0).unwrap(), cube.full(&[1, 1, length], 1.0).unwrap());
        cube.long_conv(LongConv { input: &input, kernel: &kernel, skip: None, lengths: None }).unwrap();
        cube.to_vec(&input).unwrap();
        let goes_out = dry::kernels()[before..].iter().any(|kernel| kernel.device == device && kernel.name.contains("::long_conv_wide::"));
        assert_eq!(goes_out, !stays, "{length} points on {device}");
    }
}

#[test]
fn running_out_of_memory_is_an_error_of_the_next_read_only() {
    let cube = cube::<f32>(Dry::FULL);
    let small = cube.full(&[3], 1.0).unwrap();
    assert_eq!(cube.to_vec(&small).unwrap(), [0.0; 3]);
    let large = cube.full(&[1 << 20], 1.0).unwrap();
    // Left out as well, and not the first thing that failed.
    cube.sum_to(&large, &[]).unwrap();
    let message = cube.to_vec(&small).unwrap_err().to_string();
    for part in ["to_vec: no device failed", "4194304 bytes of memory were not to be had", "a smaller batch", "(as CUDA does)"] {
        assert!(message.contains(part), "{message} has no {part}");
    }
    assert_eq!(cube.to_vec(&small).unwrap(), [0.0; 3]);
}

#[test]
fn a_device_of_cuda_that_is_not_there_is_an_error_and_no_panic() {
    let there = pspikessm::devices().iter().filter(|device| device.driver == Driver::Cuda).count();
    let error = Cuda::<f32>::nth(there).unwrap_err();
    assert!(matches!(error, Error::Device { method: "cuda", .. }), "{error}");
    // With no driver, or a driver that has no device.
    assert!(there > 0 || error.to_string().contains("driver") || error.to_string().contains("none was found"), "{error}");
}

/// The toolkit's compiler of kernels, which needs no device, takes them all, for the H200 and for the oldest device. Where there is no
/// toolkit, pip has it: nvidia-cuda-nvrtc, nvidia-cuda-runtime and nvidia-cuda-cccl put it into nvidia/cu13 below site-packages, where
/// CUDA_PATH must point, and LD_LIBRARY_PATH to the lib in it.
#[test]
#[ignore = "takes minutes, and needs libnvrtc and the headers of CUDA 13, from pip as well (CUDA_PATH, LD_LIBRARY_PATH)"]
fn nvrtc_takes_every_kernel() {
    let headers = cubecl::cuda::install::include_path();
    let compile = |architecture: &'static str, source: &str| {
        let options = CompileOptions {
            arch: Some(architecture),
            include_paths: [&headers, &headers.join("cccl")].map(|path| path.display().to_string()).into(),
            ..CompileOptions::default()
        };
        compile_ptx_with_opts(source, options).err()
    };
    every_method::<f32>(2);
    every_method::<f64>(3);
    training_steps::<f32>(2);
    training_steps::<f64>(3);
    training_steps::<f32>(Dry::OLD + 2);
    training_steps::<f64>(Dry::OLD + 3);
    for (device, scalar) in [(2, "f32"), (3, "f64"), (Dry::OLD + 2, "f32"), (Dry::OLD + 3, "f64")] {
        let sources = sources(device, scalar);
        let architecture = if device < Dry::OLD { "sm_90a" } else { "sm_75" };
        let wrong: Vec<String> = sources
            .par_iter()
            .filter_map(|(name, source)| compile(architecture, source).map(|error| format!("{name}: {error:?}\n{source}")))
            .collect();
        assert!(wrong.is_empty(), "{} of {} kernels\n{}", wrong.len(), sources.len(), wrong.join("\n"));
        println!("{} kernels in {scalar} for {architecture}", sources.len());
    }
}

/// What benches/ptxas.py hands to CUDA's tools: below KERNELS a folder a scalar, in it a file a kernel, which is called `step` where a training
/// step of the models above launches it.
#[test]
#[ignore = "writes the sources into the folder KERNELS"]
fn sources_are_written() {
    let folder = std::path::PathBuf::from(std::env::var_os("KERNELS").expect("KERNELS, a folder"));
    let write = |device: usize, scalar: &str, of: &str| {
        sources(device, scalar);
        let folder = folder.join(scalar);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, kernel) in dry::kernels().iter().filter(|kernel| kernel.device == device).enumerate() {
            let source = kernel.source.as_ref().unwrap();
            let text = format!("// {}\n// units {} shared {}\n{source}", kernel.name, kernel.units, kernel.shared);
            std::fs::write(folder.join(format!("{of}-{number:03}.cu")), text).unwrap();
        }
    };
    training_steps::<f32>(8);
    write(8, "f32", "step");
    training_steps::<f64>(9);
    write(9, "f64", "step");
    every_method::<f32>(10);
    write(10, "f32", "method");
    every_method::<f64>(11);
    write(11, "f64", "method");
}
