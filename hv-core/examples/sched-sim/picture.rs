//! Who ran where, as an SVG: a row for each CPU, time to the right, a colour for each domain.

use std::collections::BTreeMap;
use std::fmt::Write;

use hv_core::base::{DomId, Nanos};
use hv_core::sched::sim::{MS, Sim, Span};

/// Columns of time, when there are few CPUs.
const COLUMNS: usize = 1600;
/// Rectangles that a picture has at most: beyond it viewers become slow.
const MAX_RECTANGLES: usize = 40_000;
/// Height that the rows share.
const HEIGHT: usize = 960;
/// Left of the rows, for the CPUs' numbers; above them, for the title.
const LEFT: usize = 56;
const TOP: usize = 32;
/// Domains that the legend names.
const NAMED: usize = 48;
const LEGEND_COLUMN: usize = 100;

/// Time that domains had in one column of a row.
type Cell = Vec<(DomId, Nanos)>;

/// What was seen of the machine in a window of time.
pub struct Picture {
    pub from: Nanos,
    to: Nanos,
    rows: Vec<Vec<Cell>>,
    totals: BTreeMap<DomId, Nanos>,
}

/// A rectangle: columns `first..end` of a row belong to a domain.
struct Block {
    row: usize,
    first: usize,
    end: usize,
    dom: DomId,
}

/// The stretches that have not ended.
pub fn under_way(sim: &Sim) -> Vec<Span> {
    let units = sim.units.iter().enumerate();
    let running = units.filter_map(|(unit, state)| {
        let (cpu, from) = state.on?;
        let to = sim.now;
        Some(Span {
            cpu,
            unit,
            from,
            to,
        })
    });
    running.collect()
}

impl Picture {
    pub fn new(cpus: usize, from: Nanos, to: Nanos) -> Self {
        Self {
            from,
            to,
            rows: vec![vec![Cell::new(); COLUMNS]; cpus],
            totals: BTreeMap::new(),
        }
    }

    fn width_of_column(&self) -> Nanos {
        (self.to - self.from).div_ceil(COLUMNS as u64).max(1)
    }

    /// Adds who ran where.
    pub fn add(&mut self, spans: &[Span], sim: &Sim) {
        let width = self.width_of_column();
        for span in spans {
            let dom = sim.units[span.unit].dom;
            let (mut at, end) = (span.from.max(self.from), span.to.min(self.to));
            while at < end {
                let column = (at - self.from) / width;
                let until = end.min(self.from + (column + 1) * width);
                add_time(&mut self.rows[span.cpu][column as usize], dom, until - at);
                *self.totals.entry(dom).or_default() += until - at;
                at = until;
            }
        }
    }

    /// Blocks when `merge` columns are one: each goes to who had most of it, if the CPU did not
    /// idle for longer.
    fn blocks(&self, merge: usize) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        for (row, cells) in self.rows.iter().enumerate() {
            for (index, part) in cells.chunks(merge).enumerate() {
                let Some(dom) = self.owner(part) else {
                    continue;
                };
                let (first, end) = (index * merge, (index * merge + part.len()).min(COLUMNS));
                match blocks.last_mut() {
                    Some(last) if (last.row, last.end, last.dom) == (row, first, dom) => {
                        last.end = end;
                    }
                    _ => blocks.push(Block {
                        row,
                        first,
                        end,
                        dom,
                    }),
                }
            }
        }
        blocks
    }

    fn owner(&self, cells: &[Cell]) -> Option<DomId> {
        let mut all = Cell::new();
        for &(dom, time) in cells.iter().flatten() {
            add_time(&mut all, dom, time);
        }
        let busy: Nanos = all.iter().map(|(_, time)| time).sum();
        let whole = self.width_of_column() * cells.len() as u64;
        let (dom, most) = all.into_iter().max_by_key(|(_, time)| *time)?;
        (most >= whole.saturating_sub(busy)).then_some(dom)
    }

    /// The picture as text.
    pub fn draw(&self, title: &str) -> String {
        let mut merge = 1;
        let mut blocks = self.blocks(merge);
        while blocks.len() > MAX_RECTANGLES && merge < COLUMNS {
            merge *= 2;
            blocks = self.blocks(merge);
        }
        let pitch = (HEIGHT as f64 / self.rows.len() as f64).min(24.0);
        let bottom = TOP + (pitch * self.rows.len() as f64) as usize;
        let per_line = COLUMNS / LEGEND_COLUMN;
        let legend_lines = self.totals.len().min(NAMED + 1).div_ceil(per_line);
        let (width, height) = (LEFT + COLUMNS + 16, bottom + 56 + legend_lines * 18);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{title}, the last {} ms; \
             a column is {:.0} us</text>\n\
             <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{COLUMNS}\" height=\"{}\" fill=\"#eeeeee\"/>\n",
            (self.to - self.from) / MS,
            (self.width_of_column() * merge as u64) as f64 / 1e3,
            bottom - TOP,
        );
        self.draw_rows(&mut svg, &blocks, pitch);
        self.draw_axis(&mut svg, bottom);
        self.draw_legend(&mut svg, bottom + 44, per_line);
        svg += "</svg>\n";
        svg
    }

    fn draw_rows(&self, svg: &mut String, blocks: &[Block], pitch: f64) {
        let gap = if pitch >= 4.0 { 1.0 } else { 0.0 };
        for block in blocks {
            put(
                svg,
                format_args!(
                    "<rect x=\"{}\" y=\"{:.2}\" width=\"{}\" height=\"{:.2}\" fill=\"{}\"/>\n",
                    LEFT + block.first,
                    TOP as f64 + pitch * block.row as f64,
                    block.end - block.first,
                    pitch - gap,
                    colour(block.dom),
                ),
            );
        }
        // Numbers that do not touch.
        let every = (14.0 / pitch).ceil() as usize;
        for row in (0..self.rows.len()).step_by(every) {
            let y = TOP as f64 + pitch * (row as f64 + 0.5) + 4.0;
            let x = LEFT - 6;
            put(
                svg,
                format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{row}</text>\n"),
            );
        }
    }

    fn draw_axis(&self, svg: &mut String, bottom: usize) {
        for step in 0..=10 {
            let x = LEFT + COLUMNS * step / 10;
            let at = self.from + (self.to - self.from) * step as u64 / 10;
            let (y, text) = (bottom + 16, at as f64 / MS as f64);
            put(
                svg,
                format_args!(
                    "<path d=\"M{x} {TOP}V{}\" stroke=\"#000000\" stroke-opacity=\"0.25\"/>\n\
                     <text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{text:.1}</text>\n",
                    bottom + 4,
                ),
            );
        }
        put(
            svg,
            format_args!(
                "<text x=\"6\" y=\"24\">CPU</text>\n\
                 <text x=\"6\" y=\"{}\">ms</text>\n",
                bottom + 16
            ),
        );
    }

    fn draw_legend(&self, svg: &mut String, top: usize, per_line: usize) {
        let capacity = (self.to - self.from) as f64 * self.rows.len() as f64;
        let place = |index: usize| {
            let x = LEFT + index % per_line * LEGEND_COLUMN;
            (x, top + index / per_line * 18)
        };
        for (index, (&dom, &time)) in self.totals.iter().take(NAMED).enumerate() {
            let (x, y) = place(index);
            let percent = time as f64 / capacity * 100.0;
            put(
                svg,
                format_args!(
                    "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n\
                     <text x=\"{}\" y=\"{y}\">d{dom} {percent:.1}%</text>\n",
                    y - 11,
                    colour(dom),
                    x + 16,
                ),
            );
        }
        if let Some(more) = self
            .totals
            .len()
            .checked_sub(NAMED)
            .filter(|&more| more > 0)
        {
            let (x, y) = place(NAMED);
            put(
                svg,
                format_args!("<text x=\"{x}\" y=\"{y}\">and {more} more</text>\n"),
            );
        }
    }
}

fn add_time(cell: &mut Cell, dom: DomId, time: Nanos) {
    match cell.iter_mut().find(|(other, _)| *other == dom) {
        Some((_, sum)) => *sum += time,
        None => cell.push((dom, time)),
    }
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes any text");
}

/// Neighbours in number are far apart in hue (steps of the golden angle), and differ in lightness.
fn colour(dom: DomId) -> String {
    let hue = f64::from(u32::from(dom) * 137 % 360);
    let light = [0.48, 0.62, 0.38][usize::from(dom) % 3];
    // From hue, saturation and lightness as CSS defines them: not all viewers know `hsl()`.
    let strength = 0.65 * f64::min(light, 1.0 - light);
    let part = |offset: f64| {
        let place = (offset + hue / 30.0) % 12.0;
        let bright = light - strength * f64::min(place - 3.0, 9.0 - place).clamp(-1.0, 1.0);
        (bright * 255.0).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", part(0.0), part(8.0), part(4.0))
}
