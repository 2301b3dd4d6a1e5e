//! Progress bars, of the epoch, of the run, of evaluations and of downloads: on stderr, where that is a terminal.

use std::fmt;
use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::trainer::StepReport;
#[cfg(feature = "download")]
use crate::data::download::Event;

// What stands right of the bars is equally wide, and so the bars are.
const EPOCH: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {msg:35}";
const RUN: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {speed:>9} {eta:>4} left {msg:15}";

const EVALUATION: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {speed:>9} {eta:>4} left                ";

#[cfg(feature = "download")]
const BYTES: &str = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
#[cfg(feature = "download")]
const BYTES_WITHOUT_END: &str = "{prefix} {spinner} {bytes} {bytes_per_sec}";

/// Where a run is, for someone who watches.
#[derive(Debug)]
pub(super) struct Progress {
    bars: MultiProgress,
    epoch: ProgressBar,
    run: ProgressBar,
    per_epoch: u64,
    /// What the metric is called.
    metric: &'static str,
}

impl Progress {
    /// The bars of a run of `total` steps, of which `done` are taken; an epoch has `per_epoch`. `metric` is the
    /// metric's name.
    pub fn new(name: &str, done: u64, total: u64, per_epoch: u64, metric: &'static str, quiet: bool) -> Self {
        let bars = group(quiet);
        let epoch = bar(&bars, per_epoch, EPOCH, "");
        let run = bar(&bars, total, RUN, name).with_position(done);
        // An earlier run's steps say nothing about this one's speed: the bar counts them, but not their rate.
        run.tick();
        run.reset_eta();
        Progress { bars, epoch, run, per_epoch, metric }
    }

    /// A bar of the validation, below the others.
    pub fn validation(&self) -> Evaluation {
        Evaluation(bar(&self.bars, 0, EVALUATION, "validation"))
    }

    /// Says something above the bars.
    pub fn warn(&self, line: &str) {
        // Where stderr cannot be written to, there is nobody who reads it.
        self.bars.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }

    /// Shows the number of steps taken, the best metric in validation, and the last steps' loss and metric.
    pub fn show(&self, done: u64, best: Option<f64>, recent: Option<StepReport>) {
        // After the last batch of an epoch the bar stands full, not empty.
        let before = done.saturating_sub(1);
        self.epoch.set_prefix(format!("epoch {}", before / self.per_epoch + 1));
        self.epoch.set_position(before % self.per_epoch + 1);
        if let Some(StepReport { loss, metric }) = recent {
            self.epoch.set_message(format!("loss {loss:.4} {} {metric:.4}", self.metric));
        }
        if let Some(best) = best {
            self.run.set_message(format!("best val {best:.4}"));
        }
        self.run.set_position(done);
    }
}

/// How far an evaluation is; the bar is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Evaluation(ProgressBar);

impl Evaluation {
    /// A bar of the test.
    pub fn test(quiet: bool) -> Self {
        Evaluation(bar(&group(quiet), 0, EVALUATION, "test"))
    }

    /// Shows how many samples of how many are done.
    pub fn show(&self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How far a download is, in bytes, and what it says.
#[cfg(feature = "download")]
pub(super) struct Download {
    quiet: bool,
    /// Of the present piece of work; gone when it ends.
    bar: std::cell::RefCell<Option<ProgressBar>>,
}

#[cfg(feature = "download")]
impl Download {
    /// Bars and lines, or, where it is `quiet`, neither.
    pub fn new(quiet: bool) -> Self {
        Download { quiet, bar: None.into() }
    }

    /// Shows what happens.
    pub fn show(&self, event: Event<'_>) {
        if self.quiet {
            return;
        }
        match event {
            // Where stderr cannot be written to, there is nobody who reads it.
            Event::Line(line) => drop(writeln!(io::stderr(), "{line}")),
            Event::Begin { what, done, total } => drop(self.bar.replace(Some(bytes(what, done, total)))),
            Event::Done(done) => self.bar.borrow().iter().for_each(|bar| bar.set_position(done)),
            // What is printed next has a line of its own.
            Event::End => self.bar.take().iter().for_each(ProgressBar::finish_and_clear),
        }
    }
}

/// A bar of `total` bytes, of which `done` are done.
#[cfg(feature = "download")]
fn bytes(what: &str, done: u64, total: Option<u64>) -> ProgressBar {
    let template = if total.is_some() { BYTES } else { BYTES_WITHOUT_END };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let bar = bar.with_style(style).with_prefix(what.to_string()).with_position(done);
    // What was done in an earlier run says nothing about the speed of this one.
    bar.reset_eta();
    bar
}

/// A place for bars.
fn group(quiet: bool) -> MultiProgress {
    // Where stderr is no terminal, indicatif shows nothing either.
    MultiProgress::with_draw_target(if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() })
}

fn bar(bars: &MultiProgress, length: u64, template: &str, prefix: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bars.add(ProgressBar::new(length).with_style(style.with_key("speed", speed)).with_prefix(prefix.to_string()))
}

/// Steps, or samples, a second.
fn speed(state: &ProgressState, out: &mut dyn fmt::Write) {
    // A bar has nobody to tell of an error.
    let _ = write!(out, "{:.*}/s", if state.per_sec() < 10.0 { 2 } else { 0 }, state.per_sec());
}

impl Drop for Progress {
    fn drop(&mut self) {
        // On errors too, so that what is printed next has a line of its own.
        self.epoch.finish_and_clear();
        self.run.finish_and_clear();
    }
}
