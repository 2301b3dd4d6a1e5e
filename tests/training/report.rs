//! Reports: what is drawn lies where the numbers say, whatever the metrics hold, and stays small.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::runs::{Tiny, flags, printed};
use proptest::prelude::*;
use pspikessm::Error;
use pspikessm::backend::Key;
use pspikessm::internal::{Kernel, Panel, Raster, kernels_svg, raster_svg};
use pspikessm::train::report;
use tempfile::TempDir;

const RUN: &str = r#"{"kind":"run","step":0,"seconds":0.5,"task":"toy","backend":"cpu f32","parameters":174474,"steps":40,"samples":96000,"classes":["<cat>","dog & co"],"recipe":"name = \"a<b\"\nlayers = 2 # \"&\"\n"}"#;

fn train(step: u64, loss: &str) -> String {
    format!(r#"{{"kind":"train","step":{step},"seconds":{step}.5,"epoch":0,"loss":{loss},"accuracy":0.25,"lr":0.001}}"#)
}

fn evaluation(kind: &str, step: u64, loss: f64, more: &str) -> String {
    format!(
        r#"{{"kind":"{kind}","step":{step},"seconds":{step}.6,"epoch":1,"loss":{loss},"accuracy":0.5,"spike_rate":0.125,"passes":1,"layers":[{{"layer":0,"site":"input","rate":0.1}},{{"layer":1,"site":"input","rate":0.3}}]{more}}}"#
    )
}

fn folder(metrics: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("metrics.jsonl"), metrics).unwrap();
    dir
}

fn page(metrics: &str) -> String {
    written(folder(metrics).path())
}

fn written(dir: &Path) -> String {
    let path = report::write(dir).unwrap();
    assert_eq!(path, dir.join("report.html"));
    let html = fs::read_to_string(path).unwrap();
    check_markup(&html);
    html
}

fn refusal(metrics: &str) -> Error {
    let dir = folder(metrics);
    let error = report::write(dir.path()).unwrap_err();
    assert!(!dir.path().join("report.html").exists(), "{error}");
    error
}

/// Panics unless tags nest, attributes are quoted once each, and nothing stands unescaped.
fn check_markup(text: &str) {
    let (mut open, mut rest) = (Vec::new(), text.strip_prefix("<!DOCTYPE html>").unwrap_or(text));
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start]);
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        assert!(!tag.contains('<'), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed too early");
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let name = tag.split_whitespace().next().unwrap();
        check_attributes(&tag[name.len()..]);
        if name == "style" {
            rest = &rest[rest.find("</style>").unwrap()..];
        }
        if !empty {
            open.push(name);
        }
    }
    check_text(rest);
    assert!(open.is_empty(), "left open: {open:?}");
}

fn check_attributes(text: &str) {
    let (mut rest, mut seen) = (text.trim(), BTreeSet::new());
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-:".contains(c)), "{name}");
        assert!(seen.insert(name), "{name} twice");
        let (value, after) = value.split_once('"').unwrap();
        check_text(value);
        rest = after.trim_start();
    }
}

fn check_text(text: &str) {
    for part in text.split('&').skip(1) {
        let (entity, _) = part.split_once(';').unwrap_or_else(|| panic!("a bare & before {part}"));
        assert!(["amp", "lt", "gt", "quot", "apos", "#39"].contains(&entity), "{entity}");
    }
}

/// The value of an attribute of a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

/// Each tag called `name`, with the text behind it.
fn tags<'a>(text: &'a str, name: &str) -> Vec<(&'a str, &'a str)> {
    let open = format!("<{name} ");
    let one = |(start, _): (usize, &str)| {
        let (tag, behind) = text[start..].split_once('>').unwrap();
        (tag, behind.split('<').next().unwrap().trim())
    };
    text.match_indices(&open).map(one).collect()
}

/// The SVG of the figure with this title.
fn chart<'a>(html: &'a str, title: &str) -> &'a str {
    let (_, figure) = html.split_once(&format!("<h3>{title}</h3>")).unwrap_or_else(|| panic!("no figure {title}"));
    let (caption, figure) = figure.split_once("</figcaption>").unwrap();
    assert!(!caption.contains("<figure"), "{title}");
    figure.split("</figure>").next().unwrap()
}

/// A number as axes write it.
fn number(label: &str) -> Option<f64> {
    match (label.strip_suffix('k'), label.strip_suffix('M')) {
        (Some(thousands), _) => thousands.parse().ok().map(|n: f64| n * 1e3),
        (_, Some(millions)) => millions.parse().ok().map(|n: f64| n * 1e6),
        _ => label.parse().ok(),
    }
}

/// Where the ticks of an axis say that a value lies: a line through its outermost ticks.
fn axis(svg: &str, anchor: &str, coordinate: &str) -> impl Fn(f64) -> f64 + use<> {
    let texts = tags(svg, "text").into_iter().filter(|(tag, _)| attribute(tag, "text-anchor") == Some(anchor));
    let place = |(tag, label): (&str, &str)| Some((number(label)?, attribute(tag, coordinate)?.parse::<f64>().unwrap()));
    let mut ticks: Vec<(f64, f64)> = texts.filter_map(place).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    assert!((3..12).contains(&ticks.len()), "{ticks:?}");
    move |at| (at - first.1) / (last.1 - first.1) * (last.0 - first.0) + first.0
}

/// The lines of a chart, in the units of its axes.
fn curves(svg: &str) -> Vec<Vec<(f64, f64)>> {
    let (x, y) = (axis(svg, "middle", "x"), axis(svg, "end", "y"));
    let point = |pair: &str| pair.split_once(',').map(|(a, b)| (x(a.parse().unwrap()), y(b.parse().unwrap()))).unwrap();
    let line = |(tag, _): &(&str, &str)| attribute(tag, "points").unwrap().split_whitespace().map(point).collect::<Vec<_>>();
    // Lines of axes have two ends, and the colour of nothing that is drawn.
    tags(svg, "polyline").iter().filter(|(tag, _)| attribute(tag, "stroke") != Some("#59636E")).map(line).collect()
}

fn assert_close(found: &[(f64, f64)], wanted: &[(f64, f64)], within: (f64, f64)) {
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found.0 - wanted.0).abs() < within.0 && (found.1 - wanted.1).abs() < within.1, "{found:?} is not {wanted:?}");
    }
}

#[test]
fn curves_lie_where_the_metrics_say() {
    let lines = [RUN.into(), train(10, "3.0"), train(20, "2.0"), evaluation("validation", 20, 2.5, ""), train(30, "1.0"), train(40, "4.0")];
    let html = page(&(lines.join("\n") + "\n" + &evaluation("validation", 40, 1.5, "") + "\n"));
    let loss = curves(chart(&html, "Loss"));
    let trained = [(10.0, 3.0), (20.0, 2.0), (30.0, 1.0), (40.0, 4.0)];
    // Of so few points the moving mean is the points.
    assert_eq!(loss.len(), 3);
    assert_close(&loss[0], &trained, (0.1, 0.02));
    assert_close(&loss[1], &trained, (0.1, 0.02));
    assert_close(&loss[2], &[(20.0, 2.5), (40.0, 1.5)], (0.1, 0.02));
    let rate = curves(chart(&html, "Learning rate"));
    assert_close(&rate[0], &[10.0, 20.0, 30.0, 40.0].map(|step| (step, 0.001)), (0.1, 1e-5));
    let spikes = curves(chart(&html, "Spike rate, input"));
    assert_close(&spikes[0], &[(20.0, 0.1), (40.0, 0.1)], (0.1, 0.002));
    assert_close(&spikes[1], &[(20.0, 0.3), (40.0, 0.3)], (0.1, 0.002));
}

#[test]
fn curves_stand_on_their_own_as_the_page_has_them() {
    let lines = [RUN.into(), train(10, "3.0"), train(20, "2.0"), evaluation("validation", 20, 2.5, ""), evaluation("test", 20, 2.4, "")];
    let dir = folder(&(lines.join("\n") + "\n"));
    let html = written(dir.path());
    let svg = fs::read_to_string(dir.path().join("curves.svg")).unwrap();
    check_markup(&svg);
    // Two charts of 440 x 280 points beside each other, in units of a quarter of a point, below 56 points.
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 3520 1344\""), "{svg}");
    let points = |svg: &str, (right, down): (i32, i32)| {
        let moved = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse::<i32>().unwrap() + right, y.parse::<i32>().unwrap() + down)
        };
        let lines = tags(svg, "polyline").into_iter().map(|(tag, _)| attribute(tag, "points").unwrap());
        lines.map(|points| points.split_whitespace().map(moved).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let own = points(&svg, (0, 0));
    for (title, place) in [("Loss", (0, 224)), ("Accuracy", (1760, 224))] {
        let wanted = points(chart(&html, title), place);
        assert!(wanted.len() > 5 && wanted.iter().all(|line| own.contains(line)), "{title}: {own:?}");
    }
    // Legible on white and on dark pages: a ground of its own, and colours for either.
    assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("fill=\"#FFFFFF\""), "{svg}");
    for name in ["toy, a&lt;b: loss and accuracy over steps", "training, moving mean", "validation", "test"] {
        assert!(svg.contains(name), "{name}");
    }
}

#[test]
fn before_the_first_step_there_are_no_curves() {
    let dir = folder(&format!("{RUN}\n"));
    written(dir.path());
    assert!(!dir.path().join("curves.svg").exists());
}

#[test]
fn spike_rates_of_training_batches_are_shown() {
    let spikes = |step: u64, rate: f64| {
        format!(
            r#"{{"kind":"spikes","step":{step},"seconds":{step}.55,"epoch":0,"spike_rate":{rate},"layers":[{{"layer":0,"site":"input","rate":{rate}}}]}}"#
        )
    };
    let lines = [RUN.into(), spikes(5, 0.2), train(10, "3.0"), spikes(10, 0.4), evaluation("validation", 10, 2.5, ""), spikes(15, 0.3)];
    let html = page(&(lines.join("\n") + "\n"));
    assert!(html.contains("The run has not finished: 15 of 40 steps"));
    let all = curves(chart(&html, "Spike rate, all layers"));
    assert_close(&all[0], &[(5.0, 0.2), (10.0, 0.4), (15.0, 0.3)], (0.1, 0.005));
    let input = curves(chart(&html, "Spike rate, input"));
    assert_close(&input[0], &[(5.0, 0.2), (10.0, 0.4), (15.0, 0.3)], (0.1, 0.005));
    // Steps that are taken again replace the earlier ones.
    let again = page(&(lines.join("\n") + &format!("\n{}\n", spikes(10, 0.25))));
    assert_close(&curves(chart(&again, "Spike rate, all layers"))[0], &[(5.0, 0.2), (10.0, 0.25)], (0.1, 0.005));
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let html = page(&format!("{RUN}\n{}\n{}\n", train(10, "3.0"), train(20, "2.5")));
    for foreign in ["<script", "<link", "<img", "src=", "href=", "url(", "@import"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    let elsewhere = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http"), "an address");
    assert!(html.contains("prefers-color-scheme:dark"));
    assert!(html.contains("174,474") && html.contains("96,000") && html.contains("cpu f32"));
}

#[test]
fn names_and_recipes_are_escaped() {
    let confusion = r#","confusion":[[3,1],[0,1250]]"#;
    let html = page(&format!("{RUN}\n{}\n{}\n", train(10, "3.0"), evaluation("test", 20, 1.0, confusion)));
    assert!(html.contains("<h1>toy, a&lt;b</h1>"), "{html}");
    assert!(html.contains("&lt;cat&gt;") && html.contains("dog &amp; co"));
    assert!(html.contains("<pre>name = &quot;a&lt;b&quot;\nlayers = 2 # &quot;&amp;&quot;</pre>"));
}

#[test]
fn a_finished_run_shows_its_confusions() {
    let confusion = r#","confusion":[[3,1],[0,1250]]"#;
    let html = page(&format!("{RUN}\n{}\n{}\n", train(10, "3.0"), evaluation("test", 20, 1.0, confusion)));
    assert!(html.contains("The run has finished, after 20 of 40 steps."));
    let (_, table) = html.split_once("<table class=\"confusion").unwrap();
    let table = table.split("</table>").next().unwrap();
    let cells: Vec<(&str, &str)> = tags(table, "td").into_iter().map(|(tag, text)| (attribute(tag, "class").unwrap(), text)).collect();
    // Each row ends with its recall, the last row has the precisions.
    let wanted = [
        ("right much", "3"),
        ("wrong", "1"),
        ("sum", "0.750"),
        ("none", "0"),
        ("right much", "1,250"),
        ("sum", "1.000"),
        ("sum", "1.000"),
        ("sum", "0.999"),
    ];
    assert_eq!(cells, wanted);
    assert!(table.contains("--part:0.750") && table.contains("--part:0.250"));
    assert!(html.contains("<th scope=\"row\">layer 1</th><td>0.3000</td>"));
}

#[test]
fn a_run_without_a_test_has_not_finished() {
    let html = page(&format!("{RUN}\n{}\n", train(10, "3.0")));
    assert!(html.contains("The run has not finished: 10 of 40 steps"));
    assert!(!html.contains("<h2>Test</h2>"));
}

#[test]
fn a_run_that_goes_on_after_its_test_has_not_finished() {
    let test = evaluation("test", 20, 1.0, r#","confusion":[[3,1],[0,1250]]"#);
    let html = page(&format!("{RUN}\n{}\n{test}\n{}\n", train(10, "3.0"), train(30, "2.0")));
    assert!(html.contains("The run has not finished: 30 of 40 steps"));
}

#[test]
fn a_run_before_its_first_step_has_a_page() {
    let html = page(&format!("{RUN}\n"));
    assert!(html.contains("The run has not finished: 0 of 40 steps"));
    assert!(!html.contains("<figure>"));
}

#[test]
fn the_last_line_may_be_cut_anywhere() {
    let (whole, last) = (format!("{RUN}\n{}\n", train(10, "3.0")), train(20, "é"));
    let before = page(&whole);
    for cut in 1..last.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone().into_bytes();
        bytes.extend(&last.as_bytes()[..cut]);
        fs::write(dir.path().join("metrics.jsonl"), bytes).unwrap();
        assert_eq!(written(dir.path()), before, "cut after {cut} bytes");
    }
}

#[test]
fn a_broken_line_before_the_last_is_named() {
    let error = refusal(&format!("{RUN}\n{}\n{{\"kind\":\"tra\n{}\n", train(10, "3.0"), train(20, "2.0")));
    assert!(matches!(error, Error::Data { line: 3, .. }), "{error}");
    assert!(error.to_string().contains("take this line out"), "{error}");
}

#[test]
fn without_metrics_there_is_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let error = report::write(dir.path()).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl is not there") && error.contains("--out"), "{error}");
    for empty in ["", "\n", "{\"kind\":\"run\",\"st"] {
        let error = refusal(empty).to_string();
        assert!(error.contains("no whole line yet: wait"), "{error}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_left_out() {
    let lines = [RUN.into(), train(10, "3.0"), train(20, "null"), train(30, "1e300"), train(40, "1.0")];
    let html = page(&(lines.join("\n") + "\n"));
    assert_close(&curves(chart(&html, "Loss"))[0], &[(10.0, 3.0), (40.0, 1.0)], (0.1, 0.02));
    assert!(!html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn steps_that_are_taken_again_replace_the_earlier_ones() {
    let validated = |step, loss| evaluation("validation", step, loss, "");
    // A process dies after step 30 with a checkpoint of step 10; the next one starts its clock anew.
    let first = [train(10, "4.0"), validated(10, 3.5), train(20, "9.0"), validated(20, 9.0), train(30, "9.0")];
    let second = [train(20, "3.0"), validated(20, 2.5), train(30, "2.0")];
    let html = page(&format!("{RUN}\n{}\n{}\n", first.join("\n"), second.join("\n")));
    let loss = curves(chart(&html, "Loss"));
    assert_close(&loss[0], &[(10.0, 4.0), (20.0, 3.0), (30.0, 2.0)], (0.1, 0.02));
    assert_close(&loss[2], &[(10.0, 3.5), (20.0, 2.5)], (0.1, 0.02));
    // 30.5 seconds of the first process, 30.5 of the second.
    assert!(html.contains("<dt>time</dt><dd>1 min 1 s</dd>"));
}

#[test]
fn a_new_run_in_the_same_file_replaces_the_earlier_one() {
    let html = page(&format!("{RUN}\n{}\n{}\n{}\n", train(20, "9.0"), RUN.replace("toy", "new"), train(10, "3.0")));
    assert!(html.contains("<h1>new, a&lt;b</h1>") && html.contains("10 of 40 steps"));
}

#[test]
fn long_runs_make_small_pages_and_keep_their_peaks() {
    let mut metrics = format!("{RUN}\n");
    for step in 1..=200_000u64 {
        let noise = (step.wrapping_mul(2_654_435_761) >> 12 & 0xFFFF) as f64 / 65536.0;
        // A plateau that is too short for a mean, yet too long for an outlier.
        let loss = if (120_000..124_000).contains(&step) { 7.0 } else { 2.0 + noise };
        metrics += &train(step, &loss.to_string());
        metrics.push('\n');
        if step % 400 == 0 {
            metrics += &evaluation("validation", step, 2.0 + noise, "");
            metrics.push('\n');
        }
    }
    let dir = folder(&metrics);
    let rows = noise_rows(40, 16_384);
    let panels = (0..24).map(|layer| Panel { title: format!("layer {layer}"), rows: rows.clone() }).collect();
    let raster = raster_svg(&Raster { title: "Spikes".into(), length: 16_384, panels }).unwrap();
    let wave = |channel: usize| (0..16_384).map(|lag| ((lag * (channel + 3)) as f32).sin()).collect();
    let kernel = Kernel { title: "k".into(), values: (0..8).map(wave).collect() };
    let kernels = kernels_svg(&vec![kernel; 24]).unwrap();
    fs::write(dir.path().join("raster.svg"), raster).unwrap();
    fs::write(dir.path().join("kernels.svg"), kernels).unwrap();
    let html = written(dir.path());
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    let loss = curves(chart(&html, "Loss"));
    let peak = |line: &[(f64, f64)]| line.iter().fold((0.0, 0.0), |top, &point| if point.1 > top.1 { point } else { top });
    let (at, top) = peak(&loss[0]);
    // A unit of the drawing is some 140 steps.
    assert!((119_800.0..124_200.0).contains(&at) && (top - 7.0).abs() < 0.05, "{at} {top}");
    // The mean of uniform noise, away from the plateau.
    let calm: Vec<f64> = loss[1].iter().filter(|point| (10_000.0..100_000.0).contains(&point.0)).map(|point| point.1).collect();
    assert!(calm.len() > 100 && calm.iter().all(|mean| (mean - 2.5).abs() < 0.1), "{calm:?}");
}

/// Spikes at about a third of all time steps.
fn noise_rows(neurons: usize, length: u32) -> Vec<Vec<u32>> {
    let mut words = Key::new(7).words(0);
    (0..neurons).map(|_| (0..length).filter(|_| words.next_lanes()[0].is_multiple_of(3)).collect()).collect()
}

/// The cells that the paths of a group set, as (row, column), with their opacity.
fn cells(group: &str) -> Vec<(usize, usize, f64)> {
    let mut found = Vec::new();
    for (tag, _) in tags(group, "path") {
        let opacity: f64 = attribute(tag, "opacity").unwrap().parse().unwrap();
        let path = attribute(tag, "d").unwrap().replace('M', " M").replace('h', " h").replace('m', " m");
        let (mut row, mut pen) = (0.0, 0);
        let mut words = path.split_whitespace();
        while let Some(word) = words.next() {
            let (command, value) = word.split_at(1);
            let value: usize = value.parse().unwrap();
            match command {
                "M" => (pen, row) = (value, words.next().unwrap().parse().unwrap()),
                "m" => {
                    assert_eq!(words.next(), Some("0"));
                    pen += value;
                }
                _ => {
                    found.extend((pen..pen + value).map(|column| ((row - 0.5) as usize, column, opacity)));
                    pen += value;
                }
            }
        }
    }
    found
}

/// The groups of a raster, one a panel.
fn groups(svg: &str) -> Vec<&str> {
    svg.split("<g ").skip(1).map(|group| group.split("</g>").next().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn a_raster_shows_every_spike_and_nothing_else(
        (length, rows) in (1usize..=320).prop_flat_map(|length| {
            let row = prop::collection::btree_set(0..length as u32, 0..=length.min(60));
            (Just(length), prop::collection::vec(row, 1..12))
        })
    ) {
        let rows: Vec<Vec<u32>> = rows.into_iter().map(|row| row.into_iter().collect()).collect();
        let wanted: BTreeSet<(usize, usize)> =
            rows.iter().enumerate().flat_map(|(row, steps)| steps.iter().map(move |&step| (row, step as usize))).collect();
        let svg = raster_svg(&Raster { title: "t".into(), length, panels: vec![Panel { title: "p".into(), rows }] }).unwrap();
        check_markup(&svg);
        let found = cells(groups(&svg)[0]);
        prop_assert!(found.iter().all(|cell| cell.2 == 1.0));
        let found: Vec<(usize, usize)> = found.into_iter().map(|cell| (cell.0, cell.1)).collect();
        prop_assert_eq!(found.len(), wanted.len());
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
}

#[test]
fn a_raster_fills_its_axes() {
    // One neuron spikes in the first step, the other in the last.
    let panels = vec![Panel { title: "a<b".into(), rows: vec![vec![0], vec![9]] }];
    let svg = raster_svg(&Raster { title: "Spikes".into(), length: 10, panels }).unwrap();
    assert!(svg.contains("a&lt;b: spike rate 0.1000"), "{svg}");
    let transform = groups(&svg)[0].strip_prefix("transform=\"").unwrap();
    let transform = transform.split('"').next().unwrap();
    let numbers: Vec<f64> = transform.split(['(', ')', ' ']).filter_map(|word| word.parse().ok()).collect();
    let [x, y, across, up] = numbers[..] else { panic!("{numbers:?}") };
    let (step, neuron) = (axis(&svg, "middle", "x"), axis(&svg, "end", "y"));
    for (cell, at) in [(0.0, 0.0), (10.0, 10.0)] {
        assert!((step(x + cell * across) - at).abs() < 0.05);
    }
    for row in [0.0, 2.0] {
        assert!((neuron(y + row * up) - row).abs() < 0.02);
    }
}

#[test]
fn long_sequences_are_merged_into_columns_that_show_density() {
    // 640 steps: two a column. Row 0 spikes at both steps of column 3, row 1 at one step of column 5, and 100 more neurons never.
    let mut rows = vec![vec![6, 7], vec![11]];
    rows.extend(vec![Vec::new(); 100]);
    let svg = raster_svg(&Raster { title: "t".into(), length: 640, panels: vec![Panel { title: "p".into(), rows }] }).unwrap();
    assert_eq!(cells(groups(&svg)[0]), [(1, 5, 0.5), (0, 3, 1.0)]);
    assert!(svg.contains("2 in a column") && svg.contains("64 of a layer at most"));
}

#[test]
fn many_neurons_are_chosen_evenly() {
    // Of 128 neurons every second one is shown; only one of those spikes.
    let mut rows = vec![vec![2]; 128];
    (0..128).step_by(2).for_each(|neuron| rows[neuron].clear());
    rows[6] = vec![1];
    let svg = raster_svg(&Raster { title: "t".into(), length: 4, panels: vec![Panel { title: "p".into(), rows }] }).unwrap();
    assert_eq!(cells(groups(&svg)[0]), [(3, 1, 1.0)]);
    // The title counts all of them.
    assert!(svg.contains(&format!("spike rate {:.4}", 65.0 / 512.0)));
}

#[test]
fn a_spike_after_the_end_is_refused() {
    let panels = vec![Panel { title: "layer 0".into(), rows: vec![vec![0, 4]] }];
    let error = raster_svg(&Raster { title: "t".into(), length: 4, panels }).unwrap_err().to_string();
    assert!(error.contains("layer 0: a spike at step 4, but the sequence has 4 steps"), "{error}");
}

#[test]
fn nothing_is_drawn_of_nothing() {
    check_markup(&raster_svg(&Raster::default()).unwrap());
    let empty = vec![Panel { title: "p".into(), rows: Vec::new() }];
    check_markup(&raster_svg(&Raster { title: "t".into(), length: 0, panels: empty }).unwrap());
    check_markup(&kernels_svg(&[]).unwrap());
    for values in [vec![], vec![vec![]], vec![vec![1.0]], vec![vec![f32::NAN; 5]], vec![vec![0.0; 5]], vec![vec![f32::MAX, f32::MIN]]] {
        let svg = kernels_svg(&[Kernel { title: "k".into(), values }]).unwrap();
        check_markup(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}

#[test]
fn kernels_lie_where_their_values_say() {
    let values = vec![vec![0.0, 1.0, f32::INFINITY, 0.5, -1.0], vec![0.25; 5]];
    let svg = kernels_svg(&[Kernel { title: "layer 0, a&b".into(), values }]).unwrap();
    check_markup(&svg);
    assert!(svg.contains("layer 0, a&amp;b"));
    let lines = curves(&svg);
    assert_eq!(lines.len(), 2);
    assert_close(&lines[0], &[(0.0, 0.0), (1.0, 1.0), (3.0, 0.5), (4.0, -1.0)], (0.02, 0.02));
    assert_close(&lines[1], &[0.0, 1.0, 2.0, 3.0, 4.0].map(|lag| (lag, 0.25)), (0.02, 0.02));
}

#[test]
fn long_kernels_keep_their_peaks_and_few_channels_are_shown() {
    let peaked = |channel: usize| (0..16_000).map(|lag| if lag == 5_000 + channel { 2.0 } else { 0.0 }).collect::<Vec<f32>>();
    let kernel = Kernel { title: "k".into(), values: (0..20).map(peaked).collect() };
    let lines = curves(&kernels_svg(&[kernel]).unwrap());
    assert_eq!(lines.len(), 8);
    // 20 channels, every 20/8-th of them.
    for (line, channel) in lines.iter().zip([0, 2, 5, 7, 10, 12, 15, 17]) {
        assert!(line.len() <= 200);
        let top = line.iter().filter(|point| point.1 > 1.0).collect::<Vec<_>>();
        assert_eq!(top.len(), 1);
        assert!((top[0].0 - f64::from(5_000 + channel)).abs() < 20.0 && (top[0].1 - 2.0).abs() < 0.02, "{top:?}");
    }
}

#[test]
fn pictures_in_the_folder_are_taken_up() {
    let finished = format!("{RUN}\n{}\n{}\n", train(10, "3.0"), evaluation("test", 20, 1.0, ""));
    let dir = folder(&finished);
    let svg = kernels_svg(&[Kernel { title: "of this very run".into(), values: vec![vec![1.0, 0.5]] }]).unwrap();
    fs::write(dir.path().join("kernels.svg"), format!("<?xml version=\"1.0\"?>\n{svg}\n")).unwrap();
    let html = written(dir.path());
    assert!(html.contains("<h2>Kernels</h2>") && html.contains("of this very run") && !html.contains("<?xml"));
    assert!(!html.contains("<h2>Spikes</h2>") && !html.contains("earlier run"));
    // The same file beside a run that has not drawn its own yet.
    fs::write(dir.path().join("metrics.jsonl"), format!("{RUN}\n{}\n", train(10, "3.0"))).unwrap();
    assert!(written(dir.path()).contains("Drawn at the end of an earlier run"));
}

fn run(out: &Path) {
    printed(&Tiny, &flags("--quiet --steps 24 --eval-passes 2", Some(out)));
}

#[test]
fn a_run_leaves_a_report() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let html = fs::read_to_string(dir.path().join("report.html")).unwrap();
    check_markup(&html);
    assert!(html.contains("<h1>tiny, quick</h1>") && html.contains("The run has finished, after 24 of 24 steps."));
    assert!(html.contains("mostly-a") && html.contains("d_model = 4"));
    for title in ["Loss", "Accuracy", "Learning rate", "Spike rate, all layers", "Spike rate, input", "Spike rate, reverse output"] {
        assert!(chart(&html, title).contains("<svg"), "{title}");
    }
    // Lines of steps 10 and 20; four validations, and the test.
    let loss = curves(chart(&html, "Loss"));
    assert_eq!(loss.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 4]);
    let mut drawn = String::new();
    check_markup(&fs::read_to_string(dir.path().join("curves.svg")).unwrap());
    for (name, heading) in [("raster.svg", "Spikes"), ("kernels.svg", "Kernels")] {
        let svg = fs::read_to_string(dir.path().join(name)).unwrap();
        check_markup(&svg);
        assert!(html.contains(&svg) && html.contains(&format!("<h2>{heading}</h2>")));
        write!(drawn, "{svg}").unwrap();
    }
    // Two layers of four places, of two branches with two directions.
    assert_eq!(groups(&drawn).len(), 8);
    for part in ["layer 1, reverse output: spike rate", "layer 0, forward, forwards", "layer 1, reverse, backwards"] {
        assert!(drawn.contains(part), "{part}");
    }
}

#[test]
fn a_report_can_be_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let first = fs::read_to_string(dir.path().join("report.html")).unwrap();
    fs::remove_file(dir.path().join("report.html")).unwrap();
    assert_eq!(written(dir.path()), first);
}
