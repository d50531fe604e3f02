//! `topk` and `bottomk`.
//!
//! Series are passed once; each step of each group keeps its best values so far. Which elements
//! win is defined by a total order (value, then series), so it does not matter in what order or
//! on which thread they arrive.

use std::cmp::Ordering;

use super::super::context::Context;
use super::super::grouping::{Keys, LabelChoice};
use super::super::histogram_rows::HistogramRows;
use super::super::rows::{ABSENT, Rows, is_absent};
use super::super::stream::Stream;
use crate::engine::EvalError;
use crate::profile::Strategy;

/// An element in the running: its value and its series.
type Candidate = (f64, u32);

/// The `k[step]` largest or smallest elements of each group; one entry of `k` stands for all
/// steps. In instant queries the result is in the order of rank, group by group. Also tells whether
/// there were histograms, which have no rank.
pub(super) fn evaluate(
    context: &Context<'_>,
    input: Stream,
    choice: &LabelChoice,
    k: &[usize],
    largest: bool,
) -> Result<(Rows, bool), EvalError> {
    let steps = input.steps();
    let contest = Contest { k, steps, largest };
    let groups = groups_of(&input, choice);
    let mut winners: Vec<Board> = groups.sizes.iter().map(|size| contest.board(*size)).collect();
    let held: usize = winners.iter().map(|board| board.candidates.len()).sum();
    let _held = context.reserve(held)?;
    let wave_len = context.wave();
    let mut any_histogram = false;
    for start in (0..input.len()).step_by(wave_len) {
        let wave = start..(start + wave_len).min(input.len());
        let pieces = context.pieces(wave, |piece, scratch| {
            let mut boards: Vec<(u32, Board)> = Vec::new();
            let mut room = context.reserve(0)?;
            let (mut held, mut has_histogram) = (0, false);
            let mut floats = Vec::new();
            for index in piece.clone() {
                let Some(row) = input.row(context, index, scratch)? else { continue };
                let group = groups.of[index];
                let at = match boards.iter().position(|(known, _)| *known == group) {
                    Some(at) => at,
                    None => {
                        let size = groups.sizes[group as usize].min(piece.len());
                        boards.push((group, contest.board(size)));
                        held += boards[boards.len() - 1].1.candidates.len();
                        room.resize(held)?;
                        boards.len() - 1
                    }
                };
                let (row, skipped) = row.floats(&mut floats);
                has_histogram |= skipped;
                contest.enter_row(&mut boards[at].1, row, index as u32);
            }
            Ok((boards, room, has_histogram))
        })?;
        any_histogram |= pieces.iter().any(|(_, _, has_histogram)| *has_histogram);
        for (group, board) in pieces.iter().flat_map(|(boards, _, _)| boards) {
            for step in 0..steps {
                for &candidate in board.at(step) {
                    contest.enter(&mut winners[*group as usize], step, candidate);
                }
            }
        }
    }
    input.note_end(context, Strategy::Fused);
    let rows = award(context, &input, &contest, winners)?;
    Ok((rows, any_histogram))
}

struct Grouped {
    of: Vec<u32>,
    sizes: Vec<usize>,
}

fn groups_of(input: &Stream, choice: &LabelChoice) -> Grouped {
    let mut keys = Keys::default();
    let mut grouped = Grouped { of: Vec::with_capacity(input.len()), sizes: Vec::new() };
    for index in 0..input.len() {
        let number =
            if choice.is_nothing() { 0 } else { keys.number(choice, input.labels(index)).0 };
        if number == grouped.sizes.len() {
            grouped.sizes.push(0);
        }
        grouped.sizes[number] += 1;
        grouped.of.push(number as u32);
    }
    grouped
}

/// The best candidates of every step, each step's a heap with the worst on top.
struct Board {
    width: usize,
    candidates: Vec<Candidate>,
    filled: Vec<u32>,
    /// The value to beat; NaN, which no comparison rejects, while places are free.
    worst: Vec<f64>,
}

impl Board {
    fn at(&self, step: usize) -> &[Candidate] {
        &self.candidates[step * self.width..][..self.filled[step] as usize]
    }
}

struct Contest<'k> {
    k: &'k [usize],
    steps: usize,
    largest: bool,
}

impl Contest<'_> {
    /// A board for a group of `size` series.
    fn board(&self, size: usize) -> Board {
        let width = size.min(self.k.iter().copied().max().unwrap_or(0));
        Board {
            width,
            candidates: vec![(ABSENT, 0); width * self.steps],
            filled: vec![0; self.steps],
            worst: vec![f64::NAN; self.steps],
        }
    }

    /// Enters the values of a series at all steps.
    fn enter_row(&self, board: &mut Board, row: &[f64], series: u32) {
        for (step, &value) in row.iter().enumerate() {
            // Most candidates lose against the worst of the winners, whatever their series.
            let worst = board.worst[step];
            let loses = if self.largest { value < worst } else { value > worst };
            if !loses && !is_absent(value) {
                self.enter(board, step, (value, series));
            }
        }
    }

    fn places(&self, step: usize, width: usize) -> usize {
        let k = if self.k.len() == 1 { self.k[0] } else { self.k[step] };
        k.min(width)
    }

    /// `Less` if `a` ranks before `b`. NaN comes last, and of equals the first series wins.
    fn rank(&self, a: &Candidate, b: &Candidate) -> Ordering {
        let by_value = match a.0.partial_cmp(&b.0) {
            Some(order) if self.largest => order.reverse(),
            Some(order) => order,
            None => a.0.is_nan().cmp(&b.0.is_nan()),
        };
        by_value.then(a.1.cmp(&b.1))
    }

    fn enter(&self, board: &mut Board, step: usize, candidate: Candidate) {
        let places = self.places(step, board.width);
        let filled = board.filled[step] as usize;
        let heap = &mut board.candidates[step * board.width..][..places];
        if filled < places {
            heap[filled] = candidate;
            board.filled[step] += 1;
            self.sift_up(heap, filled);
        } else if places > 0 && self.rank(&candidate, &heap[0]) == Ordering::Less {
            heap[0] = candidate;
            self.sift_down(heap);
        } else {
            return;
        }
        if board.filled[step] as usize == places {
            board.worst[step] = heap[0].0;
        }
    }

    fn sift_up(&self, heap: &mut [Candidate], mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.rank(&heap[at], &heap[parent]) != Ordering::Greater {
                return;
            }
            heap.swap(at, parent);
            at = parent;
        }
    }

    fn sift_down(&self, heap: &mut [Candidate]) {
        let mut at = 0;
        loop {
            let mut worst = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < heap.len() && self.rank(&heap[child], &heap[worst]) == Ordering::Greater
                {
                    worst = child;
                }
            }
            if worst == at {
                return;
            }
            heap.swap(at, worst);
            at = worst;
        }
    }
}

/// Rows of all series that won at some step.
fn award(
    context: &Context<'_>,
    input: &Stream,
    contest: &Contest<'_>,
    winners: Vec<Board>,
) -> Result<Rows, EvalError> {
    const NONE: u32 = u32::MAX;
    let mut row_of = vec![NONE; input.len()];
    let mut order: Vec<u32> = Vec::new();
    let mut boards = winners;
    for board in &mut boards {
        for step in 0..contest.steps {
            let filled = board.filled[step] as usize;
            let heap = &mut board.candidates[step * board.width..][..filled];
            heap.sort_unstable_by(|a, b| contest.rank(a, b));
            for &(_, series) in heap.iter() {
                if row_of[series as usize] == NONE {
                    row_of[series as usize] = order.len() as u32;
                    order.push(series);
                }
            }
        }
    }
    let steps = contest.steps;
    let reservation = context.reserve_rows(order.len(), steps)?;
    let mut values = vec![ABSENT; order.len() * steps];
    for board in &boards {
        for step in 0..steps {
            for &(value, series) in board.at(step) {
                values[row_of[series as usize] as usize * steps + step] = value;
            }
        }
    }
    let series = || order.iter().map(|series| *series as usize);
    Ok(Rows {
        steps,
        labels: series().map(|index| input.labels(index).clone()).collect(),
        drop_name: series().map(|index| input.drops_name(index)).collect(),
        values,
        histograms: HistogramRows::default(),
        reservation,
    })
}
