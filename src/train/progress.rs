//! Progress bars, of the epoch and of the run: on stderr, where that is a terminal.

use std::fmt::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::trainer::StepReport;

// What stands right of the bars is equally wide, and so the bars are.
const EPOCH: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {msg:35}";
const RUN: &str = "{prefix:>12} {wide_bar} {pos:>6}/{len:<6} {speed:>9} {eta:>4} left {msg:15}";

/// Where a run is, for someone who watches.
#[derive(Debug)]
pub(super) struct Progress {
    epoch: ProgressBar,
    run: ProgressBar,
    per_epoch: u64,
}

impl Progress {
    /// Bars of a run of `total` steps that stands at `done`, `per_epoch` of them an epoch.
    pub fn new(name: &str, done: u64, total: u64, per_epoch: u64, quiet: bool) -> Self {
        // Where stderr is no terminal, indicatif shows nothing either.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bars = MultiProgress::with_draw_target(target);
        let bar = |length, template, prefix: &str| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let style = style.with_key("speed", speed);
            bars.add(ProgressBar::new(length).with_style(style).with_prefix(prefix.to_string()))
        };
        let epoch = bar(per_epoch, EPOCH, "");
        let run = bar(total, RUN, name).with_position(done);
        // The steps of an earlier run say nothing about the speed of this one: the bar takes note of them, and forgets how fast they came.
        run.tick();
        run.reset_eta();
        Progress { epoch, run, per_epoch }
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

/// Steps a second.
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
