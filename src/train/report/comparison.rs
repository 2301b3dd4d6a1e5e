//! The page of several runs: their curves over each other, what they came to, and what differs between their recipes.

use std::collections::{BTreeMap, BTreeSet};

use super::chart::{Chart, Line, Look};
use super::curves::{COLUMNS, Named, RATE, SMOOTHED, drawn, points};
use super::history::{Entry, History};
use super::markup::{duration, escape, grouped, share};
use super::page::{document, grid, section};
use super::theme::series;
use super::thin::{extremes, smooth};
use crate::error::Result;
use crate::train::recipe;
use crate::train::spread::Spread;

/// A run, and what the page calls it.
pub(super) struct Compared {
    pub name: String,
    pub history: History,
}

impl Compared {
    /// Everything that may differ: the values of the recipe by their keys, and what else the first line of the metrics says.
    fn values(&self) -> BTreeMap<String, String> {
        let run = &self.history.run;
        let mut values = recipe::values_in(&run.recipe);
        let others = [("task", run.task.clone()), ("backend", run.backend.clone()), ("training samples", run.samples.to_string())];
        values.extend(others.map(|(name, value)| (name.into(), value)));
        values
    }

    fn row(&self) -> Row {
        let history = &self.history;
        let last = &history.train[history.train.len().saturating_sub(LAST)..];
        let losses: Vec<f64> = last.iter().filter_map(|entry| entry.loss).collect();
        let test = |value: fn(&Entry) -> Option<f64>| history.test.as_ref().and_then(value);
        Row {
            training_loss: Spread::of(&losses).map(|spread| spread.mean),
            best: history.best().map(|(_, accuracy)| accuracy),
            test: [test(|entry| entry.accuracy), test(|entry| entry.loss), test(|entry| entry.spike_rate)],
        }
    }
}

/// Lines of metrics over whose end the training loss is a mean.
const LAST: usize = 10;

/// What a run came to.
struct Row {
    training_loss: Option<f64>,
    best: Option<f64>,
    /// Accuracy, loss and spike rate.
    test: [Option<f64>; 3],
}

const COLUMN_NAMES: [&str; 5] = ["training loss, last steps", "best validation accuracy", "test accuracy", "test loss", "test spike rate"];

impl Row {
    fn numbers(&self) -> [Option<f64>; 5] {
        let [accuracy, loss, rate] = self.test;
        [self.training_loss, self.best, accuracy, loss, rate]
    }
}

/// The page of these runs.
pub(super) fn html(title: &str, runs: &[Compared]) -> Result<String> {
    let title = escape(title);
    let sections = [
        format!("<header><h1>{title}</h1></header>\n"),
        section("Results", &results(runs)),
        section("What differs", &differences(runs)),
        section("Curves", &grid(&drawn(charts(runs))?)),
    ];
    Ok(document(&title, &sections))
}

/// A row for each run; for runs that differ in nothing but the seed their mean and standard deviation.
fn results(runs: &[Compared]) -> String {
    let names: String = COLUMN_NAMES.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let row = |run: &Compared| {
        let history = &run.history;
        let state = if history.test.is_some() { "" } else { " <small>goes on</small>" };
        let cells: String = run.row().numbers().map(|number| format!("<td>{}</td>", number.map_or("–".into(), share))).concat();
        let steps = format!("{} of {}{state}", grouped(history.last_step()), grouped(history.run.steps));
        let (parameters, time) = (grouped(history.run.parameters), duration(history.seconds));
        let name = escape(&run.name);
        format!("<tr><th scope=\"row\">{name}</th>{cells}<td>{steps}</td><td>{parameters}</td><td>{time}</td></tr>")
    };
    let rows: String = runs.iter().map(row).chain(groups(runs).iter().map(|group| summary(group))).collect();
    format!(
        "<div class=\"wide\"><table><thead><tr><td></td>{names}<th scope=\"col\">steps</th><th scope=\"col\">parameters</th>\
         <th scope=\"col\">time</th></tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
}

/// Runs, two or more each, that differ in nothing but the seed.
fn groups(runs: &[Compared]) -> Vec<Vec<&Compared>> {
    let mut groups = BTreeMap::<_, Vec<&Compared>>::new();
    for run in runs {
        let mut values = run.values();
        values.remove("run.seed");
        groups.entry(values).or_default().push(run);
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

/// The mean of a group, and the deviation within it, of the runs that have come so far.
fn summary(group: &[&Compared]) -> String {
    let column = |at: usize| {
        let numbers: Vec<f64> = group.iter().filter_map(|run| run.row().numbers()[at]).collect();
        Spread::of(&numbers).map_or("<td>–</td>".into(), |Spread { mean, deviation }| {
            let of = if numbers.len() == group.len() { String::new() } else { format!(" <small>of {}</small>", numbers.len()) };
            format!("<td><b>{} ± {}</b>{of}</td>", share(mean), share(deviation))
        })
    };
    let cells: String = (0..COLUMN_NAMES.len()).map(column).collect();
    let names = escape(&group.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", "));
    let time = duration(group.iter().map(|run| run.history.seconds).sum());
    format!("<tr><th scope=\"row\">mean ± standard deviation<br/><small>{names}</small></th>{cells}<td></td><td></td><td>{time}</td></tr>")
}

/// A row for each value that is not the same in all runs.
fn differences(runs: &[Compared]) -> String {
    let all: Vec<BTreeMap<String, String>> = runs.iter().map(Compared::values).collect();
    let keys: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let differing = keys.into_iter().filter(|key| all.iter().any(|values| values.get(*key) != all[0].get(*key)));
    let row = |key: &String| {
        let cell = |values: &BTreeMap<String, String>| format!("<td>{}</td>", values.get(key).map_or("–".into(), |value| escape(value)));
        format!("<tr><th scope=\"row\">{}</th>{}</tr>", escape(key), all.iter().map(cell).collect::<String>())
    };
    let rows: String = differing.map(row).collect();
    if rows.is_empty() {
        return "<p>Nothing: the recipes, the backends and the numbers of training samples are the same.</p>\n".into();
    }
    let names: String = runs.iter().map(|run| format!("<th scope=\"col\">{}</th>", escape(&run.name))).collect();
    format!("<div class=\"wide\"><table><thead><tr><td></td>{names}</tr></thead><tbody>{rows}</tbody></table></div>\n")
}

/// The charts, a line for each run in each.
fn charts(runs: &[Compared]) -> Vec<Named> {
    const LOSS: (&str, (f64, f64)) = ("cross-entropy (nats)", (0.0, f64::MAX));
    const ACCURACY: (&str, (f64, f64)) = ("share of samples classified rightly", (0.0, 1.0));
    vec![
        chart(runs, "Loss, training, moving mean", LOSS, Look::Line, |history| (&history.train, |entry| entry.loss)),
        chart(runs, "Loss, validation", LOSS, Look::Dots, |history| (&history.validation, |entry| entry.loss)),
        chart(runs, "Accuracy, training, moving mean", ACCURACY, Look::Line, |history| (&history.train, |entry| entry.accuracy)),
        chart(runs, "Accuracy, validation", ACCURACY, Look::Dots, |history| (&history.validation, |entry| entry.accuracy)),
        chart(runs, "Spike rate, training batches", (RATE, (0.0, 1.0)), Look::Line, |history| (&history.spikes, |entry| entry.spike_rate)),
        chart(runs, "Spike rate, validation", (RATE, (0.0, 1.0)), Look::Dots, |history| (&history.validation, |entry| entry.spike_rate)),
    ]
}

/// Some lines of a run's metrics, and what is drawn of each.
type Series<'a> = (&'a [Entry], fn(&Entry) -> Option<f64>);

fn chart(
    runs: &[Compared],
    title: &str,
    (y, bounds): (&'static str, (f64, f64)),
    look: Look,
    of: impl Fn(&History) -> Series<'_>,
) -> Named {
    let line = |(number, run): (usize, &Compared)| {
        let (entries, value) = of(&run.history);
        let raw = points(entries, value);
        let points = if look == Look::Line { smooth(&raw, COLUMNS, SMOOTHED) } else { extremes(&raw, COLUMNS) };
        Line { colour: series(number), look, points }
    };
    let last = runs.iter().map(|run| run.history.last_step()).max().unwrap_or(0) as f64;
    let lines = runs.iter().enumerate().map(line).collect();
    let names = runs.iter().map(|run| run.name.clone()).collect();
    (title.into(), Chart { label: format!("{title} over steps"), y, last, bounds, lines }, names)
}
