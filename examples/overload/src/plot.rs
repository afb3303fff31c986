//! The picture.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::measure::Cell;
use crate::report::loads;
use crate::{Error, Law};

type Failure = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Stands for the colour of the text, which depends on the reader's background.
const TEXT: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(128, 128, 128);

/// One for each law: distinct on light and on dark, and without red and green.
const LAWS: [RGBColor; 5] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 134, 200),
    RGBColor(150, 110, 200),
    RGBColor(0, 158, 115),
    RGBColor(200, 150, 0),
];

/// What becomes of a request; the rest failed for another reason.
const FATES: [Fate; 3] = [
    ("served", RGBColor(0, 158, 115), |cell| cell.served),
    ("rejected", RGBColor(240, 200, 80), |cell| cell.rejected),
    ("gave up", RGBColor(110, 110, 110), |cell| cell.gave_up),
];

type Fate = (&'static str, RGBColor, fn(&Cell) -> f64);

/// Goodput and p99 against the offered load, one curve for each law; beside them, for each law,
/// what became of the requests.
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

fn draw(svg: &mut String, cells: &[Cell], laws: &[Law], caption: &str) -> Result<(), Failure> {
    let root = SVGBackend::with_string(svg, (1260, 400)).into_drawing_area();
    let (charts, bottom) = root.split_vertically(370);
    bottom.draw_text(caption, &font(12), (12, 8))?;
    let panels = charts.split_evenly((1, 3));
    curves(
        &panels[0],
        cells,
        laws,
        "Goodput",
        "share of capacity",
        |cell| cell.goodput_ratio,
    )?;
    curves(
        &panels[1],
        cells,
        laws,
        "Latency of the accepted, p99",
        "ms",
        |cell| cell.p99_ms,
    )?;
    fates(&panels[2], cells, laws)?;
    root.present()?;
    Ok(())
}

/// One curve for each law.
fn curves(
    area: &Area<'_>,
    cells: &[Cell],
    laws: &[Law],
    title: &str,
    unit: &str,
    value: fn(&Cell) -> f64,
) -> Result<(), Failure> {
    let loads = loads(cells);
    let (least, most) = (loads[0], loads[loads.len() - 1]);
    let top = cells.iter().map(value).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
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
        .y_label_formatter(&|value| format!("{value:.0$}", usize::from(top < 10.0)))
        .draw()?;
    for (law, colour) in laws.iter().zip(LAWS.iter().cycle()) {
        let mut points: Vec<_> = cells
            .iter()
            .filter(|cell| cell.law == *law)
            .map(|cell| (cell.load, value(cell)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(3)))?
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
    Ok(())
}

/// One chart for each law, with a bar for each load.
fn fates(area: &Area<'_>, cells: &[Cell], laws: &[Law]) -> Result<(), Failure> {
    let (head, charts) = area.split_vertically(52);
    head.draw_text("What became of every request", &font(18), (90, 12))?;
    let mut x = 90;
    for (name, colour, _) in FATES {
        head.draw(&Rectangle::new([(x, 38), (x + 12, 50)], colour.filled()))?;
        head.draw_text(name, &font(13), (x + 18, 38))?;
        x += 90;
    }
    let loads = loads(cells);
    let columns = 0.0..loads.len() as f64;
    for (area, law) in charts.split_evenly((laws.len(), 1)).iter().zip(laws) {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(22)
            .y_label_area_size(70)
            .build_cartesian_2d(columns.clone(), 0.0..1.0)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_x_axis()
            .y_desc(law.as_str())
            .y_labels(3)
            .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
            .label_style(font(12))
            .axis_desc_style(font(13))
            .axis_style(GRID)
            .draw()?;
        for (column, load) in loads.iter().enumerate() {
            let (left, right) = (column as f64 + 0.15, column as f64 + 0.85);
            let is_it = |cell: &&Cell| cell.law == *law && cell.load == *load;
            let Some(cell) = cells.iter().find(is_it) else {
                continue;
            };
            let mut bottom = 0.0;
            for (_, colour, share) in FATES {
                let top = bottom + share(cell);
                let bar = Rectangle::new([(left, bottom), (right, top)], colour.filled());
                chart.plotting_area().draw(&bar)?;
                bottom = top;
            }
            let (x, y) = chart.backend_coord(&(left, 0.0));
            let (from_x, from_y) = area.get_base_pixel();
            let at = (x - from_x, y - from_y + 6);
            area.draw_text(&format!("{load}x"), &font(12), at)?;
        }
    }
    Ok(())
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&TEXT)
}
