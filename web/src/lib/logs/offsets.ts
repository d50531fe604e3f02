/** Where the rows of a list lie, of which most are equally high. */

export interface Exception {
  at: number;
  height: number;
}

export class RowOffsets {
  #places: number[] = [];
  /** What the exceptions up to and with each have more than the others. */
  #sums: number[] = [];

  /** `exceptions` come in any order, each row once. */
  constructor(
    readonly count: number,
    readonly rowHeight: number,
    exceptions: readonly Exception[] = [],
  ) {
    let sum = 0;
    for (const { at, height } of [...exceptions].sort((a, b) => a.at - b.at)) {
      if (at < 0 || at >= count) continue;
      sum += height - rowHeight;
      this.#places.push(at);
      this.#sums.push(sum);
    }
  }

  get total(): number {
    return this.top(this.count);
  }

  /** Where a row begins, in pixels from the first. */
  top(row: number): number {
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#places[middle] as number) < row) low = middle + 1;
      else high = middle;
    }
    return row * this.rowHeight + (low === 0 ? 0 : (this.#sums[low - 1] as number));
  }

  /** The row at a place; the last one beyond the end, 0 if there is none. */
  at(y: number): number {
    let low = 0;
    let high = Math.max(0, this.count - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.top(middle) <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
