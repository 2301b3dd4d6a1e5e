//! The page: what a run is, how it went, what came of it.

use plotters::style::RGBColor;

use super::chart::Look;
use super::curves::{Figure, figures};
use super::history::{Entry, History};
use super::markup::{duration, escape, grouped, share};
use super::tables::{confusion, rates};
use super::theme::{drawing_style, hex};
use crate::error::Result;

const STYLE: &str = include_str!("report.css");

/// The page of a run, with these drawings under their headings.
pub(super) fn html(history: &History, pictures: &[(&str, String)]) -> Result<String> {
    let title = escape(&history.title());
    let figures = figures(history)?;
    let sections = [
        header(&title, history),
        section("Curves", &grid(&figures)),
        history.test.as_ref().map_or(String::new(), |test| section("Test", &result(test, &history.run.classes))),
        drawings(history, pictures),
        recipe(&history.run.recipe),
    ];
    Ok(document(&title, &sections))
}

/// A whole page with this title and these sections, in HTML both.
pub(super) fn document(title: &str, sections: &[String]) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><meta name=\"color-scheme\" content=\"light dark\"/>\
         <title>{title}</title><style>\n{STYLE}{}\n</style></head>\n<body><main>\n{}</main></body></html>\n",
        drawing_style(),
        sections.concat()
    )
}

pub(super) fn section(heading: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<section><h2>{heading}</h2>\n{content}</section>\n") }
}

/// What the run is, and how far it is.
fn header(title: &str, history: &History) -> String {
    let run = &history.run;
    let (done, all) = (grouped(history.last_step()), grouped(run.steps));
    let state = match history.test {
        Some(_) => format!("<p class=\"state\">The run has finished, after {done} of {all} steps.</p>"),
        None => format!(
            "<p class=\"state open\">The run has not finished: {done} of {all} steps are in its metrics. <code>--report --out</code> with its \
             folder writes this page anew.</p>"
        ),
    };
    let known = |number: u64| (number > 0).then(|| grouped(number));
    let mut facts = vec![
        ("backend", (!run.backend.is_empty()).then(|| escape(&run.backend))),
        ("parameters", known(run.parameters)),
        ("training samples", known(run.samples)),
        ("classes", known(run.classes.len() as u64)),
        ("time", (history.seconds > 0.0).then(|| duration(history.seconds))),
    ];
    let best = history.best().map(|(entry, accuracy)| format!("{} <small>epoch {}</small>", share(accuracy), grouped(entry.epoch)));
    facts.push(("best validation accuracy", best));
    if let Some(test) = &history.test {
        facts.push(("test accuracy", test.accuracy.map(share)));
        facts.push(("test absolute error", test.absolute_error.map(|error| format!("{error:.4}"))));
        facts.push(("test spike rate", test.spike_rate.map(share)));
    }
    format!("<header><h1>{title}</h1>{state}{}</header>\n", list(&facts))
}

/// Names and values, those without a value left out.
fn list(facts: &[(&str, Option<String>)]) -> String {
    let item = |(name, value): &(&str, Option<String>)| Some(format!("<div><dt>{name}</dt><dd>{}</dd></div>", value.as_ref()?));
    format!("<dl>{}</dl>\n", facts.iter().filter_map(item).collect::<String>())
}

/// Figures beside each other.
pub(super) fn grid(figures: &[Figure]) -> String {
    if figures.is_empty() {
        return "<p>The first numbers come after some steps.</p>".into();
    }
    let key = |(colour, look, name): &(RGBColor, Look, String)| format!("<li>{}{}</li>", swatch(*colour, *look), escape(name));
    let figure = |figure: &Figure| {
        let keys: String = figure.legend.iter().map(key).collect();
        let title = escape(&figure.title);
        format!("<figure><figcaption><h3>{title}</h3><ul>{keys}</ul></figcaption>{}</figure>\n", figure.svg)
    };
    format!("<div class=\"grid\">{}</div>\n", figures.iter().map(figure).collect::<String>())
}

/// A piece of a line, as the chart draws it.
fn swatch(colour: RGBColor, look: Look) -> String {
    let colour = hex(colour);
    let (width, opacity) = if look == Look::Raw { ("1", ".5") } else { ("2", "1") };
    let dot = if look == Look::Dots { format!("<circle cx=\"11\" cy=\"6\" r=\"3\" fill=\"{colour}\"/>") } else { String::new() };
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 22 12\" aria-hidden=\"true\"><path d=\"M1 6h20\" stroke=\"{colour}\" stroke-width=\"{width}\" \
         opacity=\"{opacity}\"/>{dot}</svg>"
    )
}

/// What came of the test set.
fn result(test: &Entry, classes: &[String]) -> String {
    let unit = if test.absolute_error.is_some() { "squared deviations" } else { "nats" };
    let facts = [
        ("accuracy", test.accuracy.map(share)),
        ("absolute error", test.absolute_error.map(|error| format!("{error:.4}"))),
        ("loss", test.loss.map(|loss| format!("{loss:.4} <small>{unit}</small>"))),
        ("spike rate", test.spike_rate.map(share)),
        ("passes", (test.passes > 0).then(|| grouped(test.passes))),
    ];
    let mut text = list(&facts);
    if !test.confusion.is_empty() {
        text += "<h3>Confusion</h3>\n<p>True classes in rows, what they were taken for in columns: samples, over all passes. The colour is \
                 the share of the row.</p>\n";
        text += &confusion(&test.confusion, classes);
    }
    if !test.layers.is_empty() {
        text += "<h3>Spike rates</h3>\n<p>Spikes per neuron and time step.</p>\n";
        text += &rates(test);
    }
    text
}

fn drawings(history: &History, pictures: &[(&str, String)]) -> String {
    let stale = match history.test {
        Some(_) => "",
        None => "<p class=\"state open\">Drawn at the end of an earlier run: this one has not finished.</p>",
    };
    let drawing = |(heading, svg): &(&str, String)| section(heading, &format!("{stale}<div class=\"wide drawing\">{svg}</div>\n"));
    pictures.iter().map(drawing).collect()
}

fn recipe(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = escape(text.trim_end());
    section("Recipe", &format!("<details><summary>in TOML, as <code>--recipe</code> takes it</summary><pre>{text}</pre></details>\n"))
}
