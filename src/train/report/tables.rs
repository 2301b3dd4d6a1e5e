//! Tables of a page: which classes were taken for which others, and how often layers spike.

use std::collections::BTreeSet;

use super::history::{Entry, Rate};
use super::markup::{escape, grouped, share};

/// With more classes than this, column names of several letters are turned upright to fit.
const CROWDED: usize = 6;

/// The confusion matrix: a row for each true class, with a column for each class that it was taken for. Colour is the share of the row.
pub(super) fn confusion(counts: &[Vec<u64>], names: &[String]) -> String {
    let name = |class: usize| names.get(class).map_or_else(|| class.to_string(), |name| escape(name));
    let crowded = counts.len() > CROWDED && names.iter().any(|name| name.chars().count() > 3);
    let columns: String = (0..counts.len()).map(|class| format!("<th scope=\"col\"><span>{}</span></th>", name(class))).collect();
    let row = |(class, row): (usize, &Vec<u64>)| {
        let total: u64 = row.iter().sum();
        let cells: String = row.iter().enumerate().map(|(taken, &count)| cell(count, total, taken == class)).collect();
        let recall = ratio(row.get(class).copied().unwrap_or(0), total);
        format!("<tr><th scope=\"row\">{}</th>{cells}<td class=\"sum\">{recall}</td></tr>", name(class))
    };
    let rows: String = counts.iter().enumerate().map(row).collect();
    let precision = |class: usize| {
        let column = counts.iter().filter_map(|row| row.get(class)).sum();
        format!("<td class=\"sum\">{}</td>", ratio(counts[class].get(class).copied().unwrap_or(0), column))
    };
    let precisions: String = (0..counts.len()).map(precision).collect();
    format!(
        "<div class=\"wide\"><table class=\"confusion{}\"><thead><tr><td></td>{columns}<th scope=\"col\"><span>recall</span></th></tr></thead>\
         <tbody>{rows}<tr><th scope=\"row\">precision</th>{precisions}<td></td></tr></tbody></table></div>",
        if crowded { " crowded" } else { "" }
    )
}

/// A cell of a row with so many samples.
fn cell(count: u64, total: u64, right: bool) -> String {
    let part = count as f64 / total.max(1) as f64;
    let class = if right { "right" } else { "wrong" };
    let class = if part > 0.5 { format!("{class} much") } else { class.into() };
    match count {
        0 => "<td class=\"none\">0</td>".into(),
        _ => format!("<td class=\"{class}\" style=\"--part:{part:.3}\">{}</td>", grouped(count)),
    }
}

fn ratio(part: u64, whole: u64) -> String {
    if whole == 0 { "–".into() } else { format!("{:.3}", part as f64 / whole as f64) }
}

/// Spike rates: a row for each layer, a column for each place in it.
pub(super) fn rates(test: &Entry) -> String {
    let sites: BTreeSet<&str> = test.layers.iter().map(|rate| rate.site.as_str()).collect();
    let layers: BTreeSet<usize> = test.layers.iter().map(|rate| rate.layer).collect();
    let columns: String = sites.iter().map(|site| format!("<th scope=\"col\">{}</th>", escape(&site.replace('_', " ")))).collect();
    let row = |layer: &usize| {
        let found = |site: &str| test.layers.iter().find(|rate: &&Rate| rate.layer == *layer && rate.site == site)?.rate;
        let cells: String = sites.iter().map(|site| format!("<td>{}</td>", found(site).map_or("–".into(), share))).collect();
        format!("<tr><th scope=\"row\">layer {layer}</th>{cells}</tr>")
    };
    let rows: String = layers.iter().map(row).collect();
    format!("<div class=\"wide\"><table><thead><tr><td></td>{columns}</tr></thead><tbody>{rows}</tbody></table></div>")
}
