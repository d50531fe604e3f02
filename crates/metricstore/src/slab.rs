//! Memory of open tails: cells of 4 to 1,024 bytes in pages, so that a million short series cost
//! neither a million allocations nor the copying of one huge vector.

/// Sizes of cells in bytes. Each divides the length of a page, and none is more than twice the one
/// before.
const SIZES: [u16; CLASSES] =
    [4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024];
/// Number of cell sizes.
const CLASSES: usize = 16;
/// Bytes of a page.
const PAGE_BYTES: usize = 12 * 1_024;

/// Ends a list of free cells.
const NONE: u16 = u16::MAX;

/// The size of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    pub(crate) const SMALLEST: Class = Class(0);

    /// The smallest that has room for so many bytes, at most 1,024.
    pub(crate) fn for_bytes(bytes: usize) -> Class {
        let place = SIZES.partition_point(|&size| usize::from(size) < bytes);
        debug_assert!(place < CLASSES, "no cell has {bytes} bytes");
        Class(place as u8)
    }

    /// Bytes a cell of this size holds.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        SIZES[self.0 as usize].into()
    }

    /// Bits of a cell's number that tell its place in the page.
    #[inline]
    fn place_bits(self) -> u32 {
        const BITS: [u8; CLASSES] = {
            let mut bits = [0; CLASSES];
            let mut class = 0;
            while class < CLASSES {
                let cells = PAGE_BYTES / SIZES[class] as usize;
                bits[class] = cells.next_power_of_two().trailing_zeros() as u8;
                class += 1;
            }
            bits
        };
        BITS[self.0 as usize].into()
    }

    fn cells_per_page(self) -> u16 {
        (PAGE_BYTES / self.bytes()) as u16
    }

    fn split(self, cell: u32) -> (usize, u16) {
        let bits = self.place_bits();
        ((cell >> bits) as usize, (cell & ((1 << bits) - 1)) as u16)
    }

    fn join(self, page: usize, place: u16) -> u32 {
        let bits = self.place_bits();
        let fits = u32::try_from(page).ok().filter(|page| page >> (32 - bits) == 0);
        fits.expect("12 GiB of tails of one kind do not fit in memory") << bits | u32::from(place)
    }
}

/// Cells of all sizes. A cell is named by its size and a number.
///
/// Series that are scraped together grow together, and leave whole pages of smaller cells behind.
/// All pages have one length, so such a page is used again for cells of any size.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    classes: [Slab; CLASSES],
    spare: Vec<Box<[u8]>>,
    /// Pages with memory, and those to spare.
    pages: usize,
}

/// The cells of one size.
#[derive(Debug, Default)]
struct Slab {
    pages: Vec<Page>,
    /// Pages to take cells from, the last one first. Each is here at most once; some may turn out
    /// to have given their memory away.
    open: Vec<u32>,
    /// Pages that gave their memory away, but for those in `open`.
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Page {
    /// Empty if the page is vacant. The first two bytes of a free cell name the next one.
    bytes: Box<[u8]>,
    /// The first free cell that was used before.
    free: u16,
    /// Cells from here on were never used.
    fresh: u16,
    used: u16,
    is_open: bool,
}

impl Page {
    fn new(bytes: Box<[u8]>) -> Self {
        Page { bytes, free: NONE, fresh: 0, used: 0, is_open: true }
    }

    /// Takes a free cell.
    fn take(&mut self, class: Class) -> Option<u16> {
        let cells = if self.bytes.is_empty() { 0 } else { class.cells_per_page() };
        let cell = if self.free != NONE {
            let cell = self.free;
            let start = usize::from(cell) * class.bytes();
            self.free = u16::from_le_bytes([self.bytes[start], self.bytes[start + 1]]);
            cell
        } else if self.fresh < cells {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return None;
        };
        self.used += 1;
        Some(cell)
    }
}

impl Slabs {
    /// A cell with unspecified content.
    pub(crate) fn allocate(&mut self, class: Class) -> u32 {
        let slab = &mut self.classes[class.0 as usize];
        while let Some(&page) = slab.open.last() {
            let source = &mut slab.pages[page as usize];
            if let Some(cell) = source.take(class) {
                return class.join(page as usize, cell);
            }
            source.is_open = false;
            if source.bytes.is_empty() {
                slab.vacant.push(page);
            }
            slab.open.pop();
        }
        let bytes = self.spare.pop().unwrap_or_else(|| {
            self.pages += 1;
            vec![0; PAGE_BYTES].into_boxed_slice()
        });
        let mut fresh = Page::new(bytes);
        let cell = fresh.take(class).expect("a fresh page has free cells");
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
        class.join(page as usize, cell)
    }

    /// Gives a cell back.
    pub(crate) fn free(&mut self, class: Class, cell: u32) {
        let (number, cell) = class.split(cell);
        let slab = &mut self.classes[class.0 as usize];
        let page = &mut slab.pages[number];
        page.used -= 1;
        if page.used == 0 {
            self.spare.push(std::mem::take(&mut page.bytes));
            page.free = NONE;
            if !page.is_open {
                slab.vacant.push(number as u32);
            }
            return;
        }
        let start = usize::from(cell) * class.bytes();
        page.bytes[start..start + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = cell;
        if !page.is_open {
            page.is_open = true;
            slab.open.push(number as u32);
        }
    }

    /// Moves the first `len` bytes of a cell to a larger one and gives it back.
    pub(crate) fn grow(&mut self, class: Class, cell: u32, len: usize, larger: Class) -> u32 {
        let grown = self.allocate(larger);
        let (small, rest) = self.classes.split_at_mut(larger.0 as usize);
        let ((from_page, from), (to_page, to)) = (class.split(cell), larger.split(grown));
        let from = usize::from(from) * class.bytes();
        let to = usize::from(to) * larger.bytes();
        rest[0].pages[to_page].bytes[to..to + len]
            .copy_from_slice(&small[class.0 as usize].pages[from_page].bytes[from..from + len]);
        self.free(class, cell);
        grown
    }

    /// The bytes of a cell.
    #[inline]
    pub(crate) fn get(&self, class: Class, cell: u32) -> &[u8] {
        let (page, place) = class.split(cell);
        let start = usize::from(place) * class.bytes();
        &self.classes[class.0 as usize].pages[page].bytes[start..start + class.bytes()]
    }

    /// The bytes of a cell.
    #[inline]
    pub(crate) fn get_mut(&mut self, class: Class, cell: u32) -> &mut [u8] {
        let (page, place) = class.split(cell);
        let start = usize::from(place) * class.bytes();
        &mut self.classes[class.0 as usize].pages[page].bytes[start..start + class.bytes()]
    }

    /// Bytes held, used or not.
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.classes.iter().map(|slab| {
            slab.pages.capacity() * size_of::<Page>()
                + (slab.open.capacity() + slab.vacant.capacity()) * size_of::<u32>()
        });
        self.pages * PAGE_BYTES
            + self.spare.capacity() * size_of::<Box<[u8]>>()
            + lists.sum::<usize>()
    }
}
