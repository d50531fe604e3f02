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

    fn cells_per_page(self) -> u32 {
        1 << (PAGE_LOG2 - MIN_LOG2 - u32::from(self.0))
    }

    /// The next size, if there is one.
    pub(crate) fn larger(self) -> Option<Class> {
        (self.capacity() < MAX_CELL_LEN).then_some(Class(self.0 + 1))
    }
}

/// Cells of all sizes. A cell is named by its size and a number.
///
/// Series that are scraped together grow together, and leave whole pages of smaller cells behind.
/// All pages have one length, so such a page is used again for cells of any size.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    classes: [Slab; CLASSES],
    spare: Vec<Samples>,
}

/// The cells of one size.
#[derive(Debug, Default)]
struct Slab {
    pages: Vec<Page>,
    /// Pages to take cells from, the last one first. Each is here at most once; some may turn out
    /// to be vacant.
    open: Vec<u32>,
    /// Pages whose samples were given away.
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Page {
    /// Empty if the page is vacant.
    samples: Samples,
    /// One bit per cell that is free.
    free: [u64; FREE_WORDS],
    used: u32,
    is_open: bool,
}

/// Timestamps are kept as distances from the series' base: 4 bytes instead of 8.
#[derive(Debug)]
struct Samples {
    offsets_ms: Box<[i32]>,
    values: Box<[f64]>,
}

/// Words for one bit per smallest cell of a page.
const FREE_WORDS: usize = 1 << (PAGE_LOG2 - MIN_LOG2 - 6);

impl Samples {
    /// Those of a vacant page.
    fn none() -> Self {
        Samples { offsets_ms: Box::default(), values: Box::default() }
    }

    fn new() -> Self {
        Samples {
            offsets_ms: vec![0; 1 << PAGE_LOG2].into_boxed_slice(),
            values: vec![0.0; 1 << PAGE_LOG2].into_boxed_slice(),
        }
    }
}

impl Page {
    fn new(samples: Samples, cells: u32) -> Self {
        let mut free = [0; FREE_WORDS];
        free[..cells as usize / 64].fill(u64::MAX);
        if !cells.is_multiple_of(64) {
            free[cells as usize / 64] = (1 << (cells % 64)) - 1;
        }
        Page { samples, free, used: 0, is_open: true }
    }

    /// Takes the first free cell.
    fn take(&mut self) -> Option<u32> {
        let word = self.free.iter().position(|bits| *bits != 0)?;
        let bit = self.free[word].trailing_zeros();
        self.free[word] &= self.free[word] - 1;
        self.used += 1;
        Some(word as u32 * 64 + bit)
    }
}

impl Slabs {
    /// A cell with unspecified content.
    pub(crate) fn allocate(&mut self, class: Class) -> u32 {
        let cells = class.cells_per_page();
        let slab = &mut self.classes[class.0 as usize];
        while let Some(&page) = slab.open.last() {
            let source = &mut slab.pages[page as usize];
            if let Some(cell) = source.take() {
                return page * cells + cell;
            }
            source.is_open = false;
            slab.open.pop();
        }
        let samples = self.spare.pop().unwrap_or_else(Samples::new);
        let mut fresh = Page::new(samples, cells);
        let cell = fresh.take().expect("a fresh page has free cells");
        let page = match slab.vacant.pop() {
            Some(page) => {
                slab.pages[page as usize] = fresh;
                page
            }
            None => {
                slab.pages.push(fresh);
                slab.pages.len() as u32 - 1
            }
        };
        slab.open.push(page);
        page * cells + cell
    }

    /// Gives a cell back.
    pub(crate) fn free(&mut self, class: Class, cell: u32) {
        let cells = class.cells_per_page();
        let (number, cell) = (cell / cells, cell % cells);
        let slab = &mut self.classes[class.0 as usize];
        let page = &mut slab.pages[number as usize];
        if !page.is_open {
            page.is_open = true;
            slab.open.push(number);
        }
        page.used -= 1;
        page.free[cell as usize / 64] |= 1 << (cell % 64);
        if page.used == 0 {
            // No cell is taken from it any more: its entry in `open` finds nothing free.
            page.free = [0; FREE_WORDS];
            self.spare.push(std::mem::replace(&mut page.samples, Samples::none()));
            slab.vacant.push(number);
        }
    }

    /// Moves the samples of a full cell to one of the next size and gives it back.
    pub(crate) fn grow(&mut self, class: Class, cell: u32, larger: Class) -> u32 {
        let grown = self.allocate(larger);
        let (small, rest) = self.classes.split_at_mut(larger.0 as usize);
        let len = class.capacity();
        let (from_page, from) = place(class, cell);
        let (to_page, to) = place(larger, grown);
        let source = &small[class.0 as usize].pages[from_page].samples;
        let target = &mut rest[0].pages[to_page].samples;
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
        let page = &mut self.classes[class.0 as usize].pages[page].samples;
        page.offsets_ms[start + index] = offset_ms;
        page.values[start + index] = value;
    }

    /// The first `len` samples of a cell.
    #[inline]
    pub(crate) fn get(&self, class: Class, cell: u32, len: usize) -> (&[i32], &[f64]) {
        let (page, start) = place(class, cell);
        let page = &self.classes[class.0 as usize].pages[page].samples;
        (&page.offsets_ms[start..start + len], &page.values[start..start + len])
    }

    /// Bytes held, used or not.
    pub(crate) fn bytes(&self) -> usize {
        let slabs = self.classes.iter();
        let pages: usize = slabs.clone().map(|slab| slab.pages.len() - slab.vacant.len()).sum();
        let lists: usize = slabs
            .map(|slab| {
                slab.pages.capacity() * size_of::<Page>()
                    + (slab.open.capacity() + slab.vacant.capacity()) * size_of::<u32>()
            })
            .sum();
        let page_bytes = (1 << PAGE_LOG2) * (size_of::<i32>() + size_of::<f64>());
        (pages + self.spare.len()) * page_bytes + lists
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
