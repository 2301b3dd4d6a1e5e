//! Progress bars, of the epoch, of the run and of evaluations: on stderr, where that is a terminal.

use std::fmt::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::trainer::StepReport;

// What stands right of the bars is equally wide, and so the bars are.
const EPOCH: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {msg:35}";
const RUN: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {speed:>9} {eta:>4} left {msg:15}";

const EVALUATION: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {speed:>9} {eta:>4} left                ";

/// Where a run is, for someone who watches.
#[derive(Debug)]
pub(super) struct Progress {
    bars: MultiProgress,
    epoch: ProgressBar,
    run: ProgressBar,
    per_epoch: u64,
}

impl Progress {
    /// Bars of a run of `total` steps that stands at `done`, `per_epoch` of them an epoch.
    pub fn new(name: &str, done: u64, total: u64, per_epoch: u64, quiet: bool) -> Self {
        let bars = group(quiet);
        let epoch = bar(&bars, per_epoch, EPOCH, "");
        let run = bar(&bars, total, RUN, name).with_position(done);
        // The steps of an earlier run say nothing about the speed of this one: the bar takes note of them, and forgets how fast they came.
        run.tick();
        run.reset_eta();
        Progress { bars, epoch, run, per_epoch }
    }

    /// A bar of the validation, below the others.
    pub fn validation(&self) -> Evaluation {
        Evaluation(bar(&self.bars, 0, EVALUATION, "validation"))
    }

    /// Shows the number of steps taken, the best validation accuracy, and what came of the last steps.
    pub fn show(&self, done: u64, best: Option<f64>, recent: Option<StepReport>) {
        // After the last batch of an epoch the bar stands full, not empty.
        let before = done.saturating_sub(1);
        self.epoch.set_prefix(format!("epoch {}", before / self.per_epoch + 1));
        self.epoch.set_position(before % self.per_epoch + 1);
        if let Some(StepReport { loss, accuracy }) = recent {
            self.epoch.set_message(format!("loss {loss:.4} accuracy {accuracy:.4}"));
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
fn speed(state: &ProgressState, out: &mut dyn Write) {
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
