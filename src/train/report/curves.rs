//! Curves: which charts a report shows, and what is in them.

use std::collections::{BTreeMap, BTreeSet};

use plotters::style::RGBColor;

use super::chart::{Chart, Line, Look};
use super::history::{Entry, History};
use super::theme::{TEST, TRAIN, VALIDATION, series};
use super::thin::{Point, extremes, smooth};
use crate::error::Result;

/// Columns that a curve is thinned out to.
pub(super) const COLUMNS: usize = 400;
/// The share of all points over which a curve is smoothed.
pub(super) const SMOOTHED: f64 = 0.02;

/// A chart with what explains it.
pub(super) struct Figure {
    pub title: String,
    pub legend: Vec<(RGBColor, Look, String)>,
    pub svg: String,
}

/// All figures of a run, those without data left out.
pub(super) fn figures(history: &History) -> Result<Vec<Figure>> {
    let mut charts = Vec::from(learnt(history));
    charts.extend([learning_rate(history), all_spikes(history)]);
    charts.extend(spikes(history));
    drawn(charts)
}

/// Loss, and the absolute error of numbers or the accuracy.
pub(super) fn learnt(history: &History) -> [Named; 3] {
    let all = [&history.train[..], &history.validation, history.test.as_slice()];
    let of_numbers = all.into_iter().flatten().any(|entry| entry.absolute_error.is_some());
    let loss = if of_numbers { "squared error (deviations)" } else { "cross-entropy (nats)" };
    [
        learning(history, ("Loss", loss), (0.0, f64::MAX), |entry| entry.loss),
        learning(history, ("Absolute error", "in units of the data"), (0.0, f64::MAX), |entry| entry.absolute_error),
        learning(history, ("Accuracy", "share of samples classified rightly"), (0.0, 1.0), |entry| entry.accuracy),
    ]
}

/// The charts that have something in them.
pub(super) fn drawn(charts: Vec<Named>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (title, chart, names) in charts {
        let Some(svg) = chart.svg()? else { continue };
        let legend = chart.lines.iter().zip(names).filter(|(line, _)| !line.points.is_empty());
        let legend = legend.map(|(line, name)| (line.colour, line.look, name)).collect();
        figures.push(Figure { title, legend, svg });
    }
    Ok(figures)
}

/// A title, a chart, and a name for each of its lines, unless the title says it.
pub(super) type Named = (String, Chart, Vec<String>);

/// What training, validation and test came to.
fn learning(history: &History, (title, y): (&str, &'static str), bounds: (f64, f64), value: fn(&Entry) -> Option<f64>) -> Named {
    let raw = points(&history.train, value);
    let lines = vec![
        Line { colour: TRAIN, look: Look::Raw, points: extremes(&raw, COLUMNS) },
        Line { colour: TRAIN, look: Look::Line, points: smooth(&raw, COLUMNS, SMOOTHED) },
        Line { colour: VALIDATION, look: Look::Dots, points: extremes(&points(&history.validation, value), COLUMNS) },
        Line { colour: TEST, look: Look::Dots, points: points(history.test.as_slice(), value) },
    ];
    let names = ["training", "training, moving mean", "validation", "test"].map(String::from).into();
    (title.into(), chart(history, title, y, bounds, lines), names)
}

fn learning_rate(history: &History) -> Named {
    let points = extremes(&points(&history.train, |entry| entry.lr), COLUMNS);
    let line = Line { colour: TRAIN, look: Look::Line, points };
    let title = "Learning rate";
    (title.into(), chart(history, title, "of the optimiser's main group", (0.0, f64::MAX), vec![line]), Vec::new())
}

pub(super) const RATE: &str = "spikes per neuron and time step";

/// The rate of all neurons together.
fn all_spikes(history: &History) -> Named {
    let mut lines = Vec::new();
    let evaluated = [(VALIDATION, Look::Dots, &history.validation[..]), (TEST, Look::Dots, history.test.as_slice())];
    for (colour, look, entries) in [(TRAIN, Look::Line, &history.spikes[..])].into_iter().chain(evaluated) {
        lines.push(Line { colour, look, points: extremes(&points(entries, |entry| entry.spike_rate), COLUMNS) });
    }
    let title = "Spike rate, all layers";
    (title.into(), chart(history, title, RATE, (0.0, 1.0), lines), ["training", "validation", "test"].map(String::from).into())
}

/// A chart for each place where neurons spike, with a line for each layer: of training batches, or, where none was counted, of validations.
fn spikes(history: &History) -> Vec<Named> {
    let mut sites = BTreeMap::<&str, BTreeSet<usize>>::new();
    let (entries, look) = match &history.spikes[..] {
        [] => (&history.validation[..], Look::Dots),
        spikes => (spikes, Look::Line),
    };
    for rate in entries.iter().flat_map(|entry| &entry.layers) {
        sites.entry(&rate.site).or_default().insert(rate.layer);
    }
    let of_site = |(site, layers): (&str, BTreeSet<usize>)| {
        let line = |&layer: &usize| {
            let rate = |entry: &Entry| entry.layers.iter().find(|rate| rate.layer == layer && rate.site == site)?.rate;
            Line { colour: series(layer), look, points: extremes(&points(entries, rate), COLUMNS / 2) }
        };
        let title = format!("Spike rate, {}", site.replace('_', " "));
        let chart = chart(history, &title, RATE, (0.0, 1.0), layers.iter().map(line).collect());
        (title, chart, layers.iter().map(|layer| format!("layer {layer}")).collect())
    };
    sites.into_iter().map(of_site).collect()
}

fn chart(history: &History, title: &str, y: &'static str, bounds: (f64, f64), lines: Vec<Line>) -> Chart {
    Chart { label: format!("{title} over steps"), y, last: history.last_step() as f64, bounds, lines }
}

/// The finite values over their steps.
pub(super) fn points(entries: &[Entry], value: impl Fn(&Entry) -> Option<f64>) -> Vec<Point> {
    // Beyond what a float is, an axis makes no sense.
    let drawable = |value: &f64| value.abs() <= f64::from(f32::MAX);
    entries.iter().filter_map(|entry| Some((entry.step as f64, value(entry).filter(drawable)?))).collect()
}
