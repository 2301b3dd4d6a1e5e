//! What a user is told of a run: how it begins and ends, what was left out, the tables of an evaluation and of a prediction.

use std::io::Write;

use super::console::{complain, print};
use super::outcome::{Errors, Summary};
use super::{Evaluation, Flags, Output, Recipe, Reduce, Task, Trainer, Transport, energy};
use crate::backend::Backend;
use crate::data::{Dataset, Faults};
use crate::error::Result;
use crate::nn::Module;

/// Says what is about to be trained, or was.
pub(super) fn say_header<B: Backend>(backend: &B, trainer: &Trainer<B>, steps_done: u64, flags: &Flags) {
    if flags.quiet {
        return;
    }
    let sets = trainer.splits();
    complain(&format!(
        "{} {} on {}: {} parameters; {} training, {} validation, {} test samples; {} of {} steps done",
        trainer.task(),
        trainer.recipe().name,
        backend.name(),
        trainer.model().num_parameters(),
        sets.train.len(),
        sets.val.len(),
        sets.test.len(),
        steps_done,
        trainer.steps_total()
    ));
    let (processes, micro_batches) = (trainer.group.size(), trainer.plan.run.batch.div_ceil(trainer.plan.run.micro_batch()));
    if processes > 1 {
        let how = match trainer.group.reduce {
            Reduce::Fixed => format!("the bits of one process with --accumulate {}", trainer.plan.run.accumulate),
            Reduce::Fast => "sums in any order".into(),
        };
        let by = if flags.transport == Transport::Nccl { " by NCCL" } else { "" };
        complain(&format!("{processes} processes{by}, {micro_batches} micro-batches a step; {how}"));
    }
    if processes > micro_batches {
        complain(&format!("{} processes train nothing: with --accumulate, a new run has more micro-batches", processes - micro_batches));
    }
    let reading = sets.train.reading();
    if !reading.is_empty() {
        let known: Vec<String> = reading.iter().map(|(name, value)| format!("{name}={value}")).collect();
        complain(&format!("data as they were read: {}", known.join(" ")));
    }
}

/// Says what was reached, beside what needs no model, and where there is more to see. The test was of the weights at the end, which are those
/// of the best epoch only where the run ended with it: `best` is that epoch, and whether it was the end.
pub(super) fn say_end(summary: &Summary, output: Option<&Output>, best: Option<(u64, bool)>) {
    let Summary { test, majority, errors, .. } = summary;
    complain(&match errors {
        Some(Errors { rmse, mean_rmse }) => {
            format!("test rmse {rmse:.4}; whoever always says the mean of the training set has {mean_rmse:.4}")
        }
        None => format!("test accuracy {:.4}; whoever always says the most common class has {majority:.4}", test.metric),
    });
    let Some(output) = output else { return complain("nothing was kept: --out DIR keeps the weights, the curves and a report") };
    complain(&format!("curves and spikes: {}", output.dir().join("report.html").display()));
    let at_end = if best.is_some_and(|(_, is_end)| is_end) { output.best() } else { output.checkpoint() };
    complain(&format!("weights, for --predict and --eval-only: --checkpoint {}", at_end.display()));
    if let Some((epoch, false)) = best {
        complain(&format!("weights of epoch {epoch}, the best in validation: --checkpoint {}", output.best().display()));
    }
}

/// Says how much the processes have told each other.
pub(super) fn say_traffic<B: Backend>(trainer: &Trainer<B>, before: u64, steps_before: u64, flags: &Flags) {
    let steps = trainer.steps_done().saturating_sub(steps_before);
    if !flags.quiet && !trainer.group.is_alone() && steps > 0 {
        let kilobytes = (trainer.bytes_sent() - before) as f64 / steps as f64 / 1e3;
        complain(&format!(
            "this process has sent {kilobytes:.1} kB a step to the {} others, validations included",
            trainer.group.size() - 1
        ));
    }
}

/// Says from where a run that has failed can go on.
pub(super) fn say_what_is_kept(output: Option<&Output>) {
    if let Some((output, step)) = output.and_then(|output| Some((output, output.saved()?))) {
        complain(&format!("the checkpoint of step {step} is kept: {}", output.checkpoint().display()));
    }
}

/// Says which samples were left out.
pub(super) fn complain_of(faults: &Faults) {
    const SHOWN: usize = 10;
    if faults.count() == 0 {
        return;
    }
    complain(&format!("{} bad samples were left out:", faults.count()));
    faults.reports(SHOWN).iter().for_each(|report| complain(&format!("  {report}")));
    if faults.count() > SHOWN {
        complain("  ..");
    }
}

/// Prints the energy, if wanted, and the result line.
pub(super) fn print_result<B: Backend>(trainer: &Trainer<B>, flags: &Flags, summary: &Summary, out: &mut dyn Write) -> Result<()> {
    if flags.energy {
        print(out, &energy::Table::new(trainer.model().config(), &summary.test.layers).to_string())?;
    }
    print(out, &summary.to_string())
}

/// Prints which classes were taken for which others, where there are classes.
pub(super) fn print_confusion<B: Backend>(task: &dyn Task, trainer: &Trainer<B>, test: &Evaluation, out: &mut dyn Write) -> Result<()> {
    if test.confusion.is_empty() {
        return Ok(());
    }
    print(out, &confusion(&test.confusion, &class_names(task, trainer.recipe(), &trainer.splits().train)))
}

/// The confusion matrix: a row for each true class, a column for each class that was taken for it.
fn confusion(counts: &[Vec<u64>], names: &[String]) -> String {
    let name = |class: usize| names.get(class).map_or("?", String::as_str);
    let width = counts.iter().flatten().map(|count| count.to_string().len()).chain((0..counts.len()).map(|class| name(class).len()));
    let width = width.max().unwrap_or(0) + 1;
    let head: String = (0..counts.len()).map(|class| format!("{:>width$}", name(class))).collect();
    let row = |(class, row): (usize, &Vec<u64>)| {
        let cells: String = row.iter().map(|count| format!("{count:>width$}")).collect();
        format!("\n{:>width$}{cells}", name(class))
    };
    let rows: String = counts.iter().enumerate().map(row).collect();
    format!("true classes in rows, what they were taken for in columns:\n{}{head}{rows}", " ".repeat(width))
}

/// Prints all classes of a sample, the most probable first; of several samples, their numbers and that class alone.
pub(super) fn print_classes(found: &[Vec<f64>], names: &[String], out: &mut dyn Write) -> Result<()> {
    for (number, probabilities) in found.iter().enumerate() {
        let mut classes: Vec<(usize, f64)> = probabilities.iter().copied().enumerate().collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        if found.len() > 1 {
            classes.truncate(1);
        }
        for (class, probability) in classes {
            let name = names.get(class).map_or("?", String::as_str);
            print(out, &if found.len() > 1 { format!("{number} {probability:.4} {name}") } else { format!("{probability:.4} {name}") })?;
        }
    }
    Ok(())
}

/// What the classes are called: by the data, or else by the task.
pub(super) fn class_names(task: &dyn Task, recipe: &Recipe, set: &Dataset) -> Vec<String> {
    if set.class_names().is_empty() { task.class_names(recipe) } else { set.class_names().to_vec() }
}
