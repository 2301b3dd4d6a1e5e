//! Kernels compiled ahead: CubeCL's cache on the disk, filled without a device, so that a GPU that is there for minutes need not wait for NVRTC.
//!
//! CubeCL looks it up by the kernel, not by its source: a cache belongs to one state of the code. The NVRTC that is taken here must be no newer
//! than the driver that loads what it makes.

use std::ffi::c_char;
use std::path::{Path, PathBuf};

use cubecl::cache::CacheOption;
use cubecl::compilation_cache::CompilationCache;
use cubecl::hash::StableHash;
use cudarc::nvrtc::{result, sys};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::budget::{RECIPES, step_and_pass, trainer};
use super::{dry, every_method, sources, training_steps};

/// As the CUDA runtime keeps a kernel.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PtxCacheEntry {
    entrypoint_name: String,
    shared_mem_bytes: usize,
    ptx: Vec<c_char>,
}

/// The machine code of a source, by the options of the CUDA runtime. That keeps PTX; the driver loads either, and would compile PTX once more.
fn machine_code(source: &str, headers: &Path) -> Vec<c_char> {
    let include = |path: PathBuf| format!("--include-path={}", path.display());
    let options = ["--gpu-architecture=sm_90a".into(), include(headers.into()), include(headers.join("cccl"))];
    let source = std::ffi::CString::new(source).unwrap();
    #[allow(unsafe_code, reason = "NVRTC is a foreign library")]
    // SAFETY: the source outlives the program, which nobody else has, and which is not used after it is given back; the code has the size that
    // NVRTC asks for.
    unsafe {
        let program = result::create_program(&source, None).unwrap();
        result::compile_program::<String>(program, &options).unwrap();
        let mut size = 0;
        sys::nvrtcGetCUBINSize(program, &mut size).result().unwrap();
        let mut code = vec![0; size];
        sys::nvrtcGetCUBIN(program, code.as_mut_ptr()).result().unwrap();
        result::destroy_program(program).unwrap();
        code
    }
}

/// Those of the tests and of training steps and inference passes of the paper's recipes, for an H100 or H200.
#[test]
#[ignore = "fills the folder CACHE; needs libnvrtc and the headers of CUDA, from pip as well (CUDA_PATH, LD_LIBRARY_PATH)"]
fn kernels_are_compiled_ahead() {
    let root = PathBuf::from(std::env::var_os("CACHE").expect("CACHE, a folder"));
    let headers = cubecl::cuda::install::include_path();
    for (number, recipe) in RECIPES.into_iter().enumerate() {
        step_and_pass(30 + number, &mut trainer(30 + number, recipe, None));
    }
    training_steps::<f32>(33);
    every_method::<f32>(33);
    training_steps::<f64>(34);
    every_method::<f64>(34);
    (30..35).for_each(|device| drop(sources(device, if device < 34 { "f32" } else { "f64" })));
    let mut cache = CompilationCache::<StableHash, PtxCacheEntry>::new("ptx", CacheOption::default().name("cuda").root(&root));
    let kernels = dry::kernels();
    let mut own: Vec<_> = kernels.iter().filter(|kernel| (30..35).contains(&kernel.device)).collect();
    own.sort_by_key(|kernel| kernel.key);
    own.dedup_by_key(|kernel| kernel.key);
    let compiled: Vec<_> = own.par_iter().map(|kernel| machine_code(kernel.source.as_ref().unwrap(), &headers)).collect();
    for (kernel, code) in own.iter().zip(compiled) {
        let entry = PtxCacheEntry { entrypoint_name: kernel.entry.clone(), shared_mem_bytes: kernel.shared, ptx: code };
        assert!(cache.insert(kernel.key, entry).is_ok(), "{} stands in the cache, and is another", kernel.name);
    }
    println!("{} kernels", own.len());
}
