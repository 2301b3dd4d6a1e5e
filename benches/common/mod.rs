//! What the benches share: flags, the backend, medians, the peak of memory, a pool of so many threads.

use std::collections::HashMap;

use pspikessm::{Error, Result};

/// `--name value` pairs of the command line.
pub struct Flags(HashMap<String, String>);

impl Flags {
    /// Reads the command line; refuses what is not among `known`.
    pub fn read(known: &[&str]) -> Result<Self> {
        let mut flags = HashMap::new();
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench"); // cargo adds it
        while let Some(flag) = args.next() {
            let name = flag.strip_prefix("--").filter(|name| known.contains(name));
            let name = name.ok_or_else(|| Error::config("a flag", &flag, format!("is one of --{}", known.join(" --"))))?;
            let value = args.next().ok_or_else(|| Error::config("a flag", &flag, "wants a value"))?;
            flags.insert(name.to_owned(), value);
        }
        Ok(Flags(flags))
    }

    /// The value of a flag.
    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, name: &'static str, default: T) -> Result<T> {
        self.0.get(name).map_or(Ok(default), |value| value.parse().map_err(|_| Error::config(name, value, "wants a number")))
    }

    /// Runs `f` on as many threads as `--threads` says.
    pub fn on_threads<T: Send>(&self, f: impl FnOnce(usize) -> Result<T> + Send) -> Result<T> {
        let threads = self.number("threads", 1)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::config("threads", threads, e.to_string()))?;
        pool.install(|| f(threads))
    }
}

/// `on_backend!(flags, backend => run)`: runs on the backend that `--backend` names, in f32.
macro_rules! on_backend {
    ($flags:expr, $backend:ident => $run:expr) => {
        match $flags.text("backend", "cpu") {
            "cpu" => {
                let $backend = pspikessm::backend::Cpu::<f32>::new();
                $run
            }
            #[cfg(feature = "wgpu")]
            "wgpu" => {
                let $backend = pspikessm::backend::Wgpu::new()?;
                $run
            }
            #[cfg(feature = "cuda")]
            "cuda" => {
                let $backend = pspikessm::backend::Cuda::<f32>::new()?;
                $run
            }
            other => {
                Err(pspikessm::Error::config("--backend", other, "is one of cpu, wgpu, cuda, the last two in builds with that feature"))
            }
        }
    };
}
pub(crate) use on_backend;

/// The median time of `steps` runs, in seconds, after one that makes tables and buffers.
pub fn median_time(steps: usize, mut run: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    run(0)?;
    let mut times = Vec::with_capacity(steps);
    for i in 1..=steps.max(1) {
        let start = std::time::Instant::now();
        run(i as u64)?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// The most memory that the process ever held, in MB.
pub fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}
