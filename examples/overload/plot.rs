//! The table, the bars for the terminal, and the picture.

use comfy_table::{CellAlignment, Table, presets};
use plotters::prelude::*;

use crate::{Cell, Error, Law};

/// Stands for the colour of the text, which depends on the reader's background.
const TEXT: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(128, 128, 128);

pub(crate) fn table(cells: &[Cell]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "law",
        "load",
        "offered/s",
        "goodput",
        "bound",
        "p50 ms",
        "p99 ms",
        "rejected",
        "failed",
        "",
    ]);
    for cell in cells {
        table.add_row([
            cell.law.as_str().to_owned(),
            format!("{}x", cell.load),
            format!("{:.0}", cell.offered_per_s),
            format!("{:.3}", cell.goodput_ratio),
            format!("{:.3}", cell.bound),
            format!("{:.0}", cell.p50_ms),
            format!("{:.0}", cell.p99_ms),
            format!("{:.2} %", cell.rejected * 100.0),
            format!("{:.2} %", cell.failed * 100.0),
            cell.noise.clone().unwrap_or_default(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One bar for each cell, by load, with the laws side by side.
pub(crate) fn bars(cells: &[Cell]) -> String {
    const WIDTH: f64 = 40.0;
    let mut lines = Vec::new();
    let mut draw = |title: &str, most: f64, value: fn(&Cell) -> (f64, String)| {
        lines.push(format!("\n{title}"));
        let mut loads: Vec<f64> = cells.iter().map(|cell| cell.load).collect();
        loads.dedup();
        loads.sort_by(f64::total_cmp);
        loads.dedup();
        for load in loads {
            for cell in cells.iter().filter(|cell| cell.load == load) {
                let (value, label) = value(cell);
                let bar = "█".repeat((value / most * WIDTH).round() as usize);
                let load = format!("{load}x");
                lines.push(format!("{load:>6} {:<8} {bar} {label}", cell.law.as_str()));
            }
        }
    };
    draw("goodput, of capacity", 1.1, |cell| {
        (cell.goodput_ratio, format!("{:.2}", cell.goodput_ratio))
    });
    draw("p99 of the accepted, ms", 1000.0, |cell| {
        (cell.p99_ms, format!("{:.0}", cell.p99_ms))
    });
    lines.join("\n")
}

/// Goodput, p99 and the clients that gave up against the offered load: one curve for each law.
pub(crate) fn svg(cells: &[Cell], laws: &[Law], caption: &str) -> Result<String, Error> {
    let mut svg = String::new();
    draw(&mut svg, cells, laws, caption).map_err(|error| format!("cannot draw: {error}"))?;
    // Readable on light and on dark: the text has the reader's colour.
    let style =
        "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>";
    let svg = svg.replace("#010203", "currentColor");
    let head = svg.find('>').ok_or("no svg")? + 1;
    Ok(format!("{}\n{style}{}", &svg[..head], &svg[head..]))
}

fn draw(
    svg: &mut String,
    cells: &[Cell],
    laws: &[Law],
    caption: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (1260, 400)).into_drawing_area();
    let font = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
    let (charts, bottom) = root.split_vertically(370);
    bottom.draw_text(caption, &font(12), (12, 8))?;
    let loads = cells.iter().map(|cell| cell.load);
    let least = loads.clone().fold(f64::MAX, f64::min);
    let most = loads.fold(0.0, f64::max);
    let panels = charts.split_evenly((1, 3));
    type Value = fn(&Cell) -> f64;
    let most_goodput = cells
        .iter()
        .map(|cell| cell.goodput_ratio)
        .fold(1.0, f64::max);
    let most_p99 = cells.iter().map(|cell| cell.p99_ms).fold(100.0, f64::max);
    let what: [(&str, &str, f64, Value); 3] = [
        ("Goodput", "share of capacity", most_goodput * 1.1, |cell| {
            cell.goodput_ratio
        }),
        (
            "Latency of the accepted, p99",
            "ms",
            most_p99 * 1.1,
            |cell| cell.p99_ms,
        ),
        ("Clients that gave up", "% of requests", 105.0, |cell| {
            cell.failed * 100.0
        }),
    ];
    for (panel, (title, unit, top, value)) in panels.iter().zip(what) {
        let mut chart = ChartBuilder::on(panel)
            .caption(title, font(18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(56)
            .build_cartesian_2d((least * 0.9..most * 1.1).log_scale(), 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("offered load, times capacity (logarithmic)")
            .y_desc(unit)
            .label_style(font(12))
            .axis_desc_style(font(13))
            .axis_style(GRID)
            .bold_line_style(GRID.mix(0.35))
            .light_line_style(GRID.mix(0.0))
            .x_label_formatter(&|load| {
                let is_marked = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0].contains(load);
                if is_marked {
                    format!("{load}x")
                } else {
                    String::new()
                }
            })
            .y_label_formatter(&|value| {
                let is_share = top < 10.0;
                format!("{value:.0$}", usize::from(is_share))
            })
            .draw()?;
        for (law, colour) in laws.iter().zip(COLOURS.iter().cycle()) {
            let mut points: Vec<_> = cells
                .iter()
                .filter(|cell| cell.law == *law)
                .map(|cell| (cell.load, value(cell)))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let line = LineSeries::new(points.clone(), colour.stroke_width(3));
            chart
                .draw_series(line)?
                .label(law.as_str())
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
            let dots = points
                .into_iter()
                .map(|at| Circle::new(at, 4, colour.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .label_font(font(13))
            .border_style(GRID)
            .position(SeriesLabelPosition::MiddleRight)
            .draw()?;
    }
    root.present()?;
    Ok(())
}

/// Distinct on light and on dark, and without red and green.
const COLOURS: [RGBColor; 5] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 134, 200),
    RGBColor(150, 110, 200),
    RGBColor(0, 158, 115),
    RGBColor(200, 150, 0),
];
