//! What stands on the terminal, and what keys do to it: pure, so that it is tested without one.

use sluicegate_model::escape;
use termion::event::Key;

use super::rates::{Rates, head};
use super::{Kind, Sort};

/// The orders in which columns are sorted, as `<` and `>` go through them.
const SORTS: [Sort; 7] = [Sort::Name, Sort::Rate, Sort::Errors, Sort::P50, Sort::P99, Sort::InFlight, Sort::Bytes];

/// What is shown, and how.
pub(super) struct View {
    pub(super) kind: Kind,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    pub(super) paused: bool,
    /// How many rows are above the first that is seen.
    pub(super) above: usize,
    /// Where the gateway is asked.
    pub(super) at: String,
    /// Why it does not answer, if it does not.
    pub(super) error: Option<String>,
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Quit,
    /// Other counters than before.
    Kind,
    Nothing,
}

impl View {
    /// Does what a key says. `page`: how many rows are seen.
    pub(super) fn press(&mut self, key: Key, page: usize) -> Asked {
        if let Key::Ctrl(c) = key {
            return if matches!(c, 'c' | 'd') { Asked::Quit } else { Asked::Nothing };
        }
        if self.typing {
            self.edit(key);
            return Asked::Nothing;
        }
        match key {
            Key::Char('q') | Key::Esc => return Asked::Quit,
            Key::Char('s') => return self.look_at(Kind::Services),
            Key::Char('e') => return self.look_at(Kind::Endpoints),
            Key::Char('p') => return self.look_at(Kind::Plugins),
            Key::Char('<') | Key::Left => self.sort_by(-1),
            Key::Char('>') | Key::Right => self.sort_by(1),
            Key::Char('r') => self.reverse = !self.reverse,
            Key::Char(' ') => self.paused = !self.paused,
            Key::Char('/') => self.typing = true,
            Key::Down | Key::Char('j') => self.above = self.above.saturating_add(1),
            Key::Up | Key::Char('k') => self.above = self.above.saturating_sub(1),
            Key::PageDown => self.above = self.above.saturating_add(page),
            Key::PageUp => self.above = self.above.saturating_sub(page),
            Key::Home => self.above = 0,
            Key::End => self.above = usize::MAX,
            _ => {}
        }
        Asked::Nothing
    }

    fn edit(&mut self, key: Key) {
        match key {
            Key::Char('\n') => self.typing = false,
            Key::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if self.filter.len() < 256 => self.filter.push(c),
            _ => {}
        }
        self.above = 0;
    }

    fn look_at(&mut self, kind: Kind) -> Asked {
        self.above = 0;
        if std::mem::replace(&mut self.kind, kind) == kind { Asked::Nothing } else { Asked::Kind }
    }

    fn sort_by(&mut self, step: isize) {
        let at = SORTS.iter().position(|sort| *sort == self.sort).unwrap_or_default();
        let next = (at as isize + step).rem_euclid(SORTS.len() as isize);
        self.sort = SORTS.get(next.unsigned_abs()).copied().unwrap_or(Sort::Rate);
    }

    /// The lines of a terminal of this size. Rates are none before the second look.
    pub(super) fn lines(&mut self, rates: Option<&Rates>, (width, height): (usize, usize)) -> Vec<String> {
        let mut lines = vec![self.title(rates)];
        if let Some(rates) = rates {
            let room = height.saturating_sub(3);
            let all = rates.rows();
            self.above = self.above.min(all.len().saturating_sub(room));
            let rows = all.skip(self.above).take(room).map(super::rates::Rate::cells);
            let table: Vec<Vec<String>> = std::iter::once(self.marked(head(self.kind))).chain(rows).collect();
            lines.extend(columns(&table, width));
        }
        lines.resize(height.saturating_sub(1).max(1), String::new());
        lines.push(self.foot());
        lines.truncate(height);
        lines.iter().map(|line| escape::line(line).chars().take(width).collect()).collect()
    }

    fn title(&self, rates: Option<&Rates>) -> String {
        let shown = rates.map(|rates| format!("{} of {}", rates.rows().len(), rates.all.len())).unwrap_or_else(|| "looking".to_owned());
        let mut title = format!("sluicegate top: {} at {}  {shown}", self.kind.name(), self.at);
        if !self.filter.is_empty() && !self.typing {
            title.push_str(&format!("  with {:?}", self.filter));
        }
        if self.paused {
            title.push_str("  paused");
        }
        if let Some(error) = &self.error {
            title.push_str(&format!("  NO ANSWER: {error}"));
        }
        title
    }

    /// The head with a mark at the column by which rows are sorted.
    fn marked(&self, mut head: Vec<String>) -> Vec<String> {
        let at = SORTS.iter().position(|sort| *sort == self.sort).unwrap_or_default();
        if let Some(name) = head.get_mut(at) {
            name.push(if self.reverse == (self.sort == Sort::Name) { 'v' } else { '^' });
        }
        head
    }

    fn foot(&self) -> String {
        if self.typing {
            format!("filter: {}_  (Enter keeps it, Esc clears it)", self.filter)
        } else {
            "q quit  s services  e endpoints  p plugins  < > sort  r reverse  / filter  space pause".to_owned()
        }
    }
}

/// The lines of a table. The first column gives way where the terminal is narrow.
fn columns(table: &[Vec<String>], width: usize) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in table {
        widths.resize(widths.len().max(row.len()), 0);
        row.iter().zip(widths.iter_mut()).for_each(|(cell, width)| *width = (*width).max(cell.chars().count()));
    }
    let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
    if let Some(first) = widths.first_mut() {
        *first = (*first).min(width.saturating_sub(others).max(12));
    }
    let cell = |(i, (cell, width)): (usize, (&String, &usize))| {
        let cell: String = cell.chars().take(*width).collect();
        if i == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
    };
    table.iter().map(|row| row.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>().join("  ")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::rates::Rate;
    use super::*;

    fn view() -> View {
        View {
            kind: Kind::Services,
            sort: Sort::Rate,
            reverse: false,
            filter: String::new(),
            typing: false,
            paused: false,
            above: 0,
            at: "127.0.0.1:9901".to_owned(),
            error: None,
        }
    }

    fn press(view: &mut View, keys: &str) -> Vec<Asked> {
        keys.chars().map(|c| view.press(Key::Char(c), 10)).collect()
    }

    #[test]
    fn keys_sort_filter_and_quit() {
        let mut view = view();
        assert_eq!(press(&mut view, ">r"), [Asked::Nothing, Asked::Nothing]);
        assert!(view.sort == Sort::Errors && view.reverse);
        assert_eq!(press(&mut view, "<<<"), [Asked::Nothing, Asked::Nothing, Asked::Nothing]);
        assert!(view.sort == Sort::Bytes, "it goes round");
        assert_eq!(press(&mut view, "se"), [Asked::Nothing, Asked::Kind]);
        press(&mut view, "/quit\n");
        assert!(view.filter == "quit" && !view.typing);
        assert_eq!(press(&mut view, "q"), [Asked::Quit]);
        press(&mut view, "/");
        assert_eq!(view.press(Key::Ctrl('c'), 10), Asked::Quit);
    }

    #[test]
    fn lines_fit_into_any_terminal() {
        let row = |i: usize| Rate { name: format!("default/a-service-with-a-long-name-{i}:80"), rate: 1.0, ..Rate::default() };
        let mut rates = Rates { all: (0..100).map(row).collect(), shown: Vec::new() };
        rates.select("", Sort::Rate, false);
        for size in [(80, 24), (20, 5), (1, 1), (200, 3), (40, 2)] {
            let mut view = view();
            view.above = usize::MAX;
            let lines = view.lines(Some(&rates), size);
            assert_eq!(lines.len(), size.1, "{size:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= size.0), "{size:?}");
        }
        let lines = view().lines(Some(&rates), (80, 24));
        assert!(lines[1].starts_with("SERVICE ") && lines[1].contains("RATE/Sv"), "{lines:#?}");
        assert!(lines[2].starts_with("default/a-service-with") && lines[23].starts_with("q quit"), "{lines:#?}");
    }
}
