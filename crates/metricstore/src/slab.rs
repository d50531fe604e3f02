//! Memory of open tails: cells of 4 to 128 samples in pages, so that a million short series cost
//! neither a million allocations nor the copying of one huge vector.

/// Smallest cell, as a power of two.
const MIN_LOG2: u32 = 2;
/// Largest cell, as a power of two. A tail of that length is sealed.
const MAX_LOG2: u32 = 7;
/// Number of cell sizes.
const CLASSES: usize = (MAX_LOG2 - MIN_LOG2 + 1) as usize;
/// Samples in a page, as a power of two: 48 KiB.
const PAGE_LOG2: u32 = 12;

/// Samples in the largest cell.
pub(crate) const MAX_CELL_LEN: usize = 1 << MAX_LOG2;

/// The size of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    pub(crate) const SMALLEST: Class = Class(0);

    /// Samples a cell of this size holds.
    #[inline]
    pub(crate) fn capacity(self) -> usize {
        1 << (MIN_LOG2 + u32::from(self.0))
    }

    /// The next size, if there is one.
    pub(crate) fn larger(self) -> Option<Class> {
        (self.capacity() < MAX_CELL_LEN).then_some(Class(self.0 + 1))
    }
}

/// Cells of all sizes. A cell is named by its size and a number.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    classes: [Slab; CLASSES],
}

#[derive(Debug, Default)]
struct Slab {
    pages: Vec<Page>,
    free: Vec<u32>,
    /// Cells ever used; the rest of the last page is untouched.
    used: u32,
}

/// Timestamps are kept as distances from the series' base: 4 bytes instead of 8.
#[derive(Debug)]
struct Page {
    offsets_ms: Box<[i32]>,
    values: Box<[f64]>,
}

impl Slabs {
    /// A cell with unspecified content.
    pub(crate) fn allocate(&mut self, class: Class) -> u32 {
        let slab = &mut self.classes[class.0 as usize];
        if let Some(cell) = slab.free.pop() {
            return cell;
        }
        let cell = slab.used;
        slab.used += 1;
        let (page, _) = place(class, cell);
        if page == slab.pages.len() {
            slab.pages.push(Page {
                offsets_ms: vec![0; 1 << PAGE_LOG2].into_boxed_slice(),
                values: vec![0.0; 1 << PAGE_LOG2].into_boxed_slice(),
            });
        }
        cell
    }

    /// Gives a cell back.
    pub(crate) fn free(&mut self, class: Class, cell: u32) {
        self.classes[class.0 as usize].free.push(cell);
    }

    /// Moves the samples of a full cell to one of the next size and gives it back.
    pub(crate) fn grow(&mut self, class: Class, cell: u32, larger: Class) -> u32 {
        let grown = self.allocate(larger);
        let (small, rest) = self.classes.split_at_mut(larger.0 as usize);
        let len = class.capacity();
        let (from_page, from) = place(class, cell);
        let (to_page, to) = place(larger, grown);
        let source = &small[class.0 as usize].pages[from_page];
        let target = &mut rest[0].pages[to_page];
        target.offsets_ms[to..to + len].copy_from_slice(&source.offsets_ms[from..from + len]);
        target.values[to..to + len].copy_from_slice(&source.values[from..from + len]);
        self.free(class, cell);
        grown
    }

    /// Writes one sample of a cell.
    #[inline]
    pub(crate) fn set(
        &mut self,
        class: Class,
        cell: u32,
        index: usize,
        offset_ms: i32,
        value: f64,
    ) {
        let (page, start) = place(class, cell);
        let page = &mut self.classes[class.0 as usize].pages[page];
        page.offsets_ms[start + index] = offset_ms;
        page.values[start + index] = value;
    }

    /// The first `len` samples of a cell.
    #[inline]
    pub(crate) fn get(&self, class: Class, cell: u32, len: usize) -> (&[i32], &[f64]) {
        let (page, start) = place(class, cell);
        let page = &self.classes[class.0 as usize].pages[page];
        (&page.offsets_ms[start..start + len], &page.values[start..start + len])
    }

    /// Bytes held, used or not.
    pub(crate) fn bytes(&self) -> usize {
        let page_bytes = (1 << PAGE_LOG2) * (size_of::<i32>() + size_of::<f64>());
        self.classes
            .iter()
            .map(|slab| {
                slab.pages.len() * page_bytes
                    + slab.pages.capacity() * size_of::<Page>()
                    + slab.free.capacity() * size_of::<u32>()
            })
            .sum()
    }
}

/// Page of a cell and its first sample there.
#[inline]
fn place(class: Class, cell: u32) -> (usize, usize) {
    let cell_log2 = MIN_LOG2 + u32::from(class.0);
    let cells_per_page_log2 = PAGE_LOG2 - cell_log2;
    let page = cell >> cells_per_page_log2;
    let start = (cell & ((1 << cells_per_page_log2) - 1)) << cell_log2;
    (page as usize, start as usize)
}
