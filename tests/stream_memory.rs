//! A stream allocates nothing once it is made: a program of its own, whose allocator counts.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use pspikessm::backend::{Cpu, Key, Lif, Real, Surrogate};
use pspikessm::nn::{BlockConfig, Encoder, Model, ModelConfig, NormKind, SpikeSource, SsmConfig, StreamConfig};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `run` allocates.
fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    run();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

fn check<E: Real>(block: BlockConfig, streams: usize) {
    let cpu = Cpu::<E>::new();
    let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Values(1), block, 3).layers(2)).unwrap();
    let mut stream = model.stream_with(&cpu, streams, StreamConfig::default().windowed(true)).unwrap();
    let (one, many) = (vec![0.5f32; streams], vec![0.5f32; 300 * streams]);
    stream.step(&one).unwrap();
    let bytes = (stream.state_bytes(), stream.working_bytes());
    let counted = allocations(|| {
        for _ in 0..200 {
            stream.step(&one).unwrap();
        }
        stream.feed(&many).unwrap();
        stream.feed_one(streams - 1, &many).unwrap();
        stream.reset(0).unwrap();
        stream.step(&one).unwrap();
    });
    assert_eq!(counted, 0);
    assert_eq!((stream.state_bytes(), stream.working_bytes()), bytes);
}

// One test: others beside it would allocate, too.
#[test]
fn nothing_is_allocated_after_the_first_step() {
    // Threads that are still starting would allocate, too.
    rayon::broadcast(|_| ());
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1, "that they are counted");
    let ssm = || SsmConfig::new(20, 4);
    check::<f32>(BlockConfig::new(ssm()).causal(), 1);
    check::<f64>(BlockConfig::new(ssm()).causal().prenorm(true).norm(NormKind::Layer), 3);
    check::<f32>(BlockConfig::new(ssm().l_max(50).causal()), 70);
    let lif = Lif { decay: 0.8, threshold: 0.6, soft_reset: true, surrogate: Surrogate::Clamp };
    check::<f32>(BlockConfig::new(ssm()).causal().source(SpikeSource::Lif(lif)), 2);
    // A million steps.
    let (cpu, block) = (Cpu::<f32>::new(), BlockConfig::new(SsmConfig::new(2, 2)).causal());
    let model = Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Values(1), block, 2).layers(1)).unwrap();
    let mut stream = model.stream(&cpu, 1).unwrap();
    let sound = vec![0.5f32; 1000];
    stream.feed(&sound).unwrap();
    assert_eq!(allocations(|| (1..1000).for_each(|_| assert_eq!(stream.feed(&sound).unwrap().len(), 2))), 0);
    assert_eq!(stream.heard(), [1_000_000]);
}
