//! Tables without frames, for lists that are also piped into other programs, where they are always whole.
//!
//! On a terminal that is narrower than a table, cells of running text wrap between words, and the least important columns are
//! left out, which is stated below the table. Where the rest is still wider, each row becomes a block with a line per cell.
//! Names, keys and ids never break: they are copied.

use std::io::Write;

use comfy_table::{ColumnConstraint, ContentArrangement, Table as Grid, presets};

use super::screen::{DIM, paint};

/// Between two columns.
const GAP: usize = 2;
/// The narrowest that running text wraps to: two or three words.
pub(super) const TEXT_MIN: usize = 24;

/// A table.
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    spare: &'static [&'static str],
    text: Option<usize>,
    elsewhere: &'static str,
}

impl Table {
    /// A table of these columns.
    pub(super) fn new(header: &[&str]) -> Table {
        let header = header.iter().map(|name| (*name).to_owned()).collect();
        Table { header, rows: Vec::new(), spare: &[], text: None, elsewhere: "`--json` has everything" }
    }

    /// The columns that are left out where there is no room, the least important first.
    pub(super) fn spare(self, columns: &'static [&'static str]) -> Table {
        Table { spare: columns, ..self }
    }

    /// The column with running text.
    pub(super) fn wraps(self, column: &str) -> Table {
        Table { text: self.header.iter().position(|name| name == column), ..self }
    }

    /// What shows the columns that are left out, as a clause of its own.
    pub(super) fn elsewhere(self, clause: &'static str) -> Table {
        Table { elsewhere: clause, ..self }
    }

    /// Adds a row: a cell for each column.
    pub(super) fn add_row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// Whether it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes it for a terminal of `width` columns, or whole.
    pub(super) fn write(&self, out: &mut impl Write, width: Option<usize>) -> std::io::Result<()> {
        let all: Vec<usize> = (0..self.header.len()).collect();
        let Some(width) = width else { return writeln!(out, "{}", self.grid(&all)) };
        let (columns, left_out) = self.fitting(width, all);
        if self.least_width(&columns) > width {
            return self.write_blocks(out, width);
        }
        let mut grid = self.grid(&columns);
        if self.width_of(&columns) > width {
            for (at, column) in columns.iter().enumerate().filter(|(_, column)| self.text != Some(**column)) {
                debug_assert!(*column < self.header.len());
                if let Some(column) = grid.column_mut(at) {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
            // The last column's padding is cut off below.
            grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16_of(width + GAP));
        }
        writeln!(out, "{}", grid.trim_fmt())?;
        if !left_out.is_empty() {
            let note = format!("left out at this width: {}; {}", left_out.join(", "), self.elsewhere);
            writeln!(out)?;
            wrapped(&note, width).lines().try_for_each(|line| writeln!(out, "{}", paint(DIM, line)))?;
        }
        Ok(())
    }

    /// The columns that fit into so many, as far as any may be left out, and the names of those that are left out although
    /// they have something to show.
    fn fitting(&self, width: usize, mut columns: Vec<usize>) -> (Vec<usize>, Vec<&str>) {
        let spare = self.spare.iter().filter_map(|name| self.header.iter().position(|column| column == name));
        let (empty, filled): (Vec<usize>, Vec<usize>) =
            spare.partition(|column| self.rows.iter().all(|row| row.get(*column).is_none_or(String::is_empty)));
        let mut left_out = Vec::new();
        for column in empty.iter().chain(&filled) {
            if self.least_width(&columns) <= width {
                break;
            }
            columns.retain(|kept| kept != column);
            if filled.contains(column) {
                left_out.push(self.header[*column].as_str());
            }
        }
        (columns, left_out)
    }

    /// The width of these columns, unbroken.
    fn width_of(&self, columns: &[usize]) -> usize {
        self.widths(columns).iter().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
    }

    /// The width of these columns with text that wraps as much as it may.
    fn least_width(&self, columns: &[usize]) -> usize {
        let widths = self.widths(columns);
        let least = columns.iter().zip(widths).map(|(column, width)| match self.text {
            Some(text) if text == *column => width.min(TEXT_MIN),
            _ => width,
        });
        least.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
    }

    fn widths(&self, columns: &[usize]) -> Vec<usize> {
        self.grid(columns).column_max_content_widths().into_iter().map(usize::from).collect()
    }

    /// These columns as a grid.
    fn grid(&self, columns: &[usize]) -> Grid {
        let mut grid = Grid::new();
        let header = columns.iter().filter_map(|column| self.header.get(*column));
        grid.load_style(presets::NOTHING).set_header(header.map(|name| name.to_uppercase()));
        for row in &self.rows {
            grid.add_row(columns.iter().map(|column| row.get(*column).map_or("", String::as_str)));
        }
        pad(&mut grid);
        grid
    }

    /// Each row as a block of its own, with the name of the column before each cell that is not empty.
    fn write_blocks(&self, out: &mut impl Write, width: usize) -> std::io::Result<()> {
        let labels: Vec<String> = self.header.iter().map(|name| name.to_uppercase()).collect();
        let indent = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0) + GAP;
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            for (column, cell) in row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                let cell = match self.text {
                    Some(text) if text == column => wrapped(cell, width.saturating_sub(indent).max(TEXT_MIN)),
                    _ => cell.clone(),
                };
                for (at, line) in cell.lines().enumerate() {
                    let label = if at == 0 { labels[column].as_str() } else { "" };
                    writeln!(out, "{label:indent$}{line}")?;
                }
            }
        }
        Ok(())
    }
}

fn pad(grid: &mut Grid) {
    for column in grid.column_iter_mut() {
        column.set_padding((0, GAP as u16));
    }
}

/// Text in lines of at most so many columns.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING).add_row([text]);
    grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16_of(width + GAP));
    pad(&mut grid);
    grid.trim_fmt()
}

fn u16_of(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(sync: &str, error: &str) -> Table {
        let mut table = Table::new(&["run", "sync", "status", "rows", "took", "error"])
            .spare(&["took", "error", "rows"])
            .elsewhere("`groupcast runs show RUN` shows them");
        let row = ["20261128T064306.123Z-1a2b", sync, "stopped by guard", "1,000", "1.2 s", error];
        table.add_row(row.map(str::to_owned));
        table
    }

    fn at(table: &Table, width: usize) -> String {
        let mut out = Vec::new();
        table.write(&mut out, Some(width)).unwrap();
        let text = anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string();
        let is_long = |word: &str| word.chars().count() > width / 2;
        let fits = |line: &str| line.chars().count() <= width || line.split(' ').any(is_long);
        assert!(text.lines().all(fits), "{width}:\n{text}");
        text
    }

    #[test]
    fn a_table_that_fits_is_shown_whole() {
        let text = at(&runs("accounts", "a"), 100);
        assert!(!text.contains("left out"), "{text}");
        assert!(text.contains("1.2 s") && text.starts_with("RUN"), "{text}");
    }

    #[test]
    fn the_least_important_columns_go_first_and_are_named() {
        let text = at(&runs("accounts", "a long story of what went wrong here"), 80);
        assert!(text.contains("left out at this width: took, error; `groupcast runs show RUN` shows them"), "{text}");
        assert!(text.contains("1,000") && text.contains("20261128T064306.123Z-1a2b  accounts"), "{text}");
        // What has nothing to show is not missed.
        let text = at(&runs("accounts", ""), 73);
        assert!(!text.contains("ERROR") && !text.contains("left out"), "{text}");
    }

    #[test]
    fn a_row_that_cannot_fit_becomes_a_block_of_lines() {
        let sync = "a".repeat(60);
        let text = at(&runs(&sync, "out of order"), 80);
        assert_eq!(
            text,
            format!(
                "RUN     20261128T064306.123Z-1a2b\nSYNC    {sync}\nSTATUS  stopped by guard\nROWS    1,000\n\
                 TOOK    1.2 s\nERROR   out of order\n"
            )
        );
    }

    #[test]
    fn running_text_wraps_between_words() {
        let reason = "the destination refuses the trait `plan`: it must be one of free, pro, enterprise";
        let mut table = Table::new(&["group", "reason"]).wraps("reason");
        table.add_row(["acct_1".to_owned(), reason.to_owned()]);
        assert_eq!(
            at(&table, 40),
            "GROUP   REASON\nacct_1  the destination refuses the\n        trait `plan`: it must be one of\n        \
             free, pro, enterprise\n"
        );
        let key = format!("https://example.com/{}", "x".repeat(80));
        let mut table = Table::new(&["group", "reason"]).wraps("reason");
        table.add_row([key.clone(), reason.to_owned()]);
        let text = at(&table, 60);
        assert!(text.starts_with(&format!("GROUP   {key}\nREASON  the destination refuses")), "{text}");
        // To a pipe it is one line.
        let mut out = Vec::new();
        table.write(&mut out, None).unwrap();
        assert!(String::from_utf8(out).unwrap().contains(reason));
    }
}
